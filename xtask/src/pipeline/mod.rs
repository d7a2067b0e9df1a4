//! `cargo xtask pipeline`: runs the stages of a pipeline file, skipping those that are finished and unchanged.

mod file;
mod fingerprint;
mod plan;
mod record;
mod stage_process;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use self::file::PipelineFile;
use self::plan::{Options, Runner};
use self::stage_process::Examples;
use crate::model::{Model, Name};
use crate::workspace::Workspace;
use crate::{process, setup};

const FOLDER: &str = "configs/pipelines";

/// Runs an experiment: a file of stages, each one example program with its config, inputs and outputs.
#[derive(Args, Default)]
#[command(
    after_help = "A stage is skipped if it ended well before, its outputs are there, and its definition, its config \
and the contents of its inputs are what they were. So the same command goes on after an interruption, and after a change \
runs only what depends on it. A stage that changed starts from nothing: its outputs in the run folder are removed first. \
Program code is not watched: after a change of code, use --force.

  cargo xtask pipeline rl-heals --scale tiny --dry-run        what would run, and why
  cargo xtask pipeline rl-heals --scale tiny --set sft.train.steps=50
  cargo xtask pipeline rl-heals --scale tiny --force sft      that stage anew, and what its new outputs change"
)]
pub struct Pipeline {
    /// A file configs/pipelines/NAME.toml, or NAME-SCALE.toml with --scale.
    pub name: String,
    /// The size of the experiment: picks configs/pipelines/NAME-SCALE.toml.
    #[arg(long)]
    pub scale: Option<String>,
    /// List the stages and whether each would run, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Run this stage (or `all`) anew, from nothing; may be repeated.
    #[arg(long, value_name = "STAGE|all")]
    pub force: Vec<String>,
    /// Leave every other stage alone.
    #[arg(long, value_name = "STAGE")]
    pub only: Option<String>,
    /// Override one key of one stage's config; may be repeated.
    #[arg(long, value_name = "STAGE.KEY=VALUE")]
    pub set: Vec<String>,
}

impl Pipeline {
    /// The run folder that the pipeline file names, relative to the project root.
    pub fn run_folder(&self, workspace: &Workspace) -> Result<PathBuf> {
        Ok(PathBuf::from(self.read(workspace)?.run))
    }

    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let file = self.read(workspace)?;
        let options = Options::new(&file, &self.force, self.only.as_deref())?;
        let runner = Runner { root: &workspace.root, file: &file, options };
        println!("{}: {}", file.name, file.title);
        if self.dry_run {
            for need in &file.needs {
                println!("  first: cargo xtask {need}");
            }
            for (stage, decision) in runner.plan()? {
                println!("  {:<5} {:<16} {}", decision.word(), stage.name, decision.reason());
            }
            return Ok(());
        }
        for need in &file.needs {
            meet(need, workspace)?;
        }
        if runner.plan()?.iter().any(|(_, decision)| decision.runs()) {
            setup::ensure(workspace)?;
            process::run(&mut workspace.cargo(["build", "--release", "-p", "rl-examples", "--examples"]))?;
        }
        let examples = Examples::new(workspace, &file)?;
        let again = self.command_line();
        let outcome = runner.execute(&mut |stage| examples.run(stage), &|stage| examples.shown(stage), &again);
        outcome.map(|_| ())
    }

    fn read(&self, workspace: &Workspace) -> Result<PipelineFile> {
        let stem = match &self.scale {
            Some(scale) => format!("{}-{scale}", self.name),
            None => self.name.clone(),
        };
        let path = format!("{FOLDER}/{stem}.toml");
        let full = workspace.root.join(&path);
        if !full.is_file() {
            bail!("there is no {path}; there are: {}", available(&workspace.root.join(FOLDER)));
        }
        let text = std::fs::read_to_string(&full).with_context(|| format!("cannot read {path}"))?;
        PipelineFile::parse(&text, &self.set).with_context(|| path)
    }

    /// This command without what is about one call only.
    fn command_line(&self) -> String {
        let mut words = vec!["cargo xtask pipeline".to_string(), self.name.clone()];
        words.extend(self.scale.iter().map(|scale| format!("--scale {scale}")));
        words.extend(self.set.iter().map(|set| format!("--set '{set}'")));
        words.join(" ")
    }
}

fn available(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_string())).collect();
    names.sort();
    if names.is_empty() { format!("no files in {FOLDER}") } else { names.join(", ") }
}

/// Runs one line of `needs`.
fn meet(need: &str, workspace: &Workspace) -> Result<()> {
    match need.split_once(' ').and_then(|(command, name)| (command == "model").then_some(name)) {
        Some(name) => match Name::from_str(name, false) {
            Ok(name) => Model { name, force: false }.run(workspace),
            Err(_) => bail!("needs = {need:?}: there is no model {name:?}; see `cargo xtask model --help`"),
        },
        None => bail!("needs = {need:?} is not known; the form is \"model NAME\""),
    }
}
