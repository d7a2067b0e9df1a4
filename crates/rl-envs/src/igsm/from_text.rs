//! A problem from its text: for problems written by hand or read from a file, so that solutions can be written for them too.

use std::sync::Arc;

use super::dependency::MAX_LETTERS;
use super::formula::{Base, Formula, Reference};
use super::parameter::{MAX_INSTANCES, MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH, Parameter, ParameterSet};
use super::parse::{ParseError, ParsedProblem};
use super::problem::{Definition, MAX_OPERANDS, Operands, Operator, Problem, Shape, evaluate};
use super::structure::Structure;
use super::vocabulary::{Thing, Vocabulary};

/// Why a text cannot be made a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FromTextError {
    /// The text is not of the grammar.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The text goes beyond what a problem can have.
    #[error("the text has {what}; a problem has at most {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The query does not follow from the conditions.
    #[error("the answer does not follow from the conditions")]
    Undetermined,
    /// A value does not fit 128 bits, or the answer does not fit 64.
    #[error("a value is too large")]
    Overflow,
}

impl Problem {
    /// The problem that `text` tells. `seed` and `index` choose the letters and the wording of its solutions. The solution's order
    /// is that of the text as far as the dependencies allow.
    ///
    /// # Errors
    /// [`FromTextError`]; besides the limits of generated problems, all items of a layer must be of one sub-category.
    pub fn from_text(
        text: &str,
        vocabulary: &Arc<Vocabulary>,
        modulus: Option<u32>,
        seed: u64,
        index: u64,
    ) -> Result<Problem, FromTextError> {
        let parsed = ParsedProblem::parse(text, vocabulary)?;
        let places = Places::new(&parsed)?;
        let mut definitions = [Definition::none(); MAX_INSTANCES];
        let mut conditions = [Parameter::from_index(0); MAX_INSTANCES];
        let mut edges = ParameterSet::EMPTY;
        for (place, condition) in parsed.conditions.iter().enumerate() {
            let parameter = places.parameter(condition.reference)?;
            edges.insert(parameter);
            conditions[place] = parameter;
            definitions[parameter.index()] = places.definition(&condition.formula)?;
        }
        let structure = Structure::new(&places.widths(), edges);
        let mut problem = Problem {
            vocabulary: Arc::clone(vocabulary),
            seed,
            index,
            attempt: 0,
            num_operations: 0,
            modulus,
            system: places.system,
            start: places.start,
            subcategories: places.subcategories,
            items: places.items,
            structure,
            order: [Parameter::from_index(0); MAX_PARAMETERS],
            num_necessary: 0,
            num_parameters: 0,
            definitions,
            values: [0; MAX_PARAMETERS],
            conditions,
            num_conditions: parsed.conditions.len(),
        };
        let query = places.parameter(parsed.query)?;
        let mut placed = ParameterSet::EMPTY;
        problem.place(query, &mut placed, MAX_PARAMETERS)?;
        problem.num_necessary = problem.num_parameters;
        for condition in 0..problem.num_conditions {
            problem.place(problem.conditions[condition], &mut placed, MAX_PARAMETERS)?;
        }
        if problem.num_parameters > MAX_LETTERS {
            return Err(FromTextError::TooLarge { what: "more quantities than letters", limit: MAX_LETTERS as u64 });
        }
        let operations: usize = problem.necessary().iter().map(|&p| problem.in_degree(p).max(2) - 1).sum();
        problem.num_operations = operations as u32;
        i64::try_from(problem.value(query)).map_err(|_| FromTextError::Overflow)?;
        Ok(problem)
    }

    /// Appends `parameter` after all it needs, and computes it. `depth` bounds the recursion, which ends in a circle otherwise.
    fn place(&mut self, parameter: Parameter, placed: &mut ParameterSet, depth: usize) -> Result<(), FromTextError> {
        if placed.contains(parameter) {
            return Ok(());
        }
        let known = self.structure.edges().contains(parameter) || self.structure.totals().contains(parameter);
        let operands = self.operands(parameter);
        let empty = !parameter.is_instance() && operands.as_slice().is_empty();
        if depth == 0 || !known || empty {
            return Err(FromTextError::Undetermined);
        }
        for &operand in operands.as_slice() {
            self.place(operand, placed, depth - 1)?;
        }
        let value = evaluate(parameter, &self.definitions, &self.structure, &self.values, self.modulus);
        self.values[parameter.index()] = value.ok_or(FromTextError::Overflow)?;
        self.order[self.num_parameters] = parameter;
        self.num_parameters += 1;
        placed.insert(parameter);
        Ok(())
    }
}

/// Where the items of a text stand in the structure.
struct Places {
    system: u8,
    start: u8,
    subcategories: [u8; MAX_LAYERS],
    items: [[u8; MAX_WIDTH]; MAX_LAYERS],
    counts: Vec<usize>,
}

impl Places {
    fn new(parsed: &ParsedProblem) -> Result<Self, FromTextError> {
        let references = || parsed.conditions.iter().map(|condition| condition.reference);
        let start = references().map(|reference| reference.thing.layer()).min().ok_or(FromTextError::Undetermined)?;
        let end = references().map(|reference| reference.container.layer()).max().unwrap_or(start);
        let mut places = Places {
            system: parsed.query.thing.system(),
            start,
            subcategories: [0; MAX_LAYERS],
            items: [[0; MAX_WIDTH]; MAX_LAYERS],
            counts: vec![0; usize::from(end - start) + 1],
        };
        for reference in references() {
            places.add(reference.thing)?;
            places.add(reference.container)?;
        }
        Ok(places)
    }

    fn add(&mut self, thing: Thing) -> Result<(), FromTextError> {
        let Thing::Item { system, layer, subcategory, item } = thing else { return Err(FromTextError::Undetermined) };
        let local = usize::from(layer - self.start);
        let count = self.counts[local];
        if self.items[local][..count].contains(&item) && self.subcategories[usize::from(layer)] == subcategory {
            return Ok(());
        }
        let mixed = 0 < count && self.subcategories[usize::from(layer)] != subcategory;
        if system != self.system || mixed {
            return Err(FromTextError::TooLarge { what: "several sub-categories in a layer", limit: 1 });
        }
        if count == MAX_WIDTH {
            return Err(FromTextError::TooLarge { what: "too many things in a layer", limit: MAX_WIDTH as u64 });
        }
        self.subcategories[usize::from(layer)] = subcategory;
        self.items[local][count] = item;
        self.counts[local] += 1;
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        self.counts.clone()
    }

    fn find(&self, thing: Thing) -> Result<(usize, usize), FromTextError> {
        let Thing::Item { system, layer, subcategory, item } = thing else { return Err(FromTextError::Undetermined) };
        let local = usize::from(layer.checked_sub(self.start).ok_or(FromTextError::Undetermined)?);
        let count = *self.counts.get(local).ok_or(FromTextError::Undetermined)?;
        let same = system == self.system && self.subcategories[usize::from(layer)] == subcategory;
        let node = self.items[local][..count].iter().position(|&other| same && other == item);
        Ok((local, node.ok_or(FromTextError::Undetermined)?))
    }

    fn parameter(&self, reference: Reference) -> Result<Parameter, FromTextError> {
        let (layer, node) = self.find(reference.container)?;
        if layer == 0 {
            return Err(FromTextError::Undetermined);
        }
        if let Thing::Category { layer: category, .. } = reference.thing {
            let category = category.checked_sub(self.start).ok_or(FromTextError::Undetermined)?;
            return Ok(Parameter::total(layer, node, category.into()));
        }
        let (_, item) = self.find(reference.thing)?;
        Ok(Parameter::instance(layer, node, item))
    }

    fn definition(&self, formula: &Formula<Reference>) -> Result<Definition, FromTextError> {
        let limit = u64::from(u16::MAX);
        let number = |number: i128| {
            u16::try_from(number).map_err(|_| FromTextError::TooLarge { what: "a constant out of range", limit })
        };
        let (constant, operator, base) = match formula {
            Formula::Constant(constant) => (Some(number(*constant)?), Operator::Plus, None),
            Formula::Plain(base) => (None, Operator::Plus, Some(base)),
            Formula::Joined(constant, operator, base) => (Some(number(*constant)?), *operator, Some(base)),
        };
        let shape = match base {
            Some(Base::Gap(..)) => Shape::Difference,
            Some(Base::Sum(_)) => Shape::Sum,
            Some(Base::Single(_)) | None => Shape::Single,
        };
        let mut operands = Operands::new();
        for &operand in base.map(Base::operands).unwrap_or_default() {
            if operands.as_slice().len() == MAX_OPERANDS {
                return Err(FromTextError::TooLarge { what: "a longer sum", limit: MAX_OPERANDS as u64 });
            }
            let parameter = self.parameter(operand)?;
            // A quantity twice in one sentence is no graph.
            if operands.as_slice().contains(&parameter) {
                return Err(FromTextError::TooLarge { what: "a quantity several times in a sentence", limit: 1 });
            }
            operands.push(parameter);
        }
        Ok(Definition { constant, operator, shape, operands })
    }
}
