//! The prompt at a point and the user turn after a failed attempt, from the versioned texts under `templates/`.
//!
//! Wording moves results on this task, so the hash of every text a prompt is made from belongs in the run's manifest.

use sha2::{Digest, Sha256};

use super::config::TemplateKind;
use super::direction::{Action, ActionSpace};
use super::rail::{Rail, RailPoint, WORDING, push_number};

const STANDARD: &str = include_str!("../../templates/virl_standard.txt");
const COMPACT: &str = include_str!("../../templates/virl_compact.txt");
const STANDARD_RULE_ABSOLUTE: &str = include_str!("../../templates/virl_standard_rule_absolute.txt");
const STANDARD_RULE_RELATIVE: &str = include_str!("../../templates/virl_standard_rule_relative.txt");
const COMPACT_RULE_ABSOLUTE: &str = include_str!("../../templates/virl_compact_rule_absolute.txt");
const COMPACT_RULE_RELATIVE: &str = include_str!("../../templates/virl_compact_rule_relative.txt");
const STANDARD_SKELETON: &str = include_str!("../../templates/virl_standard_skeleton.txt");
const COMPACT_SKELETON: &str = include_str!("../../templates/virl_compact_skeleton.txt");
const FEEDBACK: &str = include_str!("../../templates/virl_feedback.txt");

/// The prompt with everything but the route filled in.
#[derive(Debug, Clone)]
pub struct Prompt {
    before_instructions: String,
    before_history: String,
    after_history: String,
    skeleton: &'static str,
    space: ActionSpace,
}

impl Prompt {
    /// The prompt of `template`. Between the two action spaces only the sentence about turns differs.
    pub fn new(template: TemplateKind, space: ActionSpace) -> Self {
        let (text, rules, skeleton) = match template {
            TemplateKind::Standard => (STANDARD, [STANDARD_RULE_ABSOLUTE, STANDARD_RULE_RELATIVE], STANDARD_SKELETON),
            TemplateKind::Compact => (COMPACT, [COMPACT_RULE_ABSOLUTE, COMPACT_RULE_RELATIVE], COMPACT_SKELETON),
        };
        let rule = match space {
            ActionSpace::Absolute => rules[0],
            ActionSpace::Relative => rules[1],
        };
        let text = text
            .trim_end()
            .replace("<<forward>>", Action::Forward.label())
            .replace("<<turns>>", rule.trim_end())
            .replace("<<stop>>", Action::Stop.label())
            .replace("<<skeleton>>", skeleton.trim_end());
        let (before_instructions, rest) = text.split_once("<<instructions>>").unwrap_or((&text, ""));
        let (before_history, after_history) = rest.split_once("<<history>>").unwrap_or((rest, ""));
        Prompt {
            before_instructions: before_instructions.to_string(),
            before_history: before_history.to_string(),
            after_history: after_history.to_string(),
            skeleton: skeleton.trim_end(),
            space,
        }
    }

    /// The actions in force.
    pub fn action_space(&self) -> ActionSpace {
        self.space
    }

    /// What stays the same along a rail: everything before the history.
    pub(super) fn push_head(&self, text: &mut String, rail: &Rail) {
        text.push_str(&self.before_instructions);
        text.push_str(rail.str_instruction());
        text.push_str(&self.before_history);
    }

    /// The lines `O_n` and `A_n` of `point`, its number counted from 0, with the right action.
    pub(super) fn push_past(&self, text: &mut String, rail: &Rail, number: usize, point: &RailPoint) {
        self.push_now(text, rail, number, point);
        text.push(' ');
        text.push_str(point.action(self.space).label());
        text.push('\n');
    }

    /// The lines `O_n` and `A_n` of `point`, the action still open.
    fn push_now(&self, text: &mut String, rail: &Rail, number: usize, point: &RailPoint) {
        text.push_str("O_");
        push_number(text, number + 1);
        text.push_str(": ");
        rail.push_observation(text, point);
        text.push_str("\nA_");
        push_number(text, number + 1);
        text.push(':');
    }

    /// The user message at point `number` (from 0) of `rail`, after `head` ([`Prompt::push_head`]) and `past`
    /// ([`Prompt::push_past`] of all points before).
    pub(super) fn assemble(&self, head: &str, past: &str, rail: &Rail, number: usize, point: &RailPoint) -> String {
        // An observation and the two labels take about a hundred bytes.
        let mut text = String::with_capacity(head.len() + past.len() + self.after_history.len() + 128);
        text.push_str(head);
        text.push_str(past);
        self.push_now(&mut text, rail, number, point);
        text.push_str(&self.after_history);
        text
    }

    /// The user message at point `number` of `rail`, counted from 0; empty beyond its end.
    pub fn render(&self, rail: &Rail, number: usize) -> String {
        let Some(point) = rail.points().get(number) else { return String::new() };
        let (mut head, mut past) = (String::new(), String::new());
        self.push_head(&mut head, rail);
        for (number, point) in rail.points()[..number].iter().enumerate() {
            self.push_past(&mut past, rail, number, point);
        }
        self.assemble(&head, &past, rail, number, point)
    }

    /// The lines of the walk so far: past observations and actions, the current observation, and an open action.
    pub(super) fn history(&self, past: &str, rail: &Rail, number: usize, point: &RailPoint) -> String {
        let mut text = past.to_owned();
        self.push_now(&mut text, rail, number, point);
        text
    }

    /// The user turn after a failed attempt, with the verifier's `message` and a reminder of the form.
    pub fn feedback(&self, message: &str) -> String {
        FEEDBACK.trim_end().replace("<<message>>", message).replace("<<skeleton>>", self.skeleton)
    }
}

/// SHA-256 in hexadecimal of the texts behind a template: both rule sentences, the words of the instructions and the feedback
/// turn included.
pub fn template_sha256(template: TemplateKind) -> String {
    let texts = match template {
        TemplateKind::Standard => {
            [STANDARD, STANDARD_RULE_ABSOLUTE, STANDARD_RULE_RELATIVE, STANDARD_SKELETON, FEEDBACK]
        }
        TemplateKind::Compact => [COMPACT, COMPACT_RULE_ABSOLUTE, COMPACT_RULE_RELATIVE, COMPACT_SKELETON, FEEDBACK],
    };
    let mut hasher = Sha256::new();
    for text in texts.into_iter().chain(WORDING) {
        hasher.update(text.as_bytes());
        // A separator, so that moving a line from one text to the next changes the hash.
        hasher.update([0]);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
