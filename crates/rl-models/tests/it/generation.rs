//! Generation: the cache changes nothing, neighbours change nothing, and the log-probabilities are the model's.

use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use rl_models::generate::{FinishReason, Request, Response, SamplingConfig, generate};
use rl_models::{Decoder, Error, token_log_probs};
use tch::{Kind, Tensor};

use crate::tiny::{self, assert_close, logits, numbers};

/// Cached decoding and a full forward pass sum in another order.
const RECOMPUTE: f32 = 1e-5;
/// Log-probabilities reported by the sampler against those of the training forward pass.
const SAMPLER_GAP: f32 = 1e-4;

fn prompt(row: usize, length: usize) -> Vec<i64> {
    (0..length).map(|position| ((row * 13 + position * 29 + 3) % 64) as i64).collect()
}

fn requests(count: usize) -> Vec<Request> {
    let key = RandomKey::new(11, "test");
    let request = |row: usize| Request::new(prompt(row, 1 + row * 5 % 12), key.at(row as u64));
    (0..count).map(request).collect()
}

fn sampled(max_new_tokens: usize, num_slots: usize) -> SamplingConfig {
    SamplingConfig::sampled(max_new_tokens, 0.9, num_slots)
}

fn run(decoder: &Decoder, requests: &[Request], stop_ids: &[i64], config: &SamplingConfig) -> Vec<Response> {
    generate(decoder, requests, stop_ids, config, &mut |_| ()).unwrap()
}

#[test]
fn cached_decoding_equals_full_recompute() {
    for name in tiny::NAMES {
        let decoder = tiny::decoder(name);
        let requests = requests(7);
        let responses = run(&decoder, &requests, &[], &SamplingConfig::greedy(20, 3));
        for (request, response) in requests.iter().zip(responses) {
            let mut row = request.prompt_ids.clone();
            for (&id, &log_prob) in response.ids.iter().zip(&response.log_probs) {
                let logits = logits(&decoder, &row);
                let last = &logits[logits.len() - 64..];
                let best = (0..64).reduce(|best, id| if last[best] < last[id] { id } else { best }).unwrap();
                assert_eq!(id, best as i64, "{name}");
                let log_softmax = Tensor::from_slice(last).log_softmax(-1, Kind::Double);
                assert_close(&[log_prob], &[log_softmax.double_value(&[id]) as f32], RECOMPUTE, name);
                row.push(id);
            }
            assert_eq!(response.ids.len(), 20);
        }
    }
}

#[test]
fn a_request_does_not_depend_on_slots_neighbours_or_order() {
    let decoder = tiny::decoder("tiny-untied");
    let requests = requests(23);
    let stop_ids = [2, 9, 17];
    let expected = run(&decoder, &requests, &stop_ids, &sampled(15, 1));
    let lengths: Vec<usize> = expected.iter().map(|response| response.ids.len()).collect();
    assert!(lengths.iter().min() < lengths.iter().max(), "answers end at different times: {lengths:?}");
    let same = |found: &Response, expected: &Response| {
        assert_eq!(found.ids, expected.ids);
        assert_eq!(found.finish_reason, expected.finish_reason);
        assert_close(&found.log_probs, &expected.log_probs, RECOMPUTE, "log-probabilities");
    };
    for num_slots in [2, 5, 8, 23, 100] {
        let responses = run(&decoder, &requests, &stop_ids, &sampled(15, num_slots));
        assert_eq!(responses.len(), expected.len());
        responses.iter().zip(&expected).for_each(|(found, expected)| same(found, expected));
    }
    let reversed: Vec<Request> = requests.iter().rev().cloned().collect();
    let responses = run(&decoder, &reversed, &stop_ids, &sampled(15, 4));
    responses.iter().rev().zip(&expected).for_each(|(found, expected)| same(found, expected));
    let some: Vec<Request> = requests.iter().skip(5).step_by(4).cloned().collect();
    let responses = run(&decoder, &some, &stop_ids, &sampled(15, 3));
    responses.iter().zip(expected.iter().skip(5).step_by(4)).for_each(|(found, expected)| same(found, expected));
}

#[test]
fn a_group_that_shares_its_prompt_equals_separate_requests() {
    let decoder = tiny::decoder("tiny-tied");
    let key = RandomKey::new(3, "group");
    let group: Vec<Request> =
        (0..12).map(|member| Request::new(prompt(member / 6, 9), key.at(member as u64))).collect();
    let together = run(&decoder, &group, &[2], &sampled(10, 12));
    let mut different = std::collections::BTreeSet::new();
    for (request, found) in group.iter().zip(&together) {
        let alone = &run(&decoder, std::slice::from_ref(request), &[2], &sampled(10, 1))[0];
        assert_eq!(found.ids, alone.ids);
        assert_close(&found.log_probs, &alone.log_probs, RECOMPUTE, "log-probabilities");
        different.insert(found.ids.clone());
    }
    assert!(6 < different.len(), "members of a group draw differently");
}

#[test]
fn reported_log_probs_are_those_of_the_training_forward() {
    for (name, temperature) in [("tiny-tied", 1.0), ("tiny-tied", 0.5), ("tiny-untied", 1.7), ("tiny-untied", 0.0)] {
        let decoder = tiny::decoder(name);
        let requests = requests(9);
        let config = SamplingConfig { temperature, ..sampled(20, 4) };
        let responses = run(&decoder, &requests, &[2], &config);
        let rows: Vec<Vec<i64>> =
            requests.iter().zip(&responses).map(|(request, r)| [&request.prompt_ids[..], &r.ids].concat()).collect();
        let packed = decoder.pack(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let (mut label_rows, mut labels, mut reported) = (Vec::new(), Vec::new(), Vec::new());
        for ((request, response), &start) in requests.iter().zip(&responses).zip(&packed.boundaries) {
            let first = start + request.prompt_ids.len() - 1;
            label_rows.extend((0..response.ids.len()).map(|offset| (first + offset) as i64));
            labels.extend_from_slice(&response.ids);
            reported.extend_from_slice(&response.log_probs);
        }
        // Greedy answers report the model's own distribution.
        let temperature = if temperature == 0.0 { 1.0 } else { temperature };
        let hidden = tch::no_grad(|| decoder.hidden_states(&packed)).unwrap();
        let (label_rows, labels) = (Tensor::from_slice(&label_rows), Tensor::from_slice(&labels));
        let trained =
            numbers(&tch::no_grad(|| token_log_probs(&decoder, &hidden, &label_rows, &labels, temperature)).unwrap());
        assert_close(&reported, &trained, SAMPLER_GAP, &format!("{name} at {temperature}"));
    }
}

/// Counts of first tokens against their probabilities: a chi-squared test with a quantile from tables.
#[test]
fn tokens_are_drawn_with_the_probabilities_of_the_model() {
    const DRAWS: usize = 4000;
    /// 0.9999 quantile of chi-squared with 63 degrees of freedom.
    const LIMIT: f64 = 112.6;
    let decoder = tiny::decoder("tiny-tied");
    let key = RandomKey::new(8, "draws");
    let prompt_ids = prompt(2, 6);
    let requests: Vec<Request> =
        (0..DRAWS).map(|i| Request::new(prompt_ids.clone(), key.at(i as u64))).collect();
    let config = SamplingConfig { temperature: 2.0, ..sampled(1, 512) };
    let mut counts: BTreeMap<i64, f64> = BTreeMap::new();
    for response in run(&decoder, &requests, &[], &config) {
        *counts.entry(response.ids[0]).or_default() += 1.0;
    }
    let logits = logits(&decoder, &prompt_ids);
    let probabilities = (Tensor::from_slice(&logits[logits.len() - 64..]) / 2.0).softmax(-1, Kind::Double);
    let statistic: f64 = (0..64)
        .map(|id| {
            let expected = DRAWS as f64 * probabilities.double_value(&[id]);
            (counts.get(&id).copied().unwrap_or(0.0) - expected).powi(2) / expected
        })
        .sum();
    assert!(statistic < LIMIT, "chi-squared {statistic}");
}

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
    ];
    for (config, expected) in settings {
        let message = fails(vec![1], &config).to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
}

#[test]
fn weights_that_are_not_numbers_are_errors() {
    for (tensor, value) in [("model.norm.weight", f64::NAN), ("model.layers.1.mlp.up_proj.weight", f64::INFINITY)] {
        let broken = tiny::decoder_with("tiny-tied", tensor, |weight| weight.full_like(value));
        for config in [SamplingConfig::greedy(3, 1), sampled(3, 1)] {
            let error = generate(&broken, &requests(2), &[], &config, &mut |_| ()).unwrap_err();
            assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        }
    }
}
