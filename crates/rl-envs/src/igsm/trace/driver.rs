//! Which quantity a solution visits next: the order of the problem, a drawn one, detours.

use super::TraceConfig;
use super::line::Page;
use crate::igsm::parameter::{MAX_PARAMETERS, Parameter, ParameterSet};
use crate::igsm::problem::Problem;
use crate::igsm::stream::Stream;

/// Share of detours that go to a quantity the solution does not need.
const REDUNDANT_SHARE: f64 = 0.3;

/// Visits all of `order`; with probability `reflection_prob`, before a line that is neither first nor last and after one
/// that computed something, visits another quantity instead: out of turn if it can be computed, in vain if not.
pub(super) fn write_lines(
    page: &mut Page<'_>,
    order: &[Parameter],
    config: &TraceConfig,
    phrasing: &mut Stream,
    behaviour: &mut Stream,
) {
    let problem = page.problem();
    let redundant = problem.redundant();
    let mut next = 0;
    let mut last_solved = false;
    while next < order.len() {
        let inner = 0 < next && next + 1 < order.len();
        if inner && last_solved && 0.0 < config.reflection_prob && behaviour.uniform() < config.reflection_prob {
            let chosen = if !redundant.is_empty() && behaviour.uniform() < REDUNDANT_SHARE {
                redundant[behaviour.below(redundant.len() as u32) as usize]
            } else {
                let later = &order[next + 1..];
                later[behaviour.below(later.len() as u32) as usize]
            };
            if !page.is_solved(chosen) {
                last_solved = page.visit(chosen, config, phrasing, behaviour);
            }
        } else {
            let regular = order[next];
            next += 1;
            if !page.is_solved(regular) {
                last_solved = page.visit(regular, config, phrasing, behaviour);
            }
        }
    }
}

/// An order of the necessary parameters in which each comes after its parents, each next one uniform among those that can;
/// the query comes last because it depends on all others.
pub(super) fn topological_order<'b>(
    problem: &Problem,
    stream: &mut Stream,
    order: &'b mut [Parameter; MAX_PARAMETERS],
) -> &'b [Parameter] {
    let mut placed = ParameterSet::EMPTY;
    let mut len = 0;
    loop {
        let mut ready = ParameterSet::EMPTY;
        for &parameter in problem.necessary() {
            if !placed.contains(parameter) && placed.contains_all(problem.parents(parameter)) {
                ready.insert(parameter);
            }
        }
        let Some(chosen) = ready.nth(stream.below(ready.len() as u32) as usize) else { return &order[..len] };
        placed.insert(chosen);
        order[len] = chosen;
        len += 1;
    }
}
