//! Sends a run's metrics to an MLflow server while the run goes (feature `mlflow`).
//!
//! Nothing here can stop or slow a run: rows go into a queue of bounded length that a thread of its own empties, a full queue
//! drops rows, and every failure is counted and said once in the log. The record in the run's folder is complete either way;
//! [`crate::export::mlflow()`] makes a store of it afterwards. Calls: `experiments/get-by-name`, `experiments/create`,
//! `runs/create`, `runs/log-batch` and `runs/update` of MLflow's REST interface 2.0. Without `https`.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use rl_track::mlflow::{MlflowConfig, Sender, Status};
//! use rl_track::{MetricsRow, Run};
//!
//! fn train(run: &Run, to: MlflowConfig) -> rl_track::Result<()> {
//!     let sender = Sender::start(to, &rl_track::run::read_config(run.folder())?, Some(run.manifest()))?;
//!     sender.send(&MetricsRow::new(1, "train").with("loss", 0.5)); // returns at once
//!     let sent = sender.finish(Status::Finished, Duration::from_secs(10));
//!     println!("{} rows sent, {} dropped, {} failed", sent.rows, sent.dropped, sent.failed);
//!     Ok(())
//! }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use toml::Table;
use ureq::Agent;

use crate::MetricsRow;
use crate::config::{ConfigError, ensure};
use crate::export::{flat, safe_key};
use crate::manifest::Manifest;

/// Most metrics in one request, by MLflow's own limit.
const MAX_METRICS: usize = 1_000;
/// Most parameters or tags in one request, by MLflow's own limit.
const MAX_PARAMS: usize = 100;
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// Where and how to send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// The server's address, `http://HOST:PORT`.
    pub uri: String,
    /// Name of the experiment; created if the server has none of that name.
    pub experiment: String,
    /// Name of the run.
    pub run_name: String,
    /// Rows that may wait; further ones are dropped.
    pub queue: usize,
    /// Limit of one request.
    pub timeout_seconds: f64,
    /// Environment variable that holds a bearer token; none sends no authorization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_variable: Option<String>,
}

impl MlflowConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The address is not plain `http`, a name is empty, or a limit is not positive.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let host = self.uri.strip_prefix("http://").unwrap_or_default();
        ensure(!host.is_empty(), "uri", &self.uri, "must be an address that begins with http://")?;
        ensure(!self.experiment.is_empty(), "experiment", &self.experiment, "must not be empty")?;
        ensure(!self.run_name.is_empty(), "run_name", &self.run_name, "must not be empty")?;
        ensure(self.queue > 0, "queue", self.queue, "must be positive")?;
        let is_time = self.timeout_seconds.is_finite() && self.timeout_seconds > 0.0;
        ensure(is_time, "timeout_seconds", self.timeout_seconds, "must be positive")
    }
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Rows that the server took.
    pub rows: u64,
    /// Rows that found the queue full.
    pub dropped: u64,
    /// Rows that could not be sent.
    pub failed: u64,
    /// False if the time was up before the thread was done; the other numbers are those of that moment.
    pub is_complete: bool,
    /// The last failure.
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It did all its steps.
    Finished,
    /// It ended with an error.
    Failed,
    /// It was interrupted.
    Killed,
}

/// Sends rows from a thread of its own.
#[derive(Debug)]
pub struct Sender {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
    done: Receiver<Option<String>>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

enum Message {
    Row { metrics: Vec<Value> },
    End { status: Status, time: u64 },
}

impl Sender {
    /// Starts the thread; it opens the run on the server when the first row comes. `config` gives the parameters, `manifest`
    /// the tags.
    ///
    /// # Errors
    /// The configuration is refused, its token is not in the environment, or the thread cannot be started.
    pub fn start(to: MlflowConfig, config: &Table, manifest: Option<&Manifest>) -> Result<Self, ConfigError> {
        to.validate()?;
        let authorization = match &to.token_variable {
            None => None,
            Some(variable) => {
                let token = std::env::var(variable);
                ensure(token.is_ok(), "token_variable", variable, "is not set in the environment")?;
                token.ok().map(|token| format!("Bearer {token}"))
            }
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs_f64(to.timeout_seconds)))
            .build()
            .new_agent();
        let (queue, waiting) = sync_channel(to.queue);
        let (tell, done) = channel();
        let counts = Arc::new(Counts::default());
        let pair = |(key, value): (String, String)| json!({"key": safe_key(&key), "value": value});
        let worker = Worker {
            server: Server { agent, root: format!("{}/api/2.0/mlflow", to.uri.trim_end_matches('/')), authorization },
            params: flat(config, "").into_iter().map(pair).collect(),
            tags: crate::export::tags(&to.run_name, manifest).into_iter().map(pair).collect(),
            counts: counts.clone(),
            run_id: None,
            error: None,
            to,
        };
        let started = thread::Builder::new().name("mlflow".to_owned()).spawn(move || {
            // Nobody may be left to hear it.
            let _ = tell.send(worker.work(&waiting));
        });
        ensure(started.is_ok(), "queue", "mlflow", "the sending thread could not be started")?;
        Ok(Self { queue, counts, done })
    }

    /// Hands a row over with the present time, or drops it if the queue is full. Returns at once.
    pub fn send(&self, row: &MetricsRow) {
        let time = now();
        let metric = |(name, value): &(String, f64)| {
            let key = safe_key(&format!("{}/{name}", row.split));
            json!({"key": key, "value": number(*value), "timestamp": time, "step": row.step})
        };
        let metrics = row.values.iter().chain(&row.timing).map(metric).collect();
        match self.queue.try_send(Message::Row { metrics }) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                if self.counts.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(
                        "the MLflow server does not keep up: rows are dropped, the run's own record is whole"
                    );
                }
            }
        }
    }

    /// Sends what waits, says how the run ended, and returns within `limit`.
    pub fn finish(self, status: Status, limit: Duration) -> Sent {
        let Self { queue, counts, done } = self;
        let end = Message::End { status, time: now() };
        // A full queue has no room for the end; without it the thread still empties the queue.
        let is_told = queue.try_send(end).is_ok();
        drop(queue);
        let (is_complete, error) = match done.recv_timeout(limit) {
            Ok(error) => (is_told, error),
            Err(RecvTimeoutError::Timeout) => (false, Some(format!("not done after {} s", limit.as_secs_f64()))),
            Err(RecvTimeoutError::Disconnected) => (false, Some("the sending thread has died".to_owned())),
        };
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (rows, dropped, failed) = (count(&counts.rows), count(&counts.dropped), count(&counts.failed));
        Sent { rows, dropped, failed, is_complete, error }
    }
}

struct Worker {
    to: MlflowConfig,
    server: Server,
    params: Vec<Value>,
    tags: Vec<Value>,
    counts: Arc<Counts>,
    run_id: Option<String>,
    error: Option<String>,
}

impl Worker {
    /// Works until all senders are gone; returns the last failure.
    fn work(mut self, waiting: &Receiver<Message>) -> Option<String> {
        while let Ok(message) = waiting.recv() {
            let (mut rows, mut metrics, mut end) = (0, Vec::new(), None);
            let mut next = Some(message);
            // All that waits goes into one request, as far as it may.
            while let Some(message) = next {
                match message {
                    Message::Row { metrics: more } => {
                        rows += 1;
                        metrics.extend(more);
                    }
                    Message::End { status, time } => end = Some((status, time)),
                }
                next = if metrics.len() < MAX_METRICS { waiting.try_recv().ok() } else { None };
            }
            if rows > 0 {
                let count = match self.attempt(|worker, run_id| worker.log(run_id, &metrics)) {
                    true => &self.counts.rows,
                    false => &self.counts.failed,
                };
                count.fetch_add(rows, Ordering::Relaxed);
            }
            if let Some((status, time)) = end {
                let status = match status {
                    Status::Finished => "FINISHED",
                    Status::Failed => "FAILED",
                    Status::Killed => "KILLED",
                };
                self.attempt(|worker, run_id| {
                    let body = json!({"run_id": run_id, "status": status, "end_time": time});
                    worker.server.post("runs/update", &body).map(|_| ())
                });
            }
        }
        self.error
    }

    /// Opens the run if need be and does `call`, a few times if it fails; says whether it was done.
    fn attempt(&mut self, call: impl Fn(&Self, &str) -> Result<(), String>) -> bool {
        for attempt in 1..=ATTEMPTS {
            let run_id = match self.run_id.take() {
                Some(run_id) => Ok(run_id),
                None => self.open(),
            };
            let done = run_id.and_then(|run_id| {
                let done = call(self, &run_id);
                self.run_id = Some(run_id);
                done
            });
            match done {
                Ok(()) => return true,
                Err(error) => {
                    if self.error.is_none() {
                        tracing::warn!("MLflow at {}: {error}; the run's own record is whole", self.to.uri);
                    }
                    self.error = Some(error);
                }
            }
            if attempt < ATTEMPTS {
                thread::sleep(PAUSE);
            }
        }
        false
    }

    /// The id of a new run, with its parameters and tags.
    fn open(&self) -> Result<String, String> {
        let name = &self.to.experiment;
        let found = self.server.get("experiments/get-by-name", ("experiment_name", name))?;
        let experiment_id = match found {
            Some(found) => text(&found, &["experiment", "experiment_id"])?,
            None => text(&self.server.post("experiments/create", &json!({"name": name}))?, &["experiment_id"])?,
        };
        let body = json!({"experiment_id": experiment_id, "run_name": self.to.run_name, "start_time": now()});
        let run_id = text(&self.server.post("runs/create", &body)?, &["run", "info", "run_id"])?;
        for params in self.params.chunks(MAX_PARAMS) {
            self.server.post("runs/log-batch", &json!({"run_id": run_id, "params": params}))?;
        }
        for tags in self.tags.chunks(MAX_PARAMS) {
            self.server.post("runs/log-batch", &json!({"run_id": run_id, "tags": tags}))?;
        }
        Ok(run_id)
    }

    fn log(&self, run_id: &str, metrics: &[Value]) -> Result<(), String> {
        for metrics in metrics.chunks(MAX_METRICS) {
            self.server.post("runs/log-batch", &json!({"run_id": run_id, "metrics": metrics}))?;
        }
        Ok(())
    }
}

struct Server {
    agent: Agent,
    root: String,
    authorization: Option<String>,
}

impl Server {
    fn post(&self, call: &str, body: &Value) -> Result<Value, String> {
        let mut request = self.agent.post(format!("{}/{call}", self.root));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let response = request.send_json(body).map_err(|error| format!("{call}: {error}"))?;
        read(call, response)?.ok_or_else(|| format!("{call}: not found"))
    }

    /// `None` if the server has no such thing.
    fn get(&self, call: &str, (key, value): (&str, &str)) -> Result<Option<Value>, String> {
        let mut request = self.agent.get(format!("{}/{call}", self.root)).query(key, value);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        read(call, request.call().map_err(|error| format!("{call}: {error}"))?)
    }
}

fn read(call: &str, mut response: ureq::http::Response<ureq::Body>) -> Result<Option<Value>, String> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().map_err(|error| format!("{call}: {error}"))?;
    match status {
        200 => serde_json::from_str(&text).map(Some).map_err(|error| format!("{call}: {error}")),
        404 => Ok(None),
        _ => Err(format!("{call}: status {status}: {}", text.chars().take(200).collect::<String>())),
    }
}

/// A text inside an answer.
fn text(answer: &Value, path: &[&str]) -> Result<String, String> {
    let found = path.iter().try_fold(answer, |value, key| value.get(key)).and_then(Value::as_str);
    found.map(str::to_owned).ok_or_else(|| format!("the answer has no {}", path.join(".")))
}

/// A number as protobuf's JSON has it.
fn number(value: f64) -> Value {
    match value {
        value if value.is_finite() => json!(value),
        value if value.is_nan() => json!("NaN"),
        value if value > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
