//! Hands of five and six cards, and a brute force over all expression trees that the solvers are held against.

use std::collections::{BTreeMap, BTreeSet};

use num_rational::Ratio;
use rayon::prelude::*;
use rl_core::random::RandomKey;
use rl_envs::general_points::expression::evaluate;
use rl_envs::general_points::rational::Rational;
use rl_envs::general_points::solver::{find_solution, is_solvable, solutions};
use rl_envs::general_points::table::{SolutionTable, Values};
use rl_envs::general_points::{Duplicates, GeneralPoints, GeneralPointsConfig, SuitPool};
use rl_envs::{Environment, Error};

use crate::slow;

type Value = Ratio<i64>;

/// An expression tree.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(i64),
    Node(Box<Tree>, char, Box<Tree>),
}

impl Tree {
    /// Written with the fewest brackets; a bracket stays only if the string without it would be read otherwise, that is, as
    /// another value for some numbers.
    fn written(&self) -> String {
        match self {
            Tree::Leaf(number) => number.to_string(),
            Tree::Node(a, operator, b) => {
                let strength = |tree: &Tree| match tree {
                    Tree::Leaf(_) => 3,
                    Tree::Node(_, '*' | '/', _) => 2,
                    Tree::Node(..) => 1,
                };
                let (left, right) = match operator {
                    '+' => (1, 1),
                    '-' => (1, 2),
                    '*' => (2, 2),
                    _ => (2, 3),
                };
                let side = |tree: &Tree, least: u8| {
                    if strength(tree) < least { format!("({})", tree.written()) } else { tree.written() }
                };
                format!("{}{operator}{}", side(a, left), side(b, right))
            }
        }
    }
}

/// Every expression tree over `numbers`, each used once, with its value.
fn trees(numbers: &[i64]) -> Vec<(Value, Tree)> {
    if let &[number] = numbers {
        return vec![(Value::from(number), Tree::Leaf(number))];
    }
    let mut found = Vec::new();
    for mask in 1..(1_usize << numbers.len()) - 1 {
        let side = |bit| -> Vec<i64> {
            numbers.iter().enumerate().filter(|(i, _)| mask >> i & 1 == bit).map(|(_, &number)| number).collect()
        };
        let (left, right) = (trees(&side(1)), trees(&side(0)));
        for (a, left) in &left {
            for (b, right) in &right {
                for operator in ['+', '-', '*', '/'] {
                    let value = match operator {
                        '+' => a + b,
                        '-' => a - b,
                        '*' => a * b,
                        _ if *b == Value::from(0) => continue,
                        _ => a / b,
                    };
                    found.push((value, Tree::Node(Box::new(left.clone()), operator, Box::new(right.clone()))));
                }
            }
        }
    }
    found
}

/// Strings of all trees over `numbers`, by whole value.
fn by_value(numbers: &[i64]) -> BTreeMap<i64, BTreeSet<String>> {
    let mut found: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for (value, tree) in trees(numbers) {
        if value.is_integer() {
            found.entry(value.to_integer()).or_default().insert(tree.written());
        }
    }
    found
}

/// Drops brackets that change nothing: those around a number or an expression that binds strongly enough where it stands.
fn without_idle_brackets(formula: &str) -> String {
    let mut text = formula.to_string();
    'again: loop {
        let bytes = text.as_bytes();
        for (open, _) in text.match_indices('(') {
            let mut depth = 0;
            let close = open
                + bytes[open..]
                    .iter()
                    .position(|&byte| {
                        depth += i32::from(byte == b'(') - i32::from(byte == b')');
                        depth == 0
                    })
                    .unwrap();
            let mut depth = 0;
            let (mut has_sum, mut has_product) = (false, false);
            for &byte in &bytes[open + 1..close] {
                depth += i32::from(byte == b'(') - i32::from(byte == b')');
                has_sum |= depth == 0 && matches!(byte, b'+' | b'-');
                has_product |= depth == 0 && matches!(byte, b'*' | b'/');
            }
            let before = open.checked_sub(1).map_or(b'(', |place| bytes[place]);
            let after = bytes.get(close + 1).copied().unwrap_or(b')');
            let sum_is_idle = !matches!(before, b'-' | b'*' | b'/') && !matches!(after, b'*' | b'/');
            let idle = match (has_sum, has_product) {
                (true, _) => sum_is_idle,
                (false, true) => before != b'/',
                (false, false) => true,
            };
            if idle {
                text.remove(close);
                text.remove(open);
                continue 'again;
            }
        }
        return text;
    }
}

/// Solvability and, bracket for bracket, the solutions of hands of up to four cards against the brute force.
#[test]
fn up_to_four_cards_the_solver_agrees_with_all_trees() {
    let step = if slow() { 1 } else { 97 };
    for count in 1..=4 {
        let hands: Vec<Values> = Values::all(count, 1, 13).unwrap().into_iter().step_by(step).collect();
        let compared: usize = hands
            .par_iter()
            .map(|&hand| {
                let numbers: Vec<i64> = hand.as_slice().iter().map(|&value| value.into()).collect();
                let all = by_value(&numbers);
                for target in [24, 10, 1, 0, -3] {
                    let expected = all.get(&i64::from(target)).cloned().unwrap_or_default();
                    assert_eq!(is_solvable(hand, target), !expected.is_empty(), "{hand:?} to {target}");
                    // The published list has redundant brackets, and of nested ones only what can be written without.
                    let listed: BTreeSet<String> =
                        solutions(hand, target).iter().map(|formula| without_idle_brackets(formula)).collect();
                    let flat = |formula: &&String| !nests(formula);
                    let expected: BTreeSet<String> = expected.iter().filter(flat).cloned().collect();
                    assert_eq!(listed, expected, "{hand:?} to {target}");
                }
                1
            })
            .sum();
        assert_eq!(compared, hands.len());
    }
}

fn nests(formula: &str) -> bool {
    let mut depth = 0;
    formula.bytes().any(|byte| {
        depth += i32::from(byte == b'(') - i32::from(byte == b')');
        1 < depth
    })
}

/// Five cards: every string of every tree. Half a million trees a hand, so a few hands, chosen at random.
#[test]
fn with_five_cards_the_search_agrees_with_all_trees() {
    let hands: u64 = if slow() { 40 } else { 1 };
    (0..hands).into_par_iter().for_each(|number| {
        let key = RandomKey::new(5, "hands").at(number);
        let ranks: Vec<u8> = (0..5).map(|card| 1 + key.below(card, 13) as u8).collect();
        let hand = Values::new(&ranks).unwrap();
        let all = by_value(&ranks.iter().map(|&rank| rank.into()).collect::<Vec<_>>());
        let step = if slow() { 1 } else { 13 };
        for target in (-41..40).step_by(step).chain([0, 24, 365, 100_000]) {
            let expected = all.get(&i64::from(target)).cloned().unwrap_or_default();
            let found = solutions(hand, target);
            assert!(found.iter().eq(expected.iter()), "{hand:?} to {target}: {} and {}", found.len(), expected.len());
            assert_eq!(is_solvable(hand, target), !expected.is_empty(), "{hand:?} to {target}");
            let one = find_solution(hand, target, key);
            assert!(
                one.as_ref().map_or(expected.is_empty(), |one| expected.contains(one)),
                "{hand:?} to {target}: {one:?}"
            );
        }
    });
}

/// Six cards: what the search finds has the value and the cards.
#[test]
fn with_six_cards_solutions_are_right() {
    for (ranks, target) in [([1, 2, 3, 4, 5, 6], 100), ([13, 13, 13, 13, 13, 13], 26), ([1, 1, 1, 1, 1, 1], 0)] {
        let hand = Values::new(&ranks).unwrap();
        let found = solutions(hand, target);
        assert!(!found.is_empty());
        for formula in found.iter().step_by(found.len().div_ceil(5000)) {
            assert_eq!(evaluate::<Rational>(formula), Ok(Rational::integer(target.into())), "{formula}");
            let mut used: Vec<u8> =
                formula.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
            used.sort_unstable();
            assert_eq!(used, hand.as_slice());
        }
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "in order, each once");
        for number in 0..20 {
            let one = find_solution(hand, target, RandomKey::new(number, "find")).unwrap();
            assert!(found.binary_search(&one).is_ok(), "{one}");
        }
    }
    let unreachable = Values::new(&[1, 1, 1, 1, 1, 2]).unwrap();
    assert!(!is_solvable(unreachable, 100) && solutions(unreachable, 100).is_empty());
    assert_eq!(find_solution(unreachable, 100, RandomKey::new(0, "find")), None);
}

#[test]
fn large_hands_are_dealt_played_and_shown() {
    for (num_cards, target) in [(5, 24), (6, 24), (6, 1000)] {
        let config = GeneralPointsConfig { num_cards, target, ..Default::default() }.rule_shifted();
        let mut game = GeneralPoints::new(config).unwrap();
        for index in 0..20 {
            let text = game.reset(3, index).unwrap().messages.remove(0).content;
            assert!(text.contains(["five cards.", "six cards."][num_cards - 5]), "{text}");
            let hand = *game.hand().unwrap();
            assert!(hand.cards().len() == num_cards && hand.cards().iter().any(|card| card.is_face()));
            assert!(SolutionTable::shared(target).is_solvable(hand.values()));
            let sum = hand.numbers().iter().map(u8::to_string).collect::<Vec<_>>().join("+");
            let wrong = game.step(&format!(r#"{{"formula": "{sum}={target}"}}"#)).unwrap();
            if !wrong.success {
                assert_eq!((wrong.outcome, wrong.reward), ("wrong_total", -1.0));
                let told = wrong.feedback.unwrap().content;
                assert!(told.contains(&format!("the formula does not equal {target}.")), "{told}");
                let answer = game.expert().unwrap();
                assert!(game.step(&answer).unwrap().success, "{answer}");
            }
            assert_eq!(game.info()["solutions"].as_array().unwrap().len(), 1);
        }
    }
}

#[test]
fn one_deck_deals_no_card_twice() {
    let refused = GeneralPointsConfig {
        suit_pool: SuitPool::Red,
        duplicates: Duplicates::Refused,
        max_rank: 6,
        ..GeneralPointsConfig::default()
    };
    let mut twice = 0;
    for duplicates in [Duplicates::Refused, Duplicates::Allowed] {
        let mut game = GeneralPoints::new(GeneralPointsConfig { duplicates, ..refused.clone() }).unwrap();
        for index in 0..300 {
            game.reset(2, index).unwrap();
            let cards: BTreeSet<String> = game.hand().unwrap().cards().iter().map(ToString::to_string).collect();
            match duplicates {
                Duplicates::Refused => assert_eq!(cards.len(), 4, "{cards:?}"),
                Duplicates::Allowed => twice += u32::from(cards.len() < 4),
            }
        }
    }
    assert!(20 < twice, "from whole decks of twelve cards the same comes twice often: {twice}");
    // Four sixes would need four suits.
    let impossible = GeneralPointsConfig { min_rank: 6, ..refused };
    assert!(matches!(GeneralPoints::new(impossible), Err(Error::Config { key: "target", .. })));
}
