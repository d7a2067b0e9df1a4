//! `cargo xtask plan`: what a trainer's configuration would do, without knowing which trainer reads it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use toml::{Table, Value};

use crate::workspace::Workspace;
use crate::{process, setup};

/// Checks a trainer's configuration and says on one screen what its run will read, hold and write: `--plan` of the example that
/// the file is for.
#[derive(Args)]
pub struct Plan {
    /// A configuration of a trainer, such as configs/sft/tiny-general-points.toml.
    pub config: PathBuf,
    /// Changes one value of the file before it is read; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Also takes the largest step of the run for real.
    #[arg(long)]
    pub measure: bool,
}

impl Plan {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let shown = self.config.display();
        let text = std::fs::read_to_string(&self.config).with_context(|| format!("cannot read {shown}"))?;
        let table: Table = toml::from_str(&text).with_context(|| format!("{shown}"))?;
        let example = example_of(&table).with_context(|| format!("{shown}"))?;
        setup::ensure(workspace)?;
        let config = std::path::absolute(&self.config)?;
        let config = config.strip_prefix(&workspace.root).unwrap_or(&config).display().to_string();
        let mut cargo = workspace.cargo(["run", "--release", "-p", "rl-examples", "--example", example, "--"]);
        cargo.args(["--config", &config]);
        for set in &self.set {
            cargo.args(["--set", set]);
        }
        cargo.arg("--plan");
        if self.measure {
            cargo.arg("measure");
        }
        process::run(&mut cargo)
    }
}

/// The example that reads a configuration with these keys.
fn example_of(table: &Table) -> Result<&'static str> {
    let has = |key: &str| table.contains_key(key);
    let is_unpaired = table.get("objective").and_then(Value::as_table).is_some_and(|table| table.contains_key("loss"));
    Ok(match () {
        () if has("rollout") => "rl",
        () if has("teacher") => "distill",
        () if has("head") => "reward_model",
        () if is_unpaired => "kto",
        () if has("objective") => "dpo",
        () if has("train_on") => "sft",
        () => bail!(
            "no trainer has such a file; `rollout` makes it one of rl, `teacher` of distill, `head` of reward_model, \
             `objective` of dpo or kto, `train_on` of sft"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Every configuration of a trainer is found to be that of the example that its first lines name.
    #[test]
    fn the_example_of_every_trainers_config_is_found() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut found = 0;
        for folder in ["sft", "dpo", "kto", "reward_model", "rl", "presets/sft", "presets/rl", "presets/distill"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let text = std::fs::read_to_string(&path).unwrap();
                let named = text.split("--example ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
                assert_eq!(example_of(&toml::from_str(&text).unwrap()).unwrap(), named, "{}", path.display());
                found += 1;
            }
        }
        assert!(60 <= found, "{found}");
        let error = example_of(&toml::from_str("seed = 1").unwrap()).unwrap_err().to_string();
        assert!(error.contains("`train_on` of sft"), "{error}");
    }
}
