//! From stored blocks to f32.
//!
//! A quantised row is cut into blocks of 32 numbers. A block holds a scale `d` (f16), for the `_1` types a minimum `m`
//! (f16), and 32 small integers `q`; a number is `q * d`, or `q * d + m`. The 4-bit types keep number `i` in the low half
//! of byte `i` and number `i + 16` in its high half. The arithmetic is f32, product first, so that results equal those of
//! other readers bit for bit. The K types have a file of their own.

use std::fmt;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::k_quants::{Q4_K_BYTES, Q5_K_BYTES, Q6_K_BYTES, SUPER_BLOCK, q4_k, q5_k, q6_k};
use crate::error::{Error, Result};

/// Storage types that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// 16-bit floats with the exponent of f32.
    BF16,
    /// 4 bits, symmetric: `(q - 8) * d`.
    Q4_0,
    /// 4 bits and a minimum: `q * d + m`.
    Q4_1,
    /// 5 bits, symmetric: `(q - 16) * d`.
    Q5_0,
    /// 5 bits and a minimum: `q * d + m`.
    Q5_1,
    /// Signed bytes: `q * d`.
    Q8_0,
    /// 4 bits with scales and minima per 32 numbers.
    #[allow(non_camel_case_types)]
    Q4_K,
    /// 5 bits with scales and minima per 32 numbers.
    #[allow(non_camel_case_types)]
    Q5_K,
    /// 6 bits with scales per 16 numbers.
    #[allow(non_camel_case_types)]
    Q6_K,
}

/// Numbers in a quantised block.
const BLOCK: usize = 32;
/// Numbers of type F16 converted at a time.
const HALVES: usize = 64;

impl TensorType {
    pub(super) const SUPPORTED: &'static str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K";

    /// The type of a number in the file's tensor list.
    pub fn from_id(id: u32) -> Option<Self> {
        match id {
            0 => Some(TensorType::F32),
            1 => Some(TensorType::F16),
            2 => Some(TensorType::Q4_0),
            3 => Some(TensorType::Q4_1),
            6 => Some(TensorType::Q5_0),
            7 => Some(TensorType::Q5_1),
            8 => Some(TensorType::Q8_0),
            12 => Some(TensorType::Q4_K),
            13 => Some(TensorType::Q5_K),
            14 => Some(TensorType::Q6_K),
            30 => Some(TensorType::BF16),
            _ => None,
        }
    }

    /// Numbers in one block.
    pub fn block_len(self) -> usize {
        match self {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 => 1,
            TensorType::Q4_K | TensorType::Q5_K | TensorType::Q6_K => SUPER_BLOCK,
            _ => BLOCK,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            TensorType::F32 => 4,
            TensorType::F16 | TensorType::BF16 => 2,
            TensorType::Q4_0 => 2 + 16,
            TensorType::Q4_1 => 2 + 2 + 16,
            TensorType::Q5_0 => 2 + 4 + 16,
            TensorType::Q5_1 => 2 + 2 + 4 + 16,
            TensorType::Q8_0 => 2 + 32,
            TensorType::Q4_K => Q4_K_BYTES,
            TensorType::Q5_K => Q5_K_BYTES,
            TensorType::Q6_K => Q6_K_BYTES,
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Turns whole blocks into f32 numbers.
///
/// # Errors
/// [`Error::Argument`] when `data` is not a whole number of blocks.
pub fn dequantise(tensor_type: TensorType, data: &[u8]) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    dequantise_into(tensor_type, data, &mut out)?;
    Ok(out)
}

/// As [`dequantise`], in place of what `out` holds: memory that is used again costs the system nothing.
///
/// # Errors
/// As [`dequantise`].
pub fn dequantise_into(tensor_type: TensorType, data: &[u8], out: &mut Vec<f32>) -> Result<()> {
    let block_bytes = tensor_type.block_bytes();
    if !data.len().is_multiple_of(block_bytes) {
        let reason = format!("{tensor_type} data comes in blocks of {block_bytes} bytes");
        return Err(Error::Argument { name: "data", value: format!("{} bytes", data.len()), reason });
    }
    let blocks = data.chunks_exact(block_bytes);
    out.clear();
    out.resize(blocks.len() * tensor_type.block_len(), 0.0);
    match tensor_type {
        TensorType::F32 => {
            for (x, b) in out.iter_mut().zip(blocks) {
                *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        TensorType::F16 => {
            // Many at a time: the processor's instruction for this is found once per call.
            for (out, data) in out.chunks_mut(HALVES).zip(data.chunks(2 * HALVES)) {
                let mut halves = [f16::ZERO; HALVES];
                for (half, b) in halves.iter_mut().zip(data.chunks_exact(2)) {
                    *half = f16::from_le_bytes([b[0], b[1]]);
                }
                halves[..out.len()].convert_to_f32_slice(out);
            }
        }
        TensorType::BF16 => {
            for (x, b) in out.iter_mut().zip(blocks) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16); // its upper half
            }
        }
        TensorType::Q8_0 => {
            for (x, b) in out.chunks_exact_mut(BLOCK).zip(blocks) {
                let d = half_at(b, 0);
                for (x, &q) in x.iter_mut().zip(&b[2..]) {
                    *x = f32::from(q as i8) * d;
                }
            }
        }
        TensorType::Q4_0 => {
            for (x, b) in out.chunks_exact_mut(BLOCK).zip(blocks) {
                let d = half_at(b, 0);
                nibbles(x, &b[2..], |_, q| (f32::from(q) - 8.0) * d);
            }
        }
        TensorType::Q4_1 => {
            for (x, b) in out.chunks_exact_mut(BLOCK).zip(blocks) {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                nibbles(x, &b[4..], |_, q| f32::from(q) * d + m);
            }
        }
        TensorType::Q5_0 => {
            for (x, b) in out.chunks_exact_mut(BLOCK).zip(blocks) {
                let (d, high) = (half_at(b, 0), u32::from_le_bytes([b[2], b[3], b[4], b[5]]));
                nibbles(x, &b[6..], |i, q| (f32::from(fifth_bit(q, high, i)) - 16.0) * d);
            }
        }
        TensorType::Q4_K => super_blocks(out, blocks, q4_k),
        TensorType::Q5_K => super_blocks(out, blocks, q5_k),
        TensorType::Q6_K => super_blocks(out, blocks, q6_k),
        TensorType::Q5_1 => {
            for (x, b) in out.chunks_exact_mut(BLOCK).zip(blocks) {
                let (d, m, high) = (half_at(b, 0), half_at(b, 2), u32::from_le_bytes([b[4], b[5], b[6], b[7]]));
                nibbles(x, &b[8..], |i, q| f32::from(fifth_bit(q, high, i)) * d + m);
            }
        }
    }
    Ok(())
}

/// Fills each super-block of `out` from its block.
fn super_blocks<'a>(out: &mut [f32], blocks: impl Iterator<Item = &'a [u8]>, fill: fn(&mut [f32], &[u8])) {
    out.chunks_exact_mut(SUPER_BLOCK).zip(blocks).for_each(|(out, block)| fill(out, block));
}

pub(super) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Bit `i` of `high` is the fifth bit of number `i`.
fn fifth_bit(q: u8, high: u32, i: usize) -> u8 {
    q | (((high >> i) & 1) as u8) << 4
}

/// Fills a block from its sixteen bytes of 4-bit integers; `number(i, q)` gives number `i`.
fn nibbles(out: &mut [f32], bytes: &[u8], number: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(BLOCK / 2);
    for (i, ((low, high), &byte)) in low.iter_mut().zip(high).zip(bytes).enumerate() {
        *low = number(i, byte & 0x0f);
        *high = number(i + BLOCK / 2, byte >> 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // f16 bit patterns: 0.5 is 0x3800, -2 is 0xc000.
    const HALF: [u8; 2] = [0x00, 0x38];
    const MINUS_TWO: [u8; 2] = [0x00, 0xc0];

    /// Bytes 0x10, 0x32, 0x54, ... : number i is `2 i mod 16` for the first 16, and `(2 i + 1) mod 16` after them.
    fn ramp() -> Vec<u8> {
        (0..16u8).map(|i| (2 * i % 16) | ((2 * i + 1) % 16) << 4).collect()
    }

    fn check(tensor_type: TensorType, parts: &[&[u8]], expected: impl Fn(usize) -> f32) {
        let data = parts.concat();
        assert_eq!(data.len(), tensor_type.block_bytes(), "{tensor_type}");
        let found = dequantise(tensor_type, &data).unwrap();
        let expected: Vec<f32> = (0..32).map(expected).collect();
        assert_eq!(found, expected, "{tensor_type}");
    }

    fn ramp_value(i: usize) -> f32 {
        ((2 * (i % 16) + i / 16) % 16) as f32
    }

    #[test]
    fn quantised_blocks_worked_by_hand() {
        check(TensorType::Q4_0, &[&HALF, &ramp()], |i| (ramp_value(i) - 8.0) * 0.5);
        check(TensorType::Q4_1, &[&HALF, &MINUS_TWO, &ramp()], |i| ramp_value(i) * 0.5 - 2.0);
        // The fifth bit is set for numbers 0, 8, 16, 24 (0x01 in each byte) and 31 (0x80 in the last).
        let high = [0x01, 0x01, 0x01, 0x81];
        let fifth = |i: usize| if i.is_multiple_of(8) || i == 31 { 16.0 } else { 0.0 };
        check(TensorType::Q5_0, &[&HALF, &high, &ramp()], |i| (ramp_value(i) + fifth(i) - 16.0) * 0.5);
        check(TensorType::Q5_1, &[&HALF, &MINUS_TWO, &high, &ramp()], |i| (ramp_value(i) + fifth(i)) * 0.5 - 2.0);
        // 0xf0 is -16, 0xf1 is -15, ...
        let bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_sub(16)).collect();
        check(TensorType::Q8_0, &[&HALF, &bytes], |i| (i as f32 - 16.0) * 0.5);
    }

    #[test]
    fn floats_keep_their_value() {
        let f32_data: Vec<u8> = [1.5f32, -3.0e-39].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(dequantise(TensorType::F32, &f32_data).unwrap(), [1.5, -3.0e-39]);
        // 0x3c01 is 1 + 2^-10 in f16, and 0x0001 its smallest number, 2^-24; 0xbf81 is -(1 + 2^-7) in bf16.
        assert_eq!(
            dequantise(TensorType::F16, &[0x01, 0x3c, 0x01, 0x00]).unwrap(),
            [1.0 + 2f32.powi(-10), 2f32.powi(-24)]
        );
        assert_eq!(dequantise(TensorType::BF16, &[0x81, 0xbf]).unwrap(), [-1.0078125]);
    }

    #[test]
    fn a_torn_block_is_an_error() {
        let message = dequantise(TensorType::Q4_0, &[0; 19]).unwrap_err().to_string();
        assert_eq!(message, "`data` is 19 bytes: Q4_0 data comes in blocks of 18 bytes");
        assert!(dequantise(TensorType::Q8_0, &[]).unwrap().is_empty());
    }
}
