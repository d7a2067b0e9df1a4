//! Broken evaluations: each is refused before anything is read, with a message that names key, value and mend.

use std::path::Path;

use rl_eval::EvaluationConfig;

/// Change of `configs/evaluate/tiny-sft.toml`, key, value, mend.
const CASES: &[[&str; 4]] = &[
    ["num_task=3", "num_task", "num_task=3", "did you mean `num_tasks`"],
    ["num_tasks=0", "num_tasks", "0", "must be positive"],
    ["num_tasks=-3", "num_tasks", "-3", "expected u64"],
    ["num_tasks=many", "num_tasks", "many", "expected u64"],
    ["seed=-1", "seed", "-1", "expected u64"],
    ["seeds=1", "seeds", "seeds=1", "did you mean `seed`"],
    ["devices=cpu", "devices", "devices=cpu", "did you mean `device`"],
    ["transcripts=-1", "transcripts", "-1", "expected usize"],
    ["transcript=1", "transcript", "transcript=1", "did you mean `transcripts`"],
    ["splits=[]", "splits", "empty", "name at least one"],
    ["splits.1.name=id", "splits.name", "id", "is given twice"],
    ["splits.0.nam=id", "splits.0.nam", "=id", "did you mean `name`"],
    ["splits.0.environment.name=chess", "environment", "chess", "expected"],
    ["splits.0.environment.num_cards=0", "num_cards", "0", "must be"],
    ["splits.0.environment.num_cards=9", "num_cards", "9", "must be"],
    ["splits.0.environment.template=long", "template", "long", "expected"],
    ["decodings=[]", "decodings", "empty", "name at least one"],
    ["decodings.0.sampling.temperature=-1.0", "temperature", "-1", "must be 0 or more"],
    ["decodings.0.sampling.max_new_tokens=0", "max_new_tokens", "0", "must be positive"],
    ["decodings.0.sampling.num_slots=0", "num_slots", "0", "must be positive"],
    ["decodings.0.sampling.top_p=0.0", "top_p", "0", "(0, 1]"],
    ["decodings.0.sampling.top_q=0.9", "top_q", "0.9", "did you mean `top_p`"],
    ["models={ step-3 = \"x\" }", "models", "step-3", "must be usable"],
    ["models={ \"a/b\" = \"x\" }", "models", "a/b", "must be usable"],
    ["select.split=odd", "select.split", "odd", "one of the splits"],
    ["select.decoding=sampled", "select.decoding", "sampled", "one of the decodings"],
    ["select.best=1", "select.best", "=1", "known keys are"],
];

#[test]
fn every_broken_evaluation_is_refused_with_key_value_and_mend() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/evaluate/tiny-sft.toml");
    let refusal = |change: &str| match rl_track::config::load::<EvaluationConfig>(&file, &[change.to_owned()]) {
        Ok(config) => config.validate().err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    let complaint = |[change, key, value, mend]: &[&str; 4]| match refusal(change) {
        None => Some(format!("{change}: accepted")),
        Some(message) => {
            let missing: Vec<&&str> = [key, value, mend].into_iter().filter(|part| !message.contains(**part)).collect();
            (!missing.is_empty()).then(|| format!("{change}: lacks {missing:?}: {message}"))
        }
    };
    let complaints: Vec<String> = CASES.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), CASES.len(), complaints.join("\n"));
}
