//! What is played, in the words of the page.

use rl_envs::EnvironmentConfig;
use rl_envs::general_points::GeneralPointsConfig;
use rl_envs::general_points::prompt as cards;
use rl_envs::virl::VirlConfig;
use rl_envs::virl::prompt as walks;

/// The game of an experiment; its splits differ in the rule alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Game {
    /// Cards to a target.
    GeneralPoints(GeneralPointsConfig),
    /// Points of walks through a city.
    Virl(VirlConfig),
}

impl Game {
    /// The game of a split; none for other tasks.
    pub fn new(environment: &EnvironmentConfig) -> Option<Self> {
        match environment {
            EnvironmentConfig::GeneralPoints(config) => Some(Game::GeneralPoints(config.clone())),
            EnvironmentConfig::Virl(config) => Some(Game::Virl(config.clone())),
            _ => None,
        }
    }

    /// Hash of every text a prompt is made from.
    pub fn template_sha256(&self) -> String {
        match self {
            Game::GeneralPoints(config) => cards::template_sha256(config),
            Game::Virl(config) => walks::template_sha256(config.template),
        }
    }

    /// What one of the tasks is called.
    pub fn task(&self) -> &'static str {
        match self {
            Game::GeneralPoints(_) => "hand",
            Game::Virl(_) => "point",
        }
    }

    /// The outcome of an answer that could not be read, where the game has one.
    pub fn format_error(&self) -> Option<&'static str> {
        match self {
            Game::GeneralPoints(_) => Some("illegal_formula"),
            Game::Virl(_) => None,
        }
    }

    /// What the experiment is about.
    pub fn introduction(&self) -> String {
        let (task, shown, other) = match self {
            Game::GeneralPoints(config) => (
                format!("plays GeneralPoints: combine {} cards to {}", config.num_cards, config.target),
                "one rule for the face cards (in distribution, ID: jack, queen and king count as 10)",
                "they count as 11, 12 and 13",
            ),
            Game::Virl(_) => (
                "walks through a city by written instructions (V-IRL) and names the next action at each point"
                    .to_owned(),
                "one rule for naming turns (in distribution, ID: by the compass, as in `turn_direction(north)`)",
                "by the side, as in `turn_direction(left)`",
            ),
        };
        format!(
            "A language model {task}. Supervised fine-tuning (SFT) shows it {shown}. The other rule (out of \
             distribution, OOD: {other}) is tested but trained neither by SFT nor afterwards. Then \
             reinforcement learning (RL) goes on under the first rule, once from the SFT checkpoint with the best OOD \
             success and once from the last one."
        )
    }
}
