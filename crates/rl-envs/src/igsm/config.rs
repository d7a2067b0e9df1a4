//! Which problems are drawn. The defaults are those of the published injected-behaviour data with our corrections.

use serde::{Deserialize, Serialize};

use super::parameter::{MAX_INSTANCES, MAX_LAYERS, MAX_WIDTH};
use super::problem::MAX_OPERANDS;
use crate::error::{Result, ensure};

/// Most operations of a problem; beyond it hardly any graph has letters enough.
pub const MAX_OPERATIONS: u32 = 60;

/// The problems, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProblemConfig {
    /// Names of the things.
    pub vocabulary: VocabularyKind,
    /// Fewest operations of a solution.
    pub min_operations: u32,
    /// Most operations of a solution.
    pub max_operations: u32,
    /// Exactly `max_operations` operations, always.
    pub force: bool,
    /// Most edges of the structure.
    pub max_instance_params: u32,
    /// Most parents of an instance parameter; its random constant counts as one.
    pub max_instance_in_degree: usize,
    /// Redraws of the two graphs with the same hyper-parameters.
    pub max_attempts: u32,
    /// Constants are below this.
    pub rng_range: u16,
    /// Smallest constant that multiplies; 0, as published, makes a large share of the answers zero.
    pub mul_const_min: u16,
    /// Reduces every value to `0..modulus`.
    pub modulus: Option<u32>,
    /// Problems whose answer is this large, by absolute value, are dropped; `None` keeps all.
    pub max_solution: Option<u64>,
    /// Problems with an intermediate value larger than this, by absolute value, are dropped.
    pub max_intermediate: Option<u64>,
    /// Probability to drop a problem whose answer is zero; published: 0.6 where `min_operations` exceeds 20.
    pub zero_reject_prob: f64,
    /// Order of the conditions.
    pub condition_order: ConditionOrder,
    /// Describes edges that the solution does not need.
    pub redundant_query: bool,
    /// How the structure is filled up.
    pub missing_edges: MissingEdges,
    /// How often an instance parameter that has a consumer anyway gets a parent early on.
    pub extra_parent: ExtraParent,
    /// Which candidates the biased choice of such a parent prefers, besides abstract ones.
    pub parent_bias: ParentBias,
    /// What a parameter that the solution does not need may depend on.
    pub redundant_parents: RedundantParents,
    /// Where constants come from.
    pub constants: Constants,
    /// Keeps only problems whose template falls into some bins; `None` keeps all.
    pub split: Option<TemplateSplit>,
}

impl Default for ProblemConfig {
    fn default() -> Self {
        ProblemConfig {
            vocabulary: VocabularyKind::Standard,
            min_operations: 15,
            max_operations: 20,
            force: false,
            max_instance_params: 20,
            max_instance_in_degree: 4,
            max_attempts: 50,
            rng_range: 10,
            mul_const_min: 0,
            modulus: None,
            max_solution: Some(1000),
            max_intermediate: None,
            zero_reject_prob: 0.0,
            condition_order: ConditionOrder::Shuffled,
            redundant_query: true,
            missing_edges: MissingEdges::Rejection,
            extra_parent: ExtraParent::Half,
            parent_bias: ParentBias::Needed,
            redundant_parents: RedundantParents::Necessary,
            constants: Constants::Range,
            split: None,
        }
    }
}

impl ProblemConfig {
    /// Problems of exactly `operations` operations.
    pub fn exactly(operations: u32) -> Self {
        ProblemConfig { min_operations: operations, max_operations: operations, force: true, ..Self::default() }
    }

    /// Problems of `low` to `high` operations, small counts more often than large ones.
    pub fn range(low: u32, high: u32) -> Self {
        ProblemConfig { min_operations: low, max_operations: high, ..Self::default() }
    }

    /// The original benchmark at medium size: at most 15 operations and 20 edges, all arithmetic modulo 23.
    pub fn original_medium() -> Self {
        ProblemConfig {
            modulus: Some(23),
            max_solution: None,
            missing_edges: MissingEdges::Uniform,
            extra_parent: ExtraParent::PerProblem,
            parent_bias: ParentBias::NotNeeded,
            redundant_parents: RedundantParents::All,
            constants: Constants::Original,
            ..Self::range(1, 15)
        }
    }

    /// The original benchmark at hard size: at most 21 operations and 28 edges, all arithmetic modulo 23.
    pub fn original_hard() -> Self {
        ProblemConfig { max_operations: 21, max_instance_params: 28, ..Self::original_medium() }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        ensure(1 <= self.min_operations, "min_operations", self.min_operations, "must be positive")?;
        ensure(
            (self.min_operations..=MAX_OPERATIONS).contains(&self.max_operations),
            "max_operations",
            self.max_operations,
            format!("must be {} (min_operations) to {MAX_OPERATIONS}", self.min_operations),
        )?;
        let fewest = ((MAX_LAYERS - 1) * MAX_WIDTH) as u32;
        ensure(
            (fewest..=MAX_INSTANCES as u32).contains(&self.max_instance_params),
            "max_instance_params",
            self.max_instance_params,
            format!("must be {fewest} to {MAX_INSTANCES}"),
        )?;
        ensure(
            (2..=MAX_OPERANDS).contains(&self.max_instance_in_degree),
            "max_instance_in_degree",
            self.max_instance_in_degree,
            format!("must be 2 to {MAX_OPERANDS}"),
        )?;
        ensure((1..=10_000).contains(&self.max_attempts), "max_attempts", self.max_attempts, "must be 1 to 10000")?;
        ensure(
            (1..=1000).contains(&self.rng_range),
            "rng_range",
            self.rng_range,
            "must be 1 to 1000; constants are below it",
        )?;
        ensure(
            self.mul_const_min < self.rng_range,
            "mul_const_min",
            self.mul_const_min,
            format!("must be below {} (rng_range)", self.rng_range),
        )?;
        ensure(self.modulus != Some(0), "modulus", 0, "must be positive")?;
        ensure(self.max_solution != Some(0), "max_solution", 0, "must be positive")?;
        if let Some(limit) = self.max_solution {
            ensure(limit <= i64::MAX as u64, "max_solution", limit, format!("must be at most {}", i64::MAX))?;
        }
        ensure(
            (0.0..1.0).contains(&self.zero_reject_prob),
            "zero_reject_prob",
            self.zero_reject_prob,
            "must be at least 0 and below 1",
        )?;
        if let ConditionOrder::Mild { level } = self.condition_order {
            ensure((1..=5).contains(&level), "condition_order.level", level, "must be 1 to 5")?;
        }
        self.split.as_ref().map_or(Ok(()), TemplateSplit::validate)
    }
}

/// Where the names of things come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VocabularyKind {
    /// Three themed worlds with 221 names.
    Standard,
    /// One world of synthetic names, ten per layer.
    Debug,
}

/// Order of the conditions of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ConditionOrder {
    /// Every order is as likely.
    Shuffled,
    /// Sorted by the place in the solution plus a uniform draw below `2 * level`: conditions stay near their place.
    Mild {
        /// 1 to 5.
        level: u32,
    },
    /// In the order of the solution, then what the solution does not need.
    Solution,
}

/// How edges beyond the mandatory ones are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingEdges {
    /// Layer, container and content uniformly in turn, again if the edge exists.
    Rejection,
    /// Uniformly among the edges that are missing, as in the original benchmark.
    Uniform,
}

/// Probability of an early parent where none is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtraParent {
    /// One half.
    Half,
    /// One uniform draw per graph, as in the original benchmark.
    PerProblem,
}

/// The second indicator of the biased choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentBias {
    /// Parameters that are needed already.
    Needed,
    /// Parameters that are not needed yet, as in the original benchmark.
    NotNeeded,
}

/// What an attached redundant parameter may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedundantParents {
    /// What the solution computes, and unused abstract parameters.
    Necessary,
    /// Redundant parameters too, as in the original benchmark.
    All,
}

/// Where constants come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constants {
    /// From 0, or `mul_const_min` where they multiply, to `rng_range - 1`.
    Range,
    /// From 0 to 22, or 1 to 22 where they multiply, as in the original benchmark.
    Original,
}

/// Bins of template hashes: problems that differ in names and numbers alone fall into one bin, so splits with
/// different bins share no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateSplit {
    /// Bins in all; published: 23.
    pub num_bins: u32,
    /// First bin kept.
    pub first_bin: u32,
    /// Bins kept.
    pub num_kept: u32,
}

impl TemplateSplit {
    /// Bins 0 to 15 of 23.
    pub const TRAIN: TemplateSplit = TemplateSplit { num_bins: 23, first_bin: 0, num_kept: 16 };
    /// Bins 16 to 22 of 23.
    pub const TEST: TemplateSplit = TemplateSplit { num_bins: 23, first_bin: 16, num_kept: 7 };

    /// Whether problems of `bin` are kept.
    pub fn keeps(&self, bin: u32) -> bool {
        bin >= self.first_bin && bin - self.first_bin < self.num_kept
    }

    fn validate(&self) -> Result<()> {
        ensure(1 <= self.num_bins, "split.num_bins", self.num_bins, "must be positive")?;
        ensure(1 <= self.num_kept, "split.num_kept", self.num_kept, "must be positive, or no problem is left")?;
        ensure(
            self.first_bin.checked_add(self.num_kept).is_some_and(|end| end <= self.num_bins),
            "split.num_kept",
            self.num_kept,
            format!("first_bin + num_kept must be at most {} (num_bins)", self.num_bins),
        )
    }
}
