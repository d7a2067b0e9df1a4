//! Curves of run folders: pictures, tables, and what several runs differ in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rl_track::curves::{Curves, PlotOptions, XAxis, plot, read_runs};
use rl_track::hash::sha256_folder;
use rl_track::tensorboard::EventWriter;
use rl_track::{Error, Manifest, MetricsRow, Run};
use serde::Serialize;

const START: f64 = 1_700_000_000.0;

#[derive(Serialize)]
struct Config {
    batch_size: u64,
    learning_rate: f64,
}

fn options() -> PlotOptions {
    PlotOptions { tags: Vec::new(), smooth: 0.9, x: XAxis::Step, log_y: false, png_scale: Some(1) }
}

/// A run whose record has a gap, an evaluation, and a value that single precision does not hold.
fn write_run(folder: &Path, learning_rate: f64, shift: f64) {
    let config = Config { batch_size: 4, learning_rate };
    let run = Run::open(folder, &config, Manifest::new().seed("seed", 1).input("data", "aa")).unwrap();
    let (mut metrics, mut events) = (run.metrics().unwrap(), run.events(None).unwrap());
    for step in 1..=3_u64 {
        let loss = step as f64 + shift;
        metrics.write(&MetricsRow::new(step, "train").with("loss", loss).with("exact", 0.1)).unwrap();
        let time = START + 60.0 * step as f64;
        events.scalars_at(time, step, &[("train/loss", loss), ("train/exact", 0.1), ("train/gap", f64::NAN)]).unwrap();
    }
    events.scalars_at(START + 200.0, 3, &[("eval/eval_loss", 0.5)]).unwrap();
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn text<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> &'a str {
    let Some(bytes) = files.get(name) else { panic!("no {name} among {:?}", files.keys()) };
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn two_runs_give_pictures_tables_and_their_differences() {
    let parent = tempfile::tempdir().unwrap();
    let folders = ["a", "b"].map(|name| parent.path().join(name));
    write_run(&folders[0], 1e-4, 0.0);
    write_run(&folders[1], 2e-4, 10.0);
    let runs = read_runs(&folders).unwrap();
    let out = parent.path().join("out");
    let written = plot(&runs, &options(), &out).unwrap();
    let files = contents(&out);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "contact_sheet.png",
        "contact_sheet.svg",
        "differences.txt",
        "eval_eval_loss.csv",
        "loss.png",
        "loss.svg",
        "train_exact.csv",
        "train_exact.png",
        "train_exact.svg",
        "train_gap.csv",
        "train_gap.png",
        "train_gap.svg",
        "train_loss.csv",
    ];
    assert_eq!(names, expected);
    assert_eq!(written.len(), expected.len());

    // smoothing of [1, 2, 3] with weight 0.9: 1, 1.526316, 2.070111
    let table = text(&files, "train_loss.csv");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["run", "step", "wall", "value", "smoothed"]);
    assert_eq!(rows[2][..4], ["a", "2", "1700000120.0", "2.0"]);
    let smoothed: Vec<String> = rows[1..4].iter().map(|row| format!("{:.6}", row[4].parse::<f64>().unwrap())).collect();
    assert_eq!(smoothed, ["1.000000", "1.526316", "2.070111"]);
    assert_eq!(rows[4][..4], ["b", "1", "1700000060.0", "11.0"]);
    // the record's double precision, not the event file's single one
    assert!(text(&files, "train_exact.csv").contains(",0.1,"));
    assert!(text(&files, "train_gap.csv").contains("a,1,1700000060.0,NaN,NaN"));

    let panel = text(&files, "loss.svg");
    for name in ["a, train", "a, eval", "b, train", "b, eval"] {
        assert!(panel.contains(&format!(">{name}</text>")), "{name}");
    }
    assert!(panel.contains("stroke-dasharray") && panel.contains("stroke-opacity"));
    assert!(text(&files, "train_gap.svg").contains("no data"));
    // three panels, each an image of its own with its plot window in it
    assert_eq!(text(&files, "contact_sheet.svg").matches("<svg").count(), 7);
    let differences = text(&files, "differences.txt");
    assert!(differences.starts_with("a | b\n  config learning_rate: 0.0001 | 0.0002\n"), "{differences}");
    assert!(files["loss.png"].starts_with(b"\x89PNG\r\n\x1a\n"));

    let again = parent.path().join("again");
    plot(&runs, &options(), &again).unwrap();
    assert_eq!(sha256_folder(&again).unwrap(), sha256_folder(&out).unwrap());
    if let Ok(folder) = std::env::var("RL_TRACK_TEST_CHARTS_OUT") {
        plot(&runs, &PlotOptions { png_scale: Some(2), ..options() }, Path::new(&folder)).unwrap();
    }
}

#[test]
fn the_x_axis_counts_steps_time_or_samples() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("run");
    write_run(&folder, 1e-4, 0.0);
    let run = Curves::read(&folder).unwrap();
    // batch_size 4 of the configuration
    assert_eq!(run.samples(&[1, 3]).unwrap(), [4.0, 12.0]);
    assert_eq!(run.start(), Some(START + 60.0));
    for (x, label) in
        [(XAxis::Step, "step"), (XAxis::Wall, "seconds since the run&#39;s first record"), (XAxis::Samples, "samples")]
    {
        let out = parent.path().join(label.replace([' ', ';'], "_"));
        let options = PlotOptions { x, tags: vec!["*/exact".into()], png_scale: None, ..options() };
        plot(std::slice::from_ref(&run), &options, &out).unwrap();
        let files = contents(&out);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["contact_sheet.svg", "train_exact.csv", "train_exact.svg"]);
        assert!(text(&files, "train_exact.svg").contains(&format!(">{label}</text>")));
    }
}

#[test]
fn counted_samples_win_over_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut events = EventWriter::create(folder.path()).unwrap();
    for (step, pairs) in [(1, 3.0), (2, 4.0), (5, 5.0)] {
        events.scalar("train/num_pairs", step, pairs).unwrap();
    }
    assert_eq!(Curves::read(folder.path()).unwrap().samples(&[0, 1, 4, 5]).unwrap(), [0.0, 3.0, 7.0, 12.0]);
}

#[test]
fn folders_of_other_programs_are_plotted_too_and_lacks_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mixed.tfevents");
    fs::copy(golden, folder.path().join("events.out.tfevents.1700000000.host.1.0")).unwrap();
    let run = Curves::read(folder.path()).unwrap();
    let files = plot(std::slice::from_ref(&run), &PlotOptions { png_scale: None, ..options() }, &out).unwrap();
    assert!(files.contains(&out.join("a_tag_with_spaces.svg")), "{files:?}");

    let fails = |options: PlotOptions| plot(std::slice::from_ref(&run), &options, &out).unwrap_err().to_string();
    let error = fails(PlotOptions { tags: vec!["train/*".into()], ..options() });
    assert!(error.contains("no tag matches train/*; there are a tag with spaces, content"), "{error}");
    let error = fails(PlotOptions { x: XAxis::Samples, ..options() });
    assert!(error.contains("does not say how many samples a step takes"), "{error}");
    let error = fails(PlotOptions { smooth: 1.0, ..options() });
    assert!(error.contains("`smooth` = 1"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Curves::read(empty.path()), Err(Error::NoCurves { .. })));
    let absent = empty.path().join("absent");
    assert!(matches!(read_runs(&[absent]), Err(Error::Io { .. })));
}

#[test]
fn a_run_without_event_files_is_read_from_its_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (1..=2).map(|step| format!("{{\"step\":{step},\"split\":\"train\",\"loss\":0.5}}\n")).collect();
    fs::write(folder.path().join("metrics.jsonl"), lines + "{\"step\":3,\"spl").unwrap();
    let run = Curves::read(folder.path()).unwrap();
    assert_eq!(run.by_tag["train/loss"].iter().map(|point| point.step).collect::<Vec<_>>(), [1, 2]);
    assert!(run.by_tag["train/loss"][0].wall_time.is_nan());
    let options = PlotOptions { x: XAxis::Wall, png_scale: None, ..options() };
    let error = plot(&[run], &options, &PathBuf::from("/nowhere")).unwrap_err().to_string();
    assert!(error.contains("has no event files"), "{error}");
}
