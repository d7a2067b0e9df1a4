//! Prompts, masks and multi-turn continuations over three templates.

use std::sync::LazyLock;

use proptest::prelude::*;
use rl_data::*;

use crate::fixtures::{renderer, renderers, tokenizer};

fn conversation() -> Vec<Message> {
    vec![
        Message::system("Be brief."),
        Message::user("Make 24 from 4 7 8 8.\nUse each card once."),
        Message::assistant("(7 - 8 / 8) * 4 = 24"),
        Message::user("And 10 10 4 4? 東京"),
        Message::assistant("(10 * 10 - 4) / 4 = 24 🎴"),
    ]
}

/// Text of the trainable tokens, runs separated by `|`.
fn trained_text(renderer: &Renderer, example: &Example) -> String {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    for (index, &id) in example.ids.iter().enumerate() {
        if example.trainable[index] {
            if index == 0 || !example.trainable[index - 1] {
                runs.push(Vec::new());
            }
            runs.last_mut().unwrap().push(id);
        }
    }
    runs.iter().map(|run| renderer.tokenizer().decode(run, false).unwrap()).collect::<Vec<_>>().join("|")
}

#[test]
fn trained_tokens_are_the_answers_with_their_end_of_turn() {
    for (name, renderer) in renderers() {
        let stop = renderer.stop_text();
        let first = format!("(7 - 8 / 8) * 4 = 24{stop}");
        let last = format!("(10 * 10 - 4) / 4 = 24 🎴{stop}");
        for (train_on, expected) in
            [(TrainOn::Assistant, format!("{first}|{last}")), (TrainOn::LastAssistant, last.clone())]
        {
            let example = renderer.example(&conversation(), train_on).unwrap();
            assert_eq!(trained_text(&renderer, &example), expected, "{name}");
        }
        let all = renderer.example(&conversation(), TrainOn::All).unwrap();
        assert!(all.trainable.iter().all(|&flag| flag), "{name}");
        assert_eq!(all.num_trainable(), all.ids.len() - 1);
    }
}

#[test]
fn the_end_of_turn_token_is_found() {
    for (name, stop) in [("chatml", "<|im_end|>"), ("smollm2", "<|im_end|>"), ("llama3_like", "<|eot_id|>")] {
        let renderer = renderer(name);
        assert_eq!(renderer.stop_text(), stop);
        assert_eq!(renderer.stop_ids(), [renderer.tokenizer().token_to_id(stop).unwrap()]);
    }
    let plain = ChatTemplate::new("{% for m in messages %}{{ m.content }}\n{% endfor %}", None, None).unwrap();
    assert!(matches!(Renderer::new(tokenizer("smollm_like"), plain).unwrap_err(), Error::NoStopToken { .. }));
}

#[test]
fn the_ids_before_an_answer_are_the_prompt_s() {
    for (name, renderer) in renderers() {
        let messages = conversation();
        let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
        let starts: Vec<usize> =
            (1..example.ids.len()).filter(|&index| example.trainable[index] && !example.trainable[index - 1]).collect();
        assert_eq!(starts.len(), 2);
        for (start, answer) in starts.into_iter().zip([2, 4]) {
            assert_eq!(renderer.prompt_ids(&messages[..answer]).unwrap(), example.ids[..start], "{name}");
        }
    }
}

#[test]
fn every_token_carries_its_role() {
    for (name, renderer) in renderers() {
        let example = renderer.example(&conversation(), TrainOn::LastAssistant).unwrap();
        let text_of = |role: Option<Role>| {
            let ids: Vec<u32> =
                example.ids.iter().zip(&example.roles).filter(|(_, r)| **r == role).map(|(&id, _)| id).collect();
            renderer.tokenizer().decode(&ids, true).unwrap()
        };
        assert_eq!(text_of(Some(Role::System)), "Be brief.", "{name}");
        assert_eq!(
            text_of(Some(Role::User)),
            "Make 24 from 4 7 8 8.\nUse each card once.And 10 10 4 4? 東京",
            "{name}"
        );
        assert_eq!(text_of(Some(Role::Assistant)), "(7 - 8 / 8) * 4 = 24(10 * 10 - 4) / 4 = 24 🎴", "{name}");
        assert!(!text_of(None).contains("24"), "{name}");
    }
}

#[test]
fn an_answer_the_template_trims_is_trained_as_printed() {
    let renderer = renderer("llama3_like");
    let messages = [Message::user(" hi "), Message::assistant("  24 \n")];
    let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
    assert_eq!(trained_text(&renderer, &example), "24<|eot_id|>");
    assert!(example.ids.starts_with(&renderer.prompt_ids(&messages[..1]).unwrap()));
    // An empty answer trains its end of turn alone.
    let example = renderer.example(&[Message::user("hi"), Message::assistant("")], TrainOn::Assistant).unwrap();
    assert_eq!(trained_text(&renderer, &example), "<|eot_id|>");
}

#[test]
fn the_model_s_own_default_system_message_is_no_obstacle() {
    let renderer = renderer("smollm2");
    let messages = [Message::user("hi"), Message::assistant("24")];
    let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
    assert_eq!(trained_text(&renderer, &example), "24<|im_end|>");
    let whole = renderer.tokenizer().decode(&example.ids, false).unwrap();
    assert!(whole.starts_with("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"));
    assert!(!example.roles.contains(&Some(Role::System)));
}

#[test]
fn what_cannot_be_trained_faithfully_is_refused() {
    let chatml = renderer("chatml");
    let ask = |answer: &str| [Message::user("hi"), Message::assistant(answer)];
    let error = |messages: &[Message]| chatml.example(messages, TrainOn::Assistant).unwrap_err();
    assert!(matches!(error(&ask("a<|im_end|>b")), Error::StopInsideAnswer { message: 1, .. }));
    assert!(matches!(error(&ask("x")[..1]), Error::NoAnswer));

    // A generation prompt that the finished conversation does not hold.
    let source = CHATML.replace("assistant\\n' -}}\n{%- endif", "assistant\\n<think>' -}}\n{%- endif");
    assert_ne!(source, CHATML);
    let thinking = Renderer::new(tokenizer("smollm_like"), ChatTemplate::new(source, None, None).unwrap()).unwrap();
    let error = thinking.example(&ask("x"), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::PromptNotPrefix { message: 1 }), "{error}");

    // End-of-turn only after the last answer: earlier ones would teach the model never to stop.
    let source =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if loop.last %}<|im_end|>{% endif %}
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let late = Renderer::new(tokenizer("smollm_like"), ChatTemplate::new(source, None, None).unwrap()).unwrap();
    let error = late.example(&conversation(), TrainOn::Assistant).unwrap_err();
    assert!(
        matches!(error, Error::StopNotCovered { message: 2, .. } | Error::PromptNotPrefix { message: 2 }),
        "{error}"
    );
}

/// As Qwen 3's template does: an empty thought before the last answer, thoughts removed from earlier ones.
const THINKING: &str = "{%- for m in messages %}
{%- set content = m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' and not loop.last else m.content %}
{%- if m.role == 'assistant' and loop.last and '</think>' not in content %}{% set content = '<think>\n\n</think>\n\n' + content %}{% endif %}
{{- '<|im_start|>' + m.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn a_template_that_rewrites_thoughts_is_trained_as_printed() {
    let template = ChatTemplate::new(THINKING, None, None).unwrap();
    let renderer = Renderer::new(tokenizer("smollm_like"), template).unwrap();
    let mut messages = conversation();
    messages[2].content = "<think>\nhm\n</think>\n\n24".into();
    for (last, printed) in
        [("24", "<think>\n\n</think>\n\n24"), ("<think>\nso\n</think>\n\n8", "<think>\nso\n</think>\n\n8")]
    {
        messages[4].content = last.into();
        let example = renderer.example(&messages, TrainOn::Assistant).unwrap();
        assert_eq!(trained_text(&renderer, &example), format!("24<|im_end|>|{printed}<|im_end|>"));
    }
    let stopped = renderer.feedback_ids(&messages, &Message::user("go on"), true).unwrap();
    let text = renderer.tokenizer().decode(&stopped, false).unwrap();
    assert_eq!(text, "\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn ids_that_sampling_would_not_see_are_refused() {
    // The only merge of this vocabulary is `\n\n`.
    let tokenizer = train_tokenizer(&["\n\n\n\n"], 259, &["<|im_start|>", "<|im_end|>"]).unwrap();
    let ask = |answer: &str| [Message::user("hi"), Message::assistant(answer)];

    // ChatML's header ends in `\n`, which merges with that of the answer.
    let chatml = Renderer::new(tokenizer.clone(), ChatTemplate::chatml().unwrap()).unwrap();
    let error = chatml.example(&ask("\n\nx"), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::Seam { message: 1 }), "{error}");
    assert!(chatml.example(&ask("x"), TrainOn::Assistant).is_ok());

    // A header that ends in `\n\n`: ByteLevel's pattern makes it one token at the end of a text and two before a
    // letter, so the ids differ although no token straddles the seam.
    let source = CHATML.replace("['role'] + '\\n'", "['role'] + '\\n\\n'").replace("assistant\\n'", "assistant\\n\\n'");
    let double = Renderer::new(tokenizer, ChatTemplate::new(source, None, None).unwrap()).unwrap();
    let error = double.example(&ask("x"), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::Seam { message: 1 }), "{error}");
    assert!(double.example(&ask("24"), TrainOn::Assistant).is_ok());
}

#[test]
fn feedback_continues_where_the_sampler_stopped() {
    let next = Message::user("You have failed. Try again.");
    for (name, expected) in [
        ("chatml", "\n<|im_start|>user\nYou have failed. Try again.<|im_end|>\n<|im_start|>assistant\n"),
        ("smollm2", "\n<|im_start|>user\nYou have failed. Try again.<|im_end|>\n<|im_start|>assistant\n"),
        (
            "llama3_like",
            "<|start_header_id|>user<|end_header_id|>\n\nYou have failed. Try again.<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ] {
        let renderer = renderer(name);
        let tokenizer = renderer.tokenizer();
        // The raw answer holds what a sampler may produce, the end-of-turn text included.
        let mut messages = vec![Message::user("4 7 8 8"), Message::assistant("  raw <|im_end|> QXZJ\n")];
        let stopped = renderer.feedback_ids(&messages, &next, true).unwrap();
        assert_eq!(tokenizer.decode(&stopped, false).unwrap(), expected, "{name}");
        let cut = renderer.feedback_ids(&messages, &next, false).unwrap();
        assert_eq!(cut, [renderer.stop_ids(), stopped.clone()].concat(), "{name}");

        // For an answer that tokenises as it was sampled, the pieces are the next prompt.
        messages[1].content = "24".into();
        let mut ids = renderer.prompt_ids(&messages[..1]).unwrap();
        ids.extend(tokenizer.encode("24").unwrap());
        ids.extend(renderer.feedback_ids(&messages, &next, false).unwrap());
        messages.push(next.clone());
        assert_eq!(ids, renderer.prompt_ids(&messages).unwrap(), "{name}");
        assert!(matches!(renderer.feedback_ids(&messages, &next, true), Err(Error::NotAnAnswer { .. })));
    }
}

#[test]
fn many_conversations_keep_their_order() {
    let renderer = renderer("chatml");
    let records: Vec<ChatRecord> = (0..40)
        .map(|n| ChatRecord::new(vec![Message::user("n?"), Message::assistant(n.to_string())]))
        .chain([ChatRecord::new(vec![Message::user("no answer")])])
        .collect();
    let examples = renderer.examples(&records, TrainOn::Assistant);
    for (n, example) in examples[..40].iter().enumerate() {
        let expected = format!("{n}<|im_end|>");
        assert_eq!(trained_text(&renderer, example.as_ref().unwrap()), expected);
    }
    assert!(matches!(examples[40], Err(Error::NoAnswer)));
}

#[test]
fn a_saved_renderer_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for (name, renderer) in renderers() {
        renderer.save(folder.path()).unwrap();
        let read = Renderer::from_folder(folder.path()).unwrap();
        let (ours, theirs) = [&renderer, &read].map(|r| r.example(&conversation(), TrainOn::Assistant).unwrap()).into();
        assert_eq!(ours, theirs, "{name}");
        assert_eq!(read.template().bos_token(), renderer.template().bos_token());
    }
    // Fields that only transformers knows are written back.
    let path = folder.path().join("tokenizer_config.json");
    std::fs::write(&path, r#"{"eos_token":"<|eot_id|>","bos_token":"<|begin_of_text|>","model_max_length":7}"#)
        .unwrap();
    Renderer::from_folder(folder.path()).unwrap().save(folder.path()).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"model_max_length\": 7"));
}

static RENDERERS: LazyLock<Vec<(&str, Renderer)>> = LazyLock::new(renderers);

proptest! {
    /// Any text, white space at every seam included: an example is faithful to sampling or refused as a seam.
    #[test]
    fn an_example_continues_its_prompt_or_is_refused(contents in prop::collection::vec("[ \\n\\ta-c1<|é東]{0,8}", 2..7)) {
        let messages: Vec<Message> = contents
            .iter()
            .enumerate()
            .map(|(at, text)| if at % 2 == 0 { Message::user(text) } else { Message::assistant(text) })
            .collect();
        for (name, renderer) in RENDERERS.iter() {
            let example = match renderer.example(&messages, TrainOn::Assistant) {
                Ok(example) => example,
                Err(Error::Seam { message }) => {
                    prop_assert!(contents[message].starts_with([' ', '\n', '\t']), "{} refused {:?}", name, contents);
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            for at in (1..messages.len()).step_by(2) {
                let prompt = renderer.prompt_ids(&messages[..at]).unwrap();
                prop_assert!(example.ids.starts_with(&prompt), "{}: {:?}", name, contents);
                prop_assert!(!example.trainable[prompt.len() - 1] && example.trainable[prompt.len()]);
            }
        }
    }
}
