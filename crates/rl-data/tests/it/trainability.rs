//! What is trained: weights, generation blocks, end-of-turn tokens, tools, and offsets through the real tokenizer.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use rl_data::*;
use serde_json::json;

use crate::fixtures::{path, renderer, tokenizer};

/// The published tokenizer, where it was fetched.
const SMOLLM2: &str = "../../data/models/smollm2-135m";

fn trained(renderer: &Renderer, example: &Example) -> String {
    let ids: Vec<u32> =
        example.ids.iter().zip(&example.trainable).filter(|(_, flag)| **flag).map(|(&id, _)| id).collect();
    renderer.tokenizer().decode(&ids, false).unwrap()
}

fn conversation() -> Vec<Message> {
    vec![
        Message::system("s"),
        Message::user("one"),
        Message::assistant("1"),
        Message::user("two"),
        Message::assistant("2"),
    ]
}

#[test]
fn weights_choose_among_answers() {
    let renderer = renderer("chatml");
    let mut messages = conversation();
    messages[2].weight = Some(Weight::Zero);
    messages[4].weight = Some(Weight::One);
    for train_on in [TrainOn::Assistant, TrainOn::LastAssistant, TrainOn::GenerationBlocks] {
        let example = renderer.example(&messages, train_on).unwrap();
        assert_eq!(trained(&renderer, &example), "2<|im_end|>", "{train_on:?}");
        assert_eq!(example.ids, renderer.conversation_ids(&conversation()).unwrap());
    }
    // Of everything, the answer of weight 0 is left out with its end of turn.
    let all = renderer.example(&messages, TrainOn::All).unwrap();
    let whole = renderer.template().render(&messages, false).unwrap();
    assert_eq!(trained(&renderer, &all), whole.replacen("1<|im_end|>", "", 1));

    // Nothing is left to train: the row is counted as such.
    messages[4].weight = Some(Weight::Zero);
    let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
    assert_eq!(example.num_trainable(), 0);
    let policy = SelectionPolicy::new(100, Truncation::Drop, Unusable::Drop);
    assert_eq!(select([Ok(example)], &policy).unwrap().report.dropped_untrainable, 1);
}

#[test]
fn other_messages_can_be_left_out_of_all_but_not_put_into_answers() {
    let renderer = renderer("chatml");
    let mut messages = conversation();
    messages[1].weight = Some(Weight::Zero);
    let all = renderer.example(&messages, TrainOn::All).unwrap();
    let whole = renderer.template().render(&messages, false).unwrap();
    assert_eq!(trained(&renderer, &all), whole.replacen("one", "", 1));
    messages[1].weight = Some(Weight::One);
    for train_on in [TrainOn::Assistant, TrainOn::LastAssistant, TrainOn::GenerationBlocks] {
        let error = renderer.example(&messages, train_on).unwrap_err();
        assert!(matches!(error, Error::WeightOfOther { message: 1, role: Role::User }), "{error}");
    }
    assert!(renderer.example(&messages, TrainOn::All).is_ok());
}

#[test]
fn a_template_never_sees_weights() {
    let template = ChatTemplate::new("{% for m in messages %}{{ m | tojson }}{% endfor %}", None, None).unwrap();
    let call = ToolCall::new("f", serde_json::Map::from_iter([("a".to_string(), json!("é"))]));
    let mut message = Message::assistant("x").with_weight(Weight::Zero).with_tool_calls([call]);
    message.reasoning_content = Some("so".into());
    // As `transformers` would print the same message; a thought is given under both names.
    let expected = r#"{"thinking": "so", "role": "assistant", "content": "x", "reasoning_content": "so", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": "é"}}}]}"#;
    assert_eq!(template.render(&[message], false).unwrap(), expected);
}

/// ChatML whose generation blocks are given, with `BLOCK` for the answer.
fn with_blocks(answer: &str) -> Result<Renderer> {
    let source = "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}
        {%- if m.role == 'assistant' -%}BLOCK{%- else -%}{{- m.content + '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}
        {%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";
    Renderer::new(tokenizer("smollm_like"), ChatTemplate::new(source.replace("BLOCK", answer), None, None)?)
}

#[test]
fn an_end_of_turn_outside_the_block_is_an_error_unless_allowed() {
    let answer = "{%- generation -%}{{- m.content -}}{%- endgeneration -%}{{- '<|im_end|>\\n' -}}";
    let renderer = with_blocks(answer).unwrap();
    let error = renderer.example(&conversation(), TrainOn::GenerationBlocks).unwrap_err();
    assert!(matches!(error, Error::StopNotCovered { message: 2, .. }), "{error}");
    let lenient = renderer.clone().with_end_of_turn(EndOfTurn::Optional);
    assert_eq!(trained(&lenient, &lenient.example(&conversation(), TrainOn::GenerationBlocks).unwrap()), "12");
    // Spans need no block: they find the end of turn.
    assert_eq!(
        trained(&renderer, &renderer.example(&conversation(), TrainOn::Assistant).unwrap()),
        "1<|im_end|>2<|im_end|>"
    );
    // A message of weight 0 needs no end.
    let messages = conversation().into_iter().map(|message| match message.role {
        Role::Assistant => message.with_weight(Weight::Zero),
        _ => message,
    });
    assert!(renderer.example(&messages.collect::<Vec<_>>(), TrainOn::GenerationBlocks).is_ok());
}

#[test]
fn an_answer_that_never_ends_is_an_error_unless_allowed() {
    // The end of turn stands after the last answer alone.
    let answer = "{{- m.content -}}{{- '<|im_end|>' if loop.last else '' -}}{{- '\\n' -}}";
    let renderer = with_blocks(answer).unwrap();
    let error = renderer.example(&conversation(), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::StopNotCovered { message: 2, .. }), "{error}");
    let lenient = renderer.with_end_of_turn(EndOfTurn::Optional);
    assert_eq!(trained(&lenient, &lenient.example(&conversation(), TrainOn::Assistant).unwrap()), "12<|im_end|>");
}

#[test]
fn blocks_that_mark_nothing_whole_are_refused() {
    let plain =
        ChatTemplate::new("{{ '<|im_end|>' }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}", None, None);
    let plain = Renderer::new(tokenizer("smollm_like"), plain.unwrap()).unwrap();
    let error = plain.example(&conversation(), TrainOn::GenerationBlocks).unwrap_err();
    assert!(matches!(error, Error::NoGenerationBlocks), "{error}");
    for answer in [
        // Printed twice over, cut after the block, and one block inside another.
        "{%- set x -%}{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{%- endset -%}{{- x | upper -}}",
        "{%- set x -%}{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{%- endset -%}{{- x[1:] + '<|im_end|>' -}}",
        "{%- generation -%}{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{%- endgeneration -%}",
    ] {
        let Ok(renderer) = with_blocks(answer) else { continue };
        let error = renderer.example(&conversation(), TrainOn::GenerationBlocks).unwrap_err();
        assert!(matches!(error, Error::Template { .. } | Error::StopNotCovered { .. }), "{answer}: {error}");
    }
}

#[test]
fn tools_that_a_template_does_not_print_are_refused() {
    let silent = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let silent = Renderer::new(tokenizer("smollm_like"), ChatTemplate::new(silent, None, None).unwrap()).unwrap();
    let mut record = ChatRecord::new(vec![Message::user("q"), Message::assistant("a")]);
    record.extra.insert("tools".into(), json!([{"type": "function", "function": {"name": "f"}}]));
    assert!(matches!(silent.conversation_ids(&record).unwrap_err(), Error::ToolsNotPrinted));
    assert!(matches!(silent.example(&record, TrainOn::All).unwrap_err(), Error::ToolsNotPrinted));
    record.extra.insert("tools".into(), json!([]));
    assert!(silent.conversation_ids(&record).is_ok());

    let calls =
        [Message::user("q"), Message::assistant("a").with_tool_calls([ToolCall::new("f", serde_json::Map::new())])];
    let error = silent.example(&calls, TrainOn::All).unwrap_err();
    assert!(matches!(error, Error::ToolCallNotPrinted { message: 1 }), "{error}");
    let error = silent.example(&calls, TrainOn::LastAssistant).unwrap_err();
    assert!(matches!(error, Error::ToolCallNotPrinted { message: 1 }), "{error}");
}

fn qwen(template: &str) -> Renderer {
    let tokenizer = Tokenizer::from_file(path("qwen_small.json")).unwrap();
    Renderer::new(tokenizer, ChatTemplate::named(template).unwrap()).unwrap()
}

#[test]
fn a_row_brings_tools_and_variables_for_every_kind_of_record() {
    let renderer = qwen("qwen3");
    let columns = json!({
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
        "chat_template_kwargs": {"enable_thinking": false},
    });
    let with_columns = |row: serde_json::Value| {
        let mut row = row.as_object().unwrap().clone();
        row.extend(columns.as_object().unwrap().clone());
        serde_json::Value::Object(row)
    };
    let of = |ids: &[u32]| renderer.tokenizer().decode(ids, false).unwrap();
    let prompt: PromptRecord = serde_json::from_value(with_columns(json!({"prompt": "q"}))).unwrap();
    let prompt_ids = renderer.prompt_ids(&prompt).unwrap();
    let text = of(&prompt_ids);
    assert!(text.contains("\n{\"type\": \"function\", \"function\": {\"name\": \"look_up\"}}\n</tools>"), "{text}");
    assert!(text.ends_with("<|im_start|>assistant\n<think>\n\n</think>\n\n"), "{text}");
    assert_eq!(renderer.prompt_example(&prompt).unwrap().prompt_ids, prompt_ids);

    let pair = with_columns(json!({"prompt": "q", "chosen": "a", "rejected": "b"}));
    let pair: PreferenceRecord = serde_json::from_value(pair).unwrap();
    let pair = renderer.preference_example(&pair, Seams::Error).unwrap();
    assert_eq!((&pair.prompt_ids, of(pair.chosen_ids()).as_str()), (&prompt_ids, "a<|im_end|>"));
    let judged: UnpairedRecord =
        serde_json::from_value(with_columns(json!({"prompt": "q", "completion": "a", "label": true}))).unwrap();
    assert_eq!(renderer.unpaired_example(&judged, Seams::Error).unwrap().prompt_ids, prompt_ids);
    let messages = json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]});
    let chat: ChatRecord = serde_json::from_value(with_columns(messages)).unwrap();
    let example = renderer.example(&chat, TrainOn::Assistant).unwrap();
    assert_eq!(trained(&renderer, &example), "a<|im_end|>");
    assert!(example.ids.starts_with(&prompt_ids));
}

#[test]
fn roles_of_tools_are_told() {
    let renderer = qwen("qwen2.5");
    let call = ToolCall::new("sum", serde_json::Map::from_iter([("a".to_string(), json!(1))]));
    let messages = [
        Message::user("q"),
        Message::assistant("").with_tool_calls([call]),
        Message::tool("3"),
        Message::assistant("It is 3."),
    ];
    let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
    let of = |role: Option<Role>| {
        let ids: Vec<u32> =
            example.ids.iter().zip(&example.roles).filter(|(_, r)| **r == role).map(|(&id, _)| id).collect();
        renderer.tokenizer().decode(&ids, false).unwrap()
    };
    assert_eq!(of(Some(Role::Tool)), "3");
    assert_eq!(of(Some(Role::User)), "q");
    let expected =
        "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>It is 3.<|im_end|>";
    assert_eq!(of(Some(Role::Assistant)), expected);
    assert_eq!(trained(&renderer, &example), expected);
    assert_eq!(of(Some(Role::System)), "");
}

#[test]
fn control_tokens_in_tools_and_calls_can_stay_text() {
    let renderer = qwen("qwen2.5").with_content_tokens(ContentTokens::Text);
    let im_end = renderer.tokenizer().token_to_id("<|im_end|>").unwrap();
    let forged = "x<|im_end|>";
    let call = ToolCall::new("f", serde_json::Map::from_iter([(forged.to_string(), json!([forged]))]));
    let mut record = ChatRecord::new(vec![
        Message::user("q"),
        Message::assistant("").with_tool_calls([call]),
        Message::tool(forged),
        Message::assistant("a"),
    ]);
    record.extra.insert("tools".into(), json!([{"function": {"name": "f", "description": forged}}]));
    let example = renderer.example(&record, TrainOn::Assistant).unwrap();
    // System, user, call, result, answer: five turns, five ends.
    assert_eq!(example.ids.iter().filter(|&&id| id == im_end).count(), 5);
    let variables = Conversation::from(&record).variables().unwrap();
    let text = renderer.template().render_with(&record.messages, false, &variables).unwrap();
    assert_eq!(renderer.tokenizer().decode(&example.ids, false).unwrap(), text);
}

#[test]
fn a_first_token_written_twice_is_refused() {
    let doubled =
        ChatTemplate::named("llama3").unwrap().source().replacen("{{- bos_token ~", "{{- bos_token ~ bos_token ~", 1);
    let template = ChatTemplate::new(doubled, Some("<|begin_of_text|>"), Some("<|eot_id|>")).unwrap();
    let tokenizer = Tokenizer::from_file(path("llama3_small.json")).unwrap();
    let renderer = Renderer::new(tokenizer, template).unwrap();
    let error = renderer.prompt_ids(&[Message::user("q")]).unwrap_err();
    assert!(matches!(&error, Error::RepeatedFirstToken { token } if token == "<|begin_of_text|>"), "{error}");
}

#[test]
fn a_result_of_a_tool_continues_an_episode() {
    let renderer = qwen("qwen2.5");
    let messages = [Message::user("q"), Message::assistant("<tool_call>\n{}\n</tool_call>")];
    let ids = renderer.feedback_ids(&messages, &Message::tool("3"), true).unwrap();
    let expected = "\n<|im_start|>user\n<tool_response>\n3\n</tool_response><|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(renderer.tokenizer().decode(&ids, false).unwrap(), expected);
}

/// SmolLM2's own tokenizer where it was fetched, and the small one of the Qwen family.
static REAL: LazyLock<Vec<Renderer>> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(SMOLLM2);
    let mut renderers = vec![qwen("chatml")];
    match folder.join("tokenizer.json").exists() {
        true => renderers
            .push(Renderer::from_folder(folder).unwrap().with_template(ChatTemplate::chatml().unwrap()).unwrap()),
        false => {
            println!("skipped SmolLM2: {} is absent; `cargo xtask model smollm2-135m` fetches it", folder.display())
        }
    }
    renderers
});

proptest! {
    /// Any characters, several bytes and merges over the seams included: the pieces are the text, and the trained ones are
    /// exactly the answers with their ends.
    #[test]
    fn offsets_survive_any_text(contents in prop::collection::vec("([ \\n]{0,2}\\PC{0,12}[ \\n]{0,2}|[ \\n'a1éß東\u{301}🎴ع]{0,10})", 2..6)) {
        let messages: Vec<Message> = contents
            .iter()
            .enumerate()
            .map(|(at, text)| if at % 2 == 0 { Message::user(text) } else { Message::assistant(text) })
            .collect();
        for renderer in REAL.iter() {
            // ChatML by hand.
            let turn = |message: &Message| format!("<|im_start|>{}\n{}<|im_end|>\n", message.role, message.content);
            let text: String = messages.iter().map(turn).collect();
            let answers: String =
                messages.iter().skip(1).step_by(2).map(|message| format!("{}<|im_end|>", message.content)).collect();
            let tokens = renderer.tokenizer().encode_with_offsets(&text).unwrap();
            // Where characters are composed (NFC in the Qwen family), the bytes of the later ones belong to no token.
            let normalised = |text: &str| {
                let ids = renderer.tokenizer().encode(text).unwrap();
                renderer.tokenizer().decode(&ids, false).unwrap()
            };
            let composed = normalised(&text) != text;
            let mut end = 0;
            for (_, bytes) in &tokens {
                // Tokens of one character share its bytes; others follow each other without a gap.
                let follows = bytes.start == end || bytes.end == end || (composed && bytes.start > end);
                prop_assert!(follows, "{:?} after {} of {:?}", bytes, end, text);
                prop_assert!(text.is_char_boundary(bytes.start) && text.is_char_boundary(bytes.end));
                end = bytes.end;
            }
            prop_assert_eq!(end, text.len());
            match renderer.example(&messages, TrainOn::Assistant) {
                Ok(example) => {
                    let ids: Vec<u32> = tokens.into_iter().map(|(id, _)| id).collect();
                    prop_assert_eq!(&example.ids, &ids);
                    prop_assert_eq!(renderer.tokenizer().decode(&ids, false).unwrap(), normalised(&text));
                    prop_assert_eq!(trained(renderer, &example), normalised(&answers));
                }
                Err(Error::Seam { message }) => {
                    let first = contents[message].chars().next();
                    prop_assert!(first.is_some_and(|c| c.is_whitespace() || !c.is_ascii()), "refused {:?}", contents);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
