//! What the example programs share: the command line of a configured run, logging, and how a run ends.

pub mod answer_scorer;
pub mod dataset_args;
pub mod environments;
pub mod generate;
pub mod inspect;
pub mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use rl_track::Progress;
use rl_train::plan::Planned;
use rl_train::{Finish, Interrupt, Method, RunConfig, Trainer};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The options of every configured program.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// The TOML file of the run.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Changes one value of the file before it is read, such as `max_steps=10`; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Prints the resolved configuration and ends.
    #[arg(long)]
    pub print_config: bool,
}

impl ConfigArgs {
    /// The configuration, with its overrides; with `--print-config` prints it and ends the program.
    ///
    /// # Errors
    /// Names the file, line or key.
    pub fn load<T: DeserializeOwned + Serialize>(&self) -> Result<T> {
        let config: T = rl_track::config::load(&self.config, &self.set)?;
        if self.print_config {
            print!("{}", rl_track::config::to_toml(&config)?);
            std::process::exit(0);
        }
        Ok(config)
    }
}

/// The options of a trainer.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainArgs {
    /// The run.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Computes this step of the finished or running run again, with those since the checkpoint before it, compares their
    /// digests with `metrics.jsonl`, and ends. Nothing is written.
    #[arg(long, value_name = "STEP", conflicts_with = "plan")]
    pub replay: Option<u64>,
    /// Checks what the run will touch, says on one screen what it will read, hold and write, and ends; with `measure` it also
    /// takes the largest step for real. Nothing is written.
    #[arg(long, value_name = "measure", num_args = 0..=1)]
    pub plan: Option<Option<PlanMode>>,
}

/// What `--plan` does beyond counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanMode {
    /// Takes the largest step of the run for its time and its memory.
    Measure,
}

impl TrainArgs {
    /// Trains, resuming where an interrupted run stands; or shows the plan of the run; or replays a step.
    ///
    /// # Errors
    /// The first error of the run, with its step.
    pub fn train<M: Method>(&self) -> Result<()>
    where
        M::Config: DeserializeOwned,
    {
        let config: M::Config = self.config.load()?;
        if let Some(mode) = self.plan {
            return show_plan(&config, mode);
        }
        if let Some(step) = self.replay {
            let replayed = rl_train::replay::<M>(&config, step)?;
            println!("steps {:?} computed again from step {}: every digest agrees", replayed.agreed, replayed.from);
            return Ok(());
        }
        let run = config.run().to_path_buf();
        let progress = start(&run)?;
        let interrupt = Interrupt::install()?;
        let finish = Trainer::<M>::new(config)?.run(&interrupt, &progress)?;
        report_finish(finish, &run);
        Ok(())
    }
}

/// Prints the plan of a run; fails when the run would.
fn show_plan<C: Planned>(config: &C, mode: Option<PlanMode>) -> Result<()> {
    let plan = rl_train::plan::plan(config)?;
    print!("{plan}");
    plan.check()?;
    if mode == Some(PlanMode::Measure) {
        println!("{}", config.measure(rl_torch::parse_device(config.device())?)?);
    }
    Ok(())
}

/// Starts logging to standard error and to `log.txt` in the run's folder; gives the progress bars that go with it.
///
/// # Errors
/// When the folder cannot be made or written to.
pub fn start(run: &Path) -> Result<Progress> {
    let progress = Progress::new();
    std::fs::create_dir_all(run).map_err(|error| anyhow::anyhow!("cannot create {}: {error}", run.display()))?;
    rl_track::log::init(&progress, Some(&run.join("log.txt")))?;
    Ok(progress)
}

/// Ends a program: prints a failure as one line on standard error and gives the exit code.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and those causes that its message does not say already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match () {
        () if line.is_empty() => cause,
        () if line.contains(&cause) => line,
        () => format!("{line}: {cause}"),
    })
}

/// Says how a training run ended; an interrupted one ends the program with code 130, as shells expect.
pub fn report_finish(finish: Finish, run: &Path) {
    match finish {
        Finish::EndedEarly { step, best } => {
            println!(
                "ended after step {step}: no evaluation was better than that of step {best}; see {}",
                run.display()
            );
        }
        Finish::Complete { step } => println!("{step} steps done; see {}", run.display()),
        Finish::Interrupted { step } => {
            println!("interrupted after step {step}; the same command goes on from there");
            std::process::exit(130);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_that_says_nothing_twice() {
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(one_line(&cause.context("cannot read a.toml: no such file")), "cannot read a.toml: no such file");
        let cause = anyhow::anyhow!("no such file");
        assert_eq!(one_line(&cause.context("cannot read a.toml")), "cannot read a.toml: no such file");
    }
}
