//! Broken files of data: every line of a file is fine but the one that a case puts in.

use std::fs;
use std::path::Path;

use rl_data::source::write_parquet;
use serde_json::json;

use super::{Base, Fixtures, complaint};

/// Which file is broken, the line (or the whole file), and what the message must say beside `data` and the file's name.
struct Row {
    base: Base,
    line: &'static [u8],
    /// The value or its place.
    value: &'static str,
    mend: &'static str,
}

const fn row(base: Base, line: &'static str, value: &'static str, mend: &'static str) -> Row {
    Row { base, line: line.as_bytes(), value, mend }
}

const USER: &str =
    r#"{"messages": [{"role": "user", "content": "Say dog."}, {"role": "assistant", "content": "dog"}]}"#;

const ROWS: &[Row] = &[
    // Conversations.
    row(Base::Sft, "{", "line 2", "a row is {\"messages\""),
    row(Base::Sft, "[]", "line 2", "a row is"),
    row(Base::Sft, "null", "line 2", "a row is"),
    row(Base::Sft, "3", "line 2", "a row is"),
    row(Base::Sft, "\"text\"", "line 2", "a row is"),
    row(Base::Sft, "{}", "column `messages`: missing", "a row is"),
    row(Base::Sft, r#"{"message": []}"#, "the other fields are `message`", "a row is"),
    row(Base::Sft, r#"{"messages": null}"#, "null", "a row is"),
    row(Base::Sft, r#"{"messages": "dog"}"#, "the text \"dog\"", "a row is"),
    row(Base::Sft, r#"{"messages": {}}"#, "an object", "a row is"),
    row(Base::Sft, r#"{"messages": [3]}"#, "3", "a row is"),
    row(Base::Sft, r#"{"messages": [{"role": "human", "content": "a"}]}"#, "human", "a row is"),
    row(Base::Sft, r#"{"messages": [{"role": 3, "content": "a"}]}"#, "the number 3", "a row is"),
    row(Base::Sft, r#"{"messages": [{"content": "a"}]}"#, "missing field `role`", "a row is"),
    row(Base::Sft, r#"{"messages": [{"role": "user"}]}"#, "field `content`: missing", "a row is"),
    row(Base::Sft, r#"{"messages": [{"role": "user", "content": null}]}"#, "null", "a row is"),
    row(Base::Sft, r#"{"messages": [{"role": "user", "content": 5}]}"#, "5", "a row is"),
    row(
        Base::Sft,
        r#"{"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]}"#,
        "a tool call needs",
        "a row is",
    ),
    row(Base::Sft, r#"{"messages": [{"role": "user", "content": "a", "image": "b"}]}"#, "image", "a row is"),
    row(Base::Sft, r#"{"messages": [], "messages": []}"#, "given twice", "a row is"),
    Row {
        base: Base::Sft,
        line: b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}",
        value: "line 2",
        mend: "a row is",
    },
    row(Base::Sft, r#"{"messages": [{"role": "user", "content": "\ud800"}]}"#, "line 2", "a row is"),
    row(Base::Sft, r#"{"messages": []}"#, "row 1", "selection.unusable"),
    row(Base::Sft, r#"{"messages": [{"role": "user", "content": "a"}]}"#, "row 1", "selection.unusable"),
    row(
        Base::Sft,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a<|im_end|>b"}]}"#,
        "<|im_end|>",
        "remove it",
    ),
    // Pairs.
    row(Base::Preference, "{}", "`chosen`", "a row is {\"prompt\""),
    row(Base::Preference, r#"{"prompt": "a", "chosen": "b"}"#, "`rejected`", "a row is"),
    row(Base::Preference, r#"{"prompt": "a", "rejected": "b"}"#, "`chosen`", "a row is"),
    row(Base::Preference, r#"{"chosen": "a", "rejected": "b"}"#, "`prompt`", "a row is"),
    row(Base::Preference, r#"{"prompt": null, "chosen": "a", "rejected": "b"}"#, "`prompt`", "a row is"),
    row(Base::Preference, r#"{"prompt": 3, "chosen": "a", "rejected": "b"}"#, "3", "a row is"),
    row(Base::Preference, r#"{"prompt": "a", "chosen": 1, "rejected": 2}"#, "1", "a row is"),
    row(Base::Preference, r#"{"prompt": "a", "chosen": [], "rejected": []}"#, "empty", "a row is"),
    row(
        Base::Preference,
        r#"{"prompt": "a", "chosen": "b", "rejected": [{"role": "assistant", "content": "c"}]}"#,
        "`rejected`",
        "a row is",
    ),
    row(
        Base::Preference,
        r#"{"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"}"#,
        "`prompt`",
        "a row is",
    ),
    row(
        Base::Preference,
        r#"{"prompt": "a", "chosen": [{"role": "user", "content": "b"}], "rejected": [{"role": "assistant", "content": "c"}]}"#,
        "user",
        "a row is",
    ),
    row(Base::Preference, r#"{"prompt": "a", "chosen": "b", "rejected": "c", "margin": "big"}"#, "big", "a row is"),
    row(Base::Preference, r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#, "row 1", "drop such rows"),
    row(Base::Reward, r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#, "row 1", "drop such rows"),
    row(Base::Reward, r#"{"prompt": "a", "chosen": "b", "rejected": null}"#, "`rejected`", "a row is"),
    row(Base::Reward, r#"{"prompt": "a", "chosen": {"b": 1}, "rejected": "c"}"#, "b", "a row is"),
    row(Base::Reward, "not json", "line 2", "a row is"),
    // Single answers.
    row(Base::Unpaired, "{}", "line 2", "a row is {\"prompt\""),
    row(Base::Unpaired, r#"{"prompt": "a", "completion": "b"}"#, "`label`", "a row is"),
    row(Base::Unpaired, r#"{"prompt": "a", "label": true}"#, "`completion`", "a row is"),
    row(Base::Unpaired, r#"{"completion": "a", "label": true}"#, "`prompt`", "a row is"),
    row(Base::Unpaired, r#"{"prompt": "a", "completion": "b", "label": "good"}"#, "good", "a row is"),
    row(Base::Unpaired, r#"{"prompt": "a", "completion": "b", "label": 3}"#, "3", "a row is"),
    row(Base::Unpaired, r#"{"prompt": "a", "completion": 3, "label": true}"#, "3", "a row is"),
    row(Base::Unpaired, r#"{"prompt": [], "completion": "b", "label": true}"#, "empty", "a row is"),
    // Prompts.
    row(Base::Prompts, "{}", "`prompt`", "a row is {\"prompt\""),
    row(Base::Prompts, r#"{"prompt": null, "answer": "a"}"#, "`prompt`", "a row is"),
    row(Base::Prompts, r#"{"prompt": 5, "answer": "a"}"#, "5", "a row is"),
    row(Base::Prompts, r#"{"prompt": [{"role": "assistant", "content": "a"}], "answer": "a"}"#, "`prompt`", "a row is"),
    // Distillation.
    row(Base::Distill, r#"{"messages": [{"role": "user", "content": "a"}]}"#, "row 1", "selection.unusable"),
    row(Base::Distill, r#"{"messages": 3}"#, "3", "a row is"),
];

/// Whole files.
const FILES: &[Row] = &[
    row(Base::Sft, "", "it has no rows", "a row is"),
    row(Base::Sft, "\n\n  \n", "it has no rows", "a row is"),
    row(Base::Preference, "", "it has no rows", "a row is"),
    row(Base::Reward, "", "it has no rows", "a row is"),
    row(Base::Unpaired, "", "it has no rows", "a row is"),
    row(Base::Prompts, "", "it has no rows", "a row is"),
    row(Base::Prompts, r#"{"prompt": "Say dog.", "reply": "dog"}"#, "answer", "its first has `reply`"),
    row(Base::Distill, "", "it has no rows", "a row is"),
    Row { base: Base::Sft, line: b"PAR1\x15\x04\x15\x10\x00\x00PAR1", value: "line 1", mend: "a row is" },
    Row { base: Base::Sft, line: b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", value: "line 1", mend: "a row is" },
    row(Base::Sft, "messages\nuser,dog", "line 1", "a row is"),
];

/// KTO compares the answers of a step with each other.
const ALONE: Row = row(
    Base::Unpaired,
    "{\"prompt\": \"a\", \"completion\": \"b\", \"label\": true}\n",
    "1 answer",
    "change `batch_size`",
);

/// Columns of a Parquet file that hold something else, and options that do not fit them: the options, what the message must
/// say.
const COLUMNS: &[(Base, &str, &str, &str)] = &[
    (Base::Sft, "", "column `messages`: expected a list of messages, found the number 7", "a row is"),
    (Base::Sft, "columns = { messages = \"mesages\" }", "mesages", "the nearest is `messages`"),
    (Base::Sft, "columns = { prompt = \"text\", completion = \"answer\" }", "answer", "the columns are"),
    (
        Base::Sft,
        "columns = { prompt = \"messages\", completion = \"text\" }",
        "column `messages`",
        "found the number 7",
    ),
    (Base::Preference, "", "no `chosen`", "name the columns"),
    (
        Base::Unpaired,
        "columns = { prompt = \"text\", completion = \"other\", label = \"messages\" }",
        "the number 7",
        "a row is",
    ),
    (Base::Prompts, "columns = { prompt = \"messages\" }", "the number 7", "a row is"),
    (Base::Distill, "layout = \"preference\"", "no `chosen`", "a row is"),
    (Base::Reward, "layout = \"messages\"", "layout = \"messages\" has none", "those that do: preference"),
    (Base::Sft, "split = \"train\"", "split = \"train\" chooses", "this is a file"),
];

/// Runs all cases; their number and what is wrong with the refusals.
pub fn run(fixtures: &Fixtures) -> (usize, Vec<String>) {
    let mut complaints = Vec::new();
    let mut count = 0;
    let file = fixtures.root().join("broken.jsonl");
    let table = fixtures.root().join("numbers.parquet");
    write_parquet(&table, || Ok([Ok(json!({"messages": 7, "text": "dog", "other": "red"}))].into_iter())).unwrap();
    for &(base, options, value, mend) in COLUMNS {
        count += 1;
        let (key, data) = change(base, &table);
        let (name, path) = data.split_once('=').unwrap();
        let data = format!("{name}={{ path = {path}{}{options} }}", if options.is_empty() { "" } else { ", " });
        complaints.extend(complaint(&data, [key, value, mend], || fixtures.refusal(base, &[&data])));
    }
    let mut check = |broken: &Row, bytes: Vec<u8>, further: &[&str]| {
        fs::write(&file, bytes).unwrap();
        count += 1;
        let (key, change) = change(broken.base, &file);
        let name = format!("{:?} {}", broken.base, String::from_utf8_lossy(broken.line));
        let changes = [&[change.as_str()], further].concat();
        complaints
            .extend(complaint(&name, [key, broken.value, broken.mend], || fixtures.refusal(broken.base, &changes)));
    };
    for broken in ROWS {
        check(broken, [good(broken.base).as_bytes(), b"\n", broken.line, b"\n"].concat(), &[]);
    }
    for broken in FILES {
        check(broken, broken.line.to_vec(), &[]);
    }
    check(&ALONE, ALONE.line.to_vec(), &["batch_size=2", "training.epochs=1", "-training.max_steps"]);
    // A line of 80 kB, which no limit of tokens lets through.
    let long = format!(
        r#"{{"messages": [{{"role": "user", "content": "{}"}}, {{"role": "assistant", "content": "a"}}]}}"#,
        "dog ".repeat(20_000)
    );
    let huge = Row { base: Base::Sft, line: b"80 kB", value: "above the limit 128", mend: "raise the limit" };
    check(&huge, [USER.as_bytes(), b"\n", long.as_bytes(), b"\n"].concat(), &[]);
    (count, complaints)
}

/// A line that is fine.
fn good(base: Base) -> &'static str {
    match base {
        Base::Sft | Base::New | Base::Distill => USER,
        Base::Reward | Base::Preference => r#"{"prompt": "Say dog.", "chosen": "dog", "rejected": "red"}"#,
        Base::Unpaired => r#"{"prompt": "Say dog.", "completion": "dog", "label": true}"#,
        Base::Prompts | Base::Game => r#"{"prompt": "Say dog.", "answer": "dog"}"#,
    }
}

/// The key that must be named, and the change that makes the configuration read `file`.
fn change(base: Base, file: &Path) -> (&'static str, String) {
    match base {
        Base::Prompts | Base::Game => ("rollout.task.data", format!("rollout.task.data=\"{}\"", file.display())),
        _ => ("`data`", format!("data=\"{}\"", file.display())),
    }
}
