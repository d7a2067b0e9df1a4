//! Proportions against scipy: `binomtest(k, n).proportion_ci(method="wilson")`.

use approx::assert_abs_diff_eq;
use rl_eval::Proportion;

const TOLERANCE: f64 = 1e-12;

#[test]
fn intervals_are_those_of_scipy() {
    let cases = [
        (0, 10, 0.0, 0.0, 0.27753279986288926),
        (8, 10, 0.8, 0.4901624715366418, 0.9433178485456248),
        (300, 1000, 0.3, 0.27240684247700486, 0.32912386091721724),
        (1, 1, 1.0, 0.20654931437723745, 1.0),
        (400, 400, 1.0, 0.9904877056657035, 1.0),
    ];
    for (successes, trials, rate, low, high) in cases {
        let found = Proportion::new(successes, trials).unwrap();
        assert_eq!((found.successes, found.trials), (successes, trials));
        assert_abs_diff_eq!(found.rate, rate, epsilon = TOLERANCE);
        assert_abs_diff_eq!(found.low, low, epsilon = TOLERANCE);
        assert_abs_diff_eq!(found.high, high, epsilon = TOLERANCE);
    }
}

#[test]
fn impossible_counts_are_errors() {
    Proportion::new(0, 0).unwrap_err();
    Proportion::new(3, 2).unwrap_err();
}
