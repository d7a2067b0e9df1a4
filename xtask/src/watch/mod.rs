//! `cargo xtask watch`: a run in the terminal, while it goes or afterwards.

mod terminal;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use clap::Args;
use rl_track::view::{Look, Record, frame};

use terminal::{Key, Terminal, terminal_size};

/// Shows a run's curves, pace and latest samples, read from its folder alone; a screen of 80x24 over ssh is enough.
#[derive(Args)]
pub struct Watch {
    /// The run's folder; it need not exist yet.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Another run, shown below it on the same axes; may be given often.
    #[arg(long, value_name = "RUN")]
    pub compare: Vec<PathBuf>,
    /// Prints one screen and ends, as it does anyway where the output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Draws with ASCII alone; chosen by itself where the locale is not UTF-8.
    #[arg(long)]
    pub ascii: bool,
    /// Seconds between two looks at the record.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    pub every: f64,
    /// Columns of a single screen.
    #[arg(long, value_name = "COLUMNS", requires = "once")]
    pub width: Option<usize>,
    /// Lines of a single screen.
    #[arg(long, value_name = "LINES", requires = "once")]
    pub height: Option<usize>,
}

impl Watch {
    pub fn run(&self) -> Result<()> {
        let is_time = (0.05..=3600.0).contains(&self.every);
        ensure!(is_time, "--every {}: must be from 0.05 to 3600 seconds", self.every);
        let mut records: Vec<Record> =
            std::iter::once(&self.run).chain(&self.compare).map(|folder| Record::new(folder)).collect();
        let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        let size = terminal_size().unwrap_or((80, 24));
        let mut look = Look {
            width: self.width.unwrap_or(size.0),
            height: self.height.unwrap_or(size.1),
            is_ascii: self.ascii || !is_utf8_locale(|name| std::env::var(name).ok()),
            has_colors: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            ..Look::default()
        };
        if self.once || !is_terminal {
            records.iter_mut().for_each(|record| record.refresh(SystemTime::now()));
            return match writeln!(io::stdout(), "{}", frame(&records, &look)) {
                // The reader has seen enough, as `head` has.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                done => Ok(done?),
            };
        }

        let mut terminal = Terminal::open()?;
        loop {
            records.iter_mut().for_each(|record| record.refresh(SystemTime::now()));
            (look.width, look.height) = terminal_size().unwrap_or(size);
            terminal.show(&frame(&records, &look))?;
            let next = std::time::Instant::now() + Duration::from_secs_f64(self.every);
            // Keys are answered at once, from what was read last.
            while let Some(key) = terminal.key_before(next)? {
                if key == Key::Quit {
                    return Ok(());
                }
                look = moved(&records, look, key);
                terminal.show(&frame(&records, &look))?;
            }
        }
    }
}

/// The look after a key. A step beyond the last panel or sample changes nothing, so that the way back is not longer.
fn moved(records: &[Record], look: Look, key: Key) -> Look {
    let mut next = look;
    match key {
        Key::Up => next.skipped_rows = look.skipped_rows.saturating_sub(1),
        Key::Down => next.skipped_rows += 1,
        Key::Right => next.sample_back = look.sample_back.saturating_sub(1),
        Key::Left => next.sample_back += 1,
        Key::Resize | Key::Quit | Key::Other => {}
    }
    if key == Key::Resize {
        (next.width, next.height) = terminal_size().unwrap_or((look.width, look.height));
        return next;
    }
    if frame(records, &next) == frame(records, &look) { look } else { next }
}

/// Whether the locale's letters are UTF-8, by the first of its variables that is set.
fn is_utf8_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names.into_iter().filter_map(variable).find(|value| !value.is_empty()).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_variable_that_is_set_counts() {
        let table: [(&[(&str, &str)], bool); 5] = [
            (&[], false),
            (&[("LANG", "en_US.UTF-8")], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")], false),
            (&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")], true),
            (&[("LANG", "POSIX")], false),
        ];
        for (set, expected) in table {
            let variable = |name: &str| set.iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_string());
            assert_eq!(is_utf8_locale(variable), expected, "{set:?}");
        }
    }

    #[test]
    fn a_step_beyond_the_end_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let line = |step: u64| format!("{{\"step\":{step},\"split\":\"train\",\"loss\":0.5}}\n");
        std::fs::write(folder.path().join("metrics.jsonl"), line(1) + &line(2)).unwrap();
        let mut record = Record::new(folder.path());
        record.refresh(SystemTime::now());
        let records = [record];
        for key in [Key::Up, Key::Down, Key::Left, Key::Right, Key::Other] {
            assert_eq!(moved(&records, Look::default(), key), Look::default(), "{key:?}");
        }
    }
}
