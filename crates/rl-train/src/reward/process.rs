//! One running program that answers lines with lines, and that can be stopped at any moment.
//!
//! Three small threads per process (write, read, keep the last words of stderr) turn blocking pipes into a wait with a
//! deadline. What is read is bounded, so a program that never ends its line cannot fill our memory.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde::Deserialize;

use super::reply::MAX_REPLY;

/// Bytes of stderr kept to explain a death.
const STDERR_TAIL: usize = 2048;
/// How long we wait for the exit status of a program that closed its output.
const STATUS_WAIT: Duration = Duration::from_millis(200);
/// Lines read ahead; a program that writes more than it is asked waits.
const READ_AHEAD: usize = 4;

/// A started program. Dropping it kills it and the processes of its group.
pub(super) struct Process {
    child: Child,
    questions: Option<SyncSender<String>>,
    answers: Receiver<Line>,
    last_words: Arc<Mutex<Vec<u8>>>,
    asked: u64,
    ready: bool,
    /// The exit status is taken, and with it the right to the process id.
    reaped: bool,
}

/// Why a question got no answer. The process is of no use afterwards.
pub(super) enum Broken {
    TimedOut,
    Died(String),
    TooLong,
    NotText,
}

/// The first line of a persistent program.
#[derive(Deserialize)]
struct Ready {
    ready: bool,
}

enum Line {
    Text(String),
    TooLong,
    NotText,
}

impl Process {
    /// Starts `argv`, its address space limited to `memory_mib` where given.
    pub(super) fn start(argv: &[String], memory_mib: Option<u64>) -> std::io::Result<Self> {
        let mut command = command(argv, memory_mib);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0); // a group of its own: killed as a whole, and a Ctrl-C on the terminal is not for it
        let mut child = command.spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (questions, pending) = sync_channel::<String>(1);
        let (answer, answers) = sync_channel(READ_AHEAD);
        let last_words = Arc::new(Mutex::new(Vec::new()));
        // From here on a failure drops `process`, which ends the child.
        let process = Process {
            child,
            questions: Some(questions),
            answers,
            last_words: Arc::clone(&last_words),
            asked: 0,
            ready: false,
            reaped: false,
        };
        if let Some(mut stdin) = stdin {
            spawn("reward-write", move || {
                for line in pending {
                    if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                        return; // the reader finds the end of the output and tells why
                    }
                }
            })?;
        }
        if let Some(stdout) = stdout {
            spawn("reward-read", move || read_lines(stdout, &answer))?;
        }
        if let Some(stderr) = stderr {
            spawn("reward-stderr", move || keep_last(stderr, &last_words))?;
        }
        Ok(process)
    }

    /// The number of the next question, different for every question to this process.
    pub(super) fn next_id(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Sends `line` (with its line end) and waits for one line. With `last`, the program's input is closed after it.
    pub(super) fn ask(&mut self, line: String, last: bool, until: Instant) -> Result<String, Broken> {
        let sent = self.questions.as_ref().is_some_and(|questions| questions.try_send(line).is_ok());
        if last {
            self.questions = None;
        }
        if !sent {
            return Err(Broken::Died(self.epitaph()));
        }
        self.read(until)
    }

    /// Waits for the line `{"ready": true}`.
    pub(super) fn wait_ready(&mut self, until: Instant) -> Result<(), Broken> {
        let Ok(Ready { ready: true }) = serde_json::from_str(&self.read(until)?) else { return Err(Broken::NotText) };
        self.ready = true;
        Ok(())
    }

    /// Whether it has said so.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    fn read(&mut self, until: Instant) -> Result<String, Broken> {
        match self.answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Line::Text(text)) => Ok(text),
            Ok(Line::TooLong) => Err(Broken::TooLong),
            Ok(Line::NotText) => Err(Broken::NotText),
            Err(RecvTimeoutError::Timeout) => Err(Broken::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(Broken::Died(self.epitaph())),
        }
    }

    /// Whether the program is over. It stays a zombie until the drop, so its id cannot pass to another process.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// Exit status and last words of a program that closed its output.
    fn epitaph(&mut self) -> String {
        let patience = Instant::now() + STATUS_WAIT;
        while !self.has_ended() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        let status = if self.has_ended() {
            self.end().map_or_else(|error| error.to_string(), |status| status.to_string())
        } else {
            "closed its output without ending".to_string()
        };
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let last_words = String::from_utf8_lossy(&last_words);
        let last_words = last_words.trim();
        if last_words.is_empty() { status } else { format!("{status}; stderr ends with: {last_words}") }
    }

    /// Kills the group while its id is still ours, then takes the exit status.
    fn end(&mut self) -> std::io::Result<ExitStatus> {
        if !self.reaped {
            // An error means that nobody is left in the group.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.reaped = true;
        }
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end(); // nobody is left to be told
    }
}

fn command(argv: &[String], memory_mib: Option<u64>) -> Command {
    let Some(memory_mib) = memory_mib else {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        return command;
    };
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "ulimit -v \"$1\" || exit 125; shift; exec \"$@\"", "reward"]);
    command.arg((memory_mib * 1024).to_string()).args(argv);
    command
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_string()).spawn(work).map(drop)
}

fn read_lines(stdout: ChildStdout, answer: &SyncSender<Line>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut bytes = Vec::new();
        let line = match (&mut stdout).take(MAX_REPLY as u64 + 1).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => return,
            Ok(length) if MAX_REPLY < length => Line::TooLong,
            Ok(_) => String::from_utf8(bytes).map_or(Line::NotText, Line::Text),
        };
        let usable = matches!(line, Line::Text(_));
        if answer.send(line).is_err() || !usable {
            return;
        }
    }
}

fn keep_last(mut stderr: impl Read, last_words: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        let mut kept = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&buffer[..length]);
        let excess = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..excess);
    }
}
