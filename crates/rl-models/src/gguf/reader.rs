//! Parsing a GGUF file. Every count, length and offset is checked against the bytes that are there, so whatever the
//! bytes are, no more than a constant times their number is allocated.

use std::collections::{BTreeMap, BTreeSet};

use super::architecture::Architecture;
use super::dequantise::{TensorType, dequantise_into};
use super::metadata::{Metadata, MetadataValue};
use super::tokenizer::tokenizer_files;
use crate::checkpoint::SideFiles;
use crate::config::ModelConfig;
use crate::error::{Error, Result};

/// A parsed GGUF file over borrowed bytes: metadata and tensor places are read, tensor data is not touched.
#[derive(Debug)]
pub struct Gguf<'a> {
    /// 2 or 3.
    pub version: u32,
    /// The key-value pairs.
    pub metadata: Metadata,
    /// The tensors, in file order.
    pub tensors: Vec<TensorInfo>,
    bytes: &'a [u8],
}

/// Where a tensor lies and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The file's name for it, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Shape with the slowest dimension first (the file has it last), `[out, in]` for a projection.
    pub shape: Vec<i64>,
    /// Storage type.
    pub tensor_type: TensorType,
    /// First byte, from the start of the file.
    pub offset: usize,
    /// Bytes of data.
    pub num_bytes: usize,
}

impl TensorInfo {
    /// Numbers in the tensor.
    pub fn num_elements(&self) -> usize {
        self.shape.iter().product::<i64>() as usize // checked against the file size when parsed
    }
}

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 16;
const MAX_DIMENSIONS: u32 = 4;
/// Longest array kept: the largest vocabularies have 2^18 entries.
const MAX_ARRAY: u64 = 1 << 24;
/// Arrays of arrays deeper than this are hostile.
const MAX_NESTING: u32 = 3;

impl<'a> Gguf<'a> {
    /// Parses the head of a file and checks that every tensor lies inside it.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the byte at which a value cannot be used: wrong magic or version, truncated data, counts
    /// that the file cannot hold, names or keys given twice, unknown types, tensors outside the file or on each other.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor { bytes, position: 0 };
        if cursor.take(4)? != MAGIC {
            return Err(gguf_error(0, "does not begin with `GGUF`; this is another kind of file".to_owned()));
        }
        let version = cursor.u32()?;
        if version & 0xffff == 0 {
            return Err(gguf_error(4, "the file is big-endian; convert it to little-endian".to_owned()));
        }
        if !(2..=3).contains(&version) {
            return Err(gguf_error(4, format!("version {version} is not supported; 2 and 3 are")));
        }
        // A tensor entry has a name length, a dimension count, a type and an offset at least; a pair, a key length, a
        // type and one byte.
        let num_tensors = cursor.count("tensors", 8 + 4 + 4 + 8)?;
        let num_pairs = cursor.count("metadata pairs", 8 + 4 + 1)?;
        let metadata = cursor.metadata(num_pairs)?;
        let alignment = alignment(&metadata)?;
        let mut entries = Vec::with_capacity(num_tensors as usize); // no more than fit in the file
        for _ in 0..num_tensors {
            entries.push(cursor.tensor_entry()?);
        }
        let data_start = (cursor.position as u64).next_multiple_of(alignment);
        let mut names = BTreeSet::new();
        for entry in &entries {
            if !names.insert(&entry.name) {
                return Err(gguf_error(entry.position, format!("tensor `{}` is listed twice", entry.name)));
            }
        }
        let mut tensors = Vec::with_capacity(entries.len());
        for entry in &entries {
            tensors.push(entry.place(data_start, alignment, bytes.len())?);
        }
        refuse_overlaps(&tensors)?;
        Ok(Gguf { version, metadata, tensors, bytes })
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The configuration that the metadata describes, with f32 as the type of the weights.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when a key is missing or describes a model that is not supported.
    pub fn config(&self) -> Result<ModelConfig> {
        Architecture::of(&self.metadata)?.config(self)
    }

    /// Tokenizer, chat template and generation defaults as the files of a checkpoint.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the vocabulary is incomplete, contradicts itself, or is of a kind that is not supported.
    pub fn side_files(&self, max_length: i64) -> Result<SideFiles> {
        Ok(tokenizer_files(&self.metadata, max_length)?.side_files)
    }

    /// The numbers of a tensor of this file as f32, row-major over `info.shape`.
    ///
    /// # Errors
    /// [`Error::Gguf`] when `info` does not belong to this file.
    pub fn read(&self, info: &TensorInfo) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        self.read_into(info, &mut out)?;
        Ok(out)
    }

    /// As [`Gguf::read`], in place of what `out` holds.
    ///
    /// # Errors
    /// As [`Gguf::read`].
    pub fn read_into(&self, info: &TensorInfo, out: &mut Vec<f32>) -> Result<()> {
        let end = info.offset.checked_add(info.num_bytes);
        let data = end.and_then(|end| self.bytes.get(info.offset..end));
        let data = data.ok_or_else(|| outside(info.offset as u64, &info.name, self.bytes.len()))?;
        dequantise_into(info.tensor_type, data, out)
    }
}

/// Tensors that share bytes would make a small file a large checkpoint.
fn refuse_overlaps(tensors: &[TensorInfo]) -> Result<()> {
    let mut in_order: Vec<&TensorInfo> = tensors.iter().collect();
    in_order.sort_by_key(|tensor| tensor.offset);
    for pair in in_order.windows(2) {
        if pair[1].offset < pair[0].offset + pair[0].num_bytes {
            let reason = format!("tensors `{}` and `{}` share bytes", pair[0].name, pair[1].name);
            return Err(gguf_error(pair[1].offset as u64, reason));
        }
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Result<u64> {
    let key = "general.alignment";
    let alignment = match metadata.integer(key)? {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(value) => value,
    };
    let usable = u64::try_from(alignment).ok().filter(|a| a.is_power_of_two() && *a <= MAX_ALIGNMENT);
    usable.ok_or_else(|| Error::GgufKey {
        key: key.to_owned(),
        reason: format!("is {alignment}, must be a power of two up to {MAX_ALIGNMENT}"),
    })
}

/// A line of the tensor list, before its place in the file is checked.
struct TensorEntry {
    position: u64,
    name: String,
    shape: Vec<i64>,
    type_id: u32,
    /// From the start of the data section.
    offset: u64,
}

impl TensorEntry {
    fn place(&self, data_start: u64, alignment: u64, file_len: usize) -> Result<TensorInfo> {
        let error = |reason| Err(gguf_error(self.position, format!("tensor `{}` {reason}", self.name)));
        let Some(tensor_type) = TensorType::from_id(self.type_id) else {
            return error(format!("has type {}; {} can be read", self.type_id, TensorType::SUPPORTED));
        };
        let Some(&row) = self.shape.last() else {
            return error("has no dimensions".to_owned());
        };
        let (block_len, block_bytes) = (tensor_type.block_len() as i64, tensor_type.block_bytes() as i64);
        if row % block_len != 0 {
            return error(format!("has rows of {row} numbers, not a multiple of {tensor_type}'s block of {block_len}"));
        }
        if !self.offset.is_multiple_of(alignment) {
            return error(format!("begins at {}, not a multiple of the alignment {alignment}", self.offset));
        }
        let elements = self.shape.iter().try_fold(1i64, |product, &d| product.checked_mul(d));
        let num_bytes = elements.and_then(|n| (n / block_len).checked_mul(block_bytes));
        let start = data_start.checked_add(self.offset);
        let end = start.zip(num_bytes).and_then(|(start, n)| start.checked_add(n as u64));
        match (start, num_bytes, end) {
            (Some(start), Some(num_bytes), Some(end)) if end <= file_len as u64 => Ok(TensorInfo {
                name: self.name.clone(),
                shape: self.shape.clone(),
                tensor_type,
                offset: start as usize,
                num_bytes: num_bytes as usize,
            }),
            _ => Err(outside(self.position, &self.name, file_len)),
        }
    }
}

fn outside(position: u64, name: &str, file_len: usize) -> Error {
    let reason = format!("tensor `{name}` lies outside the file of {file_len} bytes; the file may be truncated");
    gguf_error(position, reason)
}

fn gguf_error(offset: u64, reason: String) -> Error {
    Error::Gguf { offset, reason }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, reason: String) -> Error {
        gguf_error(self.position as u64, reason)
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if self.remaining() < len {
            let reason = format!("{len} bytes wanted, {} left; the file may be truncated", self.remaining());
            return Err(self.error(reason));
        }
        let taken = &self.bytes[self.position..self.position + len];
        self.position += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A count of things that take at least `min_bytes` each: refused when the rest of the file cannot hold them.
    fn count(&mut self, what: &str, min_bytes: usize) -> Result<u64> {
        let at = self.position;
        let count = self.u64()?;
        let limit = (self.remaining() / min_bytes) as u64;
        if limit < count {
            return Err(gguf_error(at as u64, format!("{count} {what} announced, at most {limit} fit in the file")));
        }
        Ok(count)
    }

    fn string(&mut self) -> Result<String> {
        let len = self.count("bytes of text", 1)? as usize;
        let at = self.position;
        let text = std::str::from_utf8(self.take(len)?);
        text.map(str::to_owned).map_err(|e| gguf_error(at as u64, format!("text is not UTF-8: {e}")))
    }

    fn metadata(&mut self, num_pairs: u64) -> Result<Metadata> {
        let mut values = BTreeMap::new();
        for _ in 0..num_pairs {
            let at = self.position as u64;
            let key = self.string()?;
            let type_id = self.u32()?;
            let value = self.value(type_id, 0)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(gguf_error(at, format!("key `{key}` is given twice")));
            }
        }
        Ok(Metadata { values })
    }

    fn value(&mut self, type_id: u32, nesting: u32) -> Result<MetadataValue> {
        Ok(match type_id {
            0 => MetadataValue::Unsigned(u64::from(self.array::<1>()?[0])),
            1 => MetadataValue::Signed(i64::from(i8::from_le_bytes(self.array()?))),
            2 => MetadataValue::Unsigned(u64::from(u16::from_le_bytes(self.array()?))),
            3 => MetadataValue::Signed(i64::from(i16::from_le_bytes(self.array()?))),
            4 => MetadataValue::Unsigned(u64::from(self.u32()?)),
            5 => MetadataValue::Signed(i64::from(i32::from_le_bytes(self.array()?))),
            6 => MetadataValue::Float32(f32::from_le_bytes(self.array()?)),
            7 => match self.array::<1>()?[0] {
                0 => MetadataValue::Bool(false),
                1 => MetadataValue::Bool(true),
                other => return Err(self.error(format!("a boolean is {other}, must be 0 or 1"))),
            },
            8 => MetadataValue::String(self.string()?),
            9 => self.value_array(nesting)?,
            10 => MetadataValue::Unsigned(self.u64()?),
            11 => MetadataValue::Signed(i64::from_le_bytes(self.array()?)),
            12 => MetadataValue::Float64(f64::from_le_bytes(self.array()?)),
            other => return Err(self.error(format!("metadata type {other} is not known"))),
        })
    }

    fn value_array(&mut self, nesting: u32) -> Result<MetadataValue> {
        if MAX_NESTING <= nesting {
            return Err(self.error(format!("arrays are nested more than {MAX_NESTING} deep")));
        }
        let type_id = self.u32()?;
        let min_bytes = match type_id {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => 4 + 8,
            other => return Err(self.error(format!("metadata type {other} is not known"))),
        };
        let count = self.count("array entries", min_bytes)?;
        if MAX_ARRAY < count {
            return Err(self.error(format!("an array of {count} entries is longer than the limit of {MAX_ARRAY}")));
        }
        let mut values = Vec::with_capacity(count as usize); // no more than fit in the file
        for _ in 0..count {
            values.push(self.value(type_id, nesting + 1)?);
        }
        Ok(MetadataValue::Array(values))
    }

    fn tensor_entry(&mut self) -> Result<TensorEntry> {
        let position = self.position as u64;
        let name = self.string()?;
        let num_dimensions = self.u32()?;
        if !(1..=MAX_DIMENSIONS).contains(&num_dimensions) {
            let reason = format!("tensor `{name}` has {num_dimensions} dimensions, must have 1 to {MAX_DIMENSIONS}");
            return Err(gguf_error(position, reason));
        }
        let mut shape = Vec::new();
        for _ in 0..num_dimensions {
            let size = self.u64()?;
            let size = i64::try_from(size).ok().filter(|&d| 0 < d);
            shape.push(size.ok_or_else(|| gguf_error(position, format!("tensor `{name}` has an unusable dimension")))?);
        }
        shape.reverse();
        Ok(TensorEntry { position, name, shape, type_id: self.u32()?, offset: self.u64()? })
    }
}
