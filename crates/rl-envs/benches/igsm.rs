//! Problems per second on one core: drawn, with their text, with a solution, and graded.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rl_envs::Environment;
use rl_envs::igsm::{
    Extraction, Generator, Igsm, IgsmConfig, ParsedProblem, ProblemConfig, RewardTable, Solution, StepVerifier,
    TraceConfig,
};

const PROBLEMS: u64 = 4096;
const SEED: u64 = 1;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("igsm");
    group.throughput(Throughput::Elements(PROBLEMS));
    for (name, config) in [("op 15..20", ProblemConfig::default()), ("op 25", ProblemConfig::exactly(25))] {
        let generator = Generator::new(&config).expect("the config is valid");
        group.bench_function(format!("problem/{name}"), |bencher| {
            bencher.iter(|| {
                for index in 0..PROBLEMS {
                    black_box(generator.problem(SEED, index).expect("problems exist"));
                }
            });
        });
        for (style, trace) in
            [("plain", TraceConfig::PLAIN), ("vanilla", TraceConfig::VANILLA), ("injected", TraceConfig::BRIDGE)]
        {
            let mut text = String::new();
            group.bench_function(format!("problem and {style} solution/{name}"), |bencher| {
                bencher.iter(|| {
                    for index in 0..PROBLEMS {
                        let problem = generator.problem(SEED, index).expect("problems exist");
                        text.clear();
                        problem.write_question(&mut text);
                        problem.write_response(&trace, 0, &mut text);
                        black_box(text.len());
                    }
                });
            });
        }
    }
    let config = ProblemConfig::default();
    let generator = Generator::new(&config).expect("the config is valid");
    let problems: Vec<_> = (0..PROBLEMS).map(|index| generator.problem(SEED, index).expect("problems exist")).collect();
    let mut text = String::new();
    group.bench_function("text of a problem and injected solution", |bencher| {
        bencher.iter(|| {
            for problem in &problems {
                text.clear();
                problem.write_question(&mut text);
                problem.write_response(&TraceConfig::BRIDGE, 0, &mut text);
                black_box(text.len());
            }
        });
    });
    let texts: Vec<_> =
        problems.iter().map(|problem| (problem.question(), problem.response(&TraceConfig::BRIDGE, 0))).collect();
    group.bench_function("text-only solver", |bencher| {
        bencher.iter(|| {
            for (question, _) in &texts {
                let parsed = ParsedProblem::parse(question, generator.vocabulary()).expect("the text is well formed");
                black_box(Solution::new(&parsed, None).expect("the text has an answer").answer());
            }
        });
    });
    group.bench_function("step verifier", |bencher| {
        bencher.iter(|| {
            for (question, response) in &texts {
                let parsed = ParsedProblem::parse(question, generator.vocabulary()).expect("the text is well formed");
                let solution = Solution::new(&parsed, None).expect("the text has an answer");
                black_box(StepVerifier::new(&solution, generator.vocabulary()).verify(response).process_correct());
            }
        });
    });
    let config = IgsmConfig { problems: config, extraction: Extraction::Robust, reward: RewardTable::BINARY };
    let mut env = Igsm::new(&config).expect("the config is valid");
    group.bench_function("episode", |bencher| {
        bencher.iter(|| {
            for (index, (_, response)) in (0..PROBLEMS).zip(&texts) {
                env.reset(SEED, index).expect("problems exist");
                black_box(env.step(response).expect("the episode goes on"));
            }
        });
    });
    group.finish();
}

criterion_group!(igsm, benches);
criterion_main!(igsm);
