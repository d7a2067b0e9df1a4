//! Stage 5: the instance parameters the solution does not need are described too, with parents of their own.

use super::config::{ProblemConfig, RedundantParents};
use super::dependency::{Dependencies, Parents};
use super::parameter::ParameterSet;
use super::stream::Stream;
use super::structure::Structure;

/// Appends all unused instance parameters to the order, and the abstract parameters they happen to use. Nothing necessary
/// comes to depend on them.
pub(super) fn draw(
    structure: &Structure,
    config: &ProblemConfig,
    stream: &mut Stream,
    dependencies: &mut Dependencies,
) {
    let mut necessary = ParameterSet::EMPTY;
    for &parameter in dependencies.order() {
        necessary.insert(parameter);
    }
    let mut nodes = necessary;
    let mut isolated = ParameterSet::EMPTY;
    let mut unused = structure.edges().minus(necessary);
    while let Some(added) = unused.nth(stream.below(unused.len() as u32) as usize) {
        unused.remove(added);
        let mut pool = if stream.coin() {
            let pool = isolated;
            isolated.insert(added);
            pool
        } else {
            let mut pool = match config.redundant_parents {
                RedundantParents::Necessary => necessary,
                RedundantParents::All => nodes,
            };
            for total in structure.totals().minus(nodes) {
                if nodes.contains_all(structure.total_parents(total)) {
                    pool.insert(total);
                }
            }
            pool
        };
        let size = pool.len() + 1;
        let mut target = 1;
        while target < config.max_instance_in_degree.min(size) && stream.coin() {
            target += 1;
        }
        let mut parents = Parents::default();
        if target == size {
            parents = Parents { parameters: pool, constant: true };
        } else {
            if stream.coin() {
                parents.constant = true;
                target -= 1;
            }
            for _ in 0..target {
                let Some(parent) = pool.nth(stream.below(pool.len() as u32) as usize) else { break };
                pool.remove(parent);
                parents.parameters.insert(parent);
            }
        }
        for parent in parents.parameters.minus(nodes) {
            nodes.insert(parent);
            dependencies.push(parent);
        }
        nodes.insert(added);
        dependencies.push(added);
        dependencies.parents[added.index()] = parents;
    }
}
