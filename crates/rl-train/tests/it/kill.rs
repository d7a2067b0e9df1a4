//! Processes that train and are killed with SIGKILL at random moments, also inside the write of a checkpoint: started
//! again until they end, they leave the same bytes as one that nobody disturbed, and every recorded step replays.
//!
//! `REINS_SLOW=1` raises the number of kills of each trainer.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rl_core::random::RandomKey;
use rl_track::Progress;
use rl_train::{
    Distill, DistillConfig, Finish, Interrupt, Method, Preference, RewardModel, Rl, RunConfig, Sft, Trainer, Unpaired,
    replay,
};
use serde::de::DeserializeOwned;

use crate::fixtures::*;
use crate::preference_fixtures::{self as pairs, FOLLOWING, KTO, LORA};
use crate::record::*;

const METHOD: &str = "RL_TRAIN_TEST_METHOD";
const CONFIG: &str = "RL_TRAIN_TEST_CONFIG";
/// Exit codes of the child.
pub const COMPLETE: i32 = 0;
pub const ENDED_EARLY: i32 = 10;
pub const INTERRUPTED: i32 = 130;
/// A child that takes longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(300);
const KILLS: u64 = 3;
const SLOW_KILLS: u64 = 20;

/// Trains the run of a file; gives the exit code.
type Train = fn(&Path) -> i32;

/// What the child can train; one line per trainer.
const METHODS: &[(&str, Train)] = &[
    (Sft::NAME, train_file::<Sft>),
    (Rl::NAME, train_file::<Rl>),
    (Preference::NAME, train_file::<Preference>),
    (Unpaired::NAME, train_file::<Unpaired>),
    (RewardModel::NAME, train_file::<RewardModel>),
    (Distill::NAME, train_file::<Distill>),
];

/// Not a test by itself: the process that the tests start and kill.
#[test]
#[ignore = "started by the tests of this module"]
fn child() {
    let (Ok(method), Ok(config)) = (std::env::var(METHOD), std::env::var(CONFIG)) else { return };
    let (_, train) = METHODS.iter().find(|(name, _)| *name == method).expect("METHODS lists every trainer");
    std::process::exit(train(Path::new(&config)));
}

fn train_file<M: Method>(config: &Path) -> i32
where
    M::Config: DeserializeOwned,
{
    rl_torch::set_num_threads(1);
    let interrupt = Interrupt::install().unwrap();
    let config: M::Config = rl_track::config::load(config, &[]).unwrap();
    match Trainer::<M>::new(config).and_then(|mut trainer| trainer.run(&interrupt, &Progress::hidden())) {
        Ok(Finish::Complete { .. }) => COMPLETE,
        Ok(Finish::EndedEarly { .. }) => ENDED_EARLY,
        Ok(Finish::Interrupted { .. }) => INTERRUPTED,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// A process that trains.
pub struct Process {
    child: Child,
    run: PathBuf,
    /// Checkpoints under construction that an earlier process left.
    old: Vec<PathBuf>,
}

/// When to kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after the start.
    After(Duration),
    /// So long after a checkpoint's construction began.
    InCheckpoint(Duration),
}

impl Process {
    /// Starts, or goes on with, the run of `config`.
    pub fn start<M: Method>(config: &M::Config) -> Self {
        let run = config.run().to_path_buf();
        let file = run.with_extension("toml");
        std::fs::write(&file, rl_track::config::to_toml(config).unwrap()).unwrap();
        let old = under_construction(&run);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "kill::child"])
            .env(METHOD, M::NAME)
            .env(CONFIG, &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process { child, run, old }
    }

    /// Waits for the end.
    pub fn wait(mut self) -> i32 {
        self.child.wait().unwrap().code().expect("nobody killed it")
    }

    /// Asks for the end.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until `condition` holds for the run's folder; false when the process ended before.
    pub fn wait_until(&mut self, condition: impl Fn(&Path) -> bool) -> bool {
        let start = Instant::now();
        while !condition(&self.run) {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(start.elapsed() < DEADLINE, "{} hangs", self.run.display());
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Kills at the moment, or gives the exit code when the end came before it.
    fn kill(mut self, moment: Moment) -> Option<i32> {
        let start = Instant::now();
        let came = match moment {
            Moment::After(time) => self.wait_until(|_| time <= start.elapsed()),
            Moment::InCheckpoint(delay) => {
                let old = std::mem::take(&mut self.old);
                let came = self.wait_until(|run| under_construction(run).iter().any(|path| !old.contains(path)));
                std::thread::sleep(delay);
                came
            }
        };
        if came {
            self.child.kill().unwrap(); // SIGKILL
        }
        self.child.wait().unwrap().code()
    }
}

fn under_construction(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let is_partial = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().contains(".partial-");
    entries.map(|entry| entry.unwrap().path()).filter(is_partial).collect()
}

pub fn is_slow() -> bool {
    std::env::var("REINS_SLOW").is_ok_and(|value| value == "1")
}

/// `config(name)` gives the configuration of a run into `folder/name`.
///
/// Gives the exit code of the run.
pub fn check<M: Method>(folder: &Path, config: impl Fn(&str) -> M::Config) -> i32 {
    let begun = Instant::now();
    let expected_code = Process::start::<M>(&config("whole")).wait();
    let duration = begun.elapsed();
    assert!([COMPLETE, ENDED_EARLY].contains(&expected_code), "exit code {expected_code}");
    let whole = folder.join("whole");

    let kills = if is_slow() { SLOW_KILLS } else { KILLS };
    let key = RandomKey::new(7, "kills");
    // Drawn for every process, not for every kill: a process that ends before its moment must not meet it again.
    let moment = |started: u64| match started % 2 {
        0 => Moment::InCheckpoint(Duration::from_secs_f64(0.04 * key.uniform(started).powi(2))),
        _ => Moment::After(duration.mul_f64(key.uniform(started))),
    };
    let (mut done, mut inside, mut started) = (0, 0, 0);
    for round in 0.. {
        let name = format!("killed-{round}");
        let run = folder.join(&name);
        loop {
            let process = Process::start::<M>(&config(&name));
            let code = if done < kills { process.kill(moment(started)) } else { Some(process.wait()) };
            started += 1;
            if let Some(code) = code {
                assert_eq!(code, expected_code);
                break;
            }
            done += 1;
            inside += usize::from(!under_construction(&run).is_empty());
        }
        assert_same(&run, &whole);
        if kills <= done {
            // Started again, it has nothing left to do.
            assert_eq!(Process::start::<M>(&config(&name)).wait(), expected_code);
            assert_same(&run, &whole);
            check_replay::<M>(&config(&name));
            break;
        }
    }
    eprintln!("{}: {done} kills, {inside} of them inside the write of a checkpoint", M::NAME);
    assert!(0 < inside || done < SLOW_KILLS, "no kill hit the write of a checkpoint");
    expected_code
}

/// Every recorded step can be computed again, and that writes nothing.
pub fn check_replay<M: Method>(config: &M::Config) {
    let before = files(config.run());
    let steps = metrics(config.run()).iter().filter(|row| row["split"] == "train").count() as u64;
    assert!(0 < steps);
    for step in 1..=steps {
        let replayed = replay::<M>(config, step).unwrap();
        assert_eq!(replayed.agreed, (replayed.from + 1..=step).collect::<Vec<_>>());
    }
    assert_same_files(&files(config.run()), &before);
}

fn copy_task() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    (folder, data)
}

/// No loss is as high again as that of the first evaluation, so the patience ends with the fourth.
const BEST: &str = r#"training.evaluation={ every = 2, best = { metric = "seen/loss", goal = "max", patience = 3 } }"#;

#[test]
fn sft_with_best_and_patience() {
    let (folder, data) = copy_task();
    let held_out = format!("held_out.seen=\"{}\"", data.display());
    let changes =
        [&held_out, BEST, "training.max_steps=12", "training.checkpoints={every=3,keep_last=1}", "batch_size=8"];
    let code = check::<Sft>(folder.path(), |name| sft_config(folder.path(), name, &data, &changes));
    assert_eq!(code, ENDED_EARLY);
    let whole = folder.path().join("whole");
    let kept: Vec<String> = contents(&whole).into_keys().filter(|name| name.ends_with("state.json")).collect();
    let expected = [2, 8].map(|step| format!("checkpoints/step-{step:06}/state.json"));
    assert_eq!(kept, expected, "the best, and the last for `keep_last = 1`");
}

#[test]
fn sft_with_adapters_and_averages() {
    let (folder, data) = copy_task();
    let changes = [
        "training.max_steps=7",
        "training.checkpoints={every=2,keep_last=2}",
        "training.ema_decay=0.9",
        "batch_size=8",
    ];
    check::<Sft>(folder.path(), |name| {
        let mut config = sft_config(folder.path(), name, &data, &changes);
        config.model = rl_train::ModelConfig::from_path(half_trained());
        config.model.lora = Some(lora(0.1));
        config
    });
}

#[test]
fn sft_in_half_precision() {
    let (folder, data) = copy_task();
    let changes = [
        "training.max_steps=7",
        "training.checkpoints.every=2",
        "training.ema_decay=0.9",
        "model.dtype=\"bf16\"",
        "batch_size=8",
    ];
    check::<Sft>(folder.path(), |name| sft_config(folder.path(), name, &data, &changes));
}

fn check_rl(algorithm: &str, changes: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let changes =
        [&["training.max_steps=5", "training.checkpoints.every=2", "rollout.prompts_per_step=4"], changes].concat();
    check::<Rl>(folder.path(), |name| rl_config(folder.path(), name, &half_trained(), algorithm, &changes));
}

#[test]
fn grpo() {
    check_rl(GRPO, &["model.lora={ rank = 2, alpha = 4.0, target_modules = \"all-linear\" }"]);
}

#[test]
fn grpo_with_dynamic_sampling() {
    check_rl(GRPO, &["rollout.dynamic_sampling={ filter = { kind = \"not_constant\" }, max_rounds = 20 }"]);
}

#[test]
fn ppo_by_turns_with_a_shared_critic() {
    check_rl(PPO, &[]);
}

#[test]
fn ppo_by_tokens_with_its_own_critic_and_kl_in_the_reward() {
    check_rl(&token_ppo(), &[]);
}

#[test]
fn preference_with_a_reference_that_follows() {
    let files = pairs::files();
    let changes =
        ["reference.update.mixup_alpha=0.5", "reference.update.every_steps=2", "training.checkpoints.every=2"];
    check::<Preference>(files.root(), |name| files.preference(name, FOLLOWING, &changes));
}

#[test]
fn unpaired_preference_with_adapters() {
    let files = pairs::files();
    check::<Unpaired>(files.root(), |name| files.unpaired(name, KTO, &[LORA, "training.checkpoints.every=2"]));
}

#[test]
fn reward_model_with_averages() {
    let files = pairs::files();
    let changes = ["training.ema_decay=0.9", "training.checkpoints.every=2"];
    check::<RewardModel>(files.root(), |name| files.reward_model(name, &changes));
}

#[test]
fn distillation_on_and_off_policy() {
    let (folder, data) = copy_task();
    let config = |name: &str| -> DistillConfig {
        let sft = sft_config(folder.path(), name, &data, &[]);
        let text = format!(
            r#"
            run = "{run}"
            seed = 2
            device = "cpu"
            data = "{data}"
            train_on = "last_assistant"
            selection = {{ max_length = 128, too_long = "error", unusable = "error" }}
            batch_size = 4
            distillation = {{ divergence = {{ kind = "jensen_shannon", mix = 0.3 }}, temperature = 1.0 }}
            on_policy_fraction = 0.5
            sampling = {{ max_new_tokens = 8, temperature = 1.0, num_slots = 4 }}
            model = {{ path = "{student}" }}
            teacher = {{ path = "{teacher}" }}
            [training]
            max_steps = 5
            micro_batch_tokens = 4096
            optimizer = {{ beta1 = 0.9, beta2 = 0.98, eps = 1e-7, weight_decay = 0.01 }}
            learning_rate = {{ kind = "constant", learning_rate = 1e-3 }}
            max_grad_norm = 1.0
            checkpoints = {{ every = 2 }}
            "#,
            run = sft.run.display(),
            data = data.display(),
            student = pairs::earlier_policy().display(),
            teacher = pairs::small_policy().display(),
        );
        rl_track::config::parse(&text, "distill.toml", &[]).unwrap()
    };
    check::<Distill>(folder.path(), config);
    let on_policy = curve(&folder.path().join("whole"), "train", "on_policy");
    assert!(on_policy.contains(&0.0) && on_policy.contains(&1.0), "{on_policy:?}");
}
