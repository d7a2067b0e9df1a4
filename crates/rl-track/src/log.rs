//! The log: one line per event to stderr and to the run's `log.txt`.
//!
//! Lines to stderr go around the progress bars, so neither tears the other. The level comes from `RUST_LOG` (for
//! example `info,rl_train=debug`) and is `info` without it.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Mutex;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt};

use crate::error::{Error, Result};
use crate::progress::Progress;

/// Installs the log for the whole process: to stderr and, if given, appended to `file`. Once per process.
pub fn init(progress: &Progress, file: Option<&Path>) -> Result<()> {
    subscriber(progress, file)?.try_init().map_err(|error| Error::Log(format!("{error}; set it up once per process")))
}

/// What [`init`] installs, for programs that add to it or limit it to a scope.
pub fn subscriber(progress: &Progress, file: Option<&Path>) -> Result<impl Subscriber + Send + Sync + 'static> {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => filter.parse(&text).map_err(|error| Error::Log(format!("RUST_LOG is `{text}`: {error}")))?,
        Err(std::env::VarError::NotPresent) => filter.parse_lossy(""),
        Err(error) => return Err(Error::Log(format!("RUST_LOG: {error}"))),
    };
    let open = |path: &Path| -> Result<Mutex<File>> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
        Ok(Mutex::new(file))
    };
    let to_file = file.map(open).transpose()?.map(|file| fmt::layer().with_ansi(false).with_writer(file));
    let to_stderr =
        fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(AroundBars { progress: progress.clone() });
    Ok(Registry::default().with(filter).with(to_file).with(to_stderr))
}

/// Writes to stderr while the bars are taken off the screen.
#[derive(Clone)]
struct AroundBars {
    progress: Progress,
}

impl Write for AroundBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for AroundBars {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_to_the_file_without_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        for step in [1, 2] {
            let subscriber = subscriber(&Progress::hidden(), Some(&path)).unwrap();
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(step, "saved a checkpoint");
                tracing::debug!("not at this level");
            });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].contains("INFO") && lines[1].ends_with("saved a checkpoint step=2"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
