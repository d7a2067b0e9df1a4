//! Solutions in words: one line per quantity, letters for names, an equation chain per line, and the behaviours that can
//! be injected.
//!
//! [`TraceConfig`] switches the behaviours, `driver` decides which quantity is visited next, `line` puts a visit into
//! words, `chain` computes step by step, [`mask`] marks what is content. The parser is in [`super::step_verifier`].
//!
//! ```text
//! <think>
//! We look for REF.
//! - FACT NAME EQ | (PICK NAME | PICK+NAME | PICK REMIND) INFO? (EQ | LOCKED)
//! So REF is INT.
//! </think>
//! <answer>
//! The answer is \boxed{INT}.
//! </answer>
//! ```

pub(super) mod chain;
mod driver;
mod line;
pub mod mask;

use serde::{Deserialize, Serialize};

use super::parameter::MAX_PARAMETERS;
use super::problem::Problem;
use super::question::{Words, write_number};
use super::stream::{Purpose, Stream};
use crate::error::{Result, ensure};
use line::Page;

/// Highest level of [`Analysis::Level`].
pub const MAX_ANALYSIS_LEVEL: u8 = 4;
/// Above this, detours would leave hardly a regular line.
const MAX_REFLECTION_PROB: f64 = 0.9;

/// How a solution is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceConfig {
    /// Kind of line.
    pub style: TraceStyle,
    /// Exploration: probability to visit another quantity than the next one, which may not be computable yet.
    pub reflection_prob: f64,
    /// Exploitation: how often a line restates what the problem says of its quantity.
    pub analysis: Analysis,
    /// Exploitation: computes one binary operation per step.
    pub detailed: bool,
    /// Restates what is added up for abstract quantities too.
    #[serde(default)]
    pub analysis_abstract: bool,
}

/// Kind of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceStyle {
    /// Announced, named and computed in varied sentences; the behaviours apply.
    Cot,
    /// "Let x be REF." and an equation; no behaviour applies. Filler where a row needs a response that nobody trains on.
    Plain,
}

/// How often the problem's definition is restated, for instance parameters with at least one parameter among their parents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Analysis {
    /// By in-degree, a random constant counted: the published tables, 0 (never) to 4 (always).
    Level {
        /// 0 to 4.
        level: u8,
    },
    /// With the same probability for every in-degree.
    Uniform {
        /// 0 to 1.
        probability: f64,
    },
}

impl Analysis {
    /// Never.
    pub const OFF: Analysis = Analysis::Level { level: 0 };

    /// Probability for a parameter with `in_degree` parents.
    pub fn probability(self, in_degree: usize) -> f64 {
        let table: &[f64] = match self {
            Analysis::Uniform { probability } => return if in_degree == 0 { 0.0 } else { probability },
            Analysis::Level { level: 0 } => return 0.0,
            Analysis::Level { level: 1 } => &[0.0, 0.0, 0.1, 0.4, 0.8],
            Analysis::Level { level: 2 } => &[0.0, 0.1, 0.4, 0.8],
            Analysis::Level { level: 3 } => &[0.0, 0.4, 0.8],
            Analysis::Level { .. } => &[0.0],
        };
        table.get(in_degree).copied().unwrap_or(1.0)
    }
}

impl TraceConfig {
    /// No behaviour: one line per necessary quantity, in order.
    pub const VANILLA: TraceConfig = TraceConfig {
        style: TraceStyle::Cot,
        reflection_prob: 0.0,
        analysis: Analysis::OFF,
        detailed: false,
        analysis_abstract: false,
    };

    /// All three behaviours, as published.
    pub const BRIDGE: TraceConfig = TraceConfig {
        reflection_prob: 0.1,
        analysis: Analysis::Level { level: 2 },
        detailed: true,
        ..TraceConfig::VANILLA
    };

    /// "Let x be REF." and an equation per line.
    pub const PLAIN: TraceConfig = TraceConfig { style: TraceStyle::Plain, ..TraceConfig::VANILLA };

    /// The published strength of each behaviour that is switched on.
    pub fn behaviours(subgoal: bool, analysis: bool, reflection: bool) -> Self {
        TraceConfig {
            reflection_prob: if reflection { Self::BRIDGE.reflection_prob } else { 0.0 },
            analysis: if analysis { Self::BRIDGE.analysis } else { Analysis::OFF },
            detailed: subgoal,
            ..Self::VANILLA
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        ensure(
            (0.0..=MAX_REFLECTION_PROB).contains(&self.reflection_prob),
            "trace.reflection_prob",
            self.reflection_prob,
            format!("must be 0 to {MAX_REFLECTION_PROB}"),
        )?;
        match self.analysis {
            Analysis::Level { level } => ensure(
                level <= MAX_ANALYSIS_LEVEL,
                "trace.analysis.level",
                level,
                format!("must be 0 to {MAX_ANALYSIS_LEVEL}"),
            ),
            Analysis::Uniform { probability } => {
                ensure((0.0..=1.0).contains(&probability), "trace.analysis.probability", probability, "must be 0 to 1")
            }
        }?;
        let plain = TraceConfig { style: TraceStyle::Plain, ..*self };
        ensure(
            self.style == TraceStyle::Cot || plain == TraceConfig::PLAIN,
            "trace.style",
            "plain",
            "has no behaviours; leave them off",
        )
    }
}

impl Problem {
    /// The solution as a model should write it. `variant` 0 keeps the order of the problem; every other number draws an order
    /// of its own (the query stays last), and all have letters of their own.
    pub fn response(&self, config: &TraceConfig, variant: u64) -> String {
        let mut text = String::with_capacity(4096);
        self.write_response(config, variant, &mut text);
        text
    }

    /// Appends [`Problem::response`] to `text`.
    pub fn write_response(&self, config: &TraceConfig, variant: u64, text: &mut String) {
        self.write_marked(config, variant, false, text);
    }

    /// [`Problem::response`] with its content marked, see [`mask`].
    pub fn response_with_mask(&self, config: &TraceConfig, variant: u64) -> String {
        let mut text = String::with_capacity(4096);
        self.write_marked(config, variant, true, &mut text);
        text
    }

    fn write_marked(&self, config: &TraceConfig, variant: u64, marked: bool, text: &mut String) {
        let stream = |purpose: Purpose| Stream::new(purpose.key(self.seed, self.index).at(self.attempt).at(variant));
        let words = Words::new(self);
        text.push_str("<think>\nWe look for ");
        words.write_reference(self.query(), text);
        text.push_str(".\n");
        let mut page = Page::new(self, &words, self.letters(&mut stream(Purpose::Letters)), marked, text);
        let original = self.necessary();
        let mut redrawn = [self.query(); MAX_PARAMETERS];
        let order = if variant == 0 {
            original
        } else {
            driver::topological_order(self, &mut stream(Purpose::Order), &mut redrawn)
        };
        match config.style {
            TraceStyle::Plain => order.iter().for_each(|&parameter| page.plain(parameter)),
            TraceStyle::Cot => {
                let mut behaviour = stream(Purpose::Behaviour);
                driver::write_lines(&mut page, order, config, &mut stream(Purpose::Phrasing), &mut behaviour);
            }
        }
        text.push_str("So ");
        words.write_reference(self.query(), text);
        text.push_str(" is ");
        write_number(self.value(self.query()), text);
        text.push_str(".\n</think>\n<answer>\nThe answer is \\boxed{");
        write_number(self.value(self.query()), text);
        text.push_str("}.\n</answer>");
    }

    /// A letter of its own for every parameter of the problem.
    fn letters(&self, stream: &mut Stream) -> [u8; MAX_PARAMETERS] {
        let mut alphabet = *b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut letters = [0; MAX_PARAMETERS];
        let total = alphabet.len();
        for (place, parameter) in self.parameters().iter().enumerate().take(total) {
            alphabet.swap(place, place + stream.below((total - place) as u32) as usize);
            letters[parameter.index()] = alphabet[place];
        }
        letters
    }
}
