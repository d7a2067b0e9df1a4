//! Speed of V-IRL: resets and steps, all on one core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rl_envs::Environment;
use rl_envs::virl::synthetic::Synthetic;
use rl_envs::virl::{Answer, EpisodeKind, SyntheticConfig, TemplateKind, Virl, VirlConfig};

/// Walks of one iteration.
const WALKS: u64 = 64;

/// The expert's answers along walk `index`.
fn answers(task: &mut Virl, index: u64) -> Vec<String> {
    let mut answers = Vec::new();
    if task.reset(42, index).is_err() {
        return answers;
    }
    while let Some(answer) = task.expert_answer() {
        if task.step(&answer).is_err() {
            break;
        }
        answers.push(answer);
    }
    answers
}

fn bench(c: &mut Criterion) {
    for (name, template) in [("standard", TemplateKind::Standard), ("compact", TemplateKind::Compact)] {
        let config = VirlConfig { template, ..VirlConfig::default() };
        let Ok(mut task) = Virl::new(config.clone()) else { return };
        let walks: Vec<Vec<String>> = (0..WALKS).map(|index| answers(&mut task, index)).collect();

        let mut group = c.benchmark_group("virl");
        group.throughput(Throughput::Elements(walks.iter().map(|answers| answers.len() as u64).sum()));
        // Whole walks, their resets included.
        group.bench_function(format!("steps/{name}"), |b| {
            b.iter(|| {
                for (answers, index) in walks.iter().zip(0..) {
                    let _ = black_box(task.reset(42, index));
                    for answer in answers {
                        let _ = black_box(task.step(black_box(answer)));
                    }
                }
            });
        });
        group.throughput(Throughput::Elements(1));
        let mut index = 0;
        group.bench_function(format!("reset/{name}"), |b| {
            b.iter(|| {
                index += 1;
                black_box(task.reset(42, index))
            });
        });
        let Ok(mut point) = Virl::new(VirlConfig { episode: EpisodeKind::Point, ..config }) else { return };
        group.bench_function(format!("reset_point/{name}"), |b| {
            b.iter(|| {
                index += 1;
                black_box(point.reset(42, index))
            });
        });
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| black_box(Answer::parse(black_box(&walks[0][0]))));
        });
        group.finish();
    }
    let mut group = c.benchmark_group("virl");
    group.throughput(Throughput::Elements(1));
    let Ok(routes) = Synthetic::new(&SyntheticConfig::TRAINING) else { return };
    let mut number = 0;
    group.bench_function("route", |b| {
        b.iter(|| {
            number += 1;
            black_box(routes.route(number))
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
