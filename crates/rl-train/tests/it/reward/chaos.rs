//! Rust rewards that loop, come late, panic and return no numbers: the call ends in time and counts exactly.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rl_train::Error;
use rl_train::reward::{
    CustomRewards, ExternalScores, OnFailure, RetryConfig, Reward, RewardRequest, Score, Scorer, SourceConfig,
    SourceKind,
};

use super::{SLACK, config, custom, invalid, score, source, told};

const DEADLINE: f64 = 1.0;

/// Does what the metadata says. Loops until `released`, so that the tests after it get their cores back.
#[derive(Default)]
struct Unruly {
    released: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Reward for Unruly {
    fn score(&self, request: &RewardRequest) -> Result<f64, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match request.metadata["do"].as_str().unwrap() {
            "loop" => {
                while !self.released.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }
            "late" => std::thread::sleep(Duration::from_secs_f64(DEADLINE + 2.0)),
            "panic" => panic!("no reward for sample {}", request.sample),
            "nan" => return Ok(f64::NAN),
            "inf" => return Ok(f64::INFINITY),
            "error" => return Err("cannot judge: no units".to_string()),
            _ => {}
        }
        Ok(request.response.len() as f64)
    }
}

fn unruly(workers: usize) -> rl_train::reward::RewardConfig {
    keep_quiet();
    config(workers, DEADLINE, vec![source("unruly", SourceKind::Custom {})])
}

#[test]
fn a_step_ends_within_its_deadline_whatever_a_reward_does() {
    let released = Arc::new(AtomicBool::new(false));
    let mut scorer =
        Scorer::new(&unruly(8), custom("unruly", Unruly { released: Arc::clone(&released), ..Unruly::default() }))
            .unwrap();
    let requests = told(&["loop", "fine", "late", "panic", "nan", "inf", "error", "loop"]);
    let started = Instant::now();
    let batch = scorer.score(&requests, &ExternalScores::new()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < DEADLINE + SLACK, "{seconds} s");

    let scores = &batch.sources[0].scores;
    let expected = [
        Score::TimedOut,
        Score::Ok(1.0),
        Score::TimedOut,
        Score::Invalid("panicked: no reward for sample 3".to_string()),
        Score::Invalid("not finite: NaN".to_string()),
        Score::Invalid("not finite: inf".to_string()),
        Score::Invalid("failed: cannot judge: no units".to_string()),
        Score::TimedOut,
    ];
    assert_eq!(scores, &expected);
    assert_eq!(batch.totals, [None, Some(1.0), None, None, None, None, None, None]);
    assert_eq!((batch.num_abandoned, batch.num_still_running), (3, 3));

    // The pool serves the next step at once, with the old threads still looping.
    let batch = scorer.score(&told(&["fine"; 40]), &ExternalScores::new()).unwrap();
    assert_eq!(batch.sources[0].counts.ok, 40);
    assert_eq!(batch.num_abandoned, 0);
    assert!(2 <= batch.num_still_running, "the two loops are still there");

    released.store(true, Ordering::Relaxed);
    let patience = Instant::now() + Duration::from_secs(20);
    while Instant::now() < patience {
        let batch = scorer.score(&told(&["fine"]), &ExternalScores::new()).unwrap();
        if batch.num_still_running == 0 {
            return; // a thread that comes back is no longer counted
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the released threads were never seen to end");
}

#[test]
fn hundreds_of_samples_are_counted_exactly() {
    // 12 of each kind of failure among 360
    let kinds = ["late", "panic", "nan", "inf", "error"];
    let what: Vec<&str> = (0..360).map(|index| if index % 6 == 0 { kinds[index / 6 % 5] } else { "fine" }).collect();
    let batch = score(&unruly(16), custom("unruly", Unruly::default()), &told(&what));
    let counts = &batch.sources[0].counts;
    assert_eq!((counts.ok, counts.timed_out, counts.not_started), (300, 12, 0));
    assert_eq!(invalid(&batch, 0), [("failed", 12), ("not finite", 24), ("panicked", 12)]);
    assert_eq!((batch.num_abandoned, batch.num_unscorable()), (12, 60));
    for (index, (what, total)) in what.iter().zip(&batch.totals).enumerate() {
        assert_eq!(*total, (*what == "fine").then_some((index % 10) as f64), "sample {index}");
    }
}

#[test]
fn the_deadline_of_the_step_ends_the_call() {
    let mut config = unruly(2);
    config.step_deadline_seconds = Some(1.5);
    let started = Instant::now();
    let batch = score(&config, custom("unruly", Unruly::default()), &told(&["late"; 50]));
    assert!(started.elapsed().as_secs_f64() < 1.5 + SLACK, "{} s", started.elapsed().as_secs_f64());
    let counts = &batch.sources[0].counts;
    assert_eq!(counts.timed_out, 50);
    assert!((46..=48).contains(&counts.not_started), "{} of 50 never started", counts.not_started);
    assert_eq!(batch.num_abandoned, 50 - counts.not_started);
}

#[test]
fn too_many_stuck_threads_end_the_run() {
    let mut config = unruly(4);
    config.max_abandoned = 2;
    let mut scorer = Scorer::new(&config, custom("unruly", Unruly::default())).unwrap();
    let started = Instant::now();
    let error = scorer.score(&told(&["late"; 100]), &ExternalScores::new()).unwrap_err();
    assert!(started.elapsed().as_secs_f64() < DEADLINE + SLACK);
    assert!(matches!(&error, Error::RewardAbandoned { name, running: 3..=4, limit: 2 } if name == "unruly"), "{error}");
}

#[test]
fn a_run_that_ends_waits_for_no_other_score() {
    let patient = SourceConfig { deadline_seconds: Some(60.0), ..source("patient", SourceKind::Custom {}) };
    let mut config = config(2, DEADLINE, vec![source("unruly", SourceKind::Custom {}), patient]);
    config.max_abandoned = 0;
    let mut rewards = custom("unruly", Unruly::default());
    rewards.extend(custom("patient", Patient));
    let mut scorer = Scorer::new(&config, rewards).unwrap();
    let started = Instant::now();
    let error = scorer.score(&told(&["late"]), &ExternalScores::new()).unwrap_err();
    assert!(started.elapsed().as_secs_f64() < DEADLINE + SLACK);
    assert!(matches!(&error, Error::RewardAbandoned { name, running: 1, limit: 0 } if name == "unruly"), "{error}");
}

/// Takes seconds for every score, and may.
struct Patient;

impl Reward for Patient {
    fn score(&self, _: &RewardRequest) -> Result<f64, String> {
        std::thread::sleep(Duration::from_secs_f64(DEADLINE + 3.0 * SLACK));
        Ok(1.0)
    }
}

#[test]
fn stop_ends_the_run_with_the_sample_and_the_reason() {
    let mut config = unruly(1);
    config.sources[0].on_failure = OnFailure::Stop;
    let asked = Arc::new(AtomicUsize::new(0));
    let reward = Unruly { asked: Arc::clone(&asked), ..Unruly::default() };
    let mut scorer = Scorer::new(&config, custom("unruly", reward)).unwrap();
    let error = scorer.score(&told(&["fine", "fine", "nan", "fine", "nan"]), &ExternalScores::new()).unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 3, "nothing is begun after the failure");
    let text = error.to_string();
    assert!(matches!(error, Error::RewardFailed { sample: 2, .. }), "{text}");
    assert!(text.contains("unruly") && text.contains("not finite: NaN"), "{text}");
    // The same scorer goes on if its owner wants to.
    assert_eq!(scorer.score(&told(&["fine"]), &ExternalScores::new()).unwrap().totals, [Some(0.0)]);
}

/// Panics of workers are wanted here: without their backtraces, which take seconds to print on a busy machine.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !std::thread::current().name().is_some_and(|name| name.starts_with("reward-")) {
                hook(info);
            }
        }));
    });
}

/// Fails until it was asked a number of times.
struct Warming(AtomicUsize);

impl Reward for Warming {
    fn score(&self, _: &RewardRequest) -> Result<f64, String> {
        let asked = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        if asked < 3 { Err(format!("call {asked} is too early")) } else { Ok(0.25) }
    }
}

#[test]
fn errors_are_retried_as_often_as_configured() {
    for (max_retries, expected) in
        [(1, Score::Invalid("failed: call 2 is too early".to_string())), (5, Score::Ok(0.25))]
    {
        let mut config = config(1, 5.0, vec![source("warming", SourceKind::Custom {})]);
        config.sources[0].retry = RetryConfig { max_retries, backoff_seconds: 0.001 };
        let batch = score(&config, custom("warming", Warming(0.into())), &told(&["go"]));
        assert_eq!(batch.sources[0].scores, [expected]);
        assert_eq!(batch.sources[0].counts.retries, u64::from(max_retries.min(2)));
    }
}

#[test]
fn objects_and_sources_must_match() {
    let missing = Scorer::new(&unruly(1), CustomRewards::new()).err().unwrap();
    assert!(missing.to_string().contains("unruly"), "{missing}");
    let extra =
        Scorer::new(&config(1, 1.0, vec![source("a", SourceKind::External {})]), custom("b", Unruly::default()));
    assert!(extra.err().unwrap().to_string().contains("`b`"));
    let batch = score(&unruly(1), custom("unruly", Unruly::default()), &[]);
    assert_eq!(batch.totals, []);
}
