//! Scores from a program of the user's own, over JSON Lines.
//!
//! The program reads one JSON object per line from its standard input, `{"id", "sample", "prompt", "response",
//! "truncated", "metadata"}`, and writes for each one line `{"id": the same, "score": 1.0}` or `{"id": the same, "error":
//! "why not"}`. It must flush after each line. Its standard error is kept only to explain its death.
//!
//! Not here: a shell. `argv` is started as it stands; `["sh", "-c", "..."]` is there for those who want one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::process::{Broken, Process};
use super::reply::{MAX_REPLY, Reply};
use super::request::RewardRequest;
use super::score::{Score, reason};
use super::source::Attempt;

/// Largest memory limit, in MiB: what fits into the shell's 64-bit count of KiB with room to spare.
const MAX_MEMORY_MIB: u64 = 1 << 40;

/// A program that scores answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// One process per worker answers line after line. It is started with the run, so that slow imports overlap with the
    /// loading of the model; whatever of its start falls into the first score counts against that score's deadline.
    /// It is killed and started again when it misses a deadline or breaks the protocol.
    Persistent,
    /// A fresh process for every sample; its input is closed after the one line, so it may also read all of it.
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
    num_processes: usize,
    idle: Mutex<Vec<Process>>,
    closed: AtomicBool,
}

impl CommandConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let program = self.argv.first().map_or("", String::as_str);
        ensure(!program.is_empty(), "argv", format!("{:?}", self.argv), "must begin with a program")?;
        let memory = self.memory_mib.unwrap_or(1);
        ensure((1..=MAX_MEMORY_MIB).contains(&memory), "memory_mib", memory, "must be positive (and below 2^40)")
    }
}

impl CommandReward {
    /// Finds the program and starts the persistent processes. The error is the reason.
    pub(super) fn new(config: &CommandConfig, num_processes: usize) -> Result<Self, String> {
        find_program(&config.argv[0])?;
        let source = CommandReward {
            config: config.clone(),
            num_processes,
            idle: Mutex::new(Vec::new()),
            closed: AtomicBool::new(false),
        };
        if config.lifetime == Lifetime::Persistent {
            for _ in 0..num_processes {
                let process = source.start().map_err(|error| format!("cannot start {:?}: {error}", config.argv))?;
                source.idle().push(process);
            }
        }
        Ok(source)
    }

    /// One attempt, over before `until`.
    pub(super) fn attempt(&self, request: &RewardRequest, until: Instant) -> Attempt {
        let mut process = match self.take() {
            Ok(process) => process,
            Err(error) => return Attempt::may_pass(reason("cannot start", &error.to_string())),
        };
        let id = process.next_id();
        let line = match serde_json::to_string(&Question { id, request }) {
            Ok(line) => line + "\n",
            Err(error) => {
                return Attempt::Done(Score::invalid("protocol", format!("cannot write the sample: {error}")));
            }
        };
        let last = self.config.lifetime == Lifetime::PerSample;
        let attempt = match process.ask(line, last, until) {
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

    /// An idle process that is still alive, or a new one.
    fn take(&self) -> std::io::Result<Process> {
        loop {
            let idle = self.idle().pop();
            match idle {
                Some(process) if process.has_ended() => drop(process),
                Some(process) => return Ok(process),
                None => return self.start(),
            }
        }
    }

    fn give_back(&self, process: Process) {
        if self.config.lifetime == Lifetime::Persistent && !self.closed.load(Ordering::SeqCst) {
            self.idle().push(process);
        }
    }

    /// Starts the successor of a killed process at once, so that its start overlaps with other work.
    fn refill(&self) {
        if self.config.lifetime == Lifetime::PerSample || self.closed.load(Ordering::SeqCst) {
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
