//! Broken configurations of made data.

use rl_envs::DatasetConfig;

use super::complaint;

const CARDS: &str = r#"
    task = "general_points"
    out = "unused"
    seed = 1
    [[parts]]
    kind = "expert"
    num_rows = 4
    environment = { num_cards = 1, target = 10, template = "compact" }
"#;

/// Change, key, value, mend.
const CASES: &[[&str; 4]] = &[
    ["task=\"chess\"", "task", "chess", "expected"],
    ["sed=1", "sed", "sed", ""],
    ["seed=-1", "seed", "-1", "expected"],
    ["seed=x", "seed", "x", "expected"],
    ["parts=3", "parts", "3", "expected"],
    ["parts.0.kind=experts", "parts", "experts", "expected"],
    ["parts.0.num_rows=-4", "num_rows", "-4", "expected"],
    ["parts.0.environment.num_cards=0", "num_cards", "0", "must be"],
    ["parts.0.environment.num_cards=9", "num_cards", "9", "must be"],
    ["parts.0.environment.template=long", "template", "long", "expected"],
];

/// Runs all cases; their number and what is wrong with the refusals.
pub fn run() -> (usize, Vec<String>) {
    let check = |&[change, key, value, mend]: &[&str; 4]| {
        complaint(&format!("made data, {change}"), [key, value, mend], || refusal(change))
    };
    (CASES.len(), CASES.iter().filter_map(check).collect())
}

fn refusal(change: &str) -> Option<String> {
    match rl_track::config::parse::<DatasetConfig>(CARDS, "data.toml", &[change.to_owned()]) {
        Ok(config) => config.validate().err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}
