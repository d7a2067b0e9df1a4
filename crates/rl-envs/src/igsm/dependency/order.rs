//! Stage 3: an order of the solution, drawn from its end, in which every parameter is used by a later one.

use super::Dependencies;
use crate::igsm::config::{ExtraParent, ParentBias, ProblemConfig};
use crate::igsm::parameter::{MAX_PARAMETERS, Parameter, ParameterSet};
use crate::igsm::stream::Stream;
use crate::igsm::structure::Structure;

/// An abstract parameter came up that nothing follows: its parents are fixed, so no edge can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::igsm) struct Stuck;

/// Orders `nodes`, giving instance parameters the parents that are needed to lead everything to the last one, the query.
pub(in crate::igsm) fn draw(
    structure: &Structure,
    nodes: ParameterSet,
    config: &ProblemConfig,
    stream: &mut Stream,
    dependencies: &mut Dependencies,
) -> Result<(), Stuck> {
    let share = match config.extra_parent {
        ExtraParent::Half => None,
        ExtraParent::PerProblem => Some(stream.uniform()),
    };
    let mut state = State::new(structure, nodes);
    dependencies.len = 0;
    let mut next = state.ready.nth(stream.below(state.ready.len() as u32) as usize).ok_or(Stuck)?;
    loop {
        let current = next;
        dependencies.push(current);
        state.place(current, structure);
        if current.is_instance() {
            dependencies.parents[current.index()] = super::Parents::default();
        }
        if state.rest.is_empty() {
            break;
        }
        if state.needed.and(state.ready).is_empty() {
            if !current.is_instance() {
                return Err(Stuck);
            }
            let parent = state.biased(state.ready, config.parent_bias, stream).ok_or(Stuck)?;
            dependencies.parents[current.index()].parameters.insert(parent);
            state.need(parent);
        } else if current.is_instance() && extra(share, stream) {
            let parent = state.biased(state.rest, config.parent_bias, stream).ok_or(Stuck)?;
            dependencies.parents[current.index()].parameters.insert(parent);
            state.need(parent);
        }
        next = state.next_needed(stream).ok_or(Stuck)?;
    }
    dependencies.order[..dependencies.len].reverse();
    Ok(())
}

fn extra(share: Option<f64>, stream: &mut Stream) -> bool {
    match share {
        None => stream.coin(),
        Some(share) => stream.uniform() < share,
    }
}

struct State {
    /// Consumers that are not placed yet.
    consumers: [u8; MAX_PARAMETERS],
    /// Consumers that are placed; the choice of the next parameter is weighted by it.
    multiplicity: [u8; MAX_PARAMETERS],
    rest: ParameterSet,
    ready: ParameterSet,
    needed: ParameterSet,
}

impl State {
    fn new(structure: &Structure, nodes: ParameterSet) -> Self {
        let mut consumers = [0; MAX_PARAMETERS];
        let mut consumed = ParameterSet::EMPTY;
        for total in nodes.minus(ParameterSet::INSTANCES) {
            let parents = structure.total_parents(total);
            consumed = consumed.or(parents);
            for parent in parents {
                consumers[parent.index()] += 1;
            }
        }
        State {
            consumers,
            multiplicity: [0; MAX_PARAMETERS],
            rest: nodes,
            ready: nodes.minus(consumed),
            needed: ParameterSet::EMPTY,
        }
    }

    fn place(&mut self, current: Parameter, structure: &Structure) {
        self.rest.remove(current);
        self.ready.remove(current);
        self.needed.remove(current);
        for parent in structure.total_parents(current) {
            self.need(parent);
            self.consumers[parent.index()] -= 1;
            if self.consumers[parent.index()] == 0 {
                self.ready.insert(parent);
            }
        }
    }

    fn need(&mut self, parent: Parameter) {
        self.multiplicity[parent.index()] += 1;
        self.needed.insert(parent);
    }

    fn next_needed(&self, stream: &mut Stream) -> Option<Parameter> {
        let candidates = self.needed.and(self.ready);
        let weight: u32 = candidates.iter().map(|parameter| u32::from(self.multiplicity[parameter.index()])).sum();
        let mut draw = stream.below(weight);
        candidates.iter().find(|parameter| {
            let share = u32::from(self.multiplicity[parameter.index()]);
            let found = draw < share;
            draw = draw.wrapping_sub(share);
            found
        })
    }

    /// One of `candidates` by the softmax of `|normal| * (is abstract + is preferred)`.
    fn biased(&self, candidates: ParameterSet, bias: ParentBias, stream: &mut Stream) -> Option<Parameter> {
        let totals = candidates.minus(ParameterSet::INSTANCES);
        let preferred = match bias {
            ParentBias::Needed => candidates.and(self.needed),
            ParentBias::NotNeeded => candidates.minus(self.needed),
        };
        let both = totals.and(preferred);
        let either = totals.or(preferred);
        // Only three weights occur, so it is a draw of a class and one within it.
        let classes = [candidates.minus(either), either.minus(both), both];
        let used = classes.iter().filter(|class| !class.is_empty()).count();
        let mut chosen = classes.into_iter().find(|class| !class.is_empty());
        if 1 < used {
            let base = stream.normal().abs().exp();
            let sizes = classes.map(|class| class.len() as f64);
            let weights = [sizes[0], sizes[1] * base, sizes[2] * base * base];
            let mut draw = stream.uniform() * weights.iter().sum::<f64>();
            for (class, weight) in classes.into_iter().zip(weights) {
                if weight > 0.0 {
                    chosen = Some(class);
                    if draw < weight {
                        break;
                    }
                    draw -= weight;
                }
            }
        }
        let class = chosen?;
        class.nth(stream.below(class.len() as u32) as usize)
    }
}
