//! The laws, put to the test one after the other; the simpler ones first, so that a fault is named by its own law.

use rl_core::random::RandomKey;
use serde_json::Value;

use super::probe::{Checked, Probe, shown};
use super::{CheckOptions, CheckReport, Law};
use crate::environment::{Environment, Message, Observation, Role, Step};
use crate::error::{Error, Result};
use crate::hostile;
use crate::wrappers::EpisodeState;

/// Answers that are wrong everywhere, or nearly.
const POOR_ANSWERS: [&str; 6] = ["no idea", "", "42", r#"{"formula": "1+1=24"}"#, r#"{"answer": 3}"#, "\u{202e}=0\0"];

/// An episode without its observation.
#[derive(Debug, PartialEq)]
struct Played {
    steps: Vec<Step>,
    /// After the last step.
    info: Value,
}

struct Checker<'a, E, B: FnMut() -> Result<E>> {
    build: B,
    options: &'a CheckOptions,
    report: CheckReport,
}

pub(super) fn check<E: Environment>(build: impl FnMut() -> Result<E>, options: &CheckOptions) -> Checked<CheckReport> {
    let mut checker = Checker { build, options, report: CheckReport::default() };
    checker.before_the_first_reset()?;
    let observations = checker.resets()?;
    checker.orders(&observations)?;
    let mut used = checker.probe()?;
    for (index, observation) in (0..options.num_episodes).zip(&observations) {
        checker.episode(index, observation, &mut used)?;
    }
    checker.hostile_text()?;
    Ok(checker.report)
}

impl<'a, E: Environment, B: FnMut() -> Result<E>> Checker<'a, E, B> {
    fn probe(&mut self) -> Checked<Probe<'a, E>> {
        Probe::new(&mut self.build, self.options)
    }

    fn before_the_first_reset(&mut self) -> Checked<()> {
        let mut probe = self.probe()?;
        let report = &mut self.report;
        let info = probe.info(report)?;
        probe.ensure(report, Law::ResetComesFirst, info.is_null(), || format!("info before a reset is {info}"))?;
        let result = probe.try_step(report, "no idea")?;
        let refused = matches!(result, Err(Error::NotReset { .. }));
        probe.ensure(report, Law::ResetComesFirst, refused, || format!("a step before a reset gave {result:?}"))
    }

    /// Observations of all episodes, each from an environment of its own.
    fn resets(&mut self) -> Checked<Vec<Observation>> {
        let (seed, num_episodes) = (self.options.seed, self.options.num_episodes);
        let mut observations = Vec::new();
        let mut seen = Vec::new();
        for index in 0..num_episodes {
            let (mut one, mut other) = (self.probe()?, self.probe()?);
            let report = &mut self.report;
            let observation = one.reset(report, seed, index)?;
            for (again, which) in [
                (one.reset(report, seed, index)?, "a second reset"),
                (other.reset(report, seed, index)?, "another environment"),
            ] {
                one.ensure(report, Law::ResetIsDeterministic, again == observation, || {
                    format!("{which} shows {again:?}, not {observation:?}")
                })?;
            }
            let fault = fault_of_conversation(&observation.messages);
            one.ensure(report, Law::WellFormedMessages, fault.is_none(), || {
                format!("{}: {observation:?}", fault.unwrap_or_default())
            })?;
            seen.push((observation.clone(), one.ask(report, "picture", |environment| environment.picture())?));
            observations.push(observation);
        }
        if 1 < num_episodes {
            let differ = seen.iter().any(|episode| *episode != seen[0]);
            let probe = self.probe()?;
            probe.ensure(&mut self.report, Law::EpisodesDiffer, differ, || {
                format!("episodes 0 to {} all show {:?}", num_episodes - 1, observations[0])
            })?;
        }
        Ok(observations)
    }

    fn orders(&mut self, observations: &[Observation]) -> Checked<()> {
        let mut probe = self.probe()?;
        let forward = (0..observations.len()).map(|index| (index, "after those before it"));
        let backward = (0..observations.len()).rev().map(|index| (index, "after those behind it"));
        for (index, order) in forward.chain(backward) {
            let found = probe.reset(&mut self.report, self.options.seed, index as u64)?;
            let due = &observations[index];
            probe.ensure(&mut self.report, Law::OrderIsFree, found == *due, || {
                format!("reset {order} it shows {found:?}, by itself {due:?}")
            })?;
        }
        Ok(())
    }

    /// One episode, again and again in different circumstances. `used` has played all episodes before.
    fn episode(&mut self, index: u64, observation: &Observation, used: &mut Probe<'a, E>) -> Checked<()> {
        let responses = self.responses(index)?;
        let mut probe = self.probe()?;
        let alone = self.play(&mut probe, index, &responses)?;
        self.after_the_end(&mut probe, &alone)?;

        let mut other = self.probe()?;
        let again = self.play(&mut other, index, &responses)?;
        self.compare(&other, Law::StepIsDeterministic, "in another environment", &again, &alone)?;
        let watched = self.play_watched(index, &responses)?;
        self.compare(&other, Law::LookingIsFree, "when info and the like are asked for", &watched, &alone)?;

        self.play(used, index, &responses)?;
        let replayed = self.play(used, index, &responses)?;
        self.compare(used, Law::ResetIsFresh, "after it was played to its end", &replayed, &alone)?;
        let shown = used.reset(&mut self.report, self.options.seed, index)?;
        used.ensure(&mut self.report, Law::ResetIsFresh, shown == *observation, || {
            format!("after it was played it shows {shown:?}, before {observation:?}")
        })?;
        self.restore(used, index, &responses, &alone)?;
        self.expert(index)
    }

    /// What is answered in episode `index`, found by playing it: an expert's answers, poor ones or both.
    fn responses(&mut self, index: u64) -> Checked<Vec<String>> {
        let mut probe = self.probe()?;
        let key = RandomKey::new(self.options.seed, "check/responses").at(index);
        let report = &mut self.report;
        probe.reset(report, self.options.seed, index)?;
        let mut responses = Vec::new();
        for turn in 0..self.options.max_steps as u64 {
            let poor = POOR_ANSWERS[key.below(2 * turn, POOR_ANSWERS.len() as u64) as usize];
            let wants_expert = match index % 3 {
                0 => true,
                1 => false,
                _ => key.below(2 * turn + 1, 2) == 0,
            };
            let expert =
                if wants_expert { probe.ask(report, "expert", |environment| environment.expert())? } else { None };
            let response = expert.unwrap_or_else(|| poor.to_string());
            let step = probe.step(report, &response)?;
            judge(&mut probe, report, &step, &response)?;
            responses.push(response);
            if step.ended() {
                return Ok(responses);
            }
        }
        probe.ensure(report, Law::EpisodesEnd, false, || {
            format!("{} responses did not end it", self.options.max_steps)
        })?;
        Ok(responses)
    }

    fn play(&mut self, probe: &mut Probe<'a, E>, index: u64, responses: &[String]) -> Checked<Played> {
        let report = &mut self.report;
        probe.reset(report, self.options.seed, index)?;
        let mut steps = Vec::new();
        for response in responses {
            // An episode that ends too early shows as fewer steps.
            match probe.try_step(report, response)? {
                Ok(step) => steps.push(step),
                Err(_) => break,
            }
        }
        Ok(Played { steps, info: probe.info(report)? })
    }

    /// As [`Checker::play`], asking for everything twice before and after each step.
    fn play_watched(&mut self, index: u64, responses: &[String]) -> Checked<Played> {
        let mut probe = self.probe()?;
        let report = &mut self.report;
        probe.reset(report, self.options.seed, index)?;
        let mut steps = Vec::new();
        for turn in 0..=responses.len() {
            let infos = [probe.info(report)?, probe.info(report)?];
            probe.ensure(report, Law::LookingIsFree, infos[0] == infos[1], || {
                format!("info is {} and then {}", infos[0], infos[1])
            })?;
            probe.ensure(report, Law::LookingIsFree, infos[0].is_object(), || format!("info is {}", infos[0]))?;
            for _ in 0..2 {
                probe.ask(report, "prices", |environment| environment.prices())?;
                probe.ask(report, "task_kind", |environment| environment.task_kind())?;
                probe.ask(report, "expert", |environment| environment.expert())?;
            }
            let Some(response) = responses.get(turn) else { break };
            match probe.try_step(report, response)? {
                Ok(step) => steps.push(step),
                Err(_) => break,
            }
        }
        Ok(Played { steps, info: probe.info(report)? })
    }

    fn compare(&mut self, probe: &Probe<'a, E>, law: Law, when: &str, found: &Played, due: &Played) -> Checked<()> {
        let turns = found.steps.len().max(due.steps.len());
        let different = (0..turns).find(|&turn| found.steps.get(turn) != due.steps.get(turn));
        probe.ensure(&mut self.report, law, different.is_none() && found.info == due.info, || match different {
            Some(turn) => {
                let step =
                    |played: &Played| played.steps.get(turn).map_or("no step".into(), |step| format!("{step:?}"));
                format!("step {turn} {when} is {}, otherwise {}", step(found), step(due))
            }
            None => format!("the last info {when} is {}, otherwise {}", found.info, due.info),
        })
    }

    fn after_the_end(&mut self, probe: &mut Probe<'a, E>, played: &Played) -> Checked<()> {
        for response in ["no idea", "42"] {
            let result = probe.try_step(&mut self.report, response)?;
            let refused = matches!(result, Err(Error::EpisodeEnded { .. }));
            probe.ensure(&mut self.report, Law::EndIsFinal, refused, || {
                format!("a step after the end gave {result:?}")
            })?;
        }
        let info = probe.info(&mut self.report)?;
        probe.ensure(&mut self.report, Law::EndIsFinal, info == played.info, || {
            format!("a step after the end changed the info from {} to {info}", played.info)
        })
    }

    /// Writes the state after each of some numbers of responses, restores it over another episode and goes on.
    fn restore(&mut self, used: &mut Probe<'a, E>, index: u64, responses: &[String], due: &Played) -> Checked<()> {
        let seed = self.options.seed;
        for done in [0, responses.len() / 2, responses.len() - 1] {
            let report = &mut self.report;
            used.reset(report, seed, index + 1)?;
            used.step(report, POOR_ANSWERS[0])?;
            let state = EpisodeState { seed, index, responses: responses[..done].to_vec() };
            let read = serde_json::to_string(&state).and_then(|text| serde_json::from_str::<EpisodeState>(&text));
            let restored = match &read {
                Ok(state) => used.ask(report, "restore", |environment| state.restore(environment))?.ok(),
                Err(_) => None,
            };
            let mut steps = restored.map(|(_, steps)| steps).unwrap_or_default();
            for response in &responses[done..] {
                match used.try_step(report, response)? {
                    Ok(step) => steps.push(step),
                    Err(_) => break,
                }
            }
            let found = Played { steps, info: used.info(report)? };
            let when = format!("restored after {done} of {} responses", responses.len());
            self.compare(used, Law::StateRoundTrips, &when, &found, due)?;
        }
        Ok(())
    }

    fn expert(&mut self, index: u64) -> Checked<()> {
        let mut probe = self.probe()?;
        let report = &mut self.report;
        probe.reset(report, self.options.seed, index)?;
        for turn in 0..self.options.max_steps {
            let Some(response) = probe.ask(report, "expert", |environment| environment.expert())? else {
                return probe.ensure(report, Law::ExpertSolves, turn == 0, || {
                    format!("the expert fell silent after {turn} responses")
                });
            };
            let step = probe.step(report, &response)?;
            if step.ended() {
                probe.ensure(report, Law::ExpertSolves, step.success, || {
                    format!("the expert's {} led to {step:?}", shown(&response))
                })?;
                let after = probe.ask(report, "expert", |environment| environment.expert())?;
                return probe.ensure(report, Law::ExpertSolves, after.is_none(), || {
                    format!("after the end the expert says {after:?}")
                });
            }
        }
        probe.ensure(report, Law::ExpertSolves, false, || format!("not within {} responses", self.options.max_steps))
    }

    fn hostile_text(&mut self) -> Checked<()> {
        let CheckOptions { seed, num_hostile, .. } = *self.options;
        let mut probe = self.probe()?;
        let report = &mut self.report;
        let mut episode = 0;
        probe.reset(report, seed, episode)?;
        let key = RandomKey::new(seed, "check/longest");
        let num_kinds = hostile::Kind::ALL.len() as u64;
        for number in 0..num_hostile + num_kinds {
            let example = probe.ask(report, "expert", |environment| environment.expert())?.unwrap_or_default();
            let text = match hostile::Kind::ALL.get(number as usize) {
                Some(&kind) if 0 < num_hostile => hostile::write(kind, key.at(number), hostile::LONGEST, &example),
                _ => hostile::text(seed, number, &example),
            };
            let step = probe.step(report, &text)?;
            judge(&mut probe, report, &step, &text)?;
            if step.ended() {
                episode += 1;
                probe.reset(report, seed, episode)?;
            }
        }
        Ok(())
    }
}

/// The laws that a single step can break.
fn judge<E: Environment>(probe: &mut Probe<E>, report: &mut CheckReport, step: &Step, response: &str) -> Checked<()> {
    let fault = if step.terminated && step.truncated {
        Some("it is terminated and truncated at once")
    } else if step.ended() && step.feedback.is_some() {
        Some("the episode has ended and there is feedback")
    } else if !step.ended() && step.feedback.is_none() {
        Some("the episode goes on without feedback")
    } else if step.success && !step.terminated {
        Some("a success does not terminate")
    } else {
        None
    };
    let what = || format!("after {}: {step:?}", shown(response));
    probe.ensure(report, Law::EndsAreExclusive, fault.is_none(), || {
        format!("{} {}", fault.unwrap_or_default(), what())
    })?;
    if let Some(Message { role, content }) = &step.feedback {
        let good = *role == Role::User && !content.is_empty();
        probe.ensure(report, Law::WellFormedMessages, good, || {
            format!("feedback is {role:?} saying {}", shown(content))
        })?;
    }
    probe.ensure(report, Law::RewardIsFinite, step.reward.is_finite(), || format!("the reward is {}", step.reward))?;
    if let Some(prices) = probe.ask(report, "prices", |environment| environment.prices())? {
        let priced = prices.explain(step.outcome, step.truncated, step.reward);
        probe.ensure(report, Law::RewardIsPriced, priced, || format!("{prices:?} do not give {}", what()))?;
    }
    Ok(())
}

fn fault_of_conversation(messages: &[Message]) -> Option<&'static str> {
    let turns = match messages.split_first() {
        None => return Some("there are no messages"),
        Some((first, rest)) if first.role == Role::System => rest,
        Some(_) => messages,
    };
    if messages.iter().any(|message| message.content.is_empty()) {
        return Some("a message is empty");
    }
    let roles = turns.iter().map(|message| message.role);
    if !roles.zip([Role::User, Role::Assistant].into_iter().cycle()).all(|(found, due)| found == due) {
        return Some("after a system message, user and assistant must take turns, the user first");
    }
    if turns.len().is_multiple_of(2) {
        return Some("the last turn is not the user's");
    }
    None
}
