//! Every solution string of a hand, and whether there is one.
//!
//! Up to four cards, strings come from the distinct orders of the values, all operators and a fixed set of bracketings
//! without nesting. That set loses no hand: with four numbers every expression tree can be rewritten with at most one
//! bracket level. [`is_solvable`] searches the trees themselves, so the two can be compared. Beyond four cards both
//! search trees by halves.

use rl_core::random::RandomKey;

use super::expression::{Evaluator, Operator};
use super::rational::Rational;
use super::search::Search;
use super::table::Values;
use crate::error::EvaluationError;

/// Most cards whose solutions are listed by bracketings and kept; with more they are searched for.
pub const MAX_LISTED: usize = 4;

/// One bracketing: each pair is a group from its first to its last operand, counted from 0.
type Bracketing = &'static [(usize, usize)];

const ONE_OR_TWO: &[Bracketing] = &[&[]];
const THREE: &[Bracketing] = &[&[], &[(0, 1)], &[(1, 2)]];
const FOUR: &[Bracketing] = &[&[], &[(0, 1)], &[(0, 2)], &[(1, 2)], &[(1, 3)], &[(2, 3)], &[(0, 1), (2, 3)]];

/// All distinct solution strings, such as `4*3+2+10`, in byte order.
///
/// Up to four cards brackets may be redundant, as published: {1, 2, 3, 4} to 24 has 314 strings. With five or six every
/// expression tree is written with the fewest brackets that keep its value.
pub fn solutions(values: Values, target: i32) -> Vec<String> {
    let target = Rational::integer(target.into());
    if MAX_LISTED < values.as_slice().len() {
        return Search::new(values).solutions(target);
    }
    let bracketings = match values.as_slice().len() {
        4 => FOUR,
        3 => THREE,
        _ => ONE_OR_TWO,
    };
    let num_operators = values.as_slice().len() - 1;
    let mut order = values.as_slice().to_vec();
    let mut evaluator = Evaluator::default();
    let mut found = Vec::new();
    loop {
        for &bracketing in bracketings {
            for code in 0..1_usize << (2 * num_operators) {
                let value = evaluate(&mut evaluator, &order, bracketing, code);
                if value == Ok(target) {
                    found.push(render(&order, bracketing, code));
                }
            }
        }
        if !next_permutation(&mut order) {
            break;
        }
    }
    found.sort_unstable();
    found
}

/// A solution met first by a search whose order `key` shuffles; `None` when there is none. Every solution with the fewest
/// brackets can come up, not all equally often.
pub fn find_solution(values: Values, target: i32, key: RandomKey) -> Option<String> {
    Search::new(values).find(Rational::integer(target.into()), key)
}

/// Whether any expression tree over the values, each used once, equals the target.
pub fn is_solvable(values: Values, target: i32) -> bool {
    if MAX_LISTED < values.as_slice().len() {
        return Search::new(values).reaches(Rational::integer(target.into()));
    }
    let mut numbers = [Rational::ZERO; MAX_LISTED];
    for (number, &value) in numbers.iter_mut().zip(values.as_slice()) {
        *number = Rational::integer(value.into());
    }
    reaches(numbers, values.as_slice().len(), Rational::integer(target.into()))
}

/// Joins every two of the first `count` numbers in every way until one is left.
fn reaches(numbers: [Rational; MAX_LISTED], count: usize, target: Rational) -> bool {
    if count == 1 {
        return numbers[0] == target;
    }
    for i in 0..count {
        for j in 0..i {
            let (a, b) = (numbers[i], numbers[j]);
            let mut rest = numbers;
            rest[i] = numbers[count - 1];
            let joined = [
                a.checked_add(b),
                a.checked_sub(b),
                b.checked_sub(a),
                a.checked_mul(b),
                a.checked_div(b),
                b.checked_div(a),
            ];
            // Four values up to 13 cannot overflow, so a skipped branch is a division by zero.
            for value in joined.into_iter().flatten() {
                rest[j] = value;
                if reaches(rest, count - 1, target) {
                    return true;
                }
            }
        }
    }
    false
}

/// Operator at `position`, two bits each in `code`.
fn operator(code: usize, position: usize) -> Operator {
    Operator::ALL[code >> (2 * position) & 3]
}

fn evaluate(
    evaluator: &mut Evaluator<Rational>,
    values: &[u8],
    bracketing: Bracketing,
    code: usize,
) -> Result<Rational, EvaluationError> {
    evaluator.clear();
    for (position, &value) in values.iter().enumerate() {
        if position > 0 {
            evaluator.operator(operator(code, position - 1))?;
        }
        if bracketing.iter().any(|group| group.0 == position) {
            evaluator.open()?;
        }
        evaluator.operand(Rational::integer(value.into()))?;
        if bracketing.iter().any(|group| group.1 == position) {
            evaluator.close()?;
        }
    }
    evaluator.finish()
}

fn render(values: &[u8], bracketing: Bracketing, code: usize) -> String {
    let mut text = String::new();
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push(operator(code, position - 1).symbol());
        }
        if bracketing.iter().any(|group| group.0 == position) {
            text.push('(');
        }
        text.push_str(&value.to_string());
        if bracketing.iter().any(|group| group.1 == position) {
            text.push(')');
        }
    }
    text
}

/// Moves to the next order by value; false after the last. Equal values are not told apart.
fn next_permutation(values: &mut [u8]) -> bool {
    let Some(pivot) = values.windows(2).rposition(|pair| pair[0] < pair[1]) else { return false };
    if let Some(swap) = values.iter().rposition(|&value| value > values[pivot]) {
        values.swap(pivot, swap);
    }
    values[pivot + 1..].reverse();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_are_distinct_and_complete() {
        for (values, expected) in [([1, 2, 3, 4], 24), ([1, 1, 2, 3], 12), ([1, 1, 2, 2], 6), ([7, 7, 7, 7], 1)] {
            let mut order = values;
            let mut seen = std::collections::HashSet::from([order]);
            while next_permutation(&mut order) {
                assert!(seen.insert(order));
            }
            assert_eq!(seen.len(), expected, "{values:?}");
        }
    }
}
