//! Measures one workload in a process of its own and prints one line of JSON, in the form that the Python peers print.
//!
//! `cargo xtask bench` runs it. Deliberately absent: repeats, medians, ratios and pages, which are that command's.

mod figure;
mod generation;
mod inputs;
mod memory;
mod process;
mod trainers;
mod training;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use rl_models::Decoder;
use rl_models::checkpoint::{read_config, read_tensors};
use serde::Serialize;
use tch::{Device, Kind};

use inputs::Inputs;

/// Measures one workload and prints one line of JSON; `cargo xtask bench` runs it and makes the tables.
#[derive(Parser)]
#[command(after_help = "By hand:
  measure prepare --model data/models/smollm2-135m --out runs/bench/inputs.json
  measure run --inputs runs/bench/inputs.json --model data/models/smollm2-135m --threads 2 --job decode-8
  measure figure --page docs/benchmarks.json --out docs/figures/benchmarks.svg")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the token ids and lengths that every job of both sides uses.
    Prepare {
        /// A checkpoint folder, for its tokenizer.
        #[arg(long, value_name = "FOLDER")]
        model: PathBuf,
        /// The JSON file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Runs one job on the CPU in f32 and prints its result as the last line.
    Run {
        /// What `prepare` wrote.
        #[arg(long, value_name = "FILE")]
        inputs: PathBuf,
        /// The checkpoint folder; the memory jobs make a model of their own and do not read it.
        #[arg(long, value_name = "FOLDER")]
        model: PathBuf,
        /// Threads that one tensor operation uses.
        #[arg(long)]
        threads: usize,
        /// Which job.
        #[arg(long)]
        job: Job,
        /// Of a trainer: ends where its first step would begin.
        #[arg(long)]
        only_start: bool,
    },
    /// Draws speed-ups over the peer from the results that `cargo xtask bench` wrote.
    Figure {
        /// The JSON file of results.
        #[arg(long, value_name = "FILE")]
        page: PathBuf,
        /// The SVG file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
enum Job {
    /// Greedy decoding of one sequence.
    #[value(name = "decode-1")]
    Decode1,
    /// Greedy decoding of 8 sequences together.
    #[value(name = "decode-8")]
    Decode8,
    /// Greedy decoding of 32 sequences together.
    #[value(name = "decode-32")]
    Decode32,
    /// Sampled answers of spread lengths to groups of prompts.
    #[value(name = "rollout")]
    Rollout,
    /// One optimizer step, all sequences in one packed backward pass.
    #[value(name = "train")]
    Train,
    /// The same step in packed micro-batches of at most 512 tokens.
    #[value(name = "train-micro-512")]
    TrainMicro,
    /// The first of these with gradient checkpointing.
    #[value(name = "train-checkpointed")]
    TrainCheckpointed,
    /// Steps of the SFT trainer; `--inputs` is `xtask/peers/trainers.json` for this and the other trainers.
    #[value(name = "trainer-sft")]
    TrainerSft,
    /// Steps of the DPO trainer.
    #[value(name = "trainer-dpo")]
    TrainerDpo,
    /// Steps of the reward model's trainer.
    #[value(name = "trainer-reward")]
    TrainerReward,
    /// Steps of GRPO, sampling included.
    #[value(name = "trainer-grpo")]
    TrainerGrpo,
    /// Steps of RLOO, sampling included.
    #[value(name = "trainer-rloo")]
    TrainerRloo,
    /// Memory of a step of a small decoder with a vocabulary of 8 192.
    #[value(name = "memory-8k")]
    Memory8k,
    /// Memory of a step of the same decoder with a vocabulary of 150 016.
    #[value(name = "memory-150k")]
    Memory150k,
}

/// The result of one job, as printed.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Numbers by name; the name says the unit.
    pub values: BTreeMap<&'static str, f64>,
    /// Ids of greedy answers, for comparison between the sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Vec<i64>>,
    /// Loss of each step, for comparison between the sides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<f64>,
    /// What was linked.
    pub versions: BTreeMap<&'static str, String>,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Prepare { model, out } => {
            let text = serde_json::to_string(&Inputs::prepare(&model)?)?;
            std::fs::write(&out, text).with_context(|| format!("cannot write {}", out.display()))
        }
        Command::Figure { page, out } => figure::draw(&page, &out),
        Command::Run { inputs, model, threads, job, only_start } => {
            rl_torch::set_num_threads(threads);
            let trainers = || trainers::Inputs::read(&inputs, only_start);
            let inputs = || Inputs::read(&inputs);
            let load = || -> Result<Decoder> {
                let tensors = read_tensors(&model, Device::Cpu)?;
                Ok(Decoder::from_tensors(read_config(&model)?, tensors, Kind::Float, Device::Cpu)?)
            };
            let mut measured = match job {
                Job::Decode1 => generation::decode(&load()?, &inputs()?, 1)?,
                Job::Decode8 => generation::decode(&load()?, &inputs()?, 8)?,
                Job::Decode32 => generation::decode(&load()?, &inputs()?, 32)?,
                Job::Rollout => generation::rollout(&load()?, &inputs()?)?,
                Job::Train => training::step(&load()?, &inputs()?, usize::MAX)?,
                Job::TrainMicro => training::step(&load()?, &inputs()?, 512)?,
                Job::TrainCheckpointed => {
                    let decoder = load()?;
                    decoder.set_gradient_checkpointing(true);
                    training::step(&decoder, &inputs()?, usize::MAX)?
                }
                Job::TrainerSft => trainers()?.sft(&model)?,
                Job::TrainerDpo => trainers()?.dpo(&model)?,
                Job::TrainerReward => trainers()?.reward(&model)?,
                Job::TrainerGrpo => trainers()?.grpo(&model)?,
                Job::TrainerRloo => trainers()?.rloo(&model)?,
                Job::Memory8k => memory::step(8_192)?,
                Job::Memory150k => memory::step(150_016)?,
            };
            measured.values.entry("peak_bytes").or_insert(process::peak_bytes()? as f64);
            measured.versions.insert("reins", env!("CARGO_PKG_VERSION").into());
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
    }
}
