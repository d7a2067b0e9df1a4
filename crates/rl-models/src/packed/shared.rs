//! Sequences that begin alike: answers to one prompt.

/// A prefix and what continues it: several answers to one prompt, or a chosen and a rejected one. The prefix goes through
/// the model once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedRows<'a> {
    /// Token ids that every sequence begins with.
    pub prefix: &'a [i64],
    /// Token ids of each sequence after the prefix.
    pub continuations: Vec<&'a [i64]>,
}

impl<'a> SharedRows<'a> {
    /// `sequences` by the longest beginning that they all share, one token at least left to each.
    pub fn of(sequences: &[&'a [i64]]) -> Self {
        let Some((&first, others)) = sequences.split_first() else {
            return SharedRows { prefix: &[], continuations: Vec::new() };
        };
        let shared = |other: &&[i64]| {
            let alike = first.iter().zip(*other).take_while(|(a, b)| a == b).count();
            alike.min(other.len().saturating_sub(1))
        };
        let length = others.iter().map(shared).min().unwrap_or(0).min(first.len().saturating_sub(1));
        SharedRows { prefix: &first[..length], continuations: sequences.iter().map(|ids| &ids[length..]).collect() }
    }

    /// Rows that the group takes: the prefix once and every continuation.
    pub fn num_tokens(&self) -> usize {
        self.prefix.len() + self.continuations.iter().map(|ids| ids.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_shared_beginning_leaves_a_token_to_each() {
        let check = |sequences: &[&[i64]], prefix: &[i64], num_tokens: usize| {
            let rows = SharedRows::of(sequences);
            assert_eq!((rows.prefix, rows.num_tokens()), (prefix, num_tokens));
            let whole: Vec<Vec<i64>> = rows.continuations.iter().map(|ids| [prefix, ids].concat()).collect();
            assert_eq!(whole, sequences);
        };
        check(&[&[1, 2, 3, 4], &[1, 2, 5], &[1, 2, 3, 9, 9]], &[1, 2], 8);
        check(&[&[1, 2], &[1, 2, 3]], &[1], 4);
        check(&[&[1, 2, 3], &[1, 2, 3]], &[1, 2], 4);
        check(&[&[1, 2], &[3, 2]], &[], 4);
        check(&[&[1], &[1]], &[], 2);
        check(&[&[7, 8, 9]], &[], 3);
        check(&[&[], &[1]], &[], 1);
        check(&[], &[], 0);
    }
}
