//! Exact fractions of 64-bit integers. Every operation is checked: a value that does not fit is an error.

use crate::error::EvaluationError;

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i64,
    denominator: i64,
}

impl Rational {
    /// Zero.
    pub const ZERO: Rational = Rational::integer(0);

    /// `value / 1`.
    pub const fn integer(value: i64) -> Self {
        Rational { numerator: value, denominator: 1 }
    }

    /// `numerator / denominator` in lowest terms.
    ///
    /// # Errors
    /// When the denominator is zero or the reduced parts do not fit.
    pub fn new(numerator: i64, denominator: i64) -> Result<Self, EvaluationError> {
        reduce(i128::from(numerator), i128::from(denominator))
    }

    /// Part above the line, in lowest terms.
    pub fn numerator(self) -> i64 {
        self.numerator
    }

    /// Part below the line, positive.
    pub fn denominator(self) -> i64 {
        self.denominator
    }

    /// `self + other`.
    ///
    /// # Errors
    /// On overflow.
    pub fn checked_add(self, other: Self) -> Result<Self, EvaluationError> {
        if self.denominator == 1 && other.denominator == 1 {
            return integer_or_overflow(self.numerator.checked_add(other.numerator));
        }
        let (a, b, c, d) = self.wide(other);
        // |a|, |c| <= 2^63 and b, d < 2^63, so the sum of the two products stays within 2^127.
        reduce(a * d + c * b, b * d)
    }

    /// `self - other`.
    ///
    /// # Errors
    /// On overflow.
    pub fn checked_sub(self, other: Self) -> Result<Self, EvaluationError> {
        if self.denominator == 1 && other.denominator == 1 {
            return integer_or_overflow(self.numerator.checked_sub(other.numerator));
        }
        let (a, b, c, d) = self.wide(other);
        reduce(a * d - c * b, b * d)
    }

    /// `self * other`.
    ///
    /// # Errors
    /// On overflow.
    pub fn checked_mul(self, other: Self) -> Result<Self, EvaluationError> {
        if self.denominator == 1 && other.denominator == 1 {
            return integer_or_overflow(self.numerator.checked_mul(other.numerator));
        }
        let (a, b, c, d) = self.wide(other);
        reduce(a * c, b * d)
    }

    /// `self / other`.
    ///
    /// # Errors
    /// On division by zero and on overflow.
    pub fn checked_div(self, other: Self) -> Result<Self, EvaluationError> {
        let (a, b, c, d) = self.wide(other);
        reduce(a * d, b * c)
    }

    fn wide(self, other: Self) -> (i128, i128, i128, i128) {
        (self.numerator.into(), self.denominator.into(), other.numerator.into(), other.denominator.into())
    }
}

fn integer_or_overflow(value: Option<i64>) -> Result<Rational, EvaluationError> {
    value.map(Rational::integer).ok_or(EvaluationError::Overflow)
}

fn reduce(numerator: i128, denominator: i128) -> Result<Rational, EvaluationError> {
    if denominator == 0 {
        return Err(EvaluationError::DivisionByZero);
    }
    let magnitudes = (numerator.unsigned_abs(), denominator.unsigned_abs());
    let divisor = match (u64::try_from(magnitudes.0), u64::try_from(magnitudes.1)) {
        // 64-bit division is many times faster than 128-bit, and cards never need more.
        (Ok(a), Ok(b)) => u128::from(gcd_u64(a, b)),
        _ => gcd_u128(magnitudes.0, magnitudes.1),
    };
    // A divisor of 1 is the common case and saves two 128-bit divisions.
    let (above, below) = if divisor == 1 { magnitudes } else { (magnitudes.0 / divisor, magnitudes.1 / divisor) };
    let negative = (numerator < 0) != (denominator < 0);
    let above = i128::try_from(above).map_err(|_| EvaluationError::Overflow)?;
    Ok(Rational {
        numerator: i64::try_from(if negative { -above } else { above }).map_err(|_| EvaluationError::Overflow)?,
        denominator: i64::try_from(below).map_err(|_| EvaluationError::Overflow)?,
    })
}

fn gcd_u64(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn gcd_u128(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
