//! The checker passes what keeps the laws and names the law that is broken.

use std::collections::BTreeMap;
use std::time::Duration;

use rl_envs::check::{CheckOptions, Law, Violation};
use rl_envs::general_points::{GeneralPointsConfig, RewardConfig, RewardMode};
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
