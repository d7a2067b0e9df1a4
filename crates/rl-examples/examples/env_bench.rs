//! Measures resets and steps per second of any environment, on one core and on all.
//!
//! `cargo run --release -p rl-examples --example env_bench -- general_points`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use rl_envs::Preset;
use rl_examples::environments::{self, measure};

/// Measures resets and steps per second of environments with their usual settings.
///
/// A step is judged on what an expert answers in half of the cases and, in the other half, on what it answers in another
/// episode: the right form and nearly always the wrong content. With --json each line is an object.
#[derive(Parser)]
#[command(after_help = environments::names_help())]
struct Arguments {
    /// Which environments; without any, all.
    #[arg(value_name = "NAME")]
    names: Vec<Preset>,
    /// Measuring time of each number.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
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
    let time = Duration::try_from_secs_f64(arguments.seconds)?;
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
