//! The reward model of an evaluation: a trainer's product where the evaluation expects any scorer.

use anyhow::Result;
use rl_data::Message;
use rl_eval::{AnswerScorer, EvaluationConfig};
use rl_torch::parse_device;
use rl_train::{Dtype, RewardSource};

/// A trained reward model as the scorer of answers.
pub struct RewardModelScorer(RewardSource);

impl RewardModelScorer {
    /// The reward model that `config` names, in f32 and with its plain outputs: the differences of two answers' rewards are
    /// then those of the Bradley-Terry model.
    ///
    /// # Errors
    /// File errors, or a checkpoint that is no reward model.
    pub fn of(config: &EvaluationConfig) -> Result<Option<Self>> {
        let Some(path) = &config.reward_model else { return Ok(None) };
        Ok(Some(RewardModelScorer(RewardSource::load(path, Dtype::F32, parse_device(&config.device)?)?)))
    }
}

impl AnswerScorer for RewardModelScorer {
    fn score(
        &self,
        answers: &[(&[Message], &str)],
    ) -> std::result::Result<Vec<f64>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.score_responses(answers)?)
    }
}
