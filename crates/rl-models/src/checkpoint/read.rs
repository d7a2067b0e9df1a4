//! Reading configurations and tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use rl_torch::{MappedFile, tensor_from_bytes};
use safetensors::Dtype as FileType;
use tch::{Device, Kind, Tensor};

use super::header::{self, Place};
use super::matching::compare;
use super::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};
use crate::config::{Dtype, ModelConfig};
use crate::error::{Error, Result};

/// Reads `config.json` of a checkpoint folder.
///
/// # Errors
/// [`Error::Io`], [`Error::Json`], or [`Error::Config`] inside [`Error::InFile`].
pub fn read_config(folder: &Path) -> Result<ModelConfig> {
    ModelConfig::from_file(&folder.join(CONFIG_FILE))
}

/// Reads all weights of a checkpoint folder, in the types they are stored in, onto `device`.
///
/// # Errors
/// As [`Weights::open`].
pub fn read_tensors(folder: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let weights = Weights::open(folder)?;
    weights.tensors.keys().map(|name| Ok((name.clone(), weights.tensor(name, device)?))).collect()
}

/// Reads every tensor of one safetensors file: for optimizer state and other saved numbers.
///
/// # Errors
/// Names the file when it is missing, truncated or corrupt; [`Error::TensorType`] for types libtorch lacks.
pub fn load_tensors(path: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    tensors_from_bytes(&MappedFile::open(path)?, path, device)
}

/// As [`load_tensors`], from the bytes of a file; `path` stands in messages.
///
/// Whatever the bytes are, no more than a constant times their number is allocated.
///
/// # Errors
/// As [`load_tensors`].
pub fn tensors_from_bytes(bytes: &[u8], path: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    for (name, place) in parse(bytes, path)? {
        let allowed = "F64, F32, F16, BF16, I64, I32, U8 or BOOL";
        let kind = any_kind(place.dtype).ok_or_else(|| type_error(path, &name, &place, allowed))?;
        let data = &bytes[place.range.clone()];
        // A C++ bool that is neither 0 nor 1 is undefined behaviour.
        if kind == Kind::Bool && data.iter().any(|&byte| 1 < byte) {
            let reason = format!("tensor `{name}` holds booleans that are neither 0 nor 1");
            return Err(Error::Safetensors { path: path.to_path_buf(), reason });
        }
        tensors.insert(name, tensor(data, &place.shape, kind, device)?);
    }
    Ok(tensors)
}

/// The weights of a checkpoint folder: names, types and shapes are read, numbers only when asked for.
#[derive(Debug)]
pub struct Weights {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, WeightInfo>,
}

/// Type and shape of a stored tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightInfo {
    /// Its type in the file.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<i64>,
    file: usize,
    range: std::ops::Range<usize>,
}

impl Weights {
    /// Opens `model.safetensors`, or `model.safetensors.index.json` and the shards it names.
    ///
    /// Files are mapped, not read.
    ///
    /// # Errors
    /// Names the file that is missing, truncated or corrupt; [`Error::TensorType`] for anything but f32, f16 and bf16;
    /// [`Error::Checkpoint`] when the index and the shards contradict each other.
    pub fn open(folder: &Path) -> Result<Self> {
        let (weights, index) = (folder.join(WEIGHTS_FILE), folder.join(INDEX_FILE));
        let mut opened = Weights { files: Vec::new(), tensors: BTreeMap::new() };
        match (weights.exists(), index.exists()) {
            (true, _) => opened.add_file(&weights, |_| Ok(()))?,
            (false, true) => opened.add_shards(folder, &index)?,
            (false, false) => {
                return Err(Error::Checkpoint {
                    path: folder.to_path_buf(),
                    reason: format!("holds neither `{WEIGHTS_FILE}` nor `{INDEX_FILE}`; is it a checkpoint folder?"),
                });
            }
        }
        Ok(opened)
    }

    /// Names, types and shapes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &WeightInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// As [`check_tensors`](super::check_tensors), from the names and shapes alone: no numbers are read but those of an output
    /// projection that should be the embedding.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] with every missing, unexpected and misshapen tensor.
    pub fn check(&self, expected: &[(String, Vec<i64>)]) -> Result<()> {
        let shapes = self.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.clone())).collect();
        compare(&shapes, expected, |a, b| {
            let ((a, numbers_a), (b, numbers_b)) = (self.stored(a)?, self.stored(b)?);
            Ok(a.dtype == b.dtype && numbers_a == numbers_b)
        })
    }

    /// A copy of one tensor on `device`, in its stored type.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] when there is no such tensor; libtorch's when the device has no room.
    pub fn tensor(&self, name: &str, device: Device) -> Result<Tensor> {
        let (info, data) = self.stored(name)?;
        tensor(data, &info.shape, info.dtype.kind(), device)
    }

    /// What the file holds of one tensor.
    pub(crate) fn stored(&self, name: &str) -> Result<(&WeightInfo, &[u8])> {
        let info = self.tensors.get(name).ok_or_else(|| {
            let missing = vec![name.to_owned()];
            Error::TensorMismatch(crate::error::TensorMismatch { missing, ..Default::default() })
        })?;
        Ok((info, &self.files[info.file][info.range.clone()]))
    }

    /// Maps a file and adds its tensors, each after `check` has seen its name.
    fn add_file(&mut self, path: &Path, check: impl Fn(&str) -> Result<()>) -> Result<()> {
        let map = MappedFile::open(path)?;
        for (name, place) in parse(&map, path)? {
            check(&name)?;
            let dtype = float_type(place.dtype);
            let dtype = dtype.ok_or_else(|| type_error(path, &name, &place, "F32, F16 or BF16"))?;
            let Place { shape, range, .. } = place;
            self.tensors.insert(name, WeightInfo { dtype, shape, file: self.files.len(), range });
        }
        self.files.push(map);
        Ok(())
    }

    fn add_shards(&mut self, folder: &Path, index_path: &Path) -> Result<()> {
        let text = std::fs::read(index_path).map_err(Error::io("read", index_path))?;
        let index: ShardIndex =
            serde_json::from_slice(&text).map_err(|source| Error::Json { path: index_path.to_path_buf(), source })?;
        let contradiction = |reason| Error::Checkpoint { path: index_path.to_path_buf(), reason };
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        let missing: Vec<&str> = shards.iter().map(|s| s.as_str()).filter(|s| !folder.join(s).exists()).collect();
        for shard in shards {
            // A name with a folder in it could reach files outside the checkpoint.
            let mut parts = Path::new(shard).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(contradiction(format!("shard `{shard}` is not the name of a file in this folder")));
            }
            if !missing.is_empty() {
                let reason = format!("names files that are not there: {}; download them", missing.join(", "));
                return Err(contradiction(reason));
            }
            self.add_file(&folder.join(shard), |name| {
                if index.weight_map.get(name) == Some(shard) {
                    return Ok(());
                }
                Err(contradiction(format!("`{shard}` holds tensor `{name}`, which the index places elsewhere")))
            })?;
        }
        match index.weight_map.iter().find(|(name, _)| !self.tensors.contains_key(*name)) {
            Some((name, shard)) => Err(contradiction(format!("tensor `{name}` is not in `{shard}`"))),
            None => Ok(()),
        }
    }
}

#[derive(serde::Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

fn parse(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Place>> {
    header::parse(bytes).map_err(|reason| Error::Safetensors { path: path.to_path_buf(), reason })
}

/// `data` has been checked against `shape` by [`header::parse`].
fn tensor(data: &[u8], shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
    Ok(tensor_from_bytes(data, shape, kind, device)?)
}

fn type_error(path: &Path, name: &str, place: &Place, allowed: &'static str) -> Error {
    let (path, dtype): (PathBuf, _) = (path.to_path_buf(), place.dtype.to_string());
    Error::TensorType { path, tensor: name.to_owned(), dtype, allowed }
}

pub(super) fn float_type(dtype: FileType) -> Option<Dtype> {
    match dtype {
        FileType::F32 => Some(Dtype::Float32),
        FileType::F16 => Some(Dtype::Float16),
        FileType::BF16 => Some(Dtype::BFloat16),
        _ => None,
    }
}

fn any_kind(dtype: FileType) -> Option<Kind> {
    match dtype {
        FileType::F64 => Some(Kind::Double),
        FileType::I64 => Some(Kind::Int64),
        FileType::I32 => Some(Kind::Int),
        FileType::U8 => Some(Kind::Uint8),
        FileType::BOOL => Some(Kind::Bool),
        other => float_type(other).map(Dtype::kind),
    }
}
