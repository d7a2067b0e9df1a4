//! Distillation: what is 0, what must not change the gradient, what is learned, what is refused.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use approx::assert_relative_eq;
use rl_train::{Distill, DistillConfig, Finish, RunConfig, Sft, Trainer};
use tempfile::TempDir;

use crate::fixtures::*;

/// Of a divergence between equal distributions, per token in nats: log-sum-exp of a mixture rounds.
const NOTHING: f64 = 1e-6;
/// Relative; sums in f32 over other groupings of the same tokens.
const FIRST_STEP: f64 = 1e-5;

/// A teacher that solves the game at times, and the data that it was trained on.
fn data() -> PathBuf {
    static DATA: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        write_expert_answers(&folder.path().join("expert.jsonl"));
        folder
    });
    DATA.path().join("expert.jsonl")
}

/// A narrower model that has seen one step of the same data, so it has the teacher's tokenizer and knows nothing.
pub fn student() -> PathBuf {
    static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let changes = ["seed=8", "training.max_steps=1", "model.new.hidden_size=24", "model.new.intermediate_size=48"];
        train::<Sft>(sft_config(folder.path(), "sft", &data(), &changes));
        folder
    });
    MODEL.path().join("sft/checkpoints/step-000001")
}

/// Distils the half-trained policy into `model`, into `folder/<name>`.
pub fn distill_config(folder: &Path, name: &str, model: &Path, changes: &[&str]) -> DistillConfig {
    rl_torch::set_num_threads(1);
    let text = format!(
        r#"
        run = "{run}"
        seed = 6
        device = "cpu"
        model = {{ path = "{model}" }}
        teacher = {{ path = "{teacher}" }}
        data = "{data}"
        train_on = "assistant"
        selection = {{ max_length = 128, too_long = "error", unusable = "error" }}
        batch_size = 16
        distillation = {{ divergence = {{ kind = "forward_kl" }}, temperature = 1.0 }}
        on_policy_fraction = 0.0
        sampling = {{ max_new_tokens = 12, temperature = 1.0, num_slots = 16 }}
        held_out = {{ same = "{data}" }}
        [training]
        max_steps = 6
        micro_batch_tokens = 4096
        optimizer = {{ beta1 = 0.9, beta2 = 0.98, eps = 1e-7, weight_decay = 0.0 }}
        learning_rate = {{ kind = "constant", learning_rate = 4e-3 }}
        max_grad_norm = 1.0
        checkpoints = {{ every = 3 }}
        "#,
        run = folder.join(name).display(),
        model = model.display(),
        teacher = half_trained().display(),
        data = data().display(),
    );
    let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
    rl_track::config::parse(&text, "distill.toml", &changes).unwrap()
}

#[test]
fn a_student_equal_to_its_teacher_has_nothing_to_learn() {
    let folder = tempfile::tempdir().unwrap();
    for (index, divergence) in [
        "distillation.divergence={ kind = \"forward_kl\" }",
        "distillation.divergence={ kind = \"reverse_kl\" }",
        "distillation.divergence={ kind = \"jensen_shannon\", mix = 0.3 }",
    ]
    .into_iter()
    .enumerate()
    {
        for fraction in ["0.0", "1.0"] {
            let name = format!("run-{index}-{fraction}");
            let on_policy = format!("on_policy_fraction={fraction}");
            let changes = [divergence, &on_policy, "training.max_steps=1", "distillation.temperature=0.7"];
            train::<Distill>(distill_config(folder.path(), &name, &half_trained(), &changes));
            let run = folder.path().join(&name);
            let (loss, norm) = (curve(&run, "train", "loss")[0], curve(&run, "train", "grad_norm")[0]);
            assert!(loss.abs() < NOTHING, "{divergence}: loss {loss}");
            assert!(norm < NOTHING, "{divergence}: gradient {norm}");
        }
    }
    // The cross-entropy keeps the teacher's entropy, but has the same gradient.
    let changes = ["distillation.divergence={ kind = \"cross_entropy\" }", "training.max_steps=1"];
    train::<Distill>(distill_config(folder.path(), "entropy", &half_trained(), &changes));
    let run = folder.path().join("entropy");
    assert!(curve(&run, "train", "loss")[0] > 0.01);
    assert!(curve(&run, "train", "grad_norm")[0] < NOTHING);
}

#[test]
fn micro_batches_do_not_change_what_is_distilled() {
    let folder = tempfile::tempdir().unwrap();
    for fraction in ["0.0", "1.0"] {
        let mut first: Option<(f64, f64)> = None;
        for tokens in ["4096", "90", "1"] {
            let size = format!("training.micro_batch_tokens={tokens}");
            let on_policy = format!("on_policy_fraction={fraction}");
            let name = format!("run-{fraction}-{tokens}");
            let changes = [size.as_str(), &on_policy, "training.max_steps=1"];
            train::<Distill>(distill_config(folder.path(), &name, &student(), &changes));
            let run = folder.path().join(name);
            let (loss, norm) = (curve(&run, "train", "loss")[0], curve(&run, "train", "grad_norm")[0]);
            let (expected_loss, expected_norm) = *first.get_or_insert((loss, norm));
            assert_relative_eq!(loss, expected_loss, max_relative = FIRST_STEP);
            assert_relative_eq!(norm, expected_norm, max_relative = FIRST_STEP);
        }
        assert!(first.is_some_and(|(loss, norm)| 0.1 < loss && 0.01 < norm), "they say something: {first:?}");
    }
}

#[test]
fn a_fresh_student_comes_near_its_teacher() {
    const LEFT: f64 = 0.2;
    let folder = tempfile::tempdir().unwrap();
    for (fraction, steps) in [("0.0", 60), ("0.5", 60)] {
        let name = format!("run-{fraction}");
        let steps = format!("training.max_steps={steps}");
        let on_policy = format!("on_policy_fraction={fraction}");
        let changes = [
            steps.as_str(),
            &on_policy,
            "training.checkpoints.every=60",
            "training.evaluation={ every = 60, at_start = true }",
        ];
        train::<Distill>(distill_config(folder.path(), &name, &student(), &changes));
        let left = curve(&folder.path().join(&name), "same", "loss");
        assert_eq!(left.len(), 2);
        assert!(left[1] < LEFT * left[0], "on-policy {fraction}: divergence {} to {}", left[0], left[1]);
        let on_policy = curve(&folder.path().join(name), "train", "on_policy");
        let share = on_policy.iter().sum::<f64>() / 60.0;
        assert!((share - fraction.parse::<f64>().unwrap()).abs() < 0.2, "{share}");
    }
}

#[test]
fn what_cannot_be_distilled_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = sft_config(folder.path(), "other", &data(), &["training.max_steps=1", "model.new.vocab_size=300"]);
    assert_eq!(train::<Sft>(other), Finish::Complete { step: 1 });
    let other = folder.path().join("other/checkpoints/step-000001");
    let error = Trainer::<Distill>::new(distill_config(folder.path(), "run", &other, &[])).err().unwrap().to_string();
    assert!(error.contains("300") && error.contains(half_trained().to_str().unwrap()), "{error}");

    for (change, key) in [
        ("on_policy_fraction=1.5", "on_policy_fraction"),
        ("distillation.temperature=0.0", "distillation"),
        ("distillation.divergence={ kind = \"jensen_shannon\", mix = 1.0 }", "distillation"),
        ("batch_size=0", "batch_size"),
    ] {
        let error = distill_config(folder.path(), "run", &student(), &[change]).validate().unwrap_err();
        assert_eq!(error.key, key, "{change}");
    }
    let mut without = distill_config(folder.path(), "run", &student(), &["on_policy_fraction=0.5"]);
    without.sampling = None;
    assert_eq!(without.validate().unwrap_err().key, "sampling");
}

#[test]
fn adapters_learn_from_a_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = distill_config(folder.path(), "run", &student(), &["training.max_steps=20"]);
    config.model.lora = Some(lora(0.0));
    train::<Distill>(config);
    let run = folder.path().join("run");
    let losses = curve(&run, "train", "loss");
    assert!(losses[19] < 0.9 * losses[0], "{losses:?}");
    assert!(run.join("checkpoints/step-000020/adapter_model.safetensors").exists());
}
