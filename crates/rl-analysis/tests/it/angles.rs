//! Principal angles of bases whose angles are known by construction.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_3};

use rl_analysis::angles::{
    angles_to_span, best_match, direction_energy, gap_mask, principal_angles, rotation_panels, summarize_angles,
    vector_cosines,
};
use tch::{Device, Kind, Tensor};

use super::{gaussian, orthonormal};

/// Largest angle allowed between a basis and itself, radians.
const SAME: f64 = 1e-6;
/// Error allowed in a known rotation, radians.
const PLANAR: f64 = 1e-10;

/// `[n, k]` bases `a = e_0..e_{k-1}` and `b`, where pair i is turned by `angles[i]` in the plane of `e_i` and `e_{k+i}`,
/// both expressed in a random orthonormal frame and each recombined by a random rotation of its own.
fn rotated(n: usize, angles: &[f64]) -> (Tensor, Tensor) {
    let k = angles.len() as i64;
    let eye = Tensor::eye(n as i64, (Kind::Double, Device::Cpu));
    let (first, second) = (eye.narrow(1, 0, k), eye.narrow(1, k, k));
    let turned = &first * Tensor::from_slice(angles).cos() + &second * Tensor::from_slice(angles).sin();
    let frame = orthonormal(n, n, "frame");
    let mix = |purpose| orthonormal(angles.len(), angles.len(), purpose);
    (frame.matmul(&first).matmul(&mix("mix a")), frame.matmul(&turned).matmul(&mix("mix b")))
}

#[test]
fn a_subspace_has_no_angle_to_itself() {
    let basis = orthonormal(200, 60, "basis");
    let recombined = basis.matmul(&orthonormal(60, 60, "recombined"));
    for other in [&basis, &recombined] {
        let largest = principal_angles(&basis, other).unwrap().into_iter().fold(0.0, f64::max);
        assert!(largest < SAME, "{largest}");
    }
}

#[test]
fn planar_rotations_are_recovered_at_both_ends() {
    // 1e-7 is invisible to an arc cosine; pi/2 - 1e-7 to an arc sine.
    let expected = [0.0, 1e-7, 1e-3, 0.5, FRAC_PI_3, FRAC_PI_2 - 1e-7, FRAC_PI_2];
    let (a, b) = rotated(40, &expected);
    for (angle, known) in principal_angles(&a, &b).unwrap().iter().zip(expected) {
        assert!((angle - known).abs() < PLANAR, "{angle} {known}");
    }
}

#[test]
fn summaries_agree_with_projectors_formed_in_full() {
    let (a, b) = (orthonormal(50, 8, "a"), orthonormal(50, 8, "b"));
    let summary = summarize_angles(&principal_angles(&a, &b).unwrap()).unwrap();
    let difference = a.matmul(&a.tr()) - b.matmul(&b.tr());
    let expected = difference.square().sum(Kind::Double).double_value(&[]).sqrt();
    assert!((summary.projector_distance - expected).abs() < PLANAR);
    assert!((summary.chordal_distance - expected / (2.0_f64 * 8.0).sqrt()).abs() < PLANAR);

    let known = summarize_angles(&[0.0, FRAC_PI_2]).unwrap();
    assert!((known.mean - FRAC_PI_2 / 2.0).abs() < PLANAR && (known.median - FRAC_PI_2 / 2.0).abs() < PLANAR);
    assert!((known.p90 - 0.9 * FRAC_PI_2).abs() < PLANAR && (known.max - FRAC_PI_2).abs() < PLANAR);
    assert!((known.chordal_distance - 0.5_f64.sqrt()).abs() < PLANAR);
    assert!((known.grassmann_distance - FRAC_PI_2).abs() < PLANAR);
    assert!(summarize_angles(&[]).is_none());
}

#[test]
fn direction_energy_weighs_each_vectors_own_angle() {
    // e_0 turned by 0.3 out of the span, e_1 kept: the principal angles ascend (0, 0.3), the vectors' own do not.
    let eye = Tensor::eye(4, (Kind::Double, Device::Cpu));
    let vectors = eye.narrow(1, 0, 2);
    let turned = eye.select(1, 0) * 0.3_f64.cos() + eye.select(1, 2) * 0.3_f64.sin();
    let basis = Tensor::stack(&[turned, eye.select(1, 1)], 1);
    let own = angles_to_span(&vectors, &basis).unwrap();
    assert!((own[0] - 0.3).abs() < PLANAR && own[1].abs() < PLANAR);
    // 3^2 * 0.3 + 1^2 * 0; the other pairing would give 0.3
    assert!((direction_energy(&vectors, &[3.0, 1.0], &basis).unwrap() - 2.7).abs() < PLANAR);
    assert!(direction_energy(&vectors, &[3.0], &basis).is_err());
}

#[test]
fn matches_ignore_order_and_sign_but_vector_cosines_keep_the_order() {
    let basis = orthonormal(30, 3, "matches");
    let permuted = Tensor::stack(&[-basis.select(1, 2), basis.select(1, 0), basis.select(1, 1)], 1);
    assert!((best_match(&basis, &permuted).unwrap() - 1.0).abs() < PLANAR);
    assert!(vector_cosines(&basis, &permuted).unwrap().iter().all(|cosine| cosine.abs() < PLANAR));
    assert!(vector_cosines(&basis, &-&basis).unwrap().iter().all(|cosine| (cosine - 1.0).abs() < PLANAR));
    assert!(principal_angles(&basis, &gaussian(30, 2, "narrow")).is_err());
}

#[test]
fn vectors_with_a_close_neighbour_are_masked() {
    assert_eq!(gap_mask(&[4.0, 2.0, 1.9999, 1.0, 0.0], 1e-3), [true, false, false, true, false]);
    let panels = rotation_panels(&[0.9, 0.1, 0.2, 0.7, 0.5], &[true, false, false, true, false], 0.2).unwrap();
    assert_eq!((panels.head.mean_cosine, panels.head.kept, panels.head.masked), (Some(0.9), 1, 0));
    assert_eq!((panels.bulk.mean_cosine, panels.bulk.kept, panels.bulk.masked), (Some(0.7), 1, 2));
    assert_eq!((panels.tail.mean_cosine, panels.tail.kept, panels.tail.masked), (None, 0, 1));
}
