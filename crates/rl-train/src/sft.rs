//! Supervised fine-tuning, and training from scratch: packed rows, loss on the trainable tokens.

use std::path::PathBuf;
use std::time::Instant;

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_data::{
    CHATML, ChatRecord, ChatTemplate, DataOrder, Renderer, Selection, TrainOn, read_jsonl, select, train_tokenizer,
};
use rl_models::checkpoint::SideFiles;
use rl_models::{ChatModel, Decoder, ModelConfig, token_log_probs};
use rl_torch::{AdamW, clip_grad_norm, parse_device};
use rl_track::{Manifest, MetricsRow, Progress, Run};
use tch::{Device, Kind, Tensor};

use crate::batch::{MicroBatch, TrainingRow, micro_batches};
use crate::checkpoint::{self, TrainingState};
use crate::config::{NewModelConfig, SftConfig};
use crate::interrupt::Interrupt;
use crate::recorder::{BegunRun, Recorder};
use crate::{Error, Finish, Result};

/// Special tokens of a tokenizer trained here; the ChatML template uses the last two.
const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Conversations that a new tokenizer is trained on at most.
const TOKENIZER_RECORDS: usize = 20_000;

/// A run of supervised fine-tuning, ready to go on from its last checkpoint or from the start.
pub struct SftTrainer {
    config: SftConfig,
    run: Run,
    model: ChatModel,
    optimizer: AdamW,
    rows: Vec<TrainingRow>,
    held_out: Vec<(String, Vec<TrainingRow>)>,
    order: DataOrder,
    step: u64,
}

impl SftTrainer {
    /// Reads data and model and opens the run's folder; an interrupted run continues from its last checkpoint.
    ///
    /// # Errors
    /// Config, data, model and file errors, each naming the key, row or file.
    pub fn new(config: SftConfig) -> Result<Self> {
        config.validate()?;
        config.learning_rate.validate()?;
        let device = parse_device(&config.device)?;
        let records: Vec<ChatRecord> = read_jsonl(&config.data)?;
        let mut manifest = Manifest::new().seed("seed", config.seed).input_path("data", &config.data)?;
        if let Some(path) = &config.model.path {
            manifest = manifest.input_path("model", path)?;
        }
        for (name, path) in &config.held_out {
            manifest = manifest.input_path(format!("held_out.{name}"), path)?;
        }
        let run = Run::open(&config.run, &config, manifest)?;
        let begun = BegunRun::new(&run);
        let resume_from = checkpoint::latest(&run)?;
        let model = match (&resume_from, &config.model.path, &config.model.new) {
            (Some(folder), _, _) | (None, Some(folder), _) => ChatModel::load(folder, device)?,
            (None, None, Some(shape)) => new_model(shape, &records, config.seed, device)?,
            (None, None, None) => return Err(config.validate().err().map_or_else(no_model, Error::from)),
        };
        model.decoder.set_trainable(true);
        let mut optimizer = AdamW::new(model.decoder.parameters(), config.optimizer);

        let selection = select(model.renderer.examples(&records, config.train_on), &config.selection)?;
        tracing::info!("{}: {}", config.data.display(), describe(&selection));
        let rows = training_rows(selection);
        let mut held_out = Vec::new();
        for (name, path) in &config.held_out {
            let records: Vec<ChatRecord> = read_jsonl(path)?;
            let examples = model.renderer.examples(&records, TrainOn::Assistant);
            held_out.push((name.clone(), training_rows(select(examples, &config.selection)?)));
        }

        let (order, step) = match &resume_from {
            Some(folder) => {
                let state = checkpoint::read_state(folder)?;
                checkpoint::restore(folder, &state, &mut optimizer, None)?;
                let cursor = state.cursor.ok_or_else(|| Error::Resume {
                    path: folder.clone(),
                    reason: "has no data cursor; it was not written by this trainer".into(),
                })?;
                tracing::info!("resuming after step {} from {}", state.step, folder.display());
                (DataOrder::resume(config.seed, rows.len(), cursor)?, state.step)
            }
            None => (DataOrder::new(config.seed, rows.len())?, 0),
        };
        begun.keep();
        Ok(SftTrainer { config, run, model, optimizer, rows, held_out, order, step })
    }

    /// Trains to `max_steps`, or to the checkpoint that an interrupt asks for.
    ///
    /// # Errors
    /// The first error, with its step; the last checkpoint stays valid.
    pub fn run(&mut self, interrupt: &Interrupt, progress: &Progress) -> Result<Finish> {
        let mut recorder = Recorder::open(&self.run, progress, "sft", self.step, self.config.max_steps)?;
        while self.step < self.config.max_steps {
            let row = self.step().map_err(|error| error.at_step(self.step + 1))?;
            recorder.write(&row)?;
            recorder.advance(format!("loss {:.4}", row.get("loss").unwrap_or(f64::NAN)));
            let stop = interrupt.raised(); // asked once: a signal that comes later has the next step's checkpoint
            // Scored at due steps only: an interrupt must leave no line that an uninterrupted run has not.
            let is_due = self.is_due(self.step);
            if is_due {
                for (name, rows) in &self.held_out {
                    let loss = self.held_out_loss(rows)?;
                    recorder.write(&MetricsRow::new(self.step, name.as_str()).with("loss", loss))?;
                }
            }
            if is_due || stop {
                recorder.sync()?;
                self.save()?;
            }
            if stop && self.step < self.config.max_steps {
                return Ok(Finish::Interrupted { step: self.step });
            }
        }
        checkpoint::tidy(&self.run, self.step, |step| self.is_due(step))?;
        Ok(Finish::Complete { step: self.step })
    }

    /// One optimizer step over `batch_size` rows.
    fn step(&mut self) -> Result<MetricsRow> {
        let started = Instant::now();
        let batch: Vec<TrainingRow> =
            self.order.take(self.config.batch_size).into_iter().map(|row| self.rows[row].clone()).collect();
        let num_labels: usize = batch.iter().map(TrainingRow::num_labels).sum();
        let num_tokens: usize = batch.iter().map(|row| row.ids.len()).sum();

        self.optimizer.zero_grad()?;
        let mut loss = 0.0;
        for rows in micro_batches(&batch, self.config.micro_batch_tokens) {
            let micro = MicroBatch::new(&self.model, &batch, rows)?;
            let log_probs = self.log_probs(&micro)?; // [labels]
            let host = Vec::<f32>::try_from(&log_probs)?;
            let part = cross_entropy_loss(&host, &vec![true; host.len()], CrossEntropyKind::Nll, num_labels)?;
            backward_from(&log_probs, &part.grad_log_probs);
            loss += part.loss;
        }
        let grad_norm = clip_grad_norm(self.optimizer.parameters(), self.config.max_grad_norm)?;
        let learning_rate = self.config.learning_rate.learning_rate(self.step as usize);
        self.optimizer.step(learning_rate)?;

        self.step += 1;
        let seconds = started.elapsed().as_secs_f64();
        Ok(MetricsRow::new(self.step, "train")
            .with("loss", loss)
            .with("grad_norm", grad_norm)
            .with("learning_rate", learning_rate)
            .with("num_tokens", num_tokens as f64)
            .with("num_labels", num_labels as f64)
            .with_timing("seconds", seconds)
            .with_timing("tokens_per_second", num_tokens as f64 / seconds))
    }

    /// Token-mean negative log-likelihood of rows that are not trained.
    fn held_out_loss(&self, rows: &[TrainingRow]) -> Result<f64> {
        let num_labels: usize = rows.iter().map(TrainingRow::num_labels).sum();
        let mut loss = 0.0;
        for indices in micro_batches(rows, self.config.micro_batch_tokens) {
            let micro = MicroBatch::new(&self.model, rows, indices)?;
            let log_probs = tch::no_grad(|| self.log_probs(&micro))?;
            let host = Vec::<f32>::try_from(&log_probs)?;
            loss += cross_entropy_loss(&host, &vec![true; host.len()], CrossEntropyKind::Nll, num_labels)?.loss;
        }
        Ok(loss)
    }

    fn log_probs(&self, micro: &MicroBatch) -> Result<Tensor> {
        let decoder = &self.model.decoder;
        let hidden = decoder.hidden_states(&micro.packed)?;
        Ok(token_log_probs(decoder, &hidden, &micro.label_rows, &micro.label_ids, 1.0)?)
    }

    /// Whether the state after `step` is kept for good.
    fn is_due(&self, step: u64) -> bool {
        self.config.checkpoints.is_due(step, self.config.max_steps)
    }

    fn save(&self) -> Result<PathBuf> {
        let (step, num_updates) = (self.step, self.optimizer.num_steps());
        let state = TrainingState { step, num_updates, cursor: Some(self.order.cursor()) };
        checkpoint::save(&self.run, &self.model, &self.optimizer, None, &state, |step| self.is_due(step))
    }
}

/// Sends the gradient of a loss with respect to `outputs` `[n]` through the model, by the chain rule.
pub(crate) fn backward_from(outputs: &Tensor, grad: &[f32]) {
    let grad = Tensor::from_slice(grad).to_device(outputs.device());
    (outputs * grad).sum(Kind::Float).backward();
}

/// A decoder with fresh weights and a tokenizer trained on the assistant and user text of `records`.
fn new_model(shape: &NewModelConfig, records: &[ChatRecord], seed: u64, device: Device) -> Result<ChatModel> {
    let texts: Vec<&str> = records
        .iter()
        .take(TOKENIZER_RECORDS)
        .flat_map(|record| record.messages.iter().map(|message| message.content.as_str()))
        .collect();
    let tokenizer = train_tokenizer(&texts, shape.vocab_size, &SPECIAL_TOKENS)?;
    let eos = tokenizer.token_to_id(SPECIAL_TOKENS[2]).map(i64::from);
    let config = ModelConfig {
        model_type: "llama".into(),
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: None,
        vocab_size: tokenizer.vocab_size() as i64,
        max_position_embeddings: shape.max_position_embeddings,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: Default::default(),
        sliding_window: Default::default(),
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        hidden_act: "silu".into(),
        bos_token_id: tokenizer.token_to_id(SPECIAL_TOKENS[1]).map(i64::from),
        eos_token_id: eos.into_iter().collect(),
        pad_token_id: tokenizer.token_to_id(SPECIAL_TOKENS[0]).map(i64::from),
        torch_dtype: Some(rl_models::config::Dtype::Float32),
        initializer_range: shape.initializer_range,
        extra: Default::default(),
    };
    let template = ChatTemplate::new(CHATML, Some(SPECIAL_TOKENS[1]), Some(SPECIAL_TOKENS[2]))?;
    let renderer = Renderer::new(tokenizer, template)?;
    let folder = tempfile::tempdir().map_err(Error::file("make a temporary folder in", &std::env::temp_dir()))?;
    renderer.save(folder.path())?;
    let side_files = SideFiles::from_folder(folder.path())?;
    Ok(ChatModel::new(Decoder::random(config, seed, device)?, renderer, side_files)?)
}

fn training_rows(selection: Selection) -> Vec<TrainingRow> {
    let wide = |ids: Vec<u32>| ids.into_iter().map(i64::from).collect();
    let examples = selection.examples.into_iter();
    examples.map(|example| TrainingRow { ids: wide(example.ids), trainable: example.trainable }).collect()
}

fn describe(selection: &Selection) -> String {
    let report = &selection.report;
    let dropped = report.rows - report.kept;
    format!(
        "{} rows kept, {dropped} dropped, {} cut; {} tokens, {} of them targets",
        report.kept, report.truncated, report.tokens, report.trainable_tokens
    )
}

fn no_model() -> Error {
    Error::Resume { path: PathBuf::from("model"), reason: "give either model.path or model.new".into() }
}
