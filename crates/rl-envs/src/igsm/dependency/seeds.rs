//! Stages 1 and 2: which parameters take part.

use super::total_cost;
use crate::igsm::hyper::Hyper;
use crate::igsm::parameter::{MAX_LAYERS, Parameter, ParameterSet};
use crate::igsm::stream::Stream;
use crate::igsm::structure::Structure;

/// Draws the parameters of the solution: abstract ones with all they are computed from while their operations stay within
/// `hyper.seed_operations`, high levels first, then instance parameters, one operation each, up to `hyper.plain_operations`.
pub(in crate::igsm) fn draw(structure: &Structure, hyper: &Hyper, stream: &mut Stream) -> ParameterSet {
    let levels = levels(structure);
    let mut nodes = ParameterSet::EMPTY;
    let mut cost = 0;
    let mut level = structure.layers() - 1;
    while level >= 1 {
        let unused = levels[level].minus(nodes);
        if let Some(seed) = unused.nth(stream.below(unused.len() as u32) as usize) {
            let added = closure(structure, seed).minus(nodes);
            let mut added_cost = added.and(ParameterSet::INSTANCES).len() as u32;
            for total in added.minus(ParameterSet::INSTANCES) {
                added_cost += total_cost(structure, total);
            }
            if cost + added_cost <= hyper.seed_operations {
                nodes = nodes.or(added);
                cost += added_cost;
                level = structure.layers() - 1;
                continue;
            }
        }
        level -= 1;
    }
    let mut unused = structure.edges().minus(nodes);
    while cost < hyper.plain_operations {
        let Some(plain) = unused.nth(stream.below(unused.len() as u32) as usize) else { break };
        unused.remove(plain);
        nodes.insert(plain);
        cost += 1;
    }
    nodes
}

/// Abstract parameters by level, the number of layers they reach down.
fn levels(structure: &Structure) -> [ParameterSet; MAX_LAYERS] {
    let mut levels = [ParameterSet::EMPTY; MAX_LAYERS];
    for layer in 1..structure.layers() {
        for category in 0..layer {
            levels[layer - category] = levels[layer - category].or(structure.layer_totals(layer, category));
        }
    }
    levels
}

/// An abstract parameter with all it is computed from, directly or not.
fn closure(structure: &Structure, total: Parameter) -> ParameterSet {
    let parents = structure.total_parents(total);
    let mut closure = parents.or(ParameterSet::of(total));
    for parent in parents.minus(ParameterSet::INSTANCES) {
        closure = closure.or(self::closure(structure, parent));
    }
    closure
}
