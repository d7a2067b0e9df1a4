//! More rows from the same problem: other orders of the conditions (PP-Aug) and other orders of the solution (RC-Aug).

use serde::{Deserialize, Serialize};

use super::config::ConditionOrder;
use super::problem::Problem;
use super::stream::{Purpose, Stream};
use crate::error::{Result, ensure};

/// Rows made of one problem.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Augmentation {
    /// One row.
    #[default]
    None,
    /// PP-Aug: the problem and reshuffles of its conditions, all with the same solution.
    PremisePermutation {
        /// Rows per problem, the original included; published: 4.
        rows: u64,
    },
    /// RC-Aug: the problem with its solution and solutions in other orders with other letters.
    ReasoningOrder {
        /// Rows per problem, the original included; published: 4.
        rows: u64,
    },
}

impl Augmentation {
    /// Rows per problem.
    pub fn rows(self) -> u64 {
        match self {
            Augmentation::None => 1,
            Augmentation::PremisePermutation { rows } | Augmentation::ReasoningOrder { rows } => rows,
        }
    }

    /// Variant of the question in row `row`, as for [`Problem::reordered`].
    pub fn question_variant(self, row: u64) -> u64 {
        if matches!(self, Augmentation::PremisePermutation { .. }) { row } else { 0 }
    }

    /// Variant of the solution in row `row`, as for [`Problem::response`].
    pub fn response_variant(self, row: u64) -> u64 {
        if matches!(self, Augmentation::ReasoningOrder { .. }) { row } else { 0 }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(self) -> Result<()> {
        ensure((1..=1000).contains(&self.rows()), "augmentation.rows", self.rows(), "must be 1 to 1000")
    }
}

impl Problem {
    /// The same problem with its conditions in another order; `variant` 0 is the problem itself.
    pub fn reordered(&self, variant: u64) -> Problem {
        let mut problem = self.clone();
        if 0 < variant {
            let mut stream = Stream::new(Purpose::Order.key(self.seed, self.index).at(variant));
            problem.order_conditions(ConditionOrder::Shuffled, &mut stream);
        }
        problem
    }
}
