//! Many environments at once over rayon; results keep the order of the inputs.

use rayon::prelude::*;

use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result};

/// Environments one task takes at least; below it scheduling costs more than the work.
const MIN_CHUNK: usize = 32;

/// Resets environment `i` to episode (`seed`, `indices[i]`). Returns `[environments]` observations.
///
/// # Errors
/// When the lengths differ, or the first error by position of any environment.
pub fn reset_many<E: Environment>(environments: &mut [E], seed: u64, indices: &[u64]) -> Result<Vec<Observation>> {
    ensure_length("indices", indices.len(), environments.len())?;
    let results: Vec<Result<Observation>> = environments
        .par_iter_mut()
        .with_min_len(MIN_CHUNK)
        .zip(indices)
        .map(|(environment, &index)| environment.reset(seed, index))
        .collect();
    results.into_iter().collect()
}

/// Steps environment `i` with `responses[i]`; `None` leaves it alone, which is how ended episodes sit out.
///
/// Returns `[environments]` steps, `None` where there was no response.
///
/// # Errors
/// When the lengths differ, or the first error by position of any environment. The other environments have then
/// been stepped all the same.
pub fn step_many<E: Environment, S: AsRef<str> + Sync>(
    environments: &mut [E],
    responses: &[Option<S>],
) -> Result<Vec<Option<Step>>> {
    ensure_length("responses", responses.len(), environments.len())?;
    let results: Vec<Result<Option<Step>>> = environments
        .par_iter_mut()
        .with_min_len(MIN_CHUNK)
        .zip(responses)
        .map(|(environment, response)| {
            response.as_ref().map(|response| environment.step(response.as_ref())).transpose()
        })
        .collect();
    results.into_iter().collect()
}

fn ensure_length(name: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Length { name, found, expected }) }
}
