//! Null models against their closed forms and the table of simulated full-size curves.

use rl_analysis::angles::principal_angles;
use rl_analysis::nulls::{analytic_facts, independent_angles, shape_nulls, shared_term_factors, stretch};
use rl_core::random::RandomKey;

/// Error allowed in the mean `sin^2` of independent subspaces, relative.
const MEAN_SIN_SQUARED: f64 = 0.01;
/// Error allowed in the smallest independent angle at these sizes, degrees: the edge moves by about `n^(-2/3)`.
const SMALLEST_ANGLE: f64 = 1.5;
/// Error allowed in a shared-term curve drawn at a quarter of the size, degrees.
const QUARTER_SCALE: f64 = 1.5;
/// Angles below this are forced zeros, radians.
const ZERO: f64 = 1e-6;

fn key() -> RandomKey {
    RandomKey::new(5, "null test")
}

#[test]
fn subspaces_of_more_than_half_the_space_must_meet() {
    let angles = independent_angles(256, 192, key()).unwrap();
    assert_eq!(angles.iter().filter(|&&angle| angle < ZERO).count(), 128);
    assert_eq!(analytic_facts(256, 192).forced_zeros, 128);
}

#[test]
fn independent_subspaces_have_the_known_mean_and_edge() {
    for (n, k) in [(512, 64), (512, 128), (384, 300)] {
        let angles = independent_angles(n, k, key().at(k as u64)).unwrap();
        let mean = angles.iter().map(|angle| angle.sin().powi(2)).sum::<f64>() / k as f64;
        let share = k as f64 / n as f64;
        assert!((mean / (1.0 - share) - 1.0).abs() < MEAN_SIN_SQUARED, "{n} {k}: {mean}");
        let smallest = angles[(2 * k).saturating_sub(n)].to_degrees();
        let expected = (2.0 * (share * (1.0 - share)).sqrt()).acos().to_degrees();
        assert!((smallest - expected).abs() < SMALLEST_ANGLE, "{n} {k}: {smallest} {expected}");
        assert!(angles[k - 1].to_degrees() > 89.0);
    }
}

/// Mean left curve at a quarter of `[out, in]` for each of `ranks`, degrees, at the full rank's length.
fn quarter_curves(out: usize, input: usize, ranks: &[usize], draws: u64) -> Vec<Vec<f64>> {
    let mut sums: Vec<Vec<f64>> = ranks.iter().map(|&rank| vec![0.0; rank / 4]).collect();
    for draw in 0..draws {
        let (first, second) = shared_term_factors(out / 4, input / 4, key().at(draw)).unwrap();
        for (sum, rank) in sums.iter_mut().zip(ranks) {
            let angles = principal_angles(&first.left(rank / 4).unwrap(), &second.left(rank / 4).unwrap()).unwrap();
            sum.iter_mut().zip(angles).for_each(|(total, angle)| *total += angle.to_degrees() / draws as f64);
        }
    }
    sums.iter().zip(ranks).map(|(curve, &rank)| stretch(curve, rank)).collect()
}

fn check(curve: &[f64], table: &[(usize, f64)]) {
    for &(rank, expected) in table {
        let angle = curve[rank - 1];
        assert!((angle - expected).abs() < QUARTER_SCALE, "length {} rank {rank}: {angle} {expected}", curve.len());
    }
}

#[test]
fn shared_term_curves_at_quarter_scale_match_the_full_size_table() {
    let ranks_at = [1, 100, 200, 300, 400, 500];
    let row = |values: [f64; 6]| -> Vec<(usize, f64)> { ranks_at.into_iter().zip(values).collect() };

    let curves = quarter_curves(4096, 4096, &[512, 768, 1024], 1);
    check(&curves[0], &row([34.5, 46.0, 55.8, 65.1, 76.3, 88.7]));
    check(&curves[1], &row([27.4, 36.4, 43.4, 49.9, 57.2, 65.3]));
    check(&curves[2], &row([22.0, 29.0, 34.3, 39.8, 45.2, 50.9]));

    let curves = quarter_curves(3584, 3584, &[512, 768], 1);
    check(&curves[0], &row([33.1, 44.4, 54.2, 64.4, 75.7, 88.8]));
    check(&curves[1], &row([23.7, 33.5, 40.7, 47.9, 55.2, 63.6]));

    let curves = quarter_curves(1024, 4096, &[512, 768], 8);
    // The table has 63.9 at rank 400; four full-size draws (`tests/golden/shared_term.py`) put it at 62.6.
    check(&curves[0], &row([0.2, 13.0, 26.5, 42.2, 62.6, 87.9]));
    check(&curves[1], &[(1, 0.0), (500, 0.0), (600, 46.0), (700, 71.0)]);
}

#[test]
fn scaled_bands_agree_with_bands_drawn_in_full() {
    let nulls = |limit| shape_nulls([256, 192], &[48], 6, limit, key()).unwrap().remove(0);
    let (full, scaled) = (nulls(256), nulls(128));
    assert_eq!((full.drawn_shape, full.drawn_rank), ([256, 192], 48));
    assert_eq!((scaled.drawn_shape, scaled.drawn_rank), ([128, 96], 24));
    for (a, b) in [
        (&full.independent_u, &scaled.independent_u),
        (&full.independent_v, &scaled.independent_v),
        (&full.shared_term_u, &scaled.shared_term_u),
        (&full.shared_term_v, &scaled.shared_term_v),
    ] {
        assert_eq!((a.median.len(), b.median.len()), (48, 48));
        let mean = |band: &rl_analysis::nulls::Band| band.median.iter().sum::<f64>().to_degrees() / 48.0;
        assert!((mean(a) - mean(b)).abs() < QUARTER_SCALE, "{} {}", mean(a), mean(b));
        assert!((0..48).all(|i| a.lower[i] <= a.median[i] && a.median[i] <= a.upper[i]));
    }
}

#[test]
fn bands_of_small_ranks_do_not_depend_on_the_other_ranks_asked_for() {
    let nulls = |ranks: &[usize]| shape_nulls([64, 48], ranks, 3, 64, key()).unwrap();
    let (alone, both) = (nulls(&[12]), nulls(&[12, 48]));
    assert_eq!(alone[0].independent_u, both[0].independent_u);
    assert_eq!(alone[0].shared_term_v, both[0].shared_term_v);
    // 48 of 48 right directions are the whole space.
    assert_eq!(both[1].facts_v.forced_zeros, 48);
    assert!(both[1].shared_term_v.upper.iter().all(|&angle| angle == 0.0));
}
