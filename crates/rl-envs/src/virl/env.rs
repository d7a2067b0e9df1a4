//! The walk as an environment: stand at a point, grade, feed back or go on, stop after the last attempt.

use std::sync::Arc;

use rl_core::random::RandomKey;
use serde_json::{Value, json};

use super::answer::{Answer, ParseMode, render_answer};
use super::config::{EpisodeKind, RouteOrder, VirlConfig};
use super::direction::Action;
use super::outcome::Outcome;
use super::prompt::{Prompt, template_sha256};
use super::rail::{Rail, RailPoint};
use super::route_set::RouteSet;
use super::verifier::{Verdict, Verifier};
use crate::environment::{Environment, Message, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::price::Prices;

const NAME: &str = "virl";

/// Draws of an episode's key; those of the rail have a key of their own below it.
mod draw {
    pub const ROUTE: u64 = 0;
    pub const POINT: u64 = 1;
    pub const RAIL: u64 = 2;
}

/// V-IRL, language variant.
#[derive(Debug, Clone)]
pub struct Virl {
    config: VirlConfig,
    routes: Arc<RouteSet>,
    prompt: Prompt,
    verifier: Verifier,
    episode: Option<Episode>,
    // What follows belongs to the episode and stays here so that its buffers are reused.
    rail: Rail,
    /// The prompt before the history.
    head: String,
    /// The history before the current point.
    past: String,
}

#[derive(Debug, Clone)]
struct Episode {
    route: u64,
    /// Position on the rail.
    at: usize,
    attempts_left: u32,
    num_steps: u32,
    ended: bool,
    /// Whether no point was given up; the walk as a whole succeeds only when it reaches its end so.
    is_success: bool,
    /// Whether the last answer led to a new point.
    has_advanced: bool,
    last: Option<(Verdict, Option<ParseMode>)>,
}

impl Virl {
    /// The task of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range; [`Error::RouteFile`] when route files cannot be read.
    pub fn new(config: VirlConfig) -> Result<Self> {
        config.validate()?;
        let routes = RouteSet::shared(&config)?;
        Ok(Virl::assemble(config, routes))
    }

    /// The task of `config` on `routes`, whatever its `routes` key says.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range.
    pub fn with_routes(config: VirlConfig, routes: Arc<RouteSet>) -> Result<Self> {
        config.validate()?;
        ensure(0 < routes.num_routes(), "routes", 0, "give at least one route")?;
        Ok(Virl::assemble(config, routes))
    }

    fn assemble(config: VirlConfig, routes: Arc<RouteSet>) -> Self {
        Virl {
            prompt: Prompt::new(config.template, config.action_space()),
            verifier: Verifier::new(&config),
            config,
            routes,
            episode: None,
            rail: Rail::default(),
            head: String::new(),
            past: String::new(),
        }
    }

    /// The config the task was made from.
    pub fn config(&self) -> &VirlConfig {
        &self.config
    }

    /// Where routes come from.
    pub fn routes(&self) -> &RouteSet {
        &self.routes
    }

    /// Hash of the prompt's wording, for the manifest of a run.
    pub fn template_sha256(&self) -> String {
        template_sha256(self.config.template)
    }

    /// The rail of this episode; `None` before the first reset.
    pub fn rail(&self) -> Option<&Rail> {
        self.episode.as_ref().map(|_| &self.rail)
    }

    /// Number of the route and position on its rail, both from 0; `None` before the first reset.
    pub fn position(&self) -> Option<(u64, usize)> {
        self.episode.as_ref().map(|episode| (episode.route, episode.at))
    }

    /// The right action here; `None` before the first reset.
    pub fn expected_action(&self) -> Option<Action> {
        Some(self.verifier.expected(self.point()?.1))
    }

    /// A right answer here, in the layout of the template; `None` before the first reset and after the episode's end.
    pub fn expert_answer(&self) -> Option<String> {
        let episode = self.episode.as_ref().filter(|episode| !episode.ended);
        episode.and_then(|_| Some(self.answer_with(self.expected_action()?)))
    }

    /// The answer that observes and reads rightly and then does `action`; empty before the first reset.
    pub(super) fn answer_with(&self, action: Action) -> String {
        let Some((_, point)) = self.point() else { return String::new() };
        let instruction = self.rail.instruction(point.instruction_idx);
        render_answer(self.config.template, &self.rail.observation(point), instruction, action.label())
    }

    /// The prompt here, the history included; `None` before the first reset.
    pub fn prompt(&self) -> Option<String> {
        let (number, point) = self.point()?;
        Some(self.prompt.assemble(&self.head, &self.past, &self.rail, number, point))
    }

    /// The feedback turn for `verdict`.
    pub(super) fn feedback(&self, verdict: &Verdict) -> String {
        self.prompt.feedback(verdict.message())
    }

    fn point(&self) -> Option<(usize, &RailPoint)> {
        let at = self.episode.as_ref()?.at;
        Some((at, self.rail.points().get(at)?))
    }
}

impl Environment for Virl {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let Self { config, routes, prompt, rail, head, past, .. } = self;
        // No episode stays behind if the route cannot be made.
        self.episode = None;
        let key = RandomKey::new(seed, "virl/episode").at(index);
        let num_routes = routes.num_routes();
        let route = match config.order {
            RouteOrder::Random => key.below(draw::ROUTE, num_routes),
            RouteOrder::Sequential => index % num_routes,
        };
        let panoramas = routes.panoramas();
        routes.with_route(route, |route| rail.lay(route, config, panoramas, key.at(draw::RAIL)))?;
        let num_points = rail.points().len() as u64;
        let at = match config.episode {
            EpisodeKind::Route => 0,
            EpisodeKind::Point => key.below(draw::POINT, num_points) as usize,
        };
        head.clear();
        prompt.push_head(head, rail);
        past.clear();
        for (number, point) in rail.points().iter().enumerate().take(at) {
            prompt.push_past(past, rail, number, point);
        }
        self.episode = Some(Episode {
            route,
            at,
            attempts_left: config.max_attempts,
            num_steps: 0,
            ended: false,
            is_success: true,
            has_advanced: false,
            last: None,
        });
        Ok(Observation { messages: vec![Message::user(self.prompt().unwrap_or_default())] })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let Self { config, prompt, verifier, episode, rail, head, past, .. } = self;
        let episode = episode.as_mut().ok_or(Error::NotReset { environment: NAME })?;
        if episode.ended {
            return Err(Error::EpisodeEnded { environment: NAME });
        }
        let point = *rail.points().get(episode.at).ok_or(Error::NotReset { environment: NAME })?;
        episode.has_advanced = false;
        if episode.attempts_left == 0 {
            let verdict = verifier.attempt_limit();
            episode.ended = true;
            episode.is_success = false;
            episode.last = Some((verdict, None));
            return Ok(Step {
                outcome: verdict.outcome.label(),
                reward: verdict.reward,
                success: false,
                feedback: None,
                terminated: false,
                truncated: true,
            });
        }
        episode.attempts_left -= 1;
        episode.num_steps += 1;

        let answer = Answer::parse(response);
        let verdict = verifier.grade(&answer, rail, &point);
        episode.last = Some((verdict, Some(answer.parse_mode())));
        let is_right = verdict.outcome == Outcome::Correct;
        let terminated = is_right && (point.is_stop() || config.episode == EpisodeKind::Point);
        let is_given_up = !is_right && episode.attempts_left == 0 && !config.legacy_extra_step;
        let is_out_of_steps = config.max_steps.is_some_and(|limit| limit <= episode.num_steps);
        let truncated = is_given_up || (is_out_of_steps && !terminated);
        episode.is_success &= !truncated;
        episode.ended = terminated || truncated;

        let mut feedback = None;
        if !episode.ended && is_right {
            prompt.push_past(past, rail, episode.at, &point);
            episode.at += 1;
            episode.attempts_left = config.max_attempts;
            episode.has_advanced = true;
            let next = rail.points().get(episode.at);
            feedback = next.map(|next| Message::user(prompt.assemble(head, past, rail, episode.at, next)));
        } else if !episode.ended {
            feedback = Some(Message::user(prompt.feedback(verdict.message())));
        }
        let limit = if truncated { verifier.attempt_limit().reward } else { 0.0 };
        Ok(Step {
            outcome: verdict.outcome.label(),
            reward: verdict.reward + limit,
            success: terminated,
            feedback,
            terminated,
            truncated,
        })
    }

    /// `route` (its number), `position` and `num_points` of the rail, `geocode`, `heading`, `global_instruction`,
    /// `current_instruction`, `instruction_idx`, `gt_action`, `current_obs`, `obs_act_seq`, `remaining_attempts`,
    /// `is_success` (no point given up so far); then, null until a response was graded, `parse_mode`, `outcome`, `verify_info`
    /// of the last one. The point is the one to act at next.
    fn info(&self) -> Value {
        let (Some(episode), Some((number, point))) = (&self.episode, self.point()) else { return Value::Null };
        json!({
            "route": episode.route,
            "position": number,
            "num_points": self.rail.points().len(),
            "geocode": point.geocode,
            "heading": point.heading,
            "global_instruction": self.rail.str_instruction(),
            "current_instruction": self.rail.instruction(point.instruction_idx),
            "instruction_idx": point.instruction_idx,
            "gt_action": self.verifier.expected(point).label(),
            "current_obs": self.rail.observation(point),
            "obs_act_seq": self.prompt.history(&self.past, &self.rail, number, point),
            "remaining_attempts": episode.attempts_left,
            "is_success": episode.is_success,
            "parse_mode": episode.last.and_then(|(_, parse_mode)| parse_mode),
            "outcome": episode.last.map(|(verdict, _)| verdict.outcome),
            "verify_info": episode.last.map(|(verdict, _)| verdict.message()),
        })
    }

    /// The kind of action that is right, where an episode is one point: `forward`, `turn` or `stop`.
    fn task_kind(&self) -> Option<&'static str> {
        (self.config.episode == EpisodeKind::Point).then(|| self.expected_action().map(Action::kind)).flatten()
    }

    fn prices(&self) -> Option<Prices> {
        Some(self.verifier.prices())
    }

    fn expert(&self) -> Option<String> {
        self.expert_answer()
    }

    fn starts_over(&self) -> bool {
        self.episode.as_ref().is_some_and(|episode| episode.has_advanced && !episode.ended)
    }
}
