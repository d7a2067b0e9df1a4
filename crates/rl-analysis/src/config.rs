//! Settings of a comparison of checkpoints.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::fresh_init::FreshInitConfig;

/// Rank of the subspaces that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rank {
    /// So many directions, or all of a smaller matrix.
    Count(usize),
    /// This share of `min(out, in)`, rounded, at least 1.
    Fraction(f64),
}

impl Rank {
    /// The rank used for a matrix with `full = min(out, in)` singular values.
    pub fn of(self, full: usize) -> usize {
        match self {
            Rank::Count(count) => count.min(full),
            Rank::Fraction(share) => ((full as f64 * share).round() as usize).clamp(1, full),
        }
    }
}

/// Draws behind the null bands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NullConfig {
    /// Seed of all draws.
    pub seed: u64,
    /// Draws per matrix shape of the independent and the shared-term null.
    pub draws: usize,
    /// Draws per matrix of the rounding null, each one decomposition; bands pool the matrices of one projection. 0: none.
    pub rounding_draws: usize,
    /// Larger matrices are drawn with their sides and rank scaled down to this.
    pub max_dimension: usize,
}

impl Default for NullConfig {
    fn default() -> Self {
        Self { seed: 0, draws: 20, rounding_draws: 2, max_dimension: 384 }
    }
}

/// Settings of [`crate::compare_checkpoints`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnalysisConfig {
    /// A tensor is analysed if its name ends in one of these.
    pub suffixes: Vec<String>,
    /// ... and contains none of these; the defaults leave out vision towers.
    pub exclude: Vec<String>,
    /// Rank of the subspaces.
    pub rank: Rank,
    /// Ranks at which the in-subspace energy of an update is reported; those beyond a matrix's own are left out.
    pub energy_ranks: Vec<usize>,
    /// Relative spectral gap below which a single vector is not followed.
    pub min_gap: f64,
    /// Share of the singular indices that counts as head, and as tail.
    pub panel_fraction: f64,
    /// Null bands.
    pub nulls: NullConfig,
    /// Detector of weights that were never loaded.
    pub fresh_init: FreshInitConfig,
    /// Matrices analysed at the same time, one thread each; 0 takes every core. Does not change results.
    pub num_threads: usize,
}

/// `projection` is one of `q`, `k`, `v`, `o`, `gate`, `up`, `down`.
fn suffix_of(projection: &str) -> String {
    let block = if matches!(projection, "gate" | "up" | "down") { "mlp" } else { "self_attn" };
    format!("{block}.{projection}_proj.weight")
}

impl Default for AnalysisConfig {
    fn default() -> Self {
        Self {
            suffixes: ["q", "k", "v", "down"].map(suffix_of).to_vec(),
            exclude: vec!["vision_".into(), "visual.".into()],
            rank: Rank::Fraction(0.25),
            energy_ranks: vec![16, 32, 64, 128, 256, 512, 1024],
            min_gap: 1e-3,
            panel_fraction: 0.1,
            nulls: NullConfig::default(),
            fresh_init: FreshInitConfig::default(),
            num_threads: 0,
        }
    }
}

impl AnalysisConfig {
    /// All seven projections of a Llama or Qwen layer instead of the default four.
    pub fn with_all_projections(mut self) -> Self {
        self.suffixes = ["q", "k", "v", "o", "gate", "up", "down"].map(suffix_of).to_vec();
        self
    }

    /// # Errors
    /// [`crate::Error::Config`] names the first setting out of range.
    pub fn validate(&self) -> Result<()> {
        ensure(!self.suffixes.is_empty(), "suffixes", "empty", "name at least one ending of tensor names")?;
        ensure(
            !self.suffixes.iter().any(String::is_empty),
            "suffixes",
            "\"\"",
            "an empty ending matches every tensor",
        )?;
        ensure(!self.exclude.iter().any(String::is_empty), "exclude", "\"\"", "an empty part excludes every tensor")?;
        match self.rank {
            Rank::Count(count) => ensure(count > 0, "rank.count", count, "must be positive")?,
            Rank::Fraction(share) => {
                ensure(0.0 < share && share <= 1.0, "rank.fraction", share, "must be in (0, 1]")?;
            }
        }
        ensure(!self.energy_ranks.contains(&0), "energy_ranks", 0, "ranks start at 1")?;
        ensure((0.0..1.0).contains(&self.min_gap), "min_gap", self.min_gap, "must be in [0, 1)")?;
        ensure(
            0.0 < self.panel_fraction && self.panel_fraction <= 0.5,
            "panel_fraction",
            self.panel_fraction,
            "must be in (0, 0.5]",
        )?;
        ensure(self.nulls.draws >= 2, "nulls.draws", self.nulls.draws, "a band needs at least 2 draws; 20 is usual")?;
        ensure(
            self.nulls.max_dimension >= 16,
            "nulls.max_dimension",
            self.nulls.max_dimension,
            "must be at least 16, or edge effects swamp the band",
        )?;
        self.fresh_init.validate()
    }
}
