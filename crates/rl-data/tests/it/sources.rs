//! Datasets as people have them: formats, layouts, folders, downloaded datasets, and what is refused with which words.

use std::fs;
use std::path::{Path, PathBuf};

use rl_data::hub::CacheRoots;
use rl_data::source::{ColumnMap, ConvertConfig};
use rl_data::{
    ChatRecord, DatasetConfig, Error, Layout, Message, Place, PreferenceRecord, PromptRecord, Record, UnpairedRecord,
};
use serde_json::{Value as Json, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A dataset of one file with this content.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> DatasetConfig {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        DatasetConfig::from(path.as_path())
    }

    fn rows(&self, name: &str, rows: &[Json]) -> DatasetConfig {
        self.write(name, rows.iter().map(|row| format!("{row}\n")).collect::<String>())
    }
}

fn message_of<R: Record>(dataset: &DatasetConfig) -> String {
    match dataset.read::<R>() {
        Ok(_) => panic!("{dataset} was read"),
        Err(error) => error.to_string(),
    }
}

fn check_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{message}` should contain `{part}`");
    }
}

fn turn(role: &str, content: &str) -> Json {
    json!({"role": role, "content": content})
}

fn columns(map: Json) -> ColumnMap {
    serde_json::from_value(map).unwrap()
}

#[test]
fn every_text_format_holds_the_same_rows() {
    let folder = Folder::new();
    let rows = [
        json!({"prompt": "a { [ \" \\ b", "n": [1, {"x": "]}"}]}),
        json!({"prompt": "\u{2028}ü"}),
        json!({"prompt": "c"}),
    ];
    let expected: Vec<PromptRecord> = rows.iter().map(|row| serde_json::from_value(row.clone()).unwrap()).collect();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let array = Json::from(rows.to_vec());
    for (name, content) in [
        ("a.jsonl", lines.clone()),
        ("blank.jsonl", lines.replace('\n', "\r\n\n")),
        ("mark.jsonl", format!("\u{feff}{lines}")),
        ("unended.ndjson", lines.trim_end().to_owned()),
        ("array.json", array.to_string()),
        ("pretty.json", format!("\u{feff} {:#}\n", array)),
        ("lines.json", lines.clone()),
        ("objects.json", rows.iter().map(|row| format!("{row:#}")).collect()),
    ] {
        assert_eq!(folder.write(name, content).read::<PromptRecord>().unwrap(), expected, "{name}");
    }
    // A pattern reads its files in the order of their names.
    for (name, row) in [("s/b.jsonl", &rows[1]), ("s/a.jsonl", &rows[0]), ("s/c.jsonl", &rows[2])] {
        folder.rows(name, std::slice::from_ref(row));
    }
    let pattern = DatasetConfig::from(folder.path("s/*.jsonl").as_path());
    assert_eq!(pattern.read::<PromptRecord>().unwrap(), expected);
    let some = DatasetConfig { max_rows: Some(2), ..pattern };
    assert_eq!(some.read::<PromptRecord>().unwrap(), expected[..2]);
}

#[test]
fn a_text_file_is_read_as_a_stream() {
    let folder = Folder::new();
    // What comes after the second row is broken; the rows before it come all the same.
    for (name, content, place) in [
        ("a.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n{\"prom", "line 3"),
        ("a.json", "[{\"prompt\":\"a\"},\n{\"prompt\":\"b\"},{\"prom", "row 2"),
        ("comma.json", "[{\"prompt\":\"a\"},{\"prompt\":\"b\"} {}]", "row 2"),
        ("more.json", "[{\"prompt\":\"a\"},{\"prompt\":\"b\"}] 3", "row 2"),
        ("other.json", "[{\"prompt\":\"a\"},{\"prompt\":\"b\"}, \"c\"]", "row 2"),
    ] {
        let mut stream = folder.write(name, content).stream::<PromptRecord>().unwrap();
        let read: Vec<_> = stream.by_ref().take(2).map(Result::unwrap).collect();
        assert_eq!(read, ["a", "b"].map(PromptRecord::new), "{name}");
        check_parts(&stream.next().unwrap().unwrap_err().to_string(), &[name, place]);
        assert!(stream.next().is_none());
    }
}

#[test]
fn layouts_are_found_by_their_columns() {
    let folder = Folder::new();
    let chat = ChatRecord::new(vec![Message::user("q"), Message::assistant("a")]);
    let whole = |answer| json!([turn("user", "q"), turn("assistant", answer)]);
    for (row, layout) in [
        (json!({"messages": whole("a")}), Layout::Messages),
        (json!({"message": whole("a")}), Layout::Messages),
        (json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}), Layout::Messages),
        (json!({"conversation": whole("a")}), Layout::Messages),
        (json!({"prompt": "q", "completion": "a"}), Layout::PromptCompletion),
        (json!({"query": "q", "response": "a"}), Layout::PromptCompletion),
        (json!({"prompt": [turn("user", "q")], "completion": [turn("assistant", "a")]}), Layout::PromptCompletion),
        (json!({"context_messages": [turn("user", "q")], "response": "a"}), Layout::PromptCompletion),
    ] {
        let dataset = folder.rows("chat.jsonl", std::slice::from_ref(&row));
        assert_eq!(dataset.read::<ChatRecord>().unwrap(), std::slice::from_ref(&chat), "{row}");
        assert_eq!(dataset.detect::<ChatRecord>().unwrap().layout, layout);
    }

    let pair = PreferenceRecord::new("q", "a", "b");
    for row in [
        json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
        json!({"context_messages": [turn("user", "q")], "chosen": "a", "rejected": "b"}),
        json!({"context_messages": [turn("user", "q")], "chosen": [turn("assistant", "a")], "rejected": [turn("assistant", "b")]}),
        json!({"prompt": "q", "chosen": turn("assistant", "a"), "rejected": {"from": "gpt", "value": "b"}}),
        json!({"chosen": whole("a"), "rejected": whole("b")}),
        json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
    ] {
        let dataset = folder.rows("pairs.jsonl", std::slice::from_ref(&row));
        assert_eq!(dataset.read::<PreferenceRecord>().unwrap(), std::slice::from_ref(&pair), "{row}");
    }

    let judged = json!({"context_messages": [turn("user", "q")], "completion": "a", "label": true});
    let read = folder.rows("judged.jsonl", &[judged]).read::<UnpairedRecord>().unwrap();
    assert_eq!(read, [UnpairedRecord::new("q", "a", true)]);

    for (row, layout) in [
        (json!({"prompt": "q"}), Layout::Prompt),
        (json!({"context_messages": [turn("user", "q")]}), Layout::Prompt),
        (json!({"messages": [turn("user", "q")]}), Layout::Messages),
    ] {
        let dataset = folder.rows("prompts.jsonl", std::slice::from_ref(&row));
        assert_eq!(dataset.read::<PromptRecord>().unwrap(), [PromptRecord::new("q")], "{row}");
        assert_eq!(dataset.detect::<PromptRecord>().unwrap().layout, layout);
    }
}

#[test]
fn detection_says_what_it_decided_and_why() {
    let folder = Folder::new();
    let row = json!({"id": 3, "query": "q", "response": "a", "source": null});
    let dataset = folder.rows("a.jsonl", &[row]);
    let said = "layout prompt_completion (by its columns): prompt is `query`, text, completion is `response`, text; kept \
                with the record: `id`, `source`";
    assert_eq!(dataset.detect::<ChatRecord>().unwrap().to_string(), said);
    let named = DatasetConfig { layout: Some(Layout::Prompt), ..dataset };
    let said =
        "layout prompt (as configured): prompt is `query`, text; kept with the record: `id`, `response`, `source`";
    assert_eq!(named.detect::<PromptRecord>().unwrap().to_string(), said);
}

#[test]
fn a_column_map_names_what_is_meant() {
    let folder = Folder::new();
    let rows = [json!({"question": "q", "answer": "a", "prompt": "p", "completion": "c", "good": false})];
    let dataset = folder.rows("a.jsonl", &rows);
    let mapped = DatasetConfig {
        columns: columns(json!({"prompt": "question", "completion": "answer", "label": "good"})),
        ignore: vec!["prompt".into(), "completion".into()],
        ..dataset.clone()
    };
    assert_eq!(mapped.read::<UnpairedRecord>().unwrap(), [UnpairedRecord::new("q", "a", false)]);
    // A column with the usual name beside the one that is meant would be lost or taken for it.
    let shadowed = DatasetConfig { ignore: Vec::new(), ..mapped.clone() };
    check_parts(&message_of::<UnpairedRecord>(&shadowed), &["`prompt` beside `question`", "`ignore`"]);
    // The map decides which layouts come into question: `label` is none of a conversation's columns.
    check_parts(&message_of::<ChatRecord>(&mapped), &["it has no `label`, which `columns` names"]);
    let absent = DatasetConfig { columns: columns(json!({"prompt": "questions"})), ..dataset };
    let parts = ["columns.prompt = \"questions\" is not there", "the nearest is `question`", "`question`, `answer`"];
    check_parts(&message_of::<PromptRecord>(&absent), &parts);

    // So it is where only a later row has both.
    let later = folder.rows("later.jsonl", &[json!({"query": "q"}), json!({"query": "q", "prompt": "p"})]);
    let parts = ["later.jsonl` line 2, column `query`: the row has a `prompt` too"];
    check_parts(&message_of::<PromptRecord>(&later), &parts);

    let scores = [json!({"chosen": "a", "rejected": "b", "prompt": "q", "good": 4, "bad": 1.5})];
    let scored = DatasetConfig {
        columns: columns(json!({"chosen_score": "good", "rejected_score": "bad"})),
        ..folder.rows("s.jsonl", &scores)
    };
    let pair = &scored.read::<PreferenceRecord>().unwrap()[0];
    assert_eq!((pair.margin, &pair.extra["chosen_score"]), (Some(2.5), &json!(4)));
}

#[test]
fn what_is_ambiguous_or_missing_is_refused_with_a_mend() {
    let folder = Folder::new();
    let dataset = folder.rows("a.jsonl", &[json!({"promt": "q", "text": "a"})]);
    let parts = [
        "holds no conversations: not messages: no `messages` or `conversations`",
        "not prompt_completion: no `prompt` or `context_messages` or `query` (the nearest is `promt`)",
        "the columns are `promt`, `text`",
        "columns = { prompt = \"question\" }",
    ];
    check_parts(&message_of::<ChatRecord>(&dataset), &parts);

    let two = json!({"query": "q", "context_messages": [turn("user", "q")]});
    let parts = ["both `context_messages` and `query` may be the prompt", "columns.prompt = "];
    check_parts(&message_of::<PromptRecord>(&folder.rows("two.jsonl", &[two])), &parts);

    // Judged answers are not learnt all alike, nor are pairs taken for conversations, unless that is asked for.
    let judged = folder.rows("judged.jsonl", &[json!({"prompt": "q", "completion": "a", "label": false})]);
    let parts = ["`label` judges the completions", "layout = \"prompt_completion\" would fit"];
    check_parts(&message_of::<ChatRecord>(&judged), &parts);
    let all = DatasetConfig { layout: Some(Layout::PromptCompletion), ..judged };
    assert_eq!(all.read::<ChatRecord>().unwrap().len(), 1);
    let pairs = folder.rows("pairs.jsonl", &[json!({"prompt": "q", "chosen": "a", "rejected": "b"})]);
    check_parts(&message_of::<ChatRecord>(&pairs), &["layout = \"preference\" would fit"]);
    let pairs = DatasetConfig { layout: Some(Layout::Preference), ..pairs };
    let answers = [Message::user("q"), Message::assistant("a")];
    assert_eq!(pairs.read::<ChatRecord>().unwrap()[0].messages, answers);
    let judged: Vec<_> = pairs.read::<UnpairedRecord>().unwrap();
    assert_eq!(judged, [UnpairedRecord::new("q", "a", true), UnpairedRecord::new("q", "b", false)]);
    let wrong = DatasetConfig { layout: Some(Layout::Unpaired), ..pairs };
    let parts = ["layout = \"unpaired\" has none; those that do: messages, prompt_completion, preference"];
    check_parts(&message_of::<ChatRecord>(&wrong), &parts);
}

#[test]
fn a_wrong_cell_is_named_by_file_place_and_column() {
    let folder = Folder::new();
    let good = json!({"question": "q", "answer": "a"});
    let map = columns(json!({"prompt": "question", "completion": "answer"}));
    for (bad, column, problem) in [
        (
            json!({"question": 3.5, "answer": "a"}),
            "question",
            "expected text or a list of messages, found the number 3.5",
        ),
        (json!({"question": "q", "answer": null}), "answer", "missing or null"),
        (json!({"question": "q", "answer": [turn("assistant", "a"), 7]}), "answer", "message 1: expected an object"),
        (json!({"question": [{"role": "user", "content": null}], "answer": "a"}), "question", "`content`"),
        (
            json!({"question": [{"role": "robot", "content": "x"}], "answer": "a"}),
            "question",
            "unknown variant `robot`",
        ),
        (
            json!({"question": [{"from": "alien", "value": "x"}], "answer": "a"}),
            "question",
            "`from` must be one of human",
        ),
        (
            json!({"question": [{"role": "user", "content": ["x"]}], "answer": "a"}),
            "question",
            "`content` must be text, found a list of 1",
        ),
        (json!({"question": [{"role": "user", "content": "x", "images": [1]}], "answer": "a"}), "question", "images"),
        (json!({"question": true, "answer": "a"}), "question", "found true"),
    ] {
        let dataset = folder.rows("a.jsonl", &[good.clone(), bad.clone()]);
        let dataset = DatasetConfig { columns: map.clone(), ..dataset };
        let error = dataset.read::<ChatRecord>().unwrap_err();
        assert!(
            matches!(&error, Error::Cell { place: Place::Line(2), column: found, .. } if found == column),
            "{error}"
        );
        check_parts(&error.to_string(), &["a.jsonl` line 2, column", problem]);
    }
    // The same in a JSON array, whose rows are counted from 0; the first row is no exception.
    let array = folder.write("a.json", json!([{"prompt": "q", "completion": "a", "label": "yes"}]).to_string());
    let message = message_of::<UnpairedRecord>(&array);
    check_parts(&message, &["a.json` row 0, column `label`: expected true or false, found the text \"yes\""]);
    // Long text is cut in a message.
    let long = folder.rows("long.jsonl", &[json!({"messages": "x".repeat(10_000)})]);
    let message = message_of::<ChatRecord>(&long);
    check_parts(&message, &["line 1, column `messages`: expected a list of messages, found the text"]);
    assert!(message.len() < 300, "{}", message.len());
}

#[test]
fn files_that_are_no_datasets_are_refused() {
    let folder = Folder::new();
    for (name, content, parts) in [
        ("empty.jsonl", &b""[..], &["empty.jsonl", "it has no rows"][..]),
        ("empty.json", b" ", &["it has no rows"]),
        ("none.json", b"[ ]", &["it has no rows"]),
        ("empty.parquet", b"", &["empty.parquet"]),
        ("latin.jsonl", b"{\"prompt\":\"a\"}\n{\"prompt\":\"\xe9\"}\n", &["latin.jsonl` line 2", "invalid unicode"]),
        ("latin.json", b"[{\"prompt\":\"a\"},{\"prompt\":\"\xe9\"}]", &["latin.json` row 1", "invalid unicode"]),
        ("number.jsonl", b"3\n", &["number.jsonl` line 1", "an object with the fields of one row"]),
        ("number.json", b"3", &["number.json` row 0", "found `3`"]),
        ("plain.jsonl.gz", b"{\"prompt\":\"a\"}\n", &["plain.jsonl.gz"]),
        ("plain.jsonl.zst", b"{\"prompt\":\"a\"}\n", &["plain.jsonl.zst"]),
        ("twice.jsonl", b"{\"prompt\":\"a\",\"prompt\":\"b\"}\n", &["`prompt`: given twice"]),
        ("table.csv", b"prompt\na\n", &["must end in .parquet, .jsonl, .ndjson or .json"]),
    ] {
        check_parts(&message_of::<PromptRecord>(&folder.write(name, content)), parts);
    }
    // Packed text that is cut off gives the rows before it or none, and then an error.
    for ending in ["gz", "zst"] {
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet/chat.jsonl").display().to_string();
        let whole = fs::read(format!("{golden}.{ending}")).unwrap();
        let cut = folder.write(&format!("cut.jsonl.{ending}"), &whole[..whole.len() / 2]);
        check_parts(&message_of::<ChatRecord>(&cut), &["cannot read", "cut.jsonl"]);
    }
    let none = DatasetConfig { max_rows: Some(0), ..folder.rows("a.jsonl", &[json!({"prompt": "a"})]) };
    assert!(matches!(none.read::<PromptRecord>(), Err(Error::Setting { name: "max_rows", .. })));
    for (name, part) in [
        ("absent.jsonl", "there is no such file or folder"),
        ("x/*.jsonl", "no file matches the pattern"),
        ("a[.jsonl", "the pattern is not valid"),
        ("", "there is no such file"),
    ] {
        let path = folder.path(name).display().to_string();
        let dataset = DatasetConfig::new(if name.is_empty() { "" } else { &path });
        check_parts(&message_of::<PromptRecord>(&dataset), &[part]);
    }
    let split = DatasetConfig { split: Some("train".into()), ..folder.rows("a.jsonl", &[json!({"prompt": "a"})]) };
    check_parts(&message_of::<PromptRecord>(&split), &["split = \"train\" chooses among the files of a folder"]);
}

#[test]
fn folders_have_splits_subsets_and_shards() {
    let folder = Folder::new();
    let row = |text: &str| json!({"prompt": text});
    folder.rows("set/data/train_prefs-00000-of-00002.jsonl", &[row("a")]);
    folder.rows("set/data/train_prefs-00001-of-00002.jsonl", &[row("b")]);
    folder.rows("set/data/test_prefs-00000-of-00001.jsonl", &[row("c")]);
    folder.write("set/README.md", "about");
    folder.write("set/dataset_infos.json", "{}");
    folder.write("set/.cache/x.jsonl", "{}");
    let set = DatasetConfig::from(folder.path("set").as_path());
    let of = |split: &str| DatasetConfig { split: Some(split.into()), ..set.clone() };
    assert_eq!(of("train_prefs").read::<PromptRecord>().unwrap(), ["a", "b"].map(PromptRecord::new));
    assert_eq!(of("test_prefs").read::<PromptRecord>().unwrap(), [PromptRecord::new("c")]);
    let parts = ["it has several splits", "`test_prefs`, `train_prefs`"];
    check_parts(&message_of::<PromptRecord>(&set), &parts);
    let parts = ["there is no split \"train_pref\"", "the nearest is `train_prefs`"];
    check_parts(&message_of::<PromptRecord>(&of("train_pref")), &parts);
    fs::remove_file(folder.path("set/data/train_prefs-00000-of-00002.jsonl")).unwrap();
    let parts = ["shard 00000-of-00002 is missing", "not complete"];
    check_parts(&message_of::<PromptRecord>(&of("train_prefs")), &parts);

    // Names without a split are of `train`, and a folder with one split needs no choice.
    folder.rows("plain/b.jsonl", &[row("b")]);
    folder.rows("plain/a.jsonl", &[row("a")]);
    let plain = DatasetConfig::from(folder.path("plain").as_path());
    let files = plain.files().unwrap();
    assert_eq!((files.paths.len(), files.split.as_deref()), (2, Some("train")));
    assert_eq!(plain.read::<PromptRecord>().unwrap(), ["a", "b"].map(PromptRecord::new));

    folder.rows("subs/data/one/train.jsonl", &[row("1")]);
    folder.rows("subs/data/two/train.jsonl", &[row("2")]);
    folder.rows("subs/data/two/test.jsonl", &[row("3")]);
    let subs = DatasetConfig { split: Some("train".into()), ..DatasetConfig::from(folder.path("subs").as_path()) };
    check_parts(&message_of::<PromptRecord>(&subs), &["set `subset` to one of `one`, `two`"]);
    let two = DatasetConfig { subset: Some("two".into()), ..subs.clone() };
    assert_eq!(two.read::<PromptRecord>().unwrap(), [PromptRecord::new("2")]);
    let three = DatasetConfig { subset: Some("three".into()), ..subs };
    check_parts(&message_of::<PromptRecord>(&three), &["there is no subset \"three\""]);

    // A table beside the same rows as text is read, not both.
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet/pyarrow_zstd.parquet");
    folder.rows("both/train.jsonl", &[row("1")]);
    fs::copy(table, folder.path("both/train.parquet")).unwrap();
    let both = DatasetConfig::from(folder.path("both").as_path());
    assert_eq!(both.read::<ChatRecord>().unwrap().len(), 25);
    fs::create_dir(folder.path("nothing")).unwrap();
    let nothing = DatasetConfig::from(folder.path("nothing").as_path());
    check_parts(&message_of::<PromptRecord>(&nothing), &["holds no file of rows"]);
}

#[cfg(unix)]
#[test]
fn downloaded_datasets_are_found_by_name_and_nothing_is_fetched() {
    let folder = Folder::new();
    // As the Hugging Face tools leave it: files are links to blobs.
    let repository = "home/hub/datasets--org--pairs";
    let rows = json!({"prompt": "q", "chosen": "a", "rejected": "b"});
    folder.rows(&format!("{repository}/blobs/0123"), &[rows]);
    folder.write(&format!("{repository}/refs/main"), "aaa\n");
    let link = folder.path(&format!("{repository}/snapshots/aaa/data/train_prefs-00000-of-00001.jsonl"));
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../../../blobs/0123", &link).unwrap();

    let roots =
        CacheRoots { hf_home: Some(folder.path("home")), hf_hub_cache: Some(folder.path("hub")), ..Default::default() };
    let pairs = DatasetConfig { split: Some("train_prefs".into()), ..DatasetConfig::new("org/pairs") };
    let files = pairs.files_in(&roots).unwrap();
    assert_eq!(files.paths, std::slice::from_ref(&link));
    assert_eq!(DatasetConfig::from(link.as_path()).read::<PreferenceRecord>().unwrap().len(), 1);
    assert_eq!(DatasetConfig::new("org/pairs@aaa").files_in(&roots).unwrap().paths, [link]);

    let message = DatasetConfig::new("org/other").files_in(&roots).unwrap_err().to_string();
    let parts = [
        "dataset `org/other`: not found",
        "hub/datasets--org--other: no such folder",
        "home/hub/datasets--org--other: no such folder",
        "nothing is fetched here",
        "`hf download org/other --repo-type dataset`",
    ];
    check_parts(&message, &parts);
    let message = DatasetConfig::new("org/pairs@v2").files_in(&roots).unwrap_err().to_string();
    check_parts(&message, &["has no snapshot of `v2`", "`hf download org/pairs --repo-type dataset --revision v2`"]);
}

#[test]
fn a_config_is_a_path_or_a_table() {
    let read = |value: Json| serde_json::from_value::<DatasetConfig>(value);
    let path = read(json!("a/b.jsonl")).unwrap();
    assert_eq!(path, DatasetConfig::new("a/b.jsonl"));
    assert_eq!(serde_json::to_value(&path).unwrap(), json!("a/b.jsonl"));
    let table = json!({
        "path": "org/name", "split": "train_prefs", "subset": "x", "layout": "prompt_completion", "max_rows": 5,
        "ignore": ["image"], "columns": {"prompt": "question"},
    });
    let config = read(table.clone()).unwrap();
    assert_eq!((config.layout, config.columns.prompt.as_deref()), (Some(Layout::PromptCompletion), Some("question")));
    assert_eq!(serde_json::to_value(&config).unwrap(), table);
    assert_eq!(config.to_string(), "org/name, split train_prefs, subset x, first 5 rows");
    for (value, part) in [
        (json!({"path": "a", "splits": "train"}), "unknown field `splits`, expected one of `path`, `split`"),
        (json!({"path": "a", "columns": {"promt": "q"}}), "unknown field `promt`, expected one of"),
        (json!({"path": "a", "layout": "sft"}), "unknown variant `sft`"),
        (json!({"split": "train"}), "missing field `path`"),
        (json!(3), "the path or name of a dataset, or a table with `path`"),
        (json!(""), "a dataset needs a path or name"),
        (json!({"path": ""}), "a dataset needs a path or name"),
    ] {
        check_parts(&read(value).unwrap_err().to_string(), &[part]);
    }
}

#[test]
fn the_digest_is_that_of_sha256sum() {
    let folder = Folder::new();
    // `sha256sum a.jsonl` and `sha256sum a.jsonl b.jsonl | sha256sum` in the folder.
    let one = folder.write("d/a.jsonl", "{\"prompt\":\"a\"}\n");
    assert_eq!(one.digest().unwrap(), "d58848abfa8d5c3e7eb0e57acde0449d54e48f69e6204a6db3208a1b78a1eaa9");
    folder.write("d/b.jsonl", "{\"prompt\":\"b\"}\n");
    let both = DatasetConfig::from(folder.path("d").as_path());
    assert_eq!(both.digest().unwrap(), "705da569868c7803aa7cbe6464b31659d80774567739803cd40e6a0dc73f555f");
}

fn convert(from: DatasetConfig, to: Layout, out: &Path) -> Vec<Json> {
    let converted = ConvertConfig { from, to, out: out.to_path_buf() }.run().unwrap();
    let rows = DatasetConfig::from(out).rows().unwrap().map(|row| Json::Object(row.unwrap().fields.0));
    let rows: Vec<Json> = rows.collect();
    assert_eq!(converted.num_rows, rows.len());
    rows
}

#[test]
fn datasets_are_converted_between_layouts_and_formats() {
    let folder = Folder::new();
    let (user, good, bad) = (turn("user", "q"), turn("assistant", "a"), turn("assistant", "b"));
    let whole = |answer: &Json| json!([user, answer]);
    let pair =
        json!({"id": 7, "chosen": whole(&good), "rejected": whole(&bad), "score_chosen": 2, "score_rejected": 0.5});
    let pairs = folder.rows("pairs.jsonl", &[pair]);
    let scores = |mut row: Json| {
        let further = json!({"id": 7, "score_chosen": 2, "score_rejected": 0.5});
        row.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        row
    };
    let out = folder.path("out.jsonl");
    let expected = [(&good, true), (&bad, false)]
        .map(|(answer, label)| scores(json!({"prompt": [user], "completion": [answer], "label": label})));
    assert_eq!(convert(pairs.clone(), Layout::Unpaired, &out), expected);
    assert_eq!(convert(pairs.clone(), Layout::Messages, &out), [scores(json!({"messages": whole(&good)}))]);
    assert_eq!(convert(pairs.clone(), Layout::Prompt, &out), [scores(json!({"prompt": [user]}))]);
    let split = scores(json!({"prompt": [user], "completion": [good]}));
    assert_eq!(convert(pairs.clone(), Layout::PromptCompletion, &out), std::slice::from_ref(&split));
    assert_eq!(
        convert(DatasetConfig::from(out.as_path()), Layout::Messages, &folder.path("m.jsonl")),
        [scores(json!({"messages": whole(&good)}))]
    );
    let stated = scores(json!({"prompt": [user], "chosen": [good], "rejected": [bad], "margin": 1.5}));
    assert_eq!(convert(pairs.clone(), Layout::Preference, &out), [stated]);

    // To a table and back, nothing changes.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet/datasets_pairs.parquet");
    let table = DatasetConfig::from(golden.as_path());
    let (text, again) = (folder.path("again.jsonl"), folder.path("again.parquet"));
    let first = convert(table, Layout::Preference, &text);
    let second = convert(DatasetConfig::from(text.as_path()), Layout::Preference, &again);
    assert_eq!((first.len(), &first), (10, &second));

    let refused = |from: &DatasetConfig, to: Layout, out: &str| {
        let error = ConvertConfig { from: from.clone(), to, out: folder.path(out) }.run().unwrap_err();
        assert!(!folder.path(out).exists());
        error.to_string()
    };
    check_parts(&refused(&pairs, Layout::Messages, "x.csv"), &["x.csv", "must end in .jsonl or .parquet"]);
    check_parts(&refused(&pairs, Layout::Messages, "x.jsonl.gz"), &["must end in .jsonl or .parquet"]);
    let prompts = folder.rows("prompts.jsonl", &[json!({"prompt": "q"})]);
    check_parts(&refused(&prompts, Layout::Preference, "x.jsonl"), &["holds no preference pairs", "no `chosen`"]);
    let open = folder.rows("open.jsonl", &[json!({"messages": [user]})]);
    check_parts(&refused(&open, Layout::PromptCompletion, "x.jsonl"), &["does not end with an answer"]);
    // The preferred answers of a row that has another column of their name.
    let both = folder.rows("both.jsonl", &[json!({"prompt": "q", "chosen": "a", "rejected": "b", "messages": 3})]);
    let layout = Some(Layout::Preference);
    let named = DatasetConfig { layout, ..both.clone() };
    check_parts(&refused(&named, Layout::Messages, "x.jsonl"), &["field `messages`", "`ignore`"]);
    let left_out = DatasetConfig { ignore: vec!["messages".into()], ..both };
    assert_eq!(convert(left_out, Layout::Messages, &out), [json!({"messages": whole(&good)})]);
}
