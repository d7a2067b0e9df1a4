//! Statistics against numpy and scipy (`tests/golden/statistics.py` prints these numbers) and hand-worked cases.

use rl_core::Error;
use rl_core::reward_loss::RewardNormalizer;
use rl_core::statistics::{
    RunningStatistics, Variance, Z_95, excess_kurtosis, explained_variance, histogram, mcnemar, mean, quantile,
    skewness, standard_deviation, variance, wilson_interval,
};

use crate::{GOLDEN_TOLERANCE, VECTOR_TOLERANCE, assert_near};

const VALUES: [f64; 7] = [2.0, 3.5, -1.0, 4.0, 10.0, 0.5, 2.5];

#[test]
fn moments() {
    assert_near(mean(&VALUES).unwrap(), 3.0714285714285716, GOLDEN_TOLERANCE);
    assert_near(variance(&VALUES, Variance::Biased).unwrap(), 10.530612244897958, GOLDEN_TOLERANCE);
    assert_near(variance(&VALUES, Variance::Unbiased).unwrap(), 12.285714285714285, GOLDEN_TOLERANCE);
    assert_near(skewness(&VALUES).unwrap(), 1.0349777187366986, GOLDEN_TOLERANCE);
    assert_near(excess_kurtosis(&VALUES).unwrap(), 0.3818646340364178, GOLDEN_TOLERANCE);
    assert!(skewness(&[0.1; 3]).is_err());
    assert!(excess_kurtosis(&[]).is_err());
    assert!(mean(&[1.0, f64::NAN]).is_err());
    assert!(variance(&[1.0], Variance::Unbiased).is_err());
}

#[test]
fn quantiles() {
    for (q, expected) in [(0.0, -1.0), (0.1, -0.1), (0.5, 2.5), (0.95, 8.2), (1.0, 10.0)] {
        assert_near(quantile(&VALUES, q).unwrap(), expected, GOLDEN_TOLERANCE);
    }
    let tens: Vec<f64> = (1..=10).map(|ten| f64::from(ten) * 10.0).collect();
    assert_near(quantile(&tens, 0.95).unwrap(), 95.5, VECTOR_TOLERANCE);
    assert!(quantile(&[], 0.5).is_err());
    assert!(quantile(&VALUES, 1.1).is_err());
}

#[test]
fn histograms_lose_nothing() {
    let counted = histogram(&VALUES, -1.0, 4.0, 4).unwrap();
    assert_eq!(counted.counts, [1, 1, 2, 2]);
    assert_eq!(counted.edges, [-1.0, 0.25, 1.5, 2.75, 4.0]);
    assert_eq!((counted.num_below, counted.num_above), (0, 1));
    assert!(histogram(&VALUES, 1.0, 1.0, 4).is_err());
    assert!(histogram(&[f64::NAN], 0.0, 1.0, 4).is_err());
}

#[test]
fn wilson_intervals() {
    for (successes, trials, low, high) in [
        (57, 100, 0.47215389549212305, 0.6626670147588988),
        (41, 234, 0.1318630083032962, 0.22905581235281572),
        (0, 48, 0.0, 0.07410012966611748),
        (48, 48, 0.9258998703338825, 1.0),
        (1, 3, 0.06149194472039626, 0.7923403991979523),
    ] {
        let interval = wilson_interval(successes, trials, Z_95).unwrap();
        assert_near(interval.low, low, GOLDEN_TOLERANCE);
        assert_near(interval.high, high, GOLDEN_TOLERANCE);
    }
    assert!(wilson_interval(1, 0, Z_95).is_err());
    assert!(wilson_interval(2, 1, Z_95).is_err());
}

#[test]
fn mcnemar_tests() {
    // By hand for 2 against 8: twice (1 + 10 + 45) / 1024, less 45 / 1024 for the mid-p.
    for (only_first, only_second, exact, mid_p) in [
        (2, 8, 0.109375, 67.0 / 1024.0),
        (8, 2, 0.109375, 67.0 / 1024.0),
        (0, 0, 1.0, 1.0),
        (5, 5, 1.0, 1.0),
        (0, 6, 0.03125, 0.015625),
        (30, 12, 0.007915897334896727, 0.0054015726545912895),
        (700, 820, 0.002260528308299211, 0.002081477127906891),
    ] {
        let test = mcnemar(only_first, only_second);
        assert_near(test.exact, exact, 1e-9);
        assert_near(test.mid_p, mid_p, 1e-9);
    }
}

#[test]
fn explained_variances() {
    assert_near(explained_variance(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]).unwrap(), 1.0, GOLDEN_TOLERANCE);
    assert_near(explained_variance(&[7.0, 7.0, 7.0], &[1.0, 2.0, 3.0]).unwrap(), 0.0, GOLDEN_TOLERANCE);
    // Errors 0, 2, 0 have variance 8/9 against 2/3.
    assert_near(explained_variance(&[1.0, 0.0, 3.0], &[1.0, 2.0, 3.0]).unwrap(), -1.0 / 3.0, GOLDEN_TOLERANCE);
    assert!(explained_variance(&[1.0, 2.0], &[1.0, 1.0]).is_err());
}

/// Numbers whose mean, spread or distance does not fit into f64.
#[test]
fn numbers_that_are_too_large_are_refused() {
    let huge = [1e308, -1e308];
    for result in [variance(&huge, Variance::Biased), standard_deviation(&huge, Variance::Unbiased)] {
        assert!(matches!(result, Err(Error::NonFinite { .. })), "{result:?}");
    }
    let of = |values: &[f64]| {
        let mut statistics = RunningStatistics::default();
        values.iter().try_for_each(|&value| statistics.push(value)).map(|()| statistics)
    };
    let mut statistics = of(&huge[..1]).unwrap();
    assert!(statistics.push(huge[1]).is_err());
    assert_eq!((statistics.count(), statistics.mean()), (1, 1e308), "what was refused is not taken");
    assert!(statistics.merge(of(&huge[1..]).unwrap()).is_err());
    assert!(RewardNormalizer::from_rewards(huge).is_err());
    // What lies between two numbers fits where their distance does not.
    assert_eq!(quantile(&huge, 0.5).unwrap(), 0.0);
    assert_near(quantile(&huge, 0.75).unwrap() / 1e308, 0.5, VECTOR_TOLERANCE);
}
