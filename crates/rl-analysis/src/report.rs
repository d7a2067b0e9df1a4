//! The result of a comparison: plain data that reads and writes as one JSON file, from which figures can be redrawn.
//!
//! All angles are radians, ascending. The key names of a matrix follow the published analysis files.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::angles::{AngleSummary, RotationPanels};
use crate::config::AnalysisConfig;
use crate::error::{Error, Result};
use crate::fresh_init::FreshInit;
use crate::nulls::{Band, ShapeNull};
use crate::select::NameCounts;
use crate::spectrum::BasicStats;

/// What a checkpoint is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The checkpoint of the best out-of-distribution score in fine-tuning.
    Base,
    /// The end of fine-tuning.
    Target,
    /// The end of reinforcement learning that started at the target.
    Other,
}

impl Role {
    /// The key in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Role::Base => "base",
            Role::Target => "target",
            Role::Other => "other",
        }
    }
}

/// Two checkpoints, the earlier first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pair {
    /// What fine-tuning did.
    BaseToTarget,
    /// What reinforcement learning did.
    TargetToOther,
    /// Both together.
    BaseToOther,
}

impl Pair {
    /// The key in the JSON file.
    pub fn name(self) -> &'static str {
        match self {
            Pair::BaseToTarget => "base_to_target",
            Pair::TargetToOther => "target_to_other",
            Pair::BaseToOther => "base_to_other",
        }
    }
}

/// One weight matrix of one checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixReport {
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Type in which it was given, such as `BFloat16`.
    pub kind: String,
    /// Statistics of its entries and spectrum.
    pub basic_stats: BasicStats,
    /// All singular values, descending.
    pub singular_values: Vec<f64>,
    /// Whether it looks freshly initialised.
    pub fresh_init: FreshInit,
}

/// One checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointReport {
    /// Tensors in the checkpoint.
    pub num_tensors: usize,
    /// Numbers in all its tensors.
    pub num_parameters: usize,
    /// Agreement of its names with the base's.
    pub names: NameCounts,
    /// [`crate::select::weight_sha256`] of all its tensors.
    pub weight_sha256: String,
    /// Selected matrices that look freshly initialised.
    pub fresh_init_flagged: usize,
    /// Selected matrices by name.
    pub matrices: BTreeMap<String, MatrixReport>,
}

/// Subspace geometry of one side, left or right, of a matrix in two checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideReport {
    /// Summary of the principal angles.
    pub angles: AngleSummary,
    /// `sum s_i^2 * angle(vector_i of the earlier, leading subspace of the later)`.
    pub direction_energy: f64,
    /// Mean over the earlier's leading vectors of the best absolute cosine among the later's.
    pub best_match: f64,
    /// `|cos|` of the i-th vectors, all singular indices.
    pub vector_cosines: Vec<f64>,
    /// Means of `vector_cosines` where the gap is large enough in both.
    pub panels: RotationPanels,
}

/// One matrix in two checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)] // published key names
pub struct PairMatrix {
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Rank of the subspaces.
    pub rank: usize,
    /// Change of each singular value.
    pub delta_singular_values: Vec<f64>,
    /// The same relative to the earlier value.
    pub rel_singular_change: Vec<f64>,
    /// Mean of `|rel_singular_change|`.
    pub sigma_drift: f64,
    /// Singular values of the update.
    pub delta_s: Vec<f64>,
    /// Frobenius norm of the update.
    pub delta_norm: f64,
    /// Share of the update's energy on the diagonal of its core.
    pub delta_energy_diag: f64,
    /// Share off the diagonal, inside the subspaces.
    pub delta_energy_rot: f64,
    /// Share outside the subspaces.
    pub delta_energy_outside: f64,
    /// Share inside the leading subspaces of each of `energy_ranks`.
    pub in_subspace_energy: BTreeMap<usize, f64>,
    /// Size of the diagonal of the core, `[rank]`.
    pub core_diagonal: Vec<f64>,
    /// Principal angles of the left subspaces.
    pub principal_angle_U: Vec<f64>,
    /// Principal angles of the right subspaces.
    pub principal_angle_V: Vec<f64>,
    /// Left side.
    pub left: SideReport,
    /// Right side.
    pub right: SideReport,
    /// True where a singular vector is well defined in both checkpoints.
    pub gap_mask: Vec<bool>,
    /// `1 - ||U^T W V||^2 / sum s^2`, 0 if within 1e-3 of 0.
    pub retention_loss: f64,
    /// Squared Frobenius norm of the later weight outside the earlier's subspaces.
    pub residual_energy: f64,
    /// Squared Frobenius norm of the later weight.
    pub weight_energy: f64,
    /// Correlation of the entries; absent if a matrix is constant.
    pub pearson: Option<f64>,
}

/// Sums and means over the matrices of a pair.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairTotals {
    /// Matrices.
    pub matrices: usize,
    /// Mean of `sigma_drift`.
    pub sigma_drift: f64,
    /// Mean chordal distance of left subspaces.
    pub chordal_distance_u: f64,
    /// Mean chordal distance of right subspaces.
    pub chordal_distance_v: f64,
    /// Sum over matrices and both sides of the projector distance.
    pub projector_distance: f64,
    /// Sum over matrices and both sides of the direction energy.
    pub direction_energy: f64,
    /// Mean of `retention_loss`.
    pub retention_loss: f64,
    /// `sum residual_energy / sum weight_energy`.
    pub residual_ratio: f64,
    /// `sqrt(sum residual_energy)`.
    pub residual_norm: f64,
    /// `sqrt(sum weight_energy)`.
    pub weight_norm: f64,
    /// `sqrt(sum delta_norm^2)`.
    pub delta_norm: f64,
}

/// All matrices in two checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairReport {
    /// Over all matrices.
    pub totals: PairTotals,
    /// By name.
    pub matrices: BTreeMap<String, PairMatrix>,
}

/// Angles between the update of fine-tuning and that of reinforcement learning, for one matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(non_snake_case)] // published key names
pub struct UpdateAngles {
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Singular values of the fine-tuning update above the rounding error of the stored type.
    pub rank_target: usize,
    /// The same of the reinforcement-learning update.
    pub rank_other: usize,
    /// Rank compared: the configured one, but no more than either update has. 0: there is nothing to compare.
    pub rank: usize,
    /// Principal angles of the left subspaces, `[rank]`.
    pub principal_angle_U: Vec<f64>,
    /// Principal angles of the right subspaces, `[rank]`.
    pub principal_angle_V: Vec<f64>,
    /// Summary of the left angles; absent if `rank` is 0.
    pub summary_u: Option<AngleSummary>,
    /// Summary of the right angles; absent if `rank` is 0.
    pub summary_v: Option<AngleSummary>,
}

/// Base weights against themselves plus rounding noise, pooled over the matrices of one ending and rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundingNull {
    /// Ending of the matrices' names.
    pub suffix: String,
    /// Rank of the subspaces, and length of the bands.
    pub rank: usize,
    /// Curves pooled: matrices times draws.
    pub curves: usize,
    /// Left subspaces.
    pub u: Band,
    /// Right subspaces.
    pub v: Band,
}

/// Everything a measured angle must be held against.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NullReport {
    /// Independent and shared-term nulls, one for each shape and rank that occurs.
    pub shapes: Vec<ShapeNull>,
    /// Rounding nulls of the base.
    pub rounding: Vec<RoundingNull>,
    /// Largest angle between the base and itself, decomposed twice; anything but about 0 is a defect.
    pub same_file_max_angle: f64,
}

/// A comparison of three checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Settings it was made with.
    pub config: AnalysisConfig,
    /// The checkpoints.
    pub checkpoints: BTreeMap<Role, CheckpointReport>,
    /// What changed between them.
    pub pairs: BTreeMap<Pair, PairReport>,
    /// Fine-tuning update against reinforcement-learning update, by matrix name.
    pub updates: BTreeMap<String, UpdateAngles>,
    /// Null models.
    pub null: NullReport,
}

impl Comparison {
    /// Writes the JSON file; an existing one is replaced whole or not at all.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::File { action: "write", path: path.to_path_buf(), source };
        let text = serde_json::to_vec(self).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Reads what [`Comparison::write_json`] wrote.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Json`] if it is something else.
    pub fn read_json(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::File { action: "read", path: path.to_path_buf(), source })?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_path_buf(), source })
    }

    /// Writes all principal angles, matrices in name order, as f64 tensors of one safetensors file.
    ///
    /// Keys: `<pair>.U`, `<pair>.V`, `update.U`, `update.V`. A set without angles is left out.
    ///
    /// # Errors
    /// libtorch's, if the file cannot be written.
    pub fn write_angles(&self, path: &Path) -> Result<()> {
        let mut curves: Vec<(String, Vec<f64>)> = Vec::new();
        for (pair, report) in &self.pairs {
            let all = |pick: fn(&PairMatrix) -> &Vec<f64>| report.matrices.values().flat_map(pick).copied().collect();
            curves.push((format!("{}.U", pair.name()), all(|matrix| &matrix.principal_angle_U)));
            curves.push((format!("{}.V", pair.name()), all(|matrix| &matrix.principal_angle_V)));
        }
        let all = |pick: fn(&UpdateAngles) -> &Vec<f64>| self.updates.values().flat_map(pick).copied().collect();
        curves.push(("update.U".into(), all(|matrix| &matrix.principal_angle_U)));
        curves.push(("update.V".into(), all(|matrix| &matrix.principal_angle_V)));
        let tensors = curves
            .into_iter()
            .filter(|(_, angles)| !angles.is_empty())
            .map(|(name, angles)| Ok((name, Tensor::f_from_slice(&angles)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::write_safetensors(&tensors, path)?)
    }
}

/// The console summary: counts and hashes, then one line per pair.
impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (role, report) in &self.checkpoints {
            let names = &report.names;
            writeln!(
                f,
                "{:<7} {} tensors, {} matched, {} missing, {} unexpected, {} reshaped; {} of {} analysed matrices look \
                 freshly initialised; sha256 {}",
                role.name(),
                report.num_tensors,
                names.matched,
                names.missing.len(),
                names.unexpected.len(),
                names.reshaped.len(),
                report.fresh_init_flagged,
                names.selected,
                report.weight_sha256
            )?;
        }
        for (pair, report) in &self.pairs {
            let totals = &report.totals;
            writeln!(
                f,
                "{:<16} sigma drift {:.3e}, chordal U {:.4} V {:.4}, projector {:.4}, direction energy {:.4e}, retention \
                 loss {:.4}, residual ratio {:.4}, |dW| {:.4e}",
                pair.name(),
                totals.sigma_drift,
                totals.chordal_distance_u,
                totals.chordal_distance_v,
                totals.projector_distance,
                totals.direction_energy,
                totals.retention_loss,
                totals.residual_ratio,
                totals.delta_norm
            )?;
        }
        write!(f, "same file twice: largest angle {:.1e} rad", self.null.same_file_max_angle)
    }
}
