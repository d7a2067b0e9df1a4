//! Tokens of a formula and their value, with normal precedence and left associativity.
//!
//! The evaluator keeps its own stack, so no formula is too deep for it. There is no unary minus: the game has none.

use super::rational::Rational;
use crate::error::EvaluationError;

/// A binary operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

impl Operator {
    /// The four operators.
    pub const ALL: [Operator; 4] = [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide];

    /// The character that stands for the operator.
    pub fn symbol(self) -> char {
        match self {
            Operator::Add => '+',
            Operator::Subtract => '-',
            Operator::Multiply => '*',
            Operator::Divide => '/',
        }
    }
}

/// One piece of a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    /// A maximal run of digits.
    Number(&'a str),
    /// `+ - * /`
    Operator(Operator),
    /// `(`
    Open,
    /// `)`
    Close,
    /// Any other character.
    Illegal(char),
}

/// The tokens of `formula` in order; nothing is skipped, a blank is illegal too.
pub fn tokens(formula: &str) -> Tokens<'_> {
    Tokens { formula, position: 0 }
}

/// Iterator made by [`tokens`].
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    formula: &'a str,
    position: usize,
}

impl Tokens<'_> {
    /// Bytes consumed so far, which is where the last token ended.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let bytes = self.formula.as_bytes();
        let (token, length) = match *bytes.get(self.position)? {
            b'0'..=b'9' => {
                let rest = &bytes[self.position..];
                let length = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
                (Token::Number(&self.formula[self.position..self.position + length]), length)
            }
            b'+' => (Token::Operator(Operator::Add), 1),
            b'-' => (Token::Operator(Operator::Subtract), 1),
            b'*' => (Token::Operator(Operator::Multiply), 1),
            b'/' => (Token::Operator(Operator::Divide), 1),
            b'(' => (Token::Open, 1),
            b')' => (Token::Close, 1),
            _ => {
                let other = self.formula[self.position..].chars().next()?;
                (Token::Illegal(other), other.len_utf8())
            }
        };
        self.position += length;
        Some(token)
    }
}

/// Arithmetic an [`Evaluator`] can work in: exact, or floating point for comparison with the published verifier.
pub trait Number: Copy {
    /// The number `value`.
    fn from_integer(value: i64) -> Self;
    /// `self operator other`; an error when there is no such value.
    fn apply(self, operator: Operator, other: Self) -> Result<Self, EvaluationError>;
}

impl Number for Rational {
    fn from_integer(value: i64) -> Self {
        Rational::integer(value)
    }

    fn apply(self, operator: Operator, other: Self) -> Result<Self, EvaluationError> {
        match operator {
            Operator::Add => self.checked_add(other),
            Operator::Subtract => self.checked_sub(other),
            Operator::Multiply => self.checked_mul(other),
            Operator::Divide => self.checked_div(other),
        }
    }
}

impl Number for f64 {
    fn from_integer(value: i64) -> Self {
        value as f64
    }

    fn apply(self, operator: Operator, other: Self) -> Result<Self, EvaluationError> {
        match operator {
            Operator::Add => Ok(self + other),
            Operator::Subtract => Ok(self - other),
            Operator::Multiply => Ok(self * other),
            Operator::Divide if other == 0.0 => Err(EvaluationError::DivisionByZero),
            Operator::Divide => Ok(self / other),
        }
    }
}

/// Evaluates an expression fed to it piece by piece.
#[derive(Debug, Clone)]
pub struct Evaluator<N> {
    level: Level<N>,
    outer: Vec<Level<N>>,
}

/// One bracket level: a sum waiting for `term`, itself a product waiting for a factor.
#[derive(Debug, Clone, Copy)]
struct Level<N> {
    sum: Option<(N, Operator)>,
    term: Option<N>,
    /// The `*` or `/` that waits for its right side.
    factor: Option<Operator>,
}

impl<N> Level<N> {
    const START: Level<N> = Level { sum: None, term: None, factor: None };

    fn expects_operand(&self) -> bool {
        self.term.is_none() || self.factor.is_some()
    }
}

impl<N: Number> Level<N> {
    fn total(self) -> Result<N, EvaluationError> {
        match (self.sum, self.term, self.factor) {
            (None, Some(term), None) => Ok(term),
            (Some((sum, operator)), Some(term), None) => sum.apply(operator, term),
            _ => Err(EvaluationError::Syntax),
        }
    }
}

impl<N: Number> Default for Evaluator<N> {
    fn default() -> Self {
        Evaluator { level: Level::START, outer: Vec::new() }
    }
}

impl<N: Number> Evaluator<N> {
    /// Forgets everything but its buffer.
    pub fn clear(&mut self) {
        self.level = Level::START;
        self.outer.clear();
    }

    /// A number, or the value of a closed bracket.
    ///
    /// # Errors
    /// When an operator was due, or the arithmetic fails.
    pub fn operand(&mut self, value: N) -> Result<(), EvaluationError> {
        let level = &mut self.level;
        level.term = Some(match (level.term, level.factor.take()) {
            (None, _) => value,
            (Some(term), Some(operator)) => term.apply(operator, value)?,
            (Some(_), None) => return Err(EvaluationError::Syntax),
        });
        Ok(())
    }

    /// An operator.
    ///
    /// # Errors
    /// When an operand was due, or the arithmetic fails.
    pub fn operator(&mut self, operator: Operator) -> Result<(), EvaluationError> {
        if self.level.expects_operand() {
            return Err(EvaluationError::Syntax);
        }
        match operator {
            Operator::Multiply | Operator::Divide => self.level.factor = Some(operator),
            Operator::Add | Operator::Subtract => {
                self.level = Level { sum: Some((self.level.total()?, operator)), term: None, factor: None };
            }
        }
        Ok(())
    }

    /// An opening bracket.
    ///
    /// # Errors
    /// When an operator was due.
    pub fn open(&mut self) -> Result<(), EvaluationError> {
        if !self.level.expects_operand() {
            return Err(EvaluationError::Syntax);
        }
        self.outer.push(std::mem::replace(&mut self.level, Level::START));
        Ok(())
    }

    /// A closing bracket.
    ///
    /// # Errors
    /// When an operand was due, no bracket is open, or the arithmetic fails.
    pub fn close(&mut self) -> Result<(), EvaluationError> {
        let value = self.level.total()?;
        self.level = self.outer.pop().ok_or(EvaluationError::Syntax)?;
        self.operand(value)
    }

    /// The value of all that was fed.
    ///
    /// # Errors
    /// When the expression is incomplete, or the arithmetic fails.
    pub fn finish(&self) -> Result<N, EvaluationError> {
        if self.outer.is_empty() { self.level.total() } else { Err(EvaluationError::Syntax) }
    }
}

/// The value of `formula`, a formula without `=`.
///
/// # Errors
/// When it is no expression, divides by zero, overflows, or writes a number with a leading zero.
pub fn evaluate<N: Number>(formula: &str) -> Result<N, EvaluationError> {
    let mut evaluator = Evaluator::<N>::default();
    for token in tokens(formula) {
        match token {
            Token::Number(digits) => {
                if digits.len() > 1 && digits.starts_with('0') {
                    return Err(EvaluationError::LeadingZero);
                }
                let value = digits.parse().map_err(|_| EvaluationError::Overflow)?;
                evaluator.operand(N::from_integer(value))?;
            }
            Token::Operator(operator) => evaluator.operator(operator)?,
            Token::Open => evaluator.open()?,
            Token::Close => evaluator.close()?,
            Token::Illegal(_) => return Err(EvaluationError::Syntax),
        }
    }
    evaluator.finish()
}
