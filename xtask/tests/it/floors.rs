//! The floors of the project: an import goes down, never up and never sideways, as the manifests show it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every crate with its floor; a new crate is entered here.
const FLOORS: [(&str, u8); 11] = [
    ("rl-core", 0),
    ("rl-data", 1),
    ("rl-envs", 1),
    ("rl-track", 1),
    ("rl-torch", 2),
    ("rl-models", 3),
    ("rl-train", 4),
    ("rl-eval", 4),
    ("rl-analysis", 4),
    ("rl-examples", 5),
    ("xtask", 5),
];
/// Folders under `crates/`; xtask lies beside it.
const NUM_CRATES: usize = 10;
/// The floor of the C++ shim: below it nothing touches libtorch.
const LIBTORCH_FLOOR: u8 = 2;

struct Manifest {
    name: String,
    /// Of every kind: normal, development, build, and per target; with whether it is optional.
    dependencies: BTreeMap<String, bool>,
}

fn read(path: &Path) -> Manifest {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut dependencies = BTreeMap::new();
    collect(&table, &mut dependencies);
    let targets = table.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(|targets| targets.values()) {
        collect(target.as_table().expect("a [target] entry is a table"), &mut dependencies);
    }
    Manifest { name: table["package"]["name"].as_str().expect("a name").to_string(), dependencies }
}

fn collect(table: &toml::Table, dependencies: &mut BTreeMap<String, bool>) {
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
            let field = |name: &str| value.as_table().and_then(|table| table.get(name));
            let package = field("package").and_then(toml::Value::as_str).unwrap_or(key);
            let optional = field("optional").and_then(toml::Value::as_bool).unwrap_or(false);
            *dependencies.entry(package.to_string()).or_insert(true) &= optional;
        }
    }
}

fn manifests() -> Vec<Manifest> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project root");
    let crates = std::fs::read_dir(root.join("crates")).expect("crates/ can be read");
    let mut found: Vec<_> = crates
        .map(|entry| entry.expect("an entry").path().join("Cargo.toml"))
        .filter(|path| path.is_file())
        .map(|path| read(&path))
        .collect();
    assert_eq!(found.len(), NUM_CRATES, "crates/ holds another number of crates than this test knows");
    found.push(read(&root.join("xtask/Cargo.toml")));
    found
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

#[test]
fn an_import_goes_down() {
    let mut seen = BTreeSet::new();
    for manifest in manifests() {
        let name = &manifest.name;
        let own = floor(name).unwrap_or_else(|| panic!("{name} has no floor; enter it in FLOORS"));
        for dependency in manifest.dependencies.keys() {
            match floor(dependency) {
                Some(other) => assert!(other < own, "{name} (floor {own}) imports {dependency} (floor {other})"),
                None => assert!(!dependency.starts_with("rl-"), "{name} imports {dependency}, which has no floor"),
            }
        }
        seen.insert(name.clone());
    }
    assert_eq!(seen.len(), FLOORS.len(), "FLOORS names a crate that is gone");
}

#[test]
fn libtorch_stays_on_its_floors() {
    for manifest in manifests() {
        let name = &manifest.name;
        if floor(name) >= Some(LIBTORCH_FLOOR) && name != "xtask" {
            continue;
        }
        for library in ["tch", "torch-sys"] {
            assert!(
                !manifest.dependencies.contains_key(library),
                "{name} must build without libtorch, imports {library}"
            );
        }
    }
}

#[test]
fn polars_is_at_most_in_one_leaf_and_only_when_asked_for() {
    for manifest in manifests() {
        let name = &manifest.name;
        if let Some(&optional) = manifest.dependencies.get("polars") {
            assert!(name == "rl-data" && optional, "{name} imports polars");
        }
    }
}

#[test]
fn libraries_have_errors_of_their_own() {
    for manifest in manifests() {
        let program = floor(&manifest.name) == Some(5);
        assert!(program || !manifest.dependencies.contains_key("anyhow"), "{} imports anyhow", manifest.name);
    }
}
