//! Practice text: arithmetic, the reading of cards, second attempts; for models that are trained from scratch.
//!
//! A pretrained model brings these skills along. A tiny one learns them here.

use rl_core::random::RandomKey;

use super::answer::render_answer;
use super::config::GeneralPointsConfig;
use super::deck::{Deck, FaceRule};
use super::env::GeneralPoints;
use super::expert::expert_example;
use super::expression::evaluate;
use super::prompt::compact_rule;
use super::rational::Rational;
use crate::environment::{Environment, Message};
use crate::error::Result;

/// Largest result of an arithmetic row; larger ones are redrawn.
const MAX_RESULT: i64 = 99;
/// Most redraws of one arithmetic row before the plain sum is taken, which always fits.
const MAX_DRAWS: u64 = 64;
const OPERATORS: [char; 4] = ['+', '-', '*', '/'];

/// A formula over `num_operands` numbers of 1 to 13 and its value, both as text: "(3+5)*2=" and "16".
///
/// Values are whole and from 0 to 99, so that every answer is short.
pub fn arithmetic(seed: u64, index: u64, num_operands: usize) -> [Message; 2] {
    let key = RandomKey::new(seed, "general_points/arithmetic").at(index);
    for draw in 0..MAX_DRAWS {
        let key = key.at(draw);
        let numbers: Vec<u64> = (0..num_operands as u64).map(|position| 1 + key.below(position, 13)).collect();
        let bracket = key.below(100, num_operands as u64 + 1) as usize;
        let mut formula = String::new();
        for (position, number) in numbers.iter().enumerate() {
            if position != 0 {
                formula.push(OPERATORS[key.below(200 + position as u64, 4) as usize]);
            }
            // A pair of brackets around two neighbours, or none.
            let opens = position == bracket && position + 1 < num_operands && 2 < num_operands;
            let closes = position == bracket + 1 && 2 < num_operands;
            let (open, close) = (if opens { "(" } else { "" }, if closes { ")" } else { "" });
            formula.push_str(&format!("{open}{number}{close}"));
        }
        if let Ok(value) = evaluate::<Rational>(&formula)
            && value.denominator() == 1
            && (0..=MAX_RESULT).contains(&value.numerator())
        {
            return [Message::user(format!("{formula}=")), Message::assistant(value.numerator().to_string())];
        }
    }
    let numbers: Vec<u64> = (0..num_operands as u64).map(|position| 1 + key.below(position, 13)).collect();
    let terms: Vec<String> = numbers.iter().map(u64::to_string).collect();
    [Message::user(format!("{}=", terms.join("+"))), Message::assistant(numbers.iter().sum::<u64>().to_string())]
}

/// The cards of episode (`seed`, `index`) and what each counts under the deck's rule.
///
/// # Errors
/// When the hand cannot be dealt.
pub fn card_values(deck: &Deck, rule: FaceRule, seed: u64, index: u64) -> Result<[Message; 2]> {
    let hand = deck.deal(seed, index)?;
    let cards: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
    let numbers: Vec<String> = hand.numbers().iter().map(u8::to_string).collect();
    let question = format!("Cards: {}. {} Their numbers?", cards.join(","), compact_rule(rule));
    Ok([Message::user(question), Message::assistant(numbers.join(","))])
}

/// A failed attempt, the verifier's word on it, and a right answer: how a second attempt looks.
///
/// The failed formula uses the hand's own numbers, so that it fails by its total. Only the last turn is one to learn from.
///
/// # Errors
/// When the hand cannot be dealt.
pub fn retry(config: &GeneralPointsConfig, seed: u64, index: u64) -> Result<Vec<Message>> {
    let mut game = GeneralPoints::new(GeneralPointsConfig { max_attempts: 2, ..config.clone() })?;
    let mut messages = game.reset(seed, index)?.messages;
    let Some(hand) = game.hand().copied() else { return Ok(messages) };
    let cards: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
    let key = RandomKey::new(seed, "general_points/retry").at(index);
    for draw in 0..MAX_DRAWS {
        let key = key.at(draw);
        let mut numbers = hand.numbers().to_vec();
        key.shuffle(&mut numbers);
        let mut formula = String::new();
        for (position, number) in numbers.iter().enumerate() {
            if position != 0 {
                formula.push(OPERATORS[key.below(200 + position as u64, 4) as usize]);
            }
            formula.push_str(&number.to_string());
        }
        let answer = render_answer(config.template, &cards, hand.numbers(), &formula, config.target);
        game.reset(seed, index)?;
        if let Some(feedback) = game.step(&answer)?.feedback {
            messages.extend([Message::assistant(answer), feedback]);
            break;
        }
    }
    messages.extend(expert_example(config, seed, index)?.messages.pop());
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_right_and_a_function_of_the_index() {
        for index in 0..500 {
            let [question, answer] = arithmetic(3, index, 3);
            let value: Rational = evaluate(question.content.trim_end_matches('=')).unwrap();
            assert_eq!(value.numerator().to_string(), answer.content, "{}", question.content);
            assert_eq!(arithmetic(3, index, 3), [question, answer]);
        }
    }

    #[test]
    fn a_retry_fails_once_and_then_succeeds() {
        let config = GeneralPointsConfig { num_cards: 3, ..GeneralPointsConfig::default() };
        for index in 0..50 {
            let messages = retry(&config, 1, index).unwrap();
            assert_eq!(messages.len(), 4, "{messages:?}");
            let mut game = GeneralPoints::new(config.clone()).unwrap();
            game.reset(1, index).unwrap();
            assert_eq!(game.step(&messages[1].content).unwrap().feedback.as_ref(), Some(&messages[2]));
            assert!(game.step(&messages[3].content).unwrap().success);
        }
    }

    #[test]
    fn card_values_follow_the_rule() {
        let config = GeneralPointsConfig { ood: true, ..GeneralPointsConfig::default() };
        for (ten, rule) in [(true, FaceRule::Ten), (false, FaceRule::Rank)] {
            let deck = Deck::new(&GeneralPointsConfig { treat_face_cards_as_10: ten, ..config.clone() }).unwrap();
            let [question, answer] = card_values(&deck, rule, 1, 0).unwrap();
            let cards = question.content.trim_start_matches("Cards: ").split('.').next().unwrap();
            for (card, number) in cards.split(',').zip(answer.content.split(',')) {
                let expected = match (card, ten) {
                    ("J" | "Q" | "K", true) => "10",
                    ("J", false) => "11",
                    ("Q", false) => "12",
                    ("K", false) => "13",
                    ("A", _) => "1",
                    (other, _) => other,
                };
                assert_eq!(number, expected, "{}", question.content);
            }
        }
    }
}
