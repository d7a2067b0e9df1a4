//! Tokenised rows as a selection sees them: what it measures, compares and cuts.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::{Error, Result};
use crate::preference_example::{PreferenceExample, PromptExample, UnpairedExample};
use crate::render::Example;

/// A tokenised row that [`select`](super::select()) can measure and cut.
pub trait Selectable {
    /// Its sequences: one, for a pair two, for a prompt alone none.
    fn sides(&self) -> Vec<&Example>;

    /// Tokens before the first target.
    fn num_prompt(&self) -> usize;

    /// Tokens of its longest sequence.
    fn longest(&self) -> usize {
        self.sides().iter().map(|side| side.ids.len()).max().unwrap_or(self.num_prompt())
    }

    /// Whether a token of the prompt was given to a response.
    fn merged_seam(&self) -> bool {
        false
    }

    /// Feeds what makes two rows the same: tokens, targets and verdicts.
    fn hash_content<H: Hasher>(&self, hasher: &mut H);

    /// Removes the first `count` tokens of every sequence.
    fn cut_left(&mut self, count: usize);

    /// Keeps the first `limit` tokens of every sequence. An error if the row makes no sense without its end.
    fn cut_right(&mut self, limit: usize) -> Result<()>;
}

impl Selectable for Example {
    fn sides(&self) -> Vec<&Example> {
        vec![self]
    }

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        (&self.ids, &self.trainable).hash(hasher);
    }

    fn num_prompt(&self) -> usize {
        self.trainable.iter().position(|&flag| flag).unwrap_or(self.ids.len())
    }

    fn cut_left(&mut self, count: usize) {
        self.keep(count..self.ids.len());
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        self.keep(0..limit.min(self.ids.len()));
        Ok(())
    }
}

impl Selectable for PreferenceExample {
    fn sides(&self) -> Vec<&Example> {
        vec![&self.chosen, &self.rejected]
    }

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.chosen.hash_content(hasher);
        self.rejected.hash_content(hasher);
        self.margin.map(f64::to_bits).hash(hasher);
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn merged_seam(&self) -> bool {
        self.merged_seam
    }

    fn cut_left(&mut self, count: usize) {
        cut_prompt(&mut self.prompt_ids, [&mut self.chosen, &mut self.rejected], count);
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        cut_ends(&mut self.prompt_ids, [&mut self.chosen, &mut self.rejected], limit)
    }
}

impl Selectable for UnpairedExample {
    fn sides(&self) -> Vec<&Example> {
        vec![&self.completion]
    }

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.completion.hash_content(hasher);
        self.label.hash(hasher);
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn merged_seam(&self) -> bool {
        self.merged_seam
    }

    fn cut_left(&mut self, count: usize) {
        cut_prompt(&mut self.prompt_ids, [&mut self.completion], count);
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        cut_ends(&mut self.prompt_ids, [&mut self.completion], limit)
    }
}

impl Selectable for PromptExample {
    fn sides(&self) -> Vec<&Example> {
        Vec::new()
    }

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.prompt_ids.hash(hasher);
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn cut_left(&mut self, count: usize) {
        self.prompt_ids.drain(..count.min(self.prompt_ids.len()));
    }

    fn cut_right(&mut self, _: usize) -> Result<()> {
        let rule = "a prompt cut at its end loses the header of the answer; choose error, drop or left";
        Err(Error::Setting { name: "too_long", value: "right".into(), rule })
    }
}

impl Example {
    pub(crate) fn keep(&mut self, range: std::ops::Range<usize>) {
        self.ids = self.ids[range.clone()].to_vec();
        self.trainable = self.trainable[range.clone()].to_vec();
        self.roles = self.roles[range].to_vec();
    }
}

/// Two 64-bit hashes: among billions of rows two different ones share it with a chance below 1e-18.
pub(super) fn content_hash(example: &impl Selectable) -> u128 {
    let [low, high] = [0_u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        example.hash_content(&mut hasher);
        u128::from(hasher.finish())
    });
    low | high << 64
}

/// Tokens of all sequences.
pub(super) fn num_tokens(example: &impl Selectable) -> usize {
    let sides = example.sides();
    if sides.is_empty() { example.num_prompt() } else { sides.iter().map(|side| side.ids.len()).sum() }
}

/// A response keeps all its tokens, and one of the prompt to predict the first of them, or nothing is left to train.
fn cut_prompt<const N: usize>(prompt_ids: &mut Vec<u32>, sides: [&mut Example; N], count: usize) {
    let reaches_response = count >= prompt_ids.len();
    prompt_ids.drain(..count.min(prompt_ids.len()));
    for side in sides {
        side.keep(count.min(side.ids.len())..side.ids.len());
        if reaches_response {
            side.trainable.fill(false);
        }
    }
}

fn cut_ends<const N: usize>(prompt_ids: &mut Vec<u32>, sides: [&mut Example; N], limit: usize) -> Result<()> {
    prompt_ids.truncate(limit);
    sides.into_iter().try_for_each(|side| side.cut_right(limit))
}
