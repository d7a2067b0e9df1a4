//! Pairs of answers to one prompt as packed micro-batches: a pair stays together and its prompt goes through the model once.

use std::collections::BTreeMap;

use rl_core::preference_loss::ld_dpo_token_weights;
use rl_data::{PreferenceExample, PreferenceRecord, Renderer, Seams, SelectionPolicy};
use rl_models::Decoder;

use crate::batch::{MicroBatch, TrainingRow, unit_micro_batches, unit_tokens};
use crate::config::{DataConfig, HeldOutConfig};
use crate::data::{Loaded, load, select_rows};
use crate::sft::training_row;
use crate::{Error, Result};

/// Two answers to one prompt as token ids.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPair {
    /// What error messages and records call it: its row in the file.
    pub id: u64,
    /// Prompt and preferred response; trainable are the response's tokens.
    pub chosen: TrainingRow,
    /// The same prompt and the other response.
    pub rejected: TrainingRow,
    /// By how much the preferred response is better, where the data says so.
    pub margin: Option<f64>,
}

impl TrainingPair {
    /// A prompt `[seq]` with two responses `[seq]`, every token of which is trained.
    pub fn new(id: u64, prompt_ids: &[i64], chosen_ids: &[i64], rejected_ids: &[i64], margin: Option<f64>) -> Self {
        let side = |response_ids: &[i64]| TrainingRow {
            id,
            ids: [prompt_ids, response_ids].concat(),
            trainable: (0..prompt_ids.len() + response_ids.len()).map(|token| prompt_ids.len() <= token).collect(),
            group: Some(id),
        };
        TrainingPair { id, chosen: side(chosen_ids), rejected: side(rejected_ids), margin }
    }

    /// Preferred response first.
    pub fn sides(&self) -> [&TrainingRow; 2] {
        [&self.chosen, &self.rejected]
    }

    /// Tokens of both sides.
    pub fn num_tokens(&self) -> usize {
        self.sides().iter().map(|side| side.ids.len()).sum()
    }

    /// Refuses a side without a target.
    pub(crate) fn check(&self) -> Result<()> {
        match self.sides().iter().all(|side| 0 < side.num_labels()) {
            true => Ok(()),
            false => Err(Error::NoResponse { row: self.id }),
        }
    }
}

/// The pairs of `data`, and those of `held_out`.
pub(crate) fn load_pairs(
    renderer: &Renderer,
    data: &DataConfig,
    held_out: &BTreeMap<String, HeldOutConfig>,
    seams: Seams,
    selection: &SelectionPolicy,
) -> Result<Loaded<TrainingPair>> {
    load::<PreferenceRecord, _>("data", data, held_out, |rows, _| {
        let examples = renderer.preference_examples(&rows.records, seams);
        select_rows(rows, examples, selection, |id, _, example| Ok(training_pair(id, example)))
    })
}

fn training_pair(id: u64, example: PreferenceExample) -> TrainingPair {
    let side = |side: rl_data::Example| TrainingRow { group: Some(id), ..training_row(id, side) };
    TrainingPair { id, margin: example.margin, chosen: side(example.chosen), rejected: side(example.rejected) }
}

/// Splits pairs into micro-batches of at most `max_tokens` tokens each, largest first; the prompt of a pair counts once.
/// A larger pair has a micro-batch of its own.
pub(crate) fn pair_micro_batches(pairs: &[&TrainingPair], max_tokens: usize) -> Vec<Vec<usize>> {
    let tokens: Vec<usize> = pairs.iter().map(|pair| unit_tokens(&pair.sides(), &[0, 1])).collect();
    unit_micro_batches(&tokens, max_tokens)
}

/// What the loss reads of a pair's tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PairLayout {
    /// The preferred side's prompt is predicted too, for a supervised term.
    pub with_prompt: bool,
    /// LD-DPO's weight of the tokens past the shorter response.
    pub ld_alpha: Option<f64>,
}

/// Pairs that go through the model together; sequences `2 i` and `2 i + 1` are the sides of pair `i`.
#[derive(Debug)]
pub(crate) struct PairBatch {
    /// Indices into the pairs of the step, in packing order.
    pub pairs: Vec<usize>,
    /// Names of the pairs, for errors.
    pub ids: Vec<u64>,
    /// The packed sequences; a label is a response token, or one of the prompts that [`PairLayout::with_prompt`] adds.
    pub micro: MicroBatch,
    /// Whether a label is a response token, `[labels]`.
    pub is_response: Vec<bool>,
    /// Weight of a label in its sequence's sum, 0 for a prompt's, `[labels]`.
    weights: Vec<f64>,
}

impl PairBatch {
    /// Packs the chosen pairs of `all`.
    pub fn new(decoder: &Decoder, all: &[&TrainingPair], pairs: Vec<usize>, layout: PairLayout) -> Result<Self> {
        let chosen: Vec<&TrainingPair> = pairs.iter().map(|&pair| all[pair]).collect();
        let (mut is_response, mut weights) = (Vec::new(), Vec::new());
        let mut rows = Vec::with_capacity(2 * chosen.len());
        for (index, pair) in chosen.iter().enumerate() {
            let lengths = pair.sides().map(TrainingRow::num_labels);
            let alpha = layout.ld_alpha.unwrap_or(1.0);
            let (of_chosen, of_rejected) = ld_dpo_token_weights(lengths[0], lengths[1], alpha)?;
            for (side, own, with_prompt) in
                [(&pair.chosen, of_chosen, layout.with_prompt), (&pair.rejected, of_rejected, false)]
            {
                let mut own = own.into_iter();
                for &trained in side.trainable.iter().skip(1).filter(|&&trained| trained || with_prompt) {
                    is_response.push(trained);
                    weights.push(if trained { own.next().unwrap_or_default() } else { 0.0 });
                }
                // Numbered by its place: a pair that comes twice in a step is two pairs.
                let mut row = TrainingRow { group: Some(index as u64), ..side.clone() };
                if with_prompt {
                    row.trainable.fill(true);
                }
                rows.push(row);
            }
        }
        let micro = MicroBatch::new(decoder, &rows, (0..rows.len()).collect())?;
        let ids = chosen.iter().map(|pair| pair.id).collect();
        Ok(PairBatch { pairs, ids, micro, is_response, weights })
    }

    /// Sums of `log_probs` `[labels]` over each response, weighted under LD-DPO: of the chosen and of the rejected sides,
    /// `[pairs]` each.
    pub fn sums(&self, log_probs: &[f32]) -> [Vec<f64>; 2] {
        let mut sides = [Vec::new(), Vec::new()];
        for (sequence, labels) in self.labels().enumerate() {
            let tokens = labels.filter(|&label| self.is_response[label]);
            sides[sequence % 2].push(tokens.map(|label| self.weights[label] * f64::from(log_probs[label])).sum());
        }
        sides
    }

    /// Response tokens of the chosen and of the rejected sides, `[pairs]` each.
    pub fn lengths(&self) -> [Vec<usize>; 2] {
        let mut sides = [Vec::new(), Vec::new()];
        for (sequence, labels) in self.labels().enumerate() {
            sides[sequence % 2].push(labels.filter(|&label| self.is_response[label]).count());
        }
        sides
    }

    /// Gradient of every label, `[labels]`, from those of the sums.
    pub fn spread(&self, chosen: &[f64], rejected: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.weights.len()];
        for (sequence, labels) in self.labels().enumerate() {
            let own = if sequence % 2 == 0 { chosen[sequence / 2] } else { rejected[sequence / 2] };
            labels.for_each(|label| gradient[label] = self.weights[label] * own);
        }
        gradient
    }

    /// True on the labels of the chosen sides: on the response's alone unless `with_prompt`, `[labels]`.
    pub fn chosen_mask(&self, with_prompt: bool) -> Vec<bool> {
        let mut mask = vec![false; self.is_response.len()];
        for labels in self.labels().step_by(2) {
            labels.for_each(|label| mask[label] = with_prompt || self.is_response[label]);
        }
        mask
    }

    /// The labels of each sequence.
    fn labels(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let mut start = 0;
        self.micro.num_labels.iter().map(move |&labels| {
            start += labels;
            start - labels..start
        })
    }
}
