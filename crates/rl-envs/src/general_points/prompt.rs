//! The prompt of a hand and the user turn after a failed attempt, from the versioned texts under `templates/`.
//!
//! Wording moves results on this task, so the hash of every text a prompt is made from belongs in the run's manifest.

use rl_core::random::RandomKey;
use sha2::{Digest, Sha256};

use super::answer::render_answer;
use super::config::{GeneralPointsConfig, TemplateKind};
use super::deck::{Card, FACE_RANK, FaceRule, Hand};
use super::solver::MAX_LISTED;
use super::table::{SolutionTable, Values};
use crate::error::{Error, Result};

const STANDARD: &str = include_str!("../../templates/standard.txt");
const EXAMPLE: &str = include_str!("../../templates/example.txt");
const COMPACT: &str = include_str!("../../templates/compact.txt");
const STANDARD_RULE_TEN: &str = include_str!("../../templates/standard_rule_ten.txt");
const STANDARD_RULE_RANK: &str = include_str!("../../templates/standard_rule_rank.txt");
const COMPACT_RULE_TEN: &str = include_str!("../../templates/compact_rule_ten.txt");
const COMPACT_RULE_RANK: &str = include_str!("../../templates/compact_rule_rank.txt");
const VISION: &str = include_str!("../../templates/vision.txt");
const LEGACY_LOSS_RULE_TEN: &str = include_str!("../../templates/legacy_loss_rule_ten.txt");
const LEGACY_LOSS_RULE_RANK: &str = include_str!("../../templates/legacy_loss_rule_rank.txt");
const FEEDBACK: &str = include_str!("../../templates/feedback.txt");

/// The prompt with everything but the cards filled in.
#[derive(Debug, Clone)]
pub struct Prompt {
    before_cards: String,
    /// `None` where no cards are listed.
    after_cards: Option<String>,
    quoted_list: bool,
}

impl Prompt {
    /// The prompt of `config`. Between the two face-card rules only the rule sentence differs.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the worked example is asked for and no hand without face cards has a solution.
    pub fn new(config: &GeneralPointsConfig, table: &SolutionTable) -> Result<Self> {
        let rules = match config.template {
            TemplateKind::Standard | TemplateKind::Example => [STANDARD_RULE_TEN, STANDARD_RULE_RANK],
            TemplateKind::Compact => [COMPACT_RULE_TEN, COMPACT_RULE_RANK],
        };
        Prompt::with_rules(config, table, rules)
    }

    /// The prompt with the rule in the words of the published data on which the loss out of distribution was measured.
    ///
    /// # Errors
    /// As for [`Prompt::new`].
    pub(super) fn legacy_loss(config: &GeneralPointsConfig, table: &SolutionTable) -> Result<Self> {
        Prompt::with_rules(config, table, [LEGACY_LOSS_RULE_TEN, LEGACY_LOSS_RULE_RANK])
    }

    fn with_rules(config: &GeneralPointsConfig, table: &SolutionTable, rules: [&str; 2]) -> Result<Self> {
        let standard = if config.vision.is_some() { VISION } else { STANDARD }.trim_end();
        let text = match config.template {
            TemplateKind::Standard => standard.to_string(),
            TemplateKind::Example => format!("{standard}{}", example(config, table)?),
            TemplateKind::Compact => COMPACT.trim_end().to_string(),
        };
        let rule = match config.face_rule() {
            FaceRule::Ten => rules[0],
            FaceRule::Rank => rules[1],
        };
        let text = text
            .replace("<<target>>", &config.target.to_string())
            .replace("<<count>>", &count_of_cards(config.num_cards))
            .replace("<<values>>", count_word(config.num_cards))
            .replace("<<rule>>", rule.trim_end());
        // Cards in a picture are not listed.
        let (before, after) = text.split_once("<<cards>>").map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
        Ok(Prompt {
            before_cards: before.to_string(),
            after_cards: after.map(str::to_string),
            quoted_list: config.template != TemplateKind::Compact,
        })
    }

    /// The user message of `hand`.
    pub fn render(&self, hand: &Hand) -> String {
        let Some(after_cards) = &self.after_cards else { return self.before_cards.clone() };
        // Six cards with brackets, quotes and commas take 38 bytes at most.
        let mut text = String::with_capacity(self.before_cards.len() + after_cards.len() + 40);
        text.push_str(&self.before_cards);
        push_cards(&mut text, hand.cards().iter().map(|card| card.plain()), self.quoted_list);
        text.push_str(after_cards);
        text
    }
}

/// The short sentence that states a face-card rule.
pub(super) fn compact_rule(rule: FaceRule) -> &'static str {
    match rule {
        FaceRule::Ten => COMPACT_RULE_TEN.trim_end(),
        FaceRule::Rank => COMPACT_RULE_RANK.trim_end(),
    }
}

/// The user turn after a failed attempt, with the verifier's `message`.
pub fn feedback(message: &str) -> String {
    FEEDBACK.trim_end().replace("<<message>>", message)
}

/// SHA-256 in hexadecimal of the texts behind a game's prompts: both rule sentences and the feedback turn included.
pub fn template_sha256(config: &GeneralPointsConfig) -> String {
    let standard = if config.vision.is_some() { VISION } else { STANDARD };
    let texts: &[&str] = match config.template {
        TemplateKind::Standard => &[standard, STANDARD_RULE_TEN, STANDARD_RULE_RANK, FEEDBACK],
        TemplateKind::Example => &[standard, STANDARD_RULE_TEN, STANDARD_RULE_RANK, FEEDBACK, EXAMPLE],
        TemplateKind::Compact => &[COMPACT, COMPACT_RULE_TEN, COMPACT_RULE_RANK, FEEDBACK],
    };
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update(text.as_bytes());
        // A separator, so that moving a line from one text to the next changes the hash.
        hasher.update([0]);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Appends `["4", "K"]`, or `4 K` without quotes.
pub(super) fn push_cards<'a>(text: &mut String, cards: impl Iterator<Item = &'a str>, quoted_list: bool) {
    let (open, between, close) = if quoted_list { ("[\"", "\", \"", "\"]") } else { ("", " ", "") };
    text.push_str(open);
    for (position, card) in cards.enumerate() {
        if position > 0 {
            text.push_str(between);
        }
        text.push_str(card);
    }
    text.push_str(close);
}

/// A worked example without face cards, so that it does not depend on the rule.
fn example(config: &GeneralPointsConfig, table: &SolutionTable) -> Result<String> {
    let highest = config.max_rank.min(FACE_RANK - 1);
    let hands =
        if config.min_rank <= highest { Values::all(config.num_cards, config.min_rank, highest)? } else { Vec::new() };
    let key = RandomKey::new(0, "general_points/worked example");
    let found = hands.into_iter().find_map(|values| {
        // The one listed first, or the first of a search that is always the same.
        let solution = match table.is_solvable(values) {
            false => None,
            true if values.as_slice().len() <= MAX_LISTED => table.solutions(values).first().cloned(),
            true => table.solution(values, key),
        };
        Some((values, solution?))
    });
    let (values, formula) = found.ok_or_else(|| Error::Config {
        key: "template",
        value: "example".to_string(),
        limit: format!("no hand without face cards reaches target = {}; choose another template", config.target),
    })?;
    let plain: Vec<&str> = values.as_slice().iter().map(|&value| Card::plain_of(value)).collect();
    let mut cards = String::new();
    push_cards(&mut cards, plain.iter().copied(), true);
    // Compact layout is strict JSON, which is what this variant asks for.
    let answer = render_answer(TemplateKind::Compact, &plain, values.as_slice(), &formula, config.target);
    Ok(EXAMPLE.trim_end().replace("<<example_cards>>", &cards).replace("<<example_answer>>", &answer))
}

fn count_word(num_cards: usize) -> &'static str {
    ["one", "two", "three", "four", "five", "six"][num_cards.clamp(1, Values::MAX_CARDS) - 1]
}

fn count_of_cards(num_cards: usize) -> String {
    format!("{} card{}", count_word(num_cards), if num_cards == 1 { "" } else { "s" })
}
