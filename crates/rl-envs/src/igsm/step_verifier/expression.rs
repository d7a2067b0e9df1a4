//! Expressions of solution lines: parsing, substitution, evaluation. Depth and size are bounded by the text.

use std::collections::BTreeSet;

use crate::igsm::lexer::{Lexer, Token, Unexpected};

/// Deeper brackets than any solution has.
const MAX_DEPTH: usize = 16;

/// Terms with their signs, added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    terms: Vec<(bool, Vec<Factor>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Factor {
    Number(i128),
    Letter(u8),
    Group(Expression),
}

impl Expression {
    pub(super) fn parse(lexer: &mut Lexer<'_>) -> Result<Self, Unexpected> {
        Self::parse_nested(lexer, MAX_DEPTH)
    }

    fn parse_nested(lexer: &mut Lexer<'_>, depth: usize) -> Result<Self, Unexpected> {
        let mut terms = vec![(false, parse_term(lexer, depth)?)];
        loop {
            let negative = match lexer.peek() {
                Token::Sign(b'+') => false,
                Token::Sign(b'-') => true,
                _ => return Ok(Expression { terms }),
            };
            lexer.take();
            terms.push((negative, parse_term(lexer, depth)?));
        }
    }

    /// The number it is, if it is nothing else.
    pub(super) fn as_number(&self) -> Option<i128> {
        match self.terms.as_slice() {
            [(false, factors)] => match factors.as_slice() {
                [Factor::Number(number)] => Some(*number),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn letters(&self) -> BTreeSet<u8> {
        let mut letters = BTreeSet::new();
        self.collect_letters(&mut letters);
        letters
    }

    fn collect_letters(&self, letters: &mut BTreeSet<u8>) {
        for factor in self.terms.iter().flat_map(|(_, factors)| factors) {
            match factor {
                Factor::Number(_) => {}
                Factor::Letter(letter) => {
                    letters.insert(*letter);
                }
                Factor::Group(inner) => inner.collect_letters(letters),
            }
        }
    }

    /// The expression with numbers for letters; `None` if one has none.
    pub(super) fn substitute(&self, value: &impl Fn(u8) -> Option<i128>) -> Option<Expression> {
        let mut terms = Vec::with_capacity(self.terms.len());
        for (negative, factors) in &self.terms {
            let mut replaced = Vec::with_capacity(factors.len());
            for factor in factors {
                replaced.push(match factor {
                    Factor::Number(number) => Factor::Number(*number),
                    Factor::Letter(letter) => Factor::Number(value(*letter)?),
                    Factor::Group(inner) => Factor::Group(inner.substitute(value)?),
                });
            }
            terms.push((*negative, replaced));
        }
        Some(Expression { terms })
    }

    /// Its value; `None` if a letter has none or a result does not fit 128 bits.
    pub(super) fn evaluate(&self, value: &impl Fn(u8) -> Option<i128>) -> Option<i128> {
        let mut sum = 0_i128;
        for (negative, factors) in &self.terms {
            let mut product = 1_i128;
            for factor in factors {
                let factor = match factor {
                    Factor::Number(number) => *number,
                    Factor::Letter(letter) => value(*letter)?,
                    Factor::Group(inner) => inner.evaluate(value)?,
                };
                product = product.checked_mul(factor)?;
            }
            sum = if *negative { sum.checked_sub(product)? } else { sum.checked_add(product)? };
        }
        Some(sum)
    }
}

fn parse_term(lexer: &mut Lexer<'_>, depth: usize) -> Result<Vec<Factor>, Unexpected> {
    let mut factors = vec![parse_factor(lexer, depth)?];
    while lexer.take_sign(b'*') {
        factors.push(parse_factor(lexer, depth)?);
    }
    Ok(factors)
}

fn parse_factor(lexer: &mut Lexer<'_>, depth: usize) -> Result<Factor, Unexpected> {
    match lexer.peek() {
        Token::Number(number) => {
            lexer.take();
            Ok(Factor::Number(number))
        }
        Token::Letter(letter) => {
            lexer.take();
            Ok(Factor::Letter(letter))
        }
        Token::Sign(b'(') if 0 < depth => {
            lexer.take();
            let inner = Expression::parse_nested(lexer, depth - 1)?;
            lexer.sign(b')', "a closing bracket")?;
            Ok(Factor::Group(inner))
        }
        _ => lexer.unexpected("a number, a letter or an opening bracket"),
    }
}
