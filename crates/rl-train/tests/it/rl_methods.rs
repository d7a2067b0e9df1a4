//! Every RL method raises the reward of a policy that half knows a task to nearly the best one, and critics find values
//! that are known in closed form. `REINS_SLOW=1` runs all methods, else a few.

use std::sync::Arc;

use approx::assert_abs_diff_eq;
use rl_train::reward::{CustomRewards, Prompt, Reward, RewardRequest};
use rl_train::{Interrupt, Rl, RlTrainer};

use crate::fixtures::*;
use crate::rl_fixtures::*;

/// Mean reward of answers drawn at temperature 1 that a method must reach; the best is 1.
const GOAL: f64 = 0.9;
/// The policy at the start must be worse than this, or there is nothing to show.
const START: f64 = 0.75;

/// Name; whether it runs by default; advantage and critic; what else differs.
type Row<'a> = (&'a str, bool, &'a str, &'a [&'a str]);

const LEARNING_RATE: &str = "training.learning_rate.learning_rate=3e-3";
/// Whitened advantages are large where few answers differ, and a word that is never said again is lost.
const SMALLER: &str = "training.learning_rate.learning_rate=1.5e-3";
/// For one update per rollout.
const LONGER: &str = "training.max_steps=100";
/// Several updates per rollout, so that ratios leave 1.
const OFF_POLICY: &str = "updates={ epochs = 2, per_epoch = 2 }";
const ONE_ANSWER: &str = "rollout.group_size=1";
const MANY_PROMPTS: &str = "rollout.prompts_per_step=64";
const SCORE: &str = r#"objective={ kind = "reinforce" }"#;

/// Whether everything is to be shown, however long it takes.
fn is_slow() -> bool {
    std::env::var("REINS_SLOW").is_ok_and(|value| value == "1")
}

fn check(methods: &[Row]) {
    let mut failures = Vec::new();
    for (name, _, algorithm, changes) in methods.iter().filter(|method| is_slow() || method.1) {
        let folder = tempfile::tempdir().unwrap();
        let prompts = folder.path().join("prompts.jsonl");
        let validation = format!(
            r#"validation={{ seed = 9, num_prompts = 128, task = {{ kind = "prompts", data = "{}", max_length = 64, too_long = "error" }}, sampling = {{ max_new_tokens = 6, temperature = 1.0, num_slots = 64 }} }}"#,
            prompts.display()
        );
        let evaluation = "training.evaluation={ every = 1000, at_start = true }";
        let shared = ["training.max_steps=72", "rollout.group_size=8", LEARNING_RATE, evaluation, &validation];
        let changes = [&shared[..], changes].concat();
        let started = std::time::Instant::now();
        train::<Rl>(words_config(folder.path(), "run", algorithm, &changes));
        let rewards = curve(&folder.path().join("run"), "validation", "reward_mean");
        let [first, last] = rewards[..] else { panic!("{name}: {rewards:?}") };
        eprintln!("{name}: reward {first:.3} to {last:.3}, {:.1} s", started.elapsed().as_secs_f64());
        assert!(first < START, "{name} begins at {first}");
        if last < GOAL {
            failures.push(format!("{name}: reward {first} to {last}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn policy_losses_learn() {
    check(&[
        ("grpo", true, GROUP, &[OFF_POLICY]),
        ("dr-grpo", false, MEAN, &[OFF_POLICY, r#"reduction={ kind = "const_norm", max_length = 6 }"#]),
        (
            "dapo",
            true,
            GROUP,
            &[
                OFF_POLICY,
                "training.max_steps=40",
                "objective.clip={ low = 0.2, high = 0.28 }",
                r#"rollout.dynamic_sampling={ filter = { kind = "not_constant" }, max_rounds = 200 }"#,
                r#"shaping={ steps = [{ kind = "overlong", penalty = { max_length = 6, buffer = 2, factor = 0.5 } }, { kind = "baseline" }] }"#,
            ],
        ),
        ("gspo", false, GROUP, &[OFF_POLICY, r#"objective.ratio.level="sequence_mean""#, SEQ_MEAN]),
        ("luspo", false, GROUP, &[OFF_POLICY, r#"objective.ratio.level="sequence_mean""#, SEQ_SUM]),
        (
            "cispo",
            false,
            GROUP,
            &[OFF_POLICY, r#"objective={ kind = "cispo", ratio = { level = "token" }, low = 0.0, high = 5.0 }"#],
        ),
        (
            "sapo",
            false,
            GROUP,
            &[
                OFF_POLICY,
                SEQ_MEAN,
                r#"objective={ kind = "sapo", ratio = { level = "token" }, tau_positive = 1.0, tau_negative = 1.05 }"#,
            ],
        ),
        ("gmpo", false, GROUP, &[OFF_POLICY, SEQ_MEAN, r#"objective={ kind = "gmpo", low = 0.4, high = 0.4 }"#]),
        (
            "vespo",
            false,
            GROUP,
            &[
                OFF_POLICY,
                r#"objective={ kind = "vespo", k_positive = 2.0, lambda_positive = 3.0, k_negative = 3.0, lambda_negative = 2.0 }"#,
            ],
        ),
        (
            "clip-cov",
            false,
            GROUP,
            &[
                OFF_POLICY,
                r#"objective={ kind = "clip_cov", ratio = { level = "token" }, clip = { low = 0.2, high = 0.2 }, fraction = 0.02, low = 0.5, high = 5.0 }"#,
            ],
        ),
        (
            "kl-cov",
            false,
            GROUP,
            &[
                OFF_POLICY,
                r#"objective={ kind = "kl_cov", ratio = { level = "token" }, fraction = 0.02, kl_coef = 0.1 }"#,
            ],
        ),
        (
            "dual clip and a bound on the ratio",
            false,
            GROUP,
            &[OFF_POLICY, "objective.dual_clip=3.0", "objective.max_ratio=4.0"],
        ),
        (
            "dppo",
            false,
            GROUP,
            &[
                OFF_POLICY,
                r#"objective={ kind = "dppo", ratio = { level = "token" }, divergence = "total_variation", low = 0.15, high = 0.15, max_ratio = 20.0 }"#,
            ],
        ),
        ("dro", false, GROUP, &[OFF_POLICY, r#"objective={ kind = "dro", beta = 0.05 }"#]),
        (
            "an answer as one action",
            false,
            GROUP,
            &[
                OFF_POLICY,
                SEQ_MEAN,
                r#"objective={ kind = "clipped", ratio = { level = "weighted_sum" }, clip = { low = 0.1, high = 0.1 }, clipped_only_above = 10.0 }"#,
                r#"action={ key = "a", thought_weight = 0.5 }"#,
            ],
        ),
        (
            "truncated importance sampling",
            false,
            GROUP,
            &[OFF_POLICY, r#"importance={ judged = "token", weight = "token", outside = "truncate", high = 2.0 }"#],
        ),
        (
            "kl in the loss",
            false,
            GROUP,
            &[
                OFF_POLICY,
                r#"kl={ place = "loss", penalty = { estimator = "k3" }, controller = { kind = "fixed", kl_coef = 0.01 } }"#,
                r#"entropy={ kind = "fixed", entropy_coef = 0.001 }"#,
            ],
        ),
    ]);
}

const SEQ_MEAN: &str = r#"reduction={ kind = "seq_mean_token_mean" }"#;
const SEQ_SUM: &str = r#"reduction={ kind = "seq_mean_token_sum" }"#;

#[test]
fn baselines_learn() {
    const WHITE: &str =
        r#"{ variance = "biased", floor = { max_variance = 1e-8 }, shift_mean = true, divide_by_std = true }"#;
    let plus = format!(r#"advantage = {{ kind = "reinforce", gamma = 1.0, whitening = {WHITE} }}"#);
    let plus_baseline =
        format!(r#"advantage = {{ kind = "group", estimator = {{ kind = "mean_baseline" }}, whitening = {WHITE} }}"#);
    let group = |estimator: &str| format!(r#"advantage = {{ kind = "group", estimator = {{ {estimator} }} }}"#);
    let rloo = group(r#"kind = "leave_one_out""#);
    let kl_in_reward = r#"kl={ place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kind = "fixed", kl_coef = 0.01 } }"#;
    let token_kl = r#"shaping={ steps = [{ kind = "baseline" }, { kind = "clip", low = -10.0, high = 10.0 }, { kind = "token_kl" }] }"#;
    check(&[
        ("reinforce", false, REINFORCE, &[SCORE, ONE_ANSWER, MANY_PROMPTS, LONGER]),
        (
            "reinforce++",
            false,
            &plus,
            &[OFF_POLICY, ONE_ANSWER, MANY_PROMPTS, "training.max_steps=40", kl_in_reward, token_kl],
        ),
        ("reinforce++-baseline", false, &plus_baseline, &[OFF_POLICY, LONGER, SMALLER, kl_in_reward, token_kl]),
        ("rloo", true, &rloo, &[SCORE, SEQ_SUM, LONGER]),
        (
            "rloo on sequence ratios, KL in the reward",
            false,
            &rloo,
            &[
                OFF_POLICY,
                LONGER,
                SEQ_MEAN,
                r#"objective.ratio.level="sequence_sum""#,
                kl_in_reward,
                r#"shaping={ steps = [{ kind = "sample_kl" }, { kind = "baseline" }] }"#,
            ],
        ),
        (
            "remax",
            false,
            &group(r#"kind = "greedy_baseline""#),
            &[SCORE, ONE_ANSWER, MANY_PROMPTS, "training.max_steps=140"],
        ),
        ("opo", false, &group(r#"kind = "length_weighted_baseline""#), &[SCORE, LONGER]),
        // Groups of two differ while any answer is wrong, so that the best of two is reached by all answers being right.
        (
            "pass@k",
            false,
            &group(r#"kind = "best_of_group", std_epsilon = 1e-6"#),
            &[OFF_POLICY, "rollout.group_size=2", "rollout.prompts_per_step=32"],
        ),
        ("batch-scaled", false, &group(r#"kind = "batch_scaled", std_epsilon = 1e-6"#), &[OFF_POLICY]),
        (
            "batch mean",
            false,
            &group(r#"kind = "batch_mean_baseline""#),
            &[SCORE, ONE_ANSWER, MANY_PROMPTS, "training.max_steps=140"],
        ),
        ("gpg", false, &group(r#"kind = "gradient_scaled", divisor = 1.0"#), &[SCORE, LONGER]),
    ]);
}

#[test]
fn critics_learn() {
    let own = token_own(3e-3);
    let steps = "training.max_steps=48"; // each with 64 prompts
    let changes = &[OFF_POLICY, ONE_ANSWER, MANY_PROMPTS, "shaping={ steps = [] }", SMALLER, steps];
    check(&[
        ("ppo, turns, shared critic", false, TURN_SHARED, changes),
        ("ppo, tokens, shared critic", true, TOKEN_SHARED, changes),
        ("ppo, tokens, critic of its own", false, &own, changes),
    ]);
}

/// Its value is the reward of the prompt, whatever is answered.
struct OfPrompt;

impl OfPrompt {
    /// From -1 to 0.75.
    fn reward(word: &str) -> f64 {
        WORDS.iter().position(|&known| known == word).map_or(f64::NAN, |index| 0.25 * index as f64 - 1.0)
    }
}

impl Reward for OfPrompt {
    fn score(&self, request: &RewardRequest) -> Result<f64, String> {
        let Prompt::Messages(messages) = &request.prompt else { return Err("no messages".into()) };
        let text = messages[0].content.strip_prefix("Say ").and_then(|text| text.strip_suffix('.'));
        Ok(OfPrompt::reward(text.ok_or("no word")?))
    }
}

/// Root of the mean square of `value - closed form` over the values of the last step, and mean value; rewards are spread
/// over 1.75.
const VALUE_ERROR: f64 = 0.1;

#[test]
fn token_critics_reach_the_reward_of_their_prompt() {
    let frozen = ["training.learning_rate.learning_rate=0.0"];
    // Whitening would blow the noise of advantages near 0 up to size 1.
    let learning = [
        "training.max_grad_norm=inf",
        LEARNING_RATE,
        r#"critic={ kind = "shared", head = "linear", value_coef = 10.0 }"#,
        r#"advantage={ kind = "gae", gamma = 1.0, gae_lambda = 1.0 }"#,
    ];
    let critics = [("own", token_own(3e-3), &frozen[..]), ("shared", TOKEN_SHARED.into(), &learning)];
    for (name, algorithm, changes) in critics.into_iter().take(if is_slow() { 2 } else { 1 }) {
        let folder = tempfile::tempdir().unwrap();
        let shared = [
            ONE_ANSWER,
            "shaping={ steps = [] }",
            "advantage.gae_lambda=1.0",
            "training.max_steps=200",
            r#"reward.sources=[{ name = "word", source = { kind = "custom" } }]"#,
        ];
        let config = words_config(folder.path(), "run", &algorithm, &[&shared[..], changes].concat());
        let rewards: CustomRewards = [("word".to_owned(), Arc::new(OfPrompt) as Arc<dyn Reward>)].into();
        let mut trainer = RlTrainer::with_rewards(config, rewards).unwrap();
        trainer.run(&Interrupt::manual(), &rl_track::Progress::hidden()).unwrap();
        let run = folder.path().join("run");
        // With gamma and lambda 1 the returns are the rewards themselves, so the loss is half the mean square of the error.
        let errors: Vec<f64> = curve(&run, "train", "value_loss").iter().map(|loss| (2.0 * loss).sqrt()).collect();
        eprintln!("{name}: {:.3?} to {:.4?}", &errors[..3], &errors[197..]);
        assert!(0.3 < errors[0], "{name}: the first error says something: {errors:?}");
        assert!(errors[197..].iter().all(|&error| error < VALUE_ERROR), "{name}: {errors:?}");
        // Every step has every prompt once.
        let expected = WORDS.iter().map(|word| OfPrompt::reward(word)).sum::<f64>() / WORDS.len() as f64;
        assert_abs_diff_eq!(*curve(&run, "train", "reward_mean").last().unwrap(), expected, epsilon = 1e-12);
    }
}

/// Answers of one token never use both cards, so the two turns cost 3, and 3 with 1 for the last attempt. With a
/// discount of 0.9 the values are -6.6 and -4.
#[test]
fn a_turn_critic_reaches_the_discounted_closed_form() {
    const VALUES: [f64; 2] = [-3.0 - 0.9 * 4.0, -4.0];
    const TURN_VALUE_ERROR: f64 = 0.15;
    for lambda in ["1.0", "0.95"].into_iter().take(if is_slow() { 2 } else { 1 }) {
        let folder = tempfile::tempdir().unwrap();
        let lambda =
            format!(r#"turn_advantage={{ gamma = 0.9, gae_lambda = {lambda}, boundary = "terminated_or_truncated" }}"#);
        let game = r#"rollout.task={ kind = "environment", environment = { name = "general_points", num_cards = 2, target = 10, template = "compact", max_attempts = 2, reward = { mode = "exclusive", prices = { correct = 5.0, partial = -3.0, wrong_total = -3.0, incorrect_number = -3.0, illegal_formula = -3.0, attempt_limit = -1.0 } } } }"#;
        let changes = [
            lambda.as_str(),
            game,
            "rollout.sampling.max_new_tokens=1",
            "rollout.prompts_per_step=4",
            "updates={ epochs = 1, per_epoch = 1 }",
            "training.max_steps=160",
            "training.checkpoints.every=200",
            "training.max_grad_norm=inf",
            r#"critic={ kind = "shared", head = "linear", value_coef = 1.0 }"#,
            LEARNING_RATE,
        ];
        train::<Rl>(rl_config(folder.path(), "run", &half_trained(), PPO, &changes));
        let run = folder.path().join("run");
        let turns = curve(&run, "train", "turns_per_episode");
        assert!(turns.iter().all(|&turns| turns == 2.0), "{turns:?}");
        let (values, losses) = (curve(&run, "train", "value_mean"), curve(&run, "train", "value_loss"));
        eprintln!("{lambda}: {:?} {:?}", &values[157..], &losses[157..]);
        let expected = VALUES.iter().sum::<f64>() / 2.0;
        assert_abs_diff_eq!(values[159], expected, epsilon = TURN_VALUE_ERROR);
        assert!((2.0 * losses[159]).sqrt() < TURN_VALUE_ERROR, "{:?}", &losses[150..]);
        assert!(TURN_VALUE_ERROR < 0.1 * (values[0] - expected).abs(), "the start says something: {}", values[0]);
    }
}
