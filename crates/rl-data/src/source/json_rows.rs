//! Rows of a `.json` file: the objects of an array, or objects one after another. Memory is one row.
//!
//! JSON Lines have a reader of their own ([`crate::jsonl`]), whose errors count lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::format::open_text;
use crate::error::{Error, Place, Result};
use crate::fields::Fields;

/// Reads the objects of a file one by one.
pub(super) struct JsonRows {
    path: PathBuf,
    reader: BufReader<Box<dyn Read + Send>>,
    state: State,
    row: usize,
    text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    /// Before an object of an array; the second and later follow a comma.
    InArray,
    /// Between objects without an array around them.
    Bare,
    End,
}

impl JsonRows {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let reader = BufReader::with_capacity(1 << 18, open_text(path)?);
        Ok(JsonRows { path: path.to_path_buf(), reader, state: State::Start, row: 0, text: Vec::new() })
    }

    /// The next row and its index from 0; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Fields)>> {
        if !self.find_object()? {
            self.state = State::End;
            return Ok(None);
        }
        self.take_object()?;
        let row = self.row;
        self.row += 1;
        let fields = serde_json::from_slice(&self.text).map_err(|problem| self.bad(row, problem.to_string()))?;
        Ok(Some((row, fields)))
    }

    /// Stops before the next object; false at the end of the rows.
    fn find_object(&mut self) -> Result<bool> {
        if self.state == State::Start {
            self.skip_byte_order_mark()?;
            self.state = match self.peek()? {
                None => return Ok(false),
                Some(b'[') => self.step(State::InArray),
                Some(_) => State::Bare,
            };
            if self.state == State::InArray && self.peek()? == Some(b']') {
                return self.end_of_array();
            }
        } else if self.state == State::InArray {
            match self.peek()? {
                Some(b',') => self.reader.consume(1),
                Some(b']') => return self.end_of_array(),
                found => return Err(self.unexpected("a comma or the end of the array", found)),
            }
        }
        match (self.state, self.peek()?) {
            (State::End, _) | (State::Bare, None) => Ok(false),
            (_, Some(b'{')) => Ok(true),
            (_, found) => Err(self.unexpected("an object with the fields of one row", found)),
        }
    }

    /// Reads the object that begins here into `text`: up to the brace that closes it.
    fn take_object(&mut self) -> Result<()> {
        self.text.clear();
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        loop {
            let buffer = self.reader.fill_buf().map_err(|source| Error::file("read", &self.path, source))?;
            if buffer.is_empty() {
                return Err(self.bad(self.row, "the file ends inside this row".to_owned()));
            }
            let mut end = None;
            for (index, &byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' | b'[' if !in_string => depth += 1,
                    b'}' | b']' if !in_string => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    end = Some(index + 1);
                    break;
                }
            }
            let taken = end.unwrap_or(buffer.len());
            self.text.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(());
            }
        }
    }

    /// The next byte that is no white space; it stays where it is.
    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            let buffer = self.reader.fill_buf().map_err(|source| Error::file("read", &self.path, source))?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let found = buffer.get(blank).copied();
            self.reader.consume(blank);
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn step(&mut self, state: State) -> State {
        self.reader.consume(1);
        state
    }

    fn end_of_array(&mut self) -> Result<bool> {
        self.state = self.step(State::End);
        match self.peek()? {
            None => Ok(false),
            found => Err(self.unexpected("nothing after the array", found)),
        }
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        let buffer = self.reader.fill_buf().map_err(|source| Error::file("read", &self.path, source))?;
        if buffer.starts_with(b"\xef\xbb\xbf") {
            self.reader.consume(3);
        }
        Ok(())
    }

    fn unexpected(&self, expected: &str, found: Option<u8>) -> Error {
        let found = found.map_or("the end of the file".to_owned(), |byte| format!("`{}`", byte.escape_ascii()));
        self.bad(self.row, format!("expected {expected}, found {found}"))
    }

    fn bad(&self, row: usize, problem: String) -> Error {
        Error::BadRow { path: self.path.clone(), place: Place::Row(row), problem }
    }
}
