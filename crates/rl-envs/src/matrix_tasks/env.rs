//! Matrix tasks as an environment: one matrix, some attempts, one number each.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, read_answer};
use super::task::{MatrixTask, Problem};
use crate::environment::{Environment, Message, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::price::{Combination, Prices};

const NAME: &str = "matrix_tasks";
const PROMPT: &str = include_str!("../../templates/matrix.txt");
const FEEDBACK: &str = include_str!("../../templates/feedback.txt");

/// Matrix tasks, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixTasksConfig {
    /// What is asked.
    pub task: MatrixTask,
    /// Graded attempts per episode; published 1 to 5.
    pub max_attempts: u32,
    /// What the outcomes are worth.
    pub reward: RewardTable,
}

impl MatrixTasksConfig {
    /// The rank of 4x5 matrices, factors up to 4.
    pub fn rank() -> Self {
        Self::published(MatrixTask::Rank { rows: 4, columns: 5, max_factor: 4 })
    }

    /// The determinant of 2x2 matrices, entries up to 4.
    pub fn determinant() -> Self {
        Self::published(MatrixTask::Determinant { size: 2, max_entry: 4, symmetric: false })
    }

    fn published(task: MatrixTask) -> Self {
        MatrixTasksConfig { task, max_attempts: 5, reward: RewardTable::PUBLISHED }
    }

    /// The same question out of distribution: 5x4 matrices and factors up to 5, or 3x3 matrices and entries up to 5.
    pub fn shifted(&self) -> Self {
        let task = match self.task {
            MatrixTask::Rank { .. } => MatrixTask::Rank { rows: 5, columns: 4, max_factor: 5 },
            MatrixTask::Determinant { symmetric, .. } => MatrixTask::Determinant { size: 3, max_entry: 5, symmetric },
        };
        MatrixTasksConfig { task, ..self.clone() }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        self.task.validate()?;
        ensure(self.max_attempts >= 1, "max_attempts", self.max_attempts, "must be at least 1")?;
        let RewardTable { correct, wrong, no_answer, attempt_limit } = self.reward;
        for (key, price) in [
            ("reward.correct", correct),
            ("reward.wrong", wrong),
            ("reward.no_answer", no_answer),
            ("reward.attempt_limit", attempt_limit),
        ] {
            ensure(price.is_finite(), key, price, "must be a finite number")?;
        }
        Ok(())
    }
}

/// Price of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTable {
    /// The right number.
    pub correct: f64,
    /// Another number.
    pub wrong: f64,
    /// No whole number in the response.
    pub no_answer: f64,
    /// The last attempt failed, on top of that attempt's own price.
    pub attempt_limit: f64,
}

impl RewardTable {
    /// Prices of the published tasks.
    pub const PUBLISHED: RewardTable = RewardTable { correct: 5.0, wrong: -1.0, no_answer: -1.0, attempt_limit: -1.0 };

    /// Price of `outcome`.
    pub fn price(&self, outcome: Outcome) -> f64 {
        match outcome {
            Outcome::Correct => self.correct,
            Outcome::Wrong => self.wrong,
            Outcome::NoAnswer => self.no_answer,
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The right number.
    Correct,
    /// Another number.
    Wrong,
    /// No whole number in the response.
    NoAnswer,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 3] = [Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer];

    /// Name in records.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::Wrong => "wrong",
            Outcome::NoAnswer => "no_answer",
        }
    }
}

/// The environment.
#[derive(Debug, Clone)]
pub struct MatrixTasks {
    config: MatrixTasksConfig,
    episode: Option<Episode>,
}

#[derive(Debug, Clone)]
struct Episode {
    problem: Problem,
    attempts_left: u32,
    ended: bool,
    last: Option<Outcome>,
}

impl MatrixTasks {
    /// The tasks of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range.
    pub fn new(config: MatrixTasksConfig) -> Result<Self> {
        config.validate()?;
        Ok(MatrixTasks { config, episode: None })
    }

    /// The matrix and its answer; `None` before the first reset.
    pub fn problem(&self) -> Option<&Problem> {
        self.episode.as_ref().map(|episode| &episode.problem)
    }
}

/// The user message that asks for `problem`.
pub(super) fn prompt(task: MatrixTask, problem: &Problem) -> String {
    PROMPT.trim_end().replace("<<task>>", task.label()).replace("<<matrix>>", &problem.matrix.to_string())
}

/// The response that solves `problem`.
pub(super) fn right_answer(problem: &Problem) -> String {
    format!("{{\"answer\": {}}}", problem.answer)
}

impl Environment for MatrixTasks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let problem = self.config.task.problem(seed, index)?;
        let messages = vec![Message::user(prompt(self.config.task, &problem))];
        self.episode = Some(Episode { problem, attempts_left: self.config.max_attempts, ended: false, last: None });
        Ok(Observation { messages })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let Self { config, episode } = self;
        let episode = episode.as_mut().ok_or(Error::NotReset { environment: NAME })?;
        if episode.ended {
            return Err(Error::EpisodeEnded { environment: NAME });
        }
        episode.attempts_left -= 1;
        let (outcome, told) = match read_answer(response) {
            Answer::Integer(found) if found == episode.problem.answer => (Outcome::Correct, String::new()),
            Answer::Integer(found) => (Outcome::Wrong, format!("{found} is not the {}.", config.task.label())),
            Answer::TooLarge => (Outcome::Wrong, format!("the number is not the {}.", config.task.label())),
            Answer::Missing => (Outcome::NoAnswer, "no whole number was found.".to_string()),
        };
        episode.last = Some(outcome);
        let terminated = outcome == Outcome::Correct;
        let truncated = !terminated && episode.attempts_left == 0;
        episode.ended = terminated || truncated;
        Ok(Step {
            outcome: outcome.label(),
            reward: config.reward.price(outcome) + if truncated { config.reward.attempt_limit } else { 0.0 },
            success: terminated,
            feedback: (!episode.ended).then(|| Message::user(FEEDBACK.trim_end().replace("<<message>>", &told))),
            terminated,
            truncated,
        })
    }

    /// `task`, `matrix` (rows), `answer`, `remaining_attempts` and `outcome`, null until an answer was graded.
    fn info(&self) -> Value {
        let Some(episode) = &self.episode else { return Value::Null };
        json!({
            "task": self.config.task.label(),
            "matrix": episode.problem.matrix.rows().collect::<Vec<_>>(),
            "answer": episode.problem.answer,
            "remaining_attempts": episode.attempts_left,
            "outcome": episode.last,
        })
    }

    /// The rank, or that a determinant is asked for.
    fn task_kind(&self) -> Option<&'static str> {
        const RANKS: [&str; 7] = ["rank_0", "rank_1", "rank_2", "rank_3", "rank_4", "rank_5", "rank_6"];
        let problem = self.problem()?;
        match self.config.task {
            MatrixTask::Rank { .. } => RANKS.get(usize::try_from(problem.answer).ok()?).copied(),
            MatrixTask::Determinant { .. } => Some("determinant"),
        }
    }

    fn prices(&self) -> Option<Prices> {
        let reward = &self.config.reward;
        Some(Prices {
            outcomes: Outcome::ALL.iter().map(|&outcome| (outcome.label(), reward.price(outcome))).collect(),
            truncation: reward.attempt_limit,
            combination: Combination::Single,
        })
    }

    fn expert(&self) -> Option<String> {
        self.episode.as_ref().filter(|episode| !episode.ended).map(|episode| right_answer(&episode.problem))
    }
}
