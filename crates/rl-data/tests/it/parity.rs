//! The same text and the same ids as Python `transformers` and `tokenizers`.

use rl_data::*;

use crate::fixtures::{golden, path, template, tokenizer};

#[test]
fn templates_render_as_in_transformers() {
    let golden = golden();
    assert_eq!(golden.renders.len(), 24);
    let mut refused = 0;
    for case in &golden.renders {
        let template = template(&case.template);
        let rendered = template.render(&case.messages, case.add_generation_prompt);
        match (&case.text, &case.error) {
            (Some(text), None) => assert_eq!(&rendered.unwrap(), text, "{}", case.template),
            (None, Some(message)) => {
                let error = rendered.unwrap_err().to_string();
                assert!(error.contains(message.as_str()), "{error} does not say {message}");
                refused += 1;
            }
            _ => panic!("a case has a text or an error"),
        }
    }
    assert_eq!(refused, 2);
}

#[test]
fn rendered_conversations_tokenise_as_in_transformers() {
    let golden = golden();
    let mut compared = 0;
    for case in golden.renders.iter() {
        let (Some(text), Some(ids)) = (&case.text, &case.ids) else { continue };
        let tokenizer = tokenizer(golden.templates[&case.template].tokenizer.as_deref().unwrap());
        assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text}");
        compared += 1;
    }
    assert_eq!(compared, 16);
}

#[test]
fn texts_encode_and_decode_as_in_tokenizers() {
    let golden = golden();
    for (name, cases) in &golden.tokenizer_cases {
        let tokenizer = tokenizer(name);
        assert_eq!(cases.len(), 9);
        for case in cases {
            assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{name}: {:?}", case.text);
            assert_eq!(tokenizer.decode(&case.ids, false).unwrap(), case.decoded);
            assert_eq!(tokenizer.decode(&case.ids, true).unwrap(), case.decoded_without_special);
            let (ids, offsets): (Vec<_>, Vec<_>) =
                tokenizer.encode_with_offsets(&case.text).unwrap().into_iter().unzip();
            assert_eq!(ids, case.ids);
            // The other fixture's post-processor trims offsets in Python; the crate's cover every byte, see below.
            if name == "smollm_like" {
                let expected: Vec<_> = case.offsets.iter().map(|pair| pair[0]..pair[1]).collect();
                assert_eq!(offsets, expected, "{:?}", case.text);
            }
        }
    }
}

#[test]
fn offsets_leave_no_byte_out() {
    for name in ["smollm_like", "llama3_like"] {
        for text in ["  a \n\n b<|eot_id|><|im_end|>\n ", "é東🎴 x", "12 345\t"] {
            let tokens = tokenizer(name).encode_with_offsets(text).unwrap();
            let end = tokens.iter().fold(0, |end, (_, bytes)| {
                assert!(bytes.start <= end, "{name}: gap before {bytes:?} of {text:?}");
                end.max(bytes.end)
            });
            assert_eq!(end, text.len());
        }
    }
}

#[test]
fn a_trained_vocabulary_is_the_one_python_trains() {
    let golden = golden();
    let trained = train_tokenizer(&golden.corpus, 340, &["<|im_start|>", "<|im_end|>"]).unwrap();
    let python: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path("smollm_like.json")).unwrap()).unwrap();
    let ours: serde_json::Value = serde_json::from_str(&trained.to_json().unwrap()).unwrap();
    for part in ["model", "pre_tokenizer", "decoder", "added_tokens", "normalizer"] {
        assert_eq!(ours[part], python[part], "{part}");
    }
    assert_eq!(trained.vocab_size(), 340);
}

#[test]
fn settings_of_the_file_survive_a_round_trip_except_truncation() {
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path("llama3_like.json")).unwrap()).unwrap();
    assert!(file["truncation"].is_object());
    let ours: serde_json::Value = serde_json::from_str(&tokenizer("llama3_like").to_json().unwrap()).unwrap();
    assert!(ours["truncation"].is_null());
    for part in ["model", "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens"] {
        assert_eq!(ours[part], file[part], "{part}");
    }
}

#[test]
fn a_folder_is_read_in_the_order_transformers_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let render = || ChatTemplate::from_folder(folder.path()).unwrap().render(&[], false).unwrap();
    assert!(matches!(ChatTemplate::from_folder(folder.path()).unwrap_err(), Error::NoTemplate { .. }));

    write("tokenizer_config.json", r#"{"chat_template":"a{{bos_token}}{{eos_token}}","bos_token":{"content":"B"}}"#);
    assert_eq!(render(), "aB");
    let named = r#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d{{eos_token}}"}],
        "bos_token":null,"eos_token":"E"}"#;
    write("tokenizer_config.json", named);
    assert_eq!(render(), "dE");
    write("chat_template.jinja", "file{{ eos_token }}");
    assert_eq!(render(), "fileE");
    write("tokenizer_config.json", "{");
    assert!(matches!(ChatTemplate::from_folder(folder.path()).unwrap_err(), Error::Json { .. }));
}

#[test]
fn a_template_takes_a_date_and_variables() {
    let template = ChatTemplate::new("{{ strftime_now('%Y') }}{{ enable_thinking }}{{ tools }}", None, None).unwrap();
    assert_eq!(template.render(&[], false).unwrap(), "2024None");
    let template = template
        .with_date(Date::new(1999, 12, 31).unwrap())
        .unwrap()
        .with_variable("enable_thinking", serde_json::json!(false))
        .with_variable("tools", serde_json::json!([1]));
    assert_eq!(template.render(&[], false).unwrap(), "1999False[1]");
    let error = ChatTemplate::new("{% if %}", None, None).unwrap_err();
    assert!(matches!(error, Error::Template { .. }), "{error}");
}
