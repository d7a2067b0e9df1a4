//! A small guessing game that can be broken in one way at a time, for the checker to find.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rl_envs::{Combination, Environment, Error, Message, Observation, Prices, Result, Step};
use serde_json::{Value, json};

/// What is wrong with a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    StepsBeforeReset,
    InfoBeforeReset,
    PanicsOnNul,
    RefusesEmptyText,
    ResetCountsUp,
    RemembersLargestIndex,
    IgnoresIndex,
    EmptyObservation,
    EndsWithAssistant,
    FeedbackFromAssistant,
    FeedbackDependsOnInstances,
    EndsBothWays,
    FeedbackAfterEnd,
    NoFeedback,
    SuccessGoesOn,
    NeverEnds,
    StepsAfterEnd,
    EndedStepChangesInfo,
    KeepsAttempts,
    KeepsUnfinishedEpisode,
    InfoUsesUpAttempt,
    InfoIsText,
    RewardIsInfinite,
    RewardOffTheTable,
    OutcomeOffTheTable,
    WrongExpert,
    SilentExpert,
    SlowOnLongText,
}

/// The policy must name a digit; after three attempts it is over.
pub struct Game {
    fault: Fault,
    /// How many games of this process were made before it.
    number: u64,
    resets: u64,
    largest_index: u64,
    episode: Option<Episode>,
}

struct Episode {
    digit: u64,
    attempts: std::cell::Cell<u32>,
    ended: bool,
    /// Asked after the end, in a broken game.
    late: u32,
}

static GAMES: AtomicU64 = AtomicU64::new(0);

impl Game {
    pub fn new(fault: Fault) -> Self {
        let number = GAMES.fetch_add(1, Ordering::Relaxed);
        Game { fault, number, resets: 0, largest_index: 0, episode: None }
    }
}

impl Environment for Game {
    fn name(&self) -> &'static str {
        "guess"
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        self.resets += 1;
        self.largest_index = self.largest_index.max(index);
        let seen = match self.fault {
            Fault::ResetCountsUp => self.resets,
            Fault::RemembersLargestIndex => self.largest_index,
            Fault::IgnoresIndex => 0,
            _ => index,
        };
        let digit = (seed + 7 * seen) % 10;
        let unfinished =
            self.episode.as_ref().filter(|episode| !episode.ended).map_or(0, |episode| episode.attempts.get());
        let finished =
            self.episode.as_ref().filter(|episode| episode.ended).map_or(0, |episode| episode.attempts.get());
        let attempts = match self.fault {
            // At least one attempt is left.
            Fault::KeepsAttempts => finished.min(2),
            Fault::KeepsUnfinishedEpisode => unfinished,
            _ => 0,
        };
        self.episode = Some(Episode { digit, attempts: attempts.into(), ended: false, late: 0 });
        let text = if self.fault == Fault::EmptyObservation { String::new() } else { format!("Say {digit}.") };
        let mut messages = vec![Message::user(text)];
        if self.fault == Fault::EndsWithAssistant {
            messages.push(Message::assistant("Hm."));
        }
        Ok(Observation { messages })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let fault = self.fault;
        if self.episode.is_none() && fault == Fault::StepsBeforeReset {
            self.reset(0, 0)?;
        }
        let number = self.number;
        let episode = self.episode.as_mut().ok_or(Error::NotReset { environment: "guess" })?;
        if episode.ended {
            episode.late += u32::from(fault == Fault::EndedStepChangesInfo);
            if fault != Fault::StepsAfterEnd {
                return Err(Error::EpisodeEnded { environment: "guess" });
            }
        }
        match fault {
            Fault::PanicsOnNul if response.contains('\0') => panic!("a NUL"),
            Fault::RefusesEmptyText if response.is_empty() => {
                return Err(Error::Length { name: "text", found: 0, expected: 1 });
            }
            Fault::SlowOnLongText if 100_000 < response.len() => std::thread::sleep(Duration::from_millis(300)),
            _ => {}
        }
        let attempts = episode.attempts.get() + 1;
        episode.attempts.set(attempts);
        let success = response == episode.digit.to_string();
        let terminated = success && fault != Fault::SuccessGoesOn;
        let truncated =
            (!terminated && 3 <= attempts && fault != Fault::NeverEnds) || (terminated && fault == Fault::EndsBothWays);
        episode.ended = terminated || truncated;
        let feedback = match fault {
            Fault::FeedbackFromAssistant => Message::assistant("No."),
            Fault::FeedbackDependsOnInstances => Message::user(format!("No, says game {number}.")),
            _ => Message::user(format!("No, attempt {attempts} failed.")),
        };
        let speaks = if episode.ended { fault == Fault::FeedbackAfterEnd } else { fault != Fault::NoFeedback };
        let price = if success { 1.0 } else { -0.25 };
        Ok(Step {
            outcome: match (success, fault) {
                (true, _) => "right",
                (false, Fault::OutcomeOffTheTable) => "odd",
                (false, _) => "wrong",
            },
            reward: match fault {
                Fault::RewardIsInfinite => f64::INFINITY,
                Fault::RewardOffTheTable => price - 0.125,
                _ => price - if truncated { 0.5 } else { 0.0 },
            },
            success,
            feedback: speaks.then_some(feedback),
            terminated,
            truncated,
        })
    }

    fn info(&self) -> Value {
        let Some(episode) = &self.episode else {
            return if self.fault == Fault::InfoBeforeReset { json!({}) } else { Value::Null };
        };
        let attempts = episode.attempts.get();
        match self.fault {
            // The object shown is the same; the game it is shown of is not.
            Fault::InfoUsesUpAttempt => {
                episode.attempts.set(attempts.max(2));
                json!({ "digit": episode.digit })
            }
            Fault::InfoIsText => json!("a digit"),
            _ => json!({ "digit": episode.digit, "attempts": attempts, "late": episode.late }),
        }
    }

    fn prices(&self) -> Option<Prices> {
        let outcomes = vec![("right", 1.0), ("wrong", -0.25)];
        // Only where the fault is about prices must they hold.
        let declared = self.fault != Fault::RewardIsInfinite;
        declared.then_some(Prices { outcomes, truncation: -0.5, combination: Combination::Single })
    }

    fn expert(&self) -> Option<String> {
        let episode = self.episode.as_ref().filter(|episode| !episode.ended)?;
        match self.fault {
            Fault::WrongExpert => Some("x".into()),
            Fault::SilentExpert if 0 < episode.attempts.get() => None,
            Fault::SilentExpert => Some("x".into()),
            _ => Some(episode.digit.to_string()),
        }
    }
}
