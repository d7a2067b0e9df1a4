//! The terminal while a run is watched: its other screen, keys one by one, its size; and all put back at the end.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// What was typed, or what happened meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Quit,
    Up,
    Down,
    Left,
    Right,
    Resize,
    Other,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal in the state for watching; dropping it puts it back.
pub struct Terminal {
    before: Termios,
    is_stopped: Arc<AtomicBool>,
    is_resized: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes the terminal over: keys come at once and are not shown, and Ctrl-C only ends the watching.
    pub fn open() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
        let (is_stopped, is_resized) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, is_stopped.clone()).context("cannot handle signals")?;
        }
        signal_hook::flag::register(SIGWINCH, is_resized.clone()).context("cannot handle signals")?;
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut settings = before.clone();
        settings.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &settings).context("cannot change the terminal's settings")?;
        let terminal = Self { before, is_stopped, is_resized };
        write_all(ENTER)?;
        Ok(terminal)
    }

    /// Draws a screen over the last one, without a moment of emptiness.
    pub fn show(&mut self, text: &str) -> Result<()> {
        let lines: Vec<&str> = text.lines().collect();
        write_all(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n")))
    }

    /// The next key, or `None` once `until` has come.
    pub fn key_before(&mut self, until: Instant) -> Result<Option<Key>> {
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(Some(Key::Quit));
            }
            if self.is_resized.swap(false, Ordering::Relaxed) {
                return Ok(Some(Key::Resize));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let stdin = io::stdin();
            let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&limit)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return read_key().map(Some),
                Err(error) => return Err(error).context("cannot wait for keys"),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The way out: what fails here cannot be mended.
        let _ = write_all(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and lines of the terminal that shows the output.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

fn read_key() -> Result<Key> {
    let mut bytes = [0; 16];
    // One read takes a whole escape sequence. The end of the input means that the terminal is gone.
    let count = io::stdin().lock().read(&mut bytes).context("cannot read keys")?;
    Ok(if count == 0 { Key::Quit } else { key(&bytes[..count]) })
}

fn key(bytes: &[u8]) -> Key {
    match bytes {
        b"q" | b"Q" | b"\x03" | b"\x04" => Key::Quit,
        b"\x1b[A" | b"\x1bOA" | b"k" => Key::Up,
        b"\x1b[B" | b"\x1bOB" | b"j" => Key::Down,
        b"\x1b[C" | b"\x1bOC" | b"l" => Key::Right,
        b"\x1b[D" | b"\x1bOD" | b"h" => Key::Left,
        _ => Key::Other,
    }
}

fn write_all(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to the terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_in_both_forms_of_their_sequences() {
        let table: [(&[u8], Key); 7] = [
            (b"q", Key::Quit),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"h", Key::Left),
            (b"\x1b[C", Key::Right),
            (b"\x1b", Key::Other),
            (b"\x1b[A\x1b[A", Key::Other),
        ];
        for (bytes, expected) in table {
            assert_eq!(key(bytes), expected, "{bytes:?}");
        }
    }
}
