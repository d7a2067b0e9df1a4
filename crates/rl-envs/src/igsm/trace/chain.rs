//! The arithmetic of one line: `constant operator (terms)`, computed one binary operation at a time.

use crate::igsm::parameter::{MAX_PARAMETERS, Parameter};
use crate::igsm::problem::{MAX_OPERANDS, Operator, Problem, Shape};
use crate::igsm::question::write_number;

/// An expression over numbers, on its way to a single number.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    prefix: Option<(i128, Operator)>,
    minus: bool,
    terms: [(i128, Option<i128>); MAX_OPERANDS],
    len: usize,
}

impl Chain {
    /// The expression of `parameter` with the values of its parents.
    pub(crate) fn new(problem: &Problem, parameter: Parameter) -> Self {
        let mut chain = Chain { prefix: None, minus: false, terms: [(0, None); MAX_OPERANDS], len: 0 };
        let operands = problem.operands(parameter);
        let operands = operands.as_slice();
        match problem.definition(parameter) {
            Some(definition) => {
                chain.prefix = definition.constant.map(|constant| (constant.into(), definition.operator));
                chain.minus = definition.shape == Shape::Difference;
                for &operand in operands {
                    chain.push(problem.value(operand), None);
                }
            }
            None if operands.iter().all(|operand| operand.is_instance()) => {
                for &operand in operands {
                    chain.push(problem.value(operand), None);
                }
            }
            None => {
                for pair in operands.chunks_exact(2) {
                    chain.push(problem.value(pair[0]), Some(problem.value(pair[1])));
                }
            }
        }
        chain
    }

    fn push(&mut self, left: i128, right: Option<i128>) {
        self.terms[self.len] = (left, right);
        self.len += 1;
    }

    /// Whether anything but a constant takes part.
    pub(crate) fn has_terms(&self) -> bool {
        0 < self.len
    }

    /// Whether nothing is left but `value`.
    pub(crate) fn is_number(&self, value: i128) -> bool {
        match (self.prefix, self.len) {
            (Some((constant, _)), 0) => constant == value,
            (None, 1) => self.terms[0] == (value, None),
            _ => false,
        }
    }

    /// Carries out one operation: the leftmost inside the brackets, else the leftmost product, else the leftmost sum. False if
    /// there is none left. No result leaves 128 bits, because the problem was evaluated in the same order.
    pub(crate) fn step(&mut self) -> bool {
        let sign = if self.minus { -1 } else { 1 };
        if let Some(term) = self.terms[..self.len].iter_mut().find(|term| term.1.is_some()) {
            *term = (term.0 * term.1.unwrap_or(1), None);
        } else if 1 < self.len {
            self.terms[0].0 += sign * self.terms[1].0;
            self.terms.copy_within(2..self.len, 1);
            self.len -= 1;
            self.minus = false;
        } else if let (Some((constant, operator)), 1) = (self.prefix, self.len) {
            self.terms[0].0 = match operator {
                Operator::Plus => constant + self.terms[0].0,
                Operator::Times => constant * self.terms[0].0,
            };
            self.prefix = None;
        } else {
            return false;
        }
        true
    }

    /// Appends the expression in numbers.
    pub(crate) fn write(&self, text: &mut String) {
        write_expression(self.prefix, self.minus, self.len, text, |place, text| {
            let (left, right) = self.terms[place];
            write_number(left, text);
            if let Some(right) = right {
                text.push_str(" * ");
                write_number(right, text);
            }
        });
    }
}

/// Appends the expression of `parameter` in letters.
pub(crate) fn write_symbols(
    problem: &Problem,
    parameter: Parameter,
    letters: &[u8; MAX_PARAMETERS],
    text: &mut String,
) {
    let operands = problem.operands(parameter);
    let operands = operands.as_slice();
    let letter = |operand: Parameter| char::from(letters[operand.index()]);
    let definition = problem.definition(parameter);
    let prefix = definition.and_then(|d| d.constant.map(|constant| (i128::from(constant), d.operator)));
    let minus = definition.is_some_and(|definition| definition.shape == Shape::Difference);
    if operands.iter().all(|operand| operand.is_instance()) || definition.is_some() {
        write_expression(prefix, minus, operands.len(), text, |place, text| text.push(letter(operands[place])));
    } else {
        write_expression(None, false, operands.len() / 2, text, |place, text| {
            text.push(letter(operands[2 * place]));
            text.push_str(" * ");
            text.push(letter(operands[2 * place + 1]));
        });
    }
}

/// `constant operator (terms)`; brackets only where there are two terms or more beside a constant.
#[inline]
fn write_expression(
    prefix: Option<(i128, Operator)>,
    minus: bool,
    len: usize,
    text: &mut String,
    mut term: impl FnMut(usize, &mut String),
) {
    let grouped = prefix.is_some() && 1 < len;
    if let Some((constant, operator)) = prefix {
        write_number(constant, text);
        match operator {
            _ if len == 0 => {}
            Operator::Plus => text.push_str(" + "),
            Operator::Times => text.push_str(" * "),
        }
    }
    if grouped {
        text.push('(');
    }
    for place in 0..len {
        if 0 < place {
            text.push_str(if minus { " - " } else { " + " });
        }
        term(place, text);
    }
    if grouped {
        text.push(')');
    }
}
