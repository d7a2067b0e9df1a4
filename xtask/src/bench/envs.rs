//! `cargo xtask bench envs`: resets, examples and steps per second of the environments, beside the same tasks in plain
//! Python.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::machine::Machine;
use super::peer;
use crate::process;
use crate::workspace::Workspace;

/// What both sides print, a line per environment.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Speed {
    environment: String,
    cores: usize,
    one_core: Rates,
    all_cores: Rates,
}

/// What is done in a second.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    #[serde(rename = "resets_per_second")]
    resets: f64,
    #[serde(rename = "examples_per_second")]
    examples: f64,
    #[serde(rename = "steps_per_second")]
    steps: f64,
}

/// What an environment should reach on one core; 0 where nothing is asked.
const AIMS: [(&str, Rates); 3] = [
    ("general_points", Rates { resets: 1e6, examples: 0.0, steps: 1e6 }),
    ("virl", Rates { resets: 0.0, examples: 0.0, steps: 5e5 }),
    ("igsm", Rates { resets: 0.0, examples: 5e4, steps: 0.0 }),
];

const EXPLANATION: &str = "A reset makes an episode with its prompt. An example is a reset and the expert's answer to that \
prompt (for word problems: the whole solution). A step reads an answer, grades it and writes the next turn; resets between \
steps are not counted. At every point of an episode what is right in another episode comes first, and then, unless that was \
right, what is right there. On all cores each core plays for itself. The peers are `xtask/peers/envs*.py`, the same tasks in \
plain Python.";

/// Runs both sides, `seconds` for each number, and writes `environments.md` into `out`. `python` needs no packages; absent,
/// python3 is taken.
pub fn run(workspace: &Workspace, out: &Path, python: Option<&Path>, with_peer: bool, seconds: f64) -> Result<()> {
    ensure!(0.0 < seconds && seconds <= 600.0, "--seconds {seconds} must be above 0 and at most 600");
    let seconds = ["--seconds".to_string(), seconds.to_string()];
    let mut program =
        workspace.cargo(["run", "--release", "-p", "rl-examples", "--example", "env_bench", "--", "--json"]);
    program.args(&seconds);
    let ours = speeds(program)?;
    let peers = if with_peer {
        let mut command = Command::new(python.unwrap_or(Path::new("python3")));
        command.arg("-B").arg(peer::scripts(workspace).join("envs.py")).args(&seconds);
        speeds(command)?
    } else {
        Vec::new()
    };
    std::fs::create_dir_all(out).with_context(|| format!("cannot write {}", out.display()))?;
    let path = out.join("environments.md");
    super::replace(&path, &page(&Machine::this()?, &ours, &peers))?;
    println!("{}", path.display());
    Ok(())
}

/// What a program prints, read.
fn speeds(mut command: Command) -> Result<Vec<Speed>> {
    eprintln!("$ {}", process::shown(&command));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start `{}`", process::shown(&command)))?;
    ensure!(output.status.success(), "{} of `{}`", output.status, process::shown(&command));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not a result: {line}"))).collect()
}

fn page(machine: &Machine, ours: &[Speed], peers: &[Speed]) -> String {
    let mut lines = vec![
        "# Speed of the environments\n".to_string(),
        format!("Made by `cargo xtask bench envs` on {}, {} cores. {EXPLANATION}\n", machine.cpu, machine.cores),
        "| environment | cores | resets/s | examples/s | steps/s | aim on one core |".into(),
        "| --- | --: | --: | --: | --: | --- |".into(),
    ];
    let numbers = |Rates { resets, examples, steps }: Rates| format!("{resets:.0} | {examples:.0} | {steps:.0}");
    for Speed { environment, cores, one_core, all_cores } in ours {
        let aim = judged(environment, *one_core);
        lines.push(format!("| {environment} | 1 | {} | {aim} |", numbers(*one_core)));
        lines.push(format!("| {environment} | {cores} | {} | |", numbers(*all_cores)));
    }
    if !peers.is_empty() {
        lines.extend([
            "\n## Beside plain Python\n\nTimes faster is ours divided by Python's.\n".into(),
            "| environment | cores | Python resets/s | Python examples/s | Python steps/s | times faster |".into(),
            "| --- | --: | --: | --: | --: | --- |".into(),
        ]);
    }
    for peer in peers {
        let Some(own) = ours.iter().find(|own| own.environment == peer.environment) else { continue };
        for (cores, own, theirs) in [(1, own.one_core, peer.one_core), (peer.cores, own.all_cores, peer.all_cores)] {
            let times = [own.resets / theirs.resets, own.examples / theirs.examples, own.steps / theirs.steps];
            let [resets, examples, steps] = times.map(|times| format!("{times:.0}"));
            let times = format!("{resets}, {examples} and {steps}");
            lines.push(format!("| {} | {cores} | {} | {times} |", peer.environment, numbers(theirs)));
        }
    }
    lines.join("\n") + "\n"
}

/// What is asked of an environment, and whether it does it.
fn judged(environment: &str, found: Rates) -> String {
    let Some((_, aim)) = AIMS.iter().find(|(name, _)| *name == environment) else { return "-".into() };
    let all = [
        ("resets", aim.resets, found.resets),
        ("examples", aim.examples, found.examples),
        ("steps", aim.steps, found.steps),
    ];
    let judged = all
        .into_iter()
        .filter(|&(_, aim, _)| 0.0 < aim)
        .map(|(what, aim, found)| format!("{aim:.0} {what}/s {}", if aim <= found { "reached" } else { "missed" }));
    judged.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_held_against_its_peer() {
        let rates = |resets: f64, examples: f64, steps: f64| {
            format!(r#"{{"resets_per_second":{resets},"examples_per_second":{examples},"steps_per_second":{steps}}}"#)
        };
        let read = |one: String, all: String| {
            let text = format!(r#"{{"environment":"general_points","cores":2,"one_core":{one},"all_cores":{all}}}"#);
            vec![serde_json::from_str::<Speed>(&text).unwrap()]
        };
        let ours = read(rates(2e6, 1e5, 9e5), rates(4e6, 2e5, 2e6));
        let peers = read(rates(20_000.0, 10_000.0, 30_000.0), rates(40_000.0, 20_000.0, 50_000.0));
        let machine = Machine { cpu: "a processor".into(), features: Vec::new(), cores: 2, memory_bytes: 1 };
        let text = page(&machine, &ours, &peers);
        for row in [
            "| general_points | 1 | 2000000 | 100000 | 900000 | 1000000 resets/s reached, 1000000 steps/s missed |",
            "| general_points | 2 | 4000000 | 200000 | 2000000 | |",
            "| general_points | 1 | 20000 | 10000 | 30000 | 100, 10 and 30 |",
            "| general_points | 2 | 40000 | 20000 | 50000 | 100, 10 and 40 |",
        ] {
            assert!(text.lines().any(|line| line == row), "{row}\n{text}");
        }
        assert!(!page(&machine, &ours, &[]).contains("Python resets"));
        let unknown = r#"{"environment":"a","cores":1,"resets_per_second":1}"#;
        assert!(serde_json::from_str::<Speed>(unknown).is_err());
    }

    #[test]
    fn aims_are_of_environments_that_are_measured() {
        let peers = include_str!("../../peers/envs.py");
        assert!(AIMS.iter().all(|(name, _)| peers.contains(&format!("\"{name}\": "))));
    }
}
