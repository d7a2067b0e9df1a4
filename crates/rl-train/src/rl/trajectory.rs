//! One answered prompt or played episode, as the trainer sees it.

use rl_data::{Message, Tokenizer};
use rl_models::{Dialogue, Episode};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::batch::TrainingRow;
use crate::config::ActionConfig;

/// One sequence of a rollout.
#[derive(Debug)]
pub(crate) struct Trajectory {
    /// Tokens; the sampled ones are trainable. Its group is its prompt.
    pub row: TrainingRow,
    /// The policy's turns.
    pub turns: Vec<Turn>,
    /// Log-probability of each sampled token under the model at the sampling temperature, `[labels]`.
    pub sampler_log_probs: Vec<f32>,
    /// The last answer was cut off, or the episode was stopped by us.
    pub truncated: bool,
    /// What the environment gave, all turns together; none without one.
    pub environment_reward: Option<f64>,
    /// What each source of reward gave, in their order and without their weights.
    pub scores: Vec<Option<f64>>,
    /// The outcome reward; none when it could not be scored.
    pub reward: Option<f64>,
    /// Whether the environment's task was solved, at all and at the first turn.
    pub success: Option<[bool; 2]>,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Fields of the prompt's row, and what rewards said.
    pub record: Map<String, Value>,
}

/// One answer of the policy inside a trajectory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    /// Place of its first sampled token.
    pub start: usize,
    /// Sampled tokens.
    pub num_tokens: usize,
    /// The environment's price.
    pub reward: f64,
    /// The game ended with it.
    pub terminated: bool,
    /// We stopped the game after it.
    pub truncated: bool,
}

impl Trajectory {
    /// A played episode.
    pub fn from_episode(episode: Episode, group: u64) -> Self {
        let mut trajectory = Trajectory::from_dialogue(&episode.dialogue, group);
        for (turn, step) in trajectory.turns.iter_mut().zip(&episode.steps) {
            (turn.reward, turn.terminated, turn.truncated) = (step.reward, step.terminated, step.truncated);
        }
        trajectory.truncated |= episode.steps.last().is_some_and(|step| step.truncated);
        trajectory.environment_reward = Some(episode.total_reward());
        let first = episode.steps.first().is_some_and(|step| step.success);
        trajectory.success = Some([episode.is_success(), first]);
        let outcomes: Vec<&str> = episode.steps.iter().map(|step| step.outcome).collect();
        trajectory.record =
            Map::from_iter([("hand".to_owned(), json!(episode.index)), ("outcomes".to_owned(), json!(outcomes))]);
        trajectory.messages = episode.dialogue.messages;
        trajectory
    }

    /// An answered prompt, its reward still to come.
    pub fn from_dialogue(dialogue: &Dialogue, group: u64) -> Self {
        let mut trainable = vec![false; dialogue.ids.len()];
        for turn in &dialogue.turns {
            trainable[turn.range()].fill(true);
        }
        let turn = |turn: &rl_models::Turn| Turn {
            start: turn.start,
            num_tokens: turn.log_probs.len(),
            reward: 0.0,
            terminated: true,
            truncated: false,
        };
        let cut = dialogue.turns.last().is_some_and(|turn| !turn.finish_reason.is_stop());
        Trajectory {
            row: TrainingRow { id: group, ids: dialogue.ids.clone(), trainable, group: Some(group) },
            turns: dialogue.turns.iter().map(turn).collect(),
            sampler_log_probs: dialogue.turns.iter().flat_map(|turn| turn.full_log_probs.iter().copied()).collect(),
            truncated: cut,
            environment_reward: None,
            scores: Vec::new(),
            reward: None,
            success: None,
            messages: dialogue.messages.clone(),
            record: Map::new(),
        }
    }

    /// Sampled tokens.
    pub fn num_labels(&self) -> usize {
        self.sampler_log_probs.len()
    }

    /// Places whose hidden states predict the sampled tokens: where a critic of tokens reads.
    pub fn label_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.turns.iter().flat_map(|turn| turn.start - 1..turn.start + turn.num_tokens - 1)
    }

    /// The last prompt token of each turn: where a critic of turns reads.
    pub fn turn_positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.turns.iter().map(|turn| turn.start - 1)
    }

    /// Weight of each sampled token in the action of its turn, `[labels]`.
    pub fn action_weights(&self, action: &ActionConfig, tokenizer: &Tokenizer) -> Result<Vec<f64>> {
        let mut weights = Vec::with_capacity(self.num_labels());
        for turn in &self.turns {
            let ids: Vec<u32> =
                self.row.ids[turn.start..turn.start + turn.num_tokens].iter().map(|&id| id as u32).collect();
            let thought = thought_tokens(&ids, &action.key, tokenizer)?;
            weights.extend((0..ids.len()).map(|token| if token < thought { action.thought_weight } else { 1.0 }));
        }
        Ok(weights)
    }
}

/// Tokens before the one in which the last occurrence of `key` begins; 0 without the key.
fn thought_tokens(ids: &[u32], key: &str, tokenizer: &Tokenizer) -> Result<usize> {
    let mut stream = tokenizer.stream(true);
    let mut text = String::new();
    let mut ends = Vec::with_capacity(ids.len());
    for &id in ids {
        text.push_str(&stream.push(id)?);
        ends.push(text.len());
    }
    text.push_str(&stream.finish()?);
    Ok(text.rfind(key).map_or(0, |start| ends.iter().take_while(|&&end| end <= start).count()))
}

#[cfg(test)]
mod tests {
    use rl_models::generate::FinishReason;

    use super::*;

    /// Prompt 1 2 3, response 4 5, feedback 6 7 8, response 9, feedback 10 11, response 12 13.
    #[test]
    fn only_sampled_tokens_are_trained() {
        let turn = |start, len| rl_models::Turn {
            start,
            log_probs: vec![0.0; len],
            full_log_probs: (0..len).map(|offset| -(start as f32) - offset as f32).collect(),
            text: String::new(),
            finish_reason: FinishReason::StopId,
        };
        let dialogue = Dialogue {
            messages: Vec::new(),
            columns: serde_json::Map::new(),
            ids: (1..=13).collect(),
            turns: vec![turn(3, 2), turn(8, 1), turn(11, 2)],
        };
        let trajectory = Trajectory::from_dialogue(&dialogue, 7);
        let trained = trajectory.row.ids.iter().zip(&trajectory.row.trainable).filter(|(_, trained)| **trained);
        assert_eq!(trained.map(|(id, _)| *id).collect::<Vec<_>>(), [4, 5, 9, 12, 13]);
        assert_eq!(trajectory.row.num_labels(), 5);
        assert_eq!(trajectory.sampler_log_probs, [-3.0, -4.0, -8.0, -11.0, -12.0]);
        // The tokens 3, 8 and 11: what the policy saw last before it answered.
        assert_eq!(trajectory.turn_positions().collect::<Vec<_>>(), [2, 7, 10]);
        assert_eq!(trajectory.label_positions().collect::<Vec<_>>(), [2, 3, 7, 10, 11]);
    }
}
