//! Wrappers, transcripts and many episodes at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rl_envs::general_points::{GeneralPoints, GeneralPointsConfig};
use rl_envs::vector::play_many;
use rl_envs::wrappers::{AttemptLimit, Clock, EpisodeState, Recorder, RewardTable, TimeLimit};
use rl_envs::{Environment, Error, Role};

fn game() -> GeneralPoints {
    GeneralPoints::new(GeneralPointsConfig::default()).unwrap()
}

#[test]
fn the_attempt_limit_stops_and_pays_as_the_game_does() {
    let mut limited = AttemptLimit::new(game(), 2).unwrap();
    limited.reset(1, 0).unwrap();
    let first = limited.step("no idea").unwrap();
    assert_eq!((first.reward, first.ended()), (-3.0, false));
    let second = limited.step("no idea").unwrap();
    assert_eq!((second.reward, second.terminated, second.truncated, second.feedback), (-4.0, false, true, None));
    assert_eq!(limited.step("no idea"), Err(Error::EpisodeEnded { environment: "general_points" }));
    assert_eq!(limited.expert(), None);
    limited.reset(1, 0).unwrap();
    let answer = limited.expert().unwrap();
    limited.step("no idea").unwrap();
    assert!(limited.step(&answer).unwrap().terminated, "a success at the limit is a success");
    assert!(matches!(AttemptLimit::new(game(), 0), Err(Error::Config { key: "max_attempts", .. })));
}

/// A clock that is set by hand, in seconds.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[test]
fn the_time_limit_stops_after_the_response_that_came_late() {
    let clock = Hand::default();
    let mut timed = TimeLimit::with_clock(game(), Duration::from_secs(10), clock.clone());
    clock.0.store(100, Ordering::Relaxed);
    timed.reset(1, 0).unwrap();
    clock.0.store(110, Ordering::Relaxed);
    assert!(!timed.step("no idea").unwrap().ended());
    clock.0.store(111, Ordering::Relaxed);
    let late = timed.step("no idea").unwrap();
    assert_eq!((late.truncated, late.reward, late.feedback), (true, -4.0, None));
    assert!(matches!(timed.step("no idea"), Err(Error::EpisodeEnded { .. })));
    timed.reset(1, 0).unwrap();
    assert!(!timed.step("no idea").unwrap().ended());

    let mut real = TimeLimit::new(game(), Duration::from_secs(3600));
    real.reset(1, 0).unwrap();
    assert!(!real.step("no idea").unwrap().ended());
}

#[test]
fn a_reward_table_prices_every_outcome_anew() {
    let labels = game().prices().unwrap().outcomes;
    let mut table: BTreeMap<String, f64> = labels.iter().map(|(label, _)| (label.to_string(), 0.0)).collect();
    table.insert("correct".into(), 1.0);
    table.insert("illegal_formula".into(), -0.5);
    let mut priced = RewardTable::new(game(), &table, -0.125).unwrap();
    priced.reset(1, 0).unwrap();
    assert_eq!(priced.step(r#"{"formula": "4**3+11"}"#).unwrap().reward, -0.5);
    let answer = priced.expert().unwrap();
    for _ in 0..3 {
        assert_eq!(priced.step("no idea").unwrap().reward, -0.5);
    }
    assert_eq!(priced.step("no idea").unwrap().reward, -0.625);
    priced.reset(1, 0).unwrap();
    assert_eq!(priced.step(&answer).unwrap().reward, 1.0);

    let refused = |table: &BTreeMap<String, f64>| match RewardTable::new(game(), table, 0.0) {
        Err(Error::Config { value, .. }) => value,
        Ok(_) => panic!("accepted {table:?}"),
        Err(other) => panic!("{other}"),
    };
    let mut less = table.clone();
    less.remove("partial");
    assert_eq!(refused(&less), "partial");
    table.insert("corect".into(), 1.0);
    assert_eq!(refused(&table), "corect");
    table.remove("corect");
    table.insert("partial".into(), f64::NAN);
    assert_eq!(refused(&table), "partial: NaN");
}

#[test]
fn a_transcript_is_the_conversation_and_its_state_goes_on_elsewhere() {
    let mut recorder = Recorder::new(game());
    assert!(recorder.state().is_none() && recorder.transcript().is_none());
    recorder.reset(42, 3).unwrap();
    recorder.step("no idea").unwrap();
    recorder.step(r#"{"formula": "1+1=24"}"#).unwrap();
    let text = serde_json::to_string(recorder.state().unwrap()).unwrap();
    assert_eq!(text, r#"{"seed":42,"index":3,"responses":["no idea","{\"formula\": \"1+1=24\"}"]}"#);

    let state: EpisodeState = serde_json::from_str(&text).unwrap();
    let mut resumed = Recorder::resume(game(), &state).unwrap();
    assert_eq!(resumed.transcript(), recorder.transcript());
    assert_eq!(resumed.info(), recorder.info());
    let answer = recorder.expert().unwrap();
    assert_eq!(resumed.step(&answer).unwrap(), recorder.step(&answer).unwrap());
    assert_eq!(resumed.transcript(), recorder.transcript());

    let transcript = recorder.take().unwrap();
    let roles: Vec<Role> = transcript.messages.iter().map(|message| message.role).collect();
    let (user, assistant) = (Role::User, Role::Assistant);
    assert_eq!(roles, [user, assistant, user, assistant, user, assistant]);
    assert!(transcript.is_success());
    assert_eq!(transcript.total_reward(), -3.0 - 4.0 + 5.0);

    let too_long = EpisodeState { responses: vec!["no idea".into(); 6], ..state };
    assert!(matches!(Recorder::resume(game(), &too_long), Err(Error::EpisodeEnded { .. })));
}

#[test]
fn many_episodes_come_in_order_whatever_the_threads() {
    let indices: Vec<u64> = (0..200).map(|i| (i * 37) % 200).collect();
    // Every third episode is answered well at the second attempt, every other third never.
    let policy = |recorder: &Recorder<GeneralPoints>| {
        let transcript = recorder.transcript()?;
        match (transcript.state.index % 3, transcript.steps.len()) {
            (0, 1) => recorder.expert(),
            (2, 2) => None,
            _ => Some("no idea".to_string()),
        }
    };
    let play = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| play_many(|| GeneralPoints::new(GeneralPointsConfig::default()), 5, &indices, policy)).unwrap()
    };
    let one = play(1);
    for (transcript, &index) in one.iter().zip(&indices) {
        assert_eq!(transcript.state.index, index);
        assert_eq!(
            (transcript.is_success(), transcript.steps.len()),
            [(true, 2), (false, 5), (false, 2)][(index % 3) as usize]
        );
    }
    assert_eq!(play(3), one);
    let failed = play_many(|| Err::<GeneralPoints, _>(Error::CardValues { values: vec![] }), 5, &indices, policy);
    assert_eq!(failed, Err(Error::CardValues { values: vec![] }));
}
