//! Learning-rate schedules at points worked by hand, and as configuration.

use rl_core::schedule::{Schedule, ScheduleConfig, Warmup, warmup_steps};

use crate::{VECTOR_TOLERANCE, assert_near};

#[test]
fn rates_at_known_steps() {
    let check = |schedule: Schedule, points: &[(usize, f64)]| {
        schedule.validate().unwrap();
        for &(step, expected) in points {
            assert_near(schedule.learning_rate(step), expected, VECTOR_TOLERANCE);
        }
    };
    check(Schedule::Constant { learning_rate: 2.0 }, &[(0, 2.0), (1_000_000, 2.0)]);
    let warm = Schedule::LinearWarmup { learning_rate: 2.0, warmup_steps: 4 };
    check(warm, &[(0, 0.0), (1, 0.5), (4, 2.0), (9, 2.0)]);
    let linear = Schedule::Linear { learning_rate: 2.0, warmup_steps: 2, total_steps: 12, floor_fraction: 0.1 };
    check(linear, &[(0, 0.0), (1, 1.0), (2, 2.0), (7, 1.1), (12, 0.2), (99, 0.2)]);
    // A quarter of the way down, half a cosine stands at (1 + cos 45 degrees) / 2 = 0.853553.
    let cosine = Schedule::Cosine { learning_rate: 2.0, warmup_steps: 2, total_steps: 10, floor_fraction: 0.1 };
    check(cosine, &[(0, 0.0), (1, 1.0), (2, 2.0), (4, 1.736396), (6, 1.1), (10, 0.2), (usize::MAX, 0.2)]);
    let plain = Schedule::Cosine { learning_rate: 2.0, warmup_steps: 0, total_steps: 4, floor_fraction: 0.0 };
    check(plain, &[(0, 2.0), (2, 1.0), (4, 0.0)]);
    // From 1e-6 to 1e-9 in 100 steps, then held: halfway (1e-6 + 1e-9) / 2. In units of the peak.
    let held = Schedule::CosineTo { learning_rate: 1.0, warmup_steps: 0, total_steps: 100, end_learning_rate: 1e-3 };
    check(held, &[(0, 1.0), (50, 0.5005), (100, 1e-3), (150, 1e-3)]);
    let root = Schedule::InverseSqrt { learning_rate: 2.0, warmup_steps: 4, timescale: 4 };
    // After the warm-up: 2 * sqrt(4 / step).
    check(root, &[(0, 0.0), (2, 1.0), (4, 2.0), (8, std::f64::consts::SQRT_2), (16, 1.0)]);
    let slow = Schedule::InverseSqrt { learning_rate: 2.0, warmup_steps: 0, timescale: 10_000 };
    check(slow, &[(0, 2.0), (30_000, 1.0)]);
}

#[test]
fn logarithmic_warm_up_counts_the_first_step_as_one() {
    let peak = 1e-6;
    let schedule = Schedule::LogWarmup { learning_rate: peak, warmup_steps: 376 };
    assert_eq!(schedule.learning_rate(0), 0.0);
    // Step 2 of the run: ln 2 / ln 376 = 0.693147 / 5.929589.
    assert_near(schedule.learning_rate(1) / peak, 0.116896, VECTOR_TOLERANCE);
    assert_near(schedule.learning_rate(99) / peak, 0.776642, VECTOR_TOLERANCE);
    assert_eq!(schedule.learning_rate(375), peak);
    assert_eq!(schedule.learning_rate(12_500), peak);
}

#[test]
fn warm_up_as_a_fraction_of_the_run() {
    assert_eq!(warmup_steps(0.03, 12_501).unwrap(), 376);
    assert_eq!(warmup_steps(0.07, 100).unwrap(), 7);
    assert_eq!(warmup_steps(0.0, 100).unwrap(), 0);
    assert!(warmup_steps(1.5, 100).is_err());
}

#[test]
fn shares_of_a_run_become_steps() {
    let parse = |text: &str| serde_json::from_str::<ScheduleConfig>(text).unwrap();
    let resolve = |text: &str, run_steps| parse(text).resolve(run_steps);
    assert_eq!(
        resolve(r#"{"kind":"log_warmup","learning_rate":1.0,"warmup":{"fraction":0.03}}"#, 12_501).unwrap(),
        Schedule::LogWarmup { learning_rate: 1.0, warmup_steps: 376 }
    );
    assert_eq!(
        resolve(r#"{"kind":"constant","learning_rate":1.0,"warmup":{"fraction":0.1}}"#, 95).unwrap(),
        Schedule::LinearWarmup { learning_rate: 1.0, warmup_steps: 10 }
    );
    assert_eq!(
        resolve(r#"{"kind":"constant","learning_rate":1.0}"#, 5).unwrap(),
        Schedule::Constant { learning_rate: 1.0 }
    );
    let cosine = r#"{"kind":"cosine","learning_rate":1.0,"warmup":{"fraction":0.03},"floor_fraction":0.1}"#;
    assert_eq!(
        resolve(cosine, 100).unwrap(),
        Schedule::Cosine { learning_rate: 1.0, warmup_steps: 3, total_steps: 100, floor_fraction: 0.1 }
    );
    // The decay may end before the run, and the rate is then held.
    let held = r#"{"kind":"cosine_to","learning_rate":1.0,"total_steps":100,"end_learning_rate":1e-3}"#;
    assert_eq!(
        resolve(held, 300).unwrap(),
        Schedule::CosineTo { learning_rate: 1.0, warmup_steps: 0, total_steps: 100, end_learning_rate: 1e-3 }
    );
    for (warmup, timescale) in [(0, 10_000), (7, 7)] {
        let config = ScheduleConfig::InverseSqrt { learning_rate: 1.0, warmup: Warmup::Steps(warmup), timescale: None };
        let expected = Schedule::InverseSqrt { learning_rate: 1.0, warmup_steps: warmup, timescale };
        assert_eq!(config.resolve(50).unwrap(), expected);
    }
    assert!(parse(r#"{"kind":"constant","learning_rate":1.0,"warmup":{"fraction":1.5}}"#).validate().is_err());
    let late = parse(r#"{"kind":"linear","learning_rate":1.0,"warmup":10,"floor_fraction":0.0}"#);
    late.validate().unwrap();
    assert!(late.resolve(10).is_err(), "the warm-up is as long as the run");
    assert!(parse(cosine).resolve(0).is_err());
}

#[test]
fn configuration_round_trips_and_rejects_unknown_keys() {
    let text = r#"{"kind":"cosine","learning_rate":1e-6,"warmup":3,"total_steps":100,"floor_fraction":0.1}"#;
    let schedule: ScheduleConfig = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&schedule).unwrap(), text);
    for (part, typo, named) in [
        ("\"warmup\"", "\"warm_up\"", "warm_up"),
        ("3", "{\"share\":0.03}", "{ fraction = 0.03 }"),
        ("3", "{\"fraction\":0.03,\"steps\":3}", "{ fraction = 0.03 }"),
        ("3", "\"some\"", "a number of steps"),
    ] {
        let error = serde_json::from_str::<ScheduleConfig>(&text.replacen(part, typo, 1)).unwrap_err().to_string();
        assert!(error.contains(named), "{typo}: {error}");
    }
}

#[test]
fn impossible_schedules_are_refused() {
    for schedule in [
        Schedule::Constant { learning_rate: f64::NAN },
        Schedule::Constant { learning_rate: -1.0 },
        Schedule::LogWarmup { learning_rate: 1.0, warmup_steps: 1 },
        Schedule::Linear { learning_rate: 1.0, warmup_steps: 5, total_steps: 5, floor_fraction: 0.0 },
        Schedule::Cosine { learning_rate: 1.0, warmup_steps: 0, total_steps: 5, floor_fraction: 1.5 },
        Schedule::CosineTo { learning_rate: 1.0, warmup_steps: 0, total_steps: 5, end_learning_rate: 1.5 },
        Schedule::InverseSqrt { learning_rate: 1.0, warmup_steps: 0, timescale: 0 },
    ] {
        assert!(schedule.validate().is_err(), "{schedule:?}");
    }
}
