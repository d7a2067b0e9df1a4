//! Scores from a program of the user's own, over JSON Lines.
//!
//! The program reads one JSON object per line from its standard input, `{"id", "sample", "prompt", "response",
//! "truncated", "metadata"}`, and writes for each one line `{"id": the same, "score": 1.0}` or `{"id": the same, "error":
//! "why not"}`. A persistent one writes the line `{"ready": true}` before all, when its imports are done. It must flush
//! after each line. Its standard error is kept only to explain its death.
//!
//! Not here: a shell. `argv` is started as it stands; `["sh", "-c", "..."]` is there for those who want one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::config::positive_seconds;
use super::process::{Broken, Process};
use super::reply::{MAX_REPLY, Reply};
use super::request::RewardRequest;
use super::score::{Score, reason};
use super::source::{Attempt, Clock};

/// Largest memory limit, in MiB: what fits into the shell's 64-bit count of KiB with room to spare.
const MAX_MEMORY_MIB: u64 = 1 << 40;

/// A program that scores answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Program and arguments, not a shell line.
    pub argv: Vec<String>,
    /// Limit of each process's address space in MiB (`ulimit -v`); a child process of the program gets the same limit
    /// for itself. Address space is more than memory in use: Python alone wants about 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// How long a process lives.
    pub lifetime: Lifetime,
}

/// How long a process of a command source lives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lifetime {
    /// One process per worker answers line after line; all are started, and waited for, before the run begins. One that
    /// misses a deadline or breaks the protocol is killed and started again while others work.
    Persistent {
        /// Seconds within which a started process must say `{"ready": true}`. A score that finds only processes on their
        /// way up waits for one, and its deadline stands still meanwhile (the deadline of the step does not).
        start_seconds: f64,
    },
    /// A fresh process for every sample, its start part of the sample's deadline. It says no `ready`, and its input is
    /// closed after the one line, so it may also read all of it.
    PerSample,
}

/// The line that goes to the program.
#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    #[serde(flatten)]
    request: &'a RewardRequest,
}

/// A command source with its idle processes.
pub(super) struct CommandReward {
    config: CommandConfig,
    /// How long a start may take; `None` if every sample has its own process.
    start_limit: Option<Duration>,
    num_processes: usize,
    /// Those just started in front, those last used at the back.
    idle: Mutex<Vec<Process>>,
    closed: AtomicBool,
}

impl CommandConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let program = self.argv.first().map_or("", String::as_str);
        ensure(!program.is_empty(), "argv", format!("{:?}", self.argv), "must begin with a program")?;
        let memory = self.memory_mib.unwrap_or(1);
        ensure((1..=MAX_MEMORY_MIB).contains(&memory), "memory_mib", memory, "must be positive (and at most 2^40)")?;
        match self.lifetime {
            Lifetime::Persistent { start_seconds } => positive_seconds("lifetime.start_seconds", Some(start_seconds)),
            Lifetime::PerSample => Ok(()),
        }
    }

    /// How long the start of one process may take.
    pub(super) fn start_limit(&self) -> Option<Duration> {
        match self.lifetime {
            Lifetime::Persistent { start_seconds } => Some(Duration::from_secs_f64(start_seconds)),
            Lifetime::PerSample => None,
        }
    }
}

impl CommandReward {
    /// Finds the program, starts the persistent processes and waits for them. The error is the reason.
    pub(super) fn new(config: &CommandConfig, num_processes: usize) -> Result<Self, String> {
        find_program(&config.argv[0])?;
        let source = CommandReward {
            config: config.clone(),
            start_limit: config.start_limit(),
            num_processes,
            idle: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        };
        if let Some(limit) = source.start_limit {
            let mut processes = Vec::new();
            for _ in 0..num_processes {
                let process = source.start().map_err(|error| format!("cannot start {:?}: {error}", config.argv))?;
                processes.push(process);
            }
            let until = Instant::now() + limit;
            for process in &mut processes {
                wait_ready(process, until, limit)?;
            }
            *source.idle() = processes;
        }
        Ok(source)
    }

    /// How long the starts of processes can hold up one attempt.
    pub(super) fn longest_hold(&self) -> Duration {
        self.start_limit.unwrap_or_default()
    }

    /// One attempt, over before the clock's end.
    pub(super) fn attempt(&self, request: &RewardRequest, clock: &mut Clock) -> Attempt {
        let mut process = match self.take(clock) {
            Ok(process) => process,
            Err(_) if clock.step_is_over() => return Attempt::Done(Score::TimedOut),
            Err(why) => return Attempt::may_pass(why),
        };
        let id = process.next_id();
        let line = match serde_json::to_string(&Question { id, request }) {
            Ok(line) => line + "\n",
            Err(error) => {
                return Attempt::Done(Score::invalid("protocol", format!("cannot write the sample: {error}")));
            }
        };
        let attempt = match process.ask(line, self.start_limit.is_none(), clock.until()) {
            Ok(text) => match Reply::parse(&text) {
                Ok(reply) if reply.id == Some(id) => {
                    self.give_back(process);
                    return Attempt::Done(reply.into_score());
                }
                Ok(reply) => {
                    let got = reply.id.map_or("none".to_string(), |id| id.to_string());
                    Attempt::Done(Score::invalid("protocol", format!("the reply's id is {got}, not {id}")))
                }
                Err(reason) => Attempt::Done(Score::Invalid(reason)),
            },
            Err(Broken::TimedOut) => Attempt::Done(Score::TimedOut),
            Err(Broken::Died(how)) => Attempt::may_pass(reason("died", &how)),
            Err(Broken::TooLong) => {
                Attempt::Done(Score::invalid("too long", format!("a line of more than {MAX_REPLY} bytes")))
            }
            Err(Broken::NotText) => Attempt::Done(Score::invalid("not JSON", "the line is not UTF-8")),
        };
        drop(process); // killed
        self.refill();
        attempt
    }

    /// Kills the idle processes; none is started from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.idle().clear();
    }

    /// A process that is ready: an idle one that still lives, or a new one, waited for while the clock stands still. The
    /// error is the reason.
    fn take(&self, clock: &mut Clock) -> Result<Process, String> {
        loop {
            let idle = self.idle().pop();
            let mut process = match idle {
                Some(process) if process.is_ready() && process.has_ended() => continue, // died between two steps
                Some(process) => process,
                None => self.start().map_err(|error| reason("cannot start", &error.to_string()))?,
            };
            if let (Some(limit), false) = (self.start_limit, process.is_ready()) {
                let started = clock.stand_still(|step_end| {
                    let own = Instant::now() + limit;
                    wait_ready(&mut process, step_end.map_or(own, |end| end.min(own)), limit)
                });
                if let Err(why) = started {
                    drop(process);
                    self.refill();
                    return Err(reason("cannot start", &why));
                }
            }
            return Ok(process);
        }
    }

    fn give_back(&self, process: Process) {
        if self.start_limit.is_some() && !self.closed.load(Ordering::SeqCst) {
            self.idle().push(process);
        }
    }

    /// Starts the successor of a killed process at once, so that its start overlaps with other work.
    fn refill(&self) {
        if self.start_limit.is_none() || self.closed.load(Ordering::SeqCst) {
            return;
        }
        if self.idle().len() < self.num_processes {
            // A failure shows, with its reason, when the next sample finds no process.
            if let Ok(process) = self.start() {
                self.idle().insert(0, process);
            }
        }
    }

    fn start(&self) -> std::io::Result<Process> {
        Process::start(&self.config.argv, self.config.memory_mib)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait_ready(process: &mut Process, until: Instant, limit: Duration) -> Result<(), String> {
    process.wait_ready(until).map_err(|broken| match broken {
        Broken::TimedOut => format!("it did not say {{\"ready\": true}} within {} s", limit.as_secs_f64()),
        Broken::Died(how) => format!("it ended before it was ready ({how})"),
        Broken::TooLong | Broken::NotText => "its first line must be {\"ready\": true}".to_string(),
    })
}

/// A missing program is an error before the run, not a failure of every sample.
fn find_program(program: &str) -> Result<(), String> {
    let found = match std::env::var_os("PATH") {
        Some(path) if !program.contains('/') => {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        }
        _ => Path::new(program).is_file(),
    };
    if found { Ok(()) } else { Err(format!("there is no program {program:?}; give its path or put it into PATH")) }
}
