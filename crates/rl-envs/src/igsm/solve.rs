//! Solves a problem from its text alone: what a careful reader does.
//!
//! It knows conditions and the vocabulary, not the graph a problem came from, and shares no arithmetic with it, so the two
//! check each other. Abstract quantities follow from which items the text puts into which container.

use std::collections::{BTreeMap, BTreeSet};

use super::formula::{Formula, Reference};
use super::parse::ParsedProblem;
use super::vocabulary::Thing;

/// Why a text has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SolveError {
    /// The query does not follow from the conditions.
    #[error("the answer does not follow from the conditions")]
    Undetermined,
    /// A value that does not fit 128 bits.
    #[error("a value does not fit 128 bits")]
    Overflow,
}

/// How a quantity follows from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Derivation {
    /// As a condition says.
    Stated(Formula<Reference>),
    /// Summed over the contents: how many of an item are inside, times what one of them holds (`None`: the item is of the
    /// category itself).
    Total(Vec<(Reference, Option<Reference>)>),
}

impl Derivation {
    /// The quantities it uses.
    pub fn parents(&self) -> BTreeSet<Reference> {
        match self {
            Derivation::Stated(formula) => formula.operands().into_iter().copied().collect(),
            Derivation::Total(terms) => terms.iter().flat_map(|&(count, held)| [Some(count), held]).flatten().collect(),
        }
    }

    /// Its value, reduced to `0..modulus` where there is one.
    pub fn evaluate(&self, modulus: Option<u32>, value: impl Fn(&Reference) -> Option<i128>) -> Option<i128> {
        let exact = match self {
            Derivation::Stated(formula) => formula.evaluate(value)?,
            Derivation::Total(terms) => {
                let mut sum = 0_i128;
                for (count, held) in terms {
                    let held = held.as_ref().map_or(Some(1), &value)?;
                    sum = sum.checked_add(value(count)?.checked_mul(held)?)?;
                }
                sum
            }
        };
        Some(modulus.map_or(exact, |modulus| exact.rem_euclid(i128::from(modulus))))
    }
}

/// Everything that follows from a problem's text.
#[derive(Debug, Clone)]
pub struct Solution {
    query: Reference,
    answer: i128,
    modulus: Option<u32>,
    derivations: BTreeMap<Reference, Derivation>,
    values: BTreeMap<Reference, i128>,
}

impl Solution {
    /// Solves `problem`; all arithmetic is modulo `modulus` where there is one.
    ///
    /// # Errors
    /// [`SolveError`] when the query has no value.
    pub fn new(problem: &ParsedProblem, modulus: Option<u32>) -> Result<Self, SolveError> {
        let mut derivations: BTreeMap<Reference, Derivation> = totals(problem);
        for condition in &problem.conditions {
            derivations.insert(condition.reference, Derivation::Stated(condition.formula.clone()));
        }
        let (values, overflow) = evaluate_all(&derivations, modulus);
        let answer = values.get(&problem.query).copied();
        let missing = if overflow { SolveError::Overflow } else { SolveError::Undetermined };
        let answer = answer.ok_or(missing)?;
        Ok(Solution { query: problem.query, answer, modulus, derivations, values })
    }

    /// What is asked for.
    pub fn query(&self) -> Reference {
        self.query
    }

    /// The answer.
    pub fn answer(&self) -> i128 {
        self.answer
    }

    /// Modulus of all arithmetic, if there is one.
    pub fn modulus(&self) -> Option<u32> {
        self.modulus
    }

    /// How `quantity` follows from others; `None` where the text says nothing of it.
    pub fn derivation(&self, quantity: Reference) -> Option<&Derivation> {
        self.derivations.get(&quantity)
    }

    /// Value of `quantity`, if it has one.
    pub fn value(&self, quantity: Reference) -> Option<i128> {
        self.values.get(&quantity).copied()
    }

    /// The query and everything it follows from.
    pub fn necessary(&self) -> BTreeSet<Reference> {
        let mut necessary = BTreeSet::new();
        let mut open = vec![self.query];
        while let Some(quantity) = open.pop() {
            if necessary.insert(quantity) {
                open.extend(self.derivations.get(&quantity).map(Derivation::parents).unwrap_or_default());
            }
        }
        necessary
    }
}

/// Every abstract quantity of every container the text mentions.
fn totals(problem: &ParsedProblem) -> BTreeMap<Reference, Derivation> {
    let mut contents: BTreeMap<Thing, Vec<Thing>> = BTreeMap::new();
    for condition in &problem.conditions {
        contents.entry(condition.reference.container).or_default().push(condition.reference.thing);
    }
    let mut totals = BTreeMap::new();
    for (&container, items) in &contents {
        for layer in 0..container.layer() {
            let category = Thing::Category { system: container.system(), layer };
            let term = |&item: &Thing| {
                let count = Reference { thing: item, container };
                let held = (item.layer() != layer).then_some(Reference { thing: category, container: item });
                (count, held)
            };
            let derivation = Derivation::Total(items.iter().map(term).collect());
            totals.insert(Reference { thing: category, container }, derivation);
        }
    }
    totals
}

/// Values of all that can be computed, and whether one was too large. Each quantity is visited once per parent.
fn evaluate_all(
    derivations: &BTreeMap<Reference, Derivation>,
    modulus: Option<u32>,
) -> (BTreeMap<Reference, i128>, bool) {
    let mut waiting: BTreeMap<Reference, usize> = BTreeMap::new();
    let mut consumers: BTreeMap<Reference, Vec<Reference>> = BTreeMap::new();
    let mut ready = Vec::new();
    for (&quantity, derivation) in derivations {
        let parents = derivation.parents();
        if parents.is_empty() {
            ready.push(quantity);
        }
        waiting.insert(quantity, parents.len());
        for parent in parents {
            consumers.entry(parent).or_default().push(quantity);
        }
    }
    let mut values = BTreeMap::new();
    let mut overflow = false;
    while let Some(quantity) = ready.pop() {
        let Some(derivation) = derivations.get(&quantity) else { continue };
        let Some(value) = derivation.evaluate(modulus, |parent| values.get(parent).copied()) else {
            overflow = true;
            continue;
        };
        values.insert(quantity, value);
        for consumer in consumers.get(&quantity).into_iter().flatten() {
            if let Some(left) = waiting.get_mut(consumer) {
                *left -= 1;
                if *left == 0 {
                    ready.push(*consumer);
                }
            }
        }
    }
    (values, overflow)
}
