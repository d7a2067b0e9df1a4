//! iGSM as an environment: one problem, one answer, one verdict.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::ProblemConfig;
use super::extract::{Extracted, Extraction};
use super::generator::Generator;
use super::parse::ParsedProblem;
use super::problem::Problem;
use super::prompt::prompt;
use super::solve::Solution;
use super::step_verifier::{Report, StepVerifier};
use super::trace::TraceConfig;
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::price::{Combination, Prices};

const NAME: &str = "igsm";

/// The task, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgsmConfig {
    /// Which problems are asked.
    pub problems: ProblemConfig,
    /// How answers are read.
    pub extraction: Extraction,
    /// What outcomes are worth.
    pub reward: RewardTable,
}

impl IgsmConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        self.problems.validate()?;
        let reward = self.reward;
        for (key, price) in [
            ("reward.correct", reward.correct),
            ("reward.wrong_answer", reward.wrong_answer),
            ("reward.no_answer", reward.no_answer),
            ("reward.format", reward.format),
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
    /// Another answer.
    pub wrong_answer: f64,
    /// No box.
    pub no_answer: f64,
    /// Added for the demanded form, whatever the answer; published: 0, or 0.05 for Llama.
    pub format: f64,
}

impl RewardTable {
    /// One for the right number, nothing for anything else.
    pub const BINARY: RewardTable = RewardTable { correct: 1.0, wrong_answer: 0.0, no_answer: 0.0, format: 0.0 };

    /// Price of `outcome`, without what the form adds.
    pub fn price(&self, outcome: Outcome) -> f64 {
        match outcome {
            Outcome::Correct => self.correct,
            Outcome::WrongAnswer => self.wrong_answer,
            Outcome::NoAnswer => self.no_answer,
        }
    }
}

/// How an answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The right number.
    Correct,
    /// Another answer.
    WrongAnswer,
    /// No box where one is looked for.
    NoAnswer,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 3] = [Outcome::Correct, Outcome::WrongAnswer, Outcome::NoAnswer];

    /// Judges `response` to a problem with answer `answer`.
    pub fn grade(extraction: Extraction, response: &str, answer: i64) -> Self {
        match extraction.extract(response) {
            Extracted::Nothing => Outcome::NoAnswer,
            Extracted::Number(number) if number == i128::from(answer) => Outcome::Correct,
            Extracted::Number(_) | Extracted::Text(_) => Outcome::WrongAnswer,
        }
    }

    /// Name in records.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::WrongAnswer => "wrong_answer",
            Outcome::NoAnswer => "no_answer",
        }
    }
}

/// The environment. An episode is one problem; every answer ends it.
#[derive(Debug, Clone)]
pub struct Igsm {
    generator: Generator,
    config: IgsmConfig,
    episode: Option<Episode>,
}

#[derive(Debug, Clone)]
struct Episode {
    problem: Problem,
    graded: Option<Graded>,
}

#[derive(Debug, Clone, Copy)]
struct Graded {
    outcome: Outcome,
    has_format: bool,
}

impl Igsm {
    /// The task of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range.
    pub fn new(config: &IgsmConfig) -> Result<Self> {
        config.validate()?;
        Ok(Igsm { generator: Generator::new(&config.problems)?, config: config.clone(), episode: None })
    }

    /// The problem of this episode; `None` before the first reset.
    pub fn problem(&self) -> Option<&Problem> {
        self.episode.as_ref().map(|episode| &episode.problem)
    }

    /// Judges every line of `response` to this episode's problem; `None` before the first reset.
    pub fn verify_steps(&self, response: &str) -> Option<Report> {
        let problem = self.problem()?;
        let parsed = ParsedProblem::parse(&problem.question(), problem.vocabulary()).ok()?;
        let solution = Solution::new(&parsed, problem.modulus()).ok()?;
        let order = problem.necessary().iter().map(|&parameter| problem.reference(parameter));
        Some(StepVerifier::new(&solution, problem.vocabulary()).with_order(order).verify(response))
    }
}

impl Environment for Igsm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let problem = self.generator.problem(seed, index)?;
        let messages = prompt(problem.question());
        self.episode = Some(Episode { problem, graded: None });
        Ok(Observation { messages })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let episode = self.episode.as_mut().ok_or(Error::NotReset { environment: NAME })?;
        if episode.graded.is_some() {
            return Err(Error::EpisodeEnded { environment: NAME });
        }
        let extraction = self.config.extraction;
        let outcome = Outcome::grade(extraction, response, episode.problem.final_answer());
        let has_format = extraction.has_format(response);
        episode.graded = Some(Graded { outcome, has_format });
        let bonus = if has_format { self.config.reward.format } else { 0.0 };
        Ok(Step {
            outcome: outcome.label(),
            reward: self.config.reward.price(outcome) + bonus,
            success: outcome == Outcome::Correct,
            feedback: None,
            terminated: true,
            truncated: false,
        })
    }

    /// `num_ops`, `final_answer`, `num_conditions`, `num_necessary`, `num_redundant`; then, null until a response was graded,
    /// `outcome` and `has_format`.
    fn info(&self) -> Value {
        let Some(Episode { problem, graded }) = &self.episode else { return Value::Null };
        json!({
            "num_ops": problem.num_operations(),
            "final_answer": problem.final_answer(),
            "num_conditions": problem.conditions().len(),
            "num_necessary": problem.necessary().len(),
            "num_redundant": problem.redundant().len(),
            "outcome": graded.map(|graded| graded.outcome),
            "has_format": graded.map(|graded| graded.has_format),
        })
    }

    /// Whether the answer is zero, which a policy that always says 0 gets right too.
    fn task_kind(&self) -> Option<&'static str> {
        self.problem().map(|problem| if problem.final_answer() == 0 { "zero_answer" } else { "nonzero_answer" })
    }

    fn prices(&self) -> Option<Prices> {
        let reward = &self.config.reward;
        let bonus = reward.format;
        Some(Prices {
            outcomes: Outcome::ALL.iter().map(|&outcome| (outcome.label(), reward.price(outcome))).collect(),
            truncation: 0.0,
            combination: if bonus == 0.0 { Combination::Single } else { Combination::SingleAndBonus { bonus } },
        })
    }

    /// By [`Igsm::verify_steps`].
    fn process_correct(&self, response: &str) -> Option<bool> {
        Some(self.verify_steps(response)?.process_correct())
    }

    /// The solution without injected behaviours; [`Problem::response`] writes every other kind.
    fn expert(&self) -> Option<String> {
        let episode = self.episode.as_ref().filter(|episode| episode.graded.is_none())?;
        Some(episode.problem.response(&TraceConfig::VANILLA, 0))
    }
}
