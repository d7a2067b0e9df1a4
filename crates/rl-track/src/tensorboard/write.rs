//! Writing event files.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::tensorboard::{FILE_VERSION, masked_crc32c};

/// `SessionLog.START`: the event marks a restart.
const SESSION_START: u64 = 1;

/// Appends scalars to an event file of its own. Every record goes to the file at once.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Starts a new file `events.out.tfevents.<seconds>.<host>.<process>.<count>` in `folder`, which must exist.
    pub fn create(folder: &Path) -> Result<Self> {
        let now = wall_time();
        let prefix = format!("events.out.tfevents.{:010}.{}.{}", now as u64, host_name(), std::process::id());
        let mut count = 0;
        let (path, file) = loop {
            let path = folder.join(format!("{prefix}.{count}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => count += 1,
                other => break (path.clone(), other.map_err(Error::io("create", &path))?),
            }
        };
        let mut writer = Self { path, file };
        writer.append(&version_event(now))?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one scalar. TensorBoard stores single precision; NaN and infinities are kept.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.scalars(step, &[(tag, value)])
    }

    /// Appends the scalars of one step in one record.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        self.scalars_at(wall_time(), step, scalars)
    }

    /// [`scalars`](Self::scalars) with a given time, in seconds since 1970.
    pub fn scalars_at(&mut self, wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        if scalars.is_empty() {
            return Ok(());
        }
        self.append(&scalar_event(wall_time, step, scalars)?)
    }

    /// Marks a restart: readers drop what earlier files hold from `step` on.
    pub fn restart_from(&mut self, step: u64) -> Result<()> {
        self.append(&restart_event(wall_time(), step))
    }

    fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.file.write_all(&record(payload)).map_err(Error::io("write", &self.path))
    }
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(payload.len() + 16);
    bytes.extend_from_slice(&length);
    bytes.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&masked_crc32c(payload).to_le_bytes());
    bytes
}

/// `Event { 1: wall_time, 3: file_version }`
fn version_event(wall_time: f64) -> Vec<u8> {
    let mut event = event_header(wall_time, 0);
    put_bytes(&mut event, 3, FILE_VERSION.as_bytes());
    event
}

/// `Event { 1: wall_time, 2: step, 5: Summary { 1: [Value { 1: tag, 2: simple_value }] } }`
fn scalar_event(wall_time: f64, step: u64, scalars: &[(&str, f64)]) -> Result<Vec<u8>> {
    let mut summary = Vec::new();
    for (tag, value) in scalars {
        let single = *value as f32;
        if value.is_finite() && !single.is_finite() {
            return Err(Error::TooLarge { tag: (*tag).to_owned(), step, value: *value });
        }
        let mut message = Vec::new();
        put_bytes(&mut message, 1, tag.as_bytes());
        put_key(&mut message, 2, WIRE_FIXED32);
        message.extend_from_slice(&single.to_le_bytes());
        put_bytes(&mut summary, 1, &message);
    }
    let mut event = event_header(wall_time, step);
    put_bytes(&mut event, 5, &summary);
    Ok(event)
}

/// `Event { 1: wall_time, 2: step, 7: SessionLog { 1: START } }`
fn restart_event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut session = Vec::new();
    put_key(&mut session, 1, WIRE_VARINT);
    put_varint(&mut session, SESSION_START);
    let mut event = event_header(wall_time, step);
    put_bytes(&mut event, 7, &session);
    event
}

fn event_header(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    put_key(&mut event, 1, WIRE_FIXED64);
    event.extend_from_slice(&wall_time.to_le_bytes());
    // As in every protobuf writer, a zero is left out.
    if step > 0 {
        put_key(&mut event, 2, WIRE_VARINT);
        put_varint(&mut event, step);
    }
    event
}

const WIRE_VARINT: u64 = 0;
const WIRE_FIXED64: u64 = 1;
const WIRE_BYTES: u64 = 2;
const WIRE_FIXED32: u64 = 5;

fn put_key(out: &mut Vec<u8>, field: u64, wire: u64) {
    put_varint(out, field << 3 | wire);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, WIRE_BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The machine's name, kept to characters that are safe in a file name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let is_safe = |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-';
    let safe: String = name.unwrap_or_default().trim().chars().filter(is_safe).collect();
    if safe.is_empty() { "localhost".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_equal_those_of_the_python_package() {
        // written by tests/golden/write_events.py
        let expected = include_bytes!("../../tests/golden/simple.tfevents");
        let bytes = [
            version_event(1_700_000_000.0),
            scalar_event(1_700_000_001.5, 0, &[("train/loss_mean", 2.5)]).unwrap(),
            scalar_event(1_700_000_002.25, 300, &[("eval/eval gpt_loss", -0.125), ("train/lr", 1e-5)]).unwrap(),
            restart_event(1_700_000_003.0, 200),
        ];
        let bytes: Vec<u8> = bytes.iter().flat_map(|event| record(event)).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_finite_value_never_becomes_infinite() {
        assert!(matches!(scalar_event(1.0, 3, &[("loss", 1e300)]), Err(Error::TooLarge { step: 3, .. })));
    }
}
