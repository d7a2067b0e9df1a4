//! What a run will read, hold and write, before it computes: rows kept and dropped, tokens, steps, parameters, peak memory, disk.
//!
//! [`plan`] validates everything the run will touch and reads the data through the trainers' own functions; no weights are
//! loaded. [`check_memory`] is the part that every run passes through. Each trainer's side is in `methods`.

mod disk;
mod files;
mod measure;
pub mod memory;
mod methods;
mod models;
mod passes;
mod process;
mod screen;
mod system;

use std::path::{Path, PathBuf};

use rl_data::Renderer;
use rl_models::ModelConfig;
use rl_torch::parse_device;
use rl_track::{ConfigError, ensure};
use tch::Device;

use crate::config::{MemoryCheck, RunConfig};
use crate::{Error, Result};

pub use disk::DiskPlan;
pub use files::FilePlan;
pub use measure::Measured;
pub use memory::{HeadKind, MemoryPlan, MemoryTerm, Phase, RolloutShape};
pub use models::{PlannedModel, PlannedTensor};
pub use passes::PassShape;
pub use system::{free_disk, memory_limit, resident_bytes};

/// What a run will do, as far as it can be said beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The training method.
    pub method: &'static str,
    /// Folder of the run.
    pub run: PathBuf,
    /// Device as the configuration names it.
    pub device: String,
    /// The models it holds; the first is trained.
    pub models: Vec<PlannedModel>,
    /// The datasets it reads, those trained on first.
    pub files: Vec<FilePlan>,
    /// What a step takes `per_step` of: `rows`, `pairs`, `answers`, `prompts`.
    pub unit: &'static str,
    /// Examples of a step.
    pub per_step: usize,
    /// Steps of the whole run.
    pub steps: u64,
    /// `training.micro_batch_tokens`.
    pub micro_batch_tokens: usize,
    /// The largest backward pass.
    pub largest: PassShape,
    /// How answers are sampled, where they are.
    pub rollout: Option<RolloutShape>,
    /// The prediction of memory.
    pub memory: MemoryPlan,
    /// Memory that the process may hold; none on a device whose memory is not known here.
    pub memory_limit: Option<u64>,
    /// Whether a run that does not fit is refused.
    pub memory_check: MemoryCheck,
    /// The prediction of disk.
    pub disk: DiskPlan,
    /// Free bytes on the disk of the run's folder.
    pub free_disk: Option<u64>,
    /// What is legal and may surprise.
    pub notes: Vec<String>,
}

/// The models of a configuration.
#[derive(Debug)]
pub struct Models {
    /// All of them; the first is trained.
    pub(crate) list: Vec<PlannedModel>,
    /// Tokenizer and template of the first; none for a new model, whose tokenizer is trained on the data.
    pub(crate) renderer: Option<Renderer>,
}

/// What a run reads and how its steps look.
#[derive(Debug)]
pub struct Work {
    pub(crate) files: Vec<FilePlan>,
    pub(crate) unit: &'static str,
    pub(crate) per_step: usize,
    pub(crate) steps: u64,
    pub(crate) largest: PassShape,
    pub(crate) rollout: Option<RolloutShape>,
    /// The configuration of a new model, now that its tokenizer is known.
    pub(crate) new_config: Option<ModelConfig>,
}

/// A configuration whose run can be planned.
pub trait Planned: RunConfig {
    /// The training method in a word.
    fn method(&self) -> &'static str;

    /// The models of the run, their folders checked.
    ///
    /// # Errors
    /// A folder that cannot be read, or models that do not fit each other, by the key that names them.
    fn models(&self) -> Result<Models>;

    /// What the heads compute.
    fn head(&self) -> HeadKind;

    /// Whether the reference goes through a pass while the policy's graph of it is there.
    fn reads_reference_in_pass(&self) -> bool {
        false
    }

    /// The longest sequence that the configuration allows, with its key.
    fn max_length(&self) -> Option<(&'static str, usize)>;

    /// Most tokens that go through the model together for the sake of one example, and the examples of a step; none where only
    /// the data can tell.
    fn unit_bound(&self) -> Option<(usize, usize)>;

    /// Reads the data and lays the steps out.
    ///
    /// # Errors
    /// Data that cannot be trained on, by key and row.
    fn work(&self, models: &Models) -> Result<Work>;

    /// Takes the largest step of the run for real, in memory of its own and without a record.
    ///
    /// # Errors
    /// As the trainer's.
    fn measure(&self, device: Device) -> Result<Measured>;
}

/// Plans the run of `config`: validates what it will touch, and counts and predicts the rest.
///
/// Whether the run fits is a matter of [`Plan::check`].
///
/// # Errors
/// The first thing that would end the run, by key, value and mend.
pub fn plan<C: Planned>(config: &C) -> Result<Plan> {
    config.validate()?;
    let device = parse_device(config.device())?;
    let training = config.training();
    let mut models = config.models()?;
    check_length(config, &models.list[0].config)?;
    check_folder(config.run())?;
    models.list[0].apply_groups(&training.groups)?;
    let work = config.work(&models)?;
    if let Some(new) = &work.new_config {
        let PlannedModel { role, dtype, gradient_checkpointing, .. } = models.list[0].clone();
        models.list[0] = PlannedModel { gradient_checkpointing, ..PlannedModel::new(role, new, dtype, true) };
        models.list[0].apply_groups(&training.groups)?;
    }
    let disk = DiskPlan::new(&models.list, training, work.steps);
    let memory = predict(config, &models.list, &work.largest, work.rollout.as_ref())?;
    let notes = notes(config, &work);
    Ok(Plan {
        method: config.method(),
        run: config.run().to_path_buf(),
        device: config.device().to_owned(),
        models: models.list,
        files: work.files,
        unit: work.unit,
        per_step: work.per_step,
        steps: work.steps,
        micro_batch_tokens: training.micro_batch_tokens,
        largest: work.largest,
        rollout: work.rollout,
        memory,
        memory_limit: if device == Device::Cpu { memory_limit() } else { None },
        memory_check: training.memory_check,
        disk,
        free_disk: free_disk(config.run()),
        notes,
    })
}

impl Plan {
    /// Whether the run fits into memory and on the disk.
    ///
    /// # Errors
    /// [`Error::Memory`] unless the configuration says to try all the same; [`Error::Disk`].
    pub fn check(&self) -> Result<()> {
        if let (MemoryCheck::On, Some(limit)) = (self.memory_check, self.memory_limit) {
            fits(&self.memory, limit, &self.models[0], self.micro_batch_tokens)?;
        }
        match self.free_disk {
            Some(free) if free < self.disk.most => {
                let (needed, available) = (system::human(self.disk.most), system::human(free));
                Err(Error::Disk { path: self.run.clone(), needed, available })
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a run on the CPU that is predicted not to fit into memory. The data is read only where the longest rows that the
/// configuration allows would not fit.
///
/// # Errors
/// [`Error::Memory`] with prediction, limit and mends; otherwise as [`plan`].
pub fn check_memory<C: Planned>(config: &C) -> Result<()> {
    let training = config.training();
    if training.memory_check == MemoryCheck::Off || parse_device(config.device())? != Device::Cpu {
        return Ok(());
    }
    let Some(limit) = memory_limit() else { return Ok(()) };
    let mut models = config.models()?;
    models.list[0].apply_groups(&training.groups)?;
    if let Some((unit, per_step)) = config.unit_bound() {
        let longest = unit.min(2 * models.list[0].config.max_positions().unsigned_abs() as usize);
        let tokens = training.micro_batch_tokens.max(longest).min(per_step.saturating_mul(longest));
        let memory = predict(config, &models.list, &PassShape::bound(tokens, longest), None)?;
        if memory.peak() <= limit {
            return Ok(());
        }
    }
    let work = config.work(&models)?;
    let memory = predict(config, &models.list, &work.largest, work.rollout.as_ref())?;
    fits(&memory, limit, &models.list[0], training.micro_batch_tokens)
}

/// The terms of a run's memory whose largest pass is `pass`.
fn predict<C: Planned>(
    config: &C,
    models: &[PlannedModel],
    pass: &PassShape,
    rollout: Option<&RolloutShape>,
) -> Result<MemoryPlan> {
    let mut plan = MemoryPlan::default();
    let policy = &models[0];
    let has_average = config.training().ema_decay.is_some();
    plan.hold("process: program, buffers, data", process::process_bytes()?);
    for (index, model) in models.iter().enumerate() {
        plan.hold_model(model, has_average && index == 0);
    }
    let trained = models.iter().filter(|model| 0 < model.num_trained());
    let activations = trained.map(|model| memory::activation_bytes(model, pass)).sum();
    let head = memory::head_bytes(policy, pass, config.head());
    let layer = memory::layer_backward_bytes(policy, pass);
    // The reference's pass finds the last states of the policy's; the head's backward pass is over before that of the layers begins.
    let reference = match config.reads_reference_in_pass() {
        true => memory::state_bytes(policy, pass) + memory::forward_bytes(models.get(1).unwrap_or(policy), pass),
        false => 0,
    };
    let working = head.max(layer).max(reference);
    plan.phase("backward pass", vec![("activations", activations), ("head and working space", working)]);
    if let Some(rollout) = rollout {
        plan.phase(
            "sampling",
            vec![
                ("keys and values", memory::cache_bytes(&policy.config, policy.dtype, rollout)),
                ("logits", memory::draw_bytes(&policy.config, rollout)),
                ("reading prompts", memory::prefill_bytes(policy, rollout)),
                ("merged adapters", memory::merged_bytes(policy)),
            ],
        );
    }
    let largest = policy.tensors.iter().map(|tensor| tensor.numel * tensor.bytes_each).max().unwrap_or(0);
    let swapped: u64 = if has_average { policy.num_trained() * models::bytes_of(policy.dtype) } else { 0 };
    plan.phase(
        "writing a checkpoint",
        vec![("one tensor as bytes", largest), ("weights beside their averages", swapped)],
    );
    Ok(plan)
}

fn fits(memory: &MemoryPlan, limit: u64, policy: &PlannedModel, micro_batch_tokens: usize) -> Result<()> {
    if memory.peak() <= limit {
        return Ok(());
    }
    let mut terms: Vec<&MemoryTerm> =
        memory.held.iter().chain(memory.largest_phase().into_iter().flat_map(|phase| &phase.terms)).collect();
    terms.sort_by_key(|term| std::cmp::Reverse(term.bytes));
    let largest: Vec<String> =
        terms.iter().take(3).map(|term| format!("{} {}", term.name, system::human(term.bytes))).collect();
    let mut mends = String::new();
    if policy.lora.is_none() {
        mends += ", train adapters (`model.lora`)";
    }
    if !policy.gradient_checkpointing {
        mends += ", set `model.gradient_checkpointing = true`";
    }
    Err(Error::Memory {
        needed: system::human(memory.peak()),
        largest: largest.join(", "),
        available: system::human(limit),
        micro_batch_tokens,
        mends,
    })
}

/// A sequence must not be longer than what the model reads.
fn check_length<C: Planned>(config: &C, model: &ModelConfig) -> std::result::Result<(), ConfigError> {
    let Some((key, length)) = config.max_length() else { return Ok(()) };
    let limit = model.max_positions();
    let message = format!("the model reads at most {limit} tokens (its max_position_embeddings); lower it");
    ensure(i64::try_from(length).is_ok_and(|length| length <= limit), key, length, message)
}

/// The run's folder must be a folder that can be written to, or could be made.
fn check_folder(run: &Path) -> std::result::Result<(), ConfigError> {
    let absolute = std::path::absolute(run).unwrap_or_else(|_| run.to_path_buf());
    let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(run);
    let found = |message: String| ConfigError { key: "run".into(), value: run.display().to_string(), message };
    if !existing.is_dir() {
        return Err(found(format!("{} is a file; name a folder", existing.display())));
    }
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK)
        .map_err(|error| found(format!("{} cannot be written to ({error}); name another folder", existing.display())))
}

/// What is legal and may surprise.
fn notes<C: Planned>(config: &C, work: &Work) -> Vec<String> {
    let mut notes = Vec::new();
    let training = config.training();
    let epoch: usize = work.files.iter().map(|file| file.epoch_rows).sum();
    if 0 < epoch && epoch < work.per_step {
        let (unit, per_step) = (work.unit, work.per_step);
        notes.push(format!("a step takes {per_step} {unit}, an epoch has {epoch}: steps run over its end"));
    }
    if training.micro_batch_tokens < work.largest.tokens {
        notes.push(format!(
            "one example has {} tokens, above micro_batch_tokens = {}: it goes through alone",
            work.largest.tokens, training.micro_batch_tokens
        ));
    }
    for file in &work.files {
        notes.extend(file.report.first_failure.iter().map(|failure| format!("{}: first failure: {failure}", file.key)));
    }
    if training.memory_check == MemoryCheck::Off {
        notes.push("memory_check is off: the run begins whether it fits or not".into());
    }
    notes
}
