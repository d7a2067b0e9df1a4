//! How responses end: stop ids, stop strings, limits, cancellation; and what is refused.

use std::ops::ControlFlow;

use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::generate::{CancelToken, Engine, FinishReason, Request, Response, SamplingConfig, Stats, generate};
use rl_models::{ChatModel, Error};

use crate::conversation;
use crate::generation::{prompt, requests, run, sampled};
use crate::tiny;

#[test]
fn finish_reasons_and_limits() {
    let decoder = tiny::decoder("tiny-tied");
    let free = run(&decoder, &requests(1), &[], &SamplingConfig::greedy(6, 1)).remove(0);
    assert_eq!((free.ids.len(), free.log_probs.len(), free.finish_reason), (6, 6, FinishReason::Length));
    // The stop token ends the answer at its first place, is kept, and wins over a limit reached at the same time.
    let stop = free.ids[3];
    let end = free.ids.iter().position(|&id| id == stop).unwrap();
    let mut finished = Vec::new();
    let config = SamplingConfig::greedy(end + 1, 1);
    let response = generate(&decoder, &requests(1), &[stop], &config, &mut |tokens| finished.push(tokens)).unwrap();
    assert_eq!(response[0].ids, free.ids[..=end]);
    assert_eq!(response[0].finish_reason, FinishReason::StopId);
    assert_eq!(finished, [end + 1]);

    // 64 positions: a prompt of 60 leaves room for 4 tokens, one of 63 for 1, whatever is asked for.
    for (length, room) in [(60, 4), (63, 1)] {
        let request = Request::new(prompt(1, length), RandomKey::new(0, "test"));
        for max_new_tokens in [100, usize::MAX] {
            let config = SamplingConfig::greedy(max_new_tokens, 2);
            let response = run(&decoder, std::slice::from_ref(&request), &[], &config).remove(0);
            assert_eq!((response.ids.len(), response.finish_reason), (room, FinishReason::Context));
        }
    }
    assert!(run(&decoder, &[], &[2], &sampled(5, 4)).is_empty());
}

#[test]
fn a_request_may_have_a_limit_of_its_own() {
    let decoder = tiny::decoder("tiny-tied");
    let limits = [3, 9, 1, 12, 2];
    let limited: Vec<Request> =
        requests(5).into_iter().zip(limits).map(|(request, limit)| request.max_new_tokens(limit)).collect();
    let free = run(&decoder, &requests(5), &[], &sampled(12, 2));
    for ((response, free), limit) in run(&decoder, &limited, &[], &sampled(6, 2)).iter().zip(&free).zip(limits) {
        assert_eq!((&response.ids[..], response.finish_reason), (&free.ids[..limit], FinishReason::Length));
    }
}

#[test]
fn no_stop_id_comes_before_the_fewest_tokens() {
    let decoder = tiny::decoder("tiny-untied");
    let stop_ids: Vec<i64> = (0..40).collect();
    for temperature in [0.0, 1.0] {
        let config = SamplingConfig { min_new_tokens: 5, ..SamplingConfig::sampled(30, temperature, 4) };
        let responses = run(&decoder, &requests(12), &stop_ids, &config);
        for response in &responses {
            // With most ids among the stop ids, a response hardly ever lasts longer than it must.
            assert_eq!(response.finish_reason, FinishReason::StopId);
            let first = response.ids.iter().position(|id| stop_ids.contains(id)).unwrap();
            assert!(5 <= first && first == response.ids.len() - 1, "{response:?}");
        }
        let free = run(&decoder, &requests(12), &stop_ids, &SamplingConfig { min_new_tokens: 0, ..config });
        assert!(free.iter().any(|response| response.ids.len() < 5), "without the setting they end earlier");
    }
}

fn respond(model: &ChatModel, config: &SamplingConfig, key: RandomKey) -> Response {
    let mut engine = model.engine(config).unwrap();
    let dialogue = model.dialogue(vec![Message::user("Cards: 10.")]).unwrap();
    engine.push(Request::new(dialogue.ids, key)).unwrap();
    engine.run(&mut |_| ()).unwrap().remove(0)
}

/// Token ids and text of the first `count` ids.
fn decode(model: &ChatModel, ids: &[i64]) -> String {
    let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    model.renderer.tokenizer().decode(&ids, true).unwrap()
}

#[test]
fn a_stop_string_is_found_where_tokens_split_it() {
    /// Stop strings after which no further response is searched for some.
    const ENOUGH: usize = 20;
    let model = conversation::model();
    let free = SamplingConfig::sampled(60, 1.0, 1);
    let mut cases = 0;
    for row in 0..40 {
        if ENOUGH <= cases {
            break;
        }
        let key = RandomKey::new(3, "stop").at(row);
        let all = respond(&model, &free, key);
        let ids = all.ids.strip_suffix(&[model.stop_ids()[0]]).unwrap_or(&all.ids);
        // Windows of two to four tokens whose texts are plain: the window's text is a stop string split in each way.
        for (start, length) in (3..ids.len().saturating_sub(4)).flat_map(|start| (2..=4).map(move |len| (start, len))) {
            let texts: Vec<String> = ids[start..start + length].iter().map(|&id| decode(&model, &[id])).collect();
            let is_plain = |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ');
            if !texts.iter().all(is_plain) {
                continue;
            }
            let whole = texts.concat();
            // The stop string begins and ends inside tokens where these are longer than a character.
            let stop = &whole[texts[0].len() - 1..=whole.len() - texts[length - 1].len()];
            let before = decode(&model, ids).find(stop).unwrap();
            let end = (1..=ids.len()).find(|&count| decode(&model, &ids[..count]).contains(stop)).unwrap();
            let longer = format!("{stop}{stop}\u{1}");
            let strings = vec![longer, stop.to_string(), "\u{1}".into()];
            for keep in [false, true] {
                let stop_strings = strings.clone();
                let config = SamplingConfig { stop_strings, keep_stop_string: keep, ..free.clone() };
                let found = respond(&model, &config, key);
                let text = &decode(&model, ids)[..before + if keep { stop.len() } else { 0 }];
                if found.finish_reason == FinishReason::StopString(2) {
                    continue; // that control character came first
                }
                assert_eq!(found.text.as_deref(), Some(text), "{stop:?}");
                assert_eq!(
                    (&found.ids[..], found.finish_reason),
                    (&ids[..end], FinishReason::StopString(1)),
                    "{stop:?}"
                );
            }
            cases += 1;
        }
    }
    assert!(ENOUGH <= cases, "{cases} stop strings were split");
}

#[test]
fn a_stop_string_waits_for_the_fewest_tokens() {
    let model = conversation::model();
    // Every text has one of these, so without a minimum the first token with a text ends the response.
    let stop_strings: Vec<String> = (1_u8..128).map(|byte| char::from(byte).to_string()).collect();
    let free = SamplingConfig { stop_strings, ..SamplingConfig::sampled(60, 1.0, 1) };
    for row in 0..10 {
        let key = RandomKey::new(4, "stop").at(row);
        let short = respond(&model, &free, key);
        let found = respond(&model, &SamplingConfig { min_new_tokens: 20, ..free.clone() }, key);
        assert!(short.ids.len() < 20 && 20 < found.ids.len(), "{} {}", short.ids.len(), found.ids.len());
        assert!(found.text.unwrap().len() > short.text.unwrap().len());
    }
}

#[test]
fn a_dialogue_keeps_all_tokens_and_its_text_ends_before_the_stop_string() {
    let model = conversation::model();
    let stop_strings: Vec<String> = ('a'..='z').map(String::from).collect();
    let config = SamplingConfig { stop_strings, ..SamplingConfig::sampled(200, 1.0, 2) };
    let mut dialogue = model.dialogue(vec![Message::user("10")]).unwrap();
    let prompt_len = dialogue.ids.len();
    model.respond(&mut [&mut dialogue], &[RandomKey::new(6, "stop")], &config, &mut |_| ()).unwrap();
    let turn = &dialogue.turns[0];
    let FinishReason::StopString(index) = turn.finish_reason else { panic!("{turn:?}") };
    let whole = decode(&model, &dialogue.ids[prompt_len..]);
    assert_eq!(whole.find(config.stop_strings[index].as_str()), Some(turn.text.len()));
    assert_eq!(
        (turn.start, turn.range().end, &dialogue.messages[1].content),
        (prompt_len, dialogue.ids.len(), &turn.text)
    );
    assert!(model.add_feedback(&mut dialogue, Message::user("again")).unwrap());
}

#[test]
fn cancelling_one_request_leaves_the_others_untouched() {
    let decoder = tiny::decoder("tiny-tied");
    let expected = run(&decoder, &requests(9), &[], &sampled(12, 3));
    let mut engine = Engine::new(&decoder, &sampled(12, 3), &[]).unwrap();
    requests(9).into_iter().for_each(|request| {
        engine.push(request).unwrap();
    });
    // 1 and 4 by the callback after some tokens, 7 while it waits, 2 while it has a slot.
    assert!(engine.cancel(7).unwrap());
    let mut responses = vec![None; 9];
    let mut steps = 0;
    while !engine.is_idle() {
        let finished = engine.step_with(&mut |token| match (token.request, token.position) {
            (1, 0) | (4, 6) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        finished.unwrap().into_iter().for_each(|(number, response)| responses[number] = Some(response));
        steps += 1;
        if steps == 4 {
            assert!(engine.cancel(2).unwrap());
        }
    }
    for (number, (found, expected)) in responses.into_iter().zip(&expected).enumerate() {
        let found: Response = found.unwrap();
        let length = match number {
            1 => 1,
            2 => found.ids.len(),
            4 => 7,
            7 => 0,
            _ => {
                assert_eq!((found.ids, found.finish_reason), (expected.ids.clone(), FinishReason::Length));
                continue;
            }
        };
        assert!(number != 2 || (0 < length && length < 12), "{length}");
        assert_eq!(
            (&found.ids[..], found.finish_reason),
            (&expected.ids[..length], FinishReason::Cancelled),
            "{number}"
        );
        assert_eq!(found.log_probs.len(), length);
    }
    assert!(!engine.cancel(3).unwrap(), "it has ended");
}

#[test]
fn a_cancel_token_ends_everything_and_every_request_is_answered() {
    let decoder = tiny::decoder("tiny-tied");
    let cancel = CancelToken::new();
    let mut engine = Engine::new(&decoder, &sampled(30, 2), &[]).unwrap().with_cancel(cancel.clone());
    requests(5).into_iter().for_each(|request| {
        engine.push(request).unwrap();
    });
    for _ in 0..4 {
        assert!(engine.step().unwrap().is_empty());
    }
    std::thread::spawn(move || cancel.cancel()).join().unwrap();
    let mut finished = engine.step().unwrap();
    assert!(engine.is_idle());
    finished.sort_by_key(|(number, _)| *number);
    assert!(finished.iter().map(|(number, _)| *number).eq(0..5));
    assert!(finished.iter().all(|(_, response)| response.finish_reason == FinishReason::Cancelled));
    let lengths: Vec<usize> = finished.iter().map(|(_, response)| response.ids.len()).collect();
    assert!(0 < lengths[0] && 0 < lengths[1] && lengths[2..] == [0, 0, 0], "{lengths:?}");
}

#[test]
fn unusable_requests_are_errors() {
    let decoder = tiny::decoder("tiny-tied");
    let key = RandomKey::new(0, "test");
    let fails = |prompt_ids: Vec<i64>, config: &SamplingConfig| {
        let requests = [Request::new(vec![1, 2], key), Request::new(prompt_ids, key)];
        generate(&decoder, &requests, &[2], config, &mut |_| ()).unwrap_err()
    };
    let fine = sampled(4, 1);
    assert!(matches!(fails(prompt(0, 64), &fine), Error::PromptTooLong { length: 64, limit: 63 }));
    assert!(matches!(fails(vec![5, 64], &fine), Error::TokenOutOfRange { id: 64, vocab_size: 64 }));
    assert!(matches!(fails(vec![-1], &fine), Error::TokenOutOfRange { id: -1, vocab_size: 64 }));
    assert!(matches!(fails(vec![], &fine), Error::Argument { name: "prompt_ids", .. }));
    let settings = [
        (sampled(0, 1), "`max_new_tokens` is 0"),
        (sampled(1, 0), "`num_slots` is 0"),
        (SamplingConfig { temperature: -1.0, ..sampled(1, 1) }, "`temperature` is -1"),
        (SamplingConfig { temperature: f64::NAN, ..sampled(1, 1) }, "`temperature` is NaN"),
        (SamplingConfig { top_p: 0.0, ..sampled(1, 1) }, "`top_p` is 0"),
        (SamplingConfig { top_p: 1.5, ..sampled(1, 1) }, "`top_p` is 1.5"),
        (SamplingConfig { min_p: -0.1, ..sampled(1, 1) }, "`min_p` is -0.1"),
        (SamplingConfig { min_p: f64::NAN, ..sampled(1, 1) }, "`min_p` is NaN"),
        (SamplingConfig { repetition_penalty: 0.0, ..sampled(1, 1) }, "`repetition_penalty` is 0"),
        (SamplingConfig { min_new_tokens: 3, ..sampled(2, 1) }, "`min_new_tokens` is 3"),
        (SamplingConfig { stop_strings: vec!["".into()], ..sampled(2, 1) }, "`stop_strings` is [\"\"]"),
        (SamplingConfig { stop_strings: vec!["a".into()], ..sampled(2, 1) }, "needs a tokenizer"),
    ];
    for (config, expected) in settings {
        let message = fails(vec![1], &config).to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
    let config = SamplingConfig { min_new_tokens: 3, ..sampled(8, 1) };
    for limit in [0, 2] {
        let request = Request::new(vec![1], key).max_new_tokens(limit);
        let error = generate(&decoder, &[request], &[2], &config, &mut |_| ()).unwrap_err();
        assert!(matches!(error, Error::Argument { name: "max_new_tokens", .. }), "{error}");
    }
}

#[test]
fn weights_that_are_not_numbers_are_errors() {
    for (tensor, value) in [("model.norm.weight", f64::NAN), ("model.layers.1.mlp.up_proj.weight", f64::INFINITY)] {
        let broken = tiny::decoder_with("tiny-tied", tensor, |weight| weight.full_like(value));
        for config in [SamplingConfig::greedy(3, 1), sampled(3, 1), SamplingConfig { top_p: 0.9, ..sampled(3, 1) }] {
            let error = generate(&broken, &requests(2), &[], &config, &mut |_| ()).unwrap_err();
            assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        }
    }
}

#[test]
fn an_engine_is_empty_and_usable_after_an_error() {
    let decoder = tiny::decoder("tiny-tied");
    let model = conversation::model();
    // A tokenizer of 300 ids beside a model of 64: fine. The other way round an id without a token is an error.
    let mut engine = Engine::new(&model.decoder, &sampled(30, 2), &[]).unwrap();
    engine = engine.with_tokenizer(&rl_data::train_tokenizer(&["a"], 256, &[]).unwrap());
    let push_all = |engine: &mut Engine| {
        (0..4).for_each(|row| {
            engine.push(Request::new(vec![1, row], RandomKey::new(0, "error").at(row as u64))).unwrap();
        });
    };
    push_all(&mut engine);
    let error = (0..200).find_map(|_| engine.step().err()).expect("an id past 255 is drawn");
    assert!(matches!(error, Error::Data(_)), "{error}");
    assert!(engine.is_idle());
    let tokenizer = model.renderer.tokenizer().clone();
    engine = engine.with_tokenizer(&tokenizer);
    push_all(&mut engine);
    let found = engine.run(&mut |_| ()).unwrap();
    let requests: Vec<Request> =
        (0..4).map(|row| Request::new(vec![1, row], RandomKey::new(0, "error").at(row as u64))).collect();
    let expected = run(&model.decoder, &requests, &[], &sampled(30, 2));
    assert!(found.iter().map(|response| &response.ids).eq(expected.iter().map(|response| &response.ids)));
    let fresh = Engine::new(&decoder, &sampled(1, 1), &[]).unwrap();
    assert_eq!((fresh.is_idle(), fresh.stats()), (true, Stats::default()));
}
