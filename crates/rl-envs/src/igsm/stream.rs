//! A sequence of small draws from one [`RandomKey`]: what a graph needs, some ten draws per block of the generator.
//!
//! The key names the item, the attempt and the purpose, so a stream is never shared between two of them and what one
//! purpose draws does not shift another.

use rl_core::random::RandomKey;

/// What randomness is used for; each purpose of an item has a stream of its own, so that the same problem can be worded,
/// ordered and solved in many ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Hyper-parameters, structure and dependencies.
    Graph,
    /// Constants and operators.
    Constants,
    /// Order of the conditions, and of the solution where it is drawn.
    Order,
    /// Letters of the solution.
    Letters,
    /// Choice between wordings.
    Phrasing,
    /// Detours and restated definitions.
    Behaviour,
    /// Whether a problem whose answer is zero is dropped.
    Zero,
}

impl Purpose {
    /// Key of this purpose for the item (`seed`, `index`).
    pub fn key(self, seed: u64, index: u64) -> RandomKey {
        let name = match self {
            Purpose::Graph => "igsm/graph",
            Purpose::Constants => "igsm/constants",
            Purpose::Order => "igsm/order",
            Purpose::Letters => "igsm/letters",
            Purpose::Phrasing => "igsm/phrasing",
            Purpose::Behaviour => "igsm/behaviour",
            Purpose::Zero => "igsm/zero",
        };
        RandomKey::new(seed, name).at(index)
    }
}

/// Draws in sequence. Small draws share a block of the generator: each takes the leading digits of what is left, in the base
/// of its bound, as an arithmetic decoder does.
#[derive(Debug, Clone)]
pub struct Stream {
    key: RandomKey,
    position: u64,
    /// What is left of the block, as a fraction of 2^64.
    rest: u64,
    /// Product of the bounds drawn from the block.
    spent: u64,
    normals: u64,
}

/// Half of a block's bits; the other half keeps every draw uniform.
const BLOCK: u64 = 1 << 32;

impl Stream {
    /// The stream of `key`, from its beginning.
    pub fn new(key: RandomKey) -> Self {
        Stream { key, position: 0, rest: 0, spent: BLOCK, normals: 0 }
    }

    /// Uniform integer in `0..bound`; `bound` 0 is treated as 1. The bias is below `bound / 2^32`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        let bound = u64::from(bound.max(1));
        self.spent *= bound;
        if self.spent > BLOCK {
            self.rest = self.key.bits(self.position);
            self.position += 1;
            self.spent = bound;
        }
        let product = u128::from(self.rest) * u128::from(bound);
        self.rest = product as u64;
        (product >> 64) as u32
    }

    /// Uniform integer in `low..=high`; `low` where `high` is smaller.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with probability one half.
    #[inline]
    pub fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Uniform on `[0, 1)` with 24 random bits.
    #[inline]
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.below(1 << 24)) * (1.0 / f64::from(1 << 24))
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let draw = self.key.at(u64::MAX).normal(self.normals);
        self.normals += 1;
        draw
    }

    /// Fisher-Yates shuffle.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_uniform_and_reproducible() {
        let mut stream = Stream::new(Purpose::Graph.key(1, 2));
        let mut again = stream.clone();
        let mut counts = [0_u32; 5];
        let mut heads = 0;
        for _ in 0..10_000 {
            counts[stream.below(5) as usize] += 1;
            heads += u32::from(stream.coin());
        }
        // 4 standard deviations of a binomial: 160 and 200.
        assert!(counts.iter().all(|count| count.abs_diff(2000) < 160), "{counts:?}");
        assert!(heads.abs_diff(5000) < 200, "{heads}");
        let first: Vec<u32> = (0..5).map(|_| again.between(3, 7)).collect();
        assert!(first.iter().all(|draw| (3..=7).contains(draw)));
        assert_ne!(Purpose::Graph.key(1, 2), Purpose::Constants.key(1, 2));
        assert_eq!((again.between(4, 4), again.between(4, 2)), (4, 4));
    }
}
