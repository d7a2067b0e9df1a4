//! Broken configurations, models and files of data: all are refused by the plan of their run, at once, with a message that names
//! key, value and mend.
//!
//! A case is a configuration that is fine and one change of it. Not here: evaluations (`rl-eval`) and pipelines (`xtask`), which
//! keep cases of their own.

mod configs;
mod data;
mod datasets;
mod models;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rl_train::plan::{Planned, plan};
use rl_train::{DistillConfig, PreferenceConfig, RewardModelConfig, RlConfig, SftConfig, UnpairedConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::fixtures::*;
use crate::preference_fixtures::{self as pairs, DPO, KTO, small_policy};
use crate::rl_fixtures::{self as words, GROUP};

/// A refusal takes no longer than this.
const LIMIT: Duration = Duration::from_secs(2);
/// Cases of all tables together, at least.
const MIN_CASES: usize = 200;

/// Which trainer's configuration is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Sft,
    /// A model from scratch.
    New,
    Reward,
    Preference,
    Unpaired,
    /// In an environment.
    Game,
    /// On prompts.
    Prompts,
    Distill,
}

const BASES: [Base; 8] =
    [Base::Sft, Base::New, Base::Reward, Base::Preference, Base::Unpaired, Base::Game, Base::Prompts, Base::Distill];

/// One change that breaks a configuration, and what its message must say.
struct Case {
    base: Base,
    /// `KEY=VALUE` as on the command line, or `-KEY` to take a key out of the file.
    change: &'static str,
    /// Parts of the message: the key, the value, the mend.
    key: &'static str,
    value: &'static str,
    mend: &'static str,
}

const fn case(base: Base, change: &'static str, key: &'static str, value: &'static str, mend: &'static str) -> Case {
    Case { base, change, key, value, mend }
}

/// Configurations that are fine, and the files they name.
struct Fixtures {
    folder: TempDir,
    files: pairs::Files,
}

impl Fixtures {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_copy_task(&folder.path().join("copy.jsonl"));
        let fixtures = Fixtures { folder, files: pairs::files() };
        // The small models are trained at their first use, which is not to be timed.
        BASES.iter().for_each(|&base| drop(fixtures.text(base)));
        fixtures
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn chats(&self) -> PathBuf {
        self.root().join("copy.jsonl")
    }

    /// The text of a configuration.
    fn text(&self, base: Base) -> String {
        let (root, chats) = (self.root(), self.chats());
        match base {
            Base::New => toml(&sft_config(root, "run", &chats, &[])),
            Base::Sft => {
                let held_out = format!("held_out.seen=\"{}\"", chats.display());
                let mut config = sft_config(root, "run", &chats, &[&held_out]);
                config.model = rl_train::ModelConfig::from_path(small_policy());
                toml(&config)
            }
            Base::Reward => toml(&self.files.reward_model("run", &[])),
            Base::Preference => toml(&self.files.preference("run", DPO, &[])),
            Base::Unpaired => toml(&self.files.unpaired("run", KTO, &[])),
            Base::Game => toml(&rl_config(root, "run", &half_trained(), GRPO, &[])),
            Base::Prompts => toml(&words::words_config(root, "run", GROUP, &[])),
            Base::Distill => toml(&crate::distill::distill_config(root, "run", &crate::distill::student(), &[])),
        }
    }

    /// What the plan of a changed configuration says; none when it is accepted.
    fn refusal(&self, base: Base, changes: &[&str]) -> Option<String> {
        let text = self.text(base);
        match base {
            Base::Sft | Base::New => refusal::<SftConfig>(&text, changes),
            Base::Reward => refusal::<RewardModelConfig>(&text, changes),
            Base::Preference => refusal::<PreferenceConfig>(&text, changes),
            Base::Unpaired => refusal::<UnpairedConfig>(&text, changes),
            Base::Game | Base::Prompts => refusal::<RlConfig>(&text, changes),
            Base::Distill => refusal::<DistillConfig>(&text, changes),
        }
    }
}

fn toml(config: &impl Serialize) -> String {
    rl_track::config::to_toml(config).unwrap()
}

fn refusal<C: Planned + DeserializeOwned>(text: &str, changes: &[&str]) -> Option<String> {
    let (taken, set): (Vec<&str>, Vec<&str>) = changes.iter().copied().partition(|change| change.starts_with('-'));
    let mut table: toml::Table = toml::from_str(text).unwrap();
    for key in taken {
        remove(&mut table, &key[1..]);
    }
    let set: Vec<String> = set.into_iter().map(String::from).collect();
    let config: C = match rl_track::config::parse(&table.to_string(), "run.toml", &set) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    plan(&config).and_then(|plan| plan.check()).err().map(|error| error.to_string())
}

fn remove(table: &mut toml::Table, key: &str) {
    match key.split_once('.') {
        Some((first, rest)) => remove(table.get_mut(first).unwrap().as_table_mut().unwrap(), rest),
        None => drop(table.remove(key).unwrap()),
    }
}

/// What is wrong with the refusal of a case; none when all is well.
fn complaint(name: &str, parts: [&str; 3], refuse: impl FnOnce() -> Option<String>) -> Option<String> {
    let started = Instant::now();
    let refusal = refuse();
    let taken = started.elapsed();
    let Some(message) = refusal else { return Some(format!("{name}: accepted")) };
    let missing: Vec<&str> = parts.into_iter().filter(|part| !message.contains(part)).collect();
    if !missing.is_empty() {
        return Some(format!("{name}: lacks {missing:?}: {message}"));
    }
    (LIMIT < taken).then(|| format!("{name}: took {taken:?}"))
}

#[test]
fn the_bases_are_accepted() {
    let fixtures = Fixtures::new();
    for base in BASES {
        assert_eq!(fixtures.refusal(base, &[]), None, "{base:?}");
    }
}

#[test]
fn every_broken_input_is_refused_with_key_value_and_mend() {
    let fixtures = Fixtures::new();
    let mut complaints = Vec::new();
    let mut count = 0;
    for Case { base, change, key, value, mend } in configs::all() {
        count += 1;
        let name = format!("{base:?} {change}");
        complaints.extend(complaint(&name, [key, value, mend], || fixtures.refusal(base, &[change])));
    }
    for (cases, mut found) in [data::run(&fixtures), models::run(&fixtures), datasets::run()] {
        count += cases;
        complaints.append(&mut found);
    }
    assert!(complaints.is_empty(), "{} of {count}:\n{}", complaints.len(), complaints.join("\n"));
    assert!(MIN_CASES <= count, "{count} cases");
}
