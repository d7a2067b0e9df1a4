//! The K types: super-blocks of 256 numbers, cut into sub-blocks with small integer scales of their own.
//!
//! Q4_K and Q5_K: eight sub-blocks of 32 with a 6-bit scale `s` and a 6-bit minimum `m` each; a number is
//! `(d * s) * q - (dmin * m)` with two f16 factors per super-block. Q6_K: sixteen sub-blocks of 16 with a signed byte as
//! scale; a number is `(d * s) * (q - 32)`. Layouts: `ggml-quants.c` of <https://github.com/ggml-org/ggml>. The brackets
//! show the order of the f32 arithmetic, which makes results equal to those of other readers bit for bit.

use super::dequantise::half_at;

/// Numbers in a super-block.
pub(super) const SUPER_BLOCK: usize = 256;
/// Twelve bytes hold eight scales and eight minima of six bits.
const SCALE_BYTES: usize = 12;

pub(super) const Q4_K_BYTES: usize = 2 + 2 + SCALE_BYTES + SUPER_BLOCK / 2;
pub(super) const Q5_K_BYTES: usize = 2 + 2 + SCALE_BYTES + SUPER_BLOCK / 8 + SUPER_BLOCK / 2;
pub(super) const Q6_K_BYTES: usize = SUPER_BLOCK / 2 + SUPER_BLOCK / 4 + SUPER_BLOCK / 16 + 2;

/// `block` is d, dmin, scales `[12]`, low bits `[128]`: 32 bytes hold two sub-blocks, in their low and high halves.
pub(super) fn q4_k(out: &mut [f32], block: &[u8]) {
    let scales = ScalesAndMinima::of(block);
    let pairs = out.chunks_exact_mut(64).zip(block[4 + SCALE_BYTES..].chunks_exact(32));
    for (pair, (out, bytes)) in pairs.enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((d0, m0), (d1, m1)) = (scales.get(2 * pair), scales.get(2 * pair + 1));
        for ((low, high), &byte) in low.iter_mut().zip(high).zip(bytes) {
            *low = d0 * f32::from(byte & 0x0f) - m0;
            *high = d1 * f32::from(byte >> 4) - m1;
        }
    }
}

/// As [`q4_k`], with 32 bytes between scales and low bits: bit `j` of byte `i` is the fifth of number `i` of sub-block `j`.
pub(super) fn q5_k(out: &mut [f32], block: &[u8]) {
    let scales = ScalesAndMinima::of(block);
    let (fifths, lows) = block[4 + SCALE_BYTES..].split_at(SUPER_BLOCK / 8);
    for (pair, (out, bytes)) in out.chunks_exact_mut(64).zip(lows.chunks_exact(32)).enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((d0, m0), (d1, m1)) = (scales.get(2 * pair), scales.get(2 * pair + 1));
        let (bit0, bit1) = (2 * pair, 2 * pair + 1);
        for (((low, high), &byte), &fifth) in low.iter_mut().zip(high).zip(bytes).zip(fifths) {
            *low = d0 * f32::from(byte & 0x0f | (fifth >> bit0 & 1) << 4) - m0;
            *high = d1 * f32::from(byte >> 4 | (fifth >> bit1 & 1) << 4) - m1;
        }
    }
}

/// `block` is low bits `[128]`, high bits `[64]`, scales `[16]`, d.
///
/// Each half of the super-block has 64 bytes of low and 32 of high bits. Low halves hold its numbers 0 to 63, high halves
/// 64 to 127; byte `i` of the high bits holds the upper two of numbers `i`, `i + 32`, `i + 64` and `i + 96`.
pub(super) fn q6_k(out: &mut [f32], block: &[u8]) {
    let (lows, rest) = block.split_at(SUPER_BLOCK / 2);
    let (highs, rest) = rest.split_at(SUPER_BLOCK / 4);
    let (scales, d) = (&rest[..SUPER_BLOCK / 16], half_at(rest, SUPER_BLOCK / 16));
    let halves = out.chunks_exact_mut(128).zip(lows.chunks_exact(64)).zip(highs.chunks_exact(32));
    for (((out, lows), highs), scales) in halves.zip(scales.chunks_exact(8)) {
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            let lows = &lows[32 * (quarter % 2)..][..32];
            let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
            for (part, out) in out.chunks_exact_mut(16).enumerate() {
                let scale = d * f32::from(scales[2 * quarter + part] as i8);
                let bytes = lows[16 * part..].iter().zip(&highs[16 * part..]);
                for (x, (&low, &high)) in out.iter_mut().zip(bytes) {
                    let q = (low >> low_shift & 0x0f) | (high >> high_shift & 3) << 4;
                    *x = scale * f32::from(q as i8 - 32);
                }
            }
        }
    }
}

/// The factors of the eight sub-blocks of a Q4_K or Q5_K block.
struct ScalesAndMinima<'a> {
    d: f32,
    dmin: f32,
    packed: &'a [u8],
}

impl<'a> ScalesAndMinima<'a> {
    fn of(block: &'a [u8]) -> Self {
        ScalesAndMinima { d: half_at(block, 0), dmin: half_at(block, 2), packed: &block[4..4 + SCALE_BYTES] }
    }

    /// `d * s` and `dmin * m` of a sub-block.
    ///
    /// The first four keep theirs in the low six bits of bytes 0-3 and 4-7; the last four find their upper two bits in
    /// the top of those bytes, and the lower four in the halves of bytes 8-11.
    fn get(&self, j: usize) -> (f32, f32) {
        let b = self.packed;
        let (s, m) = match j {
            0..4 => (b[j] & 0x3f, b[j + 4] & 0x3f),
            _ => (b[j + 4] & 0x0f | (b[j - 4] >> 6) << 4, b[j + 4] >> 4 | (b[j] >> 6) << 4),
        };
        (self.d * f32::from(s), self.dmin * f32::from(m))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // f16 bit patterns: 0.5 is 0x3800, 0.25 is 0x3400.
    const HALF: [u8; 2] = [0x00, 0x38];
    const QUARTER: [u8; 2] = [0x00, 0x34];

    /// Scales 1, 2, 3, 4, 17, 34, 51, 4 and minima 0, 0, 0, 1, 32, 0, 0, 63, packed by hand.
    const SCALES: [u8; 12] = [
        0b01_000001,
        0b10_000010,
        0b11_000011,
        0b00_000100, // upper bits of scales 4-7, then scales 0-3
        0b10_000000,
        0b00_000000,
        0b00_000000,
        0b11_000001, // upper bits of minima 4-7, then minima 0-3
        0x01,
        0x02,
        0x03,
        0xf4, // low bits of scales 4-7, and of minima 4-7 above them
    ];
    const S: [f32; 8] = [1., 2., 3., 4., 17., 34., 51., 4.];
    const M: [f32; 8] = [0., 0., 0., 1., 32., 0., 0., 63.];

    #[test]
    fn four_and_five_bits_worked_by_hand() {
        // Every low half is 3, every high half 12.
        let block = [&HALF[..], &QUARTER, &SCALES, &[0xc3; 128]].concat();
        let mut out = [0.0; 256];
        q4_k(&mut out, &block);
        let expected =
            |i: usize| 0.5 * S[i / 32] * if (i / 32).is_multiple_of(2) { 3.0 } else { 12.0 } - 0.25 * M[i / 32];
        assert_eq!(out.to_vec(), (0..256).map(expected).collect::<Vec<f32>>());

        // The fifth bit is set for number 0 of every sub-block, and for all numbers of sub-block 5.
        let mut fifths = [0x20; 32];
        fifths[0] = 0xff;
        let block = [&HALF[..], &QUARTER, &SCALES, &fifths, &[0xc3; 128]].concat();
        q5_k(&mut out, &block);
        let fifth = |i: usize| if i.is_multiple_of(32) || i / 32 == 5 { 16.0 } else { 0.0 };
        let q = |i: usize| if (i / 32).is_multiple_of(2) { 3.0 } else { 12.0 } + fifth(i);
        let expected = |i: usize| 0.5 * S[i / 32] * q(i) - 0.25 * M[i / 32];
        assert_eq!(out.to_vec(), (0..256).map(expected).collect::<Vec<f32>>());
    }

    #[test]
    fn six_bits_worked_by_hand() {
        // Scales -8 to 7. Low bits: 5 below, 10 above; high bits of the four quarters: 0, 1, 2, 3.
        let scales: Vec<u8> = (0..16u8).map(|i| i.wrapping_sub(8)).collect();
        let block = [&[0xa5; 128][..], &[0b11_10_01_00; 64], &scales, &HALF].concat();
        assert_eq!(block.len(), Q6_K_BYTES);
        let mut out = [0.0; 256];
        q6_k(&mut out, &block);
        let q = |i: usize| [5.0, 5.0 + 16.0, 10.0 + 32.0, 10.0 + 48.0][i % 128 / 32] - 32.0;
        let expected = |i: usize| 0.5 * (i as f32 / 16.0).floor() * q(i) - 0.5 * 8.0 * q(i);
        assert_eq!(out.to_vec(), (0..256).map(expected).collect::<Vec<f32>>());
    }
}
