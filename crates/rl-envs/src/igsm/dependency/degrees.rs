//! Stage 4: in-degrees that make the number of operations exact, and parents to fill them.

use super::{Dependencies, MAX_LETTERS, total_cost};
use crate::igsm::parameter::{MAX_PARAMETERS, ParameterSet};
use crate::igsm::stream::Stream;
use crate::igsm::structure::Structure;

/// No instance parameter can take another operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::igsm) struct Full;

/// Raises in-degrees of instance parameters at random until the solution takes exactly `operations`, then draws parents
/// among earlier parameters and the random constant.
///
/// The order holds at most [`MAX_LETTERS`] parameters.
pub(in crate::igsm) fn draw(
    structure: &Structure,
    operations: u32,
    max_in_degree: usize,
    stream: &mut Stream,
    dependencies: &mut Dependencies,
) -> Result<(), Full> {
    let len = dependencies.len.min(MAX_LETTERS);
    let mut cost = [1_u32; MAX_PARAMETERS];
    // Positions whose cost can still rise, as bits.
    let mut growing = 0_u64;
    let cap = |position: usize| (max_in_degree as u32 - 1).min(position.max(1) as u32);
    let mut sum = 0;
    for (position, &parameter) in dependencies.order().iter().enumerate() {
        if parameter.is_instance() {
            if 1 < cap(position) {
                growing |= 1 << position;
            }
        } else {
            cost[position] = total_cost(structure, parameter);
        }
        sum += cost[position];
    }
    while sum < operations {
        let position = nth_bit(growing, stream.below(growing.count_ones())).ok_or(Full)?;
        cost[position] += 1;
        if cost[position] == cap(position) {
            growing &= !(1 << position);
        }
        sum += 1;
    }
    if sum != operations {
        return Err(Full);
    }
    let mut earlier = ParameterSet::EMPTY;
    for (position, &cost) in cost.iter().enumerate().take(len) {
        let parameter = dependencies.order[position];
        if parameter.is_instance() {
            let parents = &mut dependencies.parents[parameter.index()];
            let early = !parents.parameters.is_empty();
            let mut target = if cost == 1 { 1 + usize::from(stream.coin()) } else { cost as usize + 1 };
            target = target.min(position + 1) - usize::from(early);
            let mut pool = earlier.minus(parents.parameters);
            if target == pool.len() + 1 {
                parents.parameters = earlier;
                parents.constant = true;
            } else {
                let mut constant_left = true;
                if stream.coin() {
                    parents.constant = true;
                    constant_left = false;
                    target = target.saturating_sub(1);
                }
                for _ in 0..target {
                    let choices = pool.len() + usize::from(constant_left);
                    match pool.nth(stream.below(choices as u32) as usize) {
                        Some(parent) => {
                            pool.remove(parent);
                            parents.parameters.insert(parent);
                        }
                        // The last choice is the constant.
                        None => {
                            parents.constant = true;
                            constant_left = false;
                        }
                    }
                }
            }
        }
        earlier.insert(parameter);
    }
    Ok(())
}

fn nth_bit(mut bits: u64, n: u32) -> Option<usize> {
    for _ in 0..n {
        bits &= bits.wrapping_sub(1);
    }
    (bits != 0).then(|| bits.trailing_zeros() as usize)
}
