//! Reference grades and messages.

use proptest::prelude::*;
use rl_envs::general_points::table::Values;
use rl_envs::general_points::{GeneralPointsConfig, Outcome, RewardConfig, RewardMode, Verdict, Verifier};

fn grade(config: &GeneralPointsConfig, formula: Option<&str>, hand: &[u8]) -> Verdict {
    Verifier::new(config).unwrap().grade(formula, Values::new(hand).unwrap())
}

fn with_mode(mode: RewardMode) -> GeneralPointsConfig {
    GeneralPointsConfig { reward: RewardConfig { mode, prices: None }, ..Default::default() }
}

use Outcome::{Correct, IllegalFormula, IncorrectNumber, Partial, WrongTotal};

/// Left side, published reward, outcome, exclusive reward, coarse reward; hand 4, 3, 2, 10.
const REFERENCE: [(Option<&str>, f64, Outcome, f64, f64); 20] = [
    (Some("4*3+2+10"), 5.0, Correct, 5.0, 3.0),
    (Some("10+2+4*3"), 5.0, Correct, 5.0, 3.0),
    (Some("((4*3)+2)+10"), 5.0, Correct, 5.0, 3.0),
    (Some("4 * 3+2+10"), -3.0, IllegalFormula, -3.0, 3.0),
    (None, -3.0, IllegalFormula, -3.0, -2.0),
    (Some(""), -2.0, IncorrectNumber, -2.0, -2.0),
    (Some("4*3+2+10)"), -3.0, IllegalFormula, -3.0, -2.0),
    (Some("+4*3+2+10"), -3.0, IllegalFormula, -3.0, -2.0),
    (Some("4**3+2+10"), -3.0, IllegalFormula, -3.0, -2.0),
    (Some("4*3+2+10.0"), -3.0, IllegalFormula, -3.0, -2.0),
    (Some("4*3+2"), -2.0, IncorrectNumber, -2.0, -2.0),
    (Some("4*3+2+11"), -4.0, IncorrectNumber, -2.0, -2.0),
    (Some("43+2+10"), -4.0, IncorrectNumber, -2.0, -2.0),
    (Some("4*3+2+10+10"), -2.0, IncorrectNumber, -2.0, -2.0),
    (Some("4*3*2*10"), -1.0, WrongTotal, -1.0, -1.0),
    (Some("2*(10+4)-3"), -1.0, WrongTotal, -1.0, -1.0),
    (Some("4*3+2+10+"), -1.0, WrongTotal, -1.0, -1.0),
    (Some("4(3+2+10)"), -6.0, IllegalFormula, -3.0, -2.0),
    (Some("()4*3+2+10"), -6.0, IllegalFormula, -3.0, -2.0),
    // Published as -1; an unclosed bracket is a violation here.
    (Some("(4*3+2+10"), -3.0, IllegalFormula, -3.0, -2.0),
];

#[test]
fn reference_grades() {
    let hand = [4, 3, 2, 10];
    for (formula, additive, outcome, exclusive, coarse) in REFERENCE {
        let verdict = grade(&GeneralPointsConfig::default(), formula, &hand);
        assert_eq!((verdict.reward, verdict.outcome), (additive, outcome), "{formula:?}");
        assert_eq!(verdict.success, outcome == Correct, "{formula:?}");
        assert_eq!(grade(&with_mode(RewardMode::Exclusive), formula, &hand).reward, exclusive, "{formula:?}");
        assert_eq!(grade(&with_mode(RewardMode::Coarse), formula, &hand).reward, coarse, "{formula:?}");

        let legacy =
            GeneralPointsConfig { legacy_unclosed_bracket: true, legacy_float: true, ..GeneralPointsConfig::default() };
        let published = if formula == Some("(4*3+2+10") { -1.0 } else { additive };
        assert_eq!(grade(&legacy, formula, &hand).reward, published, "{formula:?}");
    }
}

#[test]
fn further_grades() {
    let default = GeneralPointsConfig::default();
    for (formula, reward, outcome) in [
        // Each violation is paid: two brackets, and two numbers where operators belong.
        ("((4*3+2+10", -6.0, IllegalFormula),
        ("4*3+2+10))", -6.0, IllegalFormula),
        ("(4)(3)+2+10", -6.0, IllegalFormula),
        // Illegal grammar and wrong numbers add up.
        ("4**3+2", -5.0, IllegalFormula),
        ("4**3+11", -7.0, IllegalFormula),
        // Illegal characters end the grading.
        ("4**x+11", -3.0, IllegalFormula),
        ("4×3+2+10", -3.0, IllegalFormula),
        // Right numbers, no value.
        ("4*3/(2-2)+10", -2.0, IncorrectNumber),
        ("04*3+2+10", -1.0, WrongTotal),
        ("99999999999999999999999+4*3+2+10", -2.0, IncorrectNumber),
        ("0+4*3+2+10", -2.0, IncorrectNumber),
    ] {
        let verdict = grade(&default, Some(formula), &[4, 3, 2, 10]);
        assert_eq!((verdict.reward, verdict.outcome), (reward, outcome), "{formula}");
    }
    assert_eq!(grade(&default, Some("6/(6-6)+6"), &[6, 6, 6, 6]).outcome, WrongTotal);
}

#[test]
fn exact_fractions_accept_what_floats_miss() {
    let hand = [3, 3, 8, 8];
    let default = GeneralPointsConfig::default();
    assert_eq!(grade(&default, Some("8/(3-8/3)"), &hand).reward, 5.0);

    let legacy = GeneralPointsConfig { legacy_float: true, ..default };
    let verdict = grade(&legacy, Some("8/(3-8/3)"), &hand);
    assert_eq!((verdict.reward, verdict.success), (0.0, false));
    let verifier = Verifier::new(&legacy).unwrap();
    assert_eq!(verifier.message(&verdict, Some("8/(3-8/3)"), Values::new(&hand).unwrap()), "");
}

#[test]
fn an_open_start_of_a_solution_is_partial_only_in_legacy() {
    // The only solution of this hand is 6/(1-3/4).
    let hand = [1, 3, 4, 6];
    let formula = "6/(1-3/4";
    let legacy = GeneralPointsConfig { legacy_unclosed_bracket: true, ..Default::default() };
    let verdict = grade(&legacy, Some(formula), &hand);
    assert_eq!((verdict.reward, verdict.outcome), (1.0, Partial));
    assert_eq!(grade(&GeneralPointsConfig::default(), Some(formula), &hand).reward, -3.0);
}

#[test]
fn messages_name_every_reason() {
    let verifier = Verifier::new(&GeneralPointsConfig::default()).unwrap();
    let hand = Values::new(&[4, 3, 2, 10]).unwrap();
    let message = |formula| verifier.message(&verifier.grade(formula, hand), formula, hand);
    for (formula, expected) in [
        (None, "no formula was found."),
        (Some("4 + 3"), "the formula has illegal characters."),
        (Some("4*3+2+10"), "the formula is correct."),
        (Some("4*3*2*10"), "solutions match this formula only up to 4*3."),
        (Some("4*3+2"), "these numbers are not used: [10]."),
        (
            Some("4*3+3+77+77"),
            "these numbers are not in the hand: [77], these numbers are used too often: [3], \
             these numbers are not used: [2, 10].",
        ),
        (Some("4(3+2+10)"), "invalid sequence before an open bracket, a close bracket has no open bracket."),
        (Some("()4*3+2+10"), "invalid sequence at a number, invalid sequence before a close bracket."),
        (Some("+4*3+2+10"), "invalid sequence at an operator."),
        (Some("(4*3+2+10"), "an open bracket is never closed."),
    ] {
        assert_eq!(message(formula), expected, "{formula:?}");
    }
    let nothing = Values::new(&[3, 3, 8, 8]).unwrap();
    let verdict = verifier.grade(Some("3*3+8+8"), nothing);
    assert_eq!(verifier.message(&verdict, Some("3*3+8+8"), nothing), "no solution starts like this formula.");
}

#[test]
fn messages_stay_short_whatever_the_formula() {
    let verifier = Verifier::new(&GeneralPointsConfig::default()).unwrap();
    let hand = Values::new(&[4, 3, 2, 10]).unwrap();
    let many = (100..50_000).map(|number: u32| number.to_string()).collect::<Vec<_>>().join("+");
    let long = "7".repeat(100_000);
    let told = |formula: &str| verifier.message(&verifier.grade(Some(formula), hand), Some(formula), hand);
    let listed = "100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, ...";
    let unused = "these numbers are not used: [2, 3, 4, 10].";
    assert_eq!(told(&many), format!("these numbers are not in the hand: [{listed}], {unused}"));
    let cut = "7".repeat(24);
    assert_eq!(told(&long), format!("these numbers are not in the hand: [{cut}...], {unused}"));
}

proptest! {
    /// Grading and explaining never panic, and a success is always worth the same.
    #[test]
    fn any_text_can_be_graded(formula in "[0-9+*/()=\\- x]{0,24}|\\PC{0,16}", hand in prop::collection::vec(1_u8..=13, 1..=4)) {
        let hand = Values::new(&hand).unwrap();
        for mode in [RewardMode::Additive, RewardMode::Exclusive, RewardMode::Coarse] {
            let verifier = Verifier::new(&with_mode(mode)).unwrap();
            let verdict = verifier.grade(Some(&formula), hand);
            prop_assert!(verdict.reward.is_finite());
            prop_assert_eq!(verdict.success, verdict.reward > 0.0);
            prop_assert!(!verifier.message(&verdict, Some(&formula), hand).is_empty());
        }
    }
}
