//! Which stages run, and running them in order. The programs themselves are behind a closure.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::file::{PipelineFile, Stage};
use super::fingerprint::{Fingerprint, Hashes};
use super::record::{self, Record, Records};

/// What the command line says about stages.
#[derive(Debug, Default)]
pub struct Options {
    pub force: Vec<String>,
    pub only: Option<String>,
}

impl Options {
    /// Checks that the stages named exist.
    pub fn new(file: &PipelineFile, force: &[String], only: Option<&str>) -> Result<Self> {
        let known = |name: &str| file.stages.iter().any(|stage| stage.name == name);
        let named = force.iter().map(String::as_str).filter(|&name| name != "all").chain(only);
        if let Some(name) = named.into_iter().find(|name| !known(name)) {
            bail!("there is no stage {name:?}; there are: {}", file.stage_names());
        }
        Ok(Self { force: force.to_vec(), only: only.map(String::from) })
    }

    fn forced(&self, stage: &str) -> bool {
        self.force.iter().any(|name| name == "all" || name == stage)
    }
}

/// Whether a stage runs, and why.
#[derive(Debug, PartialEq)]
pub enum Decision {
    Run(String),
    Skip { why: String, seconds: f64 },
}

impl Decision {
    pub fn runs(&self) -> bool {
        matches!(self, Self::Run(_))
    }

    pub fn word(&self) -> &'static str {
        if self.runs() { "run" } else { "skip" }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Run(why) | Self::Skip { why, .. } => why,
        }
    }
}

/// One line of the table at the end and of `stages.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub stage: String,
    /// ran, skipped, failed, stopped.
    pub status: &'static str,
    /// Of this call, or of the earlier one whose result was kept.
    pub seconds: f64,
}

/// How a stage's program ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Exit(i32),
    /// By a signal to us, which the program was told too.
    Interrupted,
}

/// A pipeline in its folder.
pub struct Runner<'a> {
    pub root: &'a Path,
    pub file: &'a PipelineFile,
    pub options: Options,
}

impl Runner<'_> {
    pub fn records(&self) -> Records {
        Records { dir: self.root.join(&self.file.run).join(".stages") }
    }

    fn hashes(&self) -> Hashes {
        Hashes::open(self.records().dir.join("hashes.json"))
    }

    /// What would happen now, stage by stage. Changes nothing.
    pub fn plan(&self) -> Result<Vec<(&Stage, Decision)>> {
        let mut hashes = self.hashes();
        let mut planned: Vec<(&Stage, Decision)> = Vec::new();
        for stage in &self.file.stages {
            let fingerprint = hashes.stage(self.root, stage)?;
            let maker = planned.iter().find(|(earlier, decision)| decision.runs() && feeds(earlier, stage));
            let maker = maker.map(|(earlier, _)| earlier.name.clone());
            let decision = match (self.decide(stage, &fingerprint), maker) {
                (Decision::Skip { .. }, Some(maker)) => {
                    Decision::Run(format!("`{maker}` runs; skipped if it makes the same"))
                }
                (decision, _) => decision,
            };
            planned.push((stage, decision));
        }
        Ok(planned)
    }

    fn decide(&self, stage: &Stage, fingerprint: &Fingerprint) -> Decision {
        if self.options.only.as_ref().is_some_and(|only| *only != stage.name) {
            return Decision::Skip { why: "another stage was asked for".into(), seconds: 0.0 };
        }
        if self.options.forced(&stage.name) {
            return Decision::Run("forced".into());
        }
        let fingerprint = match fingerprint {
            Fingerprint::Known(fingerprint) => fingerprint,
            Fingerprint::Missing(path) => return Decision::Run(format!("{path} is not there yet")),
        };
        let records = self.records();
        let Some(record) = records.finished(&stage.name) else {
            let began = records.started(&stage.name).is_some_and(|started| started == *fingerprint);
            return Decision::Run(if began { "began and did not end".into() } else { "never ran as it is now".into() });
        };
        if record.fingerprint != *fingerprint {
            return Decision::Run("its definition, config or inputs changed".into());
        }
        match stage.outputs.iter().find(|output| !self.root.join(output).exists()) {
            Some(output) => Decision::Run(format!("{output} is gone")),
            None => Decision::Skip { why: "finished, nothing changed".into(), seconds: record.seconds },
        }
    }

    /// Runs what must run. `program` runs one stage, `shown` gives its command, `again` is this pipeline's command.
    pub fn execute(
        &self,
        program: &mut dyn FnMut(&Stage) -> Result<End>,
        shown: &dyn Fn(&Stage) -> String,
        again: &str,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let outcome = self.execute_stages(program, shown, again, &mut rows);
        // The table is of use above all when a stage failed.
        let written = record::write(&self.root.join(&self.file.run).join("stages.json"), &rows);
        println!("\n  {:<16} {:<8} {:>9}", "stage", "", "seconds");
        for row in &rows {
            println!("  {:<16} {:<8} {:>9.1}", row.stage, row.status, row.seconds);
        }
        outcome.and(written)?;
        Ok(rows)
    }

    fn execute_stages(
        &self,
        program: &mut dyn FnMut(&Stage) -> Result<End>,
        shown: &dyn Fn(&Stage) -> String,
        again: &str,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let records = self.records();
        let mut hashes = self.hashes();
        let count = self.file.stages.len();
        for (number, stage) in self.file.stages.iter().enumerate() {
            let name = &stage.name;
            let fingerprint = hashes.stage(self.root, stage)?;
            hashes.save()?;
            let why = match self.decide(stage, &fingerprint) {
                Decision::Skip { seconds, .. } => {
                    rows.push(Row { stage: name.clone(), status: "skipped", seconds });
                    continue;
                }
                Decision::Run(why) => why,
            };
            let fingerprint = match fingerprint {
                Fingerprint::Known(fingerprint) => fingerprint,
                Fingerprint::Missing(path) => {
                    bail!("stage `{name}` needs {path}, which no earlier stage made; check the pipeline file")
                }
            };
            println!("\n[{}/{count}] {name}: {} ({why})\n$ {}", number + 1, stage.about, shown(stage));
            self.clear_stale(stage, &records, &fingerprint)?;
            records.start(name, &fingerprint)?;
            let start = Instant::now();
            let end = program(stage);
            let seconds = start.elapsed().as_secs_f64();
            let mut row = Row { stage: name.clone(), status: "failed", seconds };
            let exit_code = match end {
                Ok(End::Exit(0)) => 0,
                failed => {
                    if matches!(failed, Ok(End::Interrupted)) {
                        row.status = "stopped";
                    }
                    rows.push(row);
                    let how = match failed? {
                        End::Exit(code) => format!("failed with exit code {code}"),
                        End::Interrupted => bail!("interrupted in stage `{name}`; the same command goes on from there"),
                    };
                    bail!(
                        "stage `{name}` {how}. To run it alone, in {}:\n  {}\nor\n  {again} --only {name}",
                        self.root.display(),
                        shown(stage)
                    );
                }
            };
            if let Some(output) = stage.outputs.iter().find(|output| !self.root.join(output).exists()) {
                rows.push(row);
                bail!("stage `{name}` ended well but did not make {output}, which its outputs name");
            }
            // An input that was changed while the program read it must not count as the one that was read.
            let record = Record { fingerprint, outputs: stage.outputs.clone(), seconds, exit_code };
            records.finish(name, &record)?;
            row.status = "ran";
            rows.push(row);
        }
        Ok(())
    }

    /// Removes what an earlier, different version of the stage made, so that its program does not go on from there.
    /// What the same version left unfinished stays: the program resumes.
    fn clear_stale(&self, stage: &Stage, records: &Records, fingerprint: &str) -> Result<()> {
        let forced = self.options.forced(&stage.name);
        let other = records.started(&stage.name).is_some_and(|started| started != fingerprint);
        if !forced && !other {
            return Ok(());
        }
        let run = PathBuf::from(&self.file.run);
        for output in
            stage.outputs.iter().filter(|output| Path::new(output).starts_with(&run) && !output.contains(".."))
        {
            let path = self.root.join(output);
            let removed = if path.is_dir() && !path.is_symlink() {
                std::fs::remove_dir_all(&path)
            } else if path.exists() {
                std::fs::remove_file(&path)
            } else {
                continue;
            };
            removed.with_context(|| format!("cannot remove {}", path.display()))?;
            println!("removed {output}, made by another version of this stage");
        }
        Ok(())
    }
}

/// An output of `earlier` is an input of `later`, or holds one, or lies in one.
fn feeds(earlier: &Stage, later: &Stage) -> bool {
    let reads = later.inputs.iter().chain(&later.config).map(Path::new);
    reads.into_iter().any(|input| {
        earlier.outputs.iter().map(Path::new).any(|output| input.starts_with(output) || output.starts_with(input))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        name = "p"
        title = "t"
        run = "runs/p"
        [[stage]]
        name = "a"
        example = "one"
        config = "a.toml"
        outputs = ["${run}/a"]
        [[stage]]
        name = "b"
        example = "two"
        inputs = ["${run}/a"]
        outputs = ["${run}/b/out", "${run}/b2"]
        [[stage]]
        name = "c"
        example = "three"
        outputs = ["${run}/c"]
    "#;

    struct World {
        dir: tempfile::TempDir,
        file: PipelineFile,
    }

    impl World {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("a.toml"), "x = 1").unwrap();
            Self { dir, file: PipelineFile::parse(FILE, &[]).unwrap() }
        }

        fn runner(&self, force: &[&str], only: Option<&str>) -> Runner<'_> {
            let force: Vec<String> = force.iter().map(|name| name.to_string()).collect();
            let options = Options::new(&self.file, &force, only).unwrap();
            Runner { root: self.dir.path(), file: &self.file, options }
        }

        /// Runs with programs that write the config's text as their outputs; returns who ran.
        fn go(&self, force: &[&str], only: Option<&str>, fail: Option<(&str, End)>) -> (Vec<String>, Result<Vec<Row>>) {
            let mut ran = Vec::new();
            let mut program = |stage: &Stage| {
                ran.push(stage.name.clone());
                if let Some((_, end)) = fail.filter(|(name, _)| *name == stage.name) {
                    return Ok(end);
                }
                for output in &stage.outputs {
                    let path = self.dir.path().join(output);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    let text = std::fs::read(self.dir.path().join("a.toml")).unwrap();
                    std::fs::write(path, &text[..1]).unwrap();
                }
                Ok(End::Exit(0))
            };
            let runner = self.runner(force, only);
            let rows =
                runner.execute(&mut program, &|stage| format!("program {}", stage.name), "cargo xtask pipeline p");
            (ran, rows)
        }

        fn words(&self, force: &[&str]) -> Vec<String> {
            let runner = self.runner(force, None);
            let plan = runner.plan().unwrap();
            plan.iter().map(|(stage, decision)| format!("{} {}", stage.name, decision.word())).collect()
        }
    }

    #[test]
    fn a_second_call_runs_nothing_and_a_change_only_what_it_reaches() {
        let world = World::new();
        assert_eq!(world.words(&[]), ["a run", "b run", "c run"]);
        assert!(!world.dir.path().join("runs").exists(), "a plan changes nothing");
        let (ran, rows) = world.go(&[], None, None);
        assert_eq!(ran, ["a", "b", "c"]);
        assert!(rows.unwrap().iter().all(|row| row.status == "ran"));
        assert_eq!(world.words(&[]), ["a skip", "b skip", "c skip"]);
        let (ran, rows) = world.go(&[], None, None);
        assert!(ran.is_empty());
        assert!(rows.unwrap().iter().all(|row| row.status == "skipped"));
        let table = std::fs::read_to_string(world.dir.path().join("runs/p/stages.json")).unwrap();
        assert_eq!(table.matches("skipped").count(), 3);

        // The programs write only the first letter, so this changes the config of `a` and not what it makes.
        std::fs::write(world.dir.path().join("a.toml"), "x = 2").unwrap();
        assert_eq!(world.words(&[]), ["a run", "b run", "c skip"]);
        assert_eq!(world.go(&[], None, None).0, ["a"]);
        std::fs::write(world.dir.path().join("a.toml"), "y = 2").unwrap();
        assert_eq!(world.go(&[], None, None).0, ["a", "b"]);
        std::fs::remove_file(world.dir.path().join("runs/p/b2")).unwrap();
        assert_eq!(world.go(&[], None, None).0, ["b"]);
        assert_eq!(world.go(&["c"], None, None).0, ["c"]);
        assert_eq!(world.go(&["all"], None, None).0, ["a", "b", "c"]);
        assert_eq!(world.go(&["all"], Some("b"), None).0, ["b"]);
    }

    #[test]
    fn a_failed_stage_stops_the_rest_and_says_how_to_rerun_it() {
        let world = World::new();
        let (ran, rows) = world.go(&[], None, Some(("b", End::Exit(3))));
        assert_eq!(ran, ["a", "b"]);
        let message = rows.unwrap_err().to_string();
        for part in ["stage `b` failed with exit code 3", "program b", "cargo xtask pipeline p --only b"] {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
        let reason = world.runner(&[], None).plan().unwrap()[1].1.reason().to_string();
        assert_eq!(reason, "began and did not end");
        let (ran, rows) = world.go(&[], None, Some(("c", End::Interrupted)));
        assert_eq!(ran, ["b", "c"]);
        assert!(rows.unwrap_err().to_string().contains("interrupted in stage `c`"));
        assert_eq!(world.go(&[], None, None).0, ["c"]);
    }

    #[test]
    fn unfinished_work_stays_for_the_same_stage_and_goes_for_a_changed_one() {
        let world = World::new();
        let left = world.dir.path().join("runs/p/a");
        let leave = |end: End| {
            let mut program = |_: &Stage| {
                let found = left.exists();
                std::fs::create_dir_all(&left).unwrap();
                Ok(if found { End::Exit(if end == End::Exit(0) { 0 } else { 9 }) } else { end })
            };
            world.runner(&[], Some("a")).execute(&mut program, &|_| String::new(), "").map(|_| ())
        };
        assert!(leave(End::Exit(1)).unwrap_err().to_string().contains("exit code 1"));
        assert!(leave(End::Exit(1)).unwrap_err().to_string().contains("exit code 9"), "the folder stayed");
        std::fs::write(world.dir.path().join("a.toml"), "x = 2").unwrap();
        assert!(leave(End::Exit(1)).unwrap_err().to_string().contains("exit code 1"), "the folder went");
    }

    #[test]
    fn missing_inputs_and_outputs_are_named() {
        let world = World::new();
        let (ran, rows) = world.go(&[], Some("b"), None);
        assert!(ran.is_empty());
        assert!(rows.unwrap_err().to_string().contains("`b` needs runs/p/a"));
        let nothing = world.runner(&[], Some("c")).execute(&mut |_| Ok(End::Exit(0)), &|_| String::new(), "");
        assert!(nothing.unwrap_err().to_string().contains("did not make runs/p/c"));
        assert!(Options::new(&world.file, &["d".into()], None).unwrap_err().to_string().contains("there are: a, b, c"));
    }
}
