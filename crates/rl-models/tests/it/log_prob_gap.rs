//! The sampler's log-probabilities against those of the packed forward pass that a trainer runs.

use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::generate::{Gap, Request, Response, SamplingConfig, log_prob_gap};
use rl_models::{ChatModel, Decoder, token_log_probs};
use tch::{Device, Tensor};

use crate::generation::{requests, run, sampled};
use crate::tiny::{self, assert_close, numbers};

/// Log-probabilities reported by the sampler against those of the training forward pass, f32 on the CPU.
const SAMPLER_GAP: f64 = 1e-4;

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
            assert_eq!(response.log_probs, response.full_log_probs, "nothing is truncated");
        }
        // Greedy answers report the model's own distribution.
        let temperature = if temperature == 0.0 { 1.0 } else { temperature };
        let hidden = tch::no_grad(|| decoder.hidden_states(&packed)).unwrap();
        let (label_rows, labels) = (Tensor::from_slice(&label_rows), Tensor::from_slice(&labels));
        let trained =
            numbers(&tch::no_grad(|| token_log_probs(&decoder, &hidden, &label_rows, &labels, temperature)).unwrap());
        assert_close(&reported, &trained, SAMPLER_GAP as f32, &format!("{name} at {temperature}"));
    }
}

fn gap_of(decoder: &Decoder, requests: &[Request], responses: &[Response], temperature: f64) -> Gap {
    let pairs = requests.iter().zip(responses);
    let gaps =
        pairs.map(|(request, response)| log_prob_gap(decoder, &request.prompt_ids, response, temperature).unwrap());
    gaps.fold(Gap::default(), Gap::join)
}

#[test]
fn the_gap_counts_truncation_and_penalties_out() {
    let settings = [
        SamplingConfig { top_k: 3, ..sampled(20, 4) },
        SamplingConfig { top_p: 0.6, min_p: 0.05, ..sampled(20, 4) },
        SamplingConfig { repetition_penalty: 1.4, min_new_tokens: 6, ..sampled(20, 4) },
        SamplingConfig { repetition_penalty: 0.7, temperature: 0.0, ..sampled(20, 4) },
    ];
    for config in settings {
        let decoder = tiny::decoder("tiny-untied");
        let requests = requests(6);
        let responses = run(&decoder, &requests, &[2], &config);
        let gap = gap_of(&decoder, &requests, &responses, config.temperature);
        assert_eq!(gap.num_tokens, responses.iter().map(|response| response.ids.len()).sum::<usize>());
        assert!(gap.max < SAMPLER_GAP && gap.mean <= gap.max, "{config:?}: {gap:?}");
        let pairs = responses.iter().flat_map(|response| response.log_probs.iter().zip(&response.full_log_probs));
        assert!(pairs.into_iter().any(|(drawn, full)| 1e-2 < (drawn - full).abs()), "{config:?} changes something");
    }
}

#[test]
fn a_gap_is_the_difference_of_log_probabilities() {
    let decoder = tiny::decoder("tiny-tied");
    let requests = requests(1);
    let mut response = run(&decoder, &requests, &[], &sampled(4, 1)).remove(0);
    response.full_log_probs[1] += 0.25;
    response.full_log_probs[3] -= 0.5;
    let gap = log_prob_gap(&decoder, &requests[0].prompt_ids, &response, 0.9).unwrap();
    assert!((gap.max - 0.5).abs() < SAMPLER_GAP && (gap.mean - 0.1875).abs() < SAMPLER_GAP, "{gap:?}");
    let joined = gap.join(Gap { max: 1.0, mean: 0.4375, num_tokens: 4 });
    assert!(joined.max == 1.0 && (joined.mean - 0.3125).abs() < SAMPLER_GAP && joined.num_tokens == 8, "{joined:?}");
    response.full_log_probs[0] = f32::NAN;
    assert!(log_prob_gap(&decoder, &requests[0].prompt_ids, &response, 0.9).is_err());
}

/// Runs where `data/models/smollm2-135m` of the workspace, or the folder in `REINS_SMOLLM2`, is present.
#[test]
fn the_gap_of_smollm2_is_small() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/smollm2-135m");
    let folder = std::env::var_os("REINS_SMOLLM2").map_or(workspace, PathBuf::from);
    if !folder.exists() {
        eprintln!("skipped: {} is absent; `cargo xtask model smollm2-135m` makes it", folder.display());
        return;
    }
    let model = ChatModel::load(&folder, Device::Cpu).unwrap();
    let key = RandomKey::new(0, "gap");
    let questions = ["rain", "primes", "Rust", "bread", "tides", "chess", "glass", "maps"];
    let requests: Vec<Request> = (0_u64..)
        .zip(questions)
        .map(|(row, topic)| {
            let dialogue = model.dialogue(vec![Message::user(format!("Explain {topic} to a child."))]).unwrap();
            Request::new(dialogue.ids, key.at(row))
        })
        .collect();
    let responses = run(&model.decoder, &requests, &[], &SamplingConfig::sampled(64, 1.0, 8));
    let gap = gap_of(&model.decoder, &requests, &responses, 1.0);
    println!("{gap:?}");
    assert_eq!(gap.num_tokens, 8 * 64);
    assert!(gap.max < SAMPLER_GAP, "{gap:?}");
}
