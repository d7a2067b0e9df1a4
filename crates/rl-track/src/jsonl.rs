//! Append-only JSON Lines files whose lines carry a `step`, safe against kills.
//!
//! A line is written with its newline in one call and without a buffer, so a killed process leaves at most one torn
//! line at the end. Reading skips a torn tail; opening for append and truncating remove it. A bad line anywhere else is
//! an error.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::atomic::write_atomically;
use crate::error::{Error, Result};

/// One parsed line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Place in the file, counted from 1.
    pub number: usize,
    /// Optimizer step, from the key `step`.
    pub step: u64,
    /// All keys in file order, `step` included.
    pub object: Map<String, Value>,
}

/// All complete lines of a file, without a torn tail. A missing file is an error.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(parse(path, &bytes)?.lines.into_iter().map(|(line, _)| line).collect())
}

/// Drops all lines after `step` and a torn tail, and returns how many lines were dropped.
///
/// For resuming from a checkpoint of `step`: what a killed run wrote after its checkpoint is written again. The file is
/// replaced atomically. A missing file counts as empty.
pub fn truncate_after(path: &Path, step: u64) -> Result<usize> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        other => other.map_err(Error::io("read", path))?,
    };
    let parsed = parse(path, &bytes)?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut dropped = usize::from(parsed.torn);
    for (line, text) in &parsed.lines {
        if line.step <= step {
            kept.extend_from_slice(text);
            kept.push(b'\n');
        } else {
            dropped += 1;
        }
    }
    if kept != bytes {
        write_atomically(path, &kept)?;
    }
    Ok(dropped)
}

/// An open file that lines are appended to.
#[derive(Debug)]
pub struct Appender {
    path: PathBuf,
    file: File,
}

impl Appender {
    /// Opens or creates the file, removes a torn tail, and returns the lines that are already there.
    pub fn open(path: &Path) -> Result<(Self, Vec<Line>)> {
        let mut lines = Vec::new();
        match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => {
                let bytes = other.map_err(Error::io("read", path))?;
                let parsed = parse(path, &bytes)?;
                if parsed.torn || bytes.last().is_some_and(|last| *last != b'\n') {
                    tracing::warn!(path = %path.display(), "mended the last line, which a killed process left unfinished");
                    let whole: Vec<u8> =
                        parsed.lines.iter().flat_map(|(_, text)| [text, b"\n".as_slice()].concat()).collect();
                    write_atomically(path, &whole)?;
                }
                lines = parsed.lines.into_iter().map(|(line, _)| line).collect();
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("write", path))?;
        Ok((Self { path: path.to_path_buf(), file }, lines))
    }

    /// Appends one object as a line. Once this returns, killing the process does not lose it.
    pub fn append(&mut self, object: &Map<String, Value>) -> Result<()> {
        let mut bytes = serde_json::to_vec(object).map_err(|error| Error::Serialize {
            what: "a record",
            format: "JSON",
            message: error.to_string(),
        })?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(Error::io("write", &self.path))
    }

    /// Forces the lines to the disk, so that a power failure does not lose them either.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("write", &self.path))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

struct Parsed<'a> {
    lines: Vec<(Line, &'a [u8])>,
    /// The file ended in the middle of a line, which is not among `lines`.
    torn: bool,
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> Result<Parsed<'a>> {
    let mut lines = Vec::new();
    let mut pieces = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((index, text)) = pieces.next() {
        let is_tail = pieces.peek().is_none();
        if is_tail && text.is_empty() {
            break;
        }
        // An object ends with its closing brace, so a tail that parses lacks nothing but its newline.
        if is_tail && serde_json::from_slice::<Map<String, Value>>(text).is_err() {
            return Ok(Parsed { lines, torn: true });
        }
        lines.push((parse_line(path, index + 1, text)?, text));
    }
    Ok(Parsed { lines, torn: false })
}

fn parse_line(path: &Path, number: usize, text: &[u8]) -> Result<Line> {
    let bad = |message: String| Error::BadLine { path: path.to_path_buf(), line: number, message };
    let object: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| bad(format!("not a JSON object: {error}")))?;
    let step = object.get("step").and_then(Value::as_u64);
    let step = step.ok_or_else(|| bad("`step` is missing or not a whole number".into()))?;
    Ok(Line { number, step, object })
}

/// Reads a file that another process may be writing, a piece at a time.
#[derive(Debug)]
pub(crate) struct Follower {
    path: PathBuf,
    /// Bytes and lines taken so far.
    taken: (u64, usize),
    /// Which file they were taken from.
    identity: Option<u64>,
}

/// What a [`Follower`] found.
#[derive(Debug)]
pub(crate) enum News {
    /// There is no file.
    Missing,
    /// Lines that were not there before, each by itself good or bad. After a replacement of the file, all of it.
    Lines { is_replaced: bool, lines: Vec<Result<Line>> },
}

impl Follower {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, taken: (0, 0), identity: None }
    }

    /// The complete lines that are new. An unfinished line at the end is left for the next time.
    pub(crate) fn poll(&mut self) -> Result<News> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (self.taken, self.identity) = ((0, 0), None);
                return Ok(News::Missing);
            }
            other => other.map_err(Error::io("read", &self.path))?,
        };
        let metadata = file.metadata().map_err(Error::io("read", &self.path))?;
        let identity = identity(&metadata);
        // A run that is taken up again replaces its record by a shorter one.
        let is_replaced = self.identity.is_some_and(|own| own != identity) || metadata.len() < self.taken.0;
        if is_replaced {
            self.taken = (0, 0);
        }
        self.identity = Some(identity);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.taken.0))
            .and_then(|_| file.read_to_end(&mut bytes))
            .map_err(Error::io("read", &self.path))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let first = self.taken.1;
        let texts = bytes[..whole].split_inclusive(|byte| *byte == b'\n').enumerate();
        let lines: Vec<Result<Line>> =
            texts.map(|(index, text)| parse_line(&self.path, first + index + 1, text)).collect();
        self.taken = (self.taken.0 + whole as u64, first + lines.len());
        Ok(News::Lines { is_replaced, lines })
    }
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

/// Elsewhere a replaced file is known by its smaller size alone.
#[cfg(not(unix))]
fn identity(_metadata: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_torn_tail_is_skipped_and_removed_on_open() {
        for (text, mended) in [
            ("{\"step\":1}\n{\"step\":2,\"lo", "{\"step\":1}\n"),
            ("{\"step\":1}\n{\"step\":2}", "{\"step\":1}\n{\"step\":2}\n"),
            ("{\"st", ""),
            ("", ""),
        ] {
            let (_folder, path) = file_with(text);
            let expected = mended.lines().count();
            assert_eq!(read(&path).unwrap().len(), expected, "{text}");
            assert_eq!(Appender::open(&path).unwrap().1.len(), expected, "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), mended, "{text}");
        }
    }

    #[test]
    fn a_bad_line_in_the_middle_is_an_error_with_its_number() {
        let (_folder, path) = file_with("{\"step\":1}\n{\"ste\n{\"step\":3}\n");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("records.jsonl:2: not a JSON object"), "{error}");
        let (_folder, path) = file_with("{\"step\":-1}\n");
        assert!(read(&path).unwrap_err().to_string().contains("`step`"));
    }

    #[test]
    fn a_follower_takes_each_line_once_and_starts_again_with_a_new_file() {
        let (_folder, path) = file_with("{\"step\":1}\n{\"step\":2,\"lo");
        let steps = |news: News| match news {
            News::Missing => panic!("the file is there"),
            News::Lines { is_replaced, lines } => {
                (is_replaced, lines.into_iter().map(|line| line.map(|line| line.step).ok()).collect::<Vec<_>>())
            }
        };
        let mut follower = Follower::new(path.clone());
        assert_eq!(steps(follower.poll().unwrap()), (false, vec![Some(1)]));
        assert_eq!(steps(follower.poll().unwrap()), (false, vec![]));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ss\":0.5}\nbroken\n{\"step\":3}\n").unwrap();
        assert_eq!(steps(follower.poll().unwrap()), (false, vec![Some(2), None, Some(3)]));
        truncate_after(&path, 1).unwrap_err(); // the broken line
        write_atomically(&path, b"{\"step\":1}\n").unwrap();
        assert_eq!(steps(follower.poll().unwrap()), (true, vec![Some(1)]));
        fs::remove_file(&path).unwrap();
        assert!(matches!(follower.poll().unwrap(), News::Missing));
    }

    #[test]
    fn truncating_drops_later_lines_wherever_they_stand() {
        let (_folder, path) = file_with("{\"step\":1}\n{\"step\":3}\n{\"step\":2}\n{\"step\":4,");
        assert_eq!(truncate_after(&path, 2).unwrap(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2}\n");
        assert_eq!(truncate_after(&path, 2).unwrap(), 0);
        assert_eq!(truncate_after(&path.with_file_name("absent"), 2).unwrap(), 0);
    }
}
