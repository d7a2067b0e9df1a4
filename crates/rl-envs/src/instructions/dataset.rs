//! Training files of the task: conversations, pairs, judged answers or prompts alone.

use std::ops::Range;
use std::path::PathBuf;

use rayon::prelude::*;
use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::prompts::{Instruction, PromptConfig, Prompts};
use crate::environment::Message;
use crate::error::{Result, ensure};

/// A file of rows, as read from `configs/make_dataset/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// JSON Lines file to write.
    pub out: PathBuf,
    /// Seed of order and answers.
    pub seed: u64,
    /// What a row is.
    pub rows: RowKind,
    /// Rows, each with a prompt of its own.
    pub num_rows: u64,
    /// Index of the first prompt; files with the same seed and prompts and other indices have other prompts.
    #[serde(default)]
    pub first_index: u64,
    /// Which prompts are asked.
    pub prompts: PromptConfig,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A prompt and an answer that obeys, to fine-tune on.
    Conversations,
    /// A prompt, an answer that obeys and one that does not.
    Preferences,
    /// A prompt, one of the two answers, each with probability a half, and which it is.
    Unpaired,
    /// A prompt alone.
    Prompts,
}

/// One line of the file. Every row carries the instruction, by which any answer can be judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DatasetRow {
    /// [`RowKind::Conversations`]
    Conversation {
        /// A user turn and the answer to learn.
        messages: Vec<Message>,
        /// What is asked.
        instruction: Instruction,
    },
    /// [`RowKind::Preferences`]
    Preference {
        /// The user turn.
        prompt: Vec<Message>,
        /// The answer that obeys.
        chosen: Vec<Message>,
        /// The answer that does not.
        rejected: Vec<Message>,
        /// What is asked.
        instruction: Instruction,
    },
    /// [`RowKind::Unpaired`]
    Unpaired {
        /// The user turn.
        prompt: Vec<Message>,
        /// An answer.
        completion: Vec<Message>,
        /// Whether it obeys.
        label: bool,
        /// What is asked.
        instruction: Instruction,
    },
    /// [`RowKind::Prompts`]
    Prompt {
        /// The user turn.
        prompt: Vec<Message>,
        /// What is asked.
        instruction: Instruction,
    },
}

impl DatasetConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when there is no row, or when there are not so many prompts.
    pub fn validate(&self) -> Result<()> {
        self.indices(&Prompts::new(&self.prompts)?).map(drop)
    }

    /// All rows; a function of the config alone.
    ///
    /// # Errors
    /// As for [`DatasetConfig::validate`].
    pub fn rows(&self) -> Result<Vec<DatasetRow>> {
        let prompts = Prompts::new(&self.prompts)?;
        Ok(self.indices(&prompts)?.into_par_iter().map(|index| self.row(&prompts, index)).collect())
    }

    fn indices(&self, prompts: &Prompts) -> Result<Range<u64>> {
        ensure(0 < self.num_rows, "num_rows", self.num_rows, "must be positive")?;
        let end = self.first_index.saturating_add(self.num_rows);
        let limit = || format!("first_index + num_rows must be at most {}, or prompts come twice", prompts.len());
        ensure(end <= prompts.len() as u64, "num_rows", self.num_rows, limit())?;
        Ok(self.first_index..end)
    }

    fn row(&self, prompts: &Prompts, index: u64) -> DatasetRow {
        let instruction = prompts.instruction(self.seed, index).clone();
        let answers = prompts.answers(self.seed, index);
        let prompt = vec![Message::user(instruction.prompt())];
        let answer = |text: String| vec![Message::assistant(text)];
        match self.rows {
            RowKind::Conversations => {
                DatasetRow::Conversation { messages: [prompt, answer(answers.chosen)].concat(), instruction }
            }
            RowKind::Preferences => {
                let (chosen, rejected) = (answer(answers.chosen), answer(answers.rejected));
                DatasetRow::Preference { prompt, chosen, rejected, instruction }
            }
            RowKind::Unpaired => {
                let label = RandomKey::new(self.seed, "instructions/label").at(index).below(0, 2) == 1;
                let completion = answer(if label { answers.chosen } else { answers.rejected });
                DatasetRow::Unpaired { prompt, completion, label, instruction }
            }
            RowKind::Prompts => DatasetRow::Prompt { prompt, instruction },
        }
    }
}
