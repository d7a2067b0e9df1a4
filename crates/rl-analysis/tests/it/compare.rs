//! A whole comparison over small models whose updates are known by construction.

use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;
use std::sync::atomic::{AtomicUsize, Ordering};

use rl_analysis::fresh_init::FreshInitAction;
use rl_analysis::{
    AnalysisConfig, Comparison, Error, Pair, Progress, Rank, Role, compare_checkpoints, compare_folders,
};
use tch::Tensor;

use super::{f32_of, gaussian, orthonormal};

type Weights = BTreeMap<String, Tensor>;

/// Angle error that rounding updates to f32 may cause, radians.
const F32_ANGLE: f64 = 1e-3;
/// Rank of each update.
const UPDATE_RANK: usize = 4;

/// Matrices of `layers` layers, and one that is not analysed.
fn model(layers: usize, make: impl Fn(&str, usize, usize) -> Tensor) -> Weights {
    let mut weights = Weights::from([("model.norm.weight".to_string(), Tensor::from_slice(&[1.0_f32, 2.0]))]);
    for layer in 0..layers {
        for (projection, out, input) in
            [("self_attn.q", 64, 64), ("self_attn.k", 32, 64), ("self_attn.v", 32, 64), ("mlp.down", 64, 96)]
        {
            let name = format!("model.layers.{layer}.{projection}_proj.weight");
            let weight = f32_of(&make(&name, out, input));
            weights.insert(name, weight);
        }
    }
    weights
}

/// A decaying spectrum, as trained weights have: no two singular values close, none like random entries.
fn structured(name: &str, out: usize, input: usize) -> Tensor {
    let rank = out.min(input);
    let s: Vec<f64> = (0..rank).map(|i| 4.0 * 0.95_f64.powi(i as i32)).collect();
    let left = orthonormal(out, rank, &format!("left {name}"));
    let right = orthonormal(input, rank, &format!("right {name}"));
    (left * Tensor::from_slice(&s)).matmul(&right.tr())
}

/// `L_which R^T` of rank 4: the left factors of the two updates are orthogonal, the right factor is shared.
fn low_rank(name: &str, out: usize, input: usize, which: i64) -> Tensor {
    let left = orthonormal(out, 2 * UPDATE_RANK, &format!("update {name}"));
    let right = orthonormal(input, UPDATE_RANK, &format!("update right {name}"));
    let rank = UPDATE_RANK as i64;
    (left.narrow(1, which * rank, rank) * Tensor::from_slice(&[0.4, 0.3, 0.2, 0.1])).matmul(&right.tr())
}

fn three() -> [Weights; 3] {
    let base = model(2, structured);
    let target = model(2, |name, out, input| structured(name, out, input) + low_rank(name, out, input, 0));
    let mut other = model(2, |name, out, input| {
        structured(name, out, input) + low_rank(name, out, input, 0) + low_rank(name, out, input, 1)
    });
    other.insert("value_head.weight".into(), Tensor::from_slice(&[0.0_f32]));
    [base, target, other]
}

fn quick() -> AnalysisConfig {
    let mut config = AnalysisConfig::default();
    config.nulls.draws = 4;
    config
}

fn compare([base, target, other]: &[Weights; 3], config: &AnalysisConfig) -> rl_analysis::Result<Comparison> {
    compare_checkpoints(base, target, other, config, &|_| {})
}

#[test]
fn known_updates_are_measured_as_they_were_made() {
    let models = three();
    let calls = AtomicUsize::new(0);
    let count = |_: Progress| {
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let report = compare_checkpoints(&models[0], &models[1], &models[2], &quick(), &count).unwrap();
    // 8 matrices, and the shapes [64, 64], [32, 64], [64, 96]
    assert_eq!(calls.into_inner(), 11);

    let other = &report.checkpoints[&Role::Other];
    assert_eq!((other.names.selected, other.names.matched, other.num_tensors), (8, 9, 10));
    assert_eq!(other.names.unexpected, ["value_head.weight"]);
    assert_eq!(other.fresh_init_flagged, 0);
    assert_ne!(other.weight_sha256, report.checkpoints[&Role::Base].weight_sha256);

    for (name, update) in &report.updates {
        assert_eq!((update.rank_target, update.rank_other, update.rank), (4, 4, 4), "{name}");
        assert!(update.principal_angle_U.iter().all(|angle| (angle - FRAC_PI_2).abs() < F32_ANGLE), "{update:?}");
        assert!(update.principal_angle_V.iter().all(|angle| angle.abs() < F32_ANGLE), "{update:?}");
    }
    for pair in [Pair::BaseToTarget, Pair::TargetToOther] {
        let report = &report.pairs[&pair];
        // ||dW||^2 = .16 + .09 + .04 + .01 for each of 8 matrices
        assert!((report.totals.delta_norm - (8.0_f64 * 0.3).sqrt()).abs() < 1e-5);
        for matrix in report.matrices.values() {
            assert!((matrix.delta_s[0] - 0.4).abs() < 1e-6 && (matrix.delta_s[3] - 0.1).abs() < 1e-6);
            assert_eq!(matrix.rank, matrix.shape[0].min(matrix.shape[1]) / 4);
            assert_eq!(matrix.principal_angle_U.len(), matrix.rank);
            let shares = matrix.delta_energy_diag + matrix.delta_energy_rot + matrix.delta_energy_outside;
            assert!((shares - 1.0).abs() < 1e-12);
            assert!(matrix.gap_mask.iter().filter(|&&kept| kept).count() > 8);
        }
    }
    assert!(report.null.same_file_max_angle < 1e-6);
    for rounding in &report.null.rounding {
        assert_eq!(rounding.curves, 4); // 2 layers, 2 draws
        assert!(rounding.u.upper.iter().all(|&angle| angle < F32_ANGLE));
    }
    // Rank 4 of the updates and a quarter of the side: 16 and 8
    let ranks: Vec<_> = report.null.shapes.iter().map(|null| (null.shape, null.rank)).collect();
    let sides = [[32, 64], [64, 64], [64, 96]];
    assert_eq!(ranks, [(sides[0], 4), (sides[0], 8), (sides[1], 4), (sides[1], 16), (sides[2], 4), (sides[2], 16)]);
}

#[test]
fn a_checkpoint_compared_with_itself_has_not_moved() {
    let [base, _, _] = three();
    let report = compare(&[0; 3].map(|_| base.iter().map(|(k, v)| (k.clone(), v.shallow_clone())).collect()), &quick());
    let report = report.unwrap();
    for pair in report.pairs.values() {
        assert!(pair.totals.projector_distance < 1e-6 && pair.totals.sigma_drift == 0.0);
        assert!(pair.matrices.values().all(|m| m.pearson.is_some_and(|r| (r - 1.0).abs() < 1e-12)));
    }
    assert!(report.updates.values().all(|update| update.rank == 0 && update.summary_u.is_none()));
}

#[test]
fn the_report_survives_its_file_and_does_not_depend_on_threads() {
    let models = three();
    let report = compare(&models, &AnalysisConfig { num_threads: 1, rank: Rank::Count(12), ..quick() }).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("comparison.json");
    report.write_json(&path).unwrap();
    let mut read = Comparison::read_json(&path).unwrap();
    let text = |report: &Comparison| serde_json::to_string(report).unwrap();
    assert_eq!(text(&read), text(&report));

    let threads = compare(&models, &AnalysisConfig { num_threads: 3, rank: Rank::Count(12), ..quick() }).unwrap();
    read.config.num_threads = 3;
    assert_eq!(text(&read), text(&threads));

    let charts = rl_analysis::figures::write_figures(&report, &folder.path().join("figures")).unwrap();
    assert_eq!(charts.len(), 4 * 6);
    let chart = std::fs::read_to_string(folder.path().join("figures/self_attn-q_proj-update-left.svg")).unwrap();
    for text in ["null: shared term", "null: independent", "mean of 2 of 2 matrices [64, 64]"] {
        assert!(chart.contains(text), "{text}");
    }
    let again: Vec<_> = rl_analysis::figures::figures(&read).into_iter().map(|figure| figure.svg).collect();
    let first: Vec<_> = rl_analysis::figures::figures(&report).into_iter().map(|figure| figure.svg).collect();
    assert_eq!(first, again);

    report.write_angles(&folder.path().join("angles.safetensors")).unwrap();
    let angles: BTreeMap<_, _> =
        Tensor::read_safetensors(folder.path().join("angles.safetensors")).unwrap().into_iter().collect();
    assert_eq!(angles["base_to_target.U"].size(), [8 * 12]);
    assert_eq!(angles["update.V"].size(), [8 * 4]);
    assert!(report.to_string().contains(&report.checkpoints[&Role::Base].weight_sha256));
}

#[test]
fn folders_are_compared_like_tensors_in_memory() {
    let models = three();
    let folder = tempfile::tempdir().unwrap();
    let paths = ["base", "target", "other"].map(|name| folder.path().join(name));
    for (path, model) in paths.iter().zip(&models) {
        std::fs::create_dir(path).unwrap();
        let tensors: Vec<_> = model.iter().collect();
        Tensor::write_safetensors(&tensors, path.join("model.safetensors")).unwrap();
    }
    let report = compare_folders(&paths[0], &paths[1], &paths[2], &quick(), &|_| {}).unwrap();
    let text = |report: &Comparison| serde_json::to_string(report).unwrap();
    assert_eq!(text(&report), text(&compare(&models, &quick()).unwrap()));
    let missing = compare_folders(&paths[0], &folder.path().join("absent"), &paths[2], &quick(), &|_| {});
    assert!(missing.unwrap_err().to_string().contains("absent"));
}

#[test]
fn one_renamed_or_reshaped_tensor_stops_the_comparison() {
    let name = "model.layers.1.self_attn.k_proj.weight";
    let mut models = three();
    let weight = models[2].remove(name).unwrap();
    models[2].insert(format!("text.{name}"), weight.shallow_clone());
    match compare(&models, &quick()) {
        Err(Error::Unmatched { role: "other", matched: 7, requested: 8, missing, unexpected, .. }) => {
            assert_eq!(missing, name);
            assert_eq!(unexpected, format!("text.{name}"));
        }
        result => panic!("{result:?}"),
    }
    models[2].remove(&format!("text.{name}"));
    models[2].insert(name.into(), weight.tr());
    assert!(matches!(compare(&models, &quick()), Err(Error::Unmatched { reshaped, .. }) if reshaped == name));
}

#[test]
fn weights_that_were_never_loaded_are_refused_or_flagged() {
    let mut models = three();
    models[1] = model(2, |name, out, input| gaussian(out, input, name) * 0.02);
    match compare(&models, &quick()) {
        // A fifth of 8 matrices is 1, so the second one stops it; threads may find more at the same time.
        Err(Error::FreshInit { role: "target", flagged: 2.., total: 8, limit: 1 }) => {}
        result => panic!("{result:?}"),
    }
    let mut config = quick();
    config.fresh_init.action = FreshInitAction::Flag;
    let report = compare(&models, &config).unwrap();
    assert!(report.checkpoints[&Role::Target].fresh_init_flagged >= 7);
    assert_eq!(report.checkpoints[&Role::Base].fresh_init_flagged, 0);
}

#[test]
fn wrong_settings_and_weights_are_named() {
    let models = three();
    let refused = |config: AnalysisConfig| compare(&models, &config).unwrap_err().to_string();
    assert!(refused(AnalysisConfig { rank: Rank::Fraction(1.5), ..quick() }).contains("rank.fraction"));
    assert!(refused(AnalysisConfig { suffixes: vec!["nothing".into()], ..quick() }).contains("`nothing`"));
    assert!(refused(quick().with_all_projections()).contains("o_proj"));
    assert!(toml::from_str::<AnalysisConfig>("rnak = { fraction = 0.5 }").is_err());
    let config: AnalysisConfig = toml::from_str("rank = { count = 8 }\nnulls.draws = 3").unwrap();
    assert_eq!((config.rank, config.nulls.draws, config.nulls.rounding_draws), (Rank::Count(8), 3, 2));

    let name = "model.layers.0.self_attn.q_proj.weight";
    let models = three();
    let _ = models[0].get(name).unwrap().get(0).get(0).fill_(f64::NAN);
    let message = compare(&models, &quick()).unwrap_err().to_string();
    assert!(message.contains(name) && message.contains("1 of its values"), "{message}");
}

/// Makes the default comparison for `layers` layers of square `hidden`, `kv` key rows and `mlp` columns.
fn compare_at_size(layers: usize, hidden: usize, kv: usize, mlp: usize) {
    let shapes = [
        ("self_attn.q", hidden, hidden),
        ("self_attn.k", kv, hidden),
        ("self_attn.v", kv, hidden),
        ("mlp.down", hidden, mlp),
    ];
    let made = shapes.map(|(name, out, input)| (name, structured(name, out, input), gaussian(out, input, name) * 1e-3));
    let models = [0.0, 1.0, 2.0].map(|scale| {
        let layer = |layer| {
            made.iter().map(move |(projection, weight, update)| {
                (format!("model.layers.{layer}.{projection}_proj.weight"), f32_of(&(weight + update * scale)))
            })
        };
        (0..layers).flat_map(layer).collect::<Weights>()
    });
    let report = compare(&models, &AnalysisConfig::default()).unwrap();
    assert_eq!(report.updates.len(), 4 * layers);
}

#[test]
fn a_model_of_1_million_parameters_is_compared_whole() {
    compare_at_size(4, 128, 64, 384);
}

/// Waits for `REINS_SLOW=1`.
#[test]
fn a_model_of_135_million_parameters_is_compared_whole() {
    if std::env::var_os("REINS_SLOW").is_some() {
        compare_at_size(30, 576, 192, 1536);
    }
}
