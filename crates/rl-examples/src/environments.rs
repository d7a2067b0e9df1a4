//! Environments at a terminal: reading responses, and measuring how fast they are.

use std::fmt;
use std::hint::black_box;
use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rl_envs::{Environment, Preset, Step};
use serde::Serialize;

/// Episodes that a measurement goes round in.
const EPISODES: u64 = 2048;
const SEED: u64 = 1;

/// What `--help` says of names, before `examples`.
pub fn names_help(examples: &str) -> String {
    let names: Vec<String> =
        Preset::ALL.iter().map(|preset| format!("  {:24}{}", preset.name(), preset.summary())).collect();
    format!("Names:\n{}\n\nExamples:\n{examples}", names.join("\n"))
}

/// What stands behind the scenes, a line per key.
pub fn info_lines(environment: &dyn Environment) -> String {
    match environment.info() {
        serde_json::Value::Object(info) => {
            info.iter().map(|(key, value)| format!("  {key}: {value}\n")).collect::<String>()
        }
        other => format!("  {other}\n"),
    }
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
    /// Cores of `all_cores`.
    pub cores: usize,
    /// On one core.
    pub one_core: Rates,
    /// On all cores, one thread each.
    pub all_cores: Rates,
}

/// What is done in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Episodes made, with their prompts.
    pub resets_per_second: f64,
    /// Episodes made, with their prompts and the expert's first answers.
    pub examples_per_second: f64,
    /// Answers judged, the resets between them not counted.
    pub steps_per_second: f64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Speed { environment, cores, one_core, all_cores } = self;
        write!(f, "{environment:24} 1 core:  {one_core}\n{:24} {cores} cores: {all_cores}", "")
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rates { resets_per_second, examples_per_second, steps_per_second } = self;
        write!(
            f,
            "{resets_per_second:>10.0} resets/s {examples_per_second:>10.0} examples/s {steps_per_second:>10.0} steps/s"
        )
    }
}

/// Measures `preset` for some `time` per number; steps take twice as long, for the resets between them.
///
/// # Errors
/// From the environment; when it has no expert.
pub fn measure(preset: Preset, time: Duration) -> Result<Speed> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut environment = preset.config().build()?;
    let answers = (0..EPISODES).map(|index| right_answers(environment.as_mut(), index)).collect::<Result<Vec<_>>>()?;
    Ok(Speed {
        environment: preset.name(),
        cores,
        one_core: on_cores(1, preset, &answers, time)?,
        all_cores: on_cores(cores, preset, &answers, time)?,
    })
}

/// What the expert says from the start of episode `index` to its end; never empty.
fn right_answers(environment: &mut dyn Environment, index: u64) -> Result<Vec<String>> {
    environment.reset(SEED, index)?;
    let mut answers = Vec::new();
    while let Some(answer) = environment.expert() {
        environment.step(&answer)?;
        answers.push(answer);
    }
    ensure!(!answers.is_empty(), "{} has no expert to answer", environment.name());
    Ok(answers)
}

/// The rates of `threads` threads together.
fn on_cores(threads: usize, preset: Preset, answers: &[Vec<String>], time: Duration) -> Result<Rates> {
    let measured: Vec<Result<Rates>> = std::thread::scope(|scope| {
        let one = || -> Result<Rates> {
            let mut environment = preset.config().build()?;
            let environment = environment.as_mut();
            Ok(Rates {
                resets_per_second: episodes(environment, time, |_| ())?,
                examples_per_second: episodes(environment, time, |environment| drop(black_box(environment.expert())))?,
                steps_per_second: steps(environment, answers, time)?,
            })
        };
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))).collect()
    });
    measured.into_iter().try_fold(Rates::default(), |sum, rates| {
        rates.map(|rates| Rates {
            resets_per_second: sum.resets_per_second + rates.resets_per_second,
            examples_per_second: sum.examples_per_second + rates.examples_per_second,
            steps_per_second: sum.steps_per_second + rates.steps_per_second,
        })
    })
}

/// Resets per second, each followed by `then`.
fn episodes(environment: &mut dyn Environment, time: Duration, then: impl Fn(&dyn Environment)) -> Result<f64> {
    let (started, mut count) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        for index in 0..EPISODES {
            black_box(environment.reset(SEED, index)?);
            then(environment);
        }
        count += EPISODES;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Only steps are timed: the clock is stopped between them, and what reading it costs is taken off.
fn steps(environment: &mut dyn Environment, answers: &[Vec<String>], time: Duration) -> Result<f64> {
    let mut timer = Timer { spent: Duration::ZERO, count: 0, clock: clock_cost() };
    let started = Instant::now();
    while started.elapsed() < 2 * time {
        for (index, right) in (0..EPISODES).zip(answers) {
            let others = &answers[(index as usize + 1) % answers.len()];
            play(environment, index, right, others, &mut timer)?;
        }
    }
    ensure!(0 < timer.count && !timer.spent.is_zero(), "no time was measured");
    Ok(timer.count as f64 / timer.spent.as_secs_f64())
}

/// Plays episode `index`: at every point what is right in another episode, and then, unless that was right here too, what is
/// right here. Where the first answer already ends the episode, a fresh start takes the second.
fn play(
    environment: &mut dyn Environment,
    index: u64,
    right: &[String],
    others: &[String],
    timer: &mut Timer,
) -> Result<()> {
    environment.reset(SEED, index)?;
    for (point, answer) in right.iter().enumerate() {
        let step = timer.step(environment, &others[point % others.len()])?;
        if step.ended() {
            if !step.success {
                environment.reset(SEED, index)?;
                for answer in &right[..=point] {
                    timer.step(environment, answer)?;
                }
            }
            return Ok(());
        }
        // What starts over has left this point behind.
        if !environment.starts_over() && timer.step(environment, answer)?.ended() {
            return Ok(());
        }
    }
    Ok(())
}

/// Adds up the time of steps.
struct Timer {
    spent: Duration,
    count: u64,
    clock: Duration,
}

impl Timer {
    fn step(&mut self, environment: &mut dyn Environment, answer: &str) -> Result<Step> {
        let now = Instant::now();
        let step = black_box(environment.step(black_box(answer))?);
        self.spent += now.elapsed().saturating_sub(self.clock);
        self.count += 1;
        Ok(step)
    }
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
        // One with an attempt, one with several, one with several conversations.
        for preset in [Preset::Igsm, Preset::MatrixDeterminant, Preset::Virl] {
            let speed = measure(preset, Duration::from_millis(2)).unwrap();
            for Rates { resets_per_second, examples_per_second, steps_per_second } in [speed.one_core, speed.all_cores]
            {
                let numbers = [resets_per_second, examples_per_second, steps_per_second];
                assert!(numbers.iter().all(|number| number.is_finite() && 0.0 < *number), "{speed}");
            }
        }
    }

    #[test]
    fn half_of_the_answers_are_right() {
        let mut game = Preset::MatrixDeterminant.config().build().unwrap();
        let answers: Vec<_> = (0..64).map(|index| right_answers(game.as_mut(), index).unwrap()).collect();
        let mut timer = Timer { spent: Duration::ZERO, count: 0, clock: Duration::ZERO };
        let mut single = 0;
        for (index, right) in answers.iter().enumerate() {
            let others = &answers[(index + 1) % answers.len()];
            single += u64::from(right == others);
            play(game.as_mut(), index as u64, right, others, &mut timer).unwrap();
        }
        assert_eq!(timer.count, 2 * 64 - single);
    }
}
