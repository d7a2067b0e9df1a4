//! Names of a problem's quantities as small numbers, and sets of them as bits.
//!
//! A problem has at most 4 layers of 4 things. An **instance** parameter says how many of one thing are in one thing of the
//! next layer; an **abstract** parameter says how many things of a whole category are in one thing, counted through all
//! layers between. Layers count from 0, the smallest things.

/// Most layers of a problem.
pub const MAX_LAYERS: usize = 4;
/// Most things of a layer.
pub const MAX_WIDTH: usize = 4;
/// Most instance parameters: each thing of a layer may contain each thing of the layer below.
pub const MAX_INSTANCES: usize = (MAX_LAYERS - 1) * MAX_WIDTH * MAX_WIDTH;
/// Most parameters of both kinds.
pub const MAX_PARAMETERS: usize = MAX_INSTANCES + MAX_WIDTH * MAX_LAYERS * (MAX_LAYERS - 1) / 2;

/// One quantity of a problem, numbered below [`MAX_PARAMETERS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameter(u8);

/// What a [`Parameter`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// How many of thing `item` of layer `layer - 1` are in one thing `node` of `layer`.
    Instance {
        /// Layer of the container, 1 to 3.
        layer: usize,
        /// The container within its layer.
        node: usize,
        /// The contained thing within the layer below.
        item: usize,
    },
    /// How many things of layer `category` are in one thing `node` of `layer`, in all.
    Abstract {
        /// Layer of the container, 1 to 3.
        layer: usize,
        /// The container within its layer.
        node: usize,
        /// Layer of what is counted, below `layer`.
        category: usize,
    },
}

/// (layer, category) of the six groups of abstract parameters, in the order of their numbers.
const SLOTS: [(u8, u8); 6] = [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)];

fn slot(layer: usize, category: usize) -> usize {
    layer * (layer - 1) / 2 + category
}

impl Parameter {
    /// The instance parameter of `item` (layer `layer - 1`) in `node` (layer `layer`).
    pub fn instance(layer: usize, node: usize, item: usize) -> Self {
        debug_assert!((1..MAX_LAYERS).contains(&layer) && node < MAX_WIDTH && item < MAX_WIDTH);
        Parameter(((layer - 1) * 16 + node * 4 + item) as u8)
    }

    /// The abstract parameter of layer `category` in `node` (layer `layer`).
    pub fn total(layer: usize, node: usize, category: usize) -> Self {
        debug_assert!((1..MAX_LAYERS).contains(&layer) && node < MAX_WIDTH && category < layer);
        Parameter((MAX_INSTANCES + slot(layer, category) * MAX_WIDTH + node) as u8)
    }

    pub(crate) fn from_index(index: usize) -> Self {
        debug_assert!(index < MAX_PARAMETERS);
        Parameter(index as u8)
    }

    /// Its number, below [`MAX_PARAMETERS`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Whether it is stated by a sentence of the problem.
    #[inline]
    pub fn is_instance(self) -> bool {
        self.index() < MAX_INSTANCES
    }

    /// What it counts.
    #[inline]
    pub fn kind(self) -> ParameterKind {
        let index = self.index();
        if index < MAX_INSTANCES {
            ParameterKind::Instance { layer: index / 16 + 1, node: index / 4 % 4, item: index % 4 }
        } else {
            let (layer, category) = SLOTS[((index - MAX_INSTANCES) / MAX_WIDTH) % SLOTS.len()];
            let node = index % MAX_WIDTH;
            ParameterKind::Abstract { layer: layer.into(), node, category: category.into() }
        }
    }
}

/// A set of parameters: instance parameters in one word, abstract ones in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParameterSet {
    instances: u64,
    totals: u64,
}

impl ParameterSet {
    /// No parameter.
    pub const EMPTY: ParameterSet = ParameterSet { instances: 0, totals: 0 };
    /// Every instance parameter there could be.
    pub const INSTANCES: ParameterSet = ParameterSet { instances: (1 << MAX_INSTANCES) - 1, totals: 0 };

    /// The set of the parameters that follow `first`, one per bit of `bits`; all of the kind of `first`.
    #[inline]
    pub(crate) fn run(first: Parameter, bits: u64) -> Self {
        if first.is_instance() {
            ParameterSet { instances: bits << first.0, totals: 0 }
        } else {
            ParameterSet { instances: 0, totals: bits << (first.index() - MAX_INSTANCES) }
        }
    }

    /// The set of `parameter` alone.
    #[inline]
    pub fn of(parameter: Parameter) -> Self {
        Self::run(parameter, 1)
    }

    /// Adds `parameter`.
    #[inline]
    pub fn insert(&mut self, parameter: Parameter) {
        *self = self.or(Self::of(parameter));
    }

    /// Takes `parameter` out.
    #[inline]
    pub fn remove(&mut self, parameter: Parameter) {
        *self = self.minus(Self::of(parameter));
    }

    /// Whether `parameter` is in it.
    #[inline]
    pub fn contains(self, parameter: Parameter) -> bool {
        self.contains_all(Self::of(parameter))
    }

    /// Whether all of `other` is in it.
    #[inline]
    pub fn contains_all(self, other: Self) -> bool {
        other.minus(self).is_empty()
    }

    /// Number of parameters.
    #[inline]
    pub fn len(self) -> usize {
        (self.instances.count_ones() + self.totals.count_ones()) as usize
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.instances | self.totals == 0
    }

    /// What is in both.
    #[inline]
    pub fn and(self, other: Self) -> Self {
        ParameterSet { instances: self.instances & other.instances, totals: self.totals & other.totals }
    }

    /// What is in either.
    #[inline]
    pub fn or(self, other: Self) -> Self {
        ParameterSet { instances: self.instances | other.instances, totals: self.totals | other.totals }
    }

    /// What is in it and not in `other`.
    #[inline]
    pub fn minus(self, other: Self) -> Self {
        ParameterSet { instances: self.instances & !other.instances, totals: self.totals & !other.totals }
    }

    /// Its parameter number `n` in ascending order; `None` past its end.
    #[inline]
    pub fn nth(self, n: usize) -> Option<Parameter> {
        let instances = self.instances.count_ones() as usize;
        let (mut rest, n, base) =
            if n < instances { (self.instances, n, 0) } else { (self.totals, n - instances, MAX_INSTANCES as u8) };
        for _ in 0..n {
            rest &= rest.wrapping_sub(1);
        }
        (rest != 0).then(|| Parameter(base + rest.trailing_zeros() as u8))
    }

    /// Its parameters in ascending order.
    #[inline]
    pub fn iter(self) -> ParameterIter {
        ParameterIter(self)
    }
}

impl IntoIterator for ParameterSet {
    type Item = Parameter;
    type IntoIter = ParameterIter;

    fn into_iter(self) -> ParameterIter {
        self.iter()
    }
}

/// The parameters of a set in ascending order.
#[derive(Debug, Clone)]
pub struct ParameterIter(ParameterSet);

impl Iterator for ParameterIter {
    type Item = Parameter;

    #[inline]
    fn next(&mut self) -> Option<Parameter> {
        let (word, base) = if self.0.instances != 0 {
            (&mut self.0.instances, 0)
        } else if self.0.totals != 0 {
            (&mut self.0.totals, MAX_INSTANCES as u8)
        } else {
            return None;
        };
        let parameter = Parameter(base + word.trailing_zeros() as u8);
        *word &= *word - 1;
        Some(parameter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_meanings_are_one_to_one() {
        let mut seen = ParameterSet::EMPTY;
        for layer in 1..MAX_LAYERS {
            for node in 0..MAX_WIDTH {
                for item in 0..MAX_WIDTH {
                    let parameter = Parameter::instance(layer, node, item);
                    assert_eq!(parameter.kind(), ParameterKind::Instance { layer, node, item });
                    seen.insert(parameter);
                }
                for category in 0..layer {
                    let parameter = Parameter::total(layer, node, category);
                    assert_eq!(parameter.kind(), ParameterKind::Abstract { layer, node, category });
                    seen.insert(parameter);
                }
            }
        }
        assert_eq!((seen.len(), MAX_PARAMETERS), (72, 72));
        assert_eq!(seen.iter().map(Parameter::index).collect::<Vec<_>>(), (0..72).collect::<Vec<_>>());
        assert_eq!(seen.nth(71), Some(Parameter(71)));
        assert_eq!(seen.nth(72), None);
        assert_eq!(seen.and(ParameterSet::INSTANCES).len(), 48);
    }
}
