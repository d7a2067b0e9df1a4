//! Peak memory of a run, term by term: what it holds all the time, and the largest of the phases of a step.
//!
//! Everything is counted from shapes, for the CPU: what the graph keeps per token and layer follows from the operations in
//! `rl_models` and their backward passes in `rl_torch`. Below, `t` is tokens of a pass, `h` hidden width, `i` width of the
//! feed-forward layer, `q` and `kv` width of all query and of all key heads, `e` bytes of a number.
//!
//! What is left out: holes that the allocator cannot use between gradients and activations, a few hundredths of the peak. Not here:
//! how many tokens a pass has (`passes`), and what the machine has (`system`).

use rl_models::ModelConfig;

use super::models::{PlannedModel, bytes_of};
use super::passes::PassShape;
use crate::config::Dtype;

/// Bytes of an f32.
const F32: u64 = 4;
/// Logits of one tile of the output projection on the CPU.
const TILE_BYTES: u64 = 16 << 20;
/// Rows and columns of a tile at most.
const TILE: (u64, u64) = (1024, 1 << 15);
/// Tokens of prompts that a sampler reads at once at most, and those of an answer that a slot has room for at first.
const PREFILL: (u64, u64) = (8192, 64);
/// Tokens by which a key/value cache grows at least.
const CACHE_BLOCK: u64 = 64;
/// Copies of a step's logits that drawing a token makes: in f32, scaled, as probabilities, with noise.
const DRAW_COPIES: u64 = 4;
/// Tiles of numbers that a divergence of two projections holds at a time: logits, probabilities, values and slopes.
const TILES_OF_DISTILLATION: u64 = 6;

/// One term of the prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryTerm {
    /// What it is.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// What a step needs for a while, above what the run holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Which part of a step.
    pub name: &'static str,
    /// Its terms.
    pub terms: Vec<MemoryTerm>,
}

/// The prediction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    /// Held from the first update to the end.
    pub held: Vec<MemoryTerm>,
    /// Held for a while, one after the other.
    pub phases: Vec<Phase>,
}

/// How answers are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RolloutShape {
    /// Sequences that decode together.
    pub slots: u64,
    /// Tokens of the longest prompt.
    pub prompt: u64,
    /// Tokens of the longest sequence.
    pub longest: u64,
    /// Different prompts.
    pub prompts: u64,
}

/// Which numbers the head of a pass gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// Log-probabilities of labels.
    LogProbs,
    /// Log-probabilities and entropies.
    Entropies,
    /// The divergence of two distributions.
    Divergence,
    /// One number per sequence.
    Score,
}

impl Phase {
    /// All terms together.
    pub fn bytes(&self) -> u64 {
        self.terms.iter().map(|term| term.bytes).sum()
    }
}

impl MemoryPlan {
    /// The peak of the process: what is held, with the largest phase.
    pub fn peak(&self) -> u64 {
        let phase = self.largest_phase().map_or(0, Phase::bytes);
        self.held.iter().map(|term| term.bytes).sum::<u64>() + phase
    }

    /// The phase that makes the peak.
    pub fn largest_phase(&self) -> Option<&Phase> {
        self.phases.iter().max_by_key(|phase| phase.bytes())
    }

    /// Adds a term that is held all the time; nothing for 0 bytes.
    pub(crate) fn hold(&mut self, name: impl Into<String>, bytes: u64) {
        if 0 < bytes {
            self.held.push(MemoryTerm { name: name.into(), bytes });
        }
    }

    /// Adds a phase.
    pub(crate) fn phase(&mut self, name: &'static str, terms: Vec<(&str, u64)>) {
        let term = |(name, bytes): (&str, u64)| MemoryTerm { name: name.into(), bytes };
        self.phases.push(Phase { name, terms: terms.into_iter().filter(|(_, bytes)| 0 < *bytes).map(term).collect() });
    }

    /// Adds the weights of a model, and for what of it is trained the gradients (one each), the moments (two f32 each), f32
    /// masters of half-precision weights, and the running average (one f32 each) where `has_average`.
    pub(crate) fn hold_model(&mut self, model: &PlannedModel, has_average: bool) {
        let role = &model.role;
        self.hold(format!("{role}: weights"), model.weight_bytes());
        let trained = || model.tensors.iter().filter(|tensor| tensor.is_trained);
        let numel: u64 = trained().map(|tensor| tensor.numel).sum();
        self.hold(format!("{role}: gradients"), trained().map(|tensor| tensor.numel * tensor.bytes_each).sum());
        self.hold(format!("{role}: moments"), 2 * F32 * numel);
        let halves = trained().filter(|tensor| tensor.bytes_each < F32).map(|tensor| F32 * tensor.numel).sum();
        self.hold(format!("{role}: f32 masters"), halves);
        self.hold(format!("{role}: running average"), if has_average { F32 * numel } else { 0 });
    }
}

/// Bytes that the graph of one forward pass keeps for its backward pass, all layers together.
///
/// Per layer, with the fused f32 kernels:
/// - both norms: the input `t h` (the residual stream) and one number per row; their outputs `t h`, the inputs of the
///   projections;
/// - attention: the rotated queries and keys, the values, the output and one number per query and head, in the cells of the
///   rectangles (`q` for queries and output, `kv` twice for keys and values); where tokens are regrouped the output in its own
///   order once more, `t q`; a mask in f32 for sequences that see a shared prefix;
/// - feed-forward: gate, up and their product, `3 t i`.
///
/// Rotation, residual sums and the projections' own outputs keep nothing. In half precision the operations are libtorch's: a norm
/// keeps its f32 input and the normalised row, the activation keeps `silu(gate)` too. An adapter keeps its input again in f32
/// where that is half, or dropped out, and `t rank`. With norms of queries and keys their inputs are kept as well. Beside the
/// layers the rotations are kept.
///
/// With activation checkpointing a layer keeps `t h`, and one layer at a time all of the above: see [`layer_backward_bytes`].
pub fn activation_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    let config = &model.config;
    let (t, layers, h) = (pass.tokens as u64, size(config.num_hidden_layers), size(config.hidden_size));
    let e = bytes_of(model.dtype);
    let layer = if model.gradient_checkpointing { t * h * e } else { layer_bytes(model, pass) };
    layers * layer + 2 * t * size(config.head_dim()) * e
}

/// Bytes of the last residual stream and the final hidden states, which the head reads: `2 t h`.
pub fn state_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    2 * pass.tokens as u64 * size(model.config.hidden_size) * bytes_of(model.dtype)
}

/// Bytes that the backward pass of the layers takes beyond [`activation_bytes`], when that of the head is over: gradients of gate
/// and up with that of the residual stream, `t (2 i + h)`, while what a node of the graph kept is dropped as its gradient is made.
/// With activation checkpointing also what the graph of a layer keeps that is made again, and the largest gradient of its own
/// weights, which is not added in place.
pub fn layer_backward_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    let (i, h) = (size(model.config.intermediate_size), size(model.config.hidden_size));
    let gradients = pass.tokens as u64 * (2 * i + h) * bytes_of(model.dtype);
    gradients + recomputed_bytes(model, pass)
}

fn recomputed_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    if !model.gradient_checkpointing {
        return 0;
    }
    let of_layer =
        model.tensors.iter().filter(|tensor| tensor.is_trained && tensor.name.starts_with("model.layers.0."));
    layer_bytes(model, pass) + of_layer.map(|tensor| tensor.numel * tensor.bytes_each).max().unwrap_or(0)
}

fn layer_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    let (config, e, t) = (&model.config, bytes_of(model.dtype), pass.tokens as u64);
    let is_half = e < F32;
    let (h, i) = (size(config.hidden_size), size(config.intermediate_size));
    let (q, kv) = query_and_key_widths(config);
    let norm = |width: u64, rows: u64| if is_half { rows * width * (F32 + e) } else { rows * (width * e + F32) };
    let norms = 2 * (norm(h, t) + t * h * e);
    let has_qk_norm = config.family().is_some_and(|family| family.qk_norm);
    let qk_norms = if has_qk_norm { norm(q + kv, t) } else { 0 };
    let (queries, keys) = (pass.cells.queries as u64, pass.cells.keys as u64);
    let restored = if pass.cells.regrouped { t * q * e } else { 0 };
    let sums = queries * size(config.num_attention_heads) * F32;
    let attention = (2 * queries * q + 2 * keys * kv) * e + sums + restored + pass.cells.masks as u64 * e;
    let feed_forward = (3 + u64::from(is_half)) * t * i * e;
    norms + qk_norms + attention + feed_forward + adapter_bytes(model, t)
}

/// What the adapters of one layer keep.
fn adapter_bytes(model: &PlannedModel, t: u64) -> u64 {
    let Some(lora) = &model.lora else { return 0 };
    // Under dropout the mask and what it leaves, else only a half-precision input in f32.
    let copies = if 0.0 < lora.dropout { 2 } else { u64::from(bytes_of(model.dtype) < F32) };
    let adapters = model.tensors.iter().filter(|tensor| tensor.name.starts_with("model.layers.0."));
    let inputs = adapters.filter(|tensor| tensor.name.ends_with("lora_A.weight"));
    let rank = size(lora.rank);
    inputs.map(|tensor| t * F32 * (rank + copies * tensor.numel / rank.max(1))).sum()
}

/// Bytes of the head's own numbers while a pass goes through it, forwards or backwards: the last residual stream and the final
/// hidden states `2 t h`, tiles of logits, the rows of a tile and their gradients, the gradient of the hidden states in f32. Under half precision also the gradient of the projection in f32
/// and its rounded copy.
pub fn head_bytes(model: &PlannedModel, pass: &PassShape, kind: HeadKind) -> u64 {
    let (t, h, e) = (pass.tokens as u64, size(model.config.hidden_size), bytes_of(model.dtype));
    let states = state_bytes(model, pass) + t * h * F32;
    if kind == HeadKind::Score {
        return states;
    }
    let vocab = size(model.config.vocab_size);
    let rows = (pass.labels as u64).clamp(1, TILE.0);
    let columns = (TILE_BYTES / (rows * F32)).clamp(1, TILE.1).min(vocab);
    let tiles = match kind {
        HeadKind::Divergence => TILES_OF_DISTILLATION,
        HeadKind::Entropies => 2,
        HeadKind::LogProbs | HeadKind::Score => 1,
    };
    let head_is_trained = model.tensors.iter().any(|tensor| tensor.is_trained && tensor.numel == vocab * h);
    let half = if e < F32 { rows * columns * e + if head_is_trained { vocab * h * (F32 + e) } else { 0 } } else { 0 };
    states + tiles * rows * columns * F32 + 2 * rows * h * F32 + half
}

/// Bytes of what one layer makes and drops again in a pass that keeps nothing: the residual stream before and after attention, its
/// norm, gate, up and their product, the output: `t (3 i + 4 h)`.
pub fn forward_bytes(model: &PlannedModel, pass: &PassShape) -> u64 {
    let (i, h) = (size(model.config.intermediate_size), size(model.config.hidden_size));
    pass.tokens as u64 * (3 * i + 4 * h) * bytes_of(model.dtype)
}

/// Bytes of keys and values of all slots: `2 layers slots kv capacity e`. A capacity begins with room for a prompt and the
/// beginning of an answer and grows by half, in blocks, up to what the model reads.
pub fn cache_bytes(config: &ModelConfig, dtype: Dtype, rollout: &RolloutShape) -> u64 {
    let block = |tokens: u64| tokens.next_multiple_of(CACHE_BLOCK).min(size(config.max_positions()));
    let mut capacity = block(rollout.prompt + PREFILL.1);
    while capacity < rollout.longest.min(size(config.max_positions())) {
        capacity = block((capacity + 1).max(capacity + capacity / 2));
    }
    let (_, kv) = query_and_key_widths(config);
    let per_token = 2 * size(config.num_hidden_layers) * kv * bytes_of(dtype);
    rollout.slots * capacity * per_token
}

/// Bytes of logits that drawing the tokens of one step takes.
pub fn draw_bytes(config: &ModelConfig, rollout: &RolloutShape) -> u64 {
    DRAW_COPIES * rollout.slots.max(rollout.prompts.min(rollout.slots)) * size(config.vocab_size) * F32
}

/// Bytes of reading prompts into the cache: the numbers of one layer over as many prompts as are read at once.
pub fn prefill_bytes(model: &PlannedModel, rollout: &RolloutShape) -> u64 {
    let prompts = rollout.prompts.min(rollout.slots);
    let tokens = (prompts * rollout.prompt).min(PREFILL.0.max(rollout.prompt)) as usize;
    forward_bytes(model, &PassShape { tokens, ..PassShape::default() })
}

/// Bytes of the copies that merging adapters for sampling keeps.
pub fn merged_bytes(model: &PlannedModel) -> u64 {
    let Some(lora) = &model.lora else { return 0 };
    let module = |name: &str| name.strip_suffix(".weight").is_some_and(|module| lora.targets(module));
    model.tensors.iter().filter(|tensor| module(&tensor.name)).map(|tensor| tensor.numel * tensor.bytes_each).sum()
}

fn query_and_key_widths(config: &ModelConfig) -> (u64, u64) {
    let head = size(config.head_dim());
    (size(config.num_attention_heads) * head, size(config.num_key_value_heads) * head)
}

fn size(dimension: i64) -> u64 {
    dimension.unsigned_abs()
}
