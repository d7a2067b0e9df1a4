//! Answers a prompt with a checkpoint.
//!
//! `cargo run --release -p rl-examples --example generate -- --model data/models/smollm2-135m --prompt "Hello" --greedy`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::ChatModel;
use rl_models::generate::SamplingConfig;

/// Answers prompts with a model in the Hugging Face layout, through its own chat template.
///
/// `cargo xtask model smollm2-135m` obtains a small one.
#[derive(Parser)]
#[command(
    after_help = "Example:\n  generate --model data/models/smollm2-135m --prompt 'What is the capital of France?' --greedy"
)]
struct Arguments {
    /// Checkpoint folder.
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// A user message; may be given often, all are answered together.
    #[arg(long, value_name = "TEXT", required = true)]
    prompt: Vec<String>,
    /// Take the most probable token each time.
    #[arg(long)]
    greedy: bool,
    /// Divides the logits before sampling.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Keep the most probable tokens that together reach this probability.
    #[arg(long, default_value_t = 0.95)]
    top_p: f64,
    /// Longest answer in tokens.
    #[arg(long, default_value_t = 128)]
    max_new_tokens: usize,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[arg(long, default_value = "auto")]
    device: String,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.greedy && arguments.temperature <= 0.0 {
        bail!(
            "--temperature is {}: it must be positive; use --greedy for the most probable token",
            arguments.temperature
        );
    }
    let model = ChatModel::load(&arguments.model, rl_torch::parse_device(&arguments.device)?)?;
    let sampling = SamplingConfig {
        max_new_tokens: arguments.max_new_tokens,
        temperature: if arguments.greedy { 0.0 } else { arguments.temperature },
        top_k: 0,
        top_p: if arguments.greedy { 1.0 } else { arguments.top_p },
        num_slots: arguments.prompt.len(),
    };
    let dialogue = |prompt: &String| model.dialogue(vec![Message::user(prompt.as_str())]);
    let mut dialogues = arguments.prompt.iter().map(dialogue).collect::<rl_models::Result<Vec<_>>>()?;
    let key = RandomKey::new(arguments.seed, "generate");
    let keys: Vec<RandomKey> = (0..dialogues.len()).map(|index| key.at(index as u64)).collect();
    let started = Instant::now();
    let mut num_tokens = 0;
    model
        .respond(&mut dialogues.iter_mut().collect::<Vec<_>>(), &keys, &sampling, &mut |tokens| num_tokens += tokens)?;
    let seconds = started.elapsed().as_secs_f64();
    for (prompt, dialogue) in arguments.prompt.iter().zip(&dialogues) {
        if 1 < dialogues.len() {
            println!("> {prompt}");
        }
        println!("{}", dialogue.turns.last().map_or("", |turn| turn.text.as_str()));
    }
    eprintln!("{num_tokens} tokens in {seconds:.2} s, {:.1} tokens per second", num_tokens as f64 / seconds);
    Ok(())
}
