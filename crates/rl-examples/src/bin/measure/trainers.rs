//! Optimizer steps of the trainers as they come, on the rows of a shared file.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use rl_core::random::RandomKey;
use rl_data::{PromptRecord, Tokenizer};
use rl_models::generate::{Engine, Request, SamplingConfig};
use rl_models::{ChatModel, Dialogue};
use rl_train::batch::TrainingRow;
use rl_train::reward::{CustomRewards, RewardRequest};
use rl_train::{
    Method, Preference, PreferenceConfig, RewardModel, RewardModelConfig, Rl, RlConfig, RunConfig, Sampler, Sft,
    SftConfig, TrainingPair,
};
use serde::Deserialize;
use tch::{Device, Tensor};

use crate::{Measured, process};

/// `xtask/peers/trainers.json`; the script beside it says what the fields mean.
#[derive(Debug, Deserialize)]
pub struct Inputs {
    settings: Settings,
    sequences: Vec<Vec<i64>>,
    pairs: Vec<Pair>,
    dpo: Dpo,
    reward: Reward,
    pub rollout: Rollout,
    /// Whether runs end where their first step would begin.
    #[serde(skip)]
    only_start: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Settings {
    learning_rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    warm_up_steps: u64,
    timed_steps: u64,
}

#[derive(Debug, Deserialize)]
struct Pair {
    prompt_ids: Vec<i64>,
    chosen_ids: Vec<i64>,
    rejected_ids: Vec<i64>,
}

#[derive(Debug, Deserialize)]
struct Dpo {
    beta: f64,
}

#[derive(Debug, Deserialize)]
struct Reward {
    score: Vec<f32>,
}

/// Groups of answers of forced lengths.
#[derive(Debug, Deserialize)]
pub struct Rollout {
    pub prompts: Vec<Vec<i64>>,
    pub group_size: usize,
    pub temperature: f64,
    pub lengths: Vec<usize>,
    pub rloo_kl_coef: f64,
}

/// Answers that never end before their own length.
struct ForcedLengths(Vec<usize>);

impl Sampler for ForcedLengths {
    fn answer(
        &mut self,
        model: &ChatModel,
        dialogues: &mut [&mut Dialogue],
        keys: &[RandomKey],
        sampling: &SamplingConfig,
    ) -> rl_train::Result<()> {
        let tokenizer = model.renderer.tokenizer();
        let mut engine = Engine::new(&model.decoder, sampling, &[])?.with_tokenizer(tokenizer);
        for ((dialogue, &key), &length) in dialogues.iter().zip(keys).zip(&self.0) {
            engine.push(Request::new(dialogue.ids.clone(), key).max_new_tokens(length))?;
        }
        let responses = engine.run(&mut |_| ())?;
        for (dialogue, response) in dialogues.iter_mut().zip(responses) {
            dialogue.add_response(response);
        }
        Ok(())
    }
}

/// Share of different words, so that answers to one prompt differ in reward.
struct Variety;

impl rl_train::reward::Reward for Variety {
    fn score(&self, request: &RewardRequest) -> std::result::Result<f64, String> {
        let words: Vec<&str> = request.response.split_whitespace().collect();
        let different = words.iter().collect::<std::collections::HashSet<_>>().len();
        Ok(different as f64 / words.len().max(1) as f64)
    }
}

/// Tokens of a packed backward pass. The gradient does not depend on it, and speed hardly: small passes only need less memory.
const MICRO_BATCH_TOKENS: usize = 512;

impl Inputs {
    /// Reads the shared file.
    pub fn read(file: &Path, only_start: bool) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let inputs: Inputs =
            serde_json::from_str(&text).with_context(|| format!("{} is not the trainers' data", file.display()))?;
        Ok(Inputs { only_start, ..inputs })
    }

    /// Supervised fine-tuning.
    pub fn sft(&self, model: &Path) -> Result<Measured> {
        let row = |(id, ids): (usize, &Vec<i64>)| TrainingRow {
            id: id as u64,
            ids: ids.clone(),
            trainable: vec![true; ids.len()],
            group: None,
        };
        let config: SftConfig = self.config(
            model,
            self.sequences.len(),
            r#"train_on = "all"
            selection = { max_length = 4096, too_long = "error", unusable = "error" }"#,
        )?;
        let rows = self.sequences.iter().enumerate().map(row).collect();
        let tokens = self.sequences.iter().map(Vec::len).sum();
        self.timed(Sft::from_rows(&config, rows, Vec::new(), Device::Cpu, None)?, tokens)
    }

    /// Direct preference optimisation with a live reference of its own weights.
    pub fn dpo(&self, model: &Path) -> Result<Measured> {
        let settings = format!(
            r#"seams = "error"
            selection = {{ max_length = 4096, too_long = "error", unusable = "error" }}
            objective = {{ losses = [{{ loss = {{ kind = "sigmoid", beta = {} }} }}] }}
            reference = {{ log_probs = "live" }}"#,
            self.dpo.beta
        );
        let config: PreferenceConfig = self.config(model, self.pairs.len(), &settings)?;
        self.timed(Preference::from_pairs(&config, self.pairs(), Vec::new(), Device::Cpu, None)?, self.pair_tokens())
    }

    /// A Bradley-Terry reward model whose head starts as the file says.
    pub fn reward(&self, model: &Path) -> Result<Measured> {
        let settings = r#"seams = "error"
            selection = { max_length = 4096, too_long = "error", unusable = "error" }
            head = "initializer_range""#;
        let config: RewardModelConfig = self.config(model, self.pairs.len(), settings)?;
        let trainer = RewardModel::from_pairs(&config, self.pairs(), Vec::new(), Device::Cpu, None)?;
        let mut score = trainer.model().head.weight();
        let given = Tensor::from_slice(&self.reward.score).f_view([1, -1])?;
        tch::no_grad(|| score.f_copy_(&given))?;
        self.timed(trainer, self.pair_tokens())
    }

    /// Group-relative policy optimisation as TRL's trainer comes: no reference, one update per rollout.
    pub fn grpo(&self, model: &Path) -> Result<Measured> {
        self.rollouts(
            model,
            r#"shaping = { steps = [{ kind = "baseline" }] }
            advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-4 } }
            objective = { kind = "clipped", ratio = { level = "token" }, clip = { low = 0.2, high = 0.2 } }
            reduction = { kind = "token_mean" }"#,
        )
    }

    /// REINFORCE with a leave-one-out baseline as TRL's trainer comes: the divergence in the reward, sequence ratios.
    pub fn rloo(&self, model: &Path) -> Result<Measured> {
        let kl_coef = self.rollout.rloo_kl_coef;
        self.rollouts(
            model,
            &format!(
                r#"shaping = {{ steps = [{{ kind = "sample_kl" }}, {{ kind = "baseline" }}] }}
                advantage = {{ kind = "group", estimator = {{ kind = "leave_one_out" }} }}
                objective = {{ kind = "clipped", ratio = {{ level = "sequence_sum" }}, clip = {{ low = 0.2, high = 0.2 }} }}
                reduction = {{ kind = "seq_mean_token_mean" }}
                kl = {{ controller = {{ kind = "fixed", kl_coef = {kl_coef} }}, penalty = {{ estimator = "k1" }}, place = "reward" }}"#
            ),
        )
    }

    /// Groups of answers of forced lengths to the prompts, and one optimizer step on them.
    fn rollouts(&self, model: &Path, own: &str) -> Result<Measured> {
        let Rollout { prompts, group_size, temperature, lengths, .. } = &self.rollout;
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("prompts.jsonl");
        let tokenizer = Tokenizer::from_folder(model)?;
        let text = |ids: &Vec<i64>| tokenizer.decode(&ids.iter().map(|&id| id as u32).collect::<Vec<_>>(), false);
        let records =
            prompts.iter().map(|ids| Ok(PromptRecord::new(text(ids)?))).collect::<rl_data::Result<Vec<_>>>()?;
        rl_data::write_jsonl(&data, &records)?;
        let longest = lengths.iter().max().context("no lengths")?;
        let text = format!(
            r#"{}
            {own}
            updates = {{ epochs = 1, per_epoch = 1 }}
            reward = {{ workers = 1, deadline_seconds = 60.0, max_abandoned = 1, sources = [{{ name = "variety", source = {{ kind = "custom" }} }}] }}
            [rollout]
            task = {{ kind = "prompts", data = {:?}, max_length = 4096, too_long = "error", plain = true }}
            prompts_per_step = {}
            group_size = {group_size}
            sampling = {{ max_new_tokens = {longest}, temperature = {temperature:?}, num_slots = {} }}
            samples_per_step = 0
            {}"#,
            self.head(model),
            data.display().to_string(),
            prompts.len(),
            lengths.len(),
            self.training(),
        );
        let config: RlConfig = rl_track::config::parse(&text, "the trainers' job", &[])?;
        config.validate()?;
        let rewards =
            CustomRewards::from([("variety".to_owned(), Arc::new(Variety) as Arc<dyn rl_train::reward::Reward>)]);
        let mut trainer = Rl::with_rewards(&config, Device::Cpu, None, rewards)?;
        trainer.set_sampler(Box::new(ForcedLengths(lengths.clone())))?;
        let answers: usize = lengths.iter().sum();
        let given: usize = prompts.iter().map(|ids| ids.len() * group_size).sum();
        self.timed(trainer, answers + given)
    }

    /// Steps that warm up, then those that count: their median, the first one's start, and all losses.
    pub fn timed<M: Method>(&self, mut trainer: M, tokens: usize) -> Result<Measured> {
        let start_seconds = process::age_seconds()?;
        if self.only_start {
            return Ok(Measured { values: [("start_seconds", start_seconds)].into(), ..Default::default() });
        }
        let (mut seconds, mut losses) = (Vec::new(), Vec::new());
        for step in 0..self.settings.warm_up_steps + self.settings.timed_steps {
            let started = Instant::now();
            let report = trainer.step(step)?;
            seconds.push(started.elapsed().as_secs_f64());
            losses.extend(report.row.get("loss"));
        }
        let first = seconds[0];
        let median = rl_core::statistics::quantile(&seconds[self.settings.warm_up_steps as usize..], 0.5)?;
        let values = [
            ("start_seconds", start_seconds),
            ("seconds", median),
            ("first_step_seconds", first),
            ("useful_tokens_per_second", tokens as f64 / median),
        ];
        Ok(Measured { values: values.into(), losses, ..Default::default() })
    }

    /// A configuration of any trainer; what no file is needed for is given as rows.
    pub fn config<C: serde::de::DeserializeOwned>(&self, model: &Path, batch_size: usize, own: &str) -> Result<C> {
        let text =
            format!("{}\n{own}\nbatch_size = {batch_size}\ndata = \"unused\"\n{}", self.head(model), self.training());
        Ok(rl_track::config::parse(&text, "the trainers' job", &[])?)
    }

    /// The keys that every trainer has.
    pub fn head(&self, model: &Path) -> String {
        format!("run = \"unused\"\nseed = 1\ndevice = \"cpu\"\nmodel = {{ path = {:?} }}", model.display().to_string())
    }

    /// The `[training]` section.
    pub fn training(&self) -> String {
        let Settings { learning_rate, beta1, beta2, eps, weight_decay, max_grad_norm, warm_up_steps, timed_steps } =
            self.settings;
        let max_steps = warm_up_steps + timed_steps;
        format!(
            "[training]
            max_steps = {max_steps}
            micro_batch_tokens = {MICRO_BATCH_TOKENS}
            optimizer = {{ beta1 = {beta1}, beta2 = {beta2}, eps = {eps}, weight_decay = {weight_decay:?} }}
            learning_rate = {{ kind = \"constant\", learning_rate = {learning_rate} }}
            max_grad_norm = {max_grad_norm:?}
            checkpoints = {{ every = {max_steps} }}"
        )
    }

    fn pairs(&self) -> Vec<TrainingPair> {
        let pair = |(id, pair): (usize, &Pair)| {
            TrainingPair::new(id as u64, &pair.prompt_ids, &pair.chosen_ids, &pair.rejected_ids, None)
        };
        self.pairs.iter().enumerate().map(pair).collect()
    }

    /// Ids of both sides of all pairs; the prompt counts in both, as for the peer.
    fn pair_tokens(&self) -> usize {
        let side = |pair: &Pair| 2 * pair.prompt_ids.len() + pair.chosen_ids.len() + pair.rejected_ids.len();
        self.pairs.iter().map(side).sum()
    }
}
