//! The screen of a run: what it says, and that it keeps to its size whatever the record holds.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rl_track::view::{Look, Record, frame};
use rl_track::{Manifest, MetricsRow, Run};
use serde::Serialize;
use serde_json::json;

#[derive(Serialize)]
struct Config {
    run: String,
    seed: u64,
    max_steps: u64,
    learning_rate: f64,
}

fn write_run(folder: &Path, steps: u64, learning_rate: f64) -> Run {
    let config = Config { run: folder.display().to_string(), seed: 7, max_steps: 40, learning_rate };
    let run = Run::open(folder, &config, Manifest::new().seed("seed", 7).input("data", "aa")).unwrap();
    let (mut metrics, mut samples) = (run.metrics().unwrap(), run.samples(1, 1).unwrap());
    for step in 1..=steps {
        let x = step as f64;
        let row = MetricsRow::new(step, "train")
            .with("policy_loss", (x * 0.3).sin())
            .with("learning_rate", learning_rate)
            .with("reward_mean", -4.0 + 0.1 * x)
            .with("entropy", 2.0 - 0.02 * x)
            .with("ref_kl", 0.001 * x)
            .with("response_tokens_per_turn", 50.0 + x)
            .with("grad_norm", 1.0)
            .with_timing("seconds", 2.0)
            .with_timing("response_tokens_per_second", 100.0 + x)
            .with_timing("peak_bytes", 3.0 * 1024_f64.powi(3));
        metrics.write(&row).unwrap();
        if step % 10 == 0 {
            metrics.write(&MetricsRow::new(step, "ood").with("policy_loss", 0.125)).unwrap();
            let messages = json!([
                {"role": "user", "content": "Make 24 from 1 2 3 4.\nThe question ends here."},
                {"role": "assistant", "content": format!("The answer of step {step}\nis 1*2*3*4 \u{1b}[31m漢字")},
            ]);
            samples.write(step, &json!({"hand": 3, "messages": messages, "reward": -1.5})).unwrap();
        }
    }
    run
}

fn record(folder: &Path) -> Record {
    let mut record = Record::new(folder);
    record.refresh(SystemTime::now() + Duration::from_secs(90));
    record
}

/// Columns in a terminal; the only wide letters of these tests are the two above.
fn columns(line: &str) -> usize {
    line.chars().map(|letter| if matches!(letter, '漢' | '字') { 2 } else { 1 }).sum()
}

#[test]
fn eighty_columns_and_twenty_four_lines_show_what_matters() {
    let folder = tempfile::tempdir().unwrap();
    let run = write_run(&folder.path().join("demo"), 30, 1e-5);
    let folder = run.folder().to_path_buf();
    let running = frame(&[record(&folder)], &Look::default());
    assert!(running.starts_with("demo  running · step 30/40 (75 %) · 2 s/step · eta 0:20"), "{running}");
    drop(run);
    let text = frame(&[record(&folder)], &Look::default());
    println!("{text}");
    for expected in [
        "demo  not running here, last line 1:30 ago · step 30/40 (75 %) · 2 s/step\n",
        "seed 7 · started ",
        "reward_mean -1  [-3.9, -1]",
        "policy_loss 0.412 ood 0.125  [-0.996,",
        "ref_kl 0.03",
        "entropy 1.4",
        "response_tokens_per_turn 80",
        "response_tokens_per_second 130",
        "peak_bytes 3 GiB",
        "sample 3 of 3, step 30 · hand 3 · reward -1.5",
        "The question ends here.",
        "assistant: The answer of step 30",
        "q quit",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(text.lines().count(), 24);
    assert!(text.chars().any(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter)), "no curve");
    assert!(!text.contains('\u{1b}'), "an escape code of the sample came through");
}

#[test]
fn every_size_is_kept_to() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one", "two"].map(|name| folder.path().join(name));
    names.iter().for_each(|path| drop(write_run(path, 30, 1e-5)));
    for count in [0, 1, 2] {
        let records: Vec<Record> = names[..count].iter().map(|path| record(path)).collect();
        for width in [1, 2, 10, 35, 36, 79, 80, 81, 120, 250] {
            for height in [1, 2, 5, 9, 24, 60] {
                for is_ascii in [false, true] {
                    let look = Look { width, height, is_ascii, ..Look::default() };
                    let text = frame(&records, &look);
                    assert!(text.lines().count() <= height, "{look:?}\n{text}");
                    for line in text.lines() {
                        assert!(columns(line) <= width, "{look:?} {}\n{line}", columns(line));
                    }
                    assert!(!is_ascii || text.is_ascii(), "{text}");
                }
            }
        }
    }
}

#[test]
fn keys_move_over_panels_and_samples() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    drop(write_run(&path, 30, 1e-5));
    let records = [record(&path)];
    let look = |skipped_rows, sample_back| Look { height: 16, skipped_rows, sample_back, ..Look::default() };
    let (first, second) = (frame(&records, &look(0, 0)), frame(&records, &look(1, 1)));
    assert!(
        first.contains("reward_mean") && first.contains("step 30 ·") && first.contains("curves not shown"),
        "{first}"
    );
    assert!(!second.contains("reward_mean") && second.contains("sample 2 of 3, step 20"), "{second}");
    // further than there is shows the last ones
    let last = frame(&records, &look(100, 100));
    assert!(last.contains("grad_norm") && last.contains("sample 1 of 3, step 10"), "{last}");
    assert_eq!(last, frame(&records, &look(101, 101)));
    let colored = frame(&records, &Look { has_colors: true, ..look(0, 0) });
    assert!(colored.contains("\u{1b}[1mreward_mean"), "{colored}");
}

#[test]
fn two_runs_stand_on_common_axes_with_their_differences() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["left", "right"].map(|name| folder.path().join(name));
    drop(write_run(&names[0], 30, 1e-5));
    drop(write_run(&names[1], 20, 2e-5));
    let records: Vec<Record> = names.iter().map(|path| record(path)).collect();
    let text = frame(&records, &Look { height: 40, width: 120, ..Look::default() });
    println!("{text}");
    assert!(text.contains("left  not running here") && text.contains("right  not running here"), "{text}");
    assert!(text.contains("config learning_rate: 0.00001 | 0.00002"), "{text}");
    assert!(text.contains("reward_mean -1 · -2  [-3.9, -1]"), "{text}");
}

#[test]
fn what_is_missing_is_said() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("run");
    let said = |folder: &Path| frame(&[record(folder)], &Look { width: 200, ..Look::default() });
    assert!(said(&folder).contains("run  not begun\nwaiting for the folder"), "{}", said(&folder));
    fs::create_dir(&folder).unwrap();
    assert!(said(&folder).contains("waiting for manifest.json (the run has not begun)"), "{}", said(&folder));
    let run = write_run(&folder, 0, 1e-5);
    assert!(said(&folder).contains("waiting for the first line of metrics.jsonl"), "{}", said(&folder));
    drop(run);
    fs::remove_file(folder.join("metrics.jsonl")).unwrap();
    assert!(said(&folder).contains("waiting for metrics.jsonl (no step yet)"), "{}", said(&folder));
    fs::write(folder.join("manifest.json"), "{").unwrap();
    assert!(said(&folder).contains("manifest.json:1: EOF"), "{}", said(&folder));
}

#[test]
fn a_live_record_is_followed_over_torn_lines_damage_and_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = write_run(&path, 10, 1e-5);
    let mut record = record(&path);
    let shown = |record: &mut Record| {
        record.refresh(SystemTime::now());
        frame(std::slice::from_ref(record), &Look { width: 120, ..Look::default() })
    };
    assert!(shown(&mut record).contains("step 10/40"));
    let mut file = OpenOptions::new().append(true).open(path.join("metrics.jsonl")).unwrap();
    file.write_all(b"{\"step\":11,\"split\":\"train\",\"reward_mean\":").unwrap();
    assert!(shown(&mut record).contains("step 10/40"));
    file.write_all(b"9.5}\nnot a line\n{\"step\":12,\"split\":\"train\",\"reward_mean\":null}\n").unwrap();
    let text = shown(&mut record);
    assert!(text.contains("step 11/40") && text.contains("reward_mean 9.5"), "{text}");
    assert!(text.contains("2 damaged lines of metrics.jsonl left out"), "{text}");
    fs::write(path.join("metrics.jsonl"), "").unwrap();
    run.metrics().unwrap().write(&MetricsRow::new(1, "train").with("reward_mean", 0.0)).unwrap();
    let text = shown(&mut record);
    assert!(text.contains("step 1/40") && !text.contains("damaged"), "{text}");
}

#[test]
fn a_run_that_did_all_its_steps_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    drop(write_run(&folder.path().join("run"), 40, 1e-5));
    let text = frame(&[record(&folder.path().join("run"))], &Look::default());
    assert!(text.starts_with("run  finished · step 40/40 (100 %) · 2 s/step\n"), "{text}");
}
