//! Files of problems: conversations to fine-tune on, prompts to train on with rewards, or raw columns.

use std::collections::HashSet;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::augment::Augmentation;
use super::config::{ProblemConfig, TemplateSplit};
use super::generator::{DrawCounts, Generator};
use super::problem::Problem;
use super::prompt::prompt;
use super::statistics::Statistics;
use super::template::{bin_of, template_digest};
use super::trace::TraceConfig;
use crate::environment::Message;
use crate::error::{Error, Result, ensure};

/// Version of rows and manifest.
pub const SCHEMA_VERSION: u32 = 1;
const DATA_SOURCE: &str = "igsm";
/// Items that are looked at per problem that is wanted before giving up.
const MAX_ITEMS_PER_PROBLEM: u64 = 50;

/// A file of rows, as read from `configs/make_dataset/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// JSON Lines file to write.
    pub out: PathBuf,
    /// Seed of everything.
    pub seed: u64,
    /// Problems, no two with the same text.
    pub num_problems: u64,
    /// Index of the first problem; files with the same seed and problems and other indices have other problems.
    #[serde(default)]
    pub first_index: u64,
    /// What a row is.
    pub rows: RowKind,
    /// Which problems.
    pub problems: ProblemConfig,
    /// How solutions are written.
    pub trace: TraceConfig,
    /// Rows made of one problem.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Adds the solution with its content marked.
    #[serde(default)]
    pub content_mask: bool,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// System, user and assistant turns.
    Conversations,
    /// System and user turns and the right answer.
    Prompts,
    /// Problem and solution as plain columns.
    Raw,
}

/// Where a row comes from: enough to build it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowOrigin {
    /// `igsm-SEED-INDEX`; rows of one problem share it.
    pub problem_id: String,
    /// Seed of the item.
    pub seed: u64,
    /// Index of the item.
    pub index: u64,
    /// Row of the problem, 0 for the original.
    pub row: u64,
    /// Hash of the problem apart from names and numbers.
    pub template_hash: String,
    /// `template_hash` modulo the number of bins, 23 unless the config says otherwise.
    pub split_bin: u32,
}

/// One line of the file. The columns other than `origin` are those of the published tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DatasetRow {
    /// [`RowKind::Conversations`]
    Conversation {
        /// `igsm`
        data_source: &'static str,
        /// System, user and assistant turns.
        messages: Vec<Message>,
        /// About the problem.
        extra_info: ConversationInfo,
        /// Where it comes from.
        origin: RowOrigin,
    },
    /// [`RowKind::Prompts`]
    Prompt {
        /// `igsm`
        data_source: &'static str,
        /// System and user turns.
        prompt: Vec<Message>,
        /// `math`
        ability: &'static str,
        /// How an answer is judged.
        reward_model: RewardModel,
        /// About the problem.
        extra_info: PromptInfo,
        /// Where it comes from.
        origin: RowOrigin,
    },
    /// [`RowKind::Raw`]
    Raw {
        /// The problem.
        query: String,
        /// The solution.
        response: String,
        /// Operations.
        num_ops: u32,
        /// The answer.
        final_answer: i64,
        /// The solution with its content marked.
        #[serde(skip_serializing_if = "Option::is_none")]
        response_with_mask: Option<String>,
        /// Where it comes from.
        origin: RowOrigin,
    },
}

/// `extra_info` of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationInfo {
    /// Operations.
    pub num_ops: u32,
    /// The answer.
    pub final_answer: i64,
    /// The solution with its content marked; null unless asked for.
    pub answer_with_mask: Option<String>,
}

/// `extra_info` of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptInfo {
    /// Operations.
    pub num_ops: u32,
    /// A solution.
    pub answer: String,
}

/// `reward_model` of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RewardModel {
    /// `rule`
    pub style: &'static str,
    /// The answer.
    pub ground_truth: i64,
}

/// Everything about a file but its rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The config, complete.
    pub config: DatasetConfig,
    /// Rows.
    pub num_rows: u64,
    /// Items that were left out because an earlier one has the same text.
    pub num_duplicates: u64,
    /// Index after the last one used.
    pub end_index: u64,
    /// Draws behind all items, by how they ended.
    pub draws: DrawCounts,
    /// SHA-256 of the rows as JSON, each with a line end.
    pub rows_sha256: String,
    /// What the problems look like.
    pub statistics: Statistics,
}

/// Rows with the problems behind them.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Lines of the file, row after row of problem after problem.
    pub rows: Vec<DatasetRow>,
    /// One per problem, in order.
    pub problems: Vec<Problem>,
    /// About the file.
    pub manifest: Manifest,
}

impl DatasetConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        self.problems.validate()?;
        self.trace.validate()?;
        self.augmentation.validate()?;
        ensure(0 < self.num_problems, "num_problems", self.num_problems, "must be positive")?;
        let alike = self.augmentation == Augmentation::None || self.rows != RowKind::Prompts;
        ensure(alike, "augmentation", "set", "does nothing for prompts, whose answers are the model's own")?;
        let marked = !self.content_mask || self.rows != RowKind::Prompts;
        ensure(marked, "content_mask", true, "does nothing for prompts")
    }

    /// All rows; a function of the config alone.
    ///
    /// # Errors
    /// As for [`DatasetConfig::build`].
    pub fn rows(&self) -> Result<Vec<DatasetRow>> {
        Ok(self.build()?.rows)
    }

    /// Rows, problems and manifest; a function of the config alone, whatever the number of threads.
    ///
    /// # Errors
    /// When the config is invalid, an item has no problem, or there are not so many different problems.
    pub fn build(&self) -> Result<Dataset> {
        self.validate()?;
        let generator = Generator::new(&self.problems)?;
        let (problems, draws, end_index) = self.draw_problems(&generator)?;
        let rows: Vec<DatasetRow> = problems.par_iter().flat_map_iter(|problem| self.problem_rows(problem)).collect();
        let mut hash = Sha256::new();
        for row in &rows {
            let line =
                serde_json::to_string(row).map_err(|error| Error::Json { what: "row", reason: error.to_string() })?;
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            config: self.clone(),
            num_rows: rows.len() as u64,
            num_duplicates: end_index - self.first_index - problems.len() as u64,
            end_index,
            draws,
            rows_sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            statistics: Statistics::new(&problems),
        };
        Ok(Dataset { rows, problems, manifest })
    }

    /// Items in order of their index, without those whose text was there before.
    fn draw_problems(&self, generator: &Generator) -> Result<(Vec<Problem>, DrawCounts, u64)> {
        let mut problems: Vec<Problem> = Vec::new();
        let mut seen = HashSet::new();
        let mut draws = DrawCounts::default();
        let mut next = self.first_index;
        let limit = self.first_index.saturating_add(self.num_problems.saturating_mul(MAX_ITEMS_PER_PROBLEM));
        while next < limit && (problems.len() as u64) < self.num_problems {
            let missing = self.num_problems - problems.len() as u64;
            let end = next.saturating_add(missing).min(limit);
            let drawn: Vec<(Problem, DrawCounts)> = (next..end)
                .into_par_iter()
                .map(|index| {
                    let mut counts = DrawCounts::default();
                    Ok((generator.counted(self.seed, index, &mut counts)?, counts))
                })
                .collect::<Result<_>>()?;
            next = end;
            for (problem, counts) in drawn {
                draws.merge(&counts);
                if seen.insert(problem.question()) {
                    problems.push(problem);
                }
            }
        }
        if problems.len() as u64 == self.num_problems {
            return Ok((problems, draws, next));
        }
        Err(Error::TooFewProblems { wanted: self.num_problems, found: problems.len() as u64 })
    }

    fn problem_rows(&self, problem: &Problem) -> Vec<DatasetRow> {
        let digest = template_digest(problem);
        let bins = self.problems.split.unwrap_or(TemplateSplit::TRAIN).num_bins;
        let origin = |row| RowOrigin {
            problem_id: format!("igsm-{}-{}", problem.seed(), problem.index()),
            seed: problem.seed(),
            index: problem.index(),
            row,
            template_hash: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            split_bin: bin_of(&digest, bins),
        };
        (0..self.augmentation.rows()).map(|row| self.row(problem, row, origin(row))).collect()
    }

    fn row(&self, problem: &Problem, row: u64, origin: RowOrigin) -> DatasetRow {
        let question = problem.reordered(self.augmentation.question_variant(row)).question();
        let variant = self.augmentation.response_variant(row);
        let response = problem.response(&self.trace, variant);
        let marked = self.content_mask.then(|| problem.response_with_mask(&self.trace, variant));
        let (num_ops, final_answer) = (problem.num_operations(), problem.final_answer());
        match self.rows {
            RowKind::Conversations => {
                let mut messages = prompt(question);
                messages.push(Message::assistant(response));
                let extra_info = ConversationInfo { num_ops, final_answer, answer_with_mask: marked };
                DatasetRow::Conversation { data_source: DATA_SOURCE, messages, extra_info, origin }
            }
            RowKind::Prompts => DatasetRow::Prompt {
                data_source: DATA_SOURCE,
                prompt: prompt(question),
                ability: "math",
                reward_model: RewardModel { style: "rule", ground_truth: final_answer },
                extra_info: PromptInfo { num_ops, answer: response },
                origin,
            },
            RowKind::Raw => {
                DatasetRow::Raw { query: question, response, num_ops, final_answer, response_with_mask: marked, origin }
            }
        }
    }
}
