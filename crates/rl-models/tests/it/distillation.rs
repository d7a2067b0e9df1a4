//! Distillation between two decoders: the public function against its definition, its memory, its refusals.

use rl_models::{Decoder, DistillationSettings, Divergence, ModelConfig, distillation_loss};
use rl_torch::memory::MemoryTracker;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::tiny;

/// Gradients of two f32 computations that sum in other orders, relative to the largest.
const GRADIENT: f64 = 1e-4;
const LOSS: f64 = 1e-5;

const SETTINGS: DistillationSettings =
    DistillationSettings { divergence: Divergence::JensenShannon { mix: 0.3 }, temperature: 0.9 };

fn config(hidden: i64, vocab: i64) -> ModelConfig {
    serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocab, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false, "initializer_range": 0.3,
    }))
    .unwrap()
}

/// The plain loss on whole matrices of logits.
fn plain(student: &Tensor, teacher: &Tensor, rows: &Tensor, num_labels: f64) -> Tensor {
    let log_softmax = |logits: &Tensor| (logits.index_select(0, rows) / 0.9).log_softmax(-1, None::<Kind>);
    let (s, t) = (log_softmax(student), log_softmax(teacher));
    let mixture = (t.exp() * 0.3 + s.exp() * 0.7).log();
    ((t.exp() * (&t - &mixture)) * 0.3 + (s.exp() * (&s - &mixture)) * 0.7).sum(Kind::Float) / num_labels
}

fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[])
}

#[test]
fn every_student_weight_gets_the_gradient_of_the_definition() {
    rl_torch::set_num_threads(1);
    let student = Decoder::random(config(16, 61), 1, Device::Cpu).unwrap();
    let teacher = Decoder::random(config(24, 61), 2, Device::Cpu).unwrap();
    student.set_trainable(true);
    let sequences: [&[i64]; 2] = [&[3, 1, 4, 1, 5, 9, 2], &[6, 5, 3, 5]];
    let rows = Tensor::from_slice(&[1_i64, 2, 5, 7, 8]);
    let run = |tiled: bool| {
        let hidden = student.hidden_states(&student.pack(&sequences).unwrap()).unwrap();
        let teacher_hidden = tch::no_grad(|| teacher.hidden_states(&teacher.pack(&sequences).unwrap())).unwrap();
        let loss = if tiled {
            distillation_loss(&student, &hidden, &teacher, &teacher_hidden, &rows, SETTINGS, 8).unwrap()
        } else {
            let teacher_logits = tch::no_grad(|| teacher.logits(&teacher_hidden)).unwrap();
            plain(&student.logits(&hidden).unwrap(), &teacher_logits, &rows, 8.0)
        };
        loss.backward();
        let grads: Vec<(String, Tensor)> = student
            .parameters()
            .into_iter()
            .map(|(name, mut parameter)| {
                let grad = parameter.grad().copy();
                parameter.zero_grad();
                (name, grad)
            })
            .collect();
        (loss.double_value(&[]), grads)
    };
    let (expected, found) = (run(false), run(true));
    assert!((found.0 - expected.0).abs() < LOSS * expected.0, "{} against {}", found.0, expected.0);
    assert!(found.1.len() > 5);
    for ((name, found), (_, expected)) in found.1.iter().zip(&expected.1) {
        let deviation = deviation(found, expected);
        assert!(deviation < GRADIENT, "{name}: {deviation:e}");
    }
    assert!(teacher.parameters().iter().all(|(_, parameter)| !parameter.grad().defined()));
}

#[test]
fn memory_grows_neither_with_labels_times_vocabulary_nor_with_the_vocabulary() {
    rl_torch::set_num_threads(1);
    let (hidden, vocab_sizes, labels) = (8, [8_000, 64_000], 1100);
    let peak = |vocab: i64, labels: i64| {
        let student = Decoder::random(config(hidden, vocab), 1, Device::Cpu).unwrap();
        let teacher = Decoder::random(config(hidden, vocab), 2, Device::Cpu).unwrap();
        student.set_trainable(true);
        let states = || Tensor::randn([labels, hidden], (Kind::Float, Device::Cpu));
        let (student_hidden, teacher_hidden) = (states().set_requires_grad(true), states());
        let rows = Tensor::arange(labels, (Kind::Int64, Device::Cpu));
        let tracker = MemoryTracker::start().unwrap();
        distillation_loss(&student, &student_hidden, &teacher, &teacher_hidden, &rows, SETTINGS, labels as usize)
            .unwrap()
            .backward();
        // The head's own gradient is the one thing that has the vocabulary's size.
        tracker.stop().unwrap().peak_bytes - 4 * vocab * hidden
    };
    let (small, large, long) =
        (peak(vocab_sizes[0], labels), peak(vocab_sizes[1], labels), peak(vocab_sizes[1], 2 * labels));
    println!("beyond gradients: {small} bytes at 8k, {large} at 64k, {long} with twice the labels");
    let logits = 4 * labels * vocab_sizes[1];
    assert!(large as f64 <= 1.05 * small as f64, "{small} bytes at 8k, {large} at 64k");
    // Per label: its hidden gradient, four sums, the copies of one block of rows.
    assert!(long - large < labels * 4 * (6 * hidden + 20), "{large} bytes, {long} with twice the labels");
    assert!(3 * large < logits, "{large} bytes, where the logits of one model alone are {logits}");
}

#[test]
fn what_cannot_be_distilled_is_refused() {
    let student = tiny::decoder("tiny-tied");
    let other = Decoder::random(config(16, 61), 1, Device::Cpu).unwrap();
    let width = student.config().hidden_size;
    let hidden = Tensor::zeros([4, width], (Kind::Float, Device::Cpu));
    let rows = Tensor::from_slice(&[0_i64, 3]);
    let run = |teacher: &Decoder, teacher_hidden: &Tensor, settings, num_labels| {
        distillation_loss(&student, &hidden, teacher, teacher_hidden, &rows, settings, num_labels)
    };
    assert!(run(&student, &hidden, SETTINGS, 2).unwrap().double_value(&[]).abs() < LOSS, "a model is its own teacher");
    let refused = |result: rl_models::Result<Tensor>, words: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(run(&student, &hidden, SETTINGS, 0), "must be positive");
    refused(run(&student, &hidden, SETTINGS, 1), "count the 2 rows");
    refused(run(&student, &hidden.narrow(0, 0, 3), SETTINGS, 2), "the student has 4 rows");
    let elsewhere = Tensor::zeros([4, 16], (Kind::Float, Device::Cpu));
    refused(run(&other, &elsewhere, SETTINGS, 2), "one vocabulary");
    let hot = DistillationSettings { temperature: 0.0, ..SETTINGS };
    refused(run(&student, &hidden, hot, 2), "positive and finite");
    for mix in [0.0, 1.0, f64::NAN] {
        let end = DistillationSettings { divergence: Divergence::JensenShannon { mix }, ..SETTINGS };
        refused(run(&student, &hidden, end, 2), "choose forward_kl or reverse_kl");
    }
    let text = r#"{"divergence":{"kind":"jensen_shannon","mix":0.5},"temperature":0.9}"#;
    let settings: DistillationSettings = serde_json::from_str(text).unwrap();
    assert_eq!(settings.divergence, Divergence::JensenShannon { mix: 0.5 });
    assert!(serde_json::from_str::<DistillationSettings>(&text.replace("mix", "beta")).is_err());
}
