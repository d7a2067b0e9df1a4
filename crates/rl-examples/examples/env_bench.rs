//! Measures resets, expert answers and steps per second of any environment, on one core and on all.
//!
//! `cargo run --release -p rl-examples --example env_bench -- general_points`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use rl_envs::Preset;
use rl_examples::environments::{self, measure};

/// Most seconds for one number.
const LONGEST: f64 = 3600.0;
const EXAMPLES: &str = "  env_bench                         all of them, a minute and a half
  env_bench igsm virl --seconds 5   two of them, more exactly
  env_bench --json > speed.jsonl    for other programs";

/// Measures resets, examples and steps per second of environments with their usual settings.
///
/// A reset makes an episode with its prompt; an example is a reset and the expert's answer to it; a step judges an answer and
/// writes what comes next. At every point of an episode the expert's answer in another episode comes first (the right form and
/// mostly the wrong content), and then, unless that was right, the expert's answer here. With --json each line is an object.
#[derive(Parser)]
#[command(after_help = environments::names_help(EXAMPLES))]
struct Arguments {
    /// Which environments; without any, all.
    #[arg(value_name = "NAME")]
    names: Vec<Preset>,
    /// Measuring time of each number; an environment takes eight times as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, allow_negative_numbers = true)]
    seconds: f64,
    /// Prints JSON Lines.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let presets = if arguments.names.is_empty() { Preset::ALL.to_vec() } else { arguments.names };
    ensure!(
        0.0 < arguments.seconds && arguments.seconds <= LONGEST,
        "--seconds {} must be above 0 and at most {LONGEST}",
        arguments.seconds
    );
    let time = Duration::from_secs_f64(arguments.seconds);
    for preset in presets {
        let speed = measure(preset, time)?;
        if arguments.json {
            println!("{}", serde_json::to_string(&speed)?);
        } else {
            println!("{speed}");
        }
    }
    Ok(())
}
