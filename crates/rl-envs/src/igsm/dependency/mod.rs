//! The necessary part of the dependency graph: which parameters are computed, in which order, from what.
//!
//! Four stages: `seeds` chooses abstract parameters with all they need and plain instance parameters (stages 1 and 2),
//! `order` draws a solution order in which everything leads to the query (stage 3), `degrees` fills in-degrees until
//! the number of operations is exact (stage 4).

pub(super) mod degrees;
pub(super) mod order;
pub(super) mod seeds;

use super::parameter::{MAX_INSTANCES, MAX_PARAMETERS, Parameter, ParameterSet};
use super::structure::Structure;

/// Most letters, and so most parameters in the solution and beside it.
pub const MAX_LETTERS: usize = 52;

/// What an instance parameter is computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parents {
    pub parameters: ParameterSet,
    /// A random constant takes part.
    pub constant: bool,
}

/// Parameters in the order of the solution, and their parents.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dependencies {
    /// The first `len` are in use.
    pub order: [Parameter; MAX_PARAMETERS],
    pub len: usize,
    /// By the number of the instance parameter.
    pub parents: [Parents; MAX_INSTANCES],
}

impl Dependencies {
    pub(super) fn new() -> Self {
        Dependencies {
            order: [Parameter::from_index(0); MAX_PARAMETERS],
            len: 0,
            parents: [Parents::default(); MAX_INSTANCES],
        }
    }

    pub(super) fn order(&self) -> &[Parameter] {
        &self.order[..self.len]
    }

    pub(super) fn push(&mut self, parameter: Parameter) {
        self.order[self.len] = parameter;
        self.len += 1;
    }
}

/// Binary operations it takes to compute an abstract parameter; a copy counts as one.
#[inline]
pub(super) fn total_cost(structure: &Structure, total: Parameter) -> u32 {
    structure.num_total_parents(total).saturating_sub(1).max(1)
}
