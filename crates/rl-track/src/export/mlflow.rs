//! A run as MLflow's file store: the folder `mlruns` that a tracking server or its user interface opens.
//!
//! ```text
//! <store>/<experiment>/meta.yaml
//! <store>/<experiment>/<run>/meta.yaml  metrics/<key>  params/<key>  tags/<key>
//! ```
//!
//! A line of a metric file reads `milliseconds value step`. Both ids come from names and the first start alone, so a run
//! that is exported again takes the place of its older copy.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::atomic::{AtomicFolder, write_atomically};
use crate::curves::Curves;
use crate::error::{Error, Result};
use crate::hash::sha256_bytes;
use crate::manifest::Manifest;
use crate::run::{self, names};

/// `RunStatus.FINISHED`: an export is a copy of what there is, and nothing will finish it later.
const FINISHED: u32 = 3;
/// `SourceType.LOCAL`.
const LOCAL: u32 = 4;

/// Writes a run into the file store `store` under the experiment called `experiment`, and returns the run's folder there.
///
/// Every tag is a metric, every key of the configuration a parameter; seeds, input hashes, versions and the code's
/// revision are tags. A metric name may hold letters, digits and `_-. :/`; other signs become `_`, as do parts `.` and `..`.
///
/// # Errors
/// The run cannot be read or the store not be written.
pub fn mlflow(run_folder: &Path, store: &Path, experiment: &str) -> Result<PathBuf> {
    let curves = Curves::read(run_folder)?;
    let manifest_path = run_folder.join(names::MANIFEST);
    let manifest = if manifest_path.exists() { Some(Manifest::read(&manifest_path)?) } else { None };
    let has_config = run_folder.join(names::CONFIG).exists();
    let config = if has_config { run::read_config(run_folder)? } else { Table::new() };

    let times = || curves.by_tag.values().flatten().map(|point| point.wall_time).filter(|time| time.is_finite());
    let start = milliseconds(curves.start().unwrap_or(0.0));
    let end = milliseconds(times().fold(0.0, f64::max)).max(start);

    fs::create_dir_all(store).map_err(Error::io("create", store))?;
    let experiment_id = write_experiment(store, experiment, start)?;
    let experiment_folder = store.join(&experiment_id);
    let started =
        manifest.as_ref().and_then(|manifest| manifest.starts.first()).map(|start| start.timing.started.clone());
    let run_id = sha256_bytes(format!("{}\n{}", curves.name, started.unwrap_or_default()).as_bytes())[..32].to_owned();

    let folder = AtomicFolder::create(&experiment_folder.join(&run_id))?;
    let write = |part: &str, key: &str, text: &str| {
        let path = folder.path().join(part).join(key);
        let parent = path.parent().unwrap_or(folder.path());
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        fs::write(&path, text).map_err(Error::io("write", &path))
    };
    for part in ["artifacts", "metrics", "params", "tags"] {
        let path = folder.path().join(part);
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
    }
    for (tag, points) in &curves.by_tag {
        let line = |point: &crate::tensorboard::Point| {
            let time = if point.wall_time.is_finite() { milliseconds(point.wall_time) } else { start };
            format!("{time} {:?} {}\n", point.value, point.step)
        };
        write("metrics", &safe_key(tag), &points.iter().map(line).collect::<String>())?;
    }
    for (key, value) in flat(&config, "") {
        write("params", &safe_key(&key), &value)?;
    }
    for (key, value) in tags(&curves.name, manifest.as_ref()) {
        write("tags", &safe_key(&key), &value)?;
    }
    let artifacts = uri(&experiment_folder.join(&run_id).join("artifacts"));
    let meta = format!(
        "artifact_uri: {}\nend_time: {end}\nentry_point_name: ''\nexperiment_id: '{experiment_id}'\n\
         lifecycle_stage: active\nrun_id: {run_id}\nrun_name: {}\nrun_uuid: {run_id}\nsource_name: ''\n\
         source_type: {LOCAL}\nsource_version: ''\nstart_time: {start}\nstatus: {FINISHED}\ntags: []\nuser_id: ''\n",
        quoted(&artifacts),
        quoted(&curves.name)
    );
    write("", "meta.yaml", &meta)?;
    folder.commit_replacing()
}

/// The id of the experiment with this name, which is written if the store lacks it.
fn write_experiment(store: &Path, name: &str, created: u64) -> Result<String> {
    // MLflow's own ids are eighteen digits.
    let digits: String = sha256_bytes(name.as_bytes()).chars().filter(char::is_ascii_digit).take(18).collect();
    let id = format!("1{:0<17}", digits.get(..17).unwrap_or(&digits));
    let folder = store.join(&id);
    let path = folder.join("meta.yaml");
    if !path.exists() {
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let meta = format!(
            "artifact_location: {}\ncreation_time: {created}\nexperiment_id: '{id}'\nlast_update_time: {created}\n\
             lifecycle_stage: active\nname: {}\n",
            quoted(&uri(&folder)),
            quoted(name)
        );
        write_atomically(&path, meta.as_bytes())?;
    }
    Ok(id)
}

/// What a manifest says, as tags.
pub(crate) fn tags(run_name: &str, manifest: Option<&Manifest>) -> Vec<(String, String)> {
    let mut tags = vec![("mlflow.runName".to_owned(), run_name.to_owned())];
    let Some(manifest) = manifest else { return tags };
    tags.extend(manifest.seeds.iter().map(|(name, seed)| (format!("seed.{name}"), seed.to_string())));
    tags.extend(manifest.inputs.iter().map(|(name, hash)| (format!("input.{name}"), hash.clone())));
    if let Some(start) = manifest.starts.last() {
        tags.extend(start.versions.iter().map(|(name, version)| (format!("version.{name}"), version.clone())));
        if let Some(revision) = &start.revision {
            tags.push(("mlflow.source.git.commit".to_owned(), revision.commit.clone()));
            tags.push(("modified".to_owned(), revision.modified.to_string()));
        }
    }
    tags
}

/// Keys `a.b.0` and values of a table, in its order.
pub(crate) fn flat(table: &Table, prefix: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (key, value) in table {
        all.extend(flat_value(value, format!("{prefix}{key}")));
    }
    all
}

fn flat_value(value: &Value, key: String) -> Vec<(String, String)> {
    match value {
        Value::Table(table) => flat(table, &format!("{key}.")),
        Value::Array(values) if values.iter().any(Value::is_table) => {
            values.iter().enumerate().flat_map(|(index, value)| flat_value(value, format!("{key}.{index}"))).collect()
        }
        Value::String(text) => vec![(key, text.clone())],
        other => vec![(key, other.to_string())],
    }
}

/// A name that MLflow accepts and that stays inside its folder.
pub(crate) fn safe_key(key: &str) -> String {
    let is_allowed = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | ' ' | ':' | '/');
    let clean: String = key.chars().map(|letter| if is_allowed(letter) { letter } else { '_' }).collect();
    let part = |part: &str| if matches!(part, "" | "." | "..") { "_".to_owned() } else { part.to_owned() };
    clean.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

/// A text as YAML: JSON's strings are among its own.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A local folder as MLflow names it.
fn uri(folder: &Path) -> String {
    let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    format!("file://{}", whole.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_mlflow_accepts() {
        let table = [
            ("eval/eval gpt_loss", "eval/eval gpt_loss"),
            ("../../x", "_/_/x"),
            ("/a//b", "_/a/_/b"),
            ("a(b)=c", "a_b__c"),
        ];
        for (key, expected) in table {
            assert_eq!(safe_key(key), expected);
        }
    }

    #[test]
    fn a_configuration_is_flattened_in_order() {
        let table: Table =
            toml::from_str("b = 1\nnames = [\"x\", \"y\"]\n[a]\nlr = 1e-4\n[[stages]]\nk = true\n").unwrap();
        let flat = flat(&table, "");
        let flat: Vec<(&str, &str)> = flat.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(flat, [("b", "1"), ("names", "[\"x\", \"y\"]"), ("a.lr", "0.0001"), ("stages.0.k", "true")]);
    }
}
