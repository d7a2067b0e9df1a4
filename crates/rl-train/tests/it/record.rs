//! What a run leaves behind, for comparison with another run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::fixtures::metrics;

/// Every file of a folder by relative path.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fn visit(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(folder, folder, &mut found);
    found
}

/// Checkpoint files, samples and advantages of a run by relative path. Left out: what holds the folder's name (the
/// configuration), the clock (manifest, events, log) or both; metrics are compared without their timing.
pub fn contents(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(run);
    found.retain(|name, _| {
        let clock = ["config.toml", "manifest.json", "metrics.jsonl", "log.txt", ".lock"].contains(&name.as_str());
        !clock && !name.starts_with("events.out")
    });
    found
}

/// Both runs left the same, every byte but the clock's.
#[track_caller]
pub fn assert_same(run: &Path, expected: &Path) {
    assert_eq!(metrics(run), metrics(expected), "{}", run.display());
    assert_same_files(&contents(run), &contents(expected));
}

/// Both have the same files.
#[track_caller]
pub fn assert_same_files(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}

/// The log of what `f` does, with its result.
pub fn logged<T>(f: impl FnOnce() -> T) -> (T, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let subscriber = rl_track::log::subscriber(&rl_track::Progress::hidden(), Some(file.path())).unwrap();
    let result = tracing::subscriber::with_default(subscriber, f);
    (result, fs::read_to_string(file.path()).unwrap())
}
