//! Numbers in the type they are stored in, as little-endian bytes. A number that would become infinite is an error.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use crate::config::Dtype;
use crate::error::{Error, Result};

/// Halves converted at a time: the processor's instruction for this is found once per call.
const HALVES: usize = 64;

/// Appends the numbers of `tensor`, stored as `dtype` or, where that is none, in the tensor's own type.
///
/// # Errors
/// [`Error::Overflow`] when a finite number has no finite neighbour in `dtype`.
pub(crate) fn encode_tensor(name: &str, tensor: &Tensor, dtype: Option<Dtype>, out: &mut Vec<u8>) -> Result<()> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?;
    let kind = tensor.f_kind()?;
    let stored = match dtype.map(Dtype::kind).filter(|stored| *stored != kind) {
        None => tensor.f_contiguous()?,
        Some(stored_kind) => {
            let stored = tensor.f_to_kind(stored_kind)?.f_contiguous()?;
            let lost = stored.f_isinf()?.f_logical_and(&tensor.f_isfinite()?)?;
            if bool::try_from(lost.f_any()?)? {
                let largest = tensor.f_masked_select(&lost)?.f_abs()?.f_max()?.f_to_kind(Kind::Double)?;
                return Err(overflow(name, f64::try_from(largest)?, stored_kind));
            }
            stored
        }
    };
    let start = out.len();
    out.resize(start + stored.numel() * stored.f_kind()?.elt_size_in_bytes(), 0);
    Ok(stored.f_copy_data_u8(&mut out[start..], stored.numel())?)
}

/// Appends `values`, stored as `dtype`.
///
/// # Errors
/// As [`encode_tensor`].
pub(crate) fn encode_values(name: &str, values: &[f32], dtype: Dtype, out: &mut Vec<u8>) -> Result<()> {
    out.reserve(values.len() * dtype.kind().elt_size_in_bytes());
    match dtype {
        Dtype::Float32 => {
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            Ok(())
        }
        Dtype::Float16 => {
            let round =
                |values: &[f32], out: &mut [u16]| out.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
            encode_halves(name, values, dtype.kind(), f16::INFINITY.to_bits(), round, out)
        }
        Dtype::BFloat16 => {
            let round =
                |values: &[f32], out: &mut [u16]| out.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values);
            encode_halves(name, values, dtype.kind(), bf16::INFINITY.to_bits(), round, out)
        }
    }
}

/// Appends `values` as halves; `exponent` has the bits that all infinite and NaN ones set.
fn encode_halves(
    name: &str,
    values: &[f32],
    kind: Kind,
    exponent: u16,
    round: impl Fn(&[f32], &mut [u16]),
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut halves = [0; HALVES];
    for values in values.chunks(HALVES) {
        let halves = &mut halves[..values.len()];
        round(values, halves);
        for (half, value) in halves.iter().zip(values) {
            if half & exponent == exponent && value.is_finite() {
                return Err(overflow(name, f64::from(value.abs()), kind));
            }
            out.extend_from_slice(&half.to_le_bytes());
        }
    }
    Ok(())
}

fn overflow(name: &str, value: f64, kind: Kind) -> Error {
    let (dtype, largest) = match kind {
        Kind::Half => ("f16", 65504.0),
        Kind::BFloat16 => ("bf16", f64::from(bf16::MAX.to_f32())),
        _ => ("f32", f64::from(f32::MAX)),
    };
    Error::Overflow { tensor: name.to_owned(), value, dtype, largest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(values: &[f32], dtype: Dtype) -> Vec<Result<Vec<u8>>> {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let a = encode_values("t", values, dtype, &mut a).map(|()| a);
        let b = encode_tensor("t", &Tensor::from_slice(values), Some(dtype), &mut b).map(|()| b);
        vec![a, b]
    }

    #[test]
    fn numbers_round_to_the_nearest_and_infinities_stay() {
        // 1 + 2^-11 lies halfway between two f16 numbers, and the even one is 1; 65519 is nearer to 65504 than to 65536.
        let values = [1.0 + 2f32.powi(-11), 65519.0, f32::NEG_INFINITY, -0.0];
        for bytes in both(&values, Dtype::Float16) {
            assert_eq!(bytes.unwrap(), [0x00, 0x3c, 0xff, 0x7b, 0x00, 0xfc, 0x00, 0x80]);
        }
        // 1 + 2^-7 is a bf16 number; 1 + 2^-8 is halfway, and the even neighbour is 1.
        for bytes in both(&[1.0 + 2f32.powi(-7), 1.0 + 2f32.powi(-8)], Dtype::BFloat16) {
            assert_eq!(bytes.unwrap(), [0x81, 0x3f, 0x80, 0x3f]);
        }
        for bytes in both(&[1.5], Dtype::Float32) {
            assert_eq!(bytes.unwrap(), 1.5f32.to_le_bytes());
        }
    }

    #[test]
    fn a_number_too_large_names_the_tensor_and_the_limit() {
        for result in both(&[1.0, -65520.0], Dtype::Float16) {
            let message = result.unwrap_err().to_string();
            assert!(message.starts_with("tensor `t` holds a number of size 65520"), "{message}");
            assert!(message.contains("f16") && message.contains("65504"), "{message}");
        }
        for result in both(&[f32::MAX], Dtype::BFloat16) {
            assert!(matches!(result, Err(Error::Overflow { dtype: "bf16", .. })));
        }
    }
}
