//! Event files of our own writer and of the Python package (see `tests/golden/write_events.py`).

use std::fs;
use std::path::{Path, PathBuf};

use rl_track::Error;
use rl_track::tensorboard::{EventWriter, Point, Scalar, read_file, read_folder};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn brief(scalars: &[Scalar]) -> Vec<(&str, i64, f64)> {
    scalars.iter().map(|scalar| (scalar.tag.as_str(), scalar.point.step, scalar.point.value)).collect()
}

#[test]
fn scalars_of_the_python_package_are_read() {
    let scalars = read_file(&golden("mixed.tfevents")).unwrap();
    let nan_at = scalars.iter().position(|scalar| scalar.point.value.is_nan());
    assert_eq!(nan_at, Some(4));
    let mut finite = scalars.clone();
    finite.remove(4);
    let expected = [
        ("simple", 1, 0.5),
        ("float_val", 1, 1.25),
        ("content", 1, 7.5),
        ("double", 1, 0.1),
        ("simple", 1, 0.75),
        ("a tag with spaces", 123_456_789_012, -3.0),
    ];
    assert_eq!(brief(&finite), expected);
    assert_eq!(scalars[1].point.wall_time, 1_700_000_002.0);
}

#[test]
fn a_folder_gives_curves_in_which_the_last_value_of_a_step_wins() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden("mixed.tfevents"), folder.path().join("events.out.tfevents.1700000000.host.1.0")).unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "").unwrap();
    let curves = read_folder(folder.path()).unwrap();
    assert_eq!(curves.keys().collect::<Vec<_>>(), ["a tag with spaces", "content", "double", "float_val", "simple"]);
    let simple = &curves["simple"];
    assert_eq!(simple[0], Point { step: 1, wall_time: 1_700_000_008.0, value: 0.75 });
    assert_eq!((simple.len(), simple[1].step), (2, 2));
}

#[test]
fn our_own_files_read_back_and_a_restart_drops_what_the_killed_run_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(folder.path()).unwrap();
    for step in 1..=5 {
        first.scalars(step, &[("train/loss", 1.0), ("train/lr", 0.5)]).unwrap();
    }
    first.scalar("train/late", 5, f64::INFINITY).unwrap();
    let mut second = EventWriter::create(folder.path()).unwrap();
    assert_ne!(first.path(), second.path());
    second.restart_from(4).unwrap();
    second.scalar("train/loss", 4, 2.0).unwrap();
    let curves = read_folder(folder.path()).unwrap();
    let loss: Vec<(i64, f64)> = curves["train/loss"].iter().map(|point| (point.step, point.value)).collect();
    assert_eq!(loss, [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]);
    assert_eq!(curves["train/lr"].len(), 3);
    assert!(!curves.contains_key("train/late"));
}

#[test]
fn files_of_the_same_second_are_taken_in_the_order_they_were_started() {
    let folder = tempfile::tempdir().unwrap();
    for step in 0..12 {
        // the count reaches 10 and 11, which sort before 2 by name
        EventWriter::create(folder.path()).unwrap().scalar("loss", 0, f64::from(step)).unwrap();
    }
    assert_eq!(read_folder(folder.path()).unwrap()["loss"][0].value, 11.0);
}

#[test]
fn a_torn_tail_ends_the_reading_at_any_byte() {
    let bytes = fs::read(golden("mixed.tfevents")).unwrap();
    let whole = read_file(&golden("mixed.tfevents")).unwrap().len();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("torn");
    let mut last = 0;
    for length in 0..bytes.len() {
        fs::write(&path, &bytes[..length]).unwrap();
        let count = read_file(&path).unwrap().len();
        assert!(last <= count && count < whole, "{length}");
        last = count;
    }
}

#[test]
fn damage_in_the_middle_is_an_error_with_the_offset() {
    let bytes = fs::read(golden("mixed.tfevents")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    // the first record: 12 bytes of header, its length, 4 bytes of checksum
    let second = 12 + u64::from(bytes[0]) + 4;
    for (position, expected) in [(second + 2, second), (second + 12 + 3, second), (3, 0), (14, 0)] {
        let mut damaged = bytes.clone();
        damaged[position as usize] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        match read_file(&path) {
            Err(Error::Event { offset, .. }) => assert_eq!(offset, expected),
            other => panic!("byte {position}: {other:?}"),
        }
    }
}

#[test]
fn scalars_of_torchs_writer_are_read_plain_and_as_tensors() {
    // tests/golden/write_torch_events.py
    let scalars = read_file(&golden("torch.tfevents")).unwrap();
    let of = |tag: &str| -> Vec<(i64, f64)> {
        let own = scalars.iter().filter(|scalar| scalar.tag == tag);
        own.map(|scalar| (scalar.point.step, scalar.point.value)).collect()
    };
    let single = |value: f64| f64::from(value as f32);
    assert_eq!(of("train/loss"), [(0, 1.0), (1, 0.5), (2, single(1.0 / 3.0)), (3, 0.25), (1 << 40, 7.0)]);
    assert_eq!(of("train/new style"), [(0, 0.0), (1, single(0.1)), (2, single(0.2)), (3, single(0.1 * 3.0))]);
    assert_eq!(of("train/double"), [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.1 * 3.0)]);
    let bad = of("eval/bad");
    assert!(bad[0].1.is_nan() && bad[1] == (3, f64::NEG_INFINITY), "{bad:?}");
    assert_eq!(scalars.len(), 15); // neither the text nor the histogram
    assert_eq!(scalars[1].point.wall_time, 1_700_000_000.5);
}

/// Compares with what TensorBoard's own reader finds; needs `RL_TRACK_TEST_PYTHON`, a Python with `tensorboard`.
#[test]
fn tensorboards_own_reader_finds_the_same_scalars() {
    let Ok(python) = std::env::var("RL_TRACK_TEST_PYTHON") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    for step in 0..5 {
        let value = 1.0 / (step + 1) as f64;
        writer
            .scalars(step, &[("train/loss", value), ("eval/eval gpt_loss", f64::NAN), ("top", f64::INFINITY)])
            .unwrap();
    }
    writer.scalar("train/loss", 4_000_000_000, -1e-30).unwrap();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    writer.restart_from(3).unwrap();
    writer.scalar("train/loss", 3, 7.0).unwrap();
    // The second process was killed while it wrote.
    let path = writer.path().to_path_buf();
    writer.scalar("train/loss", 4, 8.0).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();

    let ours: String = read_folder(folder.path())
        .unwrap()
        .iter()
        .flat_map(|(tag, points)| points.iter().map(move |point| format!("{tag} {} {:?}\n", point.step, point.value)))
        .collect();
    assert!(ours.contains("train/loss 3 7.0\n") && !ours.contains("train/loss 4"), "{ours}");
    let output = std::process::Command::new(python).arg(golden("check_events.py")).arg(folder.path()).output().unwrap();
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs, ours, "{}", String::from_utf8_lossy(&output.stderr));
}
