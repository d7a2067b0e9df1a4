//! Quantities and definitions as the text names them, apart from any graph: what the parser reads.

use super::parameter::Parameter;
use super::problem::{Definition, Operator, Problem, Shape};
use super::vocabulary::Thing;

/// "the `thing` count of one `container`".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// An item of the layer below the container, or a category of a lower layer.
    pub thing: Thing,
    /// The container, an item.
    pub container: Thing,
}

/// The right side of a condition, over quantities named by `R`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Formula<R> {
    /// A number.
    Constant(i128),
    /// Quantities alone.
    Plain(Base<R>),
    /// A number and quantities.
    Joined(i128, Operator, Base<R>),
}

/// How the quantities of a formula are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base<R> {
    /// A copy.
    Single(R),
    /// All added; two or more.
    Sum(Vec<R>),
    /// The first minus the second.
    Gap(R, R),
}

impl<R> Base<R> {
    /// The quantities in the order of the text.
    pub fn operands(&self) -> Vec<&R> {
        match self {
            Base::Single(only) => vec![only],
            Base::Sum(all) => all.iter().collect(),
            Base::Gap(first, second) => vec![first, second],
        }
    }

    fn try_map<S, E>(&self, mut name: impl FnMut(&R) -> Result<S, E>) -> Result<Base<S>, E> {
        Ok(match self {
            Base::Single(only) => Base::Single(name(only)?),
            Base::Sum(all) => Base::Sum(all.iter().map(name).collect::<Result<_, E>>()?),
            Base::Gap(first, second) => Base::Gap(name(first)?, name(second)?),
        })
    }

    fn evaluate(&self, value: &mut impl FnMut(&R) -> Option<i128>) -> Option<i128> {
        match self {
            Base::Single(only) => value(only),
            Base::Sum(all) => {
                let mut sum = 0_i128;
                for operand in all {
                    sum = sum.checked_add(value(operand)?)?;
                }
                Some(sum)
            }
            Base::Gap(first, second) => value(first)?.checked_sub(value(second)?),
        }
    }
}

impl<R> Formula<R> {
    /// The quantities in the order of the text.
    pub fn operands(&self) -> Vec<&R> {
        match self {
            Formula::Constant(_) => Vec::new(),
            Formula::Plain(base) | Formula::Joined(_, _, base) => base.operands(),
        }
    }

    /// The same formula over other names.
    ///
    /// # Errors
    /// The first error of `name`.
    pub fn try_map<S, E>(&self, name: impl FnMut(&R) -> Result<S, E>) -> Result<Formula<S>, E> {
        Ok(match self {
            Formula::Constant(number) => Formula::Constant(*number),
            Formula::Plain(base) => Formula::Plain(base.try_map(name)?),
            Formula::Joined(number, operator, base) => Formula::Joined(*number, *operator, base.try_map(name)?),
        })
    }

    /// Its value where `value` gives those of the quantities; `None` if one is missing or a result does not fit 128 bits.
    pub fn evaluate(&self, mut value: impl FnMut(&R) -> Option<i128>) -> Option<i128> {
        match self {
            Formula::Constant(number) => Some(*number),
            Formula::Plain(base) => base.evaluate(&mut value),
            Formula::Joined(number, Operator::Plus, base) => number.checked_add(base.evaluate(&mut value)?),
            Formula::Joined(number, Operator::Times, base) => number.checked_mul(base.evaluate(&mut value)?),
        }
    }
}

impl Problem {
    /// The definition of an instance parameter as the text gives it; `None` for an abstract one.
    pub fn formula(&self, parameter: Parameter) -> Option<Formula<Reference>> {
        let Definition { constant, operator, shape, operands } = self.definition(parameter)?;
        let names: Vec<Reference> = operands.as_slice().iter().map(|&operand| self.reference(operand)).collect();
        let base = match (shape, names.as_slice()) {
            (_, []) => None,
            (_, &[only]) => Some(Base::Single(only)),
            (Shape::Difference, &[first, second]) => Some(Base::Gap(first, second)),
            _ => Some(Base::Sum(names)),
        };
        match (constant.map(i128::from), base) {
            (Some(number), Some(base)) => Some(Formula::Joined(number, *operator, base)),
            (None, Some(base)) => Some(Formula::Plain(base)),
            (Some(number), None) => Some(Formula::Constant(number)),
            (None, None) => None,
        }
    }
}
