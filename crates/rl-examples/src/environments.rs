//! Environments at a terminal: reading responses, and measuring how fast they are.

use std::fmt;
use std::hint::black_box;
use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rl_envs::{Environment, Preset};
use serde::Serialize;

/// Episodes that a measurement goes round in.
const EPISODES: u64 = 2048;
const SEED: u64 = 1;

/// What `--help` says of names.
pub fn names_help() -> String {
    format!("Names: {}.", Preset::ALL.iter().map(|preset| preset.name()).collect::<Vec<_>>().join(", "))
}

/// A response of one or more lines; `None` at the end of the input.
///
/// # Errors
/// When the input cannot be read.
pub fn read_response(lines: &mut std::io::Lines<impl BufRead>) -> Result<Option<String>> {
    let mut response = String::new();
    loop {
        let Some(line) = lines.next().transpose().context("cannot read the input")? else { return Ok(None) };
        match line.strip_suffix('\\') {
            Some(start) => {
                response.push_str(start);
                response.push('\n');
            }
            None => return Ok(Some(response + &line)),
        }
    }
}

/// How fast an environment is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Speed {
    /// Name of the preset.
    pub environment: &'static str,
    /// Cores of the last two numbers.
    pub cores: usize,
    /// On one core.
    pub resets_per_second: f64,
    /// On one core, without the resets between.
    pub steps_per_second: f64,
    /// On all cores.
    pub resets_per_second_all_cores: f64,
    /// On all cores.
    pub steps_per_second_all_cores: f64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:24} one core: {:>11.0} resets/s {:>11.0} steps/s   {} cores: {:>11.0} resets/s {:>11.0} steps/s",
            self.environment,
            self.resets_per_second,
            self.steps_per_second,
            self.cores,
            self.resets_per_second_all_cores,
            self.steps_per_second_all_cores
        )
    }
}

/// Measures `preset` for some `time` per number.
///
/// # Errors
/// From the environment; when it has no expert.
pub fn measure(preset: Preset, time: Duration) -> Result<Speed> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut environment = preset.config().build()?;
    let mut answers = Vec::with_capacity(EPISODES as usize);
    for index in 0..EPISODES {
        environment.reset(SEED, index)?;
        answers.push(environment.expert().with_context(|| format!("{preset} has no expert to answer"))?);
    }
    let (resets_per_second, steps_per_second) = on_cores(1, preset, &answers, time)?;
    let (resets_per_second_all_cores, steps_per_second_all_cores) = on_cores(cores, preset, &answers, time)?;
    Ok(Speed {
        environment: preset.name(),
        cores,
        resets_per_second,
        steps_per_second,
        resets_per_second_all_cores,
        steps_per_second_all_cores,
    })
}

/// Resets and steps per second of `threads` threads together.
fn on_cores(threads: usize, preset: Preset, answers: &[String], time: Duration) -> Result<(f64, f64)> {
    let measured: Vec<Result<(f64, f64)>> = std::thread::scope(|scope| {
        let one = || -> Result<(f64, f64)> {
            let mut environment = preset.config().build()?;
            Ok((resets(environment.as_mut(), time)?, steps(environment.as_mut(), answers, time)?))
        };
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).collect()
    });
    measured.into_iter().try_fold((0.0, 0.0), |sum, speed| speed.map(|speed| (sum.0 + speed.0, sum.1 + speed.1)))
}

fn resets(environment: &mut dyn Environment, time: Duration) -> Result<f64> {
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        for index in 0..EPISODES {
            black_box(environment.reset(SEED, index)?);
        }
        count += EPISODES;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Only steps are timed: the clock is stopped around each reset, and what reading it costs is taken off.
fn steps(environment: &mut dyn Environment, answers: &[String], time: Duration) -> Result<f64> {
    let (mut spent, mut count) = (Duration::ZERO, 0_u64);
    let started = Instant::now();
    let clock = clock_cost();
    while started.elapsed() < 2 * time {
        for (index, answer) in (0..EPISODES).zip(answers) {
            environment.reset(SEED, index)?;
            // Another episode's answer first; the right one if the episode goes on.
            let other = &answers[(index as usize + 1) % answers.len()];
            let now = Instant::now();
            let step = black_box(environment.step(black_box(other))?);
            let mut steps = 1;
            if !step.ended() {
                black_box(environment.step(black_box(answer))?);
                steps = 2;
            }
            spent += now.elapsed().saturating_sub(clock);
            count += steps;
        }
    }
    ensure!(0 < count && !spent.is_zero(), "no time was measured");
    Ok(count as f64 / spent.as_secs_f64())
}

/// Time between two readings of the clock with nothing in between.
fn clock_cost() -> Duration {
    const READINGS: u32 = 1000;
    let total: Duration = (0..READINGS).map(|_| Instant::now().elapsed()).sum();
    total / READINGS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_goes_on() {
        let mut lines = std::io::Cursor::new("one\\\ntwo\nthree").lines();
        assert_eq!(read_response(&mut lines).unwrap().as_deref(), Some("one\ntwo"));
        assert_eq!(read_response(&mut lines).unwrap().as_deref(), Some("three"));
        assert_eq!(read_response(&mut lines).unwrap(), None);
    }

    #[test]
    fn speeds_are_measured() {
        let speed = measure(Preset::MatrixDeterminant, Duration::from_millis(2)).unwrap();
        let numbers = [speed.resets_per_second, speed.steps_per_second, speed.steps_per_second_all_cores];
        assert!(numbers.iter().all(|number| number.is_finite() && 0.0 < *number), "{speed}");
    }
}
