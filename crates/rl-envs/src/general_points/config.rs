//! What can be set about the game. The defaults are the published in-distribution game with our corrections.

use serde::{Deserialize, Serialize};

use super::deck::{Duplicates, FACE_RANK, FaceRule, MAX_RANK, SuitPool};
use super::solver::MAX_LISTED;
use super::table::Values;
use crate::error::{Result, ensure};

/// GeneralPoints, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeneralPointsConfig {
    /// Cards per hand, 1 to 6.
    pub num_cards: usize,
    /// Value the formula must reach.
    pub target: i32,
    /// Lowest rank dealt; 1 is the ace.
    pub min_rank: u8,
    /// Highest rank dealt; 11, 12 and 13 are jack, queen and king.
    pub max_rank: u8,
    /// Rule switch: jack, queen and king count as 10, or else as 11, 12 and 13.
    pub treat_face_cards_as_10: bool,
    /// Deals at least one face card per hand.
    pub ood: bool,
    /// Suits that are dealt.
    pub suit_pool: SuitPool,
    /// Whether a hand may hold the same card twice.
    pub duplicates: Duplicates,
    /// The visual variant: the cards are in a picture, and the policy must say which they are. Absent, the prompt lists
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vision: Option<VisionConfig>,
    /// Graded attempts per episode.
    pub max_attempts: u32,
    /// Wording of the prompt and layout of the expert answer.
    pub template: TemplateKind,
    /// How outcomes are priced.
    pub reward: RewardConfig,
    /// Lets a bracket stay open without a penalty of its own, as published.
    pub legacy_unclosed_bracket: bool,
    /// Evaluates in floating point, as published; some correct formulas then miss the target.
    pub legacy_float: bool,
    /// Asks for one more response after the last graded attempt and penalises it ungraded, as published.
    pub legacy_extra_step: bool,
}

impl Default for GeneralPointsConfig {
    fn default() -> Self {
        GeneralPointsConfig {
            num_cards: 4,
            target: 24,
            min_rank: 1,
            max_rank: MAX_RANK,
            treat_face_cards_as_10: true,
            ood: false,
            suit_pool: SuitPool::Mixed,
            duplicates: Duplicates::Allowed,
            vision: None,
            max_attempts: 5,
            template: TemplateKind::Standard,
            reward: RewardConfig::default(),
            legacy_unclosed_bracket: false,
            legacy_float: false,
            legacy_extra_step: false,
        }
    }
}

impl GeneralPointsConfig {
    /// The same game under the other rule with a face card in every hand: the rule shift of the paper.
    pub fn rule_shifted(&self) -> Self {
        GeneralPointsConfig { treat_face_cards_as_10: false, ood: true, ..self.clone() }
    }

    /// The face-card rule in force.
    pub fn face_rule(&self) -> FaceRule {
        if self.treat_face_cards_as_10 { FaceRule::Ten } else { FaceRule::Rank }
    }

    /// Checks what the types cannot. Whether any hand reaches the target is checked by [`super::Deck::new`].
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        ensure(
            (1..=Values::MAX_CARDS).contains(&self.num_cards),
            "num_cards",
            self.num_cards,
            format!("must be 1 to {}", Values::MAX_CARDS),
        )?;
        ensure(self.min_rank >= 1, "min_rank", self.min_rank, "must be at least 1, the ace")?;
        ensure(
            (self.min_rank..=MAX_RANK).contains(&self.max_rank),
            "max_rank",
            self.max_rank,
            format!("must be {} (min_rank) to {MAX_RANK}", self.min_rank),
        )?;
        ensure(
            !self.ood || self.max_rank >= FACE_RANK,
            "max_rank",
            self.max_rank,
            format!("ood = true deals a face card, so it must be at least {FACE_RANK}"),
        )?;
        ensure(self.max_attempts >= 1, "max_attempts", self.max_attempts, "must be at least 1")?;
        for (key, on) in
            [("legacy_unclosed_bracket", self.legacy_unclosed_bracket), ("legacy_float", self.legacy_float)]
        {
            let limit = format!("compares with stored solutions, which there are for up to {MAX_LISTED} cards");
            ensure(!on || self.num_cards <= MAX_LISTED, key, on, limit)?;
        }
        if let Some(vision) = &self.vision {
            vision.validate()?;
            let wordy = self.template != TemplateKind::Compact;
            ensure(wordy, "template", "compact", "has no wording for cards in a picture; choose standard or example")?;
        }
        self.reward.validate()
    }
}

/// The visual variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VisionConfig {
    /// Side of the picture in pixels; published 1200.
    pub resolution: u32,
    /// Asks for the cards alone: a response that names them has solved the task, whatever its formula.
    #[serde(default)]
    pub recognition_only: bool,
}

impl VisionConfig {
    /// Smallest picture on which a rank can be told from another.
    pub const MIN_RESOLUTION: u32 = 64;
    /// Largest picture, 48 MB of pixels.
    pub const MAX_RESOLUTION: u32 = 4096;

    fn validate(&self) -> Result<()> {
        let range = Self::MIN_RESOLUTION..=Self::MAX_RESOLUTION;
        let limit = format!("must be {} to {}", range.start(), range.end());
        ensure(range.contains(&self.resolution), "vision.resolution", self.resolution, limit)
    }
}

/// Wording of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Task, input and output sections.
    Standard,
    /// `Standard` followed by a worked example, for models that were never trained on the format.
    Example,
    /// Some twenty words, for tiny models.
    Compact,
}

/// How a graded attempt becomes a reward.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// How several violations in one attempt combine.
    pub mode: RewardMode,
    /// Prices of the outcomes; without them the mode's own table holds.
    pub prices: Option<RewardTable>,
}

impl RewardConfig {
    /// The prices in force.
    pub fn table(&self) -> RewardTable {
        self.prices.unwrap_or(match self.mode {
            RewardMode::Additive | RewardMode::Exclusive => RewardTable::PUBLISHED,
            RewardMode::Coarse => RewardTable::COARSE,
        })
    }

    fn validate(&self) -> Result<()> {
        let table = self.table();
        for (key, price) in [
            ("reward.prices.correct", table.correct),
            ("reward.prices.partial", table.partial),
            ("reward.prices.wrong_total", table.wrong_total),
            ("reward.prices.incorrect_vision", table.incorrect_vision),
            ("reward.prices.incorrect_number", table.incorrect_number),
            ("reward.prices.illegal_formula", table.illegal_formula),
            ("reward.prices.attempt_limit", table.attempt_limit),
        ] {
            ensure(price.is_finite(), key, price, "must be a finite number")?;
        }
        Ok(())
    }
}

/// How several violations in one attempt combine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardMode {
    /// Every violation costs its price, as in the published code.
    #[default]
    Additive,
    /// Only the most severe violation costs, as in the paper.
    Exclusive,
    /// As `Exclusive`, but blanks in the formula are ignored and a partial solution is a wrong total.
    Coarse,
}

/// Price of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTable {
    /// Legal, every card used once, equal to the target.
    pub correct: f64,
    /// Every card used, no value, but the start of a solution. Unreachable unless `legacy_unclosed_bracket`.
    pub partial: f64,
    /// Legal numbers, wrong value or none.
    pub wrong_total: f64,
    /// The cards named are not those in the picture. Only the visual variant pays it.
    #[serde(default = "published_incorrect_vision")]
    pub incorrect_vision: f64,
    /// Numbers that are not in the hand or used too often; the same again if a card is unused.
    pub incorrect_number: f64,
    /// Each violation of the grammar; a missing formula too.
    pub illegal_formula: f64,
    /// The last graded attempt failed, on top of that attempt's own price.
    pub attempt_limit: f64,
}

impl RewardTable {
    /// Prices of the published environment.
    pub const PUBLISHED: RewardTable = RewardTable {
        correct: 5.0,
        partial: 1.0,
        wrong_total: -1.0,
        incorrect_vision: -1.5,
        incorrect_number: -2.0,
        illegal_formula: -3.0,
        attempt_limit: -1.0,
    };

    /// Prices of the coarse mode: right, wrong, malformed.
    pub const COARSE: RewardTable = RewardTable {
        correct: 3.0,
        partial: -1.0,
        wrong_total: -1.0,
        incorrect_vision: -1.5,
        incorrect_number: -2.0,
        illegal_formula: -2.0,
        attempt_limit: -1.0,
    };
}

/// For tables of the language variant, which never pays it.
fn published_incorrect_vision() -> f64 {
    RewardTable::PUBLISHED.incorrect_vision
}
