//! From one checkpoint folder to another: other types, other shards, the same model.

use std::path::Path;

use super::encode::encode_tensor;
use super::folder::{publish, write_files};
use super::matching::{compare, same};
use super::write::Entry;
use super::{SaveOptions, SavedWeights, SideFiles, Weights, read_config};
use crate::error::Result;
use tch::Device;

/// Writes the checkpoint of `source` again as a new folder, stored as `options` say.
///
/// The tensors must be those of `config.json`; one is in memory at a time. The output projection of a model with tied
/// embeddings is not written. `folder` appears under its name only when complete.
///
/// # Errors
/// As [`Weights::open`] and [`super::save_folder`]; [`crate::Error::Overflow`] when a number does not fit in the type.
pub fn convert_folder(source: &Path, folder: &Path, options: &SaveOptions) -> Result<SavedWeights> {
    let config = read_config(source)?;
    let weights = Weights::open(source)?;
    let expected = config.expected_tensors();
    let found = weights.iter().map(|(name, info)| (name, info.shape.clone())).collect();
    compare(&found, &expected, |a, b| same(&weights.tensor(a, Device::Cpu)?, &weights.tensor(b, Device::Cpu)?))?;
    let mut entries = Vec::new();
    for (name, shape) in &expected {
        let dtype = options.dtype.unwrap_or(weights.stored(name)?.0.dtype);
        entries.push(Entry::new(name, dtype, shape));
    }
    let side_files = SideFiles::from_folder(source)?;
    publish(folder, |temporary| {
        write_files(temporary, &config, &side_files, &entries, options, |index, out| {
            let name = &entries[index].name;
            let (info, stored) = weights.stored(name)?;
            if options.dtype.is_none_or(|dtype| dtype == info.dtype) {
                out.extend_from_slice(stored);
                return Ok(());
            }
            encode_tensor(name, &weights.tensor(name, Device::Cpu)?, options.dtype, out)
        })
    })
}
