//! Two models on the same tasks, from hand-made results.

use std::collections::BTreeMap;

use approx::assert_abs_diff_eq;
use rl_eval::{AnswerLength, GainDifference, PairedTest, Proportion, SplitResult, WinRate};

/// Rounding of f64 arithmetic in expected values.
const TOLERANCE: f64 = 1e-12;

/// A result in which the tasks `solved` out of `num_tasks` were solved.
fn played(solved: impl IntoIterator<Item = u64>, num_tasks: u64, rewards: Option<&[f64]>) -> SplitResult {
    let solved: Vec<u64> = solved.into_iter().collect();
    let share = |count: usize| Proportion::new(count as u64, num_tasks).unwrap();
    SplitResult {
        split: "held_out".into(),
        decoding: "greedy".into(),
        first_attempt: share(solved.len()),
        within_attempts: share(solved.len()),
        max_attempts: 1,
        by_kind: BTreeMap::new(),
        process_accuracy: None,
        outcomes: BTreeMap::new(),
        reward_mean: 0.0,
        answer_length: AnswerLength { mean_tokens: 4.0, truncated: share(0) },
        model_rewards: rewards.map(<[f64]>::to_vec),
        seen_in_training: None,
        first_attempt_unseen: None,
        solved_first: solved,
        transcripts: Vec::new(),
    }
}

/// `before` alone solved the first tasks, `after` alone the next ones, both the ones after that; 100 tasks.
fn test(only_before: u64, only_after: u64, both: u64) -> PairedTest {
    let shared = only_before + only_after..only_before + only_after + both;
    let before = played((0..only_before).chain(shared.clone()), 100, None);
    let after = played((only_before..only_before + only_after).chain(shared), 100, None);
    PairedTest::new(("before", &before), ("after", &after)).unwrap()
}

#[test]
fn paired_tests_count_tasks_and_bound_the_difference() {
    let test = test(10, 0, 30);
    assert_eq!((test.only_before, test.only_after), (10, 0));
    assert_eq!((test.before_success.successes, test.after_success.successes), (40, 30));
    assert_eq!(test.difference, -0.1);
    // 2 * 2^-10 - 2^-10
    assert_abs_diff_eq!(test.mid_p, 0.000_976_562_5, epsilon = TOLERANCE);
    // Agresti and Min by hand: -10/102 and 1.96 * sqrt(11 - 100/102) / 102
    assert_abs_diff_eq!(test.difference_low, -0.158_862_978_129_504_26, epsilon = TOLERANCE);
    assert_abs_diff_eq!(test.difference_high, -0.037_215_453_243_044_753, epsilon = TOLERANCE);
    assert!(test.fell() && !test.rose());

    let (few, many) = (played(0..3, 50, None), played(0..3, 51, None));
    let error = PairedTest::new(("a", &few), ("b", &many)).unwrap_err().to_string();
    assert!(error.contains("50") && error.contains("51"), "{error}");
}

#[test]
fn four_discordant_tasks_can_decide_nothing() {
    // all one way, mid-p is 2^-n: 2^-4 = 0.0625, 2^-5 = 0.03125
    assert!(!test(4, 0, 20).is_decidable());
    assert!(test(5, 0, 20).is_decidable());
}

#[test]
fn win_rates_are_those_of_bradley_and_terry() {
    let third = 3f64.ln(); // odds of 3 to 1, probability 3/4
    let before = played([], 4, Some(&[0.0, 1.0, 2.0, 0.0]));
    let after = played([], 4, Some(&[third, 1.0, 2.0 - third, third]));
    let rate = WinRate::new(("before", &before), ("after", &after)).unwrap().unwrap();
    assert_eq!((rate.num_tasks, rate.wins, rate.ties), (4, 2, 1));
    assert_abs_diff_eq!(rate.probability, (0.75 + 0.5 + 0.25 + 0.75) / 4.0, epsilon = TOLERANCE);
    // Deviations from 0.5625: 0.1875, -0.0625, -0.3125, 0.1875; squares 0.171875, over 3 and over 4.
    assert_abs_diff_eq!(rate.standard_error, (0.171_875f64 / 12.0).sqrt(), epsilon = TOLERANCE);
    assert!(WinRate::new(("a", &before), ("b", &played([], 4, None))).unwrap().is_none());
    let fewer = played([], 4, Some(&[1.0]));
    assert!(WinRate::new(("a", &before), ("b", &fewer)).unwrap_err().to_string().contains("b has 1"));
}

#[test]
fn a_difference_of_gains_is_taken_task_by_task() {
    // Of ten tasks the first model wins tasks 0 and 1, the second wins 1 to 4 and loses 9: differences of -1 on tasks 0 and 9,
    // 0 on task 1, +1 on tasks 2 to 4, else 0.
    let results = [played(5..5, 10, None), played(0..2, 10, None), played(9..10, 10, None), played(1..5, 10, None)];
    let [a, b, c, d] = &results;
    let gains = GainDifference::new([("a", a), ("b", b)], [("c", c), ("d", d)]).unwrap();
    // NumPy: x = [-1, 0, 1, 1, 1, 0, 0, 0, 0, -1]; x.mean(), 1.959963984540054 * x.std(ddof=1) / 10 ** 0.5
    assert_abs_diff_eq!(gains.difference, 0.1, epsilon = TOLERANCE);
    assert_abs_diff_eq!(gains.high - gains.difference, 0.457_324_929_726_012_6, epsilon = TOLERANCE);
    assert_abs_diff_eq!(gains.difference - gains.low, gains.high - gains.difference, epsilon = TOLERANCE);
    assert!(!gains.is_decided());

    let other = played(0..1, 11, None);
    let error = GainDifference::new([("a", a), ("b", b)], [("c", c), ("d", &other)]).unwrap_err().to_string();
    assert!(error.contains("10") && error.contains("11"), "{error}");
}
