//! `cargo xtask doctor`: one screen of what this machine has, and for each problem the mend.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::libtorch::{self, VERSION};
use crate::workspace::{Workspace, cache_dir, free_bytes, human_bytes};

/// What a build of the whole workspace and a tiny run take.
const BUILD_BYTES: u64 = 6_000_000_000;
/// Linking and compiling two files of the binding at once.
const BUILD_MEMORY: u64 = 3_000_000_000;

/// Says what was found, what is missing and how to mend it; exit code 1 if something needed is missing.
#[derive(Args)]
pub struct Doctor {}

/// The lines so far, and how many needed things are missing.
#[derive(Default)]
struct Screen {
    lines: Vec<String>,
    missing: usize,
}

impl Screen {
    fn good(&mut self, name: &str, text: impl AsRef<str>) {
        self.lines.push(format!("  ok       {name:<9} {}", text.as_ref()));
    }

    fn note(&mut self, name: &str, text: impl AsRef<str>, mend: &str) {
        self.lines.push(format!("  note     {name:<9} {}\n                     -> {mend}", text.as_ref()));
    }

    fn missing(&mut self, name: &str, text: impl AsRef<str>, mend: &str) {
        self.missing += 1;
        self.lines.push(format!("  MISSING  {name:<9} {}\n                     -> {mend}", text.as_ref()));
    }
}

impl Doctor {
    pub fn run(&self, workspace: &Workspace) -> Result<()> {
        let mut screen = Screen::default();
        screen.lines.push(format!("project {}", workspace.root.display()));
        toolchain(&mut screen);
        let have_libtorch = libtorch_lines(&mut screen, workspace);
        python(&mut screen, have_libtorch);
        machine(&mut screen);
        disk(&mut screen, workspace);
        models(&mut screen, workspace);
        if screen.missing == 0 {
            screen.lines.push("nothing needed is missing".to_string());
        }
        // A reader such as `head` may close its end early; that is no error of ours.
        let _ = writeln!(std::io::stdout(), "{}", screen.lines.join("\n"));
        match screen.missing {
            0 => Ok(()),
            1 => bail!("one needed thing is missing, see above"),
            count => bail!("{count} needed things are missing, see above"),
        }
    }
}

fn toolchain(screen: &mut Screen) {
    for (program, mend) in [("cargo", "install Rust with rustup"), ("rustc", "install Rust with rustup")] {
        match first_line(program, &["--version"]) {
            Some(version) => screen.good(program, version),
            None => screen.missing(program, "cannot be run", mend),
        }
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_string());
    match first_line(&compiler, &["--version"]) {
        Some(version) => screen.good("C++", format!("{version} ({compiler})")),
        None => screen.missing("C++", format!("{compiler} cannot be run"), "apt install g++, or set CXX to a compiler"),
    }
}

fn libtorch_lines(screen: &mut Screen, workspace: &Workspace) -> bool {
    let mend = "cargo xtask setup";
    let explicit = libtorch::from_environment(workspace);
    let (found, from) = match explicit {
        Err(error) => {
            screen.missing("libtorch", format!("{error:#}"), "mend LIBTORCH or unset it");
            return false;
        }
        Ok(Some(found)) => (found, "named by LIBTORCH"),
        Ok(None) => match libtorch::linked(workspace) {
            None => {
                screen.missing("libtorch", "no .libtorch in the project", mend);
                return false;
            }
            Some(Err(error)) => {
                screen.missing("libtorch", format!("{error:#}"), mend);
                return false;
            }
            Some(Ok(found)) if cache_dir().is_ok_and(|cache| found.dir.starts_with(cache)) => (found, "user's cache"),
            Some(Ok(found)) => (found, "linked"),
        },
    };
    let text = format!("{VERSION}, {}, {from}: {}", found.parts(), found.dir.display());
    match found.load_check() {
        Ok(()) => screen.good("libtorch", text),
        Err(error) => screen.missing("libtorch", format!("{error:#}"), "cargo xtask setup --force"),
    }
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
    let devices = Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success());
    let lines = devices.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    match (lines, found.cuda) {
        (Some(lines), true) => lines.lines().for_each(|line| screen.good("device", line)),
        (Some(lines), false) => screen.note("device", lines.replace('\n', "; "), "cargo xtask setup --cuda uses it"),
        (None, _) if libtorch::nvidia_driver() => {
            screen.note("device", "an NVIDIA driver, but nvidia-smi fails", "reinstall the driver's tools")
        }
        (None, _) => screen.good("device", "no NVIDIA driver; the CPU is used"),
    }
    true
}

fn python(screen: &mut Screen, have_libtorch: bool) {
    let needed_for = "downloads libtorch and models; apt install python3 python3-pip";
    match (first_line("python3", &["--version"]), first_line("python3", &["-m", "pip", "--version"])) {
        (Some(python), Some(pip)) => {
            let pip = pip.split(" from ").next().unwrap_or_default().to_string();
            screen.good("python", format!("{python}, {pip}"))
        }
        (python, _) => {
            let text = python.map_or("python3 cannot be run".to_string(), |python| format!("{python} without pip"));
            if have_libtorch {
                screen.note("python", text, needed_for)
            } else {
                screen.missing("python", text, needed_for)
            }
        }
    }
}

fn machine(screen: &mut Screen) {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    screen.good("cores", format!("{cores} ({})", std::env::consts::ARCH));
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |key: &str| -> Option<u64> {
        info.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
    };
    match (kib("MemTotal:"), kib("MemAvailable:")) {
        (Some(total), Some(free)) => {
            let text = format!("{} of {} free", human_bytes(free * 1024), human_bytes(total * 1024));
            if free * 1024 < BUILD_MEMORY {
                screen.note("memory", text, "a build may need 3 GB: use `cargo build -j 1` or close programs")
            } else {
                screen.good("memory", text)
            }
        }
        _ => screen.note("memory", "/proc/meminfo does not tell", "nothing to do"),
    }
}

fn disk(screen: &mut Screen, workspace: &Workspace) {
    let cache = cache_dir().unwrap_or_else(|_| workspace.root.clone());
    let target = workspace.target_dir().unwrap_or_else(|_| workspace.root.join("target"));
    for (name, dir) in [("project", &workspace.root), ("cache", &cache), ("target", &target)] {
        let Some(free) = free_bytes(dir) else {
            screen.note(name, format!("df does not tell about {}", dir.display()), "nothing to do");
            continue;
        };
        let text = format!("{} free at {}", human_bytes(free), dir.display());
        if free < BUILD_BYTES {
            screen.note(name, text, "a build takes about 6 GB: make room, or set CARGO_TARGET_DIR and XDG_CACHE_HOME")
        } else {
            screen.good(name, text)
        }
    }
}

fn models(screen: &mut Screen, workspace: &Workspace) {
    let folder = workspace.root.join("data/models");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| format!("{} ({})", entry.file_name().to_string_lossy(), human_bytes(files_size(&entry.path()))))
        .collect();
    names.sort();
    if names.is_empty() {
        screen.note(
            "models",
            "none under data/models",
            "cargo xtask model smollm2-135m, when a pretrained one is wanted",
        )
    } else {
        screen.good("models", names.join(", "))
    }
}

fn files_size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.is_file()).map(|meta| meta.len()).sum()
}

fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_string())
}
