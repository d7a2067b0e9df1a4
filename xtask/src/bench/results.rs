//! The results file: every number of every repeat, and the comparisons made from their medians.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::jobs::{Better, COMPARISONS, Comparison, DATA_COMPARISONS, Side, TRAINER_COMPARISONS};
use super::machine::Machine;

/// One line that a measuring program printed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Numbers by name.
    pub values: BTreeMap<String, f64>,
    /// Greedy answers.
    #[serde(default)]
    pub tokens: Vec<Vec<i64>>,
    /// Loss of each step.
    #[serde(default)]
    pub losses: Vec<f64>,
    /// Packages and their versions.
    pub versions: BTreeMap<String, String>,
}

impl Measured {
    /// The last line of what a measuring program wrote: libraries may write lines of their own before it.
    pub fn from_output(output: &str) -> Result<Self> {
        let line = output.trim_end().lines().last().unwrap_or_default();
        let measured: Self =
            serde_json::from_str(line).with_context(|| format!("the last line is not a result: {line:?}"))?;
        for (name, value) in &measured.values {
            anyhow::ensure!(value.is_finite(), "{name} is {value}");
        }
        Ok(measured)
    }
}

/// What `docs/benchmarks.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    pub machine: Machine,
    /// Threads of one tensor operation, on both sides.
    pub threads: usize,
    /// Packages of both sides.
    pub versions: BTreeMap<String, String>,
    /// Every job that was run.
    pub jobs: Vec<JobResult>,
    /// Made from `jobs`; here for whoever reads only this file.
    pub rows: Vec<Row>,
    /// The same of the trainers.
    #[serde(default)]
    pub trainer_rows: Vec<Row>,
    /// The same of data.
    #[serde(default)]
    pub data_rows: Vec<Row>,
}

/// All repeats of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobResult {
    pub side: String,
    pub name: String,
    /// What was typed.
    pub command: String,
    /// Each number of each repeat, in the order they ran.
    pub values: BTreeMap<String, Vec<f64>>,
    /// Greedy answers of the last repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Vec<i64>>,
    /// Losses of the last repeat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<f64>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub label: String,
    pub metric: String,
    pub ours: Spread,
    /// The peer's best job and its numbers; absent where none was run.
    pub peer: Option<(String, Spread)>,
    /// How many times better ours is, by medians.
    pub ratio: Option<f64>,
    pub aim: f64,
}

/// Median and range over the repeats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

impl Spread {
    /// `None` without values. Of an even number of values the median is the mean of the middle two.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, lowest, highest })
    }
}

impl Results {
    pub fn new(machine: Machine, threads: usize) -> Self {
        Self {
            machine,
            threads,
            versions: BTreeMap::new(),
            jobs: Vec::new(),
            rows: Vec::new(),
            trainer_rows: Vec::new(),
            data_rows: Vec::new(),
        }
    }

    /// Reads a results file; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let results = serde_json::from_str(&text);
        let mend = || format!("{} is not what this version of bench writes; remove it", path.display());
        Ok(Some(results.with_context(mend)?))
    }

    /// Adds one repeat of a job.
    pub fn add(&mut self, side: Side, name: &str, command: &str, measured: Measured) {
        let same = |job: &JobResult| job.side == side.name() && job.name == name;
        let at = self.jobs.iter().position(same).unwrap_or_else(|| {
            let (side, name, command) = (side.name().to_string(), name.to_string(), command.to_string());
            let (values, tokens, losses) = (BTreeMap::new(), Vec::new(), Vec::new());
            self.jobs.push(JobResult { side, name, command, values, tokens, losses });
            self.jobs.len() - 1
        });
        let job = &mut self.jobs[at];
        for (name, value) in measured.values {
            job.values.entry(name).or_default().push(value);
        }
        (job.tokens, job.losses) = (measured.tokens, measured.losses);
        self.versions.extend(measured.versions);
    }

    /// Takes over from `older` the jobs that were not run again; jobs of another machine, thread count or version are
    /// not comparable and are left behind, which is said in the number returned.
    pub fn keep_from(&mut self, older: Results) -> usize {
        let new: Vec<JobResult> = std::mem::take(&mut self.jobs);
        let rerun = |job: &JobResult| new.iter().any(|new| new.side == job.side && new.name == job.name);
        let kept: Vec<JobResult> = older.jobs.into_iter().filter(|job| !rerun(job)).collect();
        let same_version =
            |(name, version): (&String, &String)| self.versions.get(name).is_none_or(|mine: &String| mine == version);
        let comparable = older.machine.is_like(&self.machine)
            && older.threads == self.threads
            && older.versions.iter().all(same_version);
        let left_behind = if comparable { 0 } else { kept.len() };
        if comparable {
            self.jobs = kept;
            for (name, version) in older.versions {
                self.versions.entry(name).or_insert(version);
            }
        }
        self.jobs.extend(new);
        left_behind
    }

    /// Makes `rows`, `trainer_rows` and `data_rows` from `jobs`.
    pub fn compare(&mut self) {
        self.rows = COMPARISONS.iter().filter_map(|comparison| self.row(comparison)).collect();
        self.trainer_rows = TRAINER_COMPARISONS.iter().filter_map(|comparison| self.row(comparison)).collect();
        self.data_rows = DATA_COMPARISONS.iter().filter_map(|comparison| self.row(comparison)).collect();
    }

    /// Median and range of a metric of a job that was run.
    pub fn spread(&self, side: Side, name: &str, metric: &str) -> Option<Spread> {
        Spread::of(self.job(side, name)?.values.get(metric)?)
    }

    /// A job that was run.
    pub fn job(&self, side: Side, name: &str) -> Option<&JobResult> {
        self.jobs.iter().find(|job| job.side == side.name() && job.name == name)
    }

    fn row(&self, comparison: &Comparison) -> Option<Row> {
        let ours = self.spread(Side::Ours, comparison.ours, comparison.metric)?;
        let times_better = |peer: &Spread| match comparison.better {
            Better::Higher => ours.median / peer.median,
            Better::Lower => peer.median / ours.median,
        };
        let peers = comparison.peers.iter();
        let measured =
            peers.filter_map(|name| Some((name.to_string(), self.spread(Side::Peer, name, comparison.metric)?)));
        // The peer's best is what leaves us the smallest advantage.
        let peer = measured.min_by(|(_, a), (_, b)| times_better(a).total_cmp(&times_better(b)));
        let ratio = peer.as_ref().map(|(_, spread)| times_better(spread));
        Some(Row {
            label: comparison.label.into(),
            metric: comparison.metric.into(),
            ours,
            peer,
            ratio,
            aim: comparison.aim,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize) -> Machine {
        Machine { cpu: "A".into(), cores, features: vec!["avx2".into()], memory_bytes: 8_000_000_000 }
    }

    fn measured(metric: &str, value: f64) -> Measured {
        let line = format!(r#"{{"values": {{"{metric}": {value}}}, "versions": {{"torch": "2.11.0"}}}}"#);
        Measured::from_output(&line).unwrap()
    }

    #[test]
    fn a_result_is_the_last_line() {
        let output = "{'loss': 3.5}\n{\"values\": {\"seconds\": 1.5}, \"tokens\": [[1, 2]], \"versions\": {}}\n\n";
        let measured = Measured::from_output(output).unwrap();
        assert_eq!(measured.values["seconds"], 1.5);
        assert_eq!(measured.tokens, [[1, 2]]);
        for bad in ["", "{}", "no result", r#"{"values": {}, "versions": {}, "token": []}"#] {
            assert!(Measured::from_output(bad).unwrap_err().to_string().contains("not a result"), "{bad}");
        }
    }

    #[test]
    fn medians_and_ranges() {
        let spread = |values: &[f64]| Spread::of(values).map(|s| (s.median, s.lowest, s.highest));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some((3.0, 1.0, 9.0)));
        assert_eq!(spread(&[5.0]), Some((5.0, 5.0, 5.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn the_best_peer_counts() {
        let mut results = Results::new(machine(2), 2);
        for (side, name, metric, value) in [
            (Side::Ours, "rollout", "useful_tokens_per_second", 300.0),
            (Side::Ours, "rollout", "useful_tokens_per_second", 330.0),
            (Side::Peer, "rollout-rows-32", "useful_tokens_per_second", 70.0),
            (Side::Peer, "rollout-rows-128", "useful_tokens_per_second", 105.0),
            (Side::Ours, "train-micro-512", "peak_bytes", 4e9),
            (Side::Peer, "train-trl", "peak_bytes", 14e9),
            (Side::Ours, "start-dpo", "start_seconds", 0.5),
            (Side::Peer, "start-dpo", "start_seconds", 9.0),
        ] {
            results.add(side, name, "command", measured(metric, value));
        }
        results.compare();
        let [rollout, memory] = results.rows.as_slice() else { panic!("{:?}", results.rows) };
        assert_eq!(rollout.peer.as_ref().unwrap().0, "rollout-rows-128");
        assert_eq!(rollout.ratio, Some(3.0)); // 315 over 105
        assert_eq!(memory.ratio, Some(3.5)); // 14 over 4: less is better
        let [start] = results.trainer_rows.as_slice() else { panic!("{:?}", results.trainer_rows) };
        assert_eq!((start.label.as_str(), start.ratio, start.aim), ("DPO, start", Some(18.0), 5.0));
    }

    #[test]
    fn a_part_run_keeps_what_is_comparable() {
        let older = |cores| {
            let mut results = Results::new(machine(cores), 2);
            results.add(Side::Ours, "decode-1", "old", measured("seconds", 1.0));
            results.add(Side::Ours, "rollout", "old", measured("seconds", 2.0));
            results
        };
        let newer = || {
            let mut results = Results::new(machine(2), 2);
            results.add(Side::Ours, "rollout", "new", measured("seconds", 3.0));
            results
        };
        let mut same = newer();
        assert_eq!(same.keep_from(older(2)), 0);
        let names: Vec<_> = same.jobs.iter().map(|job| (job.name.as_str(), job.command.as_str())).collect();
        assert_eq!(names, [("decode-1", "old"), ("rollout", "new")]);

        let mut other_machine = newer();
        assert_eq!(other_machine.keep_from(older(64)), 1);
        assert_eq!(other_machine.jobs.len(), 1);

        let mut other_version = newer();
        other_version.versions.insert("torch".into(), "9".into());
        assert_eq!(other_version.keep_from(older(2)), 1);
    }
}
