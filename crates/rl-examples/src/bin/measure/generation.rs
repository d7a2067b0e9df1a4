//! Decoding and rollouts with the generation engine.

use std::time::Instant;

use anyhow::{Result, ensure};
use rl_core::random::RandomKey;
use rl_models::Decoder;
use rl_models::generate::{Request, Response, SamplingConfig, generate};

use crate::Measured;
use crate::inputs::Inputs;

/// Sequences that a rollout decodes together.
const ROLLOUT_SLOTS: usize = 128;
/// An empty list of stop ids: every answer goes on to its length, on both sides.
const NO_STOPS: &[i64] = &[];

/// Greedy answers of a fixed length. One new token costs the prefill; what the others cost beyond it is decoding.
pub fn decode(decoder: &Decoder, inputs: &Inputs, batch: usize) -> Result<Measured> {
    let new_tokens = inputs.decode.new_tokens;
    let prompts = &inputs.prompts[..batch];
    let requests: Vec<Request> = prompts.iter().enumerate().map(|(index, prompt)| request(prompt, index)).collect();
    let run = |count: usize| -> Result<(f64, Vec<Vec<i64>>)> {
        let started = Instant::now();
        let responses = generate(decoder, &requests, NO_STOPS, &SamplingConfig::greedy(count, batch), &mut |_| {})?;
        let seconds = started.elapsed().as_secs_f64();
        let answers: Vec<Vec<i64>> = responses.into_iter().map(|response| response.ids).collect();
        ensure!(answers.iter().all(|ids| ids.len() == count), "an answer is not {count} tokens long");
        Ok((seconds, answers))
    };
    run(inputs.decode.warm_up_tokens)?;
    let (prefill_seconds, _) = run(1)?;
    let (seconds, tokens) = run(new_tokens)?;
    let prompt_tokens: usize = prompts.iter().map(Vec::len).sum();
    let values = [
        ("seconds", seconds),
        ("prefill_tokens_per_second", prompt_tokens as f64 / prefill_seconds),
        ("decode_tokens_per_second", (batch * (new_tokens - 1)) as f64 / (seconds - prefill_seconds)),
    ];
    Ok(Measured { values: values.into(), tokens, ..Default::default() })
}

/// Sampled answers to groups of prompts, each of its own length. Useful tokens are those that were wanted.
pub fn rollout(decoder: &Decoder, inputs: &Inputs) -> Result<Measured> {
    let wanted = &inputs.rollout;
    let prompts = &inputs.prompts[..wanted.num_prompts];
    let group = |prompt| std::iter::repeat_n(prompt, wanted.group_size);
    let requests: Vec<Request> =
        prompts.iter().flat_map(group).enumerate().map(|(index, prompt)| request(prompt, index)).collect();
    let warm_up = vec![inputs.decode.warm_up_tokens; wanted.group_size];
    answers_of_lengths(decoder, &requests[..wanted.group_size], &warm_up, wanted.temperature)?;
    let started = Instant::now();
    let responses = answers_of_lengths(decoder, &requests, &wanted.lengths, wanted.temperature)?;
    let seconds = started.elapsed().as_secs_f64();
    let exact = responses.iter().zip(&wanted.lengths).all(|(response, &length)| response.ids.len() == length);
    ensure!(exact, "an answer has not the length that was wanted");
    let useful: usize = wanted.lengths.iter().sum();
    let values = [("seconds", seconds), ("useful_tokens_per_second", useful as f64 / seconds)];
    Ok(Measured { values: values.into(), ..Default::default() })
}

/// Answers where request `r` gets `lengths[r]` tokens.
fn answers_of_lengths(
    decoder: &Decoder,
    requests: &[Request],
    lengths: &[usize],
    temperature: f64,
) -> Result<Vec<Response>> {
    let limited = requests.iter().cloned().zip(lengths).map(|(request, &length)| request.max_new_tokens(length));
    let limited: Vec<Request> = limited.collect();
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let config = SamplingConfig::sampled(longest, temperature, ROLLOUT_SLOTS);
    Ok(generate(decoder, &limited, NO_STOPS, &config, &mut |_| {})?)
}

fn request(prompt: &[i64], index: usize) -> Request {
    Request::new(prompt.to_vec(), RandomKey::new(0, "bench answers").at(index as u64))
}
