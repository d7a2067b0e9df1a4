//! Resets and graded answers per second on one core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rl_envs::Environment;
use rl_envs::general_points::{Answer, Deck, Expert, GeneralPoints, GeneralPointsConfig, TemplateKind, Verifier};

const EPISODES: u64 = 4096;
const SEED: u64 = 1;

fn benches(criterion: &mut Criterion) {
    let standard = GeneralPointsConfig::default();
    let compact = GeneralPointsConfig { template: TemplateKind::Compact, ..standard.clone() };
    let mut group = criterion.benchmark_group("general_points");
    group.throughput(Throughput::Elements(EPISODES));

    for (name, config) in [("standard", &standard), ("compact", &compact)] {
        let mut game = GeneralPoints::new(config.clone()).expect("the config is valid");
        let deck = Deck::new(config).expect("the config is valid");
        let verifier = Verifier::new(config).expect("the config is valid");
        let expert = Expert::new(config).expect("the config is valid");
        let right: Vec<_> = (0..EPISODES)
            .map(|index| {
                let hand = deck.deal(SEED, index).expect("hands exist").values();
                (hand, expert.example(SEED, index).expect("hands exist").messages[1].content.clone())
            })
            .collect();
        // Another episode's answer has the right form and, nearly always, the wrong numbers.
        let wrong: Vec<_> = right.iter().zip(right.iter().skip(1)).map(|(a, b)| (a.0, b.1.clone())).collect();

        group.bench_function(format!("reset/{name}"), |bencher| {
            bencher.iter(|| {
                for index in 0..EPISODES {
                    black_box(game.reset(SEED, index).expect("hands exist"));
                }
            });
        });
        for (kind, answers) in [("right", &right), ("wrong", &wrong)] {
            group.bench_function(format!("grade/{name}/{kind}"), |bencher| {
                bencher.iter(|| {
                    for (hand, response) in answers {
                        let answer = Answer::parse(black_box(response));
                        black_box(verifier.grade(answer.left_side(), *hand));
                    }
                });
            });
        }
        group.bench_function(format!("expert/{name}"), |bencher| {
            bencher.iter(|| {
                for index in 0..EPISODES {
                    black_box(expert.example(SEED, index).expect("hands exist"));
                }
            });
        });
        group.bench_function(format!("episode/{name}"), |bencher| {
            bencher.iter(|| {
                for (index, (_, response)) in (0..EPISODES).zip(&right) {
                    game.reset(SEED, index).expect("hands exist");
                    game.step("no idea").expect("the episode goes on");
                    black_box(game.step(response).expect("the episode goes on"));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(general_points, benches);
criterion_main!(general_points);
