//! Counts over all hands, and what the deck deals.

use std::collections::{HashMap, HashSet};

use num_rational::Ratio;
use proptest::prelude::*;
use rayon::prelude::*;
use rl_envs::general_points::deck::{FACE_RANK, rank_value};
use rl_envs::general_points::expression::evaluate;
use rl_envs::general_points::table::{SolutionTable, Values};
use rl_envs::general_points::{Deck, FaceRule, GeneralPointsConfig, SuitPool, Verifier, solver};

fn values(ranks: &[u8], rule: FaceRule) -> Values {
    Values::new(&ranks.iter().map(|&rank| rank_value(rank, rule)).collect::<Vec<_>>()).unwrap()
}

/// Orders of a multiset: n! over the factorials of the multiplicities.
fn num_orders(ranks: &[u8]) -> usize {
    let mut orders = (1..=ranks.len()).product::<usize>();
    for rank in 1..=13 {
        orders /= (1..=ranks.iter().filter(|&&other| other == rank).count()).product::<usize>();
    }
    orders
}

#[test]
fn solvable_hands_match_the_published_counts() {
    let table = SolutionTable::shared(24);
    let hands = Values::all(4, 1, 13).unwrap();
    assert_eq!(hands.len(), 1820);
    for (rule, multisets, ordered, ordered_with_face, value_multisets) in
        [(FaceRule::Ten, 1236, 20876, 12318, (566, 715)), (FaceRule::Rank, 1362, 22615, 14057, (1362, 1820))]
    {
        let solvable: Vec<&[u8]> =
            hands.iter().map(Values::as_slice).filter(|ranks| table.is_solvable(values(ranks, rule))).collect();
        let with_face = solvable.iter().filter(|ranks| ranks.iter().any(|&rank| rank >= FACE_RANK));
        assert_eq!(solvable.len(), multisets, "{rule:?}");
        assert_eq!(solvable.iter().map(|ranks| num_orders(ranks)).sum::<usize>(), ordered, "{rule:?}");
        assert_eq!(with_face.map(|ranks| num_orders(ranks)).sum::<usize>(), ordered_with_face, "{rule:?}");

        let all: HashSet<Values> = hands.iter().map(|ranks| values(ranks.as_slice(), rule)).collect();
        let reachable = all.iter().filter(|&&hand| table.is_solvable(hand)).count();
        assert_eq!((reachable, all.len()), value_multisets, "{rule:?}");
    }
    assert_eq!(hands.iter().map(|ranks| num_orders(ranks.as_slice())).sum::<usize>(), 28561);
}

#[test]
fn solution_strings_match_the_published_counts() {
    let table = SolutionTable::shared(24);
    for (high, strings, missed_by_floats) in [(10, 27_387, 68), (13, 72_287, 113)] {
        let (count, missed) = Values::all(4, 1, high)
            .unwrap()
            .par_iter()
            .map(|&hand| {
                let solutions = table.solutions(hand);
                assert_eq!(!solutions.is_empty(), table.is_solvable(hand), "{hand:?}");
                let missed = solutions.iter().filter(|text| evaluate::<f64>(text) != Ok(24.0)).count();
                (solutions.len(), missed)
            })
            .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        assert_eq!((count, missed), (strings, missed_by_floats), "values up to {high}");
    }
}

#[test]
fn the_verifier_accepts_every_listed_solution() {
    let verifier = Verifier::new(&GeneralPointsConfig::default()).unwrap();
    let table = SolutionTable::shared(24);
    let graded: usize = Values::all(4, 1, 13)
        .unwrap()
        .par_iter()
        .map(|&hand| {
            let solutions = table.solutions(hand);
            for solution in solutions.iter() {
                let verdict = verifier.grade(Some(solution), hand);
                assert!(verdict.success && verdict.reward == 5.0, "{solution} for {hand:?}: {verdict:?}");
            }
            solutions.len()
        })
        .sum();
    assert_eq!(graded, 72_287);
}

#[test]
fn solutions_match_python() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../golden/general_points.json")).unwrap();
    let cases = golden["solutions"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    for case in cases {
        let numbers: Vec<u8> = serde_json::from_value(case["values"].clone()).unwrap();
        let expected: Vec<String> = serde_json::from_value(case["solutions"].clone()).unwrap();
        let target = case["target"].as_i64().unwrap() as i32;
        assert_eq!(solver::solutions(Values::new(&numbers).unwrap(), target), expected, "{numbers:?} to {target}");
    }
    for (numbers, count) in [([1, 2, 3, 4], 314), ([6, 6, 6, 6], 12), ([3, 3, 8, 8], 1), ([1, 5, 5, 5], 2)] {
        assert_eq!(SolutionTable::shared(24).solutions(Values::new(&numbers).unwrap()).len(), count, "{numbers:?}");
    }
}

#[test]
fn small_games_match_python() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../golden/general_points.json")).unwrap();
    let cases = golden["small_games"].as_array().unwrap();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let table = SolutionTable::shared(case["target"].as_i64().unwrap() as i32);
        let rule = if case["treat_face_cards_as_10"] == true { FaceRule::Ten } else { FaceRule::Rank };
        let mut found = [HashSet::new(), HashSet::new()];
        for ranks in Values::all(case["num_cards"].as_u64().unwrap() as usize, 1, 13).unwrap() {
            let hand = values(ranks.as_slice(), rule);
            if table.is_solvable(hand) {
                found[usize::from(ranks.as_slice().iter().any(|&rank| rank >= FACE_RANK))].insert(hand);
            }
        }
        assert_eq!(found[0].len() as u64, case["without_face"], "{case}");
        assert_eq!(found[1].len() as u64, case["with_face"], "{case}");
        assert_eq!(found[0].union(&found[1]).count() as u64, case["all"], "{case}");
    }
}

/// Values of all expression trees over `numbers`, by splitting the multiset in two.
fn reachable(numbers: &[Ratio<i64>]) -> HashSet<Ratio<i64>> {
    if let &[number] = numbers {
        return HashSet::from([number]);
    }
    let mut found = HashSet::new();
    for mask in 1..(1_usize << numbers.len()) - 1 {
        let side = |bit| -> Vec<Ratio<i64>> {
            numbers.iter().enumerate().filter(|(i, _)| mask >> i & 1 == bit).map(|(_, &number)| number).collect()
        };
        for &a in &reachable(&side(1)) {
            for &b in &reachable(&side(0)) {
                found.extend([a + b, a - b, a * b]);
                if b != Ratio::from(0) {
                    found.insert(a / b);
                }
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Both solvers agree with splitting the multiset, on many targets per hand.
    #[test]
    fn solvability_matches_brute_force(hand in prop::collection::vec(1_u8..=13, 1..=4), offset in -40_i32..40) {
        let numbers: Vec<Ratio<i64>> = hand.iter().map(|&value| Ratio::from(i64::from(value))).collect();
        let reached = reachable(&numbers);
        let hand = Values::new(&hand).unwrap();
        for target in [offset, offset + 24, offset * 7] {
            let expected = reached.contains(&Ratio::from(i64::from(target)));
            prop_assert_eq!(solver::is_solvable(hand, target), expected, "{:?} to {}", hand, target);
            prop_assert_eq!(!solver::solutions(hand, target).is_empty(), expected, "{:?} to {}", hand, target);
        }
    }
}

#[test]
fn a_hand_depends_on_seed_and_index_alone() {
    let config = GeneralPointsConfig::default();
    let deck = Deck::new(&config).unwrap();
    let forward: Vec<_> = (0..500).map(|index| deck.deal(42, index).unwrap()).collect();
    let other = Deck::new(&config).unwrap();
    let backward: Vec<_> = (0..500).rev().map(|index| other.deal(42, index).unwrap()).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    assert_ne!(forward[0], forward[1]);
    assert_ne!(forward, (0..500).map(|index| deck.deal(43, index).unwrap()).collect::<Vec<_>>());

    // Suits come from a stream of their own, so another pool deals the same ranks.
    let red = Deck::new(&GeneralPointsConfig { suit_pool: SuitPool::Red, ..config }).unwrap();
    for (index, hand) in forward.iter().enumerate() {
        let dealt = red.deal(42, index as u64).unwrap();
        assert_eq!(dealt.numbers(), hand.numbers());
        assert!(dealt.cards().iter().all(|card| matches!(card.suit(), 'H' | 'D')));
        assert!(dealt.cards().iter().zip(hand.cards()).all(|(a, b)| a.rank() == b.rank()));
    }
}

/// Solvable ordered hands are dealt uniformly: a chi-square test over the number of face cards.
#[test]
fn dealt_hands_are_uniform_over_solvable_ones() {
    const HANDS: u64 = 40_000;
    /// 99.9 % quantile of chi-square with 4 degrees of freedom.
    const CHI_SQUARE_LIMIT: f64 = 18.467;
    let deck = Deck::new(&GeneralPointsConfig::default()).unwrap();
    let mut observed = [0_f64; 5];
    for index in 0..HANDS {
        let hand = deck.deal(7, index).unwrap();
        observed[hand.cards().iter().filter(|card| card.is_face()).count()] += 1.0;
    }
    let mut weight = [0_f64; 5];
    for ranks in Values::all(4, 1, 13).unwrap() {
        let ranks = ranks.as_slice();
        if deck.table().is_solvable(values(ranks, FaceRule::Ten)) {
            weight[ranks.iter().filter(|&&rank| rank >= FACE_RANK).count()] += num_orders(ranks) as f64;
        }
    }
    let total: f64 = weight.iter().sum();
    let chi_square: f64 = observed
        .iter()
        .zip(weight)
        .map(|(observed, weight)| (observed, HANDS as f64 * weight / total))
        // Four face cards under this rule are all tens, which reach nothing.
        .filter(|&(_, expected)| expected > 0.0)
        .map(|(observed, expected)| (observed - expected).powi(2) / expected)
        .sum();
    assert!(chi_square < CHI_SQUARE_LIMIT, "chi-square {chi_square}");
}

#[test]
fn out_of_distribution_hands_hold_a_face_card_in_any_place() {
    let config = GeneralPointsConfig::default().rule_shifted();
    let deck = Deck::new(&config).unwrap();
    let mut places: HashMap<usize, u32> = HashMap::new();
    for index in 0..2000 {
        let hand = deck.deal(1, index).unwrap();
        let faces: Vec<usize> = (0..4).filter(|&place| hand.cards()[place].is_face()).collect();
        assert!(!faces.is_empty());
        if let [only] = faces[..] {
            *places.entry(only).or_default() += 1;
        }
        assert_eq!(hand.numbers(), hand.cards().iter().map(|card| card.rank()).collect::<Vec<_>>());
    }
    assert!((0..4).all(|place| places[&place] > 150), "{places:?}");
}
