//! Answers prompts with a checkpoint.
//!
//! `cargo run --release -p rl-examples --example generate -- --model data/models/smollm2-135m --prompt "Hello" --greedy`

use std::io::{stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use rl_examples::generate::{GenerateConfig, Generator, SamplingArgs, summary};
use rl_track::Progress;

/// Answers prompts with a model in the Hugging Face layout, through its own chat template.
///
/// One prompt is answered as the text comes, several together; --chat converses on the terminal; --prompts answers a file.
/// `cargo xtask model smollm2-135m` obtains a small model. Without --config the built-in settings hold: up to 128 tokens at
/// temperature 0.7 and top-p 0.95. Tokens per second go to standard error.
#[derive(Parser)]
#[command(after_help = "Examples:
  generate --prompt 'What is the capital of France?' --greedy
  generate --model data/models/smollm2-135m --chat --system 'You are a pirate.' --temperature 0.9
  printf 'Hello!\\nWho are you?\\n' | generate --chat --greedy
  generate --prompts questions.jsonl --output answers.jsonl --num-slots 32 --stop $'\\n\\n'
  generate --prompt 'Name ten fruits.' --repetition-penalty 1.1 --set seed=1

A line of questions.jsonl is {\"prompt\": TEXT} or {\"messages\": [{\"role\": \"user\", \"content\": TEXT}]}; its other fields
are kept, and the answer adds `text`, `finish_reason` and `num_tokens`.")]
struct Arguments {
    /// A TOML file with model, prompts, system, device, seed and sampling.
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
    /// What every conversation begins with; short for --set system=TEXT.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Converses: each line of the input is a message; /reset begins anew, /quit ends.
    #[arg(long, conflicts_with_all = ["prompt", "prompts"])]
    chat: bool,
    /// Answers a file of JSON Lines.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompts: Option<PathBuf>,
    /// Where the answers to --prompts go; standard output if absent.
    #[arg(long, value_name = "FILE", requires = "prompts")]
    output: Option<PathBuf>,
    #[command(flatten, next_help_heading = "How tokens are chosen")]
    sampling: SamplingArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let mut overrides = arguments.set;
    overrides.extend(arguments.model.map(|model| format!("model={}", serde_json::json!(model))));
    overrides.extend(arguments.system.map(|system| format!("system={}", serde_json::json!(system))));
    overrides.extend(arguments.sampling.overrides());
    let mut config = GenerateConfig::load(arguments.config.as_deref(), &overrides)?;
    config.prompts.extend(arguments.prompt);
    let prompts = &config.prompts;
    let has_input = arguments.chat || arguments.prompts.is_some() || !prompts.is_empty();
    ensure!(has_input, "no prompt: give --prompt TEXT, --chat, --prompts FILE, or `prompts` in a config file");

    let generator = Generator::load(&config)?;
    let (num_responses, stats) = if arguments.chat {
        return generator.chat(stdin().lock(), &mut stdout().lock());
    } else if let Some(file) = &arguments.prompts {
        generator.answer_file(file, arguments.output.as_deref(), &Progress::new())?
    } else if let [prompt] = prompts.as_slice() {
        (1, generator.stream(prompt, &mut stdout().lock())?)
    } else {
        let (answers, stats) = generator.answer_all(prompts)?;
        prompts.iter().zip(&answers).for_each(|(prompt, answer)| println!("> {prompt}\n{answer}"));
        (answers.len(), stats)
    };
    eprintln!("{}", summary(&stats, num_responses));
    Ok(())
}
