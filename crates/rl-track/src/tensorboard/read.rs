//! Reading event files, also those of other writers and of runs that are still going.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::tensorboard::masked_crc32c;

const HEADER_BYTES: usize = 12;
const FOOTER_BYTES: usize = 4;
const SESSION_START: u64 = 1;
const DT_FLOAT: u64 = 1;
const DT_DOUBLE: u64 = 2;

/// One scalar as it stands in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Name of the curve.
    pub tag: String,
    /// Position on it.
    pub point: Point,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Optimizer step.
    pub step: i64,
    /// Seconds since 1970.
    pub wall_time: f64,
    /// May be NaN or infinite.
    pub value: f64,
}

/// All scalars of one file, in file order.
///
/// Accepts `simple_value` and scalar float or double tensors; skips everything else. An unfinished last record ends
/// the reading; a checksum that does not match is an error with its byte offset.
pub fn read_file(path: &Path) -> Result<Vec<Scalar>> {
    let scalars = read_events(path)?.entries.into_iter().filter_map(|entry| match entry {
        Entry::Scalar(scalar) => Some(scalar),
        Entry::Restart { .. } => None,
    });
    Ok(scalars.collect())
}

/// All curves of the event files in a folder, by tag, with rising steps.
///
/// Files are taken in the order of the time in their names, then of their first event. A restart mark drops the points from its step on that were
/// read before it; of several values at one step the last one wins.
pub fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<Point>>> {
    let mut curves: BTreeMap<String, BTreeMap<i64, Point>> = BTreeMap::new();
    for entry in event_files(folder)?.into_iter().flat_map(|events| events.entries) {
        match entry {
            Entry::Restart { step } => curves.values_mut().for_each(|points| {
                points.split_off(&step);
            }),
            Entry::Scalar(Scalar { tag, point }) => {
                curves.entry(tag).or_default().insert(point.step, point);
            }
        }
    }
    curves.retain(|_, points| !points.is_empty());
    Ok(curves.into_iter().map(|(tag, points)| (tag, points.into_values().collect())).collect())
}

enum Entry {
    Scalar(Scalar),
    Restart { step: i64 },
}

/// What one file holds.
#[derive(Default)]
struct Events {
    /// Time of the first event; two files of the same second differ in it.
    first_wall_time: f64,
    entries: Vec<Entry>,
}

fn event_files(folder: &Path) -> Result<Vec<Events>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some((_, rest)) = name.split_once("tfevents.") {
            let seconds: u64 = rest.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
            files.push((seconds, name, read_events(&path)?));
        }
    }
    files.sort_by(|(seconds, name, events), (other_seconds, other_name, other)| {
        let by_time = events.first_wall_time.total_cmp(&other.first_wall_time);
        seconds.cmp(other_seconds).then(by_time).then_with(|| name.cmp(other_name))
    });
    Ok(files.into_iter().map(|(_, _, events)| events).collect())
}

fn read_events(path: &Path) -> Result<Events> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut events = Events::default();
    let mut offset = 0;
    while let Some((header, rest)) = bytes[offset..].split_at_checked(HEADER_BYTES) {
        let bad = |message| Error::Event { path: path.to_path_buf(), offset: offset as u64, message };
        let (length, length_crc) = header.split_at(8);
        if masked_crc32c(length) != little_endian(length_crc) as u32 {
            return Err(bad("the checksum of its length does not match; the file is damaged"));
        }
        // A length that reaches beyond the end belongs to a record that is still being written.
        let Ok(length) = usize::try_from(little_endian(length)) else { break };
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        let Some((payload_crc, _)) = rest.split_at_checked(FOOTER_BYTES) else { break };
        if masked_crc32c(payload) != little_endian(payload_crc) as u32 {
            return Err(bad("the checksum of its content does not match; the file is damaged"));
        }
        let wall_time = parse_event(payload, &mut events.entries);
        let wall_time = wall_time.ok_or_else(|| bad("its content is not an event message"))?;
        if offset == 0 {
            events.first_wall_time = wall_time;
        }
        offset += HEADER_BYTES + length + FOOTER_BYTES;
    }
    Ok(events)
}

/// Appends what an `Event` holds and returns its time; `None` if it is not valid protobuf.
fn parse_event(payload: &[u8], entries: &mut Vec<Entry>) -> Option<f64> {
    let (mut wall_time, mut step) = (0.0, 0);
    let (mut summary, mut session) = (None, None);
    for field in Fields(payload) {
        match field? {
            (1, Wire::Fixed64(bits)) => wall_time = f64::from_bits(bits),
            (2, Wire::Varint(value)) => step = value as i64, // int64 on the wire
            (5, Wire::Bytes(bytes)) => summary = Some(bytes),
            (7, Wire::Bytes(bytes)) => session = Some(bytes),
            _ => {}
        }
    }
    for field in Fields(session.unwrap_or_default()) {
        if let (1, Wire::Varint(SESSION_START)) = field? {
            entries.push(Entry::Restart { step });
        }
    }
    for field in Fields(summary.unwrap_or_default()) {
        if let (1, Wire::Bytes(bytes)) = field?
            && let Some((tag, value)) = parse_value(bytes)?
        {
            entries.push(Entry::Scalar(Scalar { tag, point: Point { step, wall_time, value } }));
        }
    }
    Some(wall_time)
}

/// Tag and number of a `Summary.Value`; the inner `None` if it is not a scalar.
fn parse_value(bytes: &[u8]) -> Option<Option<(String, f64)>> {
    let (mut tag, mut value) = (String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(name)) => tag = String::from_utf8_lossy(name).into_owned(),
            (2, Wire::Fixed32(bits)) => value = Some(f64::from(f32::from_bits(bits))),
            (8, Wire::Bytes(tensor)) => value = parse_tensor(tensor)?,
            _ => {}
        }
    }
    Some(value.map(|value| (tag, value)))
}

/// The number in a `TensorProto` with one float or double element; the inner `None` for any other tensor.
fn parse_tensor(bytes: &[u8]) -> Option<Option<f64>> {
    let mut kind = 0;
    let mut values: Vec<f64> = Vec::new();
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(value)) => kind = value,
            (4, Wire::Bytes(content)) if kind == DT_FLOAT => values.extend(floats(content)),
            (4, Wire::Bytes(content)) if kind == DT_DOUBLE => values.extend(doubles(content)),
            (5, Wire::Bytes(packed)) => values.extend(floats(packed)),
            (5, Wire::Fixed32(bits)) => values.push(f64::from(f32::from_bits(bits))),
            (6, Wire::Bytes(packed)) => values.extend(doubles(packed)),
            (6, Wire::Fixed64(bits)) => values.push(f64::from_bits(bits)),
            // A large tensor may repeat its last value to fill the shape, so the shape decides.
            (2, Wire::Bytes(shape)) if num_elements(shape)? != 1 => return Some(None),
            _ => {}
        }
    }
    Some(if values.len() == 1 { values.pop() } else { None })
}

/// Product of the sizes in a `TensorShapeProto { 2: [Dim { 1: size }] }`.
fn num_elements(shape: &[u8]) -> Option<u64> {
    let mut product: u64 = 1;
    for field in Fields(shape) {
        if let (2, Wire::Bytes(dim)) = field? {
            let mut size = 0;
            for field in Fields(dim) {
                if let (1, Wire::Varint(value)) = field? {
                    size = value;
                }
            }
            product = product.saturating_mul(size);
        }
    }
    Some(product)
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(4).map(|four| f64::from(f32::from_bits(little_endian(four) as u32)))
}

fn doubles(bytes: &[u8]) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(8).map(|eight| f64::from_bits(little_endian(eight)))
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a protobuf message; yields `None` and ends where the bytes are not valid.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(little_endian(self.take(8)?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(little_endian(self.take(4)?) as u32),
            _ => return None,
        };
        Some((key >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}
