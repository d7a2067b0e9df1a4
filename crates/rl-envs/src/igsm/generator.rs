//! From (seed, index) to a problem: draw, reject, draw again.

use std::sync::Arc;

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::config::{ConditionOrder, Constants, ProblemConfig};
use super::dependency::{Dependencies, MAX_LETTERS, Parents, degrees, order, seeds};
use super::hyper::Hyper;
use super::parameter::{MAX_INSTANCES, MAX_LAYERS, MAX_PARAMETERS, MAX_WIDTH, Parameter};
use super::problem::{Definition, Operands, Operator, Problem, Shape, evaluate};
use super::redundant;
use super::stream::{Purpose, Stream};
use super::structure::Structure;
use super::template::template_bin;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// Draws of one item after which a config is taken to have no problems.
const MAX_DRAWS: u64 = 100_000;

/// Why a draw is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// No solution order was found in `max_attempts` redraws of the graphs (stage 3).
    NoOrder,
    /// The number of operations cannot be reached (stage 4).
    NoDegrees,
    /// More parameters than letters.
    TooManyParameters,
    /// A value does not fit 128 bits or exceeds `max_intermediate`.
    Overflow,
    /// The answer reaches `max_solution`.
    LargeAnswer,
    /// The answer is zero and lost its draw.
    ZeroAnswer,
    /// The template belongs to another split.
    OtherSplit,
}

/// Draws of any number of items, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawCounts {
    /// Became a problem.
    pub accepted: u64,
    /// [`Rejection::NoOrder`]
    pub no_order: u64,
    /// [`Rejection::NoDegrees`]
    pub no_degrees: u64,
    /// [`Rejection::TooManyParameters`]
    pub too_many_parameters: u64,
    /// [`Rejection::Overflow`]
    pub overflow: u64,
    /// [`Rejection::LargeAnswer`]
    pub large_answer: u64,
    /// [`Rejection::ZeroAnswer`]
    pub zero_answer: u64,
    /// [`Rejection::OtherSplit`]
    pub other_split: u64,
}

impl DrawCounts {
    /// Counts one draw.
    pub fn add(&mut self, ended: Option<Rejection>) {
        *match ended {
            None => &mut self.accepted,
            Some(Rejection::NoOrder) => &mut self.no_order,
            Some(Rejection::NoDegrees) => &mut self.no_degrees,
            Some(Rejection::TooManyParameters) => &mut self.too_many_parameters,
            Some(Rejection::Overflow) => &mut self.overflow,
            Some(Rejection::LargeAnswer) => &mut self.large_answer,
            Some(Rejection::ZeroAnswer) => &mut self.zero_answer,
            Some(Rejection::OtherSplit) => &mut self.other_split,
        } += 1;
    }

    /// Adds the draws of `other`.
    pub fn merge(&mut self, other: &DrawCounts) {
        self.accepted += other.accepted;
        self.no_order += other.no_order;
        self.no_degrees += other.no_degrees;
        self.too_many_parameters += other.too_many_parameters;
        self.overflow += other.overflow;
        self.large_answer += other.large_answer;
        self.zero_answer += other.zero_answer;
        self.other_split += other.other_split;
    }

    /// All draws.
    pub fn total(&self) -> u64 {
        self.graphs_given_up() + self.overflow + self.large_answer + self.zero_answer + self.other_split + self.accepted
    }

    /// Draws whose graphs were given up.
    pub fn graphs_given_up(&self) -> u64 {
        self.no_order + self.no_degrees + self.too_many_parameters
    }
}

/// Draws problems. Every item is a function of the config, the seed and the index alone.
#[derive(Debug, Clone)]
pub struct Generator {
    config: ProblemConfig,
    vocabulary: Arc<Vocabulary>,
}

impl Generator {
    /// The problems of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range.
    pub fn new(config: &ProblemConfig) -> Result<Self> {
        Self::with_vocabulary(config, Vocabulary::builtin(config.vocabulary)?)
    }

    /// The problems of `config` with names of `vocabulary` instead of a built-in one.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range.
    pub fn with_vocabulary(config: &ProblemConfig, vocabulary: Arc<Vocabulary>) -> Result<Self> {
        config.validate()?;
        Ok(Generator { config: config.clone(), vocabulary })
    }

    /// The config.
    pub fn config(&self) -> &ProblemConfig {
        &self.config
    }

    /// The names in use.
    pub fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// The problem (`seed`, `index`).
    ///
    /// # Errors
    /// [`Error::NoProblem`] when no draw is accepted, as happens where `max_solution` or `split` leave nothing.
    pub fn problem(&self, seed: u64, index: u64) -> Result<Problem> {
        self.counted(seed, index, &mut DrawCounts::default())
    }

    /// As [`Generator::problem`], adding all draws to `counts`.
    ///
    /// # Errors
    /// As for [`Generator::problem`].
    pub fn counted(&self, seed: u64, index: u64, counts: &mut DrawCounts) -> Result<Problem> {
        let keys = ItemKeys::new(seed, index);
        for attempt in 0..MAX_DRAWS {
            let drawn = self.draw_with(&keys, attempt);
            counts.add(drawn.as_ref().err().copied());
            if let Ok(problem) = drawn {
                return Ok(problem);
            }
        }
        Err(Error::NoProblem { seed, index, draws: MAX_DRAWS })
    }

    /// Draw number `attempt` of item (`seed`, `index`); the item's problem is the first that is not rejected.
    pub fn draw(&self, seed: u64, index: u64, attempt: u64) -> std::result::Result<Problem, Rejection> {
        self.draw_with(&ItemKeys::new(seed, index), attempt)
    }

    /// The hyper-parameters of draw number `attempt` of item (`seed`, `index`), rejected or not.
    pub fn hyper(&self, seed: u64, index: u64, attempt: u64) -> Hyper {
        Hyper::draw(&self.config, &self.vocabulary, &mut Stream::new(Purpose::Graph.key(seed, index).at(attempt)))
    }

    fn draw_with(&self, keys: &ItemKeys, attempt: u64) -> std::result::Result<Problem, Rejection> {
        let config = &self.config;
        let &ItemKeys { seed, index, graph, constants } = keys;
        let mut stream = Stream::new(graph.at(attempt));
        let hyper = Hyper::draw(config, &self.vocabulary, &mut stream);
        let mut dependencies = Dependencies::new();
        let structure = self.draw_graphs(&hyper, &mut stream, &mut dependencies)?;
        let num_necessary = dependencies.len;

        let mut constants = Stream::new(constants.at(attempt));
        let mut definitions = [Definition::none(); MAX_INSTANCES];
        let mut values = [0_i128; MAX_PARAMETERS];
        let mut fill = |dependencies: &Dependencies, from: usize| {
            for &parameter in &dependencies.order()[from..] {
                if parameter.is_instance() {
                    let parents = dependencies.parents[parameter.index()];
                    definitions[parameter.index()] = define(parents, config, &mut constants);
                }
                let value = evaluate(parameter, &definitions, &structure, &values, config.modulus);
                let value = value.ok_or(Rejection::Overflow)?;
                if config.max_intermediate.is_some_and(|limit| value.unsigned_abs() > u128::from(limit)) {
                    return Err(Rejection::Overflow);
                }
                values[parameter.index()] = value;
            }
            dependencies.order().last().map(|last| values[last.index()]).ok_or(Rejection::NoOrder)
        };
        let answer = fill(&dependencies, 0)?;
        let limit = config.max_solution.unwrap_or(i64::MAX as u64);
        if answer.unsigned_abs() >= u128::from(limit) {
            return Err(Rejection::LargeAnswer);
        }
        if answer == 0 && 0.0 < config.zero_reject_prob {
            let draw = Purpose::Zero.key(seed, index).at(attempt).uniform(0);
            if draw < config.zero_reject_prob {
                return Err(Rejection::ZeroAnswer);
            }
        }
        if config.redundant_query {
            redundant::draw(&structure, config, &mut stream, &mut dependencies);
            if dependencies.len > MAX_LETTERS {
                return Err(Rejection::TooManyParameters);
            }
            fill(&dependencies, num_necessary)?;
        }
        let mut problem = Problem {
            vocabulary: Arc::clone(&self.vocabulary),
            seed,
            index,
            attempt,
            num_operations: hyper.operations,
            modulus: config.modulus,
            system: hyper.system as u8,
            start: hyper.start as u8,
            subcategories: hyper.subcategories,
            items: self.draw_names(&hyper, &structure, &mut stream),
            structure,
            order: dependencies.order,
            num_necessary,
            num_parameters: dependencies.len,
            definitions,
            values,
            conditions: [Parameter::from_index(0); MAX_INSTANCES],
            num_conditions: 0,
        };
        if config.split.is_some_and(|split| !split.keeps(template_bin(&problem, split.num_bins))) {
            return Err(Rejection::OtherSplit);
        }
        problem.order_conditions(config.condition_order, &mut Stream::new(Purpose::Order.key(seed, index)));
        Ok(problem)
    }

    fn draw_graphs(
        &self,
        hyper: &Hyper,
        stream: &mut Stream,
        dependencies: &mut Dependencies,
    ) -> std::result::Result<Structure, Rejection> {
        let config = &self.config;
        for _ in 0..config.max_attempts {
            let structure = Structure::draw(hyper, config.missing_edges, stream);
            let nodes = seeds::draw(&structure, hyper, stream);
            if nodes.len() > MAX_LETTERS {
                return Err(Rejection::TooManyParameters);
            }
            if order::draw(&structure, nodes, config, stream, dependencies).is_ok() {
                let (operations, most) = (hyper.operations, config.max_instance_in_degree);
                return match degrees::draw(&structure, operations, most, stream, dependencies) {
                    Ok(()) => Ok(structure),
                    Err(degrees::Full) => Err(Rejection::NoDegrees),
                };
            }
        }
        Err(Rejection::NoOrder)
    }

    /// Items without replacement for every layer.
    fn draw_names(&self, hyper: &Hyper, structure: &Structure, stream: &mut Stream) -> [[u8; MAX_WIDTH]; MAX_LAYERS] {
        let mut items = [[0; MAX_WIDTH]; MAX_LAYERS];
        for (layer, row) in items.iter_mut().enumerate().take(structure.layers()) {
            let global = hyper.start + layer;
            let subcategory = usize::from(hyper.subcategories[global]);
            let pool = self.vocabulary.items(hyper.system, global, subcategory).len();
            for node in 0..structure.width(layer) {
                // The vocabulary has at least as many items as a layer is wide, so this ends.
                row[node] = loop {
                    let item = stream.below(pool as u32) as u8;
                    if !row[..node].contains(&item) {
                        break item;
                    }
                };
            }
        }
        items
    }
}

/// Keys that all draws of an item share.
struct ItemKeys {
    seed: u64,
    index: u64,
    graph: RandomKey,
    constants: RandomKey,
}

impl ItemKeys {
    fn new(seed: u64, index: u64) -> Self {
        let (graph, constants) = (Purpose::Graph.key(seed, index), Purpose::Constants.key(seed, index));
        ItemKeys { seed, index, graph, constants }
    }
}

impl Problem {
    /// Puts the conditions into an order drawn from `stream`.
    pub(super) fn order_conditions(&mut self, order: ConditionOrder, stream: &mut Stream) {
        self.num_conditions = 0;
        for position in 0..self.num_parameters {
            let parameter = self.order[position];
            if parameter.is_instance() {
                self.conditions[self.num_conditions] = parameter;
                self.num_conditions += 1;
            }
        }
        let conditions = &mut self.conditions[..self.num_conditions];
        match order {
            ConditionOrder::Solution => {}
            ConditionOrder::Shuffled => stream.shuffle(conditions),
            ConditionOrder::Mild { level } => {
                let mut keyed: Vec<(f64, Parameter)> = conditions
                    .iter()
                    .enumerate()
                    .map(|(place, &parameter)| (place as f64 + stream.uniform() * f64::from(2 * level), parameter))
                    .collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                for (slot, (_, parameter)) in conditions.iter_mut().zip(keyed) {
                    *slot = parameter;
                }
            }
        }
    }
}

fn define(parents: Parents, config: &ProblemConfig, stream: &mut Stream) -> Definition {
    let mut operands = Operands::new();
    for parent in parents.parameters {
        operands.push(parent);
    }
    stream.shuffle(operands.as_mut_slice());
    let count = operands.as_slice().len();
    let joined = parents.constant && 0 < count;
    let operator = if joined && stream.coin() { Operator::Times } else { Operator::Plus };
    let constant = parents.constant.then(|| {
        let (least_factor, most) = match config.constants {
            Constants::Range => (config.mul_const_min, config.rng_range - 1),
            Constants::Original => (1, 22),
        };
        let least = if operator == Operator::Times { least_factor } else { 0 };
        stream.between(least.into(), most.into()) as u16
    });
    let shape = match count {
        0 | 1 => Shape::Single,
        2 if stream.coin() => Shape::Difference,
        _ => Shape::Sum,
    };
    Definition { constant, operator, shape, operands }
}
