//! The first signal asks for a checkpoint and the end, the second ends at once.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rl_train::{Finish, Sft};

use crate::fixtures::*;
use crate::kill::{COMPLETE, INTERRUPTED, Process};
use crate::record::*;

fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

#[test]
fn a_signal_leaves_a_checkpoint_and_the_run_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let changes = ["training.max_steps=40", "training.checkpoints.every=20", "batch_size=8"];
    let config = |name: &str| sft_config(folder.path(), name, &data, &changes);
    assert_eq!(train::<Sft>(config("whole")), Finish::Complete { step: 40 });
    let run = folder.path().join("run");
    for (signal, after) in [("-TERM", 3), ("-INT", 12)] {
        let mut process = Process::start::<Sft>(&config("run"));
        assert!(process.wait_until(|run| after <= lines(run)));
        process.signal(signal);
        assert_eq!(process.wait(), INTERRUPTED);
        let rows = metrics(&run);
        let step = rows.last().unwrap()["step"].as_u64().unwrap();
        assert!(after as u64 <= step && step < 40);
        assert!(run.join(format!("checkpoints/step-{step:06}/state.json")).exists(), "no checkpoint of step {step}");
        assert_eq!(rows[..], metrics(&folder.path().join("whole"))[..rows.len()]);
    }
    assert_eq!(Process::start::<Sft>(&config("run")).wait(), COMPLETE);
    assert_same(&run, &folder.path().join("whole"));
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    // One step that takes minutes.
    let changes = ["batch_size=100000", "training.max_steps=1"];
    let mut process = Process::start::<Sft>(&sft_config(folder.path(), "run", &data, &changes));
    assert!(process.wait_until(|run| run.join("metrics.jsonl").exists()));
    process.signal("-TERM");
    std::thread::sleep(Duration::from_millis(300));
    assert!(process.wait_until(|_| true), "the first signal waits for the end of the step");
    process.signal("-TERM");
    let asked = Instant::now();
    assert_eq!(process.wait(), INTERRUPTED);
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!folder.path().join("run/checkpoints").exists());
}
