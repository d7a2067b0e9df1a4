//! Compares the weights of three checkpoints: spectra, and angles between their singular subspaces with null bands.
//!
//! `cargo run --release -p rl-examples --example angles -- --config configs/angles/tiny.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_analysis::{Progress, compare_folders};
use rl_examples::report::rl_heals::{AnglesConfig, checkpoint_of};
use rl_examples::{ConfigArgs, start};
use rl_track::{Manifest, Run};

/// Measures what fine-tuning and reinforcement learning did to the singular values and vectors of each weight matrix.
///
/// Base is the checkpoint before over-training, target the end of fine-tuning, other the end of reinforcement learning;
/// each is a checkpoint folder, or a run, of which the last checkpoint is taken. Writes comparison.json, and one SVG
/// per chart, into the run's folder. An angle says something only where it leaves the null bands, so these are always
/// drawn.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: AnglesConfig = Arguments::parse().config.load()?;
    config.analysis.validate()?;
    let [base, target, other] = [&config.base, &config.target, &config.other].map(|path| checkpoint_of(path));
    let (base, target, other) = (base?, target?, other?);
    let progress = start(&config.run)?;
    let manifest = Manifest::new().seed("nulls", config.analysis.nulls.seed).input_path("base", &base)?;
    let manifest = manifest.input_path("target", &target)?.input_path("other", &other)?;
    let run = Run::open(&config.run, &config, manifest)?;

    let bar = progress.bar("compare", 1);
    let comparison = compare_folders(&base, &target, &other, &config.analysis, &|progress| {
        bar.set_message(match progress {
            Progress::Matrices { done, total } => format!("{done} of {total} matrices"),
            Progress::Nulls { done, total } => format!("null bands of {done} of {total} shapes"),
        });
    })?;
    bar.inc(1);
    bar.finish();
    let figures = rl_analysis::figures::write_figures(&comparison, &run.folder().join("figures"))?;
    comparison.write_json(&run.folder().join("comparison.json"))?;
    println!("{comparison}\n{} charts; see {}", figures.len(), run.folder().display());
    Ok(())
}
