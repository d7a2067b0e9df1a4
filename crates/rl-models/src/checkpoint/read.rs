//! Reading configurations and tensors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use super::{CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE};
use crate::config::ModelConfig;
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
/// The folder holds `model.safetensors`, or `model.safetensors.index.json` and the shards it names. Files are mapped,
/// not read: one copy of each tensor is made.
///
/// # Errors
/// Names the file that is missing, truncated or corrupt; [`Error::TensorType`] for anything but f32, f16 and bf16;
/// [`Error::Checkpoint`] when the index and the shards contradict each other.
pub fn read_tensors(folder: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let weights = folder.join(WEIGHTS_FILE);
    let index = folder.join(INDEX_FILE);
    match (weights.exists(), index.exists()) {
        (true, _) => read_file(&weights, device, float_kind, "F32, F16 or BF16"),
        (false, true) => read_shards(folder, &index, device),
        (false, false) => Err(Error::Checkpoint {
            path: folder.to_path_buf(),
            reason: format!("holds neither `{WEIGHTS_FILE}` nor `{INDEX_FILE}`; is it a checkpoint folder?"),
        }),
    }
}

/// Reads every tensor of one safetensors file: for optimizer state and other saved numbers.
///
/// # Errors
/// Names the file when it is missing, truncated or corrupt; [`Error::TensorType`] for types libtorch lacks.
pub fn load_tensors(path: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    read_file(path, device, any_kind, "F64, F32, F16, BF16, I64, I32, U8 or BOOL")
}

#[derive(serde::Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

fn read_shards(folder: &Path, index_path: &Path, device: Device) -> Result<BTreeMap<String, Tensor>> {
    let text = std::fs::read(index_path).map_err(Error::io("read", index_path))?;
    let index: ShardIndex =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: index_path.to_path_buf(), source })?;
    let contradiction = |reason| Error::Checkpoint { path: index_path.to_path_buf(), reason };
    let shards: BTreeSet<&String> = index.weight_map.values().collect();
    let mut tensors = BTreeMap::new();
    for shard in shards {
        // A name with a folder in it could reach files outside the checkpoint.
        let mut parts = Path::new(shard).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(contradiction(format!("shard `{shard}` is not the name of a file in this folder")));
        }
        for (name, tensor) in read_file(&folder.join(shard), device, float_kind, "F32, F16 or BF16")? {
            if index.weight_map.get(&name) != Some(shard) {
                return Err(contradiction(format!(
                    "`{shard}` holds tensor `{name}`, which the index places elsewhere"
                )));
            }
            tensors.insert(name, tensor);
        }
    }
    match index.weight_map.iter().find(|(name, _)| !tensors.contains_key(*name)) {
        Some((name, shard)) => Err(contradiction(format!("tensor `{name}` is not in `{shard}`"))),
        None => Ok(tensors),
    }
}

fn read_file(
    path: &Path,
    device: Device,
    kind_of: fn(Dtype) -> Option<Kind>,
    allowed: &'static str,
) -> Result<BTreeMap<String, Tensor>> {
    let map = rl_torch::MappedFile::open(path)?;
    let file =
        SafeTensors::deserialize(&map).map_err(|source| Error::Safetensors { path: path.to_path_buf(), source })?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = kind_of(view.dtype()).ok_or_else(|| Error::TensorType {
            path: path.to_path_buf(),
            tensor: name.clone(),
            dtype: view.dtype().to_string(),
            allowed,
        })?;
        let shape = dimensions(view.shape()).map_err(|error| error.in_file(path))?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_device(device)?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

fn dimensions(shape: &[usize]) -> Result<Vec<i64>> {
    let too_large = |_| Error::Argument {
        name: "shape",
        value: format!("{shape:?}"),
        reason: "a dimension does not fit in 63 bits".to_owned(),
    };
    shape.iter().map(|&d| i64::try_from(d).map_err(too_large)).collect()
}

fn float_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

fn any_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::I32 => Some(Kind::Int),
        Dtype::U8 => Some(Kind::Uint8),
        Dtype::BOOL => Some(Kind::Bool),
        other => float_kind(other),
    }
}
