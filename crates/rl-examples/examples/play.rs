//! Plays any environment at a terminal: shows what it says, takes lines, shows what they led to.
//!
//! `cargo run --release -p rl-examples --example play -- general_points --seed 42 --index 0`

use std::io::{BufRead, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rl_envs::{Environment, EnvironmentConfig, Preset};
use rl_examples::environments;

/// Plays any environment at a terminal.
///
/// A line is a response; a line that ends with a backslash goes on in the next. An empty input ends the game.
#[derive(Parser)]
#[command(after_help = environments::names_help())]
struct Arguments {
    /// Which environment, with its usual settings.
    #[arg(value_name = "NAME", default_value = "general_points")]
    name: Preset,
    /// A file of settings instead, such as an `[environment]` table of a run's config by itself.
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    config: Option<PathBuf>,
    /// Changes one value of the file before it is read; may be given often.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,
    /// Seed of the episode.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Index of the first episode; each game is followed by the next.
    #[arg(long, default_value_t = 0)]
    index: u64,
    /// Shows a right answer before each response is asked for.
    #[arg(long)]
    expert: bool,
    /// Shows what stands behind the scenes.
    #[arg(long)]
    info: bool,
    /// Writes the picture of a visual environment to this PNG file.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let config: EnvironmentConfig = match &arguments.config {
        Some(file) => rl_track::config::load(file, &arguments.set)?,
        None => arguments.name.config(),
    };
    let mut environment = config.build()?;
    let mut lines = stdin().lock().lines();
    for index in arguments.index.. {
        println!("=== {} (seed {}, index {index}) ===", environment.name(), arguments.seed);
        for message in environment.reset(arguments.seed, index)?.messages {
            println!("[{:?}] {}", message.role, message.content);
        }
        if let (Some(file), Some(picture)) = (&arguments.picture, environment.picture()) {
            std::fs::write(file, picture.png()).with_context(|| format!("cannot write {}", file.display()))?;
            println!("(picture: {})", file.display());
        }
        loop {
            if arguments.info {
                println!("(info: {:#})", environment.info());
            }
            if let Some(answer) = environment.expert().filter(|_| arguments.expert) {
                println!("(expert: {answer})");
            }
            let Some(response) = environments::read_response(&mut lines)? else { return Ok(()) };
            let step = environment.step(&response)?;
            println!("-> {} (reward {}, success {})", step.outcome, step.reward, step.success);
            match step.feedback {
                Some(feedback) => println!("[{:?}] {}", feedback.role, feedback.content),
                None => break println!("-> {}", if step.terminated { "terminated" } else { "truncated" }),
            }
        }
    }
    Ok(())
}
