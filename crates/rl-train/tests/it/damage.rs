//! Checkpoints that were truncated, flipped, lost or left half written: named, passed over, made again.

use std::fs;
use std::path::{Path, PathBuf};

use rl_train::{Error, Finish, Method, Rl, RunConfig, Sft, SftConfig, Trainer};
use tempfile::TempDir;

use crate::fixtures::*;
use crate::record::*;

const NEWEST: &str = "checkpoints/step-000006";

#[derive(Debug, Clone, Copy)]
enum Damage {
    Truncated,
    Flipped,
    Empty,
    Missing,
}

const ALL: [Damage; 4] = [Damage::Truncated, Damage::Flipped, Damage::Empty, Damage::Missing];

impl Damage {
    fn apply(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Damage::Truncated => bytes.truncate(bytes.len() / 2),
            Damage::Flipped => {
                let place = bytes.len() / 2;
                bytes[place] ^= 1;
            }
            Damage::Empty => bytes.clear(),
            Damage::Missing => return fs::remove_file(file).unwrap(),
        }
        fs::write(file, bytes).unwrap();
    }
}

fn short_config(folder: &Path, changes: &[&str]) -> SftConfig {
    let data = folder.join("copy.jsonl");
    if !data.exists() {
        write_copy_task(&data);
    }
    let held_out = format!("held_out.seen=\"{}\"", data.display());
    let base = ["training.max_steps=6", "training.checkpoints.every=2", "batch_size=4", &held_out];
    sft_config(folder, "run", &data, &[&base[..], changes].concat())
}

/// A finished run of six steps with checkpoints at 2, 4 and 6; only the last two can be resumed from.
fn finished() -> (TempDir, SftConfig) {
    let folder = tempfile::tempdir().unwrap();
    let config = short_config(folder.path(), &[]);
    assert_eq!(train::<Sft>(config.clone()), Finish::Complete { step: 6 });
    (folder, config)
}

/// Damages the run by `damage`; the log of the next start holds `named` and the run ends as it was before.
#[track_caller]
fn heals<M: Method>(config: &M::Config, damage: impl FnOnce(&Path), named: &str) {
    let run = config.run();
    let (files, rows) = (contents(run), metrics(run));
    damage(run);
    let (finish, log) = logged(|| train::<M>(config.clone()));
    assert!(matches!(finish, Finish::Complete { .. }));
    assert!(log.contains(named), "the log should name {named}:\n{log}");
    assert_eq!(metrics(run), rows);
    assert_same_files(&contents(run), &files);
}

fn error_of<M: Method>(config: &M::Config) -> Error {
    match Trainer::<M>::new(config.clone()) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_damaged_newest_checkpoint_is_named_passed_over_and_made_again() {
    let (_folder, config) = finished();
    for name in ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"] {
        for damage in ALL {
            heals::<Sft>(&config, |run| damage.apply(&run.join(NEWEST).join(name)), &format!("step-000006/{name}"));
        }
    }
    let sums = |run: &Path| run.join(NEWEST).join("checksums.json");
    for damage in [Damage::Truncated, Damage::Empty, Damage::Missing] {
        heals::<Sft>(&config, |run| damage.apply(&sums(run)), "step-000006/checksums.json");
    }
    heals::<Sft>(&config, |run| Damage::Flipped.apply(&sums(run)), "checkpoints/step-000006 is damaged");
    heals::<Sft>(&config, |run| fs::write(sums(run), "{}").unwrap(), "step-000006/checksums.json");
    let add = |run: &Path| {
        let text = fs::read_to_string(sums(run)).unwrap().replacen('{', "{\"ghost.json\": \"00\",", 1);
        fs::write(sums(run), text).unwrap();
    };
    heals::<Sft>(&config, add, "step-000006/ghost.json");
    let unlist = |run: &Path| {
        let text = fs::read_to_string(sums(run)).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"model.safetensors\"")).collect();
        fs::write(sums(run), kept.join("\n")).unwrap();
    };
    heals::<Sft>(&config, unlist, "step-000006/model.safetensors");
    // An older checkpoint under a newer name.
    let rename = |run: &Path| {
        fs::remove_dir_all(run.join(NEWEST)).unwrap();
        copy_folder(&run.join("checkpoints/step-000004"), &run.join(NEWEST));
    };
    heals::<Sft>(&config, rename, "step-000006/state.json");
}

#[test]
fn the_files_of_a_critic_are_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let changes = ["training.max_steps=6", "training.checkpoints.every=5", "rollout.prompts_per_step=2"];
    let config = rl_config(folder.path(), "run", &half_trained(), &token_ppo(), &changes);
    train::<Rl>(config.clone());
    for (name, damage) in [
        ("critic.safetensors", Damage::Truncated),
        ("critic.optimizer.safetensors", Damage::Missing),
        ("value_head.safetensors", Damage::Flipped),
    ] {
        heals::<Rl>(&config, |run| damage.apply(&run.join(NEWEST).join(name)), name);
    }
}

/// What processes leave that are killed between the renames of a checkpoint's replacement, while an old checkpoint is
/// removed or loses its moments, and while small files are written.
#[test]
fn every_half_done_change_of_the_folder_is_finished_or_undone() {
    let (_folder, config) = finished();
    let half_done = |run: &Path| {
        let checkpoints = run.join("checkpoints");
        let partial = checkpoints.join(".step-000006.partial-1-0");
        copy_folder(&run.join(NEWEST), &partial);
        fs::rename(run.join(NEWEST), checkpoints.join(".step-000006.replaced-1-0")).unwrap();
        copy_folder(&run.join("checkpoints/step-000002"), &checkpoints.join(".step-000003.partial-removed"));
        let moments = "optimizer.safetensors";
        fs::copy(checkpoints.join("step-000004").join(moments), checkpoints.join("step-000002").join(moments)).unwrap();
        fs::write(checkpoints.join("step-000002/.checksums.json.partial-x"), "{").unwrap();
        fs::write(run.join(".metrics.jsonl.partial-x"), "{").unwrap();
        fs::create_dir(run.join("advantages")).unwrap();
        fs::write(run.join("advantages/.step-000006.json.partial-x"), "{").unwrap();
    };
    heals::<Sft>(&config, half_done, "resuming after step 6");
}

#[test]
fn when_all_are_damaged_the_error_names_them_and_nothing_is_touched() {
    let (folder, config) = finished();
    let run = folder.path().join("run");
    Damage::Flipped.apply(&run.join("checkpoints/step-000004/optimizer.safetensors"));
    Damage::Truncated.apply(&run.join(NEWEST).join("state.json"));
    let (before, rows) = (contents(&run), metrics(&run));
    let error = error_of::<Sft>(&config);
    assert!(matches!(&error, Error::NothingToResume { reasons, .. } if reasons.len() == 3), "{error:?}");
    for part in ["step-000006/state.json", "step-000004/optimizer.safetensors", "step-000002: keeps a model only"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_same_files(&contents(&run), &before);
    assert_eq!(metrics(&run), rows);

    // Also without damage: a run that is there is never begun anew unasked.
    fs::remove_dir_all(run.join("checkpoints/step-000004")).unwrap();
    fs::remove_dir_all(run.join(NEWEST)).unwrap();
    assert!(error_of::<Sft>(&config).to_string().contains("step-000002: keeps a model only"));
    assert_eq!(metrics(&run), rows);
}

#[test]
fn a_damaged_best_checkpoint_is_named_when_the_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // No later evaluation beats the first one when the loss is to grow.
    let best = r#"training.evaluation={ every = 2, best = { metric = "seen/loss", goal = "max" } }"#;
    let config = short_config(folder.path(), &[best, "training.checkpoints.keep_last=1"]);
    train::<Sft>(config.clone());
    let checkpoints = folder.path().join("run/checkpoints");
    let kept: Vec<PathBuf> = fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "the best and the last: {kept:?}");
    assert!(!logged(|| train::<Sft>(config.clone())).1.contains("damaged"));
    Damage::Flipped.apply(&checkpoints.join("step-000002/model.safetensors"));
    let (finish, log) = logged(|| train::<Sft>(config));
    assert_eq!(finish, Finish::Complete { step: 6 });
    assert!(log.contains("best checkpoint") && log.contains("step-000002/model.safetensors"), "{log}");
}

/// An interrupt must take no checkpoint's place: here it comes between a best checkpoint and the one that supersedes it.
#[test]
fn interrupts_leave_the_checkpoints_of_an_uninterrupted_run() {
    for keep_last in ["training.checkpoints={every=3}", "training.checkpoints={every=3,keep_last=2}"] {
        let folder = tempfile::tempdir().unwrap();
        let best = r#"training.evaluation={ every = 2, best = { metric = "seen/loss", goal = "min" } }"#;
        let config = short_config(folder.path(), &[best, keep_last]);
        train::<Sft>(config.clone());
        let run = folder.path().join("run");
        let (files, rows) = (contents(&run), metrics(&run));
        assert!(files.contains_key("checkpoints/step-000003/optimizer.safetensors"));
        fs::remove_dir_all(&run).unwrap();
        while train_one_step::<Sft>(config.clone()) != (Finish::Complete { step: 6 }) {}
        assert_eq!(metrics(&run), rows);
        assert_same_files(&contents(&run), &files);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
