//! Plays any environment at a terminal: shows what it says, takes lines, shows what they led to.
//!
//! `cargo run --release -p rl-examples --example play -- general_points --seed 42 --index 0`

use std::io::{BufRead, IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rl_envs::{Environment, EnvironmentConfig, Preset};
use rl_examples::environments;

const EXAMPLES: &str = r#"  play general_points                       then type {"formula": "4*6=24"} or whatever you find
  play virl --expert --index 7              the eighth walk, with a right answer to copy at every point
  play general_points_vision --picture cards.png
  play --config environment.toml --set max_attempts=1
                                            a file that says: name = "general_points"
  echo '{"answer": 2}' | play matrix_rank   from a script; the end of the input ends the program"#;

/// Plays any environment at a terminal.
///
/// A line is a response, an empty one too; a line that ends with a backslash goes on in the next. The end of the input
/// (Ctrl-D) ends the program.
#[derive(Parser)]
#[command(after_help = environments::names_help(EXAMPLES))]
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
    let at_terminal = stdin().is_terminal();
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
                println!("(info:\n{})", environments::info_lines(environment.as_ref()));
            }
            if let Some(answer) = environment.expert().filter(|_| arguments.expert) {
                println!("(expert: {answer})");
            }
            if at_terminal {
                print!("> ");
                stdout().flush().context("cannot write to the terminal")?;
            }
            let Some(response) = environments::read_response(&mut lines)? else { return Ok(()) };
            let step = environment.step(&response)?;
            println!("-> {} (reward {})", step.outcome, step.reward);
            let Some(feedback) = step.feedback else {
                let end = if step.terminated { "terminated" } else { "truncated" };
                break println!("-> {end}, {}", if step.success { "solved" } else { "not solved" });
            };
            if environment.starts_over() {
                println!("-> on to a conversation of its own");
            }
            println!("[{:?}] {}", feedback.role, feedback.content);
        }
    }
    Ok(())
}
