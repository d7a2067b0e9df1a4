//! Many environments at once over rayon; results keep the order of the inputs and do not depend on the number of threads.

use rayon::prelude::*;

use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result};
use crate::wrappers::{Recorder, Transcript};

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

/// Plays the episodes (`seed`, `indices[i]`) to their ends and returns `[indices]` transcripts.
///
/// `policy` sees the environment with its transcript so far and answers; `None` leaves the episode where it stands.
/// `build` makes one environment per task of rayon, which plays many episodes one after the other.
///
/// # Errors
/// The first by position: from `build`, a reset or a step.
pub fn play_many<E, B, P>(build: B, seed: u64, indices: &[u64], policy: P) -> Result<Vec<Transcript>>
where
    E: Environment,
    B: Fn() -> Result<E> + Sync + Send,
    P: Fn(&Recorder<E>) -> Option<String> + Sync + Send,
{
    let play = |environment: &mut Result<Recorder<E>>, &index: &u64| -> Result<Transcript> {
        let recorder = environment.as_mut().map_err(|error| error.clone())?;
        recorder.reset(seed, index)?;
        while let Some(response) = policy(recorder) {
            if recorder.step(&response)?.ended() {
                break;
            }
        }
        recorder.take().ok_or(Error::NotReset { environment: recorder.name() })
    };
    let results: Vec<Result<Transcript>> =
        indices.par_iter().with_min_len(MIN_CHUNK).map_init(|| build().map(Recorder::new), play).collect();
    results.into_iter().collect()
}

fn ensure_length(name: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Length { name, found, expected }) }
}
