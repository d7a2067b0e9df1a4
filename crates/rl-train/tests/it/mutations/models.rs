//! Broken model folders: copies of a small checkpoint, each with one file that does not fit.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Base, Fixtures, complaint};
use crate::preference_fixtures::small_policy;

/// What is done to a folder, and what the message must say beside the key.
struct Damage {
    name: &'static str,
    change: fn(&Path),
    value: &'static str,
    mend: &'static str,
}

const fn damage(name: &'static str, change: fn(&Path), value: &'static str, mend: &'static str) -> Damage {
    Damage { name, change, value, mend }
}

const WHOLE: &str = "give the folder of a whole checkpoint";

const DAMAGES: &[Damage] = &[
    damage("no configuration", |folder| remove(folder, "config.json"), "config.json", WHOLE),
    damage("no weights", |folder| remove(folder, "model.safetensors"), "model.safetensors", WHOLE),
    damage("no tokenizer", |folder| remove(folder, "tokenizer.json"), "tokenizer.json", WHOLE),
    damage("no template", |folder| remove(folder, "chat_template.jinja"), "chat_template", WHOLE),
    damage("torn configuration", |folder| tear(folder, "config.json"), "config.json", WHOLE),
    damage(
        "torn weights",
        |folder| tear(folder, "model.safetensors"),
        "model.safetensors",
        "copy or download it again",
    ),
    damage("torn tokenizer", |folder| tear(folder, "tokenizer.json"), "tokenizer", WHOLE),
    damage(
        "empty weights",
        |folder| fs::write(folder.join("model.safetensors"), b"").unwrap(),
        "model.safetensors",
        "again",
    ),
    damage("another family", |folder| set(folder, "model_type", json!("gpt2")), "gpt2", "only"),
    damage("another activation", |folder| set(folder, "hidden_act", json!("relu")), "relu", "only"),
    damage("more layers than weights", |folder| set(folder, "num_hidden_layers", json!(3)), "missing", "same model"),
    damage(
        "fewer layers than weights",
        |folder| set(folder, "num_hidden_layers", json!(1)),
        "unexpected",
        "same model",
    ),
    damage("wider than its weights", |folder| set(folder, "hidden_size", json!(64)), "wrong shape", "same model"),
    damage("a vocabulary that is too small", |folder| set(folder, "vocab_size", json!(10)), "10", "config"),
    damage("heads that do not divide", |folder| set(folder, "num_key_value_heads", json!(3)), "3", "must divide"),
    damage("no positions", |folder| set(folder, "max_position_embeddings", json!(0)), "0", "must be between"),
    damage(
        "an end that is no token",
        |folder| set(folder, "eos_token_id", json!(99_999)),
        "99999",
        "must be a token id",
    ),
    damage(
        "padding that is no token",
        |folder| set(folder, "pad_token_id", json!(99_999)),
        "99999",
        "must be a token id",
    ),
    damage("a template that is none", |folder| template(folder, "{% for %}"), "template", WHOLE),
    damage(
        "a template that never ends a turn",
        |folder| template(folder, "{{ messages[-1].content }}"),
        "special token",
        WHOLE,
    ),
    damage("a template of other tokens", |folder| template(folder, OTHER), "special token", WHOLE),
    damage(
        "an end of turn that is no token",
        |folder| tokenizer(folder, "eos_token", json!("<|none|>")),
        "<|none|>",
        WHOLE,
    ),
    damage("a tokenizer that is larger than the model", larger_tokenizer, "does not belong to this model", WHOLE),
];

const OTHER: &str = "{% for message in messages %}<start>{{ message.role }}\n{{ message.content }}<stop>\n{% endfor %}";

/// Runs all cases; their number and what is wrong with the refusals.
pub fn run(fixtures: &Fixtures) -> (usize, Vec<String>) {
    let mut complaints = Vec::new();
    let mut count = 0;
    for (index, Damage { name, change, value, mend }) in DAMAGES.iter().enumerate() {
        let folder = fixtures.root().join(format!("model-{index}"));
        copy(&small_policy(), &folder);
        change(&folder);
        // Every trainer opens models by the same road; each is asked in turn, as are the keys of further models.
        let places = [
            (Base::Sft, "model.path"),
            (Base::Reward, "model.path"),
            (Base::Preference, "reference.path"),
            (Base::Unpaired, "model.path"),
            (Base::Distill, "teacher.path"),
            (Base::Prompts, "model.path"),
        ];
        let (base, key) = places[index % places.len()];
        let change = format!("{key}=\"{}\"", folder.display());
        count += 1;
        complaints.extend(complaint(name, [key, value, mend], || fixtures.refusal(base, &[&change])));
    }
    // A model of another vocabulary, and a policy where a reward model is asked for.
    let others = [
        (Base::Preference, "reference.path", crate::fixtures::half_trained(), "vocabulary"),
        (Base::Prompts, "reward.sources.0.source", small_policy(), "is no reward model"),
    ];
    for (base, key, folder, value) in others {
        let (change, key) = match base {
            Base::Prompts => (
                format!("{key}={{ kind = \"reward_model\", path = \"{}\" }}", folder.display()),
                "reward.sources[word].source.path",
            ),
            _ => (format!("{key}=\"{}\"", folder.display()), key),
        };
        count += 1;
        let parts = [key, value, &folder.display().to_string()];
        complaints.extend(complaint(key, parts, || fixtures.refusal(base, &[&change])));
    }
    (count, complaints)
}

fn copy(model: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn remove(folder: &Path, file: &str) {
    fs::remove_file(folder.join(file)).unwrap();
}

fn tear(folder: &Path, file: &str) {
    let bytes = fs::read(folder.join(file)).unwrap();
    fs::write(folder.join(file), &bytes[..bytes.len() / 2]).unwrap();
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn set(folder: &Path, key: &str, value: Value) {
    edit(&folder.join("config.json"), |config| config[key] = value);
}

fn tokenizer(folder: &Path, key: &str, value: Value) {
    edit(&folder.join("tokenizer_config.json"), |config| config[key] = value);
}

fn template(folder: &Path, text: &str) {
    fs::write(folder.join("chat_template.jinja"), text).unwrap();
}

fn larger_tokenizer(folder: &Path) {
    edit(&folder.join("tokenizer.json"), |json| {
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        let length = vocab.len();
        for further in 0..40 {
            vocab.insert(format!("zzzz{further}"), (length + further).into());
        }
    });
}
