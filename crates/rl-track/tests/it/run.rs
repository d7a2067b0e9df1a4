//! Opening, resuming and refusing run folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rl_track::atomic::AtomicFolder;
use rl_track::run::checkpoints;
use rl_track::{Error, Manifest, MetricsRow, Run};
use serde::Serialize;

#[derive(Clone, Serialize)]
struct Config {
    seed: u64,
    optim: Optim,
}

#[derive(Clone, Serialize)]
struct Optim {
    lr: f64,
}

const CONFIG: Config = Config { seed: 1, optim: Optim { lr: 1e-4 } };

fn manifest() -> Manifest {
    Manifest::new().seed("train", 1).input("data", "aa").version("trainer", "0.1.0")
}

fn open(folder: &Path) -> Run {
    Run::open(folder, &CONFIG, manifest()).unwrap()
}

#[test]
fn a_new_run_records_config_and_manifest() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("runs/a");
    let run = open(&folder);
    assert!(!run.is_resumed());
    assert_eq!(fs::read_to_string(folder.join("config.toml")).unwrap(), "seed = 1\n\n[optim]\nlr = 0.0001\n");
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["seeds"]["train"], 1);
    assert_eq!(json["inputs"]["data"], "aa");
    assert_eq!(json["starts"][0]["versions"]["trainer"], "0.1.0");
    assert!(json["starts"][0]["command"].as_array().is_some_and(|parts| !parts.is_empty()));
    assert_eq!(json["starts"][0]["timing"]["started"].as_str().map(str::len), Some("2026-11-21T09:30:00Z".len()));
}

#[test]
fn a_resume_needs_the_same_config_seeds_and_inputs() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let run = open(folder.path());
    assert!(run.is_resumed());
    assert_eq!(run.manifest().starts.len(), 2);
    drop(run);

    let mut config = CONFIG;
    config.optim.lr = 2e-4;
    let error = Run::open(folder.path(), &config, manifest()).unwrap_err();
    assert!(matches!(&error, Error::ConfigDiffers { key, .. } if key == "optim.lr"));
    assert!(error.to_string().contains("started with `optim.lr` = 0.0001, now it is 0.0002"), "{error}");

    let error = Run::open(folder.path(), &CONFIG, manifest().seed("train", 2)).unwrap_err().to_string();
    assert!(error.contains("seed `train` was 1 when the run started, now it is 2"), "{error}");
    let error = Run::open(folder.path(), &CONFIG, manifest().input("more", "bb")).unwrap_err().to_string();
    assert!(error.contains("input `more` was nothing when the run started, now it is bb"), "{error}");
}

#[test]
fn a_changed_item_of_a_list_is_named_by_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = |splits: [u64; 2]| {
        let splits = splits.map(|problems| BTreeMap::from([("problems", problems)]));
        BTreeMap::from([("splits", splits)])
    };
    drop(Run::open(folder.path(), &config([4, 6]), manifest()).unwrap());
    let error = Run::open(folder.path(), &config([4, 7]), manifest()).unwrap_err().to_string();
    assert!(error.contains("started with `splits[1].problems` = 6, now it is 7"), "{error}");
}

#[test]
fn a_run_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    assert!(matches!(Run::open(folder.path(), &CONFIG, manifest()), Err(Error::Locked { .. })));
    drop(first);
    open(folder.path());
}

#[test]
fn a_folder_with_records_but_no_manifest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
    let error = Run::open(folder.path(), &CONFIG, manifest()).unwrap_err().to_string();
    assert!(error.contains("holds `metrics.jsonl` but no `manifest.json`"), "{error}");
}

#[test]
fn checkpoints_are_listed_once_they_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let run = open(folder.path());
    assert_eq!(run.checkpoints().unwrap(), []);
    for step in [1_000_000, 200, 50] {
        AtomicFolder::create(&run.checkpoint_path(step)).unwrap().commit().unwrap();
    }
    let _unfinished = AtomicFolder::create(&run.checkpoint_path(300)).unwrap();
    let steps: Vec<u64> = checkpoints(folder.path()).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [50, 200, 1_000_000]);
    assert!(run.checkpoint_path(50).ends_with("checkpoints/step-000050"));
}

#[test]
fn rewinding_drops_metrics_and_samples_after_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = open(folder.path());
    let write = |steps: std::ops::RangeInclusive<u64>| {
        let (mut metrics, mut samples) = (run.metrics().unwrap(), run.samples(2, 1).unwrap());
        for step in steps {
            metrics.write(&MetricsRow::new(step, "train").with("loss", 1.0 / step as f64)).unwrap();
            samples.write(step, &step).unwrap();
        }
    };
    let read = || ["metrics.jsonl", "samples.jsonl"].map(|name| fs::read(folder.path().join(name)).unwrap());
    write(1..=9);
    let uninterrupted = read();
    run.rewind(4).unwrap();
    assert!(read()[0].len() < uninterrupted[0].len() && read()[1].len() < uninterrupted[1].len());
    write(5..=9);
    assert_eq!(read(), uninterrupted);
    run.restart().unwrap();
    write(1..=9);
    assert_eq!(read(), uninterrupted);
}
