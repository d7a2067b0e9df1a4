//! Files and folders that appear complete or not at all, also when the process is killed.
//!
//! Work happens beside the final name, under a hidden name `.NAME.partial-...`, is synced to the disk and then
//! renamed. What killed processes left behind is removed by the next [`AtomicFolder::create`] in the same folder. A
//! live writer holds a file lock, so a second process never removes work in progress.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};

const PARTIAL: &str = ".partial-";
const REPLACED: &str = ".replaced-";
const LOCK_FILE: &str = ".lock";
/// Work without a lock that is younger than this may belong to a process that is about to lock or to rename it.
const GRACE: Duration = Duration::from_secs(60);

/// Writes `bytes` to `path`: afterwards the file holds either its old content or all of the new one.
///
/// A temporary file in the same folder is written, synced and renamed, then the folder is synced. The folder must
/// exist. The rename replaces a link at `path`, not what it points to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}{PARTIAL}", name_of(path)?);
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        // The default of a temporary file is private; ours becomes an ordinary file, subject to the umask.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io("write", path))?;
    // Best effort: where locks are not supported, the grace time alone protects the file.
    let _ = file.as_file().try_lock();
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.as_file().sync_all().map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| Error::io("write", path)(error.error))?;
    sync_folder(folder)
}

/// A folder under construction: renamed to its final name by [`commit`](Self::commit), removed when dropped before.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    partial: PathBuf,
    lock: Option<File>,
    committed: bool,
}

impl AtomicFolder {
    /// Starts the folder that will be called `target`. Missing parents are created, leftovers beside it removed.
    pub fn create(target: &Path) -> Result<Self> {
        let parent = folder_of(target);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        remove_leftovers(parent)?;
        let partial = unused_sibling(target, PARTIAL)?;
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        let mut folder = Self { target: target.to_path_buf(), partial, lock: None, committed: false };
        // The lock gets its name only once it is held, so that nobody can take it in between.
        let unnamed = folder.partial.join(".lock-new");
        let lock = File::create(&unnamed).map_err(Error::io("create", &unnamed))?;
        let _ = lock.try_lock();
        fs::rename(&unnamed, folder.partial.join(LOCK_FILE)).map_err(Error::io("create", &unnamed))?;
        folder.lock = Some(lock);
        Ok(folder)
    }

    /// Where to write the files. Do not use the name `.lock`.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Syncs all files and gives the folder its final name, which it returns. An existing target is an error.
    pub fn commit(mut self) -> Result<PathBuf> {
        self.seal()?;
        if fs::symlink_metadata(&self.target).is_ok() {
            return Err(Error::Exists { path: self.target.clone() });
        }
        self.rename()
    }

    /// Like [`commit`](Self::commit), but an existing target is replaced.
    ///
    /// The old folder is moved aside first; if the process dies in that instant, the next `create` in the same parent
    /// moves it back.
    pub fn commit_replacing(mut self) -> Result<PathBuf> {
        self.seal()?;
        if fs::symlink_metadata(&self.target).is_err() {
            return self.rename();
        }
        let aside = unused_sibling(&self.target, REPLACED)?;
        fs::rename(&self.target, &aside).map_err(Error::io("replace", &self.target))?;
        let target = self.rename().inspect_err(|_| {
            let _ = fs::rename(&aside, folder_of(&aside).join(original_name(&aside, REPLACED).unwrap_or_default()));
        })?;
        remove_any(&aside)?;
        Ok(target)
    }

    fn seal(&mut self) -> Result<()> {
        let lock = self.partial.join(LOCK_FILE);
        sync_tree(&self.partial)?;
        fs::remove_file(&lock).map_err(Error::io("write", &lock))
    }

    fn rename(&mut self) -> Result<PathBuf> {
        fs::rename(&self.partial, &self.target).map_err(Error::io("create", &self.target))?;
        self.committed = true;
        sync_folder(folder_of(&self.target))?;
        Ok(self.target.clone())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be reported from here; a leftover is removed by the next `create`.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

/// Removes what killed writers left in `folder`, and moves back a folder whose replacement never arrived.
///
/// Returns how many leftovers were dealt with. Work whose lock is held is left alone, and so is young work without a lock,
/// which may be about to take it.
pub fn remove_leftovers(folder: &Path) -> Result<usize> {
    remove_where(folder, |path| is_abandoned(path, GRACE))
}

/// As [`remove_leftovers`], for a caller that alone writes to `folder`: what is there without a lock is nobody's, however
/// young. A process that is killed and started again at once finds such work.
pub fn remove_all_leftovers(folder: &Path) -> Result<usize> {
    remove_where(folder, |path| is_abandoned(path, Duration::ZERO))
}

fn remove_where(folder: &Path, is_abandoned: impl Fn(&Path) -> bool) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if original_name(&path, PARTIAL).is_some() {
            if is_abandoned(&path) {
                remove_any(&path)?;
                count += 1;
            }
        } else if let Some(name) = original_name(&path, REPLACED) {
            let target = folder.join(name);
            if target.exists() {
                remove_any(&path)?;
            } else {
                fs::rename(&path, &target).map_err(Error::io("restore", &target))?;
            }
            count += 1;
        }
    }
    Ok(count)
}

/// True if no live process works on this partial file or folder. Without a lock it must have the age `grace`.
fn is_abandoned(path: &Path, grace: Duration) -> bool {
    let is_young = || {
        let age = fs::metadata(path).and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
        !grace.is_zero() && age.is_none_or(|age| age < grace)
    };
    let is_folder = path.is_dir();
    let lock = if is_folder { path.join(LOCK_FILE) } else { path.to_path_buf() };
    let Ok(file) = File::open(&lock) else { return !is_young() };
    match file.try_lock() {
        Ok(()) => is_folder || !is_young(),
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => !is_young(),
    }
}

/// `NAME` of a path whose last part is `.NAME<marker>...`.
fn original_name<'a>(path: &'a Path, marker: &str) -> Option<&'a str> {
    let (name, _) = path.file_name()?.to_str()?.strip_prefix('.')?.rsplit_once(marker)?;
    Some(name)
}

/// `.NAME<marker><process>-<count>` beside `target`, not in use.
fn unused_sibling(target: &Path, marker: &str) -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = name_of(target)?;
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder_of(target).join(format!(".{name}{marker}{}-{count}", std::process::id()));
        if fs::symlink_metadata(&path).is_err() {
            return Ok(path);
        }
    }
}

fn remove_any(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync_tree(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let kind = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?.file_type();
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("write", &path))?;
        }
    }
    sync_folder(folder)
}

/// Makes a rename in `folder` durable. Only Unix can sync a folder.
fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(Error::io("write", folder))?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let cause = || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path has no usable file name");
    Ok(name.ok_or_else(|| Error::io("write", path)(cause()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["state.json"]);
    }

    #[test]
    fn errors_name_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        fs::write(&blocked, "").unwrap();
        let error = write_atomically(&blocked.join("inner.json"), b"x").unwrap_err().to_string();
        assert!(error.contains("file/inner.json"), "{error}");
        let error = AtomicFolder::create(&blocked.join("inner")).unwrap_err().to_string();
        assert!(error.contains("/file"), "{error}");
    }

    #[test]
    fn a_folder_appears_on_commit_and_vanishes_on_drop() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("step-000100");
        let folder = AtomicFolder::create(&target).unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        assert!(!target.exists());
        drop(folder);
        assert_eq!(names(parent.path()), [""; 0]);

        let folder = AtomicFolder::create(&target).unwrap();
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/a"), "1").unwrap();
        assert_eq!(folder.commit().unwrap(), target);
        assert_eq!(names(parent.path()), ["step-000100"]);
        assert_eq!(names(&target), ["inner"]);
    }

    #[test]
    fn an_existing_target_needs_a_replacing_commit() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("best");
        for text in ["old", "new"] {
            let folder = AtomicFolder::create(&target).unwrap();
            fs::write(folder.path().join("a"), text).unwrap();
            folder.commit_replacing().unwrap();
        }
        assert!(matches!(AtomicFolder::create(&target).unwrap().commit(), Err(Error::Exists { .. })));
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "new");
        assert_eq!(names(parent.path()), ["best"]);
    }

    #[test]
    fn leftovers_of_killed_writers_are_removed_and_live_work_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join(".step-000007.partial-1-0");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join(LOCK_FILE), "").unwrap(); // nobody holds it: its process is gone
        let young = parent.path().join(".step-000008.partial-1-0");
        fs::create_dir(&young).unwrap(); // no lock yet: may be about to take it
        let live = AtomicFolder::create(&parent.path().join("step-000009")).unwrap();
        assert!(!dead.exists());
        assert!(young.exists());
        let other = AtomicFolder::create(&parent.path().join("step-000010")).unwrap();
        assert!(live.path().exists());
        other.commit().unwrap();
        live.commit().unwrap();
    }

    #[test]
    fn the_only_writer_also_removes_young_work_without_a_lock() {
        let parent = tempfile::tempdir().unwrap();
        let young = [".step-000008.partial-1-0", ".step-000004.partial-removed"].map(|name| parent.path().join(name));
        young.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        let file = parent.path().join(".state.json.partial-x");
        fs::write(&file, "half").unwrap();
        let live = AtomicFolder::create(&parent.path().join("step-000009")).unwrap();
        assert_eq!(remove_leftovers(parent.path()).unwrap(), 0);
        assert_eq!(remove_all_leftovers(parent.path()).unwrap(), 3);
        live.commit().unwrap();
        assert_eq!(names(parent.path()), ["step-000009"]);
    }

    #[test]
    fn a_folder_moved_aside_by_a_killed_replacement_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let aside = parent.path().join(".best.replaced-1-0");
        fs::create_dir(&aside).unwrap();
        fs::write(aside.join("a"), "old").unwrap();
        assert_eq!(remove_leftovers(parent.path()).unwrap(), 1);
        assert_eq!(fs::read_to_string(parent.path().join("best/a")).unwrap(), "old");
    }
}
