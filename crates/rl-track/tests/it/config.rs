//! Overrides, and what the errors of a configuration say.

use std::path::PathBuf;

use rl_track::config::{ConfigError, load, parse, to_toml};
use rl_track::{Error, ensure};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    seed: u64,
    model: PathBuf,
    optim: Optim,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stages: Vec<Optim>,
    schedule: Schedule,
    note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Optim {
    lr: f64,
    weight_decay: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Schedule {
    Constant,
    Cosine { warmup_steps: u64 },
}

const FILE: &str = "\
seed = 1
model = \"models/tiny\"

[optim]
lr = 1e-4
weight_decay = 0.0

[[stages]]
lr = 0.5
weight_decay = 0.1

[schedule]
kind = \"cosine\"
warmup_steps = 10
";

fn with(overrides: &[&str]) -> Result<Config, Error> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    parse(FILE, "a.toml", &overrides)
}

#[test]
fn overrides_edit_the_table_in_order() {
    let config = with(&[
        "optim.lr=3e-5",
        "model=models/other-0.5b",
        "stages.0.lr = 2",
        "schedule={kind=\"constant\"}",
        "note=first",
        "note=\"a = b\"",
    ])
    .unwrap();
    assert_eq!(config.optim, Optim { lr: 3e-5, weight_decay: 0.0 });
    assert_eq!(config.model, PathBuf::from("models/other-0.5b"));
    assert_eq!(config.stages[0].lr, 2.0);
    assert_eq!(config.schedule, Schedule::Constant);
    assert_eq!(config.note.as_deref(), Some("a = b"));
}

#[test]
fn a_config_survives_writing_and_reading() {
    let config = with(&["seed=9007199254740993", "optim.lr=0.1"]).unwrap();
    assert_eq!(parse::<Config>(&to_toml(&config).unwrap(), "b.toml", &[]).unwrap(), config);
}

#[test]
fn errors_name_the_key_its_origin_and_the_mend() {
    let table: [(&str, &[&str], &str); 17] = [
        ("lr = 1e-4", &["optim.lrr=1"], "override `optim.lrr=1`: unknown key `optim.lrr`; did you mean `lr`?"),
        ("lr = 1e-4", &["sed=1"], "override `sed=1`: unknown key `sed`; did you mean `seed`?"),
        ("lrr = 1e-4", &[], "a.toml:5: unknown key `optim.lrr`; did you mean `lr`?"),
        ("zzzzzzz = 1", &[], "a.toml:5: unknown key `optim.zzzzzzz`; known keys are `lr`, `weight_decay`"),
        ("lr = 1e-4", &["optimizer.lr=1"], "override `optimizer.lr=1`: unknown key `optimizer`; did you mean `optim`?"),
        ("lr = 1e-4", &["stages.0.weight_deca=1"], "unknown key `stages.0.weight_deca`; did you mean `weight_decay`?"),
        (
            "lr = 1e-4",
            &["schedule.warmup=1"],
            "override `schedule.warmup=1`: unknown key `schedule.warmup`; did you mean `warmup_steps`?",
        ),
        ("lr = \"x\"", &[], "a.toml:5: `optim.lr`: invalid type: string \"x\", expected f64"),
        ("lr = 1e-4", &["optim.lr=fast"], "override `optim.lr=fast`: `optim.lr`: invalid type: string \"fast\""),
        ("", &[], "a.toml: missing key `optim.lr`; add it to the file or set it with an override `optim.lr=VALUE`"),
        ("lr = 1e-4", &["schedule.kind=cosin"], "did you mean `cosine`?"),
        ("lr = 1e-4", &["seed"], "override `seed`: write it as `key=VALUE`"),
        ("lr = 1e-4", &["seed="], "the value is missing"),
        ("lr = 1e-4", &["optim..lr=1"], "empty part"),
        ("lr = 1e-4", &["seed.x=1"], "override `seed.x=1`: `seed` is not a table but 1"),
        ("lr = 1e-4", &["stages.3.lr=1"], "`stages` has 1 entries, counted from 0; there is no entry 3"),
        ("lr = 1e-4", &["stages=[1, 2"], "override `stages=[1, 2`: "),
    ];
    for (line, overrides, expected) in table {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let error =
            parse::<Config>(&FILE.replacen("lr = 1e-4", line, 1), "a.toml", &overrides).unwrap_err().to_string();
        assert!(error.contains(expected), "\n  {error}\n  {expected}");
    }
}

#[test]
fn a_syntax_error_has_file_line_and_column() {
    let error = parse::<Config>("seed = 1\nmodel = = 2\n", "a.toml", &[]).unwrap_err().to_string();
    assert!(error.starts_with("a.toml:2:9: "), "{error}");
    assert!(error.ends_with("2 | model = = 2"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = load::<Config>(&folder.path().join("absent.toml"), &[]).unwrap_err().to_string();
    assert!(error.contains("absent.toml") && error.contains("check the path"), "{error}");
}

/// A tagged enum is read from a buffer, which has no path; a value that stands there once is found by what it is.
#[test]
fn a_wrong_value_inside_a_tagged_enum_is_named_by_its_key() {
    let error = |change: &str| parse::<Config>(FILE, "a.toml", &[change.to_owned()]).unwrap_err().to_string();
    for (change, key) in [
        ("schedule={ kind = \"cosine\", warmup_steps = -7 }", "`schedule.warmup_steps`"),
        ("schedule={ kind = \"cosine\", warmup_steps = \"many\" }", "`schedule.warmup_steps`"),
        ("schedule={ kind = \"cosine\", warmup_steps = true }", "`schedule.warmup_steps`"),
        ("schedule={ kind = \"cosin\" }", "`schedule.kind`"),
    ] {
        assert!(error(change).contains(key), "{change}: {}", error(change));
    }
    // Two values alike: neither is named.
    let twice = error("schedule={ kind = \"cosine\", warmup_steps = -7, other = -7 }");
    assert!(!twice.contains("`schedule.warmup_steps`"), "{twice}");
}

#[test]
fn unknown_keys_fail_also_without_the_serde_attribute() {
    #[derive(Debug, Deserialize)]
    struct Loose {
        #[expect(dead_code)]
        inner: Option<Inner>,
    }
    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code)]
        lr: f64,
    }
    let error = parse::<Loose>("[inner]\nlr = 1.0\nrate = 2\n", "a.toml", &[]).unwrap_err().to_string();
    assert_eq!(error, "a.toml:3: unknown key `inner.rate`");
}

#[test]
fn ensure_names_the_key_also_from_a_section() {
    assert_eq!(ensure(true, "group_size", 8, "must be at least 2"), Ok(()));
    let error: ConfigError = ensure(false, "group_size", 1, "must be at least 2").unwrap_err();
    assert_eq!(error.clone().within("rollout").to_string(), "`rollout.group_size` = 1: must be at least 2");
    assert_eq!(Error::from(error).to_string(), "`group_size` = 1: must be at least 2");
}
