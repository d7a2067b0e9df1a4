//! Whether the tensors of a checkpoint are those its configuration asks for.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::{Error, Result, ShapeMismatch, TensorMismatch};

const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";
/// Buffers that some writers store and that follow from the configuration.
const DERIVED_SUFFIX: &str = ".rotary_emb.inv_freq";

/// Compares tensors with the names and shapes of [`crate::config::ModelConfig::expected_tensors`], strictly.
///
/// Two extras are allowed: rotary `inv_freq` buffers, and the output projection of a model with tied embeddings when
/// it equals the embedding bit for bit. The caller ignores both.
///
/// # Errors
/// [`Error::TensorMismatch`] with every missing, unexpected and misshapen tensor.
pub fn check_tensors(found: &BTreeMap<String, Tensor>, expected: &[(String, Vec<i64>)]) -> Result<()> {
    let shapes = found.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect();
    compare(&shapes, expected, |a, b| same(&found[a], &found[b]))
}

/// [`check_tensors`] by name and shape; `equal` says whether two of the tensors found hold the same numbers.
pub(super) fn compare(
    found: &BTreeMap<&str, Vec<i64>>,
    expected: &[(String, Vec<i64>)],
    equal: impl Fn(&str, &str) -> Result<bool>,
) -> Result<()> {
    let expected: BTreeMap<&str, &[i64]> = expected.iter().map(|(name, shape)| (&**name, &**shape)).collect();
    let mut report = TensorMismatch::default();
    for (name, shape) in &expected {
        match found.get(name) {
            None => report.missing.push((*name).to_owned()),
            Some(size) if size != shape => report.misshapen.push(ShapeMismatch {
                name: (*name).to_owned(),
                found: size.clone(),
                expected: shape.to_vec(),
            }),
            Some(_) => {}
        }
    }
    for &name in found.keys() {
        if expected.contains_key(name) || name.ends_with(DERIVED_SUFFIX) {
            continue;
        }
        if name == OUTPUT && found.contains_key(EMBEDDING) && equal(EMBEDDING, OUTPUT)? {
            continue;
        }
        let note = if name == OUTPUT { " (differs from the embedding it should be tied to)" } else { "" };
        report.unexpected.push(format!("{name}{note}"));
    }
    if report.is_empty() { Ok(()) } else { Err(Error::TensorMismatch(report)) }
}

/// Checks that no tensor holds NaN or infinity.
///
/// # Errors
/// [`Error::NonFinite`] with the first such tensor.
pub fn check_finite(tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, tensor) in tensors {
        let finite = tensor.f_isfinite()?.f_all()?;
        if bool::try_from(finite)? {
            continue;
        }
        return Err(Error::NonFinite { what: name.clone() });
    }
    Ok(())
}

/// Whether two tensors have one type, one shape and the same numbers.
pub(super) fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    Ok(a.kind() == b.kind() && a.size() == b.size() && a.f_equal(b)?)
}
