//! One response as it comes: tokens from a decoder, text from a chat model.

use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::generate::{CancelToken, FinishReason, SamplingConfig, Token, stream};
use rl_models::{Error, Result};

use crate::generation::{requests, run, sampled};
use crate::{conversation, tiny};

#[test]
fn a_stream_gives_the_tokens_of_the_response() {
    let decoder = tiny::decoder("tiny-untied");
    for request in requests(6) {
        let expected = run(&decoder, std::slice::from_ref(&request), &[9, 17], &sampled(10, 1)).remove(0);
        let mut tokens = stream(&decoder, request, &sampled(10, 1), &[9, 17]).unwrap();
        assert!(tokens.response().is_none());
        let all: Vec<Token> = tokens.by_ref().collect::<Result<_>>().unwrap();
        assert!(tokens.next().is_none(), "an ended stream stays ended");
        assert_eq!(tokens.response(), Some(&expected));
        assert!(all.iter().map(|token| token.id).eq(expected.ids.iter().copied()));
        assert!(all.iter().map(|token| token.position).eq(0..all.len()));
        assert!(all.iter().map(|token| token.log_prob).eq(expected.log_probs.iter().copied()));
        let reasons: Vec<_> = all.iter().filter_map(|token| token.finish_reason).collect();
        assert_eq!(
            (reasons, all.last().unwrap().finish_reason),
            (vec![expected.finish_reason], Some(expected.finish_reason))
        );
    }
}

#[test]
fn a_stream_ends_with_its_first_error() {
    let broken = tiny::decoder_with("tiny-tied", "model.norm.weight", |weight| weight.full_like(f64::NAN));
    let mut tokens = stream(&broken, requests(1).remove(0), &sampled(10, 1), &[]).unwrap();
    assert!(matches!(tokens.next(), Some(Err(Error::NonFinite { .. }))));
    assert!(tokens.next().is_none());
    let decoder = tiny::decoder("tiny-tied");
    let too_long = rl_models::generate::Request::new(vec![1; 64], RandomKey::new(0, "long"));
    assert!(matches!(stream(&decoder, too_long, &sampled(1, 1), &[]), Err(Error::PromptTooLong { .. })));
}

#[test]
fn a_reply_streams_the_text_of_its_turn() {
    let model = conversation::model();
    let stop_strings: Vec<String> = vec!["ab".into(), "Please".into(), "q".into(), "!?".into()];
    let mut stopped = 0;
    for row in 0..20 {
        let key = RandomKey::new(5, "reply").at(row);
        let config = SamplingConfig { stop_strings: stop_strings.clone(), ..SamplingConfig::sampled(80, 1.0, 1) };
        let mut expected = model.dialogue(vec![Message::user("10")]).unwrap();
        let mut dialogue = expected.clone();
        model.respond(&mut [&mut expected], &[key], &config, &mut |_| ()).unwrap();
        let pieces: Vec<String> = model.reply(&mut dialogue, key, &config).unwrap().collect::<Result<_>>().unwrap();
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        assert_eq!(pieces.concat(), expected.turns[0].text);
        assert_eq!((&dialogue.ids, &dialogue.messages), (&expected.ids, &expected.messages));
        assert_eq!(dialogue.turns[0].finish_reason, expected.turns[0].finish_reason);
        stopped += usize::from(matches!(expected.turns[0].finish_reason, FinishReason::StopString(_)));
    }
    assert!((3..20).contains(&stopped), "{stopped} of 20 met a stop string");
}

#[test]
fn a_cancelled_reply_keeps_what_was_said() {
    let model = conversation::model();
    let key = RandomKey::new(5, "reply");
    let config = SamplingConfig::sampled(80, 1.0, 1);
    let fresh = || model.dialogue(vec![Message::user("10")]).unwrap();
    let mut whole = fresh();
    model.respond(&mut [&mut whole], &[key], &config, &mut |_| ()).unwrap();

    let cancel = CancelToken::new();
    let mut dialogue = fresh();
    let engine = model.engine(&config).unwrap().with_cancel(cancel.clone());
    let mut text = String::new();
    for (index, piece) in model.reply_with(engine, &mut dialogue, key).unwrap().enumerate() {
        text += &piece.unwrap();
        if index == 4 {
            cancel.cancel();
        }
    }
    let turn = &dialogue.turns[0];
    assert_eq!((turn.finish_reason, &turn.text), (FinishReason::Cancelled, &text));
    assert_eq!(dialogue.ids, whole.ids[..dialogue.ids.len()]);
    assert!(dialogue.ids.len() < whole.ids.len());

    let mut dropped = fresh();
    assert!(model.reply(&mut dropped, key, &config).unwrap().next().is_some());
    assert_eq!((dropped.turns.len(), dropped.ids), (0, fresh().ids));
}
