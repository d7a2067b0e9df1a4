//! What contains what: layers of things, and the edges from a thing to the things directly inside it.

use super::config::MissingEdges;
use super::hyper::Hyper;
use super::parameter::{MAX_LAYERS, MAX_WIDTH, Parameter, ParameterKind, ParameterSet};
use super::stream::Stream;

/// Widths of the layers and the edges between neighbouring ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    layers: usize,
    widths: [u8; MAX_LAYERS],
    /// The instance parameters that exist, one per edge.
    edges: ParameterSet,
    /// The abstract parameters that exist.
    totals: ParameterSet,
    /// Bit `item` of `contents[layer][node]`.
    contents: [[u8; MAX_WIDTH]; MAX_LAYERS],
}

impl Structure {
    /// The structure with `widths` (one per layer, smallest things first) and exactly these `edges`.
    pub fn new(widths: &[usize], edges: ParameterSet) -> Self {
        let layers = widths.len().min(MAX_LAYERS);
        let mut structure = Structure {
            layers,
            widths: [0; MAX_LAYERS],
            edges: ParameterSet::EMPTY,
            totals: ParameterSet::EMPTY,
            contents: [[0; MAX_WIDTH]; MAX_LAYERS],
        };
        for (kept, &width) in structure.widths.iter_mut().zip(widths) {
            *kept = width.min(MAX_WIDTH) as u8;
        }
        for edge in edges.and(ParameterSet::INSTANCES) {
            structure.add(edge);
        }
        structure.list_totals();
        structure
    }

    /// Draws a structure with exactly `hyper.edges` edges in which everything above the lowest layer contains something.
    pub(super) fn draw(hyper: &Hyper, missing: MissingEdges, stream: &mut Stream) -> Self {
        let layers = hyper.layers;
        let widths = draw_widths(hyper, stream);
        let mut structure = Structure {
            layers,
            widths,
            edges: ParameterSet::EMPTY,
            totals: ParameterSet::EMPTY,
            contents: [[0; MAX_WIDTH]; MAX_LAYERS],
        };
        let mut count = 0;
        for layer in 1..layers {
            for node in 0..usize::from(widths[layer]) {
                let item = stream.below(u32::from(widths[layer - 1])) as usize;
                structure.add(Parameter::instance(layer, node, item));
                count += 1;
            }
        }
        match missing {
            MissingEdges::Rejection => {
                while count < hyper.edges {
                    let layer = 1 + stream.below(layers as u32 - 1) as usize;
                    let node = stream.below(u32::from(widths[layer])) as usize;
                    let item = stream.below(u32::from(widths[layer - 1])) as usize;
                    let edge = Parameter::instance(layer, node, item);
                    if !structure.edges.contains(edge) {
                        structure.add(edge);
                        count += 1;
                    }
                }
            }
            MissingEdges::Uniform => {
                let mut rest = structure.possible_edges().minus(structure.edges);
                while count < hyper.edges {
                    let Some(edge) = rest.nth(stream.below(rest.len() as u32) as usize) else { break };
                    rest.remove(edge);
                    structure.add(edge);
                    count += 1;
                }
            }
        }
        structure.list_totals();
        structure
    }

    fn add(&mut self, edge: Parameter) {
        if let ParameterKind::Instance { layer, node, item } = edge.kind() {
            self.edges.insert(edge);
            self.contents[layer][node] |= 1 << item;
        }
    }

    fn list_totals(&mut self) {
        for layer in 1..self.layers {
            for category in 0..layer {
                self.totals = self.totals.or(self.layer_totals(layer, category));
            }
        }
    }

    /// The abstract parameters of layer `category` in all things of `layer`.
    #[inline]
    pub(super) fn layer_totals(&self, layer: usize, category: usize) -> ParameterSet {
        ParameterSet::run(Parameter::total(layer, 0, category), (1 << self.width(layer)) - 1)
    }

    fn possible_edges(&self) -> ParameterSet {
        let mut edges = ParameterSet::EMPTY;
        for layer in 1..self.layers {
            for node in 0..self.width(layer) {
                for item in 0..self.width(layer - 1) {
                    edges.insert(Parameter::instance(layer, node, item));
                }
            }
        }
        edges
    }

    /// Number of layers, 2 to 4.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// Things in `layer`; 0 past the last layer.
    pub fn width(&self, layer: usize) -> usize {
        self.widths.get(layer).map_or(0, |&width| width.into())
    }

    /// The instance parameters, one per edge.
    pub fn edges(&self) -> ParameterSet {
        self.edges
    }

    /// The abstract parameters.
    pub fn totals(&self) -> ParameterSet {
        self.totals
    }

    /// The things of the layer below that are directly inside thing `node` of `layer`, in order.
    pub fn contents(&self, layer: usize, node: usize) -> impl Iterator<Item = usize> + use<> {
        let bits = self.content_bits(layer, node);
        (0..MAX_WIDTH).filter(move |item| bits >> item & 1 == 1)
    }

    #[inline]
    fn content_bits(&self, layer: usize, node: usize) -> u8 {
        self.contents[layer][node]
    }

    /// How many parameters the abstract parameter `total` is computed from; 0 for an instance parameter.
    #[inline]
    pub(super) fn num_total_parents(&self, total: Parameter) -> u32 {
        let ParameterKind::Abstract { layer, node, category } = total.kind() else { return 0 };
        let items = self.content_bits(layer, node).count_ones();
        if category + 1 < layer { 2 * items } else { items }
    }

    /// What the abstract parameter `total` is computed from; empty for an instance parameter.
    #[inline]
    pub fn total_parents(&self, total: Parameter) -> ParameterSet {
        let ParameterKind::Abstract { layer, node, category } = total.kind() else { return ParameterSet::EMPTY };
        let bits = u64::from(self.content_bits(layer, node));
        // Numbers of neighbours in a layer follow each other, so the bits of the contents shift into place.
        let counts = ParameterSet::run(Parameter::instance(layer, node, 0), bits);
        if category + 1 < layer {
            counts.or(ParameterSet::run(Parameter::total(layer - 1, 0, category), bits))
        } else {
            counts
        }
    }
}

fn draw_widths(hyper: &Hyper, stream: &mut Stream) -> [u8; MAX_LAYERS] {
    let layers = hyper.layers;
    let mut widths = [0_u8; MAX_LAYERS];
    widths[..layers].fill(hyper.min_width as u8);
    let patience = stream.uniform();
    loop {
        let growing = (0..layers).filter(|&layer| usize::from(widths[layer]) < hyper.max_width).count();
        if growing == 0 {
            return widths;
        }
        let mandatory: usize = widths[1..layers].iter().map(|&width| usize::from(width)).sum();
        if mandatory == hyper.edges {
            return widths;
        }
        let possible: usize = widths[..layers].windows(2).map(|pair| usize::from(pair[0]) * usize::from(pair[1])).sum();
        if hyper.edges <= possible && stream.uniform() >= patience {
            return widths;
        }
        let chosen = stream.below(growing as u32) as usize;
        let grown = (0..layers).filter(|&layer| usize::from(widths[layer]) < hyper.max_width).nth(chosen);
        if let Some(layer) = grown {
            widths[layer] += 1;
        }
    }
}
