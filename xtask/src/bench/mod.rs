//! `cargo xtask bench`: our speed and memory beside those of the Python libraries, on one machine, in one run.

mod envs;
mod jobs;
mod machine;
mod page;
mod peer;
mod results;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::model::{Model, Name};
use crate::process;
use crate::workspace::{Workspace, human_bytes};
use jobs::{JOBS, Job, Side, Workload};
use machine::{Busy, Machine};
use results::{Measured, Results};

/// Working files: inputs, the copy of the program that is measured, what the jobs wrote to standard error.
const FOLDER: &str = "runs/bench";
/// Starts of a trainer whose median counts.
const COUNTED_STARTS: usize = 5;
/// Conversations that data is measured on.
const ROWS: u32 = 100_000;
/// More than this many cores' worth of other programs makes the numbers rough.
const QUIET_CORES: f64 = 0.1;

/// Measures speed and memory beside transformers and TRL, and writes docs/benchmarks.md.
#[derive(Args)]
#[command(after_help = "What it does, in this order:
  1. builds the measuring program for release, fetches SmolLM2-135M-Instruct if it is not there
  2. makes the peer's Python environment in ~/.cache/reins/benchmark-peer (about 3 GB to download, once), or checks the one
     that --python names; xtask/peers/requirements.txt says what it holds
  3. runs each job of ours and of the peer in turn, as processes of their own, and all of that --repeats times
  4. writes docs/benchmarks.json (every number), docs/benchmarks.md (the page) and docs/figures/benchmarks.svg

Everything takes about 100 minutes on two cores, most of it the peer's, and up to 16 GB of memory (TRL's padded step).
Leave the machine alone meanwhile: what other programs take of it is measured too and said on the page.
Jobs that are not run again keep their numbers if machine, threads and versions are the same. The part of the page
between its two marks is yours to write; everything else is made anew.

Examples:
  cargo xtask bench                                       everything
  cargo xtask bench decode --repeats 1                    a first look
  cargo xtask bench envs                                  environments beside plain Python (3 minutes; docs/environments.md)
  cargo xtask bench envs --seconds 0.1                    the same, a first look
  cargo xtask bench trainers                              the trainers beside TRL's
  cargo xtask bench starts --repeats 1                    how long the trainers take to start (4 minutes)
  cargo xtask bench data --rows 10000                     chat data to batches, a first look; needs no libtorch
  cargo xtask bench --workload train --no-peer            ours only, against the peer's numbers of before
  cargo xtask bench --render-only                         the page again from the numbers that are there")]
pub struct Bench {
    /// What to measure. Without any, everything.
    #[arg(value_name = "NAME")]
    pub named: Vec<Workload>,
    /// The same as an option.
    #[arg(long, value_name = "NAME")]
    pub workload: Vec<Workload>,
    /// Times that every job is run; the page shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeats: u32,
    /// Threads of one tensor operation, on both sides.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// Conversations of the generated set that `data` reads.
    #[arg(long, default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(1..))]
    pub rows: u32,
    /// Seconds that each number of `envs` is measured for.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Run ours only.
    #[arg(long)]
    pub no_peer: bool,
    /// A Python that has the packages of xtask/peers/requirements.txt; nothing is installed then.
    #[arg(long, value_name = "FILE", env = "REINS_BENCH_PYTHON", conflicts_with = "no_peer")]
    pub python: Option<PathBuf>,
    /// Where benchmarks.md, benchmarks.json and figures/benchmarks.svg go.
    #[arg(long, value_name = "FOLDER", default_value = "docs")]
    pub out: PathBuf,
    /// Measure nothing; write the page and the picture from benchmarks.json.
    #[arg(long, conflicts_with_all = ["named", "workload", "repeats", "threads", "rows", "seconds", "no_peer", "python"])]
    pub render_only: bool,
}

impl Bench {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let out = workspace.root.join(&self.out);
        let workloads = self.workloads();
        if !self.render_only && (workloads.is_empty() || workloads.contains(&Workload::Envs)) {
            crate::setup::ensure(workspace)?;
            envs::run(workspace, &out, self.python.as_deref(), !self.no_peer, self.seconds)?;
            if !workloads.is_empty() && workloads.iter().all(|&workload| workload == Workload::Envs) {
                return Ok(());
            }
        }
        let old = Results::read(&out.join("benchmarks.json"))?;
        let chosen = self.chosen();
        // Data needs no libtorch, so who measures that alone need not build anything on it.
        let has_models = self.render_only || chosen.iter().any(|job| job.workload != Workload::Data);
        let program = if has_models {
            crate::setup::ensure(workspace)?;
            Some(build(workspace, ["-p", "rl-examples", "--bin", "measure"], "measure")?)
        } else {
            None
        };
        if self.render_only {
            let results = old.with_context(|| format!("{} has no benchmarks.json yet", out.display()))?;
            return write(results, program.as_deref(), &out);
        }
        Model { name: Name::Smollm2, force: false }.run(workspace)?;
        let data_program = if chosen.iter().any(|job| job.workload == Workload::Data) {
            Some(build(workspace, ["-p", "rl-data", "--example", "measure"], "measure-data")?)
        } else {
            None
        };
        let has_peer = chosen.iter().any(|job| job.side == Side::Peer);
        let python = if has_peer { Some(peer::python(workspace, self.python.as_deref())?) } else { None };
        let bench = Runner::new(workspace, program, python, self.threads)?.with_data(data_program, self.rows)?;

        let mut results = Results::new(Machine::this()?, self.threads as usize);
        let total = chosen.len() * self.repeats as usize;
        let jobs = (1..=self.repeats).flat_map(|repeat| chosen.iter().map(move |job| (repeat, job)));
        for (index, (repeat, job)) in jobs.enumerate() {
            let (number, repeats, side) = (index + 1, self.repeats, job.side.name());
            eprint!("[{number}/{total}] repeat {repeat}/{repeats}: {side} {} ... ", job.name);
            let started = Instant::now();
            let measured = bench.measure(job)?;
            eprintln!("{} ({:.0} s)", page::shown(job.shown, &measured.values), started.elapsed().as_secs_f64());
            results.add(job.side, job.name, &self.typed(), measured);
        }
        if let Some(old) = old {
            let left_behind = results.keep_from(old);
            if 0 < left_behind {
                eprintln!(
                    "note: {left_behind} jobs of another machine, thread count or version are left out of the page"
                );
            }
        }
        write(results, bench.program.as_deref(), &out)
    }

    fn workloads(&self) -> Vec<Workload> {
        self.named.iter().chain(&self.workload).copied().collect()
    }

    fn chosen(&self) -> Vec<&'static Job> {
        let workloads = self.workloads();
        let wanted = |job: &&Job| workloads.is_empty() || workloads.contains(&job.workload);
        JOBS.iter().filter(wanted).filter(|job| !(self.no_peer && job.side == Side::Peer)).collect()
    }

    /// The command as one would type it; where Python lies does not belong on the page.
    fn typed(&self) -> String {
        let mut words = vec!["cargo xtask bench".to_string()];
        for workload in self.workloads() {
            words.push(format!("{workload:?}").to_lowercase());
        }
        if self.repeats != 3 {
            words.push(format!("--repeats {}", self.repeats));
        }
        if self.threads != 2 {
            words.push(format!("--threads {}", self.threads));
        }
        if self.rows != ROWS {
            words.push(format!("--rows {}", self.rows));
        }
        if self.no_peer {
            words.push("--no-peer".into());
        }
        words.join(" ")
    }
}

/// What every job needs.
struct Runner {
    folder: PathBuf,
    /// None where data alone is measured.
    program: Option<PathBuf>,
    /// The program that prepares data, and the conversations it reads; none where data is not measured.
    data: Option<(PathBuf, PathBuf)>,
    inputs: PathBuf,
    trainer_inputs: PathBuf,
    model: PathBuf,
    python: Option<PathBuf>,
    scripts: PathBuf,
    threads: u32,
    environment: Vec<(String, String)>,
}

impl Runner {
    fn new(workspace: &Workspace, program: Option<PathBuf>, python: Option<PathBuf>, threads: u32) -> Result<Self> {
        let folder = workspace.root.join(FOLDER);
        let (inputs, model) = (folder.join("inputs.json"), workspace.root.join("data/models/smollm2-135m"));
        if let Some(program) = &program {
            process::run(Command::new(program).args(["prepare", "--model"]).arg(&model).arg("--out").arg(&inputs))?;
        }
        let config = workspace.root.join(".cargo/config.toml");
        let text = std::fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
        let mut environment = cargo_environment(&text).with_context(|| format!("{}", config.display()))?;
        environment.push(("OMP_NUM_THREADS".into(), threads.to_string()));
        let scripts = peer::scripts(workspace);
        let trainer_inputs = scripts.join("trainers.json");
        let data = None;
        Ok(Self { folder, program, data, inputs, trainer_inputs, model, python, scripts, threads, environment })
    }

    /// Makes the conversations that `program` is measured on.
    fn with_data(mut self, program: Option<PathBuf>, rows: u32) -> Result<Self> {
        if let Some(program) = program {
            let file = self.folder.join("chat.parquet");
            process::run(Command::new(&program).arg("rows").arg(&self.model).arg(rows.to_string()).arg(&file))?;
            self.data = Some((program, file));
        }
        Ok(self)
    }

    /// Runs one job and reads what it printed. Of a few starts the median counts, without the first: the job before may have
    /// pushed weights and libraries out of the memory that caches files.
    fn measure(&self, job: &Job) -> Result<Measured> {
        if job.workload != Workload::Starts {
            let mut measured = self.run(job, &[])?;
            measured.values.remove(jobs::START); // of whatever the page cache held; `Workload::Starts` measures it
            return Ok(measured);
        }
        self.run(job, &["--only-start"])?;
        let mut starts = (0..COUNTED_STARTS).map(|_| self.run(job, &["--only-start"])).collect::<Result<Vec<_>>>()?;
        let seconds = |measured: &Measured| measured.values.get(jobs::START).copied().unwrap_or(f64::INFINITY);
        starts.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        let median = starts.swap_remove(COUNTED_STARTS / 2);
        ensure!(seconds(&median).is_finite(), "the start of {} was not measured", job.name);
        Ok(median)
    }

    /// Runs one process and reads what it printed.
    fn run(&self, job: &Job, more: &[&str]) -> Result<Measured> {
        let free = machine::available_bytes()?;
        let (need, has) = (human_bytes(job.needs_bytes), human_bytes(free));
        ensure!(
            job.needs_bytes <= free,
            "{} takes up to {need} of memory and {has} are free; close programs, or choose another workload",
            job.name
        );
        let mut command = match job.side {
            Side::Ours => self.ours(job)?,
            Side::Peer => self.peer(job)?,
        };
        command.args(more);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Models and data are local files; nothing may wait for a network.
        command.envs([("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1")]);

        let errors = self.folder.join(format!("{}-{}.stderr", job.side.name(), job.name));
        let file = std::fs::File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
        let before = Busy::now()?;
        let output = command.stdin(Stdio::null()).stderr(file).output();
        let output = output.with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
        let elsewhere = Busy::now()?.others_since(&before);
        let failed = || format!("`{}`; see {}", process::shown(&command), errors.display());
        ensure!(output.status.success(), "{} of {}", output.status, failed());
        let mut measured = Measured::from_output(&String::from_utf8_lossy(&output.stdout)).with_context(failed)?;
        if QUIET_CORES < elsewhere {
            eprint!("(other programs took {elsewhere:.1} cores) ");
        }
        measured.values.insert(machine::ELSEWHERE.into(), elsewhere);
        Ok(measured)
    }

    /// Our command for a job.
    fn ours(&self, job: &Job) -> Result<Command> {
        let missing = || format!("no program was built for {}", job.name);
        if job.workload == Workload::Data {
            let (program, rows) = self.data.as_ref().with_context(missing)?;
            let mut command = Command::new(program);
            command.arg("run").arg(&self.model).arg(self.threads.to_string()).arg(rows);
            return Ok(command);
        }
        let mut command = Command::new(self.program.as_ref().with_context(missing)?);
        command.arg("run");
        self.shared_arguments(&mut command, job);
        Ok(command)
    }

    /// The peer's command for a job.
    fn peer(&self, job: &Job) -> Result<Command> {
        let python = self.python.as_ref().with_context(|| format!("no Python was prepared for {}", job.name))?;
        let script = if job.workload == Workload::Data { "chat_data.py" } else { "measure.py" };
        let mut command = Command::new(python);
        command.arg("-B").arg(self.scripts.join(script));
        self.shared_arguments(&mut command, job);
        Ok(command)
    }

    fn shared_arguments(&self, command: &mut Command, job: &Job) {
        let inputs = match (job.workload, &self.data) {
            (Workload::Trainers | Workload::Starts, _) => &self.trainer_inputs,
            (Workload::Data, Some((_, rows))) => rows,
            _ => &self.inputs,
        };
        command.arg("--inputs").arg(inputs).arg("--model").arg(&self.model);
        command.args(["--threads", &self.threads.to_string(), "--job", &job.measured_as()]);
    }
}

/// Builds a measuring program and copies it, so that a build meanwhile does not change what is measured.
fn build(workspace: &Workspace, target: [&str; 4], name: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(["build", "--release"].into_iter().chain(target));
    eprintln!("$ {}", process::shown(&cargo));
    let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output();
    let output = output.context("cargo cannot be run; install it with rustup")?;
    ensure!(output.status.success(), "the build failed");
    let built = executable(&String::from_utf8_lossy(&output.stdout)).context("cargo names no program it built")?;
    let folder = workspace.root.join(FOLDER);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot write {}", folder.display()))?;
    let copy = folder.join(name);
    std::fs::copy(&built, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}

/// The last executable that cargo's messages name.
fn executable(messages: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    parsed.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

/// What cargo's configuration sets for programs it runs, apart from what is already set: jobs are started without cargo.
fn cargo_environment(config: &str) -> Result<Vec<(String, String)>> {
    let table: toml::Table = config.parse().context("is not valid TOML")?;
    let entries = table.get("env").and_then(toml::Value::as_table).into_iter().flatten();
    let plain = entries.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())));
    Ok(plain.filter(|(name, _)| std::env::var_os(name).is_none()).collect())
}

/// Writes the three files.
fn write(mut results: Results, program: Option<&Path>, out: &Path) -> Result<()> {
    results.compare();
    let (data, text, figure) =
        (out.join("benchmarks.json"), out.join("benchmarks.md"), out.join("figures/benchmarks.svg"));
    let old = match std::fs::read_to_string(&text) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", text.display())),
    };
    std::fs::create_dir_all(out.join("figures")).with_context(|| format!("cannot write {}", out.display()))?;
    replace(&data, &(serde_json::to_string(&results)? + "\n"))?;
    replace(&text, &page::render(&results, &old))?;
    // Without the program nothing that the picture shows was measured.
    if let Some(program) = program.filter(|_| results.rows.iter().any(|row| row.ratio.is_some())) {
        process::run(Command::new(program).arg("figure").arg("--page").arg(&data).arg("--out").arg(&figure))?;
    }
    println!("{}", text.display());
    Ok(())
}

/// Replaces a file in one step.
fn replace(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension("partial");
    std::fs::write(&fresh, text).with_context(|| format!("cannot write {}", fresh.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: Bench,
    }

    fn parse(words: &[&str]) -> Result<Bench, clap::Error> {
        Cli::try_parse_from(std::iter::once("bench").chain(words.iter().copied())).map(|cli| cli.bench)
    }

    #[test]
    fn options_choose_jobs() {
        let names = |words: &[&str]| -> Vec<String> {
            let jobs = parse(words).unwrap().chosen();
            jobs.iter().map(|job| format!("{} {}", job.side.name(), job.name)).collect()
        };
        assert_eq!(names(&[]).len(), JOBS.len());
        let rollout = ["ours rollout", "peer rollout-rows-32", "peer rollout-rows-128"];
        assert_eq!(names(&["--workload", "rollout"]), rollout);
        let ours = ["ours rollout", "ours memory-8k", "ours memory-150k"];
        assert_eq!(names(&["--no-peer", "--workload", "memory", "--workload", "rollout"]), ours);
        let trainers = names(&["trainers"]);
        let methods = ["sft", "dpo", "reward", "grpo", "rloo"];
        let both = methods.iter().flat_map(|method| ["ours", "peer"].map(|side| format!("{side} trainer-{method}")));
        assert_eq!(trainers, both.collect::<Vec<_>>());
        assert_eq!(names(&["--workload", "trainers"]), trainers);
        assert_eq!(names(&["trainers", "rollout", "--no-peer"]).len(), 6);
        assert_eq!(names(&["data", "--rows", "10"]), ["ours data", "peer data", "peer data-streaming"]);
        assert!(parse(&["data", "--rows", "0"]).is_err());
        assert!(parse(&["trainer"]).is_err());
        assert!(parse(&["trainers", "--render-only"]).is_err());
        assert!(parse(&["--repeats", "0"]).is_err());
        assert!(parse(&["--render-only", "--workload", "decode"]).is_err());
    }

    #[test]
    fn the_page_shows_what_was_typed() {
        assert_eq!(parse(&["--python", "/somewhere/python"]).unwrap().typed(), "cargo xtask bench");
        let words = ["--workload", "data", "--repeats", "1", "--threads", "4", "--rows", "10", "--no-peer"];
        let typed = "cargo xtask bench data --repeats 1 --threads 4 --rows 10 --no-peer";
        assert_eq!(parse(&words).unwrap().typed(), typed);
    }

    #[test]
    fn the_program_is_the_one_cargo_names() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
            {\"reason\":\"compiler-artifact\",\"executable\":\"/t/release/measure\"}\n{\"reason\":\"build-finished\"}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/measure")));
        assert_eq!(executable("{\"executable\":null}"), None);
    }

    #[test]
    fn plain_variables_of_the_configuration_are_passed_on() {
        let config = "[env]\nREINS_TEST_A = \"7\"\nREINS_TEST_B = { value = \"x\", relative = true }\n";
        assert_eq!(cargo_environment(config).unwrap(), [("REINS_TEST_A".to_string(), "7".to_string())]);
        assert!(cargo_environment("[build]\n").unwrap().is_empty());
    }
}
