//! The detector fires on random matrices of every shape and stays silent on trained ones.

use rl_analysis::fresh_init::{FreshInit, FreshInitConfig, fresh_init};
use rl_analysis::linalg::singular_values;
use rl_analysis::spectrum::basic_stats;
use tch::Tensor;

use super::gaussian;

const INIT_STD: f64 = 0.02;

fn judge(matrix: &Tensor) -> FreshInit {
    let s = singular_values(matrix).unwrap();
    let std = basic_stats(matrix, &s).unwrap().std;
    let (out, input) = matrix.size2().unwrap();
    fresh_init(out as usize, input as usize, std, &s, &FreshInitConfig::default())
}

#[test]
fn it_fires_on_random_matrices() {
    for (out, input) in [(128, 128), (64, 128), (128, 352), (576, 576), (192, 576)] {
        for draw in 0..4 {
            let verdict = judge(&(gaussian(out, input, &format!("fresh {out} {input} {draw}")) * INIT_STD));
            assert!(verdict.flagged, "{out} {input}: {verdict:?}");
        }
    }
}

/// Gradient descent of `||W X - Y||^2` from a random start, where `Y` comes from a teacher of rank 12.
#[test]
fn it_is_silent_on_a_trained_toy_model() {
    let (out, input, samples) = (192, 128, 512);
    let teacher = gaussian(out, 12, "teacher out").matmul(&gaussian(12, input, "teacher in")) * 0.02;
    let inputs = gaussian(input, samples, "inputs");
    let labels = teacher.matmul(&inputs);
    let mut weight = gaussian(out, input, "start") * INIT_STD;
    assert!(judge(&weight).flagged);
    for _ in 0..50 {
        let gradient = (weight.matmul(&inputs) - &labels).matmul(&inputs.tr()) / samples as f64;
        weight -= gradient * 0.1;
    }
    let verdict = judge(&weight);
    assert!(!verdict.flagged && verdict.edge_ratio > 1.2, "{verdict:?}");
}

#[test]
fn it_is_silent_on_constant_and_orthogonal_matrices() {
    assert!(!judge(&Tensor::zeros([64, 32], (tch::Kind::Double, tch::Device::Cpu))).flagged);
    assert!(!judge(&super::orthonormal(128, 128, "orthogonal")).flagged);
}
