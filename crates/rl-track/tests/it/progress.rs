//! Bars and log lines of one process, on a terminal and without one.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rl_track::{Progress, log};

const TALK: &str = "RL_TRACK_TEST_TALK";
const STEPS: u64 = 60;

/// Not a test by itself: the body of the process that the tests below listen to.
#[test]
#[ignore = "started by the other tests here"]
fn talker() {
    if std::env::var_os(TALK).is_none() {
        return;
    }
    let progress = Progress::new();
    log::init(&progress, None).unwrap();
    let bar = progress.bar("train", STEPS);
    for step in 1..=STEPS {
        bar.set_message(format!("loss {step}"));
        bar.inc(1);
        if step % 10 == 0 {
            tracing::info!(step, "saved");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bar.finish();
}

fn output(command: &mut Command) -> Output {
    command.env(TALK, "1").env("TERM", "xterm").env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap()
}

fn has_every_line(lines: &[&str]) {
    let saved: Vec<&&str> = lines.iter().filter(|line| line.contains("saved")).collect();
    assert_eq!(saved.len() as u64, STEPS / 10, "{lines:#?}");
    for (line, step) in saved.iter().zip((10..=STEPS).step_by(10)) {
        // whole, and nothing of the bar beside it
        assert!(line.starts_with("20") && line.ends_with(&format!("saved step={step}")), "{line:?}");
    }
}

#[test]
fn without_a_terminal_there_are_plain_lines_and_no_codes() {
    let program = std::env::current_exe().unwrap();
    let output = output(Command::new(program).args(["--ignored", "--exact", "progress::talker", "--nocapture"]));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    let lines: Vec<&str> = text.lines().collect();
    has_every_line(&lines);
    let last = lines.last().unwrap();
    assert!(last.starts_with("train 60/60 ") && last.ends_with("loss 60"), "{last}");
    assert_eq!(lines.len() as u64, STEPS / 10 + 1, "{text}");
}

#[test]
fn on_a_terminal_bars_and_lines_leave_each_other_whole() {
    // `script` gives the process a terminal and passes on what it writes.
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("left out: there is no program `script`");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let inner = format!("{} --ignored --exact progress::talker --nocapture", program.display());
    let output = output(Command::new("script").args(["-q", "-e", "-c", &inner, "/dev/null"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let plain = without_codes(&text);
    let lines: Vec<&str> = plain.split(['\n', '\r']).map(str::trim_end).filter(|line| !line.is_empty()).collect();
    has_every_line(&lines);
    assert!(lines.iter().any(|line| line.starts_with("train ") && line.contains("60/60")), "{lines:#?}");
}

/// The text without escape sequences `ESC [ ... letter`.
fn without_codes(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            out.push(letter);
            continue;
        }
        if letters.next_if_eq(&'[').is_some() {
            while letters.next().is_some_and(|letter| !letter.is_ascii_alphabetic()) {}
        }
    }
    out
}
