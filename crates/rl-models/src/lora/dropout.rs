//! Dropout whose mask is a function of a key, the row and the column: the same on every device and when a layer is
//! computed again.

use rl_core::random::RandomKey;
use tch::Tensor;

use crate::Result;

/// Where the columns' draws begin, far from the rows'.
const COLUMNS: u64 = 1 << 40;

/// `xs` `[tokens, features]` with each element zeroed with chance `p`, not rescaled.
///
/// The bits of element `(i, j)` are a 32-bit mixture of `row[i] + column[j]`, two counter-based draws: drawing every
/// element by itself on the host would take longer than the products around it, and the mixture runs where `xs` is.
pub(super) fn drop_elements(xs: &Tensor, p: f64, key: RandomKey) -> Result<Tensor> {
    let (rows, columns) = xs.size2()?;
    let draws = |len: i64, first: u64| -> Result<Tensor> {
        let draws: Vec<i32> = (0..len as u64).map(|i| key.bits(first + i) as i32).collect();
        Ok(Tensor::from_slice(&draws).f_to_device(xs.device())?)
    };
    let rows = draws(rows, 0)?.f_unsqueeze(1)?;
    let mut bits = rows.f_add(&draws(columns, COLUMNS)?)?; // [tokens, features]
    // Multiplications carry low bits up, shifted copies carry high bits down (32-bit arithmetic wraps).
    for (factor, shift) in [(0x2c1b_3c6d, 15), (0x297a_2d39, 13), (0x1b56_c4e9, 16)] {
        bits = bits.f_mul_scalar_(factor)?;
        let shifted = bits.f_bitwise_right_shift_tensor_scalar(shift)?;
        bits = bits.f_bitwise_xor_tensor_(&shifted)?;
    }
    // Spread the result over the sign bit again, which an arithmetic shift leaves at zero.
    bits = bits.f_mul_scalar_(0x3a52_4a6b)?;
    let threshold = (p * 2_f64.powi(32)).round() as i64 + i64::from(i32::MIN);
    let kept = bits.f_ge(threshold.min(i64::from(i32::MAX)))?;
    Ok(xs.f_mul(&kept.f_to_kind(xs.kind())?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn mask(rows: i64, columns: i64, p: f64, key: RandomKey) -> Tensor {
        drop_elements(&Tensor::ones([rows, columns], (Kind::Double, Device::Cpu)), p, key).unwrap()
    }

    /// The mixture over plain integers.
    fn kept(key: RandomKey, row: u64, column: u64, p: f64) -> bool {
        let mut bits = (key.bits(row) as u32).wrapping_add(key.bits(COLUMNS + column) as u32) as i32;
        for (factor, shift) in [(0x2c1b_3c6d_i32, 15), (0x297a_2d39, 13), (0x1b56_c4e9, 16)] {
            bits = bits.wrapping_mul(factor);
            bits ^= bits >> shift;
        }
        let uniform = (f64::from(bits.wrapping_mul(0x3a52_4a6b)) + 2_f64.powi(31)) / 2_f64.powi(32);
        p <= uniform
    }

    #[test]
    fn the_mask_is_the_hash_of_its_row_and_column() {
        let key = RandomKey::new(3, "mask");
        let found = Vec::<f64>::try_from(mask(17, 23, 0.3, key).view([-1])).unwrap();
        for (index, &value) in found.iter().enumerate() {
            assert_eq!(value == 1.0, kept(key, index as u64 / 23, index as u64 % 23, 0.3), "element {index}");
        }
        assert!(mask(17, 23, 0.3, key).equal(&mask(17, 23, 0.3, key)));
        assert!(!mask(17, 23, 0.3, key).equal(&mask(17, 23, 0.3, key.at(1))));
    }

    /// Standard errors allowed; the numbers are fixed by the key, so this cannot fail by chance.
    const ERRORS: f64 = 4.5;

    #[test]
    fn elements_are_kept_with_the_right_chance_and_independently() {
        let (rows, columns, p) = (1024_i64, 512_i64, 0.25);
        let mask = mask(rows, columns, p, RandomKey::new(0, "mask")) - (1.0 - p);
        let n = (rows * columns) as f64;
        let variance = p * (1.0 - p);
        let mean = mask.mean(Kind::Double).double_value(&[]);
        assert!(mean.abs() < ERRORS * (variance / n).sqrt(), "mean {mean}");
        // Rows, columns, and pairs of neighbours at several distances: products of independent elements average to 0.
        for (dim, len) in [(0, rows), (1, columns)] {
            let means = mask.mean_dim(dim, false, Kind::Double).abs().max().double_value(&[]);
            assert!(means < (ERRORS + 1.0) * (variance / len as f64).sqrt(), "mean along {dim}: {means}");
            for distance in [1, 2, 3, 8, 64] {
                let pairs = mask.narrow(dim, 0, len - distance) * mask.narrow(dim, distance, len - distance);
                let correlation = pairs.mean(Kind::Double).double_value(&[]) / variance;
                assert!(correlation.abs() < ERRORS / n.sqrt(), "along {dim} at {distance}: {correlation}");
            }
        }
        // Rectangles: row + column sums alone would make these dependent.
        let rectangle = mask.narrow(0, 0, 512).narrow(1, 0, 256)
            * mask.narrow(0, 512, 512).narrow(1, 0, 256)
            * mask.narrow(0, 0, 512).narrow(1, 256, 256)
            * mask.narrow(0, 512, 512).narrow(1, 256, 256);
        let correlation = rectangle.mean(Kind::Double).double_value(&[]) / variance.powi(2);
        assert!(correlation.abs() < ERRORS / (n / 4.0).sqrt(), "rectangles: {correlation}");
    }
}
