//! Parquet files that other tools wrote (`tests/golden/parquet`), damaged ones, and our own.

use std::fs;
use std::path::{Path, PathBuf};

use rl_data::source::{ColumnKind, Row, write_parquet};
use rl_data::{
    ChatRecord, DatasetConfig, Error, Message, Place, PreferenceRecord, PromptRecord, Result, UnpairedRecord,
};
use serde_json::{Map, Value as Json, json};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet").join(name)
}

fn dataset(path: &Path) -> DatasetConfig {
    DatasetConfig::from(path)
}

/// What the generating script put into the files.
fn written(kind: &str) -> Vec<Map<String, Json>> {
    let rows: Json = serde_json::from_slice(&fs::read(golden("rows.json")).unwrap()).unwrap();
    rows[kind].as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect()
}

fn messages(value: &Json) -> Vec<Message> {
    let message = |turn: &Json| {
        let content = turn["content"].as_str().unwrap();
        match turn["role"].as_str().unwrap() {
            "system" => Message::system(content),
            "user" => Message::user(content),
            "assistant" => Message::assistant(content),
            other => panic!("{other}"),
        }
    };
    value.as_array().unwrap().iter().map(message).collect()
}

/// A table has no absent fields, so null is read as absent.
fn without(mut row: Map<String, Json>, names: &[&str]) -> Map<String, Json> {
    row.retain(|name, value| !value.is_null() && !names.contains(&name.as_str()));
    row
}

fn chat_rows(further: &[(&str, Json)]) -> Vec<ChatRecord> {
    let further = || further.iter().map(|(name, value)| (name.to_string(), value.clone()));
    let record = |row: Map<String, Json>| ChatRecord {
        messages: messages(&row["messages"]),
        extra: without(row, &["messages"]).into_iter().chain(further()).collect(),
    };
    written("chat").into_iter().map(record).collect()
}

#[test]
fn every_compression_of_pyarrow_holds_the_same_rows() {
    let expected = chat_rows(&[]);
    assert_eq!(expected.len(), 25);
    for compression in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"] {
        let dataset = dataset(&golden(&format!("pyarrow_{compression}.parquet")));
        assert_eq!(dataset.read::<ChatRecord>().unwrap(), expected, "{compression}");
        let detection = dataset.detect::<ChatRecord>().unwrap().to_string();
        let said = "layout messages (by its columns): `messages` is messages; kept with the record: `source`, `score`";
        assert_eq!(detection, said);
    }
}

#[test]
fn pandas_large_lists_dictionaries_and_dates_are_read() {
    assert_eq!(dataset(&golden("pandas.parquet")).read::<ChatRecord>().unwrap(), chat_rows(&[]));
    let further = [("small", json!(-3)), ("day", json!("2024-02-29")), ("at", json!("2024-02-29 12:30:00.000000"))];
    assert_eq!(dataset(&golden("pyarrow_large.parquet")).read::<ChatRecord>().unwrap(), chat_rows(&further));
}

#[test]
fn packed_text_of_pyarrow_is_read() {
    // In text null is a value, so it stays.
    let expected = written("chat").into_iter().map(|row| {
        let mut extra = row;
        let messages = messages(&extra.shift_remove("messages").unwrap());
        ChatRecord { messages, extra }
    });
    let expected: Vec<ChatRecord> = expected.collect();
    for ending in ["gz", "zst"] {
        let read = dataset(&golden(&format!("chat.jsonl.{ending}"))).read::<ChatRecord>();
        assert_eq!(read.unwrap(), expected, "{ending}");
    }
}

#[test]
fn pairs_of_polars_and_datasets_are_split_into_prompt_and_responses() {
    let expected = written("pairs").into_iter().map(|row| PreferenceRecord {
        prompt: vec![Message::user(row["prompt"].as_str().unwrap())],
        chosen: messages(&row["chosen"])[1..].to_vec(),
        rejected: messages(&row["rejected"])[1..].to_vec(),
        margin: Some(row["score_chosen"].as_f64().unwrap() - row["score_rejected"].as_f64().unwrap()),
        extra: without(row, &["prompt", "chosen", "rejected"]),
    });
    let expected: Vec<PreferenceRecord> = expected.collect();
    assert_eq!((expected.len(), expected[3].margin), (10, Some(1.5)));
    for name in ["polars.parquet", "datasets_pairs.parquet"] {
        let dataset = dataset(&golden(name));
        assert_eq!(dataset.read::<PreferenceRecord>().unwrap(), expected, "{name}");
        let said = "layout preference (by its columns): `chosen` is messages, `rejected` is messages, `prompt` is text; \
                    margin is `score_chosen` - `score_rejected`; kept with the record: `prompt_id`, `messages`, \
                    `score_chosen`, `score_rejected`";
        assert_eq!(dataset.detect::<PreferenceRecord>().unwrap().to_string(), said);
        // The same files as prompts and as conversations.
        let prompts = dataset.read::<PromptRecord>().unwrap();
        assert!(prompts.iter().zip(&expected).all(|(prompt, pair)| prompt.prompt == pair.prompt));
        let chats = dataset.read::<ChatRecord>().unwrap();
        assert!(chats.iter().zip(&expected).all(|(chat, pair)| chat.messages == pair.chosen_conversation()));
    }
}

#[test]
fn nulls_at_every_depth_are_absent_fields() {
    let judged = dataset(&golden("datasets_unpaired.parquet")).read::<UnpairedRecord>().unwrap();
    for (record, row) in judged.iter().zip(written("unpaired")) {
        assert_eq!(record.prompt, [Message::user(row["prompt"].as_str().unwrap())]);
        assert_eq!((&record.completion, record.label), (&messages(&row["completion"]), row["label"] == true));
        assert_eq!(record.extra, without(row, &["prompt", "completion", "label"]));
    }
    assert_eq!(judged.len(), 12);

    let read = dataset(&golden("pyarrow_tools.parquet")).read::<ChatRecord>().unwrap();
    for (index, (record, row)) in read.iter().zip(written("tools")).enumerate() {
        assert_eq!(record.messages, messages(&row["messages"]));
        assert_eq!(record.extra, without(row, &["messages"]), "row {index}");
    }
    assert_eq!((read.len(), &read[3].extra["tags"]), (6, &json!(["a", null, "b"])));
    assert!(!read[2].extra.contains_key("meta"));
}

#[test]
fn what_has_no_json_form_is_an_error_until_it_is_left_out() {
    let mut images = dataset(&golden("pyarrow_bytes.parquet"));
    let message = images.read::<PromptRecord>().unwrap_err().to_string();
    assert!(message.contains("column `image` holds binary values") && message.contains("`ignore`"), "{message}");
    images.ignore = vec!["imagee".into()];
    let message = images.read::<PromptRecord>().unwrap_err().to_string();
    assert!(message.contains("no column `imagee`") && message.contains("nearest is `image`"), "{message}");
    images.ignore = vec!["image".into()];
    assert_eq!(images.read::<PromptRecord>().unwrap(), [PromptRecord::new("a")]);

    let mut scores = dataset(&golden("pyarrow_nan.parquet"));
    let error = scores.read::<PromptRecord>().unwrap_err();
    assert!(matches!(&error, Error::Cell { place: Place::Row(2), column, .. } if column == "score"), "{error}");
    assert!(error.to_string().contains("pyarrow_nan.parquet` row 2, column `score`: the number NaN"), "{error}");
    scores.ignore = vec!["score".into()];
    assert_eq!(scores.read::<PromptRecord>().unwrap(), ["a", "b", "c"].map(PromptRecord::new));
    scores.ignore = vec!["score".into(), "prompt".into()];
    assert!(scores.read::<PromptRecord>().unwrap_err().to_string().contains("no column to read"));
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.parquet");
    let whole = fs::read(golden("pyarrow_snappy.parquet")).unwrap();
    let mut tried = 0;
    for length in (0..whole.len()).step_by(61).chain([4, 12, whole.len() - 8, whole.len() - 4, whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let error = dataset(&path).read::<ChatRecord>().unwrap_err();
        assert!(
            matches!(error, Error::Parquet { .. }) && error.to_string().contains("cut.parquet"),
            "{length}: {error}"
        );
        tried += 1;
    }
    assert!(60 < tried);
    // The footer is whole, but what it points to is not there.
    let rows = made(3000);
    write_parquet(&path, || Ok(rows.iter().map(Ok))).unwrap();
    let whole = fs::read(&path).unwrap();
    let footer = whole.len() - 8 - u32::from_le_bytes(whole[whole.len() - 8..][..4].try_into().unwrap()) as usize;
    fs::write(&path, [&whole[..4], &whole[footer..]].concat()).unwrap();
    let message = dataset(&path).read::<ChatRecord>().unwrap_err().to_string();
    assert!(message.contains("the file is cut off: it promises more"), "{message}");
    fs::write(&path, "{\"messages\": []}\n").unwrap();
    assert!(matches!(dataset(&path).read::<ChatRecord>(), Err(Error::Parquet { .. })));
}

/// So many conversations of text that hardly packs, so that the row groups are most of a file.
fn made(count: usize) -> Vec<ChatRecord> {
    let noise =
        |index: u64, step: u64| format!("{:x}", (index + step).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    let answer = |index| (0..4).map(|step| noise(index, step * 1_000_003)).collect::<String>();
    (0..count as u64)
        .map(|index| ChatRecord::new(vec![Message::user("?"), Message::assistant(answer(index))]))
        .collect()
}

#[test]
fn a_row_group_is_not_read_before_its_turn() {
    const GROUP_ROWS: usize = 2048; // of write_parquet
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("three.parquet");
    let rows = made(3 * GROUP_ROWS);
    assert_eq!(write_parquet(&path, || Ok(rows.iter().map(Ok))).unwrap(), rows.len());
    assert_eq!(dataset(&path).read::<ChatRecord>().unwrap(), rows);
    // The middle of the file is the second group; with it destroyed, the first is still read to its end.
    let mut bytes = fs::read(&path).unwrap();
    let (start, end) = (bytes.len() * 2 / 5, bytes.len() * 3 / 5);
    bytes[start..end].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let mut stream = dataset(&path).stream::<ChatRecord>().unwrap();
    let read: Vec<ChatRecord> = stream.by_ref().map_while(Result::ok).collect();
    assert_eq!(read.len(), GROUP_ROWS);
    assert_eq!(read, rows[..GROUP_ROWS]);
    // Nothing comes after an error.
    assert!(stream.next().is_none());
    // Whoever wants fewer rows never meets it.
    let few = DatasetConfig { max_rows: Some(GROUP_ROWS), ..dataset(&path) };
    assert_eq!(few.read::<ChatRecord>().unwrap().len(), GROUP_ROWS);
}

/// `REINS_KEEP_SAVED=FOLDER` keeps what this test writes, for `tests/golden/parquet/check_written.py FOLDER` to read with
/// other tools.
#[test]
fn records_written_are_records_read() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("REINS_KEEP_SAVED").map_or(temporary.path().to_path_buf(), PathBuf::from);
    let path = folder.join("pairs.parquet");
    let mut pairs = vec![PreferenceRecord::new("a", "b\u{1F642}", ""), PreferenceRecord::new("ü", "x", "y")];
    pairs[0].margin = Some(0.5);
    let further = json!({"id": 7, "share": 1, "tags": ["a", null], "nested": {"list": [[1], []], "flag": true}});
    pairs[0].extra = further.as_object().unwrap().clone();
    pairs[1].extra = json!({"share": 0.25, "tags": []}).as_object().unwrap().clone();
    write_parquet(&path, || Ok(pairs.iter().map(Ok))).unwrap();
    fs::write(folder.join("pairs.json"), serde_json::to_vec(&pairs).unwrap()).unwrap();
    // A column of fractions makes its whole numbers fractions.
    pairs[0].extra["share"] = json!(1.0);
    assert_eq!(dataset(&path).read::<PreferenceRecord>().unwrap(), pairs);
    let kinds: Vec<String> = {
        let detection = dataset(&path).detect::<PreferenceRecord>().unwrap();
        detection.columns.iter().map(|(field, _, kind)| format!("{field} {kind}")).collect()
    };
    assert_eq!(kinds, ["chosen messages", "rejected messages", "prompt messages", "margin numbers"]);
    assert_eq!(ColumnKind::of(&json!([1])).to_string(), "lists of numbers");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "no partial file is left");

    let rows: Vec<Row> = dataset(&path).rows().unwrap().collect::<Result<_>>().unwrap();
    assert_eq!((rows.len(), rows[1].place), (2, Place::Row(1)));
    assert!(!rows[1].fields.0.contains_key("id"));
}

#[test]
fn what_a_table_cannot_hold_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.parquet");
    let written = |rows: Json| {
        let rows = rows.as_array().unwrap().clone();
        write_parquet(&path, || Ok(rows.iter().map(Ok))).map_err(|error| error.to_string())
    };
    for (rows, parts) in [
        (json!([{"a": 1}, {"a": "x"}]), ["row 1, column `a`", "found the text \"x\" where earlier rows have numbers"]),
        (json!([{"a": [{"b": 1}]}, {"a": [{"b": []}]}]), ["row 1, column `a`", "an empty list"]),
        (json!([{"a": {}}]), ["column `a`", "objects without fields"]),
        (json!([{"a": 18446744073709551615_u64}]), ["column `a`", "above the largest whole number"]),
        (json!([{"a": 0.5}, {"a": 9007199254740993_i64}]), ["9007199254740993", "no exact form"]),
        (json!([3]), ["a row of a table must be an object", "bad.parquet"]),
        (json!([]), ["no row to write", "bad.parquet"]),
    ] {
        let message = written(rows.clone()).unwrap_err();
        assert!(parts.iter().all(|part| message.contains(part)), "{rows}: {message}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(written(json!([{"a": null, "b": [], "c": 1}])), Ok(1));
    let rows: Vec<Row> = dataset(&path).rows().unwrap().collect::<Result<_>>().unwrap();
    assert_eq!(Json::Object(rows[0].fields.0.clone()), json!({"b": [], "c": 1}));
}
