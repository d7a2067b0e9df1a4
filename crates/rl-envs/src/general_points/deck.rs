//! Cards, and dealing a solvable hand as a pure function of (seed, index).

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::config::GeneralPointsConfig;
use super::table::{SolutionTable, Values};
use crate::error::{Error, Result, ensure};

/// Rank of the king.
pub const MAX_RANK: u8 = 13;
/// Rank of the jack, the first face card.
pub const FACE_RANK: u8 = 11;

/// Hands drawn before giving up. With one solvable hand in 28561 the chance of getting here is below 1e-60.
const MAX_DRAWS: u64 = 1 << 22;

/// Hands that a new deck looks at before it asks all cores for help.
const TRIED_FIRST: usize = 256;

/// Random positions set aside for one draw.
const POSITIONS_PER_DRAW: u64 = 16;
/// Where in a draw the place and the rank of a forced face card come from.
const FACE_POSITION: u64 = 8;

/// What a face card counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaceRule {
    /// Jack, queen and king count 10.
    Ten,
    /// They count 11, 12 and 13.
    Rank,
}

/// Suits that are dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuitPool {
    /// Hearts, spades, diamonds, clubs.
    Mixed,
    /// Hearts and diamonds.
    Red,
    /// Spades and clubs.
    Black,
}

/// Whether a hand may hold the same card, rank and suit, twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Every card is drawn from a whole deck, as published.
    Allowed,
    /// Cards are drawn from one deck: hands with the same card twice are redrawn.
    Refused,
}

impl SuitPool {
    fn letters(self) -> &'static [char] {
        match self {
            SuitPool::Mixed => &['H', 'S', 'D', 'C'],
            SuitPool::Red => &['H', 'D'],
            SuitPool::Black => &['S', 'C'],
        }
    }
}

/// A playing card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Card {
    suit: char,
    rank: u8,
}

impl Card {
    /// Suit letter: H, S, D or C.
    pub fn suit(self) -> char {
        self.suit
    }

    /// 1 (ace) to 13 (king).
    pub fn rank(self) -> u8 {
        self.rank
    }

    /// The rank as the prompt shows it: A, 2 to 10, J, Q or K.
    pub fn plain(self) -> &'static str {
        Self::plain_of(self.rank)
    }

    /// The plain form of a rank from 1 to 13.
    pub(super) fn plain_of(rank: u8) -> &'static str {
        const PLAIN: [&str; 14] = ["", "A", "2", "3", "4", "5", "6", "7", "8", "9", "10", "J", "Q", "K"];
        PLAIN[usize::from(rank)]
    }

    /// What the card counts; an ace is always 1.
    pub fn value(self, rule: FaceRule) -> u8 {
        rank_value(self.rank, rule)
    }

    /// Whether it is a jack, queen or king.
    pub fn is_face(self) -> bool {
        self.rank >= FACE_RANK
    }
}

/// The code of the card: suit letter and rank symbol, such as `HT` for the ten of hearts.
impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.suit, if self.rank == 10 { "T" } else { self.plain() })
    }
}

/// What a card of `rank` counts under `rule`.
pub fn rank_value(rank: u8, rule: FaceRule) -> u8 {
    match rule {
        FaceRule::Ten => rank.min(10),
        FaceRule::Rank => rank,
    }
}

/// Dealt cards in dealt order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hand {
    cards: [Card; Values::MAX_CARDS],
    values: [u8; Values::MAX_CARDS],
    sorted: Values,
}

impl Hand {
    /// The cards, as dealt.
    pub fn cards(&self) -> &[Card] {
        &self.cards[..self.sorted.as_slice().len()]
    }

    /// What each card counts, in dealt order.
    pub fn numbers(&self) -> &[u8] {
        &self.values[..self.sorted.as_slice().len()]
    }

    /// What the cards count, as a multiset.
    pub fn values(&self) -> Values {
        self.sorted
    }
}

/// Deals hands that have a solution.
#[derive(Debug, Clone)]
pub struct Deck {
    num_cards: usize,
    min_rank: u8,
    max_rank: u8,
    force_face: bool,
    rule: FaceRule,
    suits: &'static [char],
    duplicates: Duplicates,
    table: Arc<SolutionTable>,
}

impl Deck {
    /// The deck of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range or no hand it could deal reaches the target.
    pub fn new(config: &GeneralPointsConfig) -> Result<Self> {
        config.validate()?;
        let deck = Deck {
            num_cards: config.num_cards,
            min_rank: config.min_rank,
            max_rank: config.max_rank,
            force_face: config.ood,
            rule: config.face_rule(),
            suits: config.suit_pool.letters(),
            duplicates: config.duplicates,
            table: SolutionTable::shared(config.target),
        };
        let hands = Values::all(deck.num_cards, deck.min_rank, deck.max_rank)?;
        let is_dealt = |ranks: &Values| {
            let ranks = ranks.as_slice();
            let too_many = |run: &[u8]| deck.suits.len() < run.len();
            let refused = deck.duplicates == Duplicates::Refused && ranks.chunk_by(|a, b| a == b).any(too_many);
            !refused
                && (!deck.force_face || ranks.iter().any(|&rank| rank >= FACE_RANK))
                && Values::new(&ranks.iter().map(|&rank| rank_value(rank, deck.rule)).collect::<Vec<_>>())
                    .is_ok_and(|values| deck.table.is_solvable(values))
        };
        // Nearly always one of the first will do; with a target that nothing reaches, six cards take minutes.
        let (first, others) = hands.split_at(hands.len().min(TRIED_FIRST));
        let deals_something = first.iter().any(is_dealt) || others.par_iter().any(is_dealt);
        ensure(
            deals_something,
            "target",
            config.target,
            format!(
                "no hand of {} cards of ranks {} to {}{} reaches it; choose another target or more cards",
                config.num_cards,
                config.min_rank,
                config.max_rank,
                if config.ood { " with a face card" } else { "" },
            ),
        )?;
        Ok(deck)
    }

    /// The solutions of the hands it deals.
    pub fn table(&self) -> &Arc<SolutionTable> {
        &self.table
    }

    /// The hand of episode (`seed`, `index`): ranks uniform with replacement, redrawn until solvable.
    ///
    /// # Errors
    /// [`Error::NoSolvableHand`] when none comes up, which a deck that could be built practically excludes.
    pub fn deal(&self, seed: u64, index: u64) -> Result<Hand> {
        let cards = RandomKey::new(seed, "general_points/cards").at(index);
        for draw in 0..MAX_DRAWS {
            let ranks = self.draw_ranks(cards, draw * POSITIONS_PER_DRAW);
            let values = ranks.map(|rank| rank_value(rank, self.rule));
            let sorted = Values::new(&values[..self.num_cards])?;
            if self.table.is_solvable(sorted) {
                let cards = match self.duplicates {
                    Duplicates::Allowed => self.dress(ranks, seed, index, 0),
                    // A refused hand takes its suits with it, so that all hands without duplicates stay equally likely.
                    Duplicates::Refused => self.dress(ranks, seed, index, draw * POSITIONS_PER_DRAW),
                };
                let dealt = &cards[..self.num_cards];
                let is_twice = |place: usize| dealt[..place].contains(&dealt[place]);
                if self.duplicates == Duplicates::Allowed || !(1..self.num_cards).any(is_twice) {
                    return Ok(Hand { cards, values, sorted });
                }
            }
        }
        Err(Error::NoSolvableHand { seed, index, draws: MAX_DRAWS })
    }

    /// Ranks of one draw, `[num_cards]` followed by unused zeros.
    fn draw_ranks(&self, key: RandomKey, position: u64) -> [u8; Values::MAX_CARDS] {
        let uniform = |position, low: u8| low + key.below(position, u64::from(self.max_rank - low) + 1) as u8;
        let mut ranks = [0; Values::MAX_CARDS];
        for (card, rank) in ranks[..self.num_cards].iter_mut().enumerate() {
            *rank = uniform(position + card as u64, self.min_rank);
        }
        if self.force_face {
            // One more face card put in a uniform place is the same as shuffling exchangeable cards with it.
            let place = key.below(position + FACE_POSITION, self.num_cards as u64) as usize;
            ranks[place] = uniform(position + FACE_POSITION + 1, self.min_rank.max(FACE_RANK));
        }
        ranks
    }

    /// Suits come from a stream of their own, from `position` on.
    fn dress(&self, ranks: [u8; Values::MAX_CARDS], seed: u64, index: u64, position: u64) -> [Card; Values::MAX_CARDS] {
        let key = RandomKey::new(seed, "general_points/suits").at(index);
        let mut cards = [Card { suit: 'H', rank: 0 }; Values::MAX_CARDS];
        for (position, (card, &rank)) in (position..).zip(cards.iter_mut().zip(&ranks[..self.num_cards])) {
            *card = Card { suit: self.suits[key.below(position, self.suits.len() as u64) as usize], rank };
        }
        cards
    }
}
