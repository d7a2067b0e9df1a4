//! One visit in words.

use super::chain::Chain;
use super::mask::{CLOSE, OPEN};
use super::{TraceConfig, chain};
use crate::igsm::parameter::{MAX_PARAMETERS, Parameter, ParameterSet};
use crate::igsm::problem::Problem;
use crate::igsm::question::{Words, write_number};
use crate::igsm::stream::Stream;

/// A solution being written: what is computed and named so far.
pub(super) struct Page<'a> {
    problem: &'a Problem,
    words: &'a Words<'a>,
    letters: [u8; MAX_PARAMETERS],
    solved: ParameterSet,
    named: ParameterSet,
    /// Marks content.
    marked: bool,
    text: &'a mut String,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        problem: &'a Problem,
        words: &'a Words<'a>,
        letters: [u8; MAX_PARAMETERS],
        marked: bool,
        text: &'a mut String,
    ) -> Self {
        Page { problem, words, letters, solved: ParameterSet::EMPTY, named: ParameterSet::EMPTY, marked, text }
    }

    pub(super) fn problem(&self) -> &'a Problem {
        self.problem
    }

    pub(super) fn is_solved(&self, parameter: Parameter) -> bool {
        self.solved.contains(parameter)
    }

    /// A line about `parameter`; true if it computes the value.
    pub(super) fn visit(
        &mut self,
        parameter: Parameter,
        config: &TraceConfig,
        phrasing: &mut Stream,
        behaviour: &mut Stream,
    ) -> bool {
        let parents = self.problem.parents(parameter);
        let solvable = self.solved.contains_all(parents);
        let mark = self.marked && solvable;
        self.text.push_str("- ");
        if parents.is_empty() {
            self.text.push_str(if phrasing.coin() { "As stated, " } else { "It is given that " });
            self.reference(parameter, mark);
            self.text.push_str(" is ");
            let constant = self.problem.definition(parameter).and_then(|definition| definition.constant);
            write_number(i128::from(constant.unwrap_or_default()), self.text);
            self.text.push_str(". ");
            self.name(parameter, phrasing);
        } else if self.named.contains(parameter) {
            self.pick(parameter, mark, phrasing);
            self.text.push_str("It is already called ");
            self.letter(parameter);
            self.text.push_str(". ");
        } else if phrasing.coin() {
            self.pick(parameter, mark, phrasing);
            self.name(parameter, phrasing);
        } else {
            self.pick_and_name(parameter, mark, phrasing.below(3));
        }
        self.named.insert(parameter);
        if self.restates(parameter, config, behaviour) {
            self.text.push_str("By the text it ");
            if parameter.is_instance() {
                self.text.push_str("is ");
                self.words.write_definition(parameter, self.text);
            } else {
                self.text.push_str("adds ");
                self.words.write_total(parameter, self.text);
            }
            self.text.push_str(". ");
        }
        if solvable {
            self.equation(parameter, config.detailed);
            self.solved.insert(parameter);
        } else {
            self.locked(parameter, parents.minus(self.solved), phrasing);
        }
        self.text.push('\n');
        solvable
    }

    /// A line of the plain style; all parents are computed.
    pub(super) fn plain(&mut self, parameter: Parameter) {
        self.text.push_str("- ");
        self.pick_and_name(parameter, self.marked, 2);
        self.equation(parameter, false);
        self.solved.insert(parameter);
        self.text.push('\n');
    }

    fn restates(&self, parameter: Parameter, config: &TraceConfig, behaviour: &mut Stream) -> bool {
        if self.problem.parents(parameter).is_empty() || !(parameter.is_instance() || config.analysis_abstract) {
            return false;
        }
        let probability = config.analysis.probability(self.problem.in_degree(parameter));
        0.0 < probability && behaviour.uniform() < probability
    }

    fn reference(&mut self, parameter: Parameter, mark: bool) {
        self.open(mark);
        self.words.write_reference(parameter, self.text);
        self.close(mark);
    }

    fn letter(&mut self, parameter: Parameter) {
        self.text.push(char::from(self.letters[parameter.index()]));
    }

    fn pick(&mut self, parameter: Parameter, mark: bool, phrasing: &mut Stream) {
        self.text.push_str(if phrasing.coin() { "Next is " } else { "Now turn to " });
        self.reference(parameter, mark);
        self.text.push_str(". ");
    }

    fn name(&mut self, parameter: Parameter, phrasing: &mut Stream) {
        let (before, after) = match phrasing.below(3) {
            0 => ("Call it ", ". "),
            1 => ("Write ", " for it. "),
            _ => ("Let ", " stand for it. "),
        };
        self.text.push_str(before);
        self.letter(parameter);
        self.text.push_str(after);
    }

    fn pick_and_name(&mut self, parameter: Parameter, mark: bool, wording: u32) {
        match wording {
            0 => {
                self.text.push_str("Next is ");
                self.reference(parameter, mark);
                self.text.push_str(", call it ");
                self.letter(parameter);
            }
            1 => {
                self.text.push_str("Now take ");
                self.reference(parameter, mark);
                self.text.push_str(" as ");
                self.letter(parameter);
            }
            _ => {
                self.text.push_str("Let ");
                self.letter(parameter);
                self.text.push_str(" be ");
                self.reference(parameter, mark);
            }
        }
        self.text.push_str(". ");
    }

    /// Names the unknown parents in the order of the definition.
    fn locked(&mut self, parameter: Parameter, unknown: ParameterSet, phrasing: &mut Stream) {
        let operands = self.problem.operands(parameter);
        let list = operands.as_slice().iter().copied().filter(|&operand| unknown.contains(operand));
        let wording = phrasing.below(3);
        self.text.push_str(["Since ", "This needs ", "Without "][wording as usize]);
        self.words.write_list(list, unknown.len(), self.text);
        match wording {
            0 => {
                self.text.push_str(if unknown.len() == 1 { " is" } else { " are" });
                self.text.push_str(" unknown so far, ");
                self.letter(parameter);
                self.text.push_str(" has to wait.");
            }
            1 => {
                self.text.push_str(" first so ");
                self.letter(parameter);
                self.text.push_str(" has to wait.");
            }
            _ => {
                self.text.push_str(" there is no way to get ");
                self.letter(parameter);
                self.text.push_str(" yet.");
            }
        }
    }

    /// `letter = symbolic = numeric [= intermediate]* = value.`
    fn equation(&mut self, parameter: Parameter, detailed: bool) {
        let value = self.problem.value(parameter);
        let mut chain = Chain::new(self.problem, parameter);
        let mark = self.marked;
        self.letter(parameter);
        self.text.push_str(" = ");
        if chain.has_terms() {
            self.open(mark);
            chain::write_symbols(self.problem, parameter, &self.letters, self.text);
            self.close(mark);
            self.text.push_str(" = ");
        }
        if !chain.is_number(value) {
            self.open(mark);
            chain.write(self.text);
            self.close(mark);
            self.text.push_str(" = ");
            if detailed {
                while chain.step() && !chain.is_number(value) {
                    chain.write(self.text);
                    self.text.push_str(" = ");
                }
            }
        }
        self.open(mark);
        write_number(value, self.text);
        self.close(mark);
        self.text.push('.');
    }

    fn open(&mut self, mark: bool) {
        if mark {
            self.text.push_str(OPEN);
        }
    }

    fn close(&mut self, mark: bool) {
        if mark {
            self.text.push_str(CLOSE);
        }
    }
}
