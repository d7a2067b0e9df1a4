//! A sequence of small draws from one [`RandomKey`]: what a graph needs, two 32-bit draws per block of the generator.
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

/// Draws in sequence.
#[derive(Debug, Clone)]
pub struct Stream {
    key: RandomKey,
    position: u64,
    spare: Option<u32>,
    coins: u32,
    num_coins: u32,
    normals: u64,
}

impl Stream {
    /// The stream of `key`, from its beginning.
    pub fn new(key: RandomKey) -> Self {
        Stream { key, position: 0, spare: None, coins: 0, num_coins: 0, normals: 0 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let block = self.key.bits(self.position);
        self.position += 1;
        self.spare = Some((block >> 32) as u32);
        block as u32
    }

    /// Uniform integer in `0..bound`; `bound` 0 is treated as 1. The bias is below `bound / 2^32`.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.bits()) * u64::from(bound.max(1))) >> 32) as u32
    }

    /// Uniform integer in `low..=high`; `low` where `high` is smaller.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with probability one half.
    pub fn coin(&mut self) -> bool {
        if self.num_coins == 0 {
            self.coins = self.bits();
            self.num_coins = 32;
        }
        let heads = self.coins & 1 == 1;
        self.coins >>= 1;
        self.num_coins -= 1;
        heads
    }

    /// Uniform on `[0, 1)` with 32 random bits.
    pub fn uniform(&mut self) -> f64 {
        f64::from(self.bits()) * (1.0 / (1_u64 << 32) as f64)
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
