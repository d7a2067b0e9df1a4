//! Preference optimisation on pairs: DPO and its relatives, with or without a reference policy.
//!
//! Not here: single answers with verdicts (`unpaired`), and the losses themselves (`rl_core::preference_loss`).

pub(crate) mod reference;
mod scores;

use std::path::Path;

use rl_core::preference_loss::{PreferenceObjective, PreferenceOutput, PreferenceStatistics};
use rl_core::random::RandomKey;
use rl_data::{Cursor, DataOrder, Renderer};
use rl_models::{Decoder, token_log_probs, token_log_sum_squares};
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor};

use crate::batch::{backward_from, to_host};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::{PreferenceConfig, ReferencePasses};
use crate::data::{Loaded, input_datasets, under};
use crate::digest::Digest;
use crate::examples::{Examples, TrainingSet};
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::pair_batch::{self, PairBatch, TrainingPair, pair_micro_batches};
use crate::policy::Policy;
use crate::sft::{input_model, save_averages, to_state};
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

use reference::FrozenReference;
use scores::{PairScores, Supervised, layout};

/// What an evaluation gives of each held-out file.
pub(crate) fn measured(objective: &PreferenceObjective) -> Vec<String> {
    let always = [
        "loss",
        "accuracy",
        "margin",
        "rewards_chosen",
        "rewards_rejected",
        "log_probs_chosen",
        "log_probs_rejected",
        "num_pairs",
    ];
    let nll = objective.nll.is_some().then_some("nll_loss");
    let clamped = objective.ratio_clamp.is_some().then_some("clamped_ratios");
    always.into_iter().chain(nll).chain(clamped).map(String::from).collect()
}

/// A run of preference optimisation on pairs.
pub type PreferenceTrainer = Trainer<Preference>;

/// Preference optimisation on pairs.
pub struct Preference {
    config: PreferenceConfig,
    policy: Policy,
    /// None when no loss reads one, and when all its log-probabilities are known.
    reference: Option<FrozenReference>,
    learner: Learner,
    examples: Examples<Pair>,
    held_out: Vec<(String, Vec<Pair>)>,
}

/// A pair, and what the reference makes of it where that was computed before training: chosen, rejected.
struct Pair {
    pair: TrainingPair,
    reference: Option<[f64; 2]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreferenceState {
    cursor: Cursor,
    learner: LearnerState,
}

impl Method for Preference {
    type Config = PreferenceConfig;
    const NAME: &'static str = "preference";

    fn manifest(config: &PreferenceConfig) -> Result<Manifest> {
        let manifest = Manifest::new().seed("seed", config.seed);
        let mut manifest = input_datasets(manifest, &config.data, &config.held_out)?;
        manifest = input_model(manifest, "model", config.model.path.as_deref())?;
        let reference = config.reference.as_ref().and_then(|reference| reference.path.as_deref());
        input_model(manifest, "reference", reference)
    }

    fn build(config: &PreferenceConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        let policy = load_policy(config, resume, device)?;
        let (pairs, held_out) = load_pairs(config, &policy.chat.renderer)?.into_parts();
        Self::assemble(config, policy, pairs, held_out, device, resume)
    }

    fn max_steps(&self) -> u64 {
        self.examples.num_steps(self.config.batch_size, &self.config.training)
    }

    /// One optimizer step over `batch_size` pairs.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        let Self { config, policy, reference, learner, examples, .. } = self;
        let objective = &config.objective;
        let batch = examples.next(config.batch_size);
        let pairs: Vec<&TrainingPair> = batch.iter().map(|pair| &pair.pair).collect();
        let mut micro_batches = pair_micro_batches(&pairs, config.training.micro_batch_tokens);
        let supervised = Supervised::new(objective, &pairs, &micro_batches)?;
        let dropout = |index: usize| Some(RandomKey::new(config.seed, "dropout").at(step).at(index as u64));
        let mut digest = Digest::default();
        let mut totals = Totals::default();

        // A loss that ranks the pairs of the step needs all their log-probabilities before the first gradient.
        let mut ranked = None;
        if !objective.is_separable() {
            let mut scores = PairScores::default();
            for (index, indices) in micro_batches.iter().enumerate() {
                policy.set_dropout(dropout(index));
                scores.append(unrecorded_scores(policy, reference.as_ref(), objective, &batch, indices.clone())?);
            }
            let all = || pairs.iter().map(|pair| pair.id).collect();
            match learner.guard().admit(all, scores.loss(objective, batch.len()))? {
                Some(output) => {
                    totals.add(&output, &scores);
                    ranked = Some(Ranked { output, next: 0 });
                }
                None => micro_batches.clear(),
            }
        }

        learner.zero_grad()?;
        for (index, indices) in micro_batches.into_iter().enumerate() {
            let micro = PairBatch::new(policy.decoder(), &pairs, indices, layout(objective))?;
            policy.set_dropout(dropout(index));
            let (log_probs, log_sum_squares) = forward(policy.decoder(), &micro, objective)?; // [labels]
            let host = to_host(&log_probs)?;
            let part = (|| {
                let (preference, grads) = match &mut ranked {
                    Some(ranked) => (None, ranked.next(micro.pairs.len())),
                    None => {
                        let known = reference_sums(policy, reference.as_ref(), &micro, &batch)?;
                        let scores = PairScores::new(&micro, &host, log_sum_squares.as_deref(), known)?;
                        let output = scores.loss(objective, batch.len())?;
                        let grads = (output.grad_chosen_log_probs.clone(), output.grad_rejected_log_probs.clone());
                        (Some((output, scores)), grads)
                    }
                };
                let supervised = supervised.as_ref().map(|term| term.loss(&micro, &host)).transpose()?;
                Ok((preference, grads, supervised))
            })();
            let Some((preference, grads, supervised)) = learner.guard().admit(|| micro.ids.clone(), part)? else {
                continue;
            };
            let mut gradient: Vec<f32> = micro.spread(&grads.0, &grads.1).into_iter().map(|g| g as f32).collect();
            if let Some((loss, grads)) = supervised {
                totals.supervised(loss);
                gradient.iter_mut().zip(grads).for_each(|(sum, grad)| *sum += grad);
            }
            backward_from(&log_probs, &gradient)?;
            digest.numbers(&host);
            if let Some((output, scores)) = preference {
                totals.add(&output, &scores);
            }
        }
        policy.set_dropout(None);
        let update = learner.step(step)?;
        if let Some(reference) = reference {
            reference.follow(policy, step + 1)?;
        }

        pairs.iter().flat_map(|pair| pair.sides()).for_each(|side| digest.ids(&side.ids));
        let num_tokens: usize = pairs.iter().map(|pair| pair.num_tokens()).sum();
        let message = format!("loss {:.4}, margin {:.4}", totals.loss, totals.statistics.mean_margin().unwrap_or(0.0));
        let row = totals
            .into_metrics(MetricsRow::new(step + 1, "train"), objective)
            .with("learning_rate", update.learning_rate)
            .with("num_pairs", batch.len() as f64)
            .with("num_tokens", num_tokens as f64);
        Ok(StepReport::new(learner.report(update, row), message, digest))
    }

    /// Loss, accuracy, margin and log-probabilities of each held-out file, taken as one step.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let row = |(name, pairs): &(String, Vec<Pair>)| self.measure(MetricsRow::new(step, name.as_str()), pairs);
        self.held_out.iter().map(row).collect()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        if let Some(reference) = &self.reference {
            reference.save(folder)?;
        }
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&PreferenceState { cursor: self.examples.cursor(), learner: self.learner.state() })
    }
}

impl Preference {
    /// As [`Method::build`] on pairs that were made elsewhere; the files that `config` names are not read. Pairs are visited
    /// in the order of [`rl_data::epoch_order`].
    ///
    /// # Errors
    /// Model and checkpoint errors; [`Error::NoResponse`] for a pair without a target.
    pub fn from_pairs(
        config: &PreferenceConfig,
        pairs: Vec<TrainingPair>,
        held_out: Vec<(String, Vec<TrainingPair>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        Self::assemble(config, load_policy(config, resume, device)?, pairs.into(), held_out, device, resume)
    }

    fn assemble(
        config: &PreferenceConfig,
        policy: Policy,
        pairs: TrainingSet<TrainingPair>,
        held_out: Vec<(String, Vec<TrainingPair>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        pairs.items.iter().chain(held_out.iter().flat_map(|(_, pairs)| pairs)).try_for_each(TrainingPair::check)?;
        let wrap = |pair| Pair { pair, reference: None };
        let mut pairs = pairs.map(wrap);
        let mut held_out: Vec<(String, Vec<Pair>)> =
            held_out.into_iter().map(|(name, pairs)| (name, pairs.into_iter().map(wrap).collect())).collect();

        let mut reference = None;
        if let Some(settings) = &config.reference {
            let path = settings.path.as_deref();
            let frozen = FrozenReference::load(&policy, path, &config.model, settings.update, device, resume)?;
            if settings.log_probs == ReferencePasses::Precomputed {
                precompute(config, &policy, &frozen, &mut pairs)?;
                for (_, pairs) in &mut held_out {
                    let all = (0..pairs.len()).collect();
                    precompute_batch(config, &policy, &frozen, pairs, all)?;
                }
            } else {
                reference = Some(frozen);
            }
        }
        let state: Option<PreferenceState> = resume.map(Saved::method).transpose()?;
        let cursor = state.as_ref().map(|state| state.cursor);
        let examples = Examples::new(pairs, config.seed, cursor, &config.training)?;
        let learner_config =
            LearnerConfig::new(&config.training, examples.num_steps(config.batch_size, &config.training));
        let saved = resume.zip(state.map(|state| state.learner));
        let learner = Learner::resume(policy.parameters(), &learner_config, saved)?;
        Ok(Preference { config: config.clone(), policy, reference, learner, examples, held_out })
    }

    fn measure(&self, row: MetricsRow, pairs: &[Pair]) -> Result<MetricsRow> {
        let objective = &self.config.objective;
        let batch: Vec<&Pair> = pairs.iter().collect();
        let all: Vec<&TrainingPair> = pairs.iter().map(|pair| &pair.pair).collect();
        let micro_batches = pair_micro_batches(&all, self.config.training.micro_batch_tokens);
        let supervised = Supervised::new(objective, &all, &micro_batches)?;
        let (mut scores, mut totals) = (PairScores::default(), Totals::default());
        for indices in micro_batches {
            let micro = PairBatch::new(self.policy.decoder(), &all, indices, layout(objective))?;
            let (host, log_sum_squares) = unrecorded(&self.policy, &micro, objective)?;
            let known = reference_sums(&self.policy, self.reference.as_ref(), &micro, &batch)?;
            scores.append(PairScores::new(&micro, &host, log_sum_squares.as_deref(), known)?);
            if let Some(term) = &supervised {
                totals.supervised(term.loss(&micro, &host)?.0);
            }
        }
        totals.add(&scores.loss(objective, batch.len())?, &scores);
        Ok(totals.into_metrics(row, objective).with("num_pairs", batch.len() as f64))
    }
}

/// Gradients of a whole step, handed out micro-batch by micro-batch.
struct Ranked {
    output: PreferenceOutput,
    next: usize,
}

impl Ranked {
    /// Those of the next `count` pairs: chosen, rejected.
    fn next(&mut self, count: usize) -> (Vec<f64>, Vec<f64>) {
        let range = self.next..self.next + count;
        self.next += count;
        let PreferenceOutput { grad_chosen_log_probs, grad_rejected_log_probs, .. } = &self.output;
        (grad_chosen_log_probs[range.clone()].to_vec(), grad_rejected_log_probs[range].to_vec())
    }
}

/// Sums over the pairs of a step.
#[derive(Default)]
struct Totals {
    loss: f64,
    nll: Option<f64>,
    statistics: PreferenceStatistics,
    log_probs: [f64; 2],
}

impl Totals {
    fn add(&mut self, output: &PreferenceOutput, scores: &PairScores) {
        self.loss += output.loss;
        self.statistics = self.statistics.merge(output.statistics);
        for (sum, log_probs) in self.log_probs.iter_mut().zip(&scores.log_probs) {
            *sum += log_probs.iter().sum::<f64>();
        }
    }

    fn supervised(&mut self, loss: f64) {
        self.loss += loss;
        *self.nll.get_or_insert(0.0) += loss;
    }

    fn into_metrics(self, row: MetricsRow, objective: &PreferenceObjective) -> MetricsRow {
        let PreferenceStatistics { num_pairs, sum_chosen_reward, sum_rejected_reward, .. } = self.statistics;
        let pairs = num_pairs.max(1) as f64;
        let mut row = row
            .with("loss", self.loss)
            .with("accuracy", self.statistics.accuracy().unwrap_or(0.0))
            .with("margin", self.statistics.mean_margin().unwrap_or(0.0))
            .with("rewards_chosen", sum_chosen_reward / pairs)
            .with("rewards_rejected", sum_rejected_reward / pairs)
            .with("log_probs_chosen", self.log_probs[0] / pairs)
            .with("log_probs_rejected", self.log_probs[1] / pairs);
        if let Some(nll) = self.nll {
            row = row.with("nll_loss", nll);
        }
        if objective.ratio_clamp.is_some() {
            row = row.with("clamped_ratios", self.statistics.num_clamped_ratios as f64);
        }
        let clamped = self.statistics.num_clamped_scores;
        if 0 < clamped { row.with("clamped_scores", clamped as f64) } else { row }
    }
}

/// Log-probabilities of the labels with their graph and, for WPO, `log sum p^2` at the same places without.
fn forward(
    decoder: &Decoder,
    micro: &PairBatch,
    objective: &PreferenceObjective,
) -> Result<(Tensor, Option<Vec<f32>>)> {
    let hidden = decoder.hidden_states(&micro.micro.packed)?;
    let (rows, ids) = (&micro.micro.label_rows, &micro.micro.label_ids);
    let log_probs = token_log_probs(decoder, &hidden, rows, ids, 1.0)?;
    let log_sum_squares = objective.needs_pair_weights().then(|| token_log_sum_squares(decoder, &hidden, rows));
    let log_sum_squares = log_sum_squares.transpose()?.map(|tensor| to_host(&tensor)).transpose()?;
    Ok((log_probs, log_sum_squares))
}

/// [`forward`] without a graph and with the bits of the recorded pass.
fn unrecorded(
    policy: &Policy,
    micro: &PairBatch,
    objective: &PreferenceObjective,
) -> Result<(Vec<f32>, Option<Vec<f32>>)> {
    let (log_probs, log_sum_squares) = tch::no_grad(|| forward(policy.decoder(), micro, objective))?;
    Ok((to_host(&log_probs)?, log_sum_squares))
}

/// What the objective reads of some pairs of the step, without a gradient.
fn unrecorded_scores(
    policy: &Policy,
    reference: Option<&FrozenReference>,
    objective: &PreferenceObjective,
    batch: &[&Pair],
    indices: Vec<usize>,
) -> Result<PairScores> {
    let pairs: Vec<&TrainingPair> = batch.iter().map(|pair| &pair.pair).collect();
    let micro = PairBatch::new(policy.decoder(), &pairs, indices, layout(objective))?;
    let (host, log_sum_squares) = unrecorded(policy, &micro, objective)?;
    let known = reference_sums(policy, reference, &micro, batch)?;
    PairScores::new(&micro, &host, log_sum_squares.as_deref(), known)
}

/// The reference's sums over the responses of a micro-batch: computed, or known from before; none without a reference.
fn reference_sums(
    policy: &Policy,
    reference: Option<&FrozenReference>,
    micro: &PairBatch,
    batch: &[&Pair],
) -> Result<Option<[Vec<f64>; 2]>> {
    if let Some(reference) = reference {
        return Ok(Some(micro.sums(&reference.log_probs(policy, &micro.micro)?)));
    }
    let known: Option<Vec<[f64; 2]>> = micro.pairs.iter().map(|&pair| batch[pair].reference).collect();
    Ok(known.map(|known| [0, 1].map(|side| known.iter().map(|pair| pair[side]).collect())))
}

/// The reference's sums of every pair that the run will visit, in the micro-batches of the first visit.
fn precompute(
    config: &PreferenceConfig,
    policy: &Policy,
    reference: &FrozenReference,
    set: &mut TrainingSet<Pair>,
) -> Result<()> {
    let epochs = set.epochs()?;
    let size = config.batch_size as u64;
    let mut left = match config.training.epochs {
        Some(count) => count.saturating_mul(epochs.epoch_rows() as u64),
        None => config.training.max_steps.unwrap_or(0).saturating_mul(size),
    };
    let mut order = DataOrder::new(config.seed, epochs)?;
    let mut unknown = set.items.len();
    while 0 < left && 0 < unknown {
        // The last step of the last epoch is short; others go on into the next.
        let count = size.min(left);
        let places = order.take(count as usize);
        left -= count;
        let mut new: Vec<usize> = places.iter().copied().filter(|&at| set.items[at].reference.is_none()).collect();
        if new.is_empty() {
            continue;
        }
        precompute_batch(config, policy, reference, &mut set.items, places)?;
        new.sort_unstable();
        new.dedup();
        unknown -= new.len();
    }
    Ok(())
}

/// The reference's sums of the pairs at `indices`, packed as a step packs them; those known already stay.
fn precompute_batch(
    config: &PreferenceConfig,
    policy: &Policy,
    reference: &FrozenReference,
    pairs: &mut [Pair],
    indices: Vec<usize>,
) -> Result<()> {
    let batch: Vec<&TrainingPair> = indices.iter().map(|&index| &pairs[index].pair).collect();
    let mut known = Vec::with_capacity(indices.len());
    for own in pair_micro_batches(&batch, config.training.micro_batch_tokens) {
        let micro = PairBatch::new(policy.decoder(), &batch, own, layout(&config.objective))?;
        let [chosen, rejected] = micro.sums(&reference.log_probs(policy, &micro.micro)?);
        let sums = chosen.into_iter().zip(rejected).map(|(chosen, rejected)| [chosen, rejected]);
        known.extend(micro.pairs.iter().map(|&pair| indices[pair]).zip(sums));
    }
    for (index, sums) in known {
        pairs[index].reference.get_or_insert(sums);
    }
    Ok(())
}

fn load_policy(config: &PreferenceConfig, resume: Option<&Saved>, device: Device) -> Result<Policy> {
    Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))
}

/// What is trained on and what is held out, as pairs.
pub(crate) fn load_pairs(config: &PreferenceConfig, renderer: &Renderer) -> Result<Loaded<TrainingPair>> {
    let renderer = under(renderer, config.end_of_turn);
    pair_batch::load_pairs(&renderer, &config.data, &config.held_out, config.seams, &config.selection)
}
