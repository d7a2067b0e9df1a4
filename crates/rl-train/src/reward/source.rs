//! One built source: how a single score is computed, with its retries, within its deadline.
//!
//! Not here: who waits for whom (`pool`) and what the scores add up to (`scorer`).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::command::CommandReward;
use super::config::{OnFailure, RetryConfig};
use super::http::HttpReward;
use super::request::{Reward, RewardRequest};
use super::rule::Rule;
use super::score::{Score, reason};

/// How long after its deadline a score of a source that keeps the time itself is waited for: killing a process or closing
/// a connection takes a moment, and a thread that comes back needs no replacement.
const GRACE: Duration = Duration::from_millis(500);

/// A source as the scorer holds it.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(super) on_failure: OnFailure,
    pub(super) scoring: Scoring,
}

/// Who computes the scores.
pub(super) enum Scoring {
    /// The caller of the scorer.
    External,
    /// The scorer itself, at once.
    Rule(Rule),
    /// A worker.
    Work(Arc<Work>),
}

/// What a worker needs to compute a score.
pub(super) struct Work {
    pub(super) name: String,
    pub(super) deadline: Duration,
    pub(super) retry: RetryConfig,
    pub(super) by: By,
}

/// Sources that take time.
pub(super) enum By {
    Command(CommandReward),
    Http(HttpReward),
    Custom(Arc<dyn Reward>),
}

/// The time one score has: its own deadline, and the step's where there is one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    own: Instant,
    step_end: Option<Instant>,
}

impl Clock {
    pub(super) fn start(deadline: Duration, step_end: Option<Instant>) -> Self {
        Clock { own: Instant::now() + deadline, step_end }
    }

    /// When the score must be there.
    pub(super) fn until(&self) -> Instant {
        self.until_after(Duration::ZERO)
    }

    /// [`Self::until`] if the clock stood still for `hold`.
    pub(super) fn until_after(&self, hold: Duration) -> Instant {
        let own = self.own.checked_add(hold).unwrap_or(self.own);
        self.step_end.map_or(own, |end| end.min(own))
    }

    pub(super) fn step_is_over(&self) -> bool {
        self.step_end.is_some_and(|end| end <= Instant::now())
    }

    /// Does `work`, which gets the step's end, without the score's own time running.
    pub(super) fn stand_still<T>(&mut self, work: impl FnOnce(Option<Instant>) -> T) -> T {
        let begun = Instant::now();
        let result = work(self.step_end);
        self.own += begun.elapsed();
        result
    }
}

/// How one attempt ended.
pub(super) enum Attempt {
    /// For good.
    Done(Score),
    /// With a failure that another attempt may not meet; the source may ask for a pause before it.
    MayPass { reason: String, pause: Option<Duration> },
}

impl Attempt {
    pub(super) fn may_pass(reason: String) -> Self {
        Attempt::MayPass { reason, pause: None }
    }
}

impl Work {
    /// The score of one sample and the number of retries it took. Ends with the clock unless user code does not.
    pub(super) fn score(&self, request: &RewardRequest, mut clock: Clock) -> (Score, u64) {
        let mut backoff = Duration::from_secs_f64(self.retry.backoff_seconds);
        let mut retries = 0;
        loop {
            let (reason, pause) = match self.attempt(request, &mut clock) {
                // Late is late, also when nobody had looked at the clock yet.
                Attempt::Done(_) if clock.until() < Instant::now() => return (Score::TimedOut, retries),
                Attempt::Done(score) => return (score, retries),
                Attempt::MayPass { reason, pause } => (reason, backoff.max(pause.unwrap_or_default())),
            };
            let left = clock.until().saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (Score::TimedOut, retries);
            }
            if u64::from(self.retry.max_retries) <= retries || left <= pause {
                return (Score::Invalid(reason), retries);
            }
            thread::sleep(pause);
            backoff = backoff.saturating_mul(2);
            retries += 1;
        }
    }

    /// When a worker that does not answer is given up.
    pub(super) fn give_up_at(&self, clock: &Clock) -> Instant {
        match &self.by {
            By::Command(command) => {
                let hold = command.longest_hold().saturating_mul(self.retry.max_retries.saturating_add(1));
                clock.until_after(hold) + GRACE
            }
            By::Http(_) => clock.until() + GRACE,
            By::Custom(_) => clock.until(),
        }
    }

    /// Ends what the source has running.
    pub(super) fn close(&self) {
        if let By::Command(command) = &self.by {
            command.close();
        }
    }

    fn attempt(&self, request: &RewardRequest, clock: &mut Clock) -> Attempt {
        match &self.by {
            By::Command(command) => command.attempt(request, clock),
            By::Http(http) => http.attempt(request, clock.until()),
            By::Custom(reward) => match catch_unwind(AssertUnwindSafe(|| reward.score(request))) {
                Ok(Ok(value)) => Attempt::Done(Score::from_value(value)),
                Ok(Err(error)) => Attempt::may_pass(reason("failed", &error)),
                Err(payload) => Attempt::Done(Score::invalid("panicked", panic_text(payload.as_ref()))),
            },
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
