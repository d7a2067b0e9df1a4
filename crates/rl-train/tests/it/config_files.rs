//! Every configuration that is shipped for these trainers and for their data is read and valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_data::{ChatRecord, PreferenceRecord, PromptRecord, UnpairedRecord, read_jsonl, write_jsonl};
use rl_envs::DatasetConfig;
use rl_envs::instructions::{DatasetRow, Instruction};
use rl_train::{PreferenceConfig, RewardModelConfig, RlConfig, RunConfig, SftConfig, UnpairedConfig};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(2 <= files.len(), "{}: {} files", folder.display(), files.len());
    assert!(files.iter().all(|file| file.extension().is_some_and(|extension| extension == "toml")), "{files:?}");
    files
}

/// Reads and validates every file of a folder; each says at its head what it is and how it is run. Returns their number.
fn valid_configs<C: RunConfig + serde::de::DeserializeOwned>(folder: &str) -> usize {
    let files = files(folder);
    for file in &files {
        let config: C = rl_track::config::load(file, &[]).unwrap();
        config.validate().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).unwrap();
        let head: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        assert!(head.iter().any(|line| line.contains("cargo ")), "{}: {head:#?}", file.display());
    }
    files.len()
}

#[test]
fn configs_of_trainings_are_valid() {
    assert_eq!(valid_configs::<SftConfig>("sft"), 13);
    assert_eq!(valid_configs::<RlConfig>("rl"), 13);
}

/// Stages of a pipeline stand beside the presets, under the pipeline's name.
fn is_of_a_pipeline(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("alignment-"))
}

/// Every stage's configuration of the alignment pipeline is valid.
#[test]
fn alignment_configs_are_valid() {
    fn check<C: RunConfig + serde::de::DeserializeOwned>(folder: &str) -> usize {
        let of_pipeline = files(folder).into_iter().filter(|file| is_of_a_pipeline(file));
        let valid = |file: PathBuf| {
            let config: C = rl_track::config::load(&file, &[]).unwrap();
            config.validate().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        };
        of_pipeline.map(valid).count()
    }
    assert_eq!(check::<SftConfig>("sft"), 2);
    assert_eq!(check::<RewardModelConfig>("reward_model"), 2);
    assert_eq!(check::<PreferenceConfig>("dpo"), 2);
    assert_eq!(check::<RlConfig>("rl"), 4);
}

/// Reads and validates every file of a folder, and finds in each the command that runs it; their names.
fn valid_presets<C: RunConfig + serde::de::DeserializeOwned>(folder: &str, example: &str) -> Vec<String> {
    let names = files(folder).into_iter().filter(|file| !is_of_a_pipeline(file)).map(|file| {
        let config: C = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let name = file.file_stem().unwrap().to_str().unwrap().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        let command = format!("--example {example} -- --config configs/{folder}/{name}.toml");
        assert!(text.starts_with("# ") && text.contains(&command), "{}: no header with its command", file.display());
        assert_eq!(config.run(), Path::new(&format!("runs/{folder}/{name}")));
        name
    });
    names.collect()
}

#[test]
fn preference_presets_are_valid() {
    let expected = ["openrlhf-dpo", "s1-dpo", "s3-dpo", "simpo", "trl-cpo", "trl-dpo", "trl-orpo", "trl-simpo"];
    assert_eq!(valid_presets::<PreferenceConfig>("dpo", "dpo"), expected);
    assert_eq!(valid_presets::<UnpairedConfig>("kto", "kto"), ["openrlhf-kto", "trl-kto"]);
    assert_eq!(valid_presets::<RewardModelConfig>("reward_model", "reward_model"), ["openrlhf", "s1", "s3", "trl"]);
}

#[test]
fn dataset_configs_are_valid() {
    for file in files("make_dataset") {
        let config: DatasetConfig = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
    }
}

/// The rows of an alignment file.
fn instruction_rows(name: &str) -> Vec<DatasetRow> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/make_dataset").join(name);
    match rl_track::config::load(&file.with_extension("toml"), &[]).unwrap() {
        DatasetConfig::Instructions(config) => config.rows().unwrap(),
        _ => panic!("{name} is of another task"),
    }
}

#[test]
fn alignment_files_share_no_prompt() {
    let mut found: BTreeMap<String, &str> = BTreeMap::new();
    for name in ["sft", "preferences", "prompts", "held-out-sft"] {
        for row in instruction_rows(&format!("alignment-{name}")) {
            let row = serde_json::to_value(row).unwrap();
            let instruction: Instruction = serde_json::from_value(row["instruction"].clone()).unwrap();
            let before = found.insert(instruction.prompt(), name);
            assert_eq!(before, None, "{} is in {name} too", instruction.prompt());
        }
    }
    assert_eq!(found.len(), 3 * 1200 + 100);
}

#[test]
fn alignment_files_are_what_the_records_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let write = |name: &str| {
        let rows = instruction_rows(name);
        write_jsonl(&file, &rows).unwrap();
        (rows.len(), file.clone())
    };
    let (count, file) = write("alignment-sft");
    assert_eq!(read_jsonl::<ChatRecord>(file).unwrap().len(), count);
    let (count, file) = write("alignment-preferences");
    let pairs = read_jsonl::<PreferenceRecord>(file).unwrap();
    assert_eq!(pairs.len(), count);
    assert!(pairs.iter().all(|pair| (pair.prompt.len(), pair.chosen.len(), pair.rejected.len()) == (1, 1, 1)));
    assert!(pairs.iter().all(|pair| pair.margin.is_none() && pair.extra.contains_key("instruction")));
    let (count, file) = write("alignment-unpaired");
    let judged = read_jsonl::<UnpairedRecord>(file).unwrap();
    assert_eq!(judged.len(), count);
    assert!(judged.iter().any(|row| row.label) && judged.iter().any(|row| !row.label));
    let (count, file) = write("alignment-prompts");
    let prompts = read_jsonl::<PromptRecord>(file).unwrap();
    assert_eq!(prompts.len(), count);
    for row in prompts {
        let instruction: Instruction = serde_json::from_value(row.extra["instruction"].clone()).unwrap();
        assert_eq!(instruction.prompt(), row.prompt[0].content);
    }
}
