//! Charts of a comparison: spectra and their shift, and principal angles inside their null bands.
//!
//! Everything is drawn from the [`Comparison`] alone, so figures can be made again from its JSON file. A curve is the mean
//! over the matrices of one projection; where these differ in shape or rank, the most frequent kind is drawn and the
//! axis says how many matrices that is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_track::plot::{LineChart, Series};

use crate::error::{Error, Result};
use crate::nulls::{Band, ShapeNull};
use crate::report::{Comparison, Pair, PairMatrix, Role, UpdateAngles};

/// Places in the plot's colours, so that a null has one colour in all charts.
const INDEPENDENT_COLOR: usize = 6;
const SHARED_TERM_COLOR: usize = 5;
const ROUNDING_COLOR: usize = 4;

/// One chart.
#[derive(Debug, Clone)]
pub struct Figure {
    /// File name without ending, such as `self_attn-q_proj-angles-left`.
    pub name: String,
    /// The chart.
    pub svg: String,
}

/// All charts: per projection spectrum, shift of the spectrum, and for either side the angles between checkpoints and
/// those between updates.
pub fn figures(comparison: &Comparison) -> Vec<Figure> {
    let mut figures = Vec::new();
    for suffix in &comparison.config.suffixes {
        let stem: String = short(suffix).replace('.', "-");
        let mut add = |kind: &str, chart: LineChart| {
            figures.push(Figure { name: format!("{stem}-{kind}"), svg: chart.to_svg() });
        };
        add("spectrum", spectrum(comparison, suffix));
        add("shift", shift(comparison, suffix));
        for side in [Side::Left, Side::Right] {
            add(&format!("angles-{}", side.name()), angles(comparison, suffix, side));
            add(&format!("update-{}", side.name()), updates(comparison, suffix, side));
        }
    }
    figures
}

/// Writes all charts as `<folder>/<name>.svg` and returns their paths.
///
/// # Errors
/// [`Error::File`] if the folder cannot be made or a file not written.
pub fn write_figures(comparison: &Comparison, folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { action: "write", path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    figures(comparison)
        .into_iter()
        .map(|figure| {
            let path = folder.join(format!("{}.svg", figure.name));
            std::fs::write(&path, figure.svg).map_err(failed(&path))?;
            Ok(path)
        })
        .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Left => "left",
            Side::Right => "right",
        }
    }

    fn of_pair(self, matrix: &PairMatrix) -> &[f64] {
        match self {
            Side::Left => &matrix.principal_angle_U,
            Side::Right => &matrix.principal_angle_V,
        }
    }

    fn of_update(self, update: &UpdateAngles) -> &[f64] {
        match self {
            Side::Left => &update.principal_angle_U,
            Side::Right => &update.principal_angle_V,
        }
    }

    fn independent(self, null: &ShapeNull) -> &Band {
        match self {
            Side::Left => &null.independent_u,
            Side::Right => &null.independent_v,
        }
    }

    fn shared_term(self, null: &ShapeNull) -> &Band {
        match self {
            Side::Left => &null.shared_term_u,
            Side::Right => &null.shared_term_v,
        }
    }
}

fn pair_label(pair: Pair) -> &'static str {
    match pair {
        Pair::BaseToTarget => "base to target",
        Pair::TargetToOther => "target to other",
        Pair::BaseToOther => "base to other",
    }
}

/// Curves of one shape and rank.
struct Group<'a> {
    shape: [usize; 2],
    rank: usize,
    curves: Vec<&'a [f64]>,
    /// Matrices of the projection, of any shape and rank.
    total: usize,
}

/// The most frequent kind among `(shape, curve)`; of equally frequent ones the largest.
fn most_frequent<'a>(curves: impl Iterator<Item = ([usize; 2], &'a [f64])>) -> Option<Group<'a>> {
    let mut kinds: BTreeMap<([usize; 2], usize), Vec<&[f64]>> = BTreeMap::new();
    for (shape, curve) in curves {
        kinds.entry((shape, curve.len())).or_default().push(curve);
    }
    let total = kinds.values().map(Vec::len).sum();
    let ((shape, rank), curves) = kinds.into_iter().max_by_key(|(kind, curves)| (curves.len(), *kind))?;
    Some(Group { shape, rank, curves, total })
}

impl Group<'_> {
    fn mean(&self) -> Vec<f64> {
        let count = self.curves.len() as f64;
        (0..self.rank).map(|i| self.curves.iter().map(|curve| curve[i]).sum::<f64>() / count).collect()
    }

    fn count(&self) -> String {
        format!("mean of {} of {} matrices [{}, {}]", self.curves.len(), self.total, self.shape[0], self.shape[1])
    }
}

fn short(suffix: &str) -> &str {
    suffix.trim_end_matches(".weight")
}

fn line(name: &str, values: &[f64]) -> Series {
    let points = values.iter().enumerate().map(|(i, &value)| ((i + 1) as f64, value)).collect();
    Series { name: name.into(), points, ..Series::default() }
}

fn degrees(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| value.to_degrees()).collect()
}

/// Median and band of a null, in degrees.
fn null_line(name: &str, null: &Band, color: usize) -> Series {
    let ends = degrees(&null.lower).into_iter().zip(degrees(&null.upper)).collect();
    Series { band: ends, is_dashed: true, color: Some(color), ..line(name, &degrees(&null.median)) }
}

fn spectrum(comparison: &Comparison, suffix: &str) -> LineChart {
    let mut count = String::new();
    let mut series = Vec::new();
    for (role, checkpoint) in &comparison.checkpoints {
        let matrices = checkpoint.matrices.iter().filter(|(name, _)| name.ends_with(suffix));
        let curves = matrices.map(|(_, matrix)| (matrix.shape, matrix.singular_values.as_slice()));
        if let Some(group) = most_frequent(curves) {
            count = group.count();
            series.push(Series { is_dashed: *role != Role::Base, ..line(role.name(), &group.mean()) });
        }
    }
    LineChart {
        title: format!("{}: singular values", short(suffix)),
        x_label: format!("singular index, {count}"),
        y_label: "singular value".into(),
        series,
        ..LineChart::default()
    }
}

fn shift(comparison: &Comparison, suffix: &str) -> LineChart {
    let mut count = String::new();
    let mut series = Vec::new();
    for pair in [Pair::BaseToTarget, Pair::TargetToOther] {
        let Some(report) = comparison.pairs.get(&pair) else { continue };
        let matrices = report.matrices.iter().filter(|(name, _)| name.ends_with(suffix));
        let curves = matrices.map(|(_, matrix)| (matrix.shape, matrix.delta_singular_values.as_slice()));
        if let Some(group) = most_frequent(curves) {
            count = group.count();
            series.push(line(pair_label(pair), &group.mean()));
        }
    }
    LineChart {
        title: format!("{}: change of singular values", short(suffix)),
        x_label: format!("singular index, {count}"),
        y_label: "change".into(),
        series,
        ..LineChart::default()
    }
}

fn angles(comparison: &Comparison, suffix: &str, side: Side) -> LineChart {
    let mut count = String::new();
    let mut series = Vec::new();
    let mut kind = None;
    for (pair, report) in &comparison.pairs {
        let matrices = report.matrices.iter().filter(|(name, _)| name.ends_with(suffix));
        if let Some(group) = most_frequent(matrices.map(|(_, matrix)| (matrix.shape, side.of_pair(matrix)))) {
            count = group.count();
            kind = Some((group.shape, group.rank));
            series.push(line(pair_label(*pair), &degrees(&group.mean())));
        }
    }
    if let Some((shape, rank)) = kind {
        if let Some(null) = shape_null(comparison, shape, rank) {
            series.push(null_line("null: independent", side.independent(null), INDEPENDENT_COLOR));
        }
        let of_kind = |null: &&crate::report::RoundingNull| null.suffix == suffix && null.rank == rank;
        if let Some(null) = comparison.null.rounding.iter().find(of_kind) {
            let band = if side == Side::Left { &null.u } else { &null.v };
            series.push(null_line("null: rounding", band, ROUNDING_COLOR));
        }
    }
    angle_chart(format!("{}: {} subspaces", short(suffix), side.name()), &count, series)
}

fn updates(comparison: &Comparison, suffix: &str, side: Side) -> LineChart {
    let of_suffix = comparison.updates.iter().filter(|(name, _)| name.ends_with(suffix));
    let curves = of_suffix.map(|(_, update)| (update.shape, side.of_update(update)));
    let mut count = String::from("no matrices");
    let mut series = Vec::new();
    if let Some(group) = most_frequent(curves) {
        count = group.count();
        series.push(line("update of target and of other", &degrees(&group.mean())));
        if let Some(null) = shape_null(comparison, group.shape, group.rank) {
            series.push(null_line("null: shared term", side.shared_term(null), SHARED_TERM_COLOR));
            series.push(null_line("null: independent", side.independent(null), INDEPENDENT_COLOR));
        }
    }
    angle_chart(format!("{}: {} subspaces of updates", short(suffix), side.name()), &count, series)
}

fn shape_null(comparison: &Comparison, shape: [usize; 2], rank: usize) -> Option<&ShapeNull> {
    comparison.null.shapes.iter().find(|null| null.shape == shape && null.rank == rank)
}

fn angle_chart(title: String, count: &str, series: Vec<Series>) -> LineChart {
    LineChart {
        title,
        x_label: format!("rank index, {count}"),
        y_label: "principal angle (degrees)".into(),
        series,
        ..LineChart::default()
    }
}
