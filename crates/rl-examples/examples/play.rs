//! Plays any environment at a terminal: shows what it says, takes lines, shows what they led to.
//!
//! `cargo run --release -p rl-examples --example play -- general_points --seed 42 --index 0`

use std::io::{BufRead, Error, ErrorKind, IsTerminal, Write, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
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
    #[arg(long, value_name = "KEY=VALUE")]
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
    match run() {
        // Who reads the output has enough of it, as `head` does.
        Err(error) if error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        result => rl_examples::exit_code(result),
    }
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let config: EnvironmentConfig = match &arguments.config {
        Some(file) => rl_track::config::load(file, &arguments.set)?,
        None => {
            ensure!(arguments.set.is_empty(), "--set changes a file of settings; say which with --config");
            arguments.name.config()
        }
    };
    let mut environment = config.build()?;
    let at_terminal = stdin().is_terminal();
    let (mut lines, mut out) = (stdin().lock().lines(), stdout().lock());
    for index in arguments.index..=u64::MAX {
        writeln!(out, "=== {} (seed {}, index {index}) ===", environment.name(), arguments.seed)?;
        for message in environment.reset(arguments.seed, index)?.messages {
            writeln!(out, "[{:?}] {}", message.role, message.content)?;
        }
        if let Some(file) = &arguments.picture {
            let picture = environment.picture();
            let picture = picture.with_context(|| format!("--picture: {} shows none", environment.name()))?;
            std::fs::write(file, picture.png()).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "(picture: {})", file.display())?;
        }
        loop {
            if arguments.info {
                writeln!(out, "(info:\n{})", environments::info_lines(environment.as_ref()))?;
            }
            if let Some(answer) = environment.expert().filter(|_| arguments.expert) {
                writeln!(out, "(expert: {answer})")?;
            }
            if at_terminal {
                write!(out, "> ")?;
                out.flush()?;
            }
            let Some(response) = environments::read_response(&mut lines)? else {
                if at_terminal {
                    writeln!(out)?;
                }
                return Ok(());
            };
            let step = environment.step(&response)?;
            writeln!(out, "-> {} (reward {})", step.outcome, step.reward)?;
            let Some(feedback) = step.feedback else {
                let end = if step.terminated { "terminated" } else { "truncated" };
                writeln!(out, "-> {end}, {}", if step.success { "solved" } else { "not solved" })?;
                break;
            };
            if environment.starts_over() {
                writeln!(out, "-> on to a conversation of its own")?;
            }
            writeln!(out, "[{:?}] {}", feedback.role, feedback.content)?;
        }
    }
    Ok(())
}
