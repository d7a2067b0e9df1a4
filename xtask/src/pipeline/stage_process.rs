//! The program of a stage as a process: it gets our output, hears our signals, and never works twice in one folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::file::{PipelineFile, Stage};
use super::plan::End;
use crate::process;
use crate::workspace::Workspace;

/// How often we look whether the program ended or a signal came.
const POLL: Duration = Duration::from_millis(50);

/// Runs the built examples for one run folder.
pub struct Examples {
    root: PathBuf,
    programs: PathBuf,
    /// Locked; each program holds it too, as its standard input, so the lock outlives us if only we are killed.
    lock: File,
    /// `setpriv` is there, which ends a program when we are killed.
    dies_with_us: bool,
    interrupt: Arc<AtomicBool>,
    terminate: Arc<AtomicBool>,
}

impl Examples {
    pub fn new(workspace: &Workspace, file: &PipelineFile) -> Result<Self> {
        let programs = workspace.target_dir()?.join("release/examples");
        let programs = programs.strip_prefix(&workspace.root).map(PathBuf::from).unwrap_or(programs);
        let dies_with_us = Command::new("setpriv").args(["--pdeathsig", "TERM", "true"]).output();
        let examples = Self {
            root: workspace.root.clone(),
            programs,
            lock: lock(workspace.root.join(&file.run).join(".stages/lock"))?,
            dies_with_us: dies_with_us.is_ok_and(|output| output.status.success()),
            interrupt: Arc::default(),
            terminate: Arc::default(),
        };
        signal_hook::flag::register(SIGINT, Arc::clone(&examples.interrupt))?;
        signal_hook::flag::register(SIGTERM, Arc::clone(&examples.terminate))?;
        Ok(examples)
    }

    fn command(&self, stage: &Stage) -> Vec<String> {
        let program = self.programs.join(&stage.example).to_string_lossy().into_owned();
        let config = stage.config.iter().flat_map(|config| ["--config".to_string(), config.clone()]);
        let set = stage.set.iter().flat_map(|set| ["--set".to_string(), set.clone()]);
        std::iter::once(program).chain(config).chain(set).chain(stage.args.iter().cloned()).collect()
    }

    /// The command as one would type it in the project root.
    pub fn shown(&self, stage: &Stage) -> String {
        let words = self.command(stage);
        process::shown(Command::new(&words[0]).args(&words[1..]))
    }

    pub fn run(&self, stage: &Stage) -> Result<End> {
        let mut words = self.command(stage);
        words[0] = self.root.join(&words[0]).to_string_lossy().into_owned();
        if self.dies_with_us {
            words.splice(0..0, ["setpriv", "--pdeathsig", "TERM"].map(String::from));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.root).stdin(Stdio::from(self.lock.try_clone()?));
        // Cargo set this for xtask; by hand it would not be there.
        command.env_remove("CARGO_MANIFEST_DIR");
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.shown(stage)))?;
        let mut interrupted = false;
        loop {
            if let Some(status) = child.try_wait()? {
                // A program that was told to stop may end with 0 though its work is not done.
                return Ok(if interrupted { End::Interrupted } else { End::Exit(status.code().unwrap_or(-1)) });
            }
            // The terminal sends SIGINT to the program too; SIGTERM comes to us alone and is handed on.
            interrupted |= self.interrupt.swap(false, Ordering::Relaxed);
            if self.terminate.swap(false, Ordering::Relaxed) {
                interrupted = true;
                terminate(&child);
            }
            std::thread::sleep(POLL);
        }
    }
}

fn terminate(child: &Child) {
    // If the program is gone already there is nobody to tell.
    let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
}

/// Waits until nobody else works in the run folder.
fn lock(path: PathBuf) -> Result<File> {
    let cannot = || format!("cannot write {}", path.display());
    std::fs::create_dir_all(path.parent().with_context(cannot)?).with_context(cannot)?;
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(&path).with_context(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            eprintln!("waiting for {}, which still works in this run folder", holder.trim());
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} or a program it started", std::process::id())?;
    Ok(file)
}
