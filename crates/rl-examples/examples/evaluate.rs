//! Gives every checkpoint the same tasks and counts what happens.
//!
//! `cargo run --release -p rl-examples --example evaluate -- --config configs/evaluate/tiny-sft.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_eval::{AnswerScorer, EvaluationConfig, evaluate};
use rl_examples::answer_scorer::RewardModelScorer;
use rl_examples::{ConfigArgs, start};

/// Gives every model the same tasks of an environment and reports success rates with 95 % intervals.
///
/// Writes evaluation.json and links `best` and `last` to the weights of the best and the last model. Results of finished
/// models are kept, so an interrupted evaluation goes on where it stopped.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: EvaluationConfig = Arguments::parse().config.load()?;
    let progress = start(&config.run)?;
    let scorer = RewardModelScorer::of(&config)?;
    let scorer = scorer.as_ref().map(|scorer| scorer as &dyn AnswerScorer);
    let summary = evaluate(&config, scorer, &progress)?;
    println!(
        "{:<14} {:<8} {:<8} {:>22} {:>12} {:>8}",
        "model", "split", "decoding", "first attempt", "within k", "tokens"
    );
    for evaluation in &summary.evaluations {
        for result in &evaluation.results {
            let first = result.first_attempt;
            println!(
                "{:<14} {:<8} {:<8} {:>6.1} % [{:>4.1}, {:>4.1}] {:>10.1} % {:>8.1}",
                evaluation.name,
                result.split,
                result.decoding,
                100.0 * first.rate,
                100.0 * first.low,
                100.0 * first.high,
                100.0 * result.within_attempts.rate,
                result.answer_length.mean_tokens,
            );
        }
    }
    println!("best: {}, last: {}; see {}", summary.best, summary.last, config.run.display());
    Ok(())
}
