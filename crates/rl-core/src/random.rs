//! Counter-based randomness: a draw is a function of a key and a counter, never of how many draws came before.
//!
//! A [`RandomKey`] is made from a seed and a purpose and narrowed with [`RandomKey::at`] (step, row, ...), so results do
//! not depend on batch size, worker count or resume. The generator is Philox4x32-10 of Salmon et al. 2011, "Parallel
//! random numbers: as easy as 1, 2, 3", section 4.3.

/// Names a family of draws; equal keys give equal draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RandomKey(u64);

impl RandomKey {
    /// Key of all draws made for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a separates purposes; Philox then removes the structure that FNV leaves.
        let hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        RandomKey(seed).at(hash)
    }

    /// The key narrowed by one more coordinate, such as a step, an episode index or a row.
    pub fn at(self, coordinate: u64) -> Self {
        let [a, b, _, _] = philox4x32_10(split(coordinate, u64::MAX), [self.0 as u32, (self.0 >> 32) as u32]);
        RandomKey(u64::from(a) | u64::from(b) << 32)
    }

    /// 64 random bits at `position`.
    pub fn bits(self, position: u64) -> u64 {
        let [a, b, _, _] = philox4x32_10(split(position, 0), [self.0 as u32, (self.0 >> 32) as u32]);
        u64::from(a) | u64::from(b) << 32
    }

    /// Uniform on `[0, 1)` with 53 random bits.
    pub fn uniform(self, position: u64) -> f64 {
        (self.bits(position) >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform integer in `0..bound`; `bound` 0 is treated as 1.
    ///
    /// Multiply-shift; the bias is below `bound / 2^64`.
    pub fn below(self, position: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(position)) * u128::from(bound.max(1))) >> 64) as u64
    }

    /// Standard normal by the Box-Muller transform.
    pub fn normal(self, position: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * position)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * position + 1)).cos()
    }

    /// Fisher-Yates shuffle of `items`, a function of the key alone.
    pub fn shuffle<T>(self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64, last as u64 + 1) as usize);
        }
    }
}

fn split(low: u64, high: u64) -> [u32; 4] {
    [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
}

fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library (kat_vectors, philox4x32 10).
    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(philox4x32_10([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn draws_do_not_depend_on_order_and_cover_the_range() {
        let key = RandomKey::new(7, "test").at(3);
        let forward: Vec<u64> = (0..1000).map(|i| key.below(i, 6)).collect();
        let backward: Vec<u64> = (0..1000).rev().map(|i| key.below(i, 6)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        for face in 0..6 {
            let count = forward.iter().filter(|&&draw| draw == face).count();
            assert!((120..=215).contains(&count), "face {face} came {count} times in 1000");
        }
        assert_ne!(RandomKey::new(7, "a").bits(0), RandomKey::new(7, "b").bits(0));
        assert_ne!(RandomKey::new(7, "a").bits(0), RandomKey::new(8, "a").bits(0));
    }

    #[test]
    fn normals_have_zero_mean_and_unit_variance() {
        let key = RandomKey::new(1, "normal");
        let draws: Vec<f64> = (0..20_000).map(|i| key.normal(i)).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }
}
