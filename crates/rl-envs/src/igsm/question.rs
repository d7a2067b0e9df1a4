//! A problem as text: one sentence per condition and a question.
//!
//! ```text
//! REF       := the NAME count of one NAME
//! CONDITION := In one NAME, the NAME count is EXPR.
//! EXPR      := INT | INT plus BASE | INT multiplied by BASE | BASE
//! BASE      := REF | the total of REF, REF ... and REF | the gap REF minus REF
//! QUESTION  := What is REF?
//! ```

use super::parameter::{MAX_LAYERS, MAX_WIDTH, Parameter, ParameterKind};
use super::problem::{Operator, Problem, Shape};
use super::vocabulary::Thing;

impl Problem {
    /// The problem as text: a line per condition, then the question.
    pub fn question(&self) -> String {
        let mut text = String::with_capacity(2048);
        self.write_question(&mut text);
        text
    }

    /// Appends the problem to `text`.
    pub fn write_question(&self, text: &mut String) {
        let words = Words::new(self);
        for &parameter in self.conditions() {
            let ParameterKind::Instance { layer, node, item } = parameter.kind() else { continue };
            text.push_str("In one ");
            text.push_str(words.names[layer][node]);
            text.push_str(", the ");
            text.push_str(words.names[layer - 1][item]);
            text.push_str(" count is ");
            words.write_definition(parameter, text);
            text.push_str(".\n");
        }
        text.push_str("What is ");
        words.write_reference(self.query(), text);
        text.push('?');
    }
}

/// The names of a problem's things, looked up once per text.
pub(super) struct Words<'p> {
    problem: &'p Problem,
    /// By layer and node.
    names: [[&'p str; MAX_WIDTH]; MAX_LAYERS],
    /// "the NAME count of one ", by layer and node.
    counted: [[&'p str; MAX_WIDTH]; MAX_LAYERS],
    /// "the CATEGORY count of one ", by layer.
    counted_categories: [&'p str; MAX_LAYERS],
}

impl<'p> Words<'p> {
    pub(super) fn new(problem: &'p Problem) -> Self {
        let mut words = Words {
            problem,
            names: [[""; MAX_WIDTH]; MAX_LAYERS],
            counted: [[""; MAX_WIDTH]; MAX_LAYERS],
            counted_categories: [""; MAX_LAYERS],
        };
        let vocabulary = &problem.vocabulary;
        for layer in 0..problem.structure().layers() {
            let category = Thing::Category { system: problem.system, layer: problem.start + layer as u8 };
            words.counted_categories[layer] = vocabulary.counted(category);
            for node in 0..problem.structure().width(layer) {
                let item = problem.thing(layer, node);
                words.names[layer][node] = vocabulary.name(item);
                words.counted[layer][node] = vocabulary.counted(item);
            }
        }
        words
    }

    /// Appends what `parameter` is called in sentences.
    #[inline]
    pub(super) fn write_reference(&self, parameter: Parameter, text: &mut String) {
        let (counted, container) = match parameter.kind() {
            ParameterKind::Instance { layer, node, item } => (self.counted[layer - 1][item], self.names[layer][node]),
            ParameterKind::Abstract { layer, node, category } => {
                (self.counted_categories[category], self.names[layer][node])
            }
        };
        text.push_str(counted);
        text.push_str(container);
    }

    /// Appends the definition of an instance parameter; nothing for an abstract one.
    pub(super) fn write_definition(&self, parameter: Parameter, text: &mut String) {
        let Some(definition) = self.problem.definition(parameter) else { return };
        let operands = definition.operands.as_slice();
        if let Some(constant) = definition.constant {
            write_number(i128::from(constant), text);
            match (operands, definition.operator) {
                ([], _) => return,
                (_, Operator::Plus) => text.push_str(" plus "),
                (_, Operator::Times) => text.push_str(" multiplied by "),
            }
        }
        match (operands, definition.shape) {
            (&[first, second], Shape::Difference) => {
                text.push_str("the gap ");
                self.write_reference(first, text);
                text.push_str(" minus ");
                self.write_reference(second, text);
            }
            (&[only], _) => self.write_reference(only, text),
            (all, _) => {
                text.push_str("the total of ");
                self.write_list(all.iter().copied(), all.len(), text);
            }
        }
    }

    /// Appends what an abstract parameter adds up: "REF multiplied by REF and REF multiplied by REF".
    pub(super) fn write_total(&self, parameter: Parameter, text: &mut String) {
        let operands = self.problem.operands(parameter);
        let operands = operands.as_slice();
        let products = operands.iter().any(|operand| !operand.is_instance());
        for (place, term) in operands.chunks(if products { 2 } else { 1 }).enumerate() {
            if 0 < place {
                text.push_str(" and ");
            }
            for (factor, &operand) in term.iter().enumerate() {
                if 0 < factor {
                    text.push_str(" multiplied by ");
                }
                self.write_reference(operand, text);
            }
        }
    }

    /// "REF, REF and REF".
    pub(super) fn write_list(&self, list: impl Iterator<Item = Parameter>, count: usize, text: &mut String) {
        for (place, parameter) in list.enumerate() {
            if 0 < place {
                text.push_str(if place + 1 == count { " and " } else { ", " });
            }
            self.write_reference(parameter, text);
        }
    }
}

/// Appends a number in decimal, negative ones with a minus sign before the first digit.
#[inline]
pub(super) fn write_number(number: i128, text: &mut String) {
    if (0..10).contains(&number) {
        text.push((b'0' + number as u8) as char);
        return;
    }
    let mut rest = number.unsigned_abs();
    // 2^127 has 39 digits.
    let mut digits = [0_u8; 39];
    let mut start = digits.len();
    while rest > u128::from(u64::MAX) {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while 0 < rest {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    if number < 0 {
        text.push('-');
    }
    text.extend(digits[start..].iter().map(|&digit| digit as char));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for number in
            [0, 7, 10, 99, -1, -10, 1000, i128::from(u64::MAX), i128::from(u64::MAX) + 1, i128::MAX, i128::MIN]
        {
            let mut text = String::new();
            write_number(number, &mut text);
            assert_eq!(text, number.to_string());
        }
    }
}
