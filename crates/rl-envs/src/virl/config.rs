//! What can be set about the task. The defaults are the published in-distribution task with our corrections, on synthetic
//! routes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::direction::ActionSpace;
use super::synthetic::SyntheticConfig;
use crate::error::{Result, ensure};

/// Most points interpolated on one leg.
pub const MAX_STRAIGHT_LINE_LENGTH: u32 = 64;

/// V-IRL, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VirlConfig {
    /// Where routes come from.
    pub routes: RouteSource,
    /// Which route an episode takes.
    pub order: RouteOrder,
    /// What an episode is.
    pub episode: EpisodeKind,
    /// Rule switch: turns are named by the compass, or else by the side.
    pub absolute_action: bool,
    /// Moves interpolated points to the nearest known panorama and drops those near a waypoint. On synthetic routes every
    /// point is a panorama.
    pub relocation: bool,
    /// Points interpolated on each leg longer than 5 m, before dropping.
    pub straight_line_length: u32,
    /// Share of interpolated points that are dropped.
    pub drop_rate: f64,
    /// Graded attempts per point.
    pub max_attempts: u32,
    /// Answers after which the episode is truncated, for whatever points they were; absent, no limit.
    pub max_steps: Option<u32>,
    /// Wording of the prompt and layout of the expert answer.
    pub template: TemplateKind,
    /// Prices of the outcomes.
    pub reward: RewardTable,
    /// Takes the plain difference of headings for the turn, as published; 350 to 10 degrees is then a turn to the left.
    pub legacy_nowrap: bool,
    /// Stays at the same sentence after a leg of at most 5 m, as published; all later sentences are then off by one.
    pub legacy_short_leg: bool,
    /// Without relocation, keeps the interpolated point that coincides with the waypoint, as published.
    pub legacy_double_waypoint: bool,
    /// Looks for an intersection in the landmark part of the true observation alone, as published.
    pub legacy_landmark_test: bool,
    /// Asks for one more response after the last graded attempt and penalises it ungraded, as published.
    pub legacy_extra_step: bool,
}

impl Default for VirlConfig {
    fn default() -> Self {
        VirlConfig {
            routes: RouteSource::Synthetic(SyntheticConfig::TRAINING),
            order: RouteOrder::Random,
            episode: EpisodeKind::Route,
            absolute_action: true,
            relocation: true,
            straight_line_length: 5,
            drop_rate: 0.5,
            max_attempts: 2,
            max_steps: None,
            template: TemplateKind::Standard,
            reward: RewardTable::PUBLISHED,
            legacy_nowrap: false,
            legacy_short_leg: false,
            legacy_double_waypoint: false,
            legacy_landmark_test: false,
            legacy_extra_step: false,
        }
    }
}

impl VirlConfig {
    /// The same task with turns named by the side: the rule shift of the paper.
    pub fn rule_shifted(&self) -> Self {
        VirlConfig { absolute_action: false, ..self.clone() }
    }

    /// The actions in force.
    pub fn action_space(&self) -> ActionSpace {
        if self.absolute_action { ActionSpace::Absolute } else { ActionSpace::Relative }
    }

    /// Checks what the types cannot. Route files are read by [`super::RouteSet::shared`].
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        if let RouteSource::Synthetic(routes) = &self.routes {
            routes.validate()?;
        }
        ensure(
            (1..=MAX_STRAIGHT_LINE_LENGTH).contains(&self.straight_line_length),
            "straight_line_length",
            self.straight_line_length,
            format!("must be 1 to {MAX_STRAIGHT_LINE_LENGTH}"),
        )?;
        ensure((0.0..=1.0).contains(&self.drop_rate), "drop_rate", self.drop_rate, "must be 0 to 1")?;
        ensure(self.max_attempts >= 1, "max_attempts", self.max_attempts, "must be at least 1")?;
        ensure(self.max_steps != Some(0), "max_steps", 0, "must be at least 1, or absent")?;
        self.reward.validate()
    }
}

/// Where routes come from; `kind` chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RouteSource {
    /// Walks through an invented city.
    Synthetic(SyntheticConfig),
    /// A folder in the published layout: `route_infos.json`, and with relocation `gps_to_panorama.json`.
    Folder(FolderConfig),
}

/// A folder of route files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder.
    pub path: PathBuf,
}

/// Which route an episode takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteOrder {
    /// Any, drawn with replacement.
    Random,
    /// The routes in turn: episode `i` takes route `i` modulo their number.
    Sequential,
}

/// What an episode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeKind {
    /// The whole route, point by point; each right action opens a conversation of its own
    /// ([`crate::Environment::starts_over`]).
    Route,
    /// One point of the route, drawn uniformly. A walk's state never depends on the policy (only right actions advance it, and
    /// failed attempts leave no trace in the history), so this is the same task without the credit that one point's action
    /// takes in the next, and success is the accuracy per step.
    Point,
}

/// Wording of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Task, instructions, actions, history and output sections.
    Standard,
    /// The instructions, actions and history alone, for tiny models.
    Compact,
}

/// Price of each outcome.
///
/// The published code declares one more, -1.75 for a wrong instruction, and never gives it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTable {
    /// The action is the right one.
    pub correct: f64,
    /// A wrong action, and a wrong belief about being at an intersection.
    pub incorrect_observation: f64,
    /// Any other wrong action, or none.
    pub incorrect_action: f64,
    /// The last graded attempt failed, or `max_steps` is reached; on top of that attempt's own price.
    pub attempt_limit: f64,
}

impl RewardTable {
    /// Prices of the published environment.
    pub const PUBLISHED: RewardTable =
        RewardTable { correct: 1.0, incorrect_observation: -1.5, incorrect_action: -1.0, attempt_limit: -1.0 };

    fn validate(&self) -> Result<()> {
        for (key, price) in [
            ("reward.correct", self.correct),
            ("reward.incorrect_observation", self.incorrect_observation),
            ("reward.incorrect_action", self.incorrect_action),
            ("reward.attempt_limit", self.attempt_limit),
        ] {
            ensure(price.is_finite(), key, price, "must be a finite number")?;
        }
        Ok(())
    }
}
