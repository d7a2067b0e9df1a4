//! Answers prompts with a checkpoint.
//!
//! `cargo run --release -p rl-examples --example generate -- --model data/models/smollm2-135m --prompt "Hello" --greedy`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use rl_core::random::RandomKey;
use rl_data::Message;
use rl_examples::GenerateConfig;
use rl_models::ChatModel;

/// Answers prompts with a model in the Hugging Face layout, through its own chat template; all prompts together.
///
/// `cargo xtask model smollm2-135m` obtains a small model. Without --config the built-in settings hold: up to 128 tokens at
/// temperature 0.7 and top-p 0.95.
#[derive(Parser)]
#[command(after_help = "Example:\n  generate --prompt 'What is the capital of France?' --greedy --set seed=1")]
struct Arguments {
    /// A TOML file with model, prompts, device, seed and sampling.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Changes one value of the settings, such as `sampling.top_k=20`; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Checkpoint folder; short for --set model=FOLDER.
    #[arg(long, value_name = "FOLDER")]
    model: Option<String>,
    /// A user message; may be given often.
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Take the most probable token each time; short for --set sampling.temperature=0.
    #[arg(long)]
    greedy: bool,
    /// Longest answer in tokens; short for --set sampling.max_new_tokens=N.
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let mut overrides = arguments.set;
    overrides.extend(arguments.model.map(|model| format!("model={}", serde_json::json!(model))));
    overrides.extend(arguments.max_new_tokens.map(|tokens| format!("sampling.max_new_tokens={tokens}")));
    overrides.extend(arguments.greedy.then(|| "sampling.temperature=0.0".to_string()));
    let mut config = GenerateConfig::load(arguments.config.as_deref(), &overrides)?;
    config.prompts.extend(arguments.prompt);
    ensure!(!config.prompts.is_empty(), "no prompt: give --prompt TEXT, or `prompts` in a config file");

    let model = ChatModel::load(&config.model, rl_torch::parse_device(&config.device)?)?;
    let dialogue = |prompt: &String| model.dialogue(vec![Message::user(prompt.as_str())]);
    let mut dialogues = config.prompts.iter().map(dialogue).collect::<rl_models::Result<Vec<_>>>()?;
    let key = RandomKey::new(config.seed, "generate");
    let keys: Vec<RandomKey> = (0..dialogues.len()).map(|index| key.at(index as u64)).collect();
    let (started, mut num_tokens) = (Instant::now(), 0);
    let mut open: Vec<_> = dialogues.iter_mut().collect();
    model.respond(&mut open, &keys, &config.sampling, &mut |tokens| num_tokens += tokens)?;
    let seconds = started.elapsed().as_secs_f64();
    for (prompt, dialogue) in config.prompts.iter().zip(&dialogues) {
        if 1 < dialogues.len() {
            println!("> {prompt}");
        }
        println!("{}", dialogue.turns.last().map_or("", |turn| turn.text.as_str()));
    }
    eprintln!("{num_tokens} tokens in {seconds:.2} s, {:.1} tokens per second", num_tokens as f64 / seconds);
    Ok(())
}
