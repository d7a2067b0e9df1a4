//! The checker passes what keeps the laws and names the law that is broken.

use std::collections::BTreeMap;
use std::time::Duration;

use rl_envs::check::{CheckOptions, Law, Violation};
use rl_envs::general_points::{GeneralPointsConfig, RewardConfig, RewardMode};
use rl_envs::igsm::{self, Extraction, IgsmConfig, ProblemConfig};
use rl_envs::virl::{EpisodeKind, TemplateKind, VirlConfig};
use rl_envs::wrappers::{AttemptLimit, Recorder, RewardTable};
use rl_envs::{EnvironmentConfig, Preset, check_environment};

use crate::broken::{Fault, Game};
use crate::slow;

#[test]
fn every_preset_keeps_the_laws() {
    let full = CheckOptions::default();
    let options = if slow() { full } else { CheckOptions { num_episodes: 6, num_hostile: 60, ..full } };
    for &preset in Preset::ALL {
        let config = preset.config();
        let started = std::time::Instant::now();
        let report = check_environment(|| config.build(), &options).unwrap();
        let untested: Vec<Law> = [Law::ExpertSolves, Law::RewardIsPriced, Law::StateRoundTrips, Law::EpisodesDiffer]
            .into_iter()
            .filter(|law| !report.tested.contains_key(law))
            .collect();
        assert!(untested.is_empty(), "{preset}: {untested:?}");
        let (took, slowest) = (started.elapsed(), report.slowest_step);
        println!("{preset}: {took:.1?}; slowest step {slowest:.1?} for {} bytes", report.slowest_length);
    }
}

#[test]
fn every_variant_of_the_card_game_keeps_the_laws() {
    let options = CheckOptions { num_episodes: 4, num_hostile: 20, ..CheckOptions::default() };
    let base = GeneralPointsConfig::default;
    let mode = |mode| RewardConfig { mode, prices: None };
    for config in [
        GeneralPointsConfig { reward: mode(RewardMode::Exclusive), ..base() },
        GeneralPointsConfig { reward: mode(RewardMode::Coarse), ..base() },
        GeneralPointsConfig { legacy_extra_step: true, ..base() },
        GeneralPointsConfig { legacy_float: true, legacy_unclosed_bracket: true, ..base() },
        GeneralPointsConfig { num_cards: 5, max_attempts: 1, ..base() },
        GeneralPointsConfig { num_cards: 3, target: -2, ..base() },
    ] {
        let config = EnvironmentConfig::GeneralPoints(config);
        check_environment(|| config.build(), &options).unwrap();
    }
}

#[test]
fn every_variant_of_the_walk_keeps_the_laws() {
    let options = CheckOptions { num_episodes: 4, num_hostile: 20, ..CheckOptions::default() };
    let base = VirlConfig::default;
    for config in [
        VirlConfig { episode: EpisodeKind::Point, template: TemplateKind::Compact, ..base() },
        VirlConfig { legacy_extra_step: true, legacy_landmark_test: true, ..base() },
        VirlConfig { legacy_extra_step: true, max_steps: Some(1000), max_attempts: 1, ..base() },
        VirlConfig { legacy_nowrap: true, legacy_short_leg: true, legacy_double_waypoint: true, ..base() },
        VirlConfig { relocation: false, drop_rate: 0.0, ..base() },
    ] {
        let config = EnvironmentConfig::Virl(config);
        check_environment(|| config.build(), &options).unwrap();
    }
}

#[test]
fn a_walk_cut_short_pays_the_attempt_limit() {
    // The expert cannot finish, so the walk is played by hand.
    let config = VirlConfig { max_steps: Some(1), ..VirlConfig::default() };
    let mut walk = EnvironmentConfig::Virl(config).build().unwrap();
    walk.reset(0, 0).unwrap();
    let right = walk.expert().unwrap();
    let step = walk.step(&right).unwrap();
    assert!(step.truncated && step.outcome == "correct" && step.reward == 1.0 - 1.0, "{step:?}");
    assert!(walk.prices().unwrap().explain(step.outcome, step.truncated, step.reward));
}

#[test]
fn every_variant_of_the_word_problems_keeps_the_laws() {
    let options = CheckOptions { num_episodes: 6, num_hostile: 20, ..CheckOptions::default() };
    let reward = igsm::RewardTable { format: 0.05, ..igsm::RewardTable::BINARY };
    for (problems, extraction, reward) in [
        (ProblemConfig::range(1, 30), Extraction::Strict, reward),
        (ProblemConfig::original_hard(), Extraction::Robust, reward),
        (ProblemConfig::exactly(20), Extraction::Robust, igsm::RewardTable { no_answer: -1.0, ..reward }),
    ] {
        let config = EnvironmentConfig::Igsm(IgsmConfig { problems, extraction, reward });
        check_environment(|| config.build(), &options).unwrap();
    }
}

#[test]
fn wrapped_environments_keep_the_laws() {
    let prices = BTreeMap::from([("right".to_string(), 2.0), ("wrong".to_string(), 0.0)]);
    let game = || Game::new(Fault::None);
    let options = CheckOptions::default();
    check_environment(|| Ok(game()), &options).unwrap();
    check_environment(|| AttemptLimit::new(game(), 2), &options).unwrap();
    check_environment(|| Ok(Recorder::new(game())), &options).unwrap();
    check_environment(|| RewardTable::new(AttemptLimit::new(game(), 2)?, &prices, -1.0), &options).unwrap();
}

fn violation(fault: Fault) -> Violation {
    let options = CheckOptions {
        max_steps: 50,
        max_step_time: if fault == Fault::SlowOnLongText { Duration::from_millis(250) } else { Duration::from_secs(5) },
        ..CheckOptions::default()
    };
    match check_environment(|| Ok(Game::new(fault)), &options) {
        Err(violation) => violation,
        Ok(report) => panic!("{fault:?} was not found: {report:?}"),
    }
}

#[test]
fn every_fault_is_named_by_its_law() {
    for (fault, law) in [
        (Fault::StepsBeforeReset, Law::ResetComesFirst),
        (Fault::InfoBeforeReset, Law::ResetComesFirst),
        (Fault::PanicsOnNul, Law::NoPanic),
        (Fault::RefusesEmptyText, Law::JudgesAnyText),
        (Fault::ResetCountsUp, Law::ResetIsDeterministic),
        (Fault::RemembersLargestIndex, Law::OrderIsFree),
        (Fault::IgnoresIndex, Law::EpisodesDiffer),
        (Fault::EmptyObservation, Law::WellFormedMessages),
        (Fault::EndsWithAssistant, Law::WellFormedMessages),
        (Fault::FeedbackFromAssistant, Law::WellFormedMessages),
        (Fault::FeedbackDependsOnInstances, Law::StepIsDeterministic),
        (Fault::EndsBothWays, Law::EndsAreExclusive),
        (Fault::FeedbackAfterEnd, Law::EndsAreExclusive),
        (Fault::NoFeedback, Law::EndsAreExclusive),
        (Fault::SuccessGoesOn, Law::EndsAreExclusive),
        (Fault::NeverEnds, Law::EpisodesEnd),
        (Fault::StepsAfterEnd, Law::EndIsFinal),
        (Fault::EndedStepChangesInfo, Law::EndIsFinal),
        (Fault::KeepsAttempts, Law::ResetIsFresh),
        (Fault::KeepsUnfinishedEpisode, Law::StateRoundTrips),
        (Fault::InfoUsesUpAttempt, Law::LookingIsFree),
        (Fault::InfoIsText, Law::LookingIsFree),
        (Fault::RewardIsInfinite, Law::RewardIsFinite),
        (Fault::RewardOffTheTable, Law::RewardIsPriced),
        (Fault::OutcomeOffTheTable, Law::RewardIsPriced),
        (Fault::WrongExpert, Law::ExpertSolves),
        (Fault::SilentExpert, Law::ExpertSolves),
        (Fault::SlowOnLongText, Law::TimeIsBounded),
    ] {
        let found = violation(fault);
        assert_eq!(found.law, law, "{fault:?}: {found}");
        assert!(
            found.to_string().starts_with(&format!("guess breaks the law {law} in episode (seed 0, index ")),
            "{found}"
        );
    }
}
