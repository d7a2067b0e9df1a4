//! Progress of long loops: bars on a terminal, now and then a plain line elsewhere, nothing in tests.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::duration_text;

/// Least time between two plain lines of one bar.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "{prefix} {bar:28} {pos}/{len} {per_sec} eta {eta} {wide_msg}";

/// Where progress is shown. Clones share the screen; give one to [`crate::log::init`].
#[derive(Debug, Clone)]
pub struct Progress {
    multi: MultiProgress,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bars,
    Plain,
    Hidden,
}

impl Progress {
    /// Bars if stderr is a terminal, else a plain line to stderr at most every 10 seconds per bar.
    pub fn new() -> Self {
        if io::stderr().is_terminal() { Self::with_mode(Mode::Bars) } else { Self::with_mode(Mode::Plain) }
    }

    /// Shows nothing; for tests and for the processes of a group other than the first.
    pub fn hidden() -> Self {
        Self::with_mode(Mode::Hidden)
    }

    fn with_mode(mode: Mode) -> Self {
        let target = if mode == Mode::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { multi: MultiProgress::with_draw_target(target), mode }
    }

    /// A bar for `total` units of work.
    pub fn bar(&self, label: &str, total: u64) -> Bar {
        self.bar_from(label, total, 0)
    }

    /// A bar that begins at `done`, as after a resume; the rate counts only what is done from now on.
    pub fn bar_from(&self, label: &str, total: u64, done: u64) -> Bar {
        // Set up off the screen, so that the jump to `done` is not shown as a rate.
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        bar.set_position(done);
        bar.tick();
        bar.reset_eta();
        let bar = if self.mode == Mode::Bars { self.multi.add(bar) } else { bar };
        let plain = PlainBar { label: label.to_owned(), total, start: Instant::now(), first: done, printed: None };
        Bar { bar, mode: self.mode, plain: Arc::new(Mutex::new(plain)) }
    }

    /// Runs `work` while the bars are off the screen, so that it can print to stderr.
    pub fn suspend<R>(&self, work: impl FnOnce() -> R) -> R {
        self.multi.suspend(work)
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// One bar. Clones move the same bar; it may be moved from any thread.
#[derive(Debug, Clone)]
pub struct Bar {
    bar: ProgressBar,
    mode: Mode,
    plain: Arc<Mutex<PlainBar>>,
}

impl Bar {
    /// Moves on by `count` units.
    pub fn inc(&self, count: u64) {
        self.bar.inc(count);
        self.print_plain(false);
    }

    /// Moves to `done` units.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.print_plain(false);
    }

    /// Units done.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// A short text behind the numbers, for example the loss.
    pub fn set_message(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Ends the bar where it is and leaves its last state on the screen.
    pub fn finish(&self) {
        self.bar.abandon();
        self.print_plain(true);
    }

    fn print_plain(&self, is_last: bool) {
        if self.mode != Mode::Plain {
            return;
        }
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = plain.line(Instant::now(), self.bar.position(), &self.bar.message(), is_last) {
            eprintln!("{line}");
        }
    }
}

/// The text of a bar where there is no terminal.
#[derive(Debug)]
struct PlainBar {
    label: String,
    total: u64,
    start: Instant,
    first: u64,
    printed: Option<Instant>,
}

impl PlainBar {
    /// The line to print now, if one is due.
    fn line(&mut self, now: Instant, done: u64, message: &str, is_last: bool) -> Option<String> {
        let since = now.duration_since(self.printed.unwrap_or(self.start));
        if since < PLAIN_INTERVAL && !is_last {
            return None;
        }
        self.printed = Some(now);
        let seconds = now.duration_since(self.start).as_secs_f64();
        let rate = done.saturating_sub(self.first) as f64 / seconds;
        let mut line = format!("{} {done}/{}", self.label, self.total);
        if rate.is_finite() && rate > 0.0 {
            let digits = if rate < 10.0 { 2 } else { 0 };
            let left = self.total.saturating_sub(done) as f64 / rate;
            line.push_str(&format!(" {rate:.digits$}/s eta {}", duration_text(left)));
        }
        if !message.is_empty() {
            line.push(' ');
            line.push_str(message);
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines_come_every_ten_seconds_with_rate_and_eta() {
        let start = Instant::now();
        let mut bar = PlainBar { label: "train".into(), total: 1000, start, first: 100, printed: None };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(bar.line(at(9), 150, "", false), None);
        // 80 units in 10 seconds, 820 left: 102.5 seconds
        assert_eq!(bar.line(at(10), 180, "loss 0.5", false).unwrap(), "train 180/1000 8.00/s eta 1:43 loss 0.5");
        assert_eq!(bar.line(at(19), 200, "", false), None);
        assert_eq!(bar.line(at(19), 1000, "", true).unwrap(), "train 1000/1000 47/s eta 0:00");
    }

    #[test]
    fn hidden_bars_still_count() {
        let bar = Progress::hidden().bar_from("train", 10, 4);
        bar.inc(2);
        bar.set_message("loss 1");
        assert_eq!(bar.position(), 6);
        bar.finish();
    }
}
