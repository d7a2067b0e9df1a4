//! Writing safetensors files, one tensor in memory at a time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Kind, Tensor};

use super::encode::encode_tensor;
use crate::config;
use crate::error::{Error, Result};

/// Writes tensors to one safetensors file with the metadata `{"format": "pt"}` that transformers asks for.
///
/// Each tensor keeps its type (f64, f32, f16, bf16, i64, i32, u8 or bool) and is copied to the host by itself; tensors
/// need not be contiguous. The file is synced and takes its name only when complete.
///
/// # Errors
/// [`Error::Argument`] for a type that safetensors lacks or a name given twice; [`Error::Io`] with the path.
pub fn save_tensors(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let entries = tensors.iter().map(|(name, tensor)| Entry::of(name, tensor, None)).collect::<Result<Vec<_>>>()?;
    write_entries(path, &entries, |index, bytes| encode_tensor(tensors[index].0, tensors[index].1, None, bytes))
}

/// Name, type and shape of one tensor in a file to be written.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

/// Writes a safetensors file whose tensors `fill` produces one by one, in the order of `entries`.
///
/// `fill(index, bytes)` replaces the contents of `bytes` by the little-endian data of `entries[index]`.
pub(crate) fn write_entries(
    path: &Path,
    entries: &[Entry],
    mut fill: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let header = header(path, entries)?;
    let partial = partial_name(path);
    let mut write = || -> Result<()> {
        let write_error = || Error::io("write", &partial);
        let file = File::create(&partial).map_err(write_error())?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(write_error())?;
        writer.write_all(&header).map_err(write_error())?;
        let mut bytes = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            bytes.clear();
            fill(index, &mut bytes)?;
            if bytes.len() != entry.num_bytes() {
                return Err(Error::Checkpoint {
                    path: path.to_path_buf(),
                    reason: format!("`{}` produced {} bytes of {}", entry.name, bytes.len(), entry.num_bytes()),
                });
            }
            writer.write_all(&bytes).map_err(write_error())?;
        }
        let file = writer.into_inner().map_err(|e| write_error()(e.into_error()))?;
        file.sync_all().map_err(write_error())?;
        std::fs::rename(&partial, path).map_err(Error::io("rename", &partial))
    };
    let written = write();
    if written.is_err() {
        // The first error is the one to report; a leftover partial file is harmless.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

impl Entry {
    /// A float tensor of a checkpoint.
    pub(crate) fn new(name: &str, dtype: config::Dtype, shape: &[i64]) -> Self {
        let dtype = match dtype {
            config::Dtype::Float32 => Dtype::F32,
            config::Dtype::Float16 => Dtype::F16,
            config::Dtype::BFloat16 => Dtype::BF16,
        };
        Entry { name: name.to_owned(), dtype, shape: sizes(shape) }
    }

    /// A tensor stored as `dtype`, or in its own type where that is none.
    pub(crate) fn of(name: &str, tensor: &Tensor, dtype: Option<config::Dtype>) -> Result<Self> {
        if let Some(dtype) = dtype {
            return Ok(Entry::new(name, dtype, &tensor.size()));
        }
        let kind = tensor.f_kind()?;
        let dtype = file_type(kind).ok_or_else(|| Error::Argument {
            name: "tensors",
            value: format!("{name} of type {kind:?}"),
            reason: "this type cannot be saved".to_owned(),
        })?;
        Ok(Entry { name: name.to_owned(), dtype, shape: sizes(&tensor.size()) })
    }

    pub(crate) fn num_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

fn header(path: &Path, entries: &[Entry]) -> Result<Vec<u8>> {
    let mut names = std::collections::HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !names.insert(&entry.name)) {
        let reason = "a file holds each name once".to_owned();
        return Err(Error::Argument { name: "tensors", value: format!("{} given twice", twice.name), reason });
    }
    let mut offset = 0;
    let infos = entries.iter().map(|entry| {
        let start = offset;
        offset += entry.num_bytes();
        let info = TensorInfo { dtype: entry.dtype, shape: entry.shape.clone(), data_offsets: (start, offset) };
        (entry.name.clone(), info)
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect());
    let metadata = metadata.map_err(|error| Error::Checkpoint {
        path: path.to_path_buf(),
        reason: format!("cannot be written: {error}"),
    })?;
    let mut header =
        serde_json::to_vec(&metadata).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
    // Readers map the data as it lies, so it begins at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// Sizes as the file counts them; never negative in libtorch.
fn sizes(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&d| d as usize).collect()
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".partial-{}", std::process::id()));
    path.with_file_name(name)
}

fn file_type(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Double => Some(Dtype::F64),
        Kind::Float => Some(Dtype::F32),
        Kind::Half => Some(Dtype::F16),
        Kind::BFloat16 => Some(Dtype::BF16),
        Kind::Int64 => Some(Dtype::I64),
        Kind::Int => Some(Dtype::I32),
        Kind::Uint8 => Some(Dtype::U8),
        Kind::Bool => Some(Dtype::BOOL),
        _ => None,
    }
}
