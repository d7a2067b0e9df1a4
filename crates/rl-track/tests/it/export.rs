//! What other trackers take up. `tests/golden/check_exports.py` opens the same folders with the trackers themselves.

use std::fs;
use std::path::Path;

use rl_track::export;
use rl_track::{Manifest, MetricsRow, Run};
use serde::Serialize;

const START: f64 = 1_700_000_000.25;

#[derive(Serialize)]
struct Config {
    seed: u64,
    optimizer: Optimizer,
}

#[derive(Serialize)]
struct Optimizer {
    learning_rate: f64,
}

fn write_run(folder: &Path) {
    let config = Config { seed: 5, optimizer: Optimizer { learning_rate: 1e-4 } };
    let run = Run::open(folder, &config, Manifest::new().seed("seed", 5).input("data", "aa")).unwrap();
    let (mut metrics, mut events) = (run.metrics().unwrap(), run.events(None).unwrap());
    for step in 1..=3_u64 {
        let loss = 1.0 / step as f64;
        metrics.write(&MetricsRow::new(step, "train").with("loss", loss)).unwrap();
        events.scalars_at(START + step as f64, step, &[("train/loss", loss)]).unwrap();
    }
    metrics.write(&MetricsRow::new(3, "eval").with("eval loss", 0.25)).unwrap();
    events.scalars_at(START + 9.0, 3, &[("eval/eval loss", 0.25), ("eval/bad", f64::INFINITY)]).unwrap();
}

#[test]
fn the_wide_table_has_a_row_per_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    write_run(&run);
    let path = folder.path().join("metrics.csv");
    export::table(&run, &path).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "step,timestamp,eval/bad,eval/eval loss,train/loss\n\
         1,2023-11-14T22:13:21.250Z,,,1.0\n\
         2,2023-11-14T22:13:22.250Z,,,0.5\n\
         3,2023-11-14T22:13:29.250Z,inf,0.25,0.3333333333333333\n"
    );
}

#[test]
fn the_file_store_of_mlflow_has_metrics_parameters_and_tags() {
    let folder = tempfile::tempdir().unwrap();
    let (run, store) = (folder.path().join("run"), folder.path().join("mlruns"));
    write_run(&run);
    let out = export::mlflow(&run, &store, "our \"experiment\"").unwrap();
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(
        read("metrics/train/loss"),
        "1700000001250 1.0 1\n1700000002250 0.5 2\n1700000003250 0.3333333333333333 3\n"
    );
    assert_eq!(read("metrics/eval/bad"), "1700000009250 inf 3\n");
    assert_eq!(read("params/optimizer.learning_rate"), "0.0001");
    assert_eq!((read("tags/seed.seed"), read("tags/mlflow.runName")), ("5".into(), "run".into()));
    let meta = read("meta.yaml");
    assert!(meta.contains("start_time: 1700000001250\n") && meta.contains("end_time: 1700000009250\n"), "{meta}");
    let experiment = fs::read_to_string(out.parent().unwrap().join("meta.yaml")).unwrap();
    assert!(experiment.contains("name: \"our \\\"experiment\\\"\"\n"), "{experiment}");
    // exported again, the run takes the place of its copy
    assert_eq!(export::mlflow(&run, &store, "our \"experiment\"").unwrap(), out);
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 2);
}

/// Leaves a run and its exports for `tests/golden/check_exports.py`.
#[test]
fn folders_for_the_other_trackers() {
    let Ok(folder) = std::env::var("RL_TRACK_TEST_EXPORTS_OUT") else { return };
    let folder = Path::new(&folder);
    write_run(&folder.join("run"));
    export::table(&folder.join("run"), &folder.join("metrics.csv")).unwrap();
    export::mlflow(&folder.join("run"), &folder.join("mlruns"), "our experiment").unwrap();
}
