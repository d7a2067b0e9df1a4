//! The token ids and lengths that both sides use: a fixed text, cut at fixed places.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rl_core::random::RandomKey;
use rl_data::Tokenizer;
use serde::{Deserialize, Serialize};

/// The text that prompts and training sequences are cut from.
const TEXT: &str = include_str!("text.txt");
/// Most prompts that a job uses together.
const NUM_PROMPTS: usize = 32;
/// Prompt lengths go round from 28 to 36, so that batches of them need padding where a library pads.
const PROMPT_LENGTHS: (usize, usize) = (28, 36);
/// Tokens from the start of one prompt to the start of the next.
const PROMPT_STRIDE: usize = 23;
/// Lengths of rollout answers: evenly spread between these, in an order that a hash gives.
const ANSWER_LENGTHS: (usize, usize) = (8, 256);
/// Lengths of the training sequences: evenly spread between these.
const SEQUENCE_LENGTHS: (usize, usize) = (32, 512);
const NUM_SEQUENCES: usize = 8;

/// Everything that a job of either side has to know beside the model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Inputs {
    /// Token ids of each prompt; a job takes as many as it needs, from the start.
    pub prompts: Vec<Vec<i64>>,
    /// Greedy decoding.
    pub decode: DecodeInputs,
    /// Sampling in groups.
    pub rollout: RolloutInputs,
    /// One optimizer step.
    pub train: TrainInputs,
}

/// Greedy decoding of a fixed number of tokens.
#[derive(Debug, Serialize, Deserialize)]
pub struct DecodeInputs {
    /// Tokens of each answer.
    pub new_tokens: usize,
    /// Tokens of the unmeasured run before.
    pub warm_up_tokens: usize,
}

/// Sampled answers, each of its own length.
#[derive(Debug, Serialize, Deserialize)]
pub struct RolloutInputs {
    /// Prompts, from the start of the list.
    pub num_prompts: usize,
    /// Answers to each prompt.
    pub group_size: usize,
    /// Divides the logits.
    pub temperature: f64,
    /// Tokens of each answer, `[num_prompts * group_size]`, the answers to one prompt beside each other.
    pub lengths: Vec<usize>,
}

/// Full fine-tuning on all sequences in one optimizer step.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrainInputs {
    /// Token ids; all but the first of each sequence are labels.
    pub sequences: Vec<Vec<i64>>,
    /// Of AdamW, constant.
    pub learning_rate: f64,
    /// Of AdamW.
    pub weight_decay: f64,
    /// The gradient is clipped to this norm.
    pub max_grad_norm: f64,
    /// Steps before the timed one.
    pub warm_up_steps: usize,
}

impl Inputs {
    /// Cuts the text with the tokenizer of a checkpoint folder.
    pub fn prepare(model: &Path) -> Result<Self> {
        let ids: Vec<i64> = Tokenizer::from_folder(model)?.encode(TEXT)?.into_iter().map(i64::from).collect();
        let needed = NUM_PROMPTS * PROMPT_STRIDE;
        ensure!(needed <= ids.len(), "the text has {} tokens with this tokenizer, need {needed}", ids.len());
        // Cuts go round from the end of the text to its start.
        let cut = |start: usize, length: usize| (start..start + length).map(|at| ids[at % ids.len()]).collect();
        let (shortest, longest) = PROMPT_LENGTHS;
        let prompt = |index: usize| cut(index * PROMPT_STRIDE, shortest + index * 5 % (longest - shortest + 1));
        let (num_prompts, group_size) = (16, 8);
        let mut lengths = spread(ANSWER_LENGTHS, num_prompts * group_size);
        let key = RandomKey::new(0, "bench answer lengths");
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by(|&a, &b| key.uniform(a as u64).total_cmp(&key.uniform(b as u64)));
        lengths = order.into_iter().map(|index| lengths[index]).collect();
        let sequence = |(index, length): (usize, usize)| cut(index * 101, length);
        Ok(Inputs {
            prompts: (0..NUM_PROMPTS).map(prompt).collect(),
            decode: DecodeInputs { new_tokens: 128, warm_up_tokens: 8 },
            rollout: RolloutInputs { num_prompts, group_size, temperature: 1.0, lengths },
            train: TrainInputs {
                sequences: spread(SEQUENCE_LENGTHS, NUM_SEQUENCES).into_iter().enumerate().map(sequence).collect(),
                learning_rate: 1e-5,
                weight_decay: 0.0,
                max_grad_norm: 1.0,
                warm_up_steps: 1,
            },
        })
    }

    /// Reads what `prepare` wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what `measure prepare` writes", path.display()))
    }
}

/// `count` whole numbers evenly spread over a closed range, rising.
fn spread((first, last): (usize, usize), count: usize) -> Vec<usize> {
    let step = (last - first) as f64 / (count - 1) as f64;
    (0..count).map(|index| first + (index as f64 * step).round() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_reaches_both_ends() {
        assert_eq!(spread((32, 512), 8), [32, 101, 169, 238, 306, 375, 443, 512]);
        assert_eq!(spread((8, 256), 128).first(), Some(&8));
        assert_eq!(spread((8, 256), 128).last(), Some(&256));
    }
}
