//! One problem: what contains what, what each quantity is computed from, and every value. Pure data; rendering it draws
//! nothing.

use std::sync::Arc;

use super::formula::Reference;
use super::parameter::{MAX_INSTANCES, MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH, Parameter, ParameterKind, ParameterSet};
use super::structure::Structure;
use super::vocabulary::{Thing, Vocabulary};

/// Most parameters that one definition names.
pub const MAX_OPERANDS: usize = 8;

/// A short list of parameters, in the order of a sentence or an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operands {
    list: [Parameter; MAX_OPERANDS],
    len: u8,
}

impl Operands {
    pub(super) fn new() -> Self {
        Operands { list: [Parameter::from_index(0); MAX_OPERANDS], len: 0 }
    }

    pub(super) fn push(&mut self, parameter: Parameter) {
        self.list[usize::from(self.len)] = parameter;
        self.len += 1;
    }

    /// The parameters.
    #[inline]
    pub fn as_slice(&self) -> &[Parameter] {
        &self.list[..usize::from(self.len)]
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Parameter] {
        &mut self.list[..usize::from(self.len)]
    }
}

/// What joins a constant and the rest of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The constant is added.
    Plus,
    /// The constant multiplies the whole rest.
    Times,
}

/// How the parameters of a definition are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One parameter, or none.
    Single,
    /// All added.
    Sum,
    /// The first minus the second.
    Difference,
}

/// What a condition says of an instance parameter: a constant, parameters, or `constant operator (parameters)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Definition {
    /// The random constant, if one takes part.
    pub constant: Option<u16>,
    /// Joins the constant to the parameters; meaningless without either.
    pub operator: Operator,
    /// How the parameters are joined.
    pub shape: Shape,
    /// The parameters, in the order of the sentence.
    pub operands: Operands,
}

impl Definition {
    pub(super) fn none() -> Self {
        Definition { constant: None, operator: Operator::Plus, shape: Shape::Single, operands: Operands::new() }
    }

    /// Parents by the spec's count: the parameters and the constant.
    pub fn in_degree(&self) -> usize {
        self.operands.as_slice().len() + usize::from(self.constant.is_some())
    }
}

/// A problem with its solution.
#[derive(Debug, Clone)]
pub struct Problem {
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) attempt: u64,
    pub(super) num_operations: u32,
    pub(super) modulus: Option<u32>,
    pub(super) system: u8,
    pub(super) start: u8,
    pub(super) subcategories: [u8; MAX_LAYERS],
    /// Item of the sub-category per layer and node of the structure.
    pub(super) items: [[u8; MAX_WIDTH]; MAX_LAYERS],
    pub(super) structure: Structure,
    /// Necessary parameters in topological order, the query last; then the redundant ones in topological order.
    pub(super) order: [Parameter; MAX_PARAMETERS],
    pub(super) num_necessary: usize,
    pub(super) num_parameters: usize,
    pub(super) definitions: [Definition; MAX_INSTANCES],
    pub(super) values: [i128; MAX_PARAMETERS],
    pub(super) conditions: [Parameter; MAX_INSTANCES],
    pub(super) num_conditions: usize,
}

impl Problem {
    /// Seed of the item.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Index of the item.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Draws that were rejected before this one.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Binary operations of the solution, copies and constants counted as one.
    pub fn num_operations(&self) -> u32 {
        self.num_operations
    }

    /// Modulus of all arithmetic, if there is one.
    pub fn modulus(&self) -> Option<u32> {
        self.modulus
    }

    /// Names.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// What contains what.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }

    /// The parameters the solution computes, in topological order; the last is the query.
    pub fn necessary(&self) -> &[Parameter] {
        &self.order[..self.num_necessary]
    }

    /// The parameters the problem describes beyond that, in topological order.
    pub fn redundant(&self) -> &[Parameter] {
        &self.order[self.num_necessary..self.num_parameters]
    }

    /// Necessary and redundant parameters.
    pub fn parameters(&self) -> &[Parameter] {
        &self.order[..self.num_parameters]
    }

    /// What is asked for.
    pub fn query(&self) -> Parameter {
        self.order[self.num_necessary.saturating_sub(1)]
    }

    /// The instance parameters the text describes, in the order of the text.
    pub fn conditions(&self) -> &[Parameter] {
        &self.conditions[..self.num_conditions]
    }

    /// What the text says of an instance parameter; `None` for an abstract one.
    pub fn definition(&self, parameter: Parameter) -> Option<&Definition> {
        self.definitions.get(parameter.index())
    }

    /// What `parameter` is computed from, in the order of its expression; for an abstract parameter of a level above 1
    /// these are pairs, of which the products are added.
    pub fn operands(&self, parameter: Parameter) -> Operands {
        match parameter.kind() {
            ParameterKind::Instance { .. } => self.definitions[parameter.index()].operands,
            ParameterKind::Abstract { layer, node, category } => {
                let mut operands = Operands::new();
                for item in self.structure.contents(layer, node) {
                    operands.push(Parameter::instance(layer, node, item));
                    if category + 1 < layer {
                        operands.push(Parameter::total(layer - 1, item, category));
                    }
                }
                operands
            }
        }
    }

    /// What `parameter` is computed from, as a set.
    #[inline]
    pub fn parents(&self, parameter: Parameter) -> ParameterSet {
        if !parameter.is_instance() {
            return self.structure.total_parents(parameter);
        }
        let mut parents = ParameterSet::EMPTY;
        for &operand in self.definitions[parameter.index()].operands.as_slice() {
            parents.insert(operand);
        }
        parents
    }

    /// Parents of `parameter`, a random constant counted too.
    pub fn in_degree(&self, parameter: Parameter) -> usize {
        self.definition(parameter).map_or_else(|| self.parents(parameter).len(), Definition::in_degree)
    }

    /// Value of a parameter of [`Problem::parameters`].
    pub fn value(&self, parameter: Parameter) -> i128 {
        self.values[parameter.index()]
    }

    /// The answer.
    pub fn final_answer(&self) -> i64 {
        // Draws whose answer does not fit are rejected.
        self.value(self.query()) as i64
    }

    /// The value of `parameter` computed from the values of its parents; `None` if it does not fit 128 bits.
    pub fn evaluate(&self, parameter: Parameter) -> Option<i128> {
        evaluate(parameter, &self.definitions, &self.structure, &self.values, self.modulus)
    }

    /// What a parameter is called in text.
    pub fn reference(&self, parameter: Parameter) -> Reference {
        match parameter.kind() {
            ParameterKind::Instance { layer, node, item } => {
                Reference { thing: self.thing(layer - 1, item), container: self.thing(layer, node) }
            }
            ParameterKind::Abstract { layer, node, category } => {
                let category = Thing::Category { system: self.system, layer: self.start + category as u8 };
                Reference { thing: category, container: self.thing(layer, node) }
            }
        }
    }

    pub(super) fn thing(&self, layer: usize, node: usize) -> Thing {
        let global = usize::from(self.start) + layer;
        Thing::Item {
            system: self.system,
            layer: global as u8,
            subcategory: self.subcategories[global],
            item: self.items[layer][node],
        }
    }
}

/// Left to right, as a solution computes it, so no step of a solution leaves the range either.
pub(super) fn evaluate(
    parameter: Parameter,
    definitions: &[Definition; MAX_INSTANCES],
    structure: &Structure,
    values: &[i128; MAX_PARAMETERS],
    modulus: Option<u32>,
) -> Option<i128> {
    let value = |parameter: Parameter| values[parameter.index()];
    let exact = match parameter.kind() {
        ParameterKind::Instance { .. } => {
            let definition = &definitions[parameter.index()];
            let base = match (definition.shape, definition.operands.as_slice()) {
                (_, []) => None,
                (Shape::Difference, &[first, second]) => Some(value(first).checked_sub(value(second))?),
                (_, [first, rest @ ..]) => {
                    let mut sum = value(*first);
                    for &operand in rest {
                        sum = sum.checked_add(value(operand))?;
                    }
                    Some(sum)
                }
            };
            match (definition.constant.map(i128::from), base) {
                (Some(constant), Some(base)) => match definition.operator {
                    Operator::Plus => constant.checked_add(base)?,
                    Operator::Times => multiply(constant, base)?,
                },
                (constant, base) => constant.or(base)?,
            }
        }
        ParameterKind::Abstract { layer, node, category } => {
            let mut sum = 0_i128;
            for item in structure.contents(layer, node) {
                let count = value(Parameter::instance(layer, node, item));
                let term = if category + 1 < layer {
                    multiply(count, value(Parameter::total(layer - 1, item, category)))?
                } else {
                    count
                };
                sum = sum.checked_add(term)?;
            }
            sum
        }
    };
    Some(modulus.map_or(exact, |modulus| exact.rem_euclid(i128::from(modulus))))
}

/// Checked product; nearly all factors fit 64 bits, and their product is one instruction.
fn multiply(left: i128, right: i128) -> Option<i128> {
    match (i64::try_from(left), i64::try_from(right)) {
        (Ok(left), Ok(right)) => Some(i128::from(left) * i128::from(right)),
        _ => left.checked_mul(right),
    }
}
