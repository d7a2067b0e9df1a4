//! The verifier against a second one, written slowly and plainly from the task's definition, on random and mutated
//! formulas; and every environment against hostile text.

use std::time::{Duration, Instant};

use num_rational::Ratio;
use rayon::prelude::*;
use rl_core::random::RandomKey;
use rl_envs::general_points::table::{SolutionTable, Values};
use rl_envs::general_points::{GeneralPointsConfig, Outcome, Verifier};
use rl_envs::{Preset, hostile};

use crate::slow;

/// What the definition says of a formula: penalties or a value.
#[derive(Debug, PartialEq)]
struct Grade {
    reward: f64,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Number(String),
    Sign(char),
}

/// Maximal runs of digits and the six signs; `None` if anything else stands in the text.
fn pieces(formula: &str) -> Option<Vec<Piece>> {
    let mut found = Vec::new();
    let mut digits = String::new();
    for c in formula.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            found.push(Piece::Number(std::mem::take(&mut digits)));
        }
        if !"+-*/()".contains(c) {
            return None;
        }
        found.push(Piece::Sign(c));
    }
    if !digits.is_empty() {
        found.push(Piece::Number(digits));
    }
    Some(found)
}

fn grade(formula: &str, hand: &[u8], target: i64) -> Grade {
    let Some(pieces) = pieces(formula) else {
        return Grade { reward: -3.0, outcome: Outcome::IllegalFormula };
    };
    let mut violations = 0;
    let mut open = 0;
    for (place, piece) in pieces.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| &pieces[place]);
        let after_value = matches!(before, Some(Piece::Number(_) | Piece::Sign(')')));
        match piece {
            Piece::Number(_) => violations += i32::from(after_value),
            Piece::Sign('(') if after_value => violations += 1,
            Piece::Sign('(') => open += 1,
            Piece::Sign(')') => {
                violations += i32::from(!after_value);
                if open == 0 {
                    violations += 1;
                } else {
                    open -= 1;
                }
            }
            Piece::Sign(_) => violations += i32::from(!after_value),
        }
    }
    violations += open;

    let mut left: Vec<String> = hand.iter().map(u8::to_string).collect();
    let mut foreign = false;
    for piece in &pieces {
        let Piece::Number(digits) = piece else { continue };
        // A number may have zeros in front; as text it may be as long as it likes.
        match left.iter().position(|value| value == digits.trim_start_matches('0')) {
            Some(place) => drop(left.remove(place)),
            None => foreign = true,
        }
    }
    let number_penalties = i32::from(foreign) + i32::from(!left.is_empty());
    if 0 < violations + number_penalties {
        let outcome = if 0 < violations { Outcome::IllegalFormula } else { Outcome::IncorrectNumber };
        return Grade { reward: f64::from(-3 * violations - 2 * number_penalties), outcome };
    }
    let leading_zero =
        |piece: &Piece| matches!(piece, Piece::Number(digits) if 1 < digits.len() && digits.starts_with('0'));
    let value = if pieces.iter().any(leading_zero) { None } else { value(&pieces) };
    if value == Some(Ratio::from(i128::from(target))) {
        Grade { reward: 5.0, outcome: Outcome::Correct }
    } else {
        Grade { reward: -1.0, outcome: Outcome::WrongTotal }
    }
}

/// The value by recursion: split at the last sign of lowest rank outside brackets.
fn value(pieces: &[Piece]) -> Option<Ratio<i128>> {
    if let [Piece::Number(digits)] = pieces {
        return Some(Ratio::from(digits.parse::<i128>().ok()?));
    }
    for signs in ["+-", "*/"] {
        let mut depth = 0;
        for place in (0..pieces.len()).rev() {
            let Piece::Sign(sign) = pieces[place] else { continue };
            depth += i32::from(sign == ')') - i32::from(sign == '(');
            if depth == 0 && signs.contains(sign) {
                let (a, b) = (value(&pieces[..place])?, value(&pieces[place + 1..])?);
                return match sign {
                    '+' => Some(a + b),
                    '-' => Some(a - b),
                    '*' => Some(a * b),
                    _ if b == Ratio::from(0) => None,
                    _ => Some(a / b),
                };
            }
        }
    }
    match pieces {
        [Piece::Sign('('), inside @ .., Piece::Sign(')')] => value(inside),
        _ => None,
    }
}

/// A hand and a formula: random, or a solution with some edits.
fn case(number: u64) -> (Vec<u8>, i32, String) {
    let key = RandomKey::new(9, "differential").at(number);
    let num_cards = 1 + key.below(0, 4) as usize;
    let mut hand: Vec<u8> = (0..num_cards as u64).map(|card| 1 + key.below(10 + card, 13) as u8).collect();
    let target = [24, 24, 24, 10, 0, -5][key.below(1, 6) as usize];
    let mut formula = match key.below(2, 4) {
        0 => {
            let symbols: Vec<String> =
                hand.iter().map(u8::to_string).chain("+-*/()".chars().map(String::from)).collect();
            let length = key.below(3, 12);
            (0..length).map(|place| symbols[key.below(20 + place, symbols.len() as u64) as usize].clone()).collect()
        }
        1 => {
            key.shuffle(&mut hand);
            let mut text = hand[0].to_string();
            for (place, number) in hand.iter().enumerate().skip(1) {
                text.push(['+', '-', '*', '/'][key.below(40 + place as u64, 4) as usize]);
                text.push_str(&number.to_string());
            }
            text
        }
        _ => {
            let solutions = SolutionTable::shared(target).solutions(Values::new(&hand).unwrap());
            match solutions.len() as u64 {
                0 => "1".to_string(),
                count => solutions[key.below(4, count) as usize].clone(),
            }
        }
    };
    // None to three edits.
    for edit in 0..key.below(5, 4) {
        let key = key.at(edit);
        let place = formula.floor_char_boundary(key.below(0, formula.len() as u64 + 1) as usize);
        match key.below(1, 3) {
            0 if place < formula.len() => drop(formula.remove(place)),
            1 => formula.insert(place, char::from(b"0123456789+-*/()"[key.below(2, 16) as usize])),
            _ => formula.insert_str(
                place,
                ["()", "(", ")", " ", "x", ".", "00", "é", "9999999999999999999999"][key.below(2, 9) as usize],
            ),
        }
    }
    (hand, target, formula)
}

#[test]
fn the_verifier_grades_as_its_definition_says() {
    let cases = if slow() { 1_000_000 } else { 20_000 };
    let seen: Vec<Outcome> = (0..cases)
        .into_par_iter()
        .map(|number| {
            let (hand, target, formula) = case(number);
            let config = GeneralPointsConfig { target, num_cards: hand.len(), ..Default::default() };
            let verifier = Verifier::new(&config).unwrap();
            let verdict = verifier.grade(Some(&formula), Values::new(&hand).unwrap());
            let expected = grade(&formula, &hand, target.into());
            let found = Grade { reward: verdict.reward, outcome: verdict.outcome };
            assert_eq!(found, expected, "{formula:?} for {hand:?} to {target}");
            assert_eq!(verdict.success, expected.outcome == Outcome::Correct);
            verdict.outcome
        })
        .collect();
    // Each outcome must come up often, or nothing was compared.
    for outcome in [Outcome::Correct, Outcome::WrongTotal, Outcome::IncorrectNumber, Outcome::IllegalFormula] {
        let count = seen.iter().filter(|&&seen| seen == outcome).count() as u64;
        assert!(cases / 50 < count, "{outcome:?} came up {count} times in {cases}");
    }
}

/// No panic, no error, and a bounded time for each text; the longest is printed.
#[test]
fn hostile_text_is_judged_quickly() {
    /// For a text of a megabyte, on a machine that has other things to do.
    const LIMIT: Duration = Duration::from_secs(2);
    /// What takes longer is judged again, because another program may have had the core meanwhile.
    const SUSPECT: Duration = Duration::from_millis(20);
    const AGAIN: usize = 3;
    let texts: u64 = if slow() { 1_000_000 } else { 3_000 };
    for &preset in Preset::ALL {
        let chunks: Vec<u64> = (0..texts).step_by(2500).collect();
        let slowest = chunks.into_par_iter().map(|first| {
            let mut environment = preset.config().build().unwrap();
            let mut episode = first;
            environment.reset(1, episode).unwrap();
            let mut example = environment.expert().unwrap();
            let mut slowest = (Duration::ZERO, 0);
            for number in first..texts.min(first + 2500) {
                let text = hostile::text(2, number, &example);
                let started = Instant::now();
                let step = environment.step(&text).unwrap();
                let mut time = started.elapsed();
                for _ in 0..if SUSPECT < time { AGAIN } else { 0 } {
                    let mut other = preset.config().build().unwrap();
                    other.reset(1, episode).unwrap();
                    let started = Instant::now();
                    other.step(&text).unwrap();
                    time = time.min(started.elapsed());
                }
                slowest = slowest.max((time, text.len()));
                assert!(step.reward.is_finite());
                if step.ended() {
                    episode += 1;
                    environment.reset(1, episode).unwrap();
                    // An expert's answer of each tenth episode will do.
                    if episode.is_multiple_of(10) {
                        example = environment.expert().unwrap();
                    }
                }
            }
            slowest
        });
        let (time, length) = slowest.max().unwrap();
        println!("{preset}: {texts} hostile texts, the slowest took {time:.1?} for {length} bytes");
        assert!(time < LIMIT, "{preset}: {time:?} for {length} bytes");
    }
}
