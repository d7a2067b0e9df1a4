//! A trained reward model in use: rewards of sequences and of answers, raw or normalised.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use rl_core::reward_loss::RewardNormalizer;
use rl_data::{Message, Renderer, Seams, UnpairedRecord};
use tch::Device;

use super::scorer::Scorer;
use super::statistics::read_statistics;
use crate::batch::{MicroBatch, TrainingRow, to_host, unit_micro_batches, unit_tokens};
use crate::config::Dtype;
use crate::{Error, Result};

/// Tokens per forward pass unless told otherwise.
const MICRO_BATCH_TOKENS: usize = 8192;

/// A frozen reward model, read from a checkpoint of a reward-model run or from a sequence-classification folder.
///
/// The reward of a sequence is read at its last token, which in training was the end-of-turn token of a response.
pub struct RewardSource {
    scorer: Scorer,
    statistics: Option<RewardNormalizer>,
    normalizer: Option<RewardNormalizer>,
    micro_batch_tokens: usize,
    folder: PathBuf,
}

impl RewardSource {
    /// Reads the reward model at `path`: a folder with `score.weight`, adapters with their head, or `ORG/NAME` in the Hugging
    /// Face cache. Rewards are raw until [`RewardSource::normalized`].
    ///
    /// # Errors
    /// [`Error::NotARewardModel`] for a language model; file and tensor errors with their path.
    pub fn load(path: &Path, dtype: Dtype, device: Device) -> Result<Self> {
        let scorer = Scorer::finished(path, dtype.kind(), device)?;
        let statistics = read_statistics(path)?;
        let micro_batch_tokens = MICRO_BATCH_TOKENS;
        Ok(RewardSource { scorer, statistics, normalizer: None, micro_batch_tokens, folder: path.into() })
    }

    /// Gives `(reward - mean) / std` from here on, with the statistics of the held-out pairs that the folder holds.
    ///
    /// # Errors
    /// [`Error::NoRewardStatistics`] when it holds none.
    pub fn normalized(self) -> Result<Self> {
        let missing = || Error::NoRewardStatistics { path: self.folder.clone(), file: super::statistics::FILE };
        let normalizer = Some(self.statistics.ok_or_else(missing)?);
        Ok(RewardSource { normalizer, ..self })
    }

    /// Tokens per forward pass: changes memory, and rewards by rounding alone.
    pub fn with_micro_batch_tokens(self, micro_batch_tokens: usize) -> Self {
        RewardSource { micro_batch_tokens, ..self }
    }

    /// Mean and spread of the rewards of the held-out pairs, where the folder holds them.
    pub fn statistics(&self) -> Option<RewardNormalizer> {
        self.statistics
    }

    /// The tokenizer and template that its sequences are made with.
    pub fn renderer(&self) -> &Renderer {
        &self.scorer.renderer
    }

    /// Most tokens of a sequence that it reads.
    pub fn max_length(&self) -> usize {
        self.scorer.model.decoder.config().max_positions() as usize
    }

    /// Rewards of `rows`, `[rows]`; neighbours of one group share their prompt in the model. Which tokens are trainable is
    /// not read.
    ///
    /// # Errors
    /// A sequence that the model cannot read, or a reward that is not finite, by the row's id.
    pub fn score<R: Borrow<TrainingRow>>(&self, rows: &[R]) -> Result<Vec<f64>> {
        let are_alike = |a: &R, b: &R| a.borrow().group.is_some() && a.borrow().group == b.borrow().group;
        let mut start = 0;
        let mut units: Vec<Vec<usize>> = Vec::new();
        for unit in rows.chunk_by(are_alike) {
            units.push((start..start + unit.len()).collect());
            start += unit.len();
        }
        let tokens: Vec<usize> = units.iter().map(|unit| unit_tokens(rows, unit)).collect();
        let mut rewards = vec![0.0; rows.len()];
        for batch in unit_micro_batches(&tokens, self.micro_batch_tokens) {
            let chosen = batch.into_iter().flat_map(|unit| units[unit].iter().copied()).collect();
            let micro = MicroBatch::new(&self.scorer.model.decoder, rows, chosen)?;
            let scores = to_host(&tch::no_grad(|| self.scorer.model.scores(&micro.packed))?)?;
            for (&row, &score) in micro.rows.iter().zip(&scores) {
                if !score.is_finite() {
                    let error = rl_core::Error::NonFinite { name: "reward", index: row, value: score.into() };
                    return Err(Error::from(error).in_rows(vec![rows[row].borrow().id]));
                }
                let reward = f64::from(score);
                rewards[row] = self.normalizer.map_or(reward, |normalizer| normalizer.normalize(reward));
            }
        }
        Ok(rewards)
    }

    /// Rewards of whole sequences of token ids, each read at its last token, `[sequences]`.
    ///
    /// # Errors
    /// As [`RewardSource::score`]; rows are numbered from 0.
    pub fn score_ids(&self, sequences: &[&[i64]]) -> Result<Vec<f64>> {
        let rows: Vec<TrainingRow> = (0..).zip(sequences).map(|(id, ids)| row(id, ids.to_vec())).collect();
        self.score(&rows)
    }

    /// Rewards of answers to prompts, `[answers]`, rendered with the reward model's own template up to the answer's
    /// end-of-turn token.
    ///
    /// # Errors
    /// As [`RewardSource::score`], and what the template refuses.
    pub fn score_responses(&self, answers: &[(&[Message], &str)]) -> Result<Vec<f64>> {
        let rendered = |(id, (prompt, answer)): (u64, &(&[Message], &str))| {
            let record = UnpairedRecord {
                prompt: prompt.to_vec(),
                completion: vec![Message::assistant(*answer)],
                label: true,
                extra: Default::default(),
            };
            let example = self.scorer.renderer.unpaired_example(&record, Seams::Response)?;
            Ok(row(id, example.completion.ids.into_iter().map(i64::from).collect()))
        };
        let mut rows: Vec<TrainingRow> = (0..).zip(answers).map(rendered).collect::<Result<_>>()?;
        // Neighbours with one prompt, as the answers of a group are, read it once.
        let mut group = 0;
        for (index, row) in rows.iter_mut().enumerate() {
            group += u64::from(0 < index && answers[index].0 != answers[index - 1].0);
            row.group = Some(group);
        }
        self.score(&rows)
    }
}

fn row(id: u64, ids: Vec<i64>) -> TrainingRow {
    TrainingRow { id, trainable: vec![false; ids.len()], ids, group: None }
}
