//! Every configuration that is shipped for these trainers and for their data is read and valid.

use std::path::{Path, PathBuf};

use rl_envs::general_points::DatasetConfig;
use rl_train::{RlConfig, RunConfig, SftConfig};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(2 <= files.len(), "{}: {} files", folder.display(), files.len());
    assert!(files.iter().all(|file| file.extension().is_some_and(|extension| extension == "toml")), "{files:?}");
    files
}

#[test]
fn sft_configs_are_valid() {
    for file in files("sft") {
        let config: SftConfig = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
    }
}

#[test]
fn rl_configs_are_valid() {
    for file in files("rl") {
        let config: RlConfig = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
        config.sampling.validate().unwrap();
    }
}

#[test]
fn dataset_configs_are_valid() {
    for file in files("make_dataset") {
        let config: DatasetConfig = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
    }
}
