//! The MLflow sender against a small server of our own: what arrives, and that nothing holds up the run.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rl_track::mlflow::{MlflowConfig, Sender, Status};
use rl_track::{Manifest, MetricsRow};
use serde_json::{Value, json};
use toml::Table;

/// A call and what came with it.
type Call = (String, Value);

/// Answers as MLflow's documentation says, after `failures` answers with status 500; a `silent` one never answers.
struct Server {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    fn start(failures: usize, is_silent: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let shared = calls.clone();
        let failures = Arc::new(Mutex::new(failures));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, failures) = (shared.clone(), failures.clone());
                thread::spawn(move || serve(stream.unwrap(), &shared, &failures, is_silent));
            }
        });
        Self { address, calls }
    }

    fn bodies(&self, call: &str) -> Vec<Value> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(name, _)| name == call).map(|(_, body)| body.clone()).collect()
    }

    fn config(&self) -> MlflowConfig {
        MlflowConfig {
            uri: self.address.clone(),
            experiment: "a name with spaces".into(),
            run_name: "first".into(),
            queue: 100,
            timeout_seconds: 5.0,
            token_variable: None,
        }
    }
}

fn serve(stream: TcpStream, calls: &Mutex<Vec<Call>>, failures: &Mutex<usize>, is_silent: bool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        if is_silent {
            thread::sleep(Duration::from_secs(60));
            return;
        }
        let path = first.split(' ').nth(1).unwrap().trim_start_matches("/api/2.0/mlflow/").to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut failures = failures.lock().unwrap();
        let (status, answer) = match path.split('?').next().unwrap() {
            _ if *failures > 0 => {
                *failures -= 1;
                ("500 Internal Server Error", json!({"error_code": "INTERNAL_ERROR"}))
            }
            "experiments/get-by-name" => ("404 Not Found", json!({"error_code": "RESOURCE_DOES_NOT_EXIST"})),
            "experiments/create" => ("200 OK", json!({"experiment_id": "17"})),
            "runs/create" => ("200 OK", json!({"run": {"info": {"run_id": "abc"}}})),
            _ => ("200 OK", json!({})),
        };
        if status == "200 OK" || path.starts_with("experiments/get") {
            calls.lock().unwrap().push((path, body));
        }
        let answer = answer.to_string();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).unwrap();
    }
}

fn row(step: u64) -> MetricsRow {
    MetricsRow::new(step, "train")
        .with("loss", 1.0 / step as f64)
        .with("bad(name)", f64::NAN)
        .with_timing("seconds", 0.5)
}

#[test]
fn every_row_arrives_with_parameters_tags_and_an_end() {
    let server = Server::start(0, false);
    let params: Table = (0..230).map(|index| (format!("key{index}"), toml::Value::from(index))).collect();
    let manifest = Manifest::new().seed("train", 3).input("data", "aa");
    let sender = Sender::start(server.config(), &params, Some(&manifest)).unwrap();
    for step in 1..=50 {
        sender.send(&row(step));
    }
    let sent = sender.finish(Status::Finished, Duration::from_secs(30));
    assert_eq!((sent.rows, sent.dropped, sent.failed, sent.is_complete, sent.error), (50, 0, 0, true, None));

    assert_eq!(server.bodies("experiments/get-by-name?experiment_name=a%20name%20with%20spaces").len(), 1);
    assert_eq!(server.bodies("experiments/create"), [json!({"name": "a name with spaces"})]);
    assert_eq!(server.bodies("runs/create")[0]["experiment_id"], "17");
    let batches = server.bodies("runs/log-batch");
    assert!(batches.iter().all(|batch| batch["run_id"] == "abc"));
    let all = |key: &str| -> Vec<Value> {
        batches.iter().filter_map(|batch| batch[key].as_array()).flatten().cloned().collect()
    };
    let largest = batches.iter().filter_map(|batch| batch["params"].as_array()).map(Vec::len).max();
    assert_eq!((all("params").len(), largest), (230, Some(100)));
    assert!(all("tags").contains(&json!({"key": "seed.train", "value": "3"})));
    let metrics = all("metrics");
    assert_eq!(metrics.len(), 150);
    assert_eq!(
        (&metrics[3]["key"], &metrics[3]["value"], &metrics[3]["step"]),
        (&json!("train/loss"), &json!(0.5), &json!(2))
    );
    assert_eq!((&metrics[1]["key"], &metrics[1]["value"]), (&json!("train/bad_name_"), &json!("NaN")));
    assert!(metrics[0]["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(server.bodies("runs/update")[0]["status"], "FINISHED");
}

#[test]
fn a_server_that_fails_for_a_moment_loses_nothing() {
    let server = Server::start(2, false);
    let sender = Sender::start(server.config(), &Table::new(), None).unwrap();
    sender.send(&row(1));
    let sent = sender.finish(Status::Killed, Duration::from_secs(30));
    assert_eq!((sent.rows, sent.failed, sent.is_complete), (1, 0, true));
    assert!(sent.error.unwrap().contains("status 500"));
    assert_eq!(server.bodies("runs/update")[0]["status"], "KILLED");
}

#[test]
fn neither_a_silent_server_nor_none_holds_up_the_run() {
    const ROWS: u64 = 1_000;
    let silent = Server::start(0, true).config();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let none = MlflowConfig { uri: format!("http://{closed}"), ..silent.clone() };
    for config in [silent, none] {
        let sender = Sender::start(config, &Table::new(), None).unwrap();
        let start = Instant::now();
        (1..=ROWS).for_each(|step| sender.send(&row(step)));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let start = Instant::now();
        let sent = sender.finish(Status::Failed, Duration::from_millis(200));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(sent.rows, 0);
        assert!(sent.dropped >= ROWS - 300 && !sent.is_complete, "{sent:?}");
    }
}

#[test]
fn a_bad_configuration_is_refused() {
    let config = Server::start(0, false).config();
    let table = [
        (MlflowConfig { uri: "https://host".into(), ..config.clone() }, "`uri`"),
        (MlflowConfig { queue: 0, ..config.clone() }, "`queue` = 0"),
        (MlflowConfig { timeout_seconds: f64::NAN, ..config.clone() }, "`timeout_seconds`"),
        (MlflowConfig { token_variable: Some("RL_TRACK_TEST_ABSENT".into()), ..config }, "RL_TRACK_TEST_ABSENT"),
    ];
    for (config, expected) in table {
        let error = Sender::start(config, &Table::new(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Sends to a real server, for `tests/golden/check_mlflow.py`, which starts one and looks at what it then has.
#[test]
fn rows_for_a_real_server() {
    let Ok(uri) = std::env::var("RL_TRACK_TEST_MLFLOW") else { return };
    let config = MlflowConfig { uri, timeout_seconds: 30.0, queue: 2_000, ..Server::start(0, false).config() };
    let params: Table = (0..230).map(|index| (format!("key{index}"), toml::Value::from(index))).collect();
    let manifest = Manifest::new().seed("train", 3);
    let sender = Sender::start(config, &params, Some(&manifest)).unwrap();
    (1..=500).for_each(|step| sender.send(&row(step)));
    let sent = sender.finish(Status::Finished, Duration::from_secs(120));
    assert_eq!((sent.rows, sent.dropped, sent.failed, sent.is_complete, sent.error), (500, 0, 0, true, None));
}
