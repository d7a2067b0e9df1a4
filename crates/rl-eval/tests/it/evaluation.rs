//! Whole evaluations of tiny untrained models: what is counted, kept, linked and refused.

use std::fs;
use std::path::Path;

use rl_data::{CHATML, ChatTemplate, Message, Renderer, Role, train_tokenizer};
use rl_envs::EnvironmentConfig;
use rl_envs::general_points::Deck;
use rl_envs::instructions::Prompts;
use rl_eval::{AnswerScorer, EvaluationConfig, Summary, evaluate, read_summary};
use rl_models::checkpoint::{SideFiles, save_folder};
use rl_models::{Decoder, ModelConfig};
use rl_track::Progress;
use serde_json::json;

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// A checkpoint folder with fresh weights.
fn write_model(folder: &Path, seed: u64) {
    // Tests run beside each other; with threads of their own, tiny tensors would mostly wait.
    rl_torch::set_num_threads(1);
    let tokenizer = train_tokenizer(&["Cards: 10. Use each once to make 10."], 265, &SPECIAL).unwrap();
    let config: ModelConfig = serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "vocab_size": tokenizer.vocab_size(), "max_position_embeddings": 384, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": true, "initializer_range": 0.3, "torch_dtype": "float32",
    }))
    .unwrap();
    let template = ChatTemplate::new(CHATML, Some(SPECIAL[1]), Some(SPECIAL[2])).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    Renderer::new(tokenizer, template).unwrap().save(temporary.path()).unwrap();
    let side_files = SideFiles::from_folder(temporary.path()).unwrap();
    let decoder = Decoder::random(config, seed, rl_torch::parse_device("cpu").unwrap()).unwrap();
    let parameters = decoder.parameters();
    let tensors: Vec<_> = parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_folder(folder, decoder.config(), &tensors, &side_files).unwrap();
}

/// Two checkpoints of a run, one more model, and training data with the values 1 to 6.
fn prepare(root: &Path) {
    write_model(&root.join("train/checkpoints/step-000010"), 1);
    write_model(&root.join("train/checkpoints/step-000020"), 2);
    write_model(&root.join("elsewhere/base"), 3);
    let row = |value: u8| {
        let messages = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]);
        json!({ "messages": messages, "values": [value, 1] }).to_string() + "\n"
    };
    fs::write(root.join("data.jsonl"), (1..=6).map(row).collect::<String>()).unwrap();
}

fn config(root: &Path, changes: &[&str]) -> EvaluationConfig {
    let text = format!(
        r#"
        run = "{root}/evaluation"
        device = "cpu"
        seed = 9
        num_tasks = 12
        checkpoints_of = "{root}/train"
        models = {{ base = "{root}/elsewhere/base" }}
        training_data = "{root}/data.jsonl"
        transcripts = 3
        select = {{ split = "id", decoding = "greedy" }}
        [[splits]]
        name = "id"
        environment = {{ name = "general_points", num_cards = 2, target = 8, template = "compact", max_attempts = 2 }}
        [[splits]]
        name = "ood"
        [splits.environment]
        name = "general_points"
        num_cards = 2
        target = 8
        template = "compact"
        max_attempts = 2
        treat_face_cards_as_10 = false
        ood = true
        [[decodings]]
        name = "greedy"
        sampling = {{ max_new_tokens = 8, temperature = 0.0, num_slots = 4 }}
        [[decodings]]
        name = "sampled"
        sampling = {{ max_new_tokens = 8, temperature = 1.0, num_slots = 5 }}
        "#,
        root = root.display()
    );
    let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
    rl_track::config::parse(&text, "evaluation.toml", &changes).unwrap()
}

fn run(root: &Path) -> Summary {
    evaluate(&config(root, &[]), None, &Progress::hidden()).unwrap()
}

#[test]
fn an_evaluation_counts_links_and_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    // Links are relative: the real path differs from the given one where the temporary folder is itself a link.
    let root = folder.path();
    prepare(root);
    let summary = run(root);
    let names: Vec<&str> = summary.evaluations.iter().map(|evaluation| evaluation.name.as_str()).collect();
    assert_eq!(names, ["base", "step-000010", "step-000020"]);
    let steps: Vec<Option<u64>> = summary.evaluations.iter().map(|evaluation| evaluation.step).collect();
    assert_eq!(steps, [None, Some(10), Some(20)]);

    for evaluation in &summary.evaluations {
        assert_eq!(evaluation.results.len(), 4);
        for result in &evaluation.results {
            // An untrained model solves nothing: two answers to each of twelve hands, all of them without a formula.
            assert_eq!((result.first_attempt.successes, result.first_attempt.trials), (0, 12));
            assert_eq!((result.within_attempts.successes, result.within_attempts.trials), (0, 12));
            assert_eq!(result.outcomes.values().sum::<u64>(), 24);
            let illegal = result.outcome_share("illegal_formula").unwrap();
            assert_eq!((illegal.successes, illegal.trials), (result.outcomes["illegal_formula"], 24));
            assert!(result.process_accuracy.is_none(), "formulas have no steps to judge");
            assert!(result.by_kind.is_empty() && result.model_rewards.is_none());
            assert!((1.0..=8.0).contains(&result.answer_length.mean_tokens));
            assert_eq!(result.answer_length.truncated.trials, 24);
            assert!(result.solved_first.is_empty());
            assert_eq!(result.transcripts.len(), 3);
            assert!(result.transcripts.iter().all(|transcript| transcript.messages.len() == 4));
        }
        // The share of hands seen in training, counted again from the deck.
        let EnvironmentConfig::GeneralPoints(game) = &config(root, &[]).splits[0].environment else {
            panic!("the game")
        };
        let deck = Deck::new(game).unwrap();
        let seen = (0..12).filter(|&index| {
            let mut values = deck.deal(9, index).unwrap().numbers().to_vec();
            values.sort_unstable();
            values[0] == 1 && (1..=6).contains(&values[1])
        });
        let seen = seen.count() as u64;
        let result = evaluation.result("id", "greedy").unwrap();
        assert_eq!(result.seen_in_training.unwrap().successes, seen);
        assert_eq!(result.first_attempt_unseen.unwrap().trials, 12 - seen);
        assert!(evaluation.result("id", "other").is_none());
    }
    assert_eq!(read_summary(&root.join("evaluation")).unwrap(), summary);

    // Nothing was solved, so of equals the earliest checkpoint is best; the named model is no candidate.
    assert_eq!((summary.best.as_str(), summary.last.as_str()), ("step-000010", "step-000020"));
    for (link, step) in [("best", "10"), ("last", "20")] {
        let target = fs::read_link(root.join("evaluation").join(link)).unwrap();
        assert_eq!(target, Path::new(&format!("../train/checkpoints/step-0000{step}")));
    }

    // One result is lost, another is marked: the first is computed again to the same bytes, the second is kept.
    let models = root.join("evaluation/models");
    let lost = models.join("step-000010.json");
    let before = fs::read(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    let kept = models.join("base.json");
    let marked = fs::read_to_string(&kept).unwrap().replace("\"reward_mean\":", "\"reward_mean\": ");
    fs::write(&kept, &marked).unwrap();
    assert_eq!(run(root), summary);
    assert_eq!(fs::read(&lost).unwrap(), before);
    assert_eq!(fs::read_to_string(&kept).unwrap(), marked);

    // The links hold after everything has moved.
    let moved = tempfile::tempdir().unwrap();
    let target = moved.path().join("moved");
    fs::rename(root, &target).unwrap();
    assert!(target.join("evaluation/best/config.json").exists());
    fs::rename(&target, root).unwrap();
}

#[test]
fn slots_do_not_change_an_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let sampled = |run: &str, slots: &str| {
        let run = format!("run=\"{}/{run}\"", folder.path().display());
        let slots = format!("decodings.1.sampling.num_slots={slots}");
        let summary = evaluate(&config(folder.path(), &[&run, &slots]), None, &Progress::hidden()).unwrap();
        summary.evaluations
    };
    assert_eq!(sampled("a", "1"), sampled("b", "12"));
}

#[test]
fn wrong_input_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    prepare(root);
    fs::create_dir(root.join("no-run")).unwrap();
    fs::write(root.join("bare.jsonl"), "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n").unwrap();
    let inside = |key: &str, name: &str| format!("{key}=\"{}\"", root.join(name).display());
    let cases: [(String, &str); 10] = [
        (inside("models.base", "nowhere"), "nowhere"),
        (inside("checkpoints_of", "no-run"), "has no checkpoints"),
        (inside("training_data", "bare.jsonl"), "no `values` list"),
        ("select.split=\"elsewhere\"".into(), "select.split"),
        ("select.decoding=\"beam\"".into(), "select.decoding"),
        ("num_tasks=0".into(), "num_tasks"),
        ("splits.1.name=\"id\"".into(), "is given twice"),
        ("decodings.1.name=\"greedy\"".into(), "is given twice"),
        (inside("models.step-000010", "elsewhere/base"), "not begin with `step-`"),
        ("decodings.0.sampling.num_slots=0".into(), "num_slots"),
    ];
    for (change, expected) in cases {
        let message = evaluate(&config(root, &[&change]), None, &Progress::hidden()).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
        assert!(!root.join("evaluation").exists(), "{change}: the folder of results was made");
    }
    let mut outside = config(root, &[]);
    outside.models.insert("../base".into(), root.join("elsewhere/base"));
    let message = evaluate(&outside, None, &Progress::hidden()).unwrap_err().to_string();
    assert!(message.contains("usable as a file name"), "{message}");

    // Weights that cannot be read: found out when their turn comes; nothing under the name of a result.
    let weights = root.join("elsewhere/base/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 5]).unwrap();
    let message = evaluate(&config(root, &[]), None, &Progress::hidden()).unwrap_err().to_string();
    assert!(message.contains("base/model.safetensors"), "{message}");
    for name in ["models", "evaluation.json", "best", "last"] {
        assert!(!root.join("evaluation").join(name).exists(), "{name} was made");
    }
}

/// Scores an answer by the prompt's length, and fails where it is told to.
struct ByPrompt {
    fails: bool,
}

impl AnswerScorer for ByPrompt {
    fn score(&self, answers: &[(&[Message], &str)]) -> Result<Vec<f64>, Box<dyn std::error::Error + Send + Sync>> {
        if self.fails {
            return Err("out of order".into());
        }
        let score = |(prompt, _): &(&[Message], &str)| {
            assert_eq!((prompt.len(), prompt[0].role), (1, Role::User));
            prompt[0].content.len() as f64
        };
        Ok(answers.iter().map(score).collect())
    }
}

#[test]
fn instructions_are_counted_by_kind_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    prepare(root);
    let text = format!(
        r#"
        run = "{root}/instructions"
        device = "cpu"
        seed = 9
        num_tasks = 12
        models = {{ base = "{root}/elsewhere/base" }}
        transcripts = 1
        reward_model = "{root}/elsewhere"
        select = {{ split = "held_out", decoding = "greedy" }}
        [[splits]]
        name = "held_out"
        [splits.environment]
        name = "instructions"
        prompts = {{ split = "held_out", kinds = ["lower_case", "avoid"] }}
        reward = {{ obeyed = 1.0, violated = 0.0, off_topic = 0.0, empty = 0.0 }}
        [[decodings]]
        name = "greedy"
        sampling = {{ max_new_tokens = 6, temperature = 0.0, num_slots = 4 }}
        "#,
        root = root.display()
    );
    let config: EvaluationConfig = rl_track::config::parse(&text, "evaluation.toml", &[]).unwrap();
    let without = evaluate(&config, None, &Progress::hidden()).unwrap_err().to_string();
    assert!(without.contains("go together"), "{without}");
    let failed = evaluate(&config, Some(&ByPrompt { fails: true }), &Progress::hidden()).unwrap_err().to_string();
    assert!(failed.contains("out of order"), "{failed}");

    let summary = evaluate(&config, Some(&ByPrompt { fails: false }), &Progress::hidden()).unwrap();
    let result = summary.evaluations[0].result("held_out", "greedy").unwrap();
    let EnvironmentConfig::Instructions(task) = &config.splits[0].environment else { panic!("instructions") };
    let prompts = Prompts::new(&task.prompts).unwrap();
    let mut trials = std::collections::BTreeMap::new();
    for index in 0..12 {
        let instruction = prompts.instruction(9, index);
        *trials.entry(instruction.constraint.kind().label().to_owned()).or_insert(0) += 1;
        let reward = result.model_rewards.as_ref().unwrap()[index as usize];
        assert_eq!(reward, instruction.prompt().len() as f64);
    }
    let found: std::collections::BTreeMap<String, u64> =
        result.by_kind.iter().map(|(kind, share)| (kind.clone(), share.trials)).collect();
    assert_eq!(found, trials);
    assert_eq!(result.by_kind.values().map(|share| share.successes).sum::<u64>(), result.first_attempt.successes);
    assert_eq!(result.max_attempts, 1);
}
