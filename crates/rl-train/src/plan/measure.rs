//! The largest step of a run, taken for real.

use std::time::Instant;

use crate::trainer::Method;
use crate::{Error, Result};

/// Steps that are taken: gradients and moments come into being in the first, the second is what every later one is like.
const STEPS: u64 = 2;

/// What the largest step took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Seconds of a step.
    pub seconds: f64,
    /// Peak memory of this process, in bytes.
    pub peak: u64,
}

/// Steps a trainer that was built on the largest batch of its run.
pub(crate) fn measure<M: Method>(mut method: M) -> Result<Measured> {
    method.connect()?;
    let mut seconds = 0.0;
    for step in 0..STEPS {
        let started = Instant::now();
        method.step(step).map_err(|error| Error::at_step(error, step + 1))?;
        seconds = started.elapsed().as_secs_f64();
    }
    Ok(Measured { seconds, peak: rl_torch::peak_resident_bytes().unwrap_or(0) })
}
