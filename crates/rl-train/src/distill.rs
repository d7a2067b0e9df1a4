//! Distillation: a student learns a teacher's next-token distributions, on given answers and on its own.

use std::path::Path;

use rl_core::random::RandomKey;
use rl_data::{ChatRecord, Conversation, Cursor, Renderer, Role, TrainOn};
use rl_models::{ChatModel, Dialogue, distillation_loss};
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Device;

use crate::batch::{MicroBatch, TrainingRow, micro_batches};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::DistillConfig;
use crate::data::{Loaded, Side, input_datasets, load, select_rows, under};
use crate::digest::Digest;
use crate::examples::Examples;
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::policy::Policy;
use crate::sft::{input_model, save_averages, to_state, training_row};
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

/// What an evaluation gives of each held-out file.
pub(crate) const MEASURED: [&str; 1] = ["loss"];

/// A run of distillation.
pub type DistillTrainer = Trainer<Distill>;

/// Distillation.
pub struct Distill {
    config: DistillConfig,
    policy: Policy,
    teacher: ChatModel,
    learner: Learner,
    examples: Examples<Task>,
    held_out: Vec<(String, Vec<TrainingRow>)>,
}

/// A given answer, and the prompt that the student may answer itself.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) row: TrainingRow,
    pub(crate) prompt: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DistillState {
    cursor: Cursor,
    learner: LearnerState,
}

impl Method for Distill {
    type Config = DistillConfig;
    const NAME: &'static str = "distill";

    fn manifest(config: &DistillConfig) -> Result<Manifest> {
        let manifest = Manifest::new().seed("seed", config.seed);
        let manifest = input_datasets(manifest, &config.data, &config.held_out)?;
        let manifest = input_model(manifest, "model", config.model.path.as_deref())?;
        input_model(manifest, "teacher", Some(&config.teacher.path))
    }

    fn build(config: &DistillConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        let policy = Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))?;
        let teacher = ChatModel::load_as(&config.teacher.path, config.teacher.dtype.kind(), device)?;
        teacher.decoder.set_trainable(false);
        let (found, needed) = (teacher.decoder.config().vocab_size, policy.decoder().config().vocab_size);
        if found != needed {
            return Err(Error::ReferenceVocabulary { path: config.teacher.path.clone(), found, needed });
        }
        let (tasks, held_out) = load_tasks(config, &policy.chat.renderer)?.into_parts();
        let rows = |tasks: Vec<Task>| tasks.into_iter().map(|task| task.row).collect();
        let held_out = held_out.into_iter().map(|(name, tasks)| (name, rows(tasks))).collect();
        let state: Option<DistillState> = resume.map(Saved::method).transpose()?;
        let cursor = state.as_ref().map(|state| state.cursor);
        let examples = Examples::new(tasks, config.seed, cursor, &config.training)?;
        let learner_config =
            LearnerConfig::new(&config.training, examples.num_steps(config.batch_size, &config.training));
        let saved = resume.zip(state.map(|state| state.learner));
        let learner = Learner::resume(policy.parameters(), &learner_config, saved)?;
        Ok(Distill { config: config.clone(), policy, teacher, learner, examples, held_out })
    }

    fn max_steps(&self) -> u64 {
        self.examples.num_steps(self.config.batch_size, &self.config.training)
    }

    /// One optimizer step over `batch_size` answers, given or the student's own.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        let Self { config, policy, teacher, learner, examples, .. } = self;
        let tasks = examples.next(config.batch_size);
        let key = RandomKey::new(config.seed, "on-policy").at(step);
        let is_on_policy = key.uniform(0) < config.on_policy_fraction;
        let answers = if is_on_policy { answer(config, policy, &tasks, key)? } else { Vec::new() };
        let batch: Vec<&TrainingRow> =
            if is_on_policy { answers.iter().collect() } else { tasks.iter().map(|task| &task.row).collect() };
        let num_labels: usize = batch.iter().map(|row| row.num_labels()).sum();
        let num_tokens: usize = batch.iter().map(|row| row.ids.len()).sum();
        let mut digest = Digest::default();
        let mut loss = 0.0;

        learner.zero_grad()?;
        for (index, rows) in micro_batches(&batch, config.training.micro_batch_tokens).into_iter().enumerate() {
            let micro = MicroBatch::new(policy.decoder(), &batch, rows)?;
            policy.set_dropout(Some(RandomKey::new(config.seed, "dropout").at(step).at(index as u64)));
            let divergence = divergence(config, policy, teacher, &micro, num_labels)?;
            let value = divergence.f_double_value(&[])?;
            let value = finite(value).map(|value| (value, divergence));
            let Some((value, divergence)) = learner.guard().admit(|| micro.row_ids(&batch), value)? else { continue };
            divergence.f_backward()?;
            loss += value;
        }
        policy.set_dropout(None);
        let update = learner.step(step)?;

        batch.iter().for_each(|row| digest.ids(&row.ids));
        let row = MetricsRow::new(step + 1, "train")
            .with("loss", loss)
            .with("on_policy", f64::from(u8::from(is_on_policy)))
            .with("learning_rate", update.learning_rate)
            .with("num_tokens", num_tokens as f64)
            .with("num_labels", num_labels as f64);
        Ok(StepReport::new(learner.report(update, row), format!("loss {loss:.4}"), digest))
    }

    /// The divergence on the held-out rows.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let mut measured = Vec::new();
        for (name, rows) in &self.held_out {
            let num_labels: usize = rows.iter().map(TrainingRow::num_labels).sum();
            let mut loss = 0.0;
            for indices in micro_batches(rows, self.config.training.micro_batch_tokens) {
                let micro = MicroBatch::new(self.policy.decoder(), rows, indices)?;
                let part = tch::no_grad(|| divergence(&self.config, &self.policy, &self.teacher, &micro, num_labels))?;
                loss += finite(part.f_double_value(&[])?)?;
            }
            measured.push(MetricsRow::new(step, name.as_str()).with("loss", loss));
        }
        Ok(measured)
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&DistillState { cursor: self.examples.cursor(), learner: self.learner.state() })
    }
}

/// The divergence of a micro-batch, a scalar with its graph.
fn divergence(
    config: &DistillConfig,
    policy: &Policy,
    teacher: &ChatModel,
    micro: &MicroBatch,
    num_labels: usize,
) -> Result<tch::Tensor> {
    let student = policy.decoder();
    // A pass without gradients has the bits of a recorded one: a student that is its teacher's copy has divergence 0.
    let hidden = tch::no_grad(|| teacher.decoder.hidden_states(&micro.packed))?;
    let own = student.hidden_states(&micro.packed)?;
    let settings = config.distillation;
    Ok(distillation_loss(student, &own, &teacher.decoder, &hidden, &micro.label_rows, settings, num_labels)?)
}

fn finite(value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(rl_core::Error::NonFinite { name: "divergence", index: 0, value }.into())
}

/// The student's own answers, their tokens as labels.
fn answer(config: &DistillConfig, policy: &Policy, tasks: &[&Task], key: RandomKey) -> Result<Vec<TrainingRow>> {
    let Some(sampling) = &config.sampling else { return Err(Error::NothingToTrain) };
    let mut dialogues: Vec<Dialogue> = tasks
        .iter()
        .map(|task| Dialogue { messages: Vec::new(), columns: Map::new(), ids: task.prompt.clone(), turns: Vec::new() })
        .collect();
    let keys: Vec<RandomKey> = (0..tasks.len()).map(|row| key.at(row as u64)).collect();
    policy.sampling(|chat| {
        let mut borrowed: Vec<&mut Dialogue> = dialogues.iter_mut().collect();
        Ok(chat.respond(&mut borrowed, &keys, sampling, &mut |_| ())?)
    })?;
    let row = |(task, dialogue): (&&Task, Dialogue)| {
        let trainable = (0..dialogue.ids.len()).map(|place| task.prompt.len() <= place).collect();
        TrainingRow { id: task.row.id, ids: dialogue.ids, trainable, group: None }
    };
    Ok(tasks.iter().zip(dialogues).map(row).collect())
}

/// What is trained on and what is held out: rows, each with the prompt before its last answer.
pub(crate) fn load_tasks(config: &DistillConfig, renderer: &Renderer) -> Result<Loaded<Task>> {
    let renderer = under(renderer, config.end_of_turn);
    load::<ChatRecord, _>("data", &config.data, &config.held_out, |rows, side| {
        let train_on = if side == Side::Train { config.train_on } else { TrainOn::Assistant };
        let examples = renderer.examples(&rows.records, train_on);
        select_rows(rows, examples, &config.selection, |id, ChatRecord { messages, extra }, example| {
            let last = messages.iter().rposition(|message| message.role == Role::Assistant).unwrap_or(messages.len());
            let prompt = Conversation::new(&messages[..last], extra);
            let prompt = renderer.prompt_ids(prompt)?.into_iter().map(i64::from).collect();
            Ok(Task { row: training_row(id, example), prompt })
        })
    })
}
