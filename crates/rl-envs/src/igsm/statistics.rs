//! What a set of problems looks like: the numbers that the published generator is known by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// Intermediate values from here on count as large.
const LARGE: u128 = 1000;

/// Smallest, largest and mean of a count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
    /// Mean; 0 of nothing.
    pub mean: f64,
}

/// Description of a set of problems. Shares are of problems.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Problems.
    pub num_problems: u64,
    /// Problems per number of operations.
    pub operations: BTreeMap<u32, u64>,
    /// Problems per number of layers.
    pub layers: BTreeMap<usize, u64>,
    /// Instance parameters of solutions per in-degree, a random constant counted.
    pub instance_in_degrees: BTreeMap<usize, u64>,
    /// Parameters of the solution.
    pub necessary: Spread,
    /// Abstract parameters of the solution.
    pub necessary_abstract: Spread,
    /// Parameters beside the solution.
    pub redundant: Spread,
    /// Conditions.
    pub conditions: Spread,
    /// Characters of the problem.
    pub question_chars: Spread,
    /// Share whose query is abstract.
    pub abstract_query_share: f64,
    /// Share whose answer is zero: the accuracy of always answering 0.
    pub zero_answer_share: f64,
    /// Share with a negative value in the solution.
    pub negative_value_share: f64,
    /// Share with a value of 1000 or more in the solution, by absolute value.
    pub large_value_share: f64,
}

impl Statistics {
    /// Describes `problems`.
    pub fn new<'p>(problems: impl IntoIterator<Item = &'p Problem>) -> Self {
        let mut statistics = Statistics::default();
        let mut question = String::new();
        let (mut abstract_query, mut zero, mut negative, mut large) = (0, 0, 0, 0);
        for problem in problems {
            statistics.num_problems += 1;
            *statistics.operations.entry(problem.num_operations()).or_default() += 1;
            *statistics.layers.entry(problem.structure().layers()).or_default() += 1;
            for &parameter in problem.necessary() {
                if parameter.is_instance() {
                    *statistics.instance_in_degrees.entry(problem.in_degree(parameter)).or_default() += 1;
                }
            }
            let totals = problem.necessary().iter().filter(|parameter| !parameter.is_instance()).count();
            question.clear();
            problem.write_question(&mut question);
            let seen = statistics.num_problems;
            statistics.necessary.add(problem.necessary().len(), seen);
            statistics.necessary_abstract.add(totals, seen);
            statistics.redundant.add(problem.redundant().len(), seen);
            statistics.conditions.add(problem.conditions().len(), seen);
            statistics.question_chars.add(question.chars().count(), seen);
            let mut values = problem.necessary().iter().map(|&parameter| problem.value(parameter));
            abstract_query += u64::from(!problem.query().is_instance());
            zero += u64::from(problem.final_answer() == 0);
            negative += u64::from(values.clone().any(|value| value < 0));
            large += u64::from(values.any(|value| value.unsigned_abs() >= LARGE));
        }
        let total = statistics.num_problems.max(1) as f64;
        statistics.abstract_query_share = abstract_query as f64 / total;
        statistics.zero_answer_share = zero as f64 / total;
        statistics.negative_value_share = negative as f64 / total;
        statistics.large_value_share = large as f64 / total;
        statistics
    }
}

impl Spread {
    /// Adds one `count`, the `seen`th.
    fn add(&mut self, count: usize, seen: u64) {
        let count = count as u64;
        self.min = if seen == 1 { count } else { self.min.min(count) };
        self.max = self.max.max(count);
        self.mean += (count as f64 - self.mean) / seen as f64;
    }
}
