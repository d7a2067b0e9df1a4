//! Exact arithmetic and formulas against independent evaluation.

use num_rational::Ratio;
use proptest::prelude::*;
use rl_envs::EvaluationError::{DivisionByZero, LeadingZero, Overflow, Syntax};
use rl_envs::general_points::expression::evaluate;
use rl_envs::general_points::rational::Rational;

fn ratio(numerator: i64, denominator: i64) -> Rational {
    Rational::new(numerator, denominator).unwrap()
}

#[test]
fn formulas_have_the_values_of_arithmetic() {
    for (formula, expected) in [
        ("7", Ok(Rational::integer(7))),
        ("1-2-3", Ok(Rational::integer(-4))),
        ("24/4/3", Ok(Rational::integer(2))),
        ("2+3*4-5", Ok(Rational::integer(9))),
        ("1/3+1/6", Ok(ratio(1, 2))),
        ("8/(3-8/3)", Ok(Rational::integer(24))),
        ("((((5))))*(1-2)", Ok(Rational::integer(-5))),
        ("2/(3*4)/5", Ok(ratio(1, 30))),
        ("0", Ok(Rational::ZERO)),
        ("", Err(Syntax)),
        ("()", Err(Syntax)),
        ("1+", Err(Syntax)),
        ("+1", Err(Syntax)),
        ("1 2", Err(Syntax)),
        ("2(3)", Err(Syntax)),
        ("(2)3", Err(Syntax)),
        ("(1", Err(Syntax)),
        ("1)", Err(Syntax)),
        ("1*/2", Err(Syntax)),
        ("04", Err(LeadingZero)),
        ("1/(2-2)", Err(DivisionByZero)),
        ("9223372036854775807", Ok(Rational::integer(i64::MAX))),
        ("9223372036854775807+1", Err(Overflow)),
        ("9223372036854775808", Err(Overflow)),
        ("3037000500*3037000500", Err(Overflow)),
        ("1/3037000500/3037000501", Err(Overflow)),
    ] {
        assert_eq!(evaluate::<Rational>(formula), expected, "{formula}");
    }
}

#[test]
fn deep_brackets_do_not_exhaust_the_stack() {
    let formula = format!("{}1{}", "(".repeat(200_000), ")".repeat(200_000));
    assert_eq!(evaluate::<Rational>(&formula), Ok(Rational::integer(1)));
}

#[test]
fn extremes_are_errors_never_wrong() {
    assert_eq!(Rational::new(1, 0), Err(DivisionByZero));
    assert_eq!(Rational::new(i64::MIN, -1), Err(Overflow));
    assert_eq!(Rational::new(1, i64::MIN), Err(Overflow));
    assert_eq!(Rational::new(i64::MIN, i64::MIN), Ok(Rational::integer(1)));
    assert_eq!(ratio(i64::MIN, 3).checked_mul(ratio(3, i64::MAX)), Rational::new(i64::MIN, i64::MAX));
    assert_eq!(ratio(i64::MAX, 2).checked_add(ratio(i64::MAX, 2)), Ok(Rational::integer(i64::MAX)));
    assert_eq!(ratio(1, i64::MAX).checked_sub(ratio(1, i64::MAX - 1)), Err(Overflow));
    assert_eq!(Rational::integer(i64::MIN).checked_sub(Rational::integer(1)), Err(Overflow));
}

proptest! {
    #[test]
    fn rationals_match_a_wider_reference(
        a in any::<i32>(), b in 1_i32.., c in any::<i32>(), d in 1_i32..,
    ) {
        let (x, y) = (ratio(a.into(), b.into()), ratio(c.into(), d.into()));
        let wide = |a: i32, b: i32| Ratio::<i128>::new(a.into(), b.into());
        let (p, q) = (wide(a, b), wide(c, d));
        let check = |found: Result<Rational, _>, expected: Option<Ratio<i128>>| {
            let fits = expected.and_then(|value| {
                Some((i64::try_from(*value.numer()).ok()?, i64::try_from(*value.denom()).ok()?))
            });
            assert_eq!(found.ok().map(|value| (value.numerator(), value.denominator())), fits);
        };
        check(x.checked_add(y), Some(p + q));
        check(x.checked_sub(y), Some(p - q));
        check(x.checked_mul(y), Some(p * q));
        check(x.checked_div(y), (c != 0).then(|| p / q));
    }
}
