//! Discounted returns and generalized advantage estimation, over tokens and over episode steps.
//!
//! Masked tokens are not actions. As a rule time stands still there, so value and advantage pass over padding and over
//! text that the environment wrote unchanged; [`MaskedTime`] can say otherwise.

use std::ops::Range;

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};
use crate::rows::Rows;

/// Advantages and the returns that the value function learns.
#[derive(Debug, Clone, PartialEq)]
pub struct Gae {
    /// Advantages, in the shape of the rewards; 0 where masked.
    pub advantages: Vec<f32>,
    /// `advantages + values`, 0 where masked.
    pub returns: Vec<f32>,
}

/// What ends an episode inside a stream of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeBoundary {
    /// Both the end of the game and our stop: nothing flows back from the next episode.
    TerminatedOrTruncated,
    /// Only the end of the game: after a truncated step the next episode leaks in. Kept to reproduce published runs.
    TerminatedOnly,
    /// As `TerminatedOnly`, but a truncated step has advantage 0 and its own value as return: "proper time limits" of some
    /// older code. It hides the failure that the truncation was; kept to reproduce published runs.
    ZeroTruncated,
}

/// What a masked token between the response tokens of one row does to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskedTime {
    /// Nothing: the next response token follows at once (verl).
    #[default]
    StandsStill,
    /// It is a step with reward 0 and value 0, which is discounted (OpenRLHF, TRL). The same for rows without a gap, and
    /// for any row when `gamma` and `gae_lambda` are 1. Padding after the last response token never counts.
    Passes,
}

/// `return_t = reward_t + gamma * return_{t+1}` over the response tokens of each row.
///
/// `token_rewards` is `[batch, seq]`; where `response_mask` is false nothing is read and the result is 0.
///
/// OpenRLHF and TRL discount over masked tokens inside a response, and OpenRLHF leaves sums in masked positions, which its
/// loss does not read; verl passes over them.
///
/// # Errors
/// Lengths differ, `gamma` is outside `[0, 1]`, or a number is not finite.
pub fn discounted_returns<'a>(
    token_rewards: &[f32],
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
    gamma: f64,
    masked_time: MaskedTime,
) -> Result<Vec<f32>> {
    same_length("token_rewards", token_rewards.len(), "response_mask", response_mask.len())?;
    unit_interval("gamma", gamma)?;
    let mut returns = vec![0.0; token_rewards.len()];
    for range in rows.into().ranges(token_rewards.len())? {
        let mut next = 0.0;
        for index in acting(range, response_mask, masked_time) {
            if !response_mask[index] {
                next *= gamma;
                continue;
            }
            next = finite("token_rewards", index, token_rewards[index].into())? + gamma * next;
            returns[index] = finite_f32("returns", index, next)?;
        }
    }
    Ok(returns)
}

/// Generalized advantage estimation over the response tokens of each row.
///
/// With the next response token at `t + 1`: `delta_t = reward_t + gamma * value_{t+1} - value_t`,
/// `advantage_t = delta_t + gamma * gae_lambda * advantage_{t+1}`. After the last response token the value is
/// `bootstrap_values[row]`, or 0 when `bootstrap_values` is absent: a response is a whole episode.
///
/// `token_rewards` and `values` are `[batch, seq]`, `bootstrap_values` is `[batch]`; where `response_mask` is false
/// nothing is read and the result is 0.
///
/// verl whitens inside its function and carries value and advantage over masked tokens, as here by default; OpenRLHF sets
/// values and rewards of masked tokens to 0 and counts them as steps ([`MaskedTime::Passes`]); TRL's PPO does that too, and
/// gives the token after the last one the score and a value.
///
/// Schulman et al. 2016, eq. 16: <https://arxiv.org/abs/1506.02438>.
///
/// # Errors
/// Lengths differ, `gamma` or `gae_lambda` is outside `[0, 1]`, or a number is not finite.
pub fn token_gae<'a>(
    token_rewards: &[f32],
    values: &[f32],
    bootstrap_values: Option<&[f32]>,
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
    gamma: f64,
    gae_lambda: f64,
    masked_time: MaskedTime,
) -> Result<Gae> {
    same_length("token_rewards", token_rewards.len(), "response_mask", response_mask.len())?;
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    unit_interval("gamma", gamma)?;
    unit_interval("gae_lambda", gae_lambda)?;
    let ranges = rows.into().ranges(response_mask.len())?;
    if let Some(bootstrap_values) = bootstrap_values {
        same_length("bootstrap_values", bootstrap_values.len(), "rows", ranges.len())?;
    }
    let mut gae = Gae { advantages: vec![0.0; values.len()], returns: vec![0.0; values.len()] };
    for (row, range) in ranges.into_iter().enumerate() {
        let mut next_value = match bootstrap_values {
            Some(bootstrap_values) if range.clone().any(|index| response_mask[index]) => {
                finite("bootstrap_values", row, bootstrap_values[row].into())?
            }
            _ => 0.0,
        };
        let mut next_advantage = 0.0;
        for index in acting(range, response_mask, masked_time) {
            if !response_mask[index] {
                next_advantage = gamma * (next_value + gae_lambda * next_advantage);
                next_value = 0.0;
                continue;
            }
            let reward = finite("token_rewards", index, token_rewards[index].into())?;
            let value = finite("values", index, values[index].into())?;
            next_advantage = reward + gamma * next_value - value + gamma * gae_lambda * next_advantage;
            next_value = value;
            gae.put(index, next_advantage, value)?;
        }
    }
    Ok(gae)
}

/// Generalized advantage estimation over the steps of one environment, episode after episode.
///
/// `delta_t = reward_t + gamma * value_{t+1} * m_{t+1} - value_t`,
/// `advantage_t = delta_t + gamma * gae_lambda * m_{t+1} * advantage_{t+1}`, where `m_{t+1}` is 0 when step `t` ended its
/// episode and 1 otherwise. All slices are `[steps]`; `terminated[t]` and `truncated[t]` tell how step `t` ended;
/// `bootstrap_value` is the value of the state after the last step, not read when that step ended its episode.
///
/// # Errors
/// Lengths differ, there are no steps, `gamma` or `gae_lambda` is outside `[0, 1]`, or a number is not finite.
pub fn episode_gae(
    rewards: &[f32],
    values: &[f32],
    bootstrap_value: f32,
    terminated: &[bool],
    truncated: &[bool],
    boundary: EpisodeBoundary,
    gamma: f64,
    gae_lambda: f64,
) -> Result<Gae> {
    same_length("values", values.len(), "rewards", rewards.len())?;
    same_length("terminated", terminated.len(), "rewards", rewards.len())?;
    same_length("truncated", truncated.len(), "rewards", rewards.len())?;
    unit_interval("gamma", gamma)?;
    unit_interval("gae_lambda", gae_lambda)?;
    if rewards.is_empty() {
        return Err(Error::EmptyBatch { what: "episode steps" });
    }
    let mut gae = Gae { advantages: vec![0.0; rewards.len()], returns: vec![0.0; rewards.len()] };
    let mut next_value = f64::from(bootstrap_value);
    let mut next_advantage = 0.0;
    for step in (0..rewards.len()).rev() {
        let ended = terminated[step] || (truncated[step] && boundary == EpisodeBoundary::TerminatedOrTruncated);
        let future = if ended {
            0.0
        } else {
            finite("bootstrap_value", 0, next_value)?;
            gamma * next_value + gamma * gae_lambda * next_advantage
        };
        let value = finite("values", step, values[step].into())?;
        next_advantage = finite("rewards", step, rewards[step].into())? + future - value;
        if truncated[step] && boundary == EpisodeBoundary::ZeroTruncated {
            next_advantage = 0.0;
        }
        next_value = value;
        gae.put(step, next_advantage, value)?;
    }
    Ok(gae)
}

impl Gae {
    fn put(&mut self, index: usize, advantage: f64, value: f64) -> Result<()> {
        self.advantages[index] = finite_f32("advantages", index, advantage)?;
        self.returns[index] = finite_f32("returns", index, advantage + value)?;
        Ok(())
    }
}

/// Positions of a row that matter, last first: its response tokens, and where time passes the masked ones between them.
fn acting(range: Range<usize>, response_mask: &[bool], masked_time: MaskedTime) -> impl Iterator<Item = usize> {
    let last = range.clone().rev().find(|&index| response_mask[index]);
    let range = last.map_or(range.start..range.start, |last| range.start..last + 1);
    range.rev().filter(move |&index| response_mask[index] || masked_time == MaskedTime::Passes)
}

pub(crate) fn unit_interval(name: &'static str, value: f64) -> Result<()> {
    ensure((0.0..=1.0).contains(&value), name, value, "must be in [0, 1]")
}
