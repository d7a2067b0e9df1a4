//! Data in the forms in which people have it: the same rows give the same run whatever file holds them, and mixes and shares
//! visit exactly what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rl_data::source::{ConvertConfig, Layout};
use rl_data::{ChatRecord, DatasetConfig, HashSplit, Message, Role, Tokenizer, read_jsonl, write_jsonl};
use rl_train::plan::{FilePlan, Planned, plan};
use rl_train::{Method, Preference, RewardModel, Rl, Sft, SftConfig, Unpaired};
use serde_json::json;

use crate::fixtures::*;
use crate::preference_fixtures::{self as pairs, DPO, KTO, small_policy};
use crate::record::{assert_same, files};
use crate::rl_fixtures::{GROUP, half_copying, words_config};

/// The same rows as Parquet, beside the file.
fn as_parquet(file: &Path, to: Layout) -> PathBuf {
    let out = file.with_extension("parquet");
    ConvertConfig { from: file.into(), to, out: out.clone() }.run().unwrap();
    out
}

/// What a plan counts of each dataset.
fn counts<C: Planned>(config: &C) -> Vec<(usize, usize, Vec<usize>, u64, u64)> {
    let count = |file: FilePlan| (file.rows, file.kept, file.lengths, file.tokens, file.trained);
    plan(config).unwrap().files.into_iter().map(count).collect()
}

/// Both configurations plan the same rows and train to the same bytes.
fn assert_alike<M: Method>(folder: &Path, config: impl Fn(&str, &[&str]) -> M::Config, changes: &[&str])
where
    M::Config: Planned,
{
    let (lines, tables) = (config("lines", &[]), config("tables", changes));
    assert_eq!(counts(&lines), counts(&tables));
    train::<M>(lines);
    train::<M>(tables);
    assert_same(&folder.join("tables"), &folder.join("lines"));
}

fn to_data(key: &str, path: &Path) -> String {
    format!("{key}={:?}", path.display().to_string())
}

#[test]
fn conversations_train_alike_from_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let held_out = to_data("held_out.seen", &data);
    let config = |name: &str, changes: &[&str]| {
        let changes = [&[held_out.as_str(), "training.checkpoints.every=8"], changes].concat();
        sft_config(folder.path(), name, &data, &changes)
    };
    let table = as_parquet(&data, Layout::Messages);
    assert_alike::<Sft>(folder.path(), config, &[&to_data("data", &table), &to_data("held_out.seen", &table)]);

    // Other columns, in two shards of a folder with splits.
    let shards = folder.path().join("copy");
    fs::create_dir_all(shards.join("data")).unwrap();
    let records: Vec<ChatRecord> = read_jsonl(&data).unwrap();
    let row = |record: &ChatRecord| json!({"ask": record.messages[0].content, "say": record.messages[1].content});
    for (shard, records) in records.chunks(25).enumerate() {
        let file = shards.join(format!("data/train-{shard:05}-of-00002.jsonl"));
        write_jsonl(file, records.iter().map(row)).unwrap();
    }
    write_jsonl(shards.join("data/test-00000-of-00001.jsonl"), records[..4].iter().map(row)).unwrap();
    let columns = r#"columns = { prompt = "ask", completion = "say" }"#;
    let named = format!("data={{ path = {:?}, split = \"train\", {columns} }}", shards.display().to_string());
    train::<Sft>(config("shards", &[&named]));
    assert_same(&folder.path().join("shards"), &folder.path().join("lines"));
}

#[test]
fn pairs_answers_and_prompts_train_alike_from_parquet() {
    let files = pairs::files();
    let table = as_parquet(&files.pairs, Layout::Preference);
    let table = to_data("data", &table);
    let folder = |files: &pairs::Files| files.root().to_path_buf();
    assert_alike::<Preference>(&folder(&files), |name, changes| files.preference(name, DPO, changes), &[&table]);
    for name in ["lines", "tables"] {
        fs::remove_dir_all(files.root().join(name)).unwrap();
    }
    assert_alike::<RewardModel>(&folder(&files), |name, changes| files.reward_model(name, changes), &[&table]);
    for name in ["lines", "tables"] {
        fs::remove_dir_all(files.root().join(name)).unwrap();
    }
    let table = to_data("data", &as_parquet(&files.answers, Layout::Unpaired));
    assert_alike::<Unpaired>(&folder(&files), |name, changes| files.unpaired(name, KTO, changes), &[&table]);

    let folder = tempfile::tempdir().unwrap();
    drop(words_config(folder.path(), "unused", GROUP, &[]));
    let table = as_parquet(&folder.path().join("prompts.jsonl"), Layout::Prompt);
    let table = to_data("rollout.task.data", &table);
    assert_alike::<Rl>(folder.path(), |name, changes| words_config(folder.path(), name, GROUP, changes), &[&table]);
}

/// 40 rows of the copy task and 6 of other words, mixed.
fn mixed(folder: &Path, name: &str, mix: &str, changes: &[&str]) -> SftConfig {
    let (data, other) = (folder.join("copy.jsonl"), folder.join("other.jsonl"));
    write_copy_task(&data);
    let row = |word: &str| ChatRecord::new(vec![Message::user(format!("Say {word}.")), Message::assistant(word)]);
    write_jsonl(&other, ["one", "two", "ten", "elm", "fig", "owl"].map(row)).unwrap();
    let mix =
        format!("data={{ datasets = [{:?}, {:?}], {mix} }}", data.display().to_string(), other.display().to_string());
    sft_config(folder, name, &data, &[&[mix.as_str()], changes].concat())
}

#[test]
fn a_mix_visits_its_counts_and_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mix = r#"weights = [3, 1], stop = "first_exhausted""#;
    // The second is used up by 4 * 6 = 24 rows: 18 of the first, 6 of the second; three epochs are 72 rows.
    let changes = ["batch_size=16", "training.checkpoints.every=2"];
    let config = |name: &str| {
        let mut config = mixed(folder.path(), name, mix, &changes);
        (config.training.max_steps, config.training.epochs) = (None, Some(3));
        config
    };
    let planned = plan(&config("whole")).unwrap();
    let rows: Vec<_> = planned.files.iter().map(|file| (file.key.as_str(), file.kept, file.epoch_rows)).collect();
    assert_eq!((rows, planned.steps), (vec![("data.datasets.0", 40, 18), ("data.datasets.1", 6, 6)], 5));
    train::<Sft>(config("whole"));
    let labels: f64 = curve(&folder.path().join("whole"), "train", "num_labels").iter().sum();
    // Every row of the second comes three times; 54 visits of the first are each row once and 14 of them again.
    let of = |file: usize| planned.files[file].trained as f64;
    assert!(of(0) + 3.0 * of(1) < labels && labels < 2.0 * of(0) + 3.0 * of(1), "{labels}");
    for _ in 0..5 {
        train_one_step::<Sft>(config("parts"));
    }
    assert_same(&folder.path().join("parts"), &folder.path().join("whole"));

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("whole/manifest.json")).unwrap()).unwrap();
    let hash = |name: &str| rl_track::hash::sha256_bytes(&fs::read(folder.path().join(name)).unwrap());
    assert_eq!(manifest["inputs"]["data.datasets.0"], hash("copy.jsonl"));
    assert_eq!(manifest["inputs"]["data.datasets.1"], hash("other.jsonl"));
}

#[test]
fn a_share_is_held_out_by_prompt_and_not_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let (share, seed) = (0.4, 2);
    let split = HashSplit::new(seed, share).unwrap();
    let records: Vec<ChatRecord> = read_jsonl(&data).unwrap();
    let (held_out, kept): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| split.holds_out(&record.messages[..1]).unwrap());
    assert!(8 <= held_out.len() && 8 <= kept.len(), "{}", held_out.len());
    let (kept_file, held_out_file) = (folder.path().join("kept.jsonl"), folder.path().join("held-out.jsonl"));
    write_jsonl(&kept_file, &kept).unwrap();
    write_jsonl(&held_out_file, &held_out).unwrap();

    let by_hash = format!("held_out.validation={{ share = {share}, seed = {seed} }}");
    let config = |name: &str, changes: &[&str]| match name {
        "lines" => sft_config(folder.path(), name, &kept_file, &[&to_data("held_out.validation", &held_out_file)]),
        _ => sft_config(folder.path(), name, &data, changes),
    };
    assert_alike::<Sft>(folder.path(), config, &[&by_hash]);
    let keys: Vec<String> =
        plan(&config("tables", &[&by_hash])).unwrap().files.into_iter().map(|file| file.key).collect();
    assert_eq!(keys, ["data", "held_out.validation"]);
}

#[test]
fn rows_keep_the_numbers_of_their_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let mut records: Vec<ChatRecord> = read_jsonl(&data).unwrap();
    for row in [17, 18, 19, 20, 21, 22, 23, 24] {
        records[row].messages.truncate(1);
        let broken: Vec<ChatRecord> = records.clone();
        write_jsonl(&data, &broken).unwrap();
        let config = sft_config(folder.path(), "run", &data, &["held_out.apart={ share = 0.4, seed = 2 }"]);
        let error = plan(&config).unwrap_err().to_string();
        let sides = ["`data`", "`held_out.apart`"];
        assert!(error.contains(&format!("row {row}")) && sides.iter().any(|side| error.contains(side)), "{error}");
        write_copy_task(&data);
        records = read_jsonl(&data).unwrap();
    }
}

/// The small policy with another chat template.
fn with_template(folder: &Path, model: &Path, template: &str) -> PathBuf {
    let copy = folder.join("model");
    fs::create_dir_all(&copy).unwrap();
    for (name, bytes) in files(model) {
        fs::write(copy.join(name), bytes).unwrap();
    }
    fs::write(copy.join("chat_template.jinja"), template).unwrap();
    copy
}

#[test]
fn ends_of_turns_are_required_unless_the_configuration_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    // Only the last message is ended.
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if loop.last or m.role == 'user' %}\
                    <|im_end|>{% endif %}\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let model = with_template(folder.path(), &small_policy(), template);
    let data = folder.path().join("two-turns.jsonl");
    let turn = |word: &str| [Message::user(format!("Say {word}.")), Message::assistant(word)];
    write_jsonl(&data, [ChatRecord::new([turn("dog"), turn("red")].concat())]).unwrap();
    let config = |change: &str| {
        let mut config = sft_config(folder.path(), "run", &data, &[change]);
        config.model = rl_train::ModelConfig::from_path(&model);
        plan(&config)
    };
    let error = config("end_of_turn=required").unwrap_err().to_string();
    assert!(error.contains("message 1") && error.contains("would not be trained"), "{error}");
    assert_eq!(config("end_of_turn=optional").unwrap().files[0].kept, 1);
    let default = sft_config(folder.path(), "run", &data, &[]);
    assert!(!rl_track::config::to_toml(&default).unwrap().contains("end_of_turn"));
}

#[test]
fn tools_of_a_prompt_are_rendered_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("tools.jsonl");
    let tools = json!([{"type": "function", "function": {"name": "sea", "parameters": {}}}]);
    write_jsonl(&data, [json!({"prompt": "Say dog.", "answer": "dog", "tools": tools})]).unwrap();
    let changes = |model: &Path, further: &[&str]| {
        let (data, model) = (to_data("rollout.task.data", &data), to_data("model.path", model));
        let further = [&[data.as_str(), model.as_str()], further].concat();
        plan(&words_config(folder.path(), "run", GROUP, &further))
    };
    let silent = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                  {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let model = with_template(folder.path(), &half_copying(), silent);
    let error = changes(&model, &[]).unwrap_err().to_string();
    assert!(error.contains("`rollout.task.data`") && error.contains("prints nothing of the row's `tools`"), "{error}");
    let error = changes(&half_copying(), &["rollout.task.plain=true"]).unwrap_err().to_string();
    assert!(error.contains("row 1") && error.contains("would lose the row's `tools`"), "{error}");

    let printing = &format!("{{% if tools %}}{{{{ tools[0].function.name }}}}\n{{% endif %}}{silent}");
    let model = with_template(folder.path(), &half_copying(), printing);
    let renderer = rl_data::Renderer::from_folder(&model).unwrap();
    let with =
        renderer.tokenizer().encode("sea\n<|im_start|>user\nSay dog.<|im_end|>\n<|im_start|>assistant\n").unwrap();
    assert_eq!(changes(&model, &[]).unwrap().files[0].lengths, [with.len()]);
}

#[test]
fn all_files_of_a_dataset_are_in_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shards");
    fs::create_dir(&root).unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        write_copy_task(&root.join(name));
    }
    let inputs = |name: &str| -> BTreeMap<String, String> {
        let mut config = sft_config(folder.path(), name, &root, &["training.max_steps=1"]);
        config.data = DatasetConfig::from(root.as_path()).into();
        train::<Sft>(config);
        let text = fs::read(folder.path().join(name).join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        serde_json::from_value(manifest["inputs"].clone()).unwrap()
    };
    let before = inputs("before");
    let sums: String = ["a.jsonl", "b.jsonl"]
        .map(|name| format!("{}  {name}\n", rl_track::hash::sha256_bytes(&fs::read(root.join(name)).unwrap())))
        .concat();
    assert_eq!(before["data"], rl_track::hash::sha256_bytes(sums.as_bytes()));
    let text = fs::read_to_string(root.join("b.jsonl")).unwrap().replacen("dog", "fox", 2);
    fs::write(root.join("b.jsonl"), text).unwrap();
    assert_ne!(inputs("after")["data"], before["data"]);
}

#[test]
fn a_new_tokenizer_may_know_what_the_first_data_lack() {
    const WORD: &str = " zyzzyva";
    let folder = tempfile::tempdir().unwrap();
    let (data, wider) = (folder.path().join("copy.jsonl"), folder.path().join("wider.jsonl"));
    write_copy_task(&data);
    let row = ChatRecord::new([Role::User, Role::Assistant].map(|role| Message::new(role, WORD.repeat(20))).to_vec());
    write_jsonl(&wider, &[row]).unwrap();

    let tokens_of_word = |name: &str, changes: &[&str]| {
        let changes = [&["training.max_steps=1", "training.checkpoints.every=1"], changes].concat();
        let config = sft_config(folder.path(), name, &data, &changes);
        let planned = plan(&config).unwrap().files[0].tokens;
        train::<Sft>(config);
        let run = folder.path().join(name);
        let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
        let tokenizer = Tokenizer::from_folder(run.join("checkpoints/step-000001")).unwrap();
        (tokenizer.encode(WORD).unwrap().len(), planned, manifest.contains("\"tokenizer_data\""))
    };
    let key = to_data("model.new.tokenizer_data", &wider);
    let (own, wide) = (tokens_of_word("own", &[]), tokens_of_word("wide", &[&key]));
    assert_eq!((wide.0, wide.2), (1, true));
    assert!(own.0 > 1 && !own.2, "{own:?}");
    assert!(own.1 < wide.1, "the plan counts with the tokenizer that the run will train: {} and {}", own.1, wide.1);
}
