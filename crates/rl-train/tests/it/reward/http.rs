//! Web services as rewards, on a server of our own that misbehaves on request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rl_train::reward::{
    CustomRewards, ExternalScores, HttpConfig, RetryConfig, RewardConfig, Score, Scorer, SourceKind,
};
use serde_json::Value;

use super::{SLACK, config, invalid, source, told};

const DEADLINE: f64 = 2.0;

/// Requests seen per sample.
type Seen = Arc<Mutex<BTreeMap<u64, usize>>>;

/// Starts the server and gives its address; it lives as long as the test binary.
fn serve() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/score", listener.local_addr().unwrap());
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, seen) = (stream.unwrap(), Arc::clone(&shared));
            thread::spawn(move || while answer(&stream, &seen).is_some() {});
        }
    });
    (address, seen)
}

/// Answers one request; `None` when the connection is of no use any more.
fn answer(stream: &TcpStream, seen: &Seen) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let ask: Value = serde_json::from_slice(&body).unwrap();
    let sample = ask["sample"].as_u64().unwrap();
    let times = {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(sample).or_default();
        *times += 1;
        *times
    };
    let right = format!("{{\"score\": {}}}", ask["response"].as_str().unwrap().len());
    let mut stream = stream;
    let mut reply = |status: &str, more: &str, body: &str| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}").ok()
    };
    match ask["metadata"]["do"].as_str().unwrap() {
        "fine" => reply("200 OK", "", &right),
        "500 once" if times == 1 => reply("500 Internal Server Error", "", "oops"),
        "429 once" if times == 1 => reply("429 Too Many Requests", "Retry-After: 0\r\n", "slower"),
        "close once" if times == 1 => None,
        "500 once" | "429 once" | "close once" => reply("200 OK", "", &right),
        "500" => reply("500 Internal Server Error", "", "oops"),
        "come back tomorrow" => reply("503 Service Unavailable", "Retry-After: 86400\r\n", "closed"),
        "404" => reply("404 Not Found", "", "no such page"),
        "garbage" => reply("200 OK", "", "<html>quite good</html>"),
        "nan" => reply("200 OK", "", "{\"score\": NaN}"),
        "error" => reply("200 OK", "", "{\"error\": \"cannot judge\"}"),
        "huge" => reply("200 OK", "", &"x".repeat(3 << 20)),
        "moved" => reply("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
        "close" => None,
        "short" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{right}").ok();
            None
        }
        "hang" => {
            let _ = reader.read(&mut [0]); // until the client goes away
            None
        }
        "drip" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").ok()?;
            loop {
                stream.write_all(b" ").ok()?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        "drip head" => {
            write!(stream, "HTTP/1.1 200 OK\r\n").ok()?;
            loop {
                write!(stream, "X-More: 1\r\n").ok()?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        other => panic!("{other}"),
    }
}

fn service(workers: usize, url: &str) -> RewardConfig {
    let kind = SourceKind::Http(HttpConfig { url: url.to_string(), timeout_seconds: None, token_variable: None });
    config(workers, DEADLINE, vec![source("service", kind)])
}

#[test]
fn a_step_ends_within_its_deadline_whatever_a_service_does() {
    let (url, seen) = serve();
    let what = [
        "fine",
        "500",
        "404",
        "garbage",
        "nan",
        "error",
        "huge",
        "moved",
        "close",
        "short",
        "hang",
        "drip",
        "drip head",
        "fine",
    ];
    let mut scorer = Scorer::new(&service(what.len(), &url), CustomRewards::new()).unwrap();
    let started = Instant::now();
    let batch = scorer.score(&told(&what), &ExternalScores::new()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < DEADLINE + SLACK, "{seconds} s");
    let counts = &batch.sources[0].counts;
    assert_eq!((counts.ok, counts.timed_out), (2, 3), "{:?}", batch.sources[0].scores);
    let expected = [
        ("connection", 2),
        ("failed", 1),
        ("not JSON", 1),
        ("not finite", 1),
        ("status 302", 1),
        ("status 404", 1),
        ("status 500", 1),
        ("too long", 1),
    ];
    assert_eq!(invalid(&batch, 0), expected, "{:?}", batch.sources[0].scores);
    assert_eq!((counts.retries, batch.num_abandoned), (0, 0));
    assert!(seen.lock().unwrap().values().all(|&times| times == 1));
    let batch = scorer.score(&told(&["fine"; 200]), &ExternalScores::new()).unwrap();
    assert_eq!(batch.sources[0].counts.ok, 200, "{:?}", batch.sources[0].scores);
}

#[test]
fn what_may_pass_is_tried_again_and_the_rest_is_not() {
    let (url, seen) = serve();
    let mut config = service(8, &url);
    config.sources[0].retry = RetryConfig { max_retries: 2, backoff_seconds: 0.01 };
    let what = ["500 once", "429 once", "close once", "500", "404", "come back tomorrow"];
    let batch =
        Scorer::new(&config, CustomRewards::new()).unwrap().score(&told(&what), &ExternalScores::new()).unwrap();
    assert_eq!(batch.totals, [Some(0.0), Some(1.0), Some(2.0), None, None, None], "{:?}", batch.sources[0].scores);
    assert_eq!(invalid(&batch, 0), [("status 404", 1), ("status 500", 1), ("status 503", 1)]);
    assert_eq!(*seen.lock().unwrap(), BTreeMap::from([(0, 2), (1, 2), (2, 2), (3, 3), (4, 1), (5, 1)]));
    assert_eq!(batch.sources[0].counts.retries, 1 + 1 + 1 + 2);
}

#[test]
fn an_attempt_that_hangs_leaves_time_for_another() {
    let (url, seen) = serve();
    let mut config = service(1, &url);
    let SourceKind::Http(http) = &mut config.sources[0].source else { unreachable!() };
    http.timeout_seconds = Some(0.3);
    config.sources[0].retry = RetryConfig { max_retries: 1, backoff_seconds: 0.0 };
    let batch =
        Scorer::new(&config, CustomRewards::new()).unwrap().score(&told(&["hang"]), &ExternalScores::new()).unwrap();
    assert!(matches!(&batch.sources[0].scores[0], Score::Invalid(reason) if reason.starts_with("connection: timeout")));
    assert_eq!(seen.lock().unwrap()[&0], 2);
}

#[test]
fn nobody_at_the_address_is_a_counted_failure() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port(); // free again at once
    let config = service(2, &format!("http://127.0.0.1:{port}/"));
    let batch =
        Scorer::new(&config, CustomRewards::new()).unwrap().score(&told(&["a", "b"]), &ExternalScores::new()).unwrap();
    assert_eq!(invalid(&batch, 0), [("connection", 2)]);
}
