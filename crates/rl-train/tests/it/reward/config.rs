//! The reward section of a TOML file: what is read, and what is refused with its key.

use rl_train::reward::{Lifetime, OnFailure, RewardConfig, SourceKind};

const WHOLE: &str = r#"
workers = 8
deadline_seconds = 10
step_deadline_seconds = 120
max_abandoned = 4

[[sources]]
name = "tests"
weight = 0.7
on_failure = "stop"
deadline_seconds = 30
retry = { max_retries = 2, backoff_seconds = 0.5 }
source = { kind = "command", argv = ["python3", "verify.py"], memory_mib = 512, lifetime = { persistent = { start_seconds = 60 } } }

[[sources]]
name = "judge"
source = { kind = "http", url = "http://127.0.0.1:8000/score", timeout_seconds = 5, token_variable = "JUDGE_TOKEN" }

[[sources]]
name = "answer"
source = { kind = "match", field = "answer", extract = { after = "Answer:" }, compare = "number" }

[[sources]]
name = "boxed"
source = { kind = "match", field = "answer", extract = "boxed", compare = "exact" }

[[sources]]
name = "names"
source = { kind = "contains", field = "city" }

[[sources]]
name = "brevity"
source = { kind = "length", unit = "words", free = 200, limit = 400 }

[[sources]]
name = "shape"
source = { kind = "format", tags = ["think", "answer"] }

[[sources]]
name = "mine"
source = { kind = "custom" }

[[sources]]
name = "model"
weight = 0.0
source = { kind = "external" }
"#;

#[test]
fn every_kind_of_source_reads_and_writes() {
    let config: RewardConfig = toml::from_str(WHOLE).unwrap();
    config.validate().unwrap();
    assert_eq!(config.sources.len(), 9);
    let first = &config.sources[0];
    assert_eq!((first.weight, first.on_failure, first.deadline_seconds), (0.7, OnFailure::Stop, Some(30.0)));
    assert!(
        matches!(&first.source, SourceKind::Command(command) if command.lifetime == Lifetime::Persistent { start_seconds: 60.0 })
    );
    let second = &config.sources[1];
    assert_eq!((second.weight, second.on_failure, second.retry.max_retries), (1.0, OnFailure::Skip, 0));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<RewardConfig>(&written).unwrap(), config);
}

#[test]
fn unknown_keys_are_refused_at_every_depth() {
    let cases = [
        ("workers = 8", "workers = 8\nworker = 9"),
        ("name = \"judge\"", "name = \"judge\"\nweigth = 2"),
        ("memory_mib = 512", "memory_mb = 512"),
        ("kind = \"custom\"", "kind = \"custom\", class = 3"),
        ("kind = \"external\"", "kind = \"extern\""),
        ("timeout_seconds = 5", "timeout = 5"),
        ("backoff_seconds = 0.5", "backoff = 0.5"),
        ("start_seconds = 60", "start_seconds = 60, stop_seconds = 1"),
    ];
    for (right, wrong) in cases {
        assert!(WHOLE.contains(right));
        assert!(toml::from_str::<RewardConfig>(&WHOLE.replacen(right, wrong, 1)).is_err(), "{wrong}");
    }
}

#[test]
fn values_out_of_their_limits_are_named() {
    let cases = [
        ("workers = 8", "workers = 0", "workers"),
        ("deadline_seconds = 10", "deadline_seconds = 0", "deadline_seconds"),
        ("deadline_seconds = 10", "deadline_seconds = nan", "deadline_seconds"),
        ("step_deadline_seconds = 120", "step_deadline_seconds = inf", "step_deadline_seconds"),
        ("deadline_seconds = 30", "deadline_seconds = -1", "sources[tests].deadline_seconds"),
        ("weight = 0.7", "weight = nan", "sources[tests].weight"),
        ("max_retries = 2", "max_retries = 1001", "sources[tests].retry.max_retries"),
        ("backoff_seconds = 0.5", "backoff_seconds = -0.5", "sources[tests].retry.backoff_seconds"),
        ("[\"python3\", \"verify.py\"]", "[]", "sources[tests].source.argv"),
        ("memory_mib = 512", "memory_mib = 0", "sources[tests].source.memory_mib"),
        ("start_seconds = 60", "start_seconds = 0", "sources[tests].source.lifetime.start_seconds"),
        ("http://127", "https://127", "sources[judge].source.url"),
        ("timeout_seconds = 5", "timeout_seconds = 0", "sources[judge].source.timeout_seconds"),
        ("limit = 400", "limit = 200", "sources[brevity].source.limit"),
        ("[\"think\", \"answer\"]", "[\"<think>\"]", "sources[shape].source.tags"),
        ("name = \"judge\"", "name = \"tests\"", "sources.name"),
    ];
    for (right, wrong, key) in cases {
        assert!(WHOLE.contains(right));
        let config: RewardConfig = toml::from_str(&WHOLE.replacen(right, wrong, 1)).unwrap();
        assert_eq!(config.validate().unwrap_err().key, key, "{wrong}");
    }
}

#[test]
fn the_readme_shows_a_config_that_holds() {
    let config: RewardConfig = toml::from_str(super::from_readme("toml")).unwrap();
    config.validate().unwrap();
    assert_eq!(config.sources.len(), 4);
}
