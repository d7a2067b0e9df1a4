//! JSON Lines: one record a line, read as a stream, written all or nothing.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Split, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::source::format::open_text;

const READ_BYTES: usize = 1 << 18;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads records one by one; memory is one line.
///
/// Lines of white space are skipped; a byte order mark before the first line too. A file that ends in `.gz` or `.zst` is
/// unpacked on the way. Errors name the file and the line.
pub struct JsonlReader<T> {
    path: PathBuf,
    lines: Split<BufReader<Box<dyn Read + Send>>>,
    line: usize,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonlReader<T> {
    /// Opens a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let lines = BufReader::with_capacity(READ_BYTES, open_text(&path)?).split(b'\n');
        Ok(JsonlReader { path, lines, line: 0, record: PhantomData })
    }

    /// Number of the line that was read last, from 1.
    pub fn line(&self) -> usize {
        self.line
    }
}

impl<T: DeserializeOwned> Iterator for JsonlReader<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Bytes, not text: the JSON parser reports broken UTF-8 with its column.
            let text = match self.lines.next()? {
                Ok(text) => text,
                Err(source) => return Some(Err(Error::file("read", &self.path, source))),
            };
            self.line += 1;
            let mut text = text.as_slice();
            if self.line == 1 {
                text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            }
            if text.trim_ascii().is_empty() {
                continue;
            }
            let (path, line) = (&self.path, self.line);
            let bad = |source| Error::Line { path: path.clone(), line, source };
            return Some(serde_json::from_slice(text).map_err(bad));
        }
    }
}

/// All records of a file; the first bad line is an error that names file and line.
pub fn read_jsonl<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<Vec<T>> {
    JsonlReader::open(path)?.collect()
}

/// Writes one record a line to a temporary file beside `path`, syncs it and renames it over `path`.
///
/// A reader sees the old file or the whole new one. Returns the number of records.
pub fn write_jsonl<T: Serialize>(path: impl AsRef<Path>, records: impl IntoIterator<Item = T>) -> Result<usize> {
    try_write_jsonl(path, records.into_iter().map(Ok))
}

/// [`write_jsonl`] of records that may fail to come; the first error is returned and nothing is written.
pub fn try_write_jsonl<T: Serialize>(
    path: impl AsRef<Path>,
    records: impl IntoIterator<Item = Result<T>>,
) -> Result<usize> {
    let path = path.as_ref();
    write_atomic(path, |out| {
        let mut count = 0;
        for record in records {
            serde_json::to_writer(&mut *out, &record?)
                .map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
            out.write_all(b"\n").map_err(|source| Error::file("write", path, source))?;
            count += 1;
        }
        Ok(count)
    })
}

/// Runs `write` on a temporary file and renames it over `path` only when everything went well.
pub(crate) fn write_atomic<R>(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<R>) -> Result<R> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(name);
    let written = write_and_sync(&partial, write)
        .and_then(|value| fs::rename(&partial, path).map(|()| value).map_err(|e| Error::file("rename to", path, e)));
    if written.is_err() {
        // The first error is the one to report; a left-over partial file is harmless.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn write_and_sync<R>(partial: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<R>) -> Result<R> {
    let file = File::create(partial).map_err(|source| Error::file("create", partial, source))?;
    let mut out = BufWriter::new(file);
    let value = write(&mut out)?;
    let file = out.into_inner().map_err(|error| Error::file("write", partial, error.into_error()))?;
    file.sync_all().map_err(|source| Error::file("sync", partial, source))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ChatRecord, Message};

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let records: Vec<ChatRecord> =
            ["x\ny", "ü\u{2028}\"", ""].map(|text| ChatRecord::new(vec![Message::user(text)])).into();
        assert_eq!(write_jsonl(&path, &records).unwrap(), 3);
        assert_eq!(fs::read_to_string(&path).unwrap().matches('\n').count(), 3);
        assert_eq!(read_jsonl::<ChatRecord>(&path).unwrap(), records);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bad_line_is_named_and_blank_lines_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.jsonl");
        fs::write(&path, "{\"messages\":[]}\n\n{\"messages\":3}\n").unwrap();
        let error = read_jsonl::<ChatRecord>(&path).unwrap_err();
        assert!(matches!(error, Error::Line { line: 3, .. }), "{error}");
        assert!(error.to_string().contains("bad.jsonl"), "{error}");
        fs::write(&path, b"{\"messages\":[]}\r\n{\"messages\":[],\"x\":\"\xff\"}\n").unwrap();
        assert!(matches!(read_jsonl::<ChatRecord>(&path).unwrap_err(), Error::Line { line: 2, .. }));
        assert!(matches!(read_jsonl::<ChatRecord>("/no/such/file").unwrap_err(), Error::File { action: "open", .. }));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        write_jsonl(&path, [1]).unwrap();
        // A map with keys that are not strings has no JSON form.
        let bad = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(write_jsonl(&path, [bad]).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
