//! `cargo xtask bench envs`: resets and steps per second of the environments, beside the same tasks in plain Python.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::peer;
use crate::process;
use crate::workspace::Workspace;

/// What both sides print, a line per environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Speed {
    environment: String,
    resets_per_second: f64,
    steps_per_second: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cores: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resets_per_second_all_cores: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    steps_per_second_all_cores: Option<f64>,
}

/// Aims on one core: environment, resets and steps per second.
const AIMS: [(&str, f64, f64); 1] = [("general_points", 1e6, 1e6)];

/// Runs both sides and writes `environments.md` into `out`. `python` needs no packages; absent, python3 is taken.
pub fn run(workspace: &Workspace, out: &Path, python: Option<&Path>, with_peer: bool) -> Result<()> {
    let ours = workspace.cargo(["run", "--release", "-p", "rl-examples", "--example", "env_bench", "--", "--json"]);
    let ours = speeds(ours)?;
    let peers = if with_peer {
        let mut command = Command::new(python.unwrap_or(Path::new("python3")));
        command.arg("-B").arg(peer::scripts(workspace).join("envs.py"));
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
    let mut page = format!(
        "# Speed of the environments\n\nMade by `cargo xtask bench envs` on {}, {} cores. A reset makes the episode and its \
         prompt; a step reads the answer, grades it and writes the feedback. Half of the answers are right, half are those \
         of another episode. The peer is `xtask/peers/envs.py`, the same task in plain Python.\n\n\
         | environment | resets/s, one core | steps/s, one core | resets/s, all cores | steps/s, all cores | Python resets/s | \
         Python steps/s | times faster | aim |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        machine.cpu, machine.cores
    );
    for speed in ours {
        let shown = |number: Option<f64>| number.map_or("-".to_string(), |number| format!("{number:.0}"));
        let peer = peers.iter().find(|peer| peer.environment == speed.environment);
        let (resets, steps) = (speed.resets_per_second, speed.steps_per_second);
        let times = peer.map_or("-".to_string(), |peer| {
            format!("{:.0} and {:.0}", resets / peer.resets_per_second, steps / peer.steps_per_second)
        });
        let aim = AIMS
            .iter()
            .find(|aim| aim.0 == speed.environment)
            .map_or("-", |aim| if aim.1 <= resets && aim.2 <= steps { "reached" } else { "missed" });
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| {} | {resets:.0} | {steps:.0} | {} | {} | {} | {} | {times} | {aim} |",
            speed.environment,
            shown(speed.resets_per_second_all_cores),
            shown(speed.steps_per_second_all_cores),
            shown(peer.map(|peer| peer.resets_per_second)),
            shown(peer.map(|peer| peer.steps_per_second)),
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_held_against_its_peer() {
        let ours = r#"{"environment":"general_points","cores":2,"resets_per_second":2e6,"steps_per_second":9e5,
            "resets_per_second_all_cores":4e6,"steps_per_second_all_cores":2e6}"#;
        let peer = r#"{"environment": "general_points", "resets_per_second": 20000.0, "steps_per_second": 30000}"#;
        let read = |text: &str| vec![serde_json::from_str::<Speed>(text).unwrap()];
        let machine = Machine { cpu: "a processor".into(), features: Vec::new(), cores: 2, memory_bytes: 1 };
        let text = page(&machine, &read(ours), &read(peer));
        let row = "| general_points | 2000000 | 900000 | 4000000 | 2000000 | 20000 | 30000 | 100 and 30 | missed |";
        assert!(text.contains(row), "{text}");
        assert!(page(&machine, &read(ours), &[]).contains("| - | - | - | missed |"));
    }
}
