//! Texts, ids and loss masks of one table of conversations, tools among them, against `transformers` and TRL.
//!
//! `tests/golden/chat_masks.py` says what each column is. What differs from TRL is stated by the tests as a rule and listed
//! in the README.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use rl_data::*;
use serde::Deserialize;

use crate::fixtures::path;

const NUM_ROWS: usize = 56;
const NUM_CASES: usize = 336;
/// The published tokenizer, where it was fetched.
const SMOLLM2: &str = "../../data/models/smollm2-135m";
/// Names the folder that holds the published templates and TRL's training templates, which are not kept here.
const FOLDER: &str = "REINS_CHAT_TEMPLATES";

#[derive(Deserialize)]
struct Table {
    templates: Vec<Published>,
    rows: Vec<ChatRecord>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Published {
    name: String,
    file: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    tokenizer: String,
}

type Ranges = Vec<(usize, usize)>;
/// How many tokens are those of the whole conversation, and the others.
type Prompt = (usize, Vec<u32>);

#[derive(Deserialize)]
struct Case {
    template: usize,
    conversation: usize,
    error: Option<String>,
    left_out: Option<String>,
    text: Option<String>,
    ids: Option<Vec<u32>>,
    prompt_ids: Option<Prompt>,
    prefill_ids: Option<Prompt>,
    mask: Option<Ranges>,
    trl_mask: Option<Ranges>,
    trl_ids: Option<Vec<u32>>,
    completion_mask: Option<Ranges>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let table: Table = serde_json::from_str(&std::fs::read_to_string(path("chat_masks.json")).unwrap()).unwrap();
    assert_eq!((table.rows.len(), table.cases.len()), (NUM_ROWS, NUM_CASES));
    table
});

impl Case {
    fn record(&self) -> &'static ChatRecord {
        &TABLE.rows[self.conversation]
    }

    fn published(&self) -> &'static Published {
        &TABLE.templates[self.template]
    }

    fn describe(&self) -> String {
        format!("{} {}, {}", self.published().file, self.published().tokenizer, self.record().extra["name"])
    }

    fn full(&self, prompt: &Prompt) -> Vec<u32> {
        [&self.ids.as_ref().unwrap()[..prompt.0], &prompt.1].concat()
    }
}

fn tokenizer(name: &str) -> Option<Tokenizer> {
    if name != "smollm2" {
        return Some(Tokenizer::from_file(path(&format!("{name}.json"))).unwrap());
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SMOLLM2);
    if !folder.join("tokenizer.json").exists() {
        println!("skipped: {} is absent; `cargo xtask model smollm2-135m` fetches it", folder.display());
        return None;
    }
    Some(Tokenizer::from_folder(folder).unwrap())
}

/// Built-in templates with the tokenizers of the table, those that are there.
static RENDERERS: LazyLock<Vec<Option<Renderer>>> = LazyLock::new(|| {
    let renderer = |published: &Published| {
        let template = ChatTemplate::named(&published.name).unwrap();
        Some(Renderer::new(tokenizer(&published.tokenizer)?, template).unwrap())
    };
    TABLE.templates.iter().map(renderer).collect()
});

fn cases() -> impl Iterator<Item = (&'static Case, &'static Renderer)> {
    TABLE.cases.iter().filter_map(|case| Some((case, RENDERERS[case.template].as_ref()?)))
}

fn ranges(flags: &[bool]) -> Ranges {
    let mut runs = Ranges::new();
    for (at, _) in flags.iter().enumerate().filter(|(_, flag)| **flag) {
        match runs.last_mut() {
            Some((_, after)) if *after == at => *after = at + 1,
            _ => runs.push((at, at + 1)),
        }
    }
    runs
}

fn flags(ranges: &Ranges, length: usize) -> Vec<bool> {
    (0..length).map(|at| ranges.iter().any(|&(first, after)| first <= at && at < after)).collect()
}

/// A count by name, to be compared at the end.
type Counts = BTreeMap<&'static str, usize>;

fn count(counts: &mut Counts, name: &'static str) {
    *counts.entry(name).or_default() += 1;
}

/// The kind of an error that `example` may give, after a check that the conversation has what the error says.
fn refusal(case: &Case, renderer: &Renderer, error: &Error) -> &'static str {
    let says = |index: &usize| &case.record().messages[*index].content;
    match error {
        Error::Seam { message } => {
            assert!(says(message).starts_with([' ', '\n']), "{}: {error}", case.describe());
            "seam"
        }
        Error::StopInsideAnswer { message, stop } => {
            assert!(says(message).contains(stop.as_str()), "{}: {error}", case.describe());
            "stop inside"
        }
        Error::PromptNotPrefix { message } => {
            let prompt = renderer.prompt_ids(&case.record().messages[..*message]).unwrap();
            assert!(!case.ids.as_ref().unwrap().starts_with(&prompt), "{}: {error}", case.describe());
            "not a prefix"
        }
        Error::AnswerFirst { .. } => {
            assert_eq!(case.record().messages[0].role, Role::Assistant);
            "answer first"
        }
        other => panic!("{} ({}): {other}", case.describe(), renderer.stop_text()),
    }
}

#[test]
fn texts_and_ids_are_those_of_transformers() {
    let mut counts = Counts::new();
    for (case, renderer) in cases() {
        let (record, about) = (case.record(), case.describe());
        if case.published().tokenizer == "smollm2" {
            count(&mut counts, "of smollm2");
        }
        if let Some(reason) = case.left_out.as_ref().or(case.error.as_ref()) {
            let error = renderer.conversation_ids(record).unwrap_err();
            assert!(matches!(error, Error::Template { .. }), "{about}: {error}");
            assert!(case.error.is_some() || error.to_string().contains(reason), "{about}: {error}");
            count(&mut counts, "refused");
            continue;
        }
        let text = case.text.as_ref().unwrap();
        let variables = Conversation::from(record).variables().unwrap();
        assert_eq!(&renderer.template().render_with(&record.messages, false, &variables).unwrap(), text, "{about}");
        assert_eq!(&renderer.conversation_ids(record).unwrap(), case.ids.as_ref().unwrap(), "{about}");
        let prompt = case.full(case.prompt_ids.as_ref().unwrap());
        assert_eq!(renderer.prompt_ids(record).unwrap(), prompt, "{about}");
        match &case.prefill_ids {
            Some(prefill) => {
                assert_eq!(renderer.prefill_ids(record).unwrap(), case.full(prefill), "{about}");
                count(&mut counts, "prefilled");
            }
            None if record.messages.last().unwrap().role == Role::Assistant => {
                assert!(renderer.prefill_ids(record).is_err(), "{about}");
                count(&mut counts, "not prefilled");
            }
            None => {}
        }
        count(&mut counts, "equal");
    }
    let skipped = RENDERERS.iter().flatten().count() < TABLE.templates.len();
    let expected = if skipped {
        [("equal", 266), ("not prefilled", 5), ("prefilled", 251), ("refused", 14)].into()
    } else {
        Counts::from([("equal", 310), ("not prefilled", 5), ("of smollm2", 56), ("prefilled", 293), ("refused", 26)])
    };
    assert_eq!(counts, expected);
}

/// Compares masks by spans and by generation blocks with those of `transformers`.
fn check_masks(of_smollm2: bool) -> [Counts; 2] {
    [TrainOn::Assistant, TrainOn::GenerationBlocks].map(|train_on| {
        let mut counts = Counts::new();
        for (case, renderer) in cases().filter(|(case, _)| (case.published().tokenizer == "smollm2") == of_smollm2) {
            let Some(mask) = &case.mask else { continue };
            match renderer.example(case.record(), train_on) {
                Ok(example) => {
                    assert_eq!(&example.ids, case.ids.as_ref().unwrap(), "{}", case.describe());
                    assert_eq!(&ranges(&example.trainable), mask, "{} {train_on:?}", case.describe());
                    count(&mut counts, "equal");
                }
                Err(error) => count(&mut counts, refusal(case, renderer, &error)),
            }
        }
        counts
    })
}

#[test]
fn masks_are_those_of_transformers() {
    let [spans, blocks] = check_masks(false);
    let refused = [("answer first", 4), ("not a prefix", 2), ("seam", 7), ("stop inside", 5)];
    assert_eq!(spans, refused.into_iter().chain([("equal", 238)]).collect());
    // Blocks know no prompt, so nothing but a token over their edge is refused.
    assert_eq!(blocks, [("equal", 249), ("seam", 7)].into());
}

#[test]
fn masks_of_smollm2_are_those_of_transformers() {
    if RENDERERS[0].is_some() {
        let [spans, blocks] = check_masks(true);
        assert_eq!(spans, [("equal", 36), ("not a prefix", 1), ("seam", 4), ("stop inside", 1)].into());
        assert_eq!(blocks, [("equal", 38), ("seam", 4)].into());
    }
}

/// TRL's training templates let the answer begin before the line break that ends its header (Qwen2.5), end after the line
/// break that follows its end of turn (Qwen2.5, Qwen3) and never drop a thought (Qwen3, which makes other text).
#[test]
fn trl_trains_line_breaks_around_the_same_answers() {
    let mut counts = Counts::new();
    for (case, renderer) in cases() {
        let Some(theirs) = &case.trl_mask else { continue };
        if case.trl_ids.is_some() {
            count(&mut counts, "other text");
            continue;
        }
        let ours = match renderer.example(case.record(), TrainOn::GenerationBlocks) {
            Ok(example) => example,
            Err(error) => {
                count(&mut counts, refusal(case, renderer, &error));
                continue;
            }
        };
        for (at, theirs) in flags(theirs, ours.ids.len()).into_iter().enumerate() {
            if theirs != ours.trainable[at] {
                let text = renderer.tokenizer().decode(&ours.ids[at..=at], false).unwrap();
                assert_eq!((text.as_str(), theirs), ("\n", true), "{} token {at}", case.describe());
                assert_eq!(ours.roles[at], None, "{}", case.describe());
                count(&mut counts, "line breaks");
            }
        }
        count(&mut counts, "compared");
    }
    assert_eq!(counts, [("compared", 84), ("line breaks", 184), ("other text", 21), ("seam", 3)].into());
}

/// TRL's completion begins where the prompt's ids and the whole's part, and goes on to the very end.
#[test]
fn trl_completions_begin_with_the_last_answer() {
    let mut counts = Counts::new();
    for (case, renderer) in cases() {
        let (Some(theirs), Some(ids)) = (&case.completion_mask, &case.ids) else { continue };
        let [(first, after)] = theirs[..] else { panic!("{}: {theirs:?}", case.describe()) };
        assert_eq!(after, ids.len());
        match renderer.example(case.record(), TrainOn::LastAssistant) {
            Ok(example) => {
                let [(start, end)] = ranges(&example.trainable)[..] else { panic!("{}", case.describe()) };
                assert_eq!(start, first, "{}", case.describe());
                let rest = renderer.tokenizer().decode(&ids[end..], false).unwrap();
                assert_eq!(rest, if case.published().name == "llama3" { "" } else { "\n" }, "{}", case.describe());
                count(&mut counts, "equal start");
            }
            Err(Error::Template { .. }) => count(&mut counts, "left out"),
            Err(error) => count(&mut counts, refusal(case, renderer, &error)),
        }
    }
    let smollm2 = RENDERERS[0].is_some();
    let expected = if smollm2 { [290, 22, 1, 7] } else { [251, 11, 1, 4] };
    assert_eq!(counts, ["equal start", "left out", "not a prefix", "seam"].into_iter().zip(expected).collect());
}

/// Other people's generation blocks decide as they do in `transformers`.
#[test]
fn training_templates_mask_as_in_trl() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        println!("skipped: {FOLDER} does not name a folder with the published templates");
        return;
    };
    let mut counts = Counts::new();
    for (case, _) in cases() {
        let Some(mask) = &case.trl_mask else { continue };
        let published = case.published();
        let file = folder.join(published.file.replace(".jinja", "_training.jinja"));
        let source = std::fs::read_to_string(file).unwrap();
        let template =
            ChatTemplate::new(source, published.bos_token.as_deref(), published.eos_token.as_deref()).unwrap();
        let renderer = Renderer::new(tokenizer(&published.tokenizer).unwrap(), template).unwrap();
        match renderer.example(case.record(), TrainOn::GenerationBlocks) {
            Ok(example) => {
                assert_eq!(&example.ids, case.trl_ids.as_ref().or(case.ids.as_ref()).unwrap(), "{}", case.describe());
                assert_eq!(&ranges(&example.trainable), mask, "{}", case.describe());
                count(&mut counts, "equal");
            }
            Err(error) => count(&mut counts, refusal(case, &renderer, &error)),
        }
    }
    assert_eq!(counts, [("equal", 108)].into());
}
