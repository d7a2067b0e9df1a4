//! The hyper-parameters of one problem: how many operations, layers, things and edges, and which words.

use super::config::ProblemConfig;
use super::parameter::MAX_LAYERS;
use super::stream::Stream;
use super::vocabulary::Vocabulary;

/// The draw that comes before any graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hyper {
    /// The themed world.
    pub system: usize,
    /// Sub-category per category of the system, smallest things first.
    pub subcategories: [u8; MAX_LAYERS],
    /// Operations of the solution, exactly.
    pub operations: u32,
    /// Operations that abstract parameters may bring in (stage 1).
    pub seed_operations: u32,
    /// Operations before order and in-degrees are drawn (stage 2).
    pub plain_operations: u32,
    /// Layers.
    pub layers: usize,
    /// Fewest things in a layer.
    pub min_width: usize,
    /// Most things in a layer.
    pub max_width: usize,
    /// Edges.
    pub edges: usize,
    /// Category of the lowest layer, counted from the smallest things.
    pub start: usize,
}

impl Hyper {
    pub(super) fn draw(config: &ProblemConfig, vocabulary: &Vocabulary, stream: &mut Stream) -> Self {
        let system = stream.below(vocabulary.num_systems() as u32) as usize;
        let mut subcategories = [0; MAX_LAYERS];
        for (layer, subcategory) in subcategories.iter_mut().enumerate() {
            *subcategory = stream.below(vocabulary.num_subcategories(system, layer) as u32) as u8;
        }
        let (low, high) = (config.min_operations, config.max_operations);
        let operations = if config.force { high } else { stream.between(low, high).min(stream.between(low, high)) };
        let seed_operations = stream.between(1, operations).max(stream.between(1, operations));
        let plain_operations = stream.between(seed_operations, operations);

        let limit = config.max_instance_params;
        let shares = size_shares(operations, limit);
        let layers = draw_size(&shares, stream);
        let (first, second) = (draw_size(&shares, stream), draw_size(&shares, stream));
        let (min_width, max_width) = (first.min(second), first.max(second));
        let fewest = ((layers - 1) * min_width) as u32;
        let drawn = stream.between(fewest, limit).min(stream.between(fewest, limit));
        let edges = (drawn as usize).min((layers - 1) * max_width * max_width);
        let start = stream.below((MAX_LAYERS - layers) as u32 + 1) as usize;
        Hyper {
            system,
            subcategories,
            operations,
            seed_operations,
            plain_operations,
            layers,
            min_width,
            max_width,
            edges,
            start,
        }
    }
}

/// Probabilities of 2, 3 and 4: more operations, larger structures. With `rel = (op - 1) / (ip - 1)` it is the softmax of
/// `-(rel - c)^2` over `c` in 0.2, 0.5, 0.8.
pub fn size_shares(operations: u32, max_instance_params: u32) -> [f64; 3] {
    let relative = (f64::from(operations) - 1.0) / (f64::from(max_instance_params) - 1.0);
    let weights = [0.2, 0.5, 0.8].map(|center: f64| (-(relative - center).powi(2)).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

fn draw_size(shares: &[f64; 3], stream: &mut Stream) -> usize {
    let draw = stream.uniform();
    if draw < shares[0] {
        2
    } else if draw < shares[0] + shares[1] {
        3
    } else {
        4
    }
}
