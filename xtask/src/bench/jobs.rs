//! What is measured, by whom, and what is compared with what.

use clap::ValueEnum;

/// A group of jobs that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Greedy decoding at batch 1, 8 and 32.
    Decode,
    /// 16 prompts x 8 sampled answers, their lengths spread from 8 to 256 tokens.
    Rollout,
    /// One optimizer step on 8 sequences of 32 to 512 tokens: tokens per second and peak memory.
    Train,
    /// Peak memory of a small decoder's step with a vocabulary of 8 thousand and of 150 thousand.
    Memory,
    /// Steps of the trainers: SFT, DPO, reward model, GRPO, RLOO.
    ///
    /// Both sides read `xtask/peers/trainers.json`, described by `trainers_data.py` beside it, and print `seconds` and
    /// `useful_tokens_per_second` of the median step after the warm-up, `peak_bytes`, and for SFT, DPO and the reward
    /// model the loss of every step, the warm-up included.
    Trainers,
    /// How long each of the trainers takes to start (4 minutes).
    ///
    /// Both sides print `start_seconds`, from the start of the process, by the kernel's clock, to that of the first
    /// optimizer step, and end there.
    Starts,
    /// Conversations to packed batches: rows per second, peak memory and the time to the first batch.
    ///
    /// Both sides print `first_batch_seconds` (from the start of the process, by the kernel's clock), `rows_per_second` from
    /// reading the tokenizer to the last batch, `peak_bytes` of all their processes together, and the numbers of rows,
    /// batches, tokens and targets, which must agree.
    Data,
    /// Resets and steps per second of the environments, on a page of their own: docs/environments.md.
    Envs,
}

/// Who runs a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Peer,
}

impl Side {
    /// As it stands in the results and on the page.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
        }
    }
}

/// One process to run.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub workload: Workload,
    pub side: Side,
    /// Its name in the results.
    pub name: &'static str,
    /// For the page.
    pub what: &'static str,
    /// The metric that a progress line shows.
    pub shown: &'static str,
    /// Memory that must be free before it starts.
    pub needs_bytes: u64,
}

const DECODE: &str = "decode_tokens_per_second";
const USEFUL: &str = "useful_tokens_per_second";
const GENERATION_BYTES: u64 = 3_000_000_000;
/// A padded batch with the logits of every position.
const PADDED_STEP_BYTES: u64 = 16_000_000_000;
/// A padded batch without a vocabulary.
const PADDED_REWARD_BYTES: u64 = 11_000_000_000;
const PACKED_STEP_BYTES: u64 = 9_000_000_000;
pub const START: &str = "start_seconds";
const PEAK: &str = "peak_bytes";
const ROWS_PER_SECOND: &str = "rows_per_second";
/// Time from the start of the process to the first batch.
pub const FIRST_BATCH: &str = "first_batch_seconds";
/// What both sides of [`Workload::Data`] must agree on.
pub const DATA_COUNTS: [&str; 5] = ["rows", "kept_rows", "batches", "trained_on", "targets"];

const fn job(
    workload: Workload,
    side: Side,
    name: &'static str,
    what: &'static str,
    shown: &'static str,
    needs_bytes: u64,
) -> Job {
    Job { workload, side, name, what, shown, needs_bytes }
}

/// Every job in the order it runs: each of ours is followed by those of the peer that do the same work.
pub const JOBS: &[Job] = &[
    job(Workload::Decode, Side::Ours, "decode-1", "one sequence", DECODE, GENERATION_BYTES),
    job(Workload::Decode, Side::Peer, "decode-1", "transformers `generate`", DECODE, GENERATION_BYTES),
    job(Workload::Decode, Side::Ours, "decode-8", "8 sequences together", DECODE, GENERATION_BYTES),
    job(Workload::Decode, Side::Peer, "decode-8", "transformers `generate`", DECODE, GENERATION_BYTES),
    job(Workload::Decode, Side::Ours, "decode-32", "32 sequences together", DECODE, GENERATION_BYTES),
    job(Workload::Decode, Side::Peer, "decode-32", "transformers `generate`", DECODE, GENERATION_BYTES),
    job(Workload::Rollout, Side::Ours, "rollout", "all requests, slots refilled", USEFUL, GENERATION_BYTES),
    job(Workload::Rollout, Side::Peer, "rollout-rows-32", "`generate`, batches of 32", USEFUL, GENERATION_BYTES),
    job(Workload::Rollout, Side::Peer, "rollout-rows-128", "`generate`, all 128 together", USEFUL, GENERATION_BYTES),
    job(Workload::Train, Side::Ours, "train", "all sequences packed", USEFUL, PACKED_STEP_BYTES),
    job(Workload::Train, Side::Peer, "train-trl", "TRL's SFTTrainer, padded batch of 8", USEFUL, PADDED_STEP_BYTES),
    job(Workload::Train, Side::Ours, "train-micro-512", "packed, 512 tokens at a time", USEFUL, PACKED_STEP_BYTES),
    job(Workload::Train, Side::Peer, "train-loop-padded", "own loop, padded batch of 8", USEFUL, PADDED_STEP_BYTES),
    job(Workload::Train, Side::Peer, "train-loop-one-by-one", "own loop, no padding", USEFUL, PACKED_STEP_BYTES),
    job(Workload::Train, Side::Ours, "train-checkpointed", "all packed, layers recomputed", USEFUL, PACKED_STEP_BYTES),
    job(Workload::Memory, Side::Ours, "memory-8k", "vocabulary 8 192", BACKWARD_BYTES, GENERATION_BYTES),
    job(Workload::Memory, Side::Ours, "memory-150k", "vocabulary 150 016", BACKWARD_BYTES, PACKED_STEP_BYTES),
    trainer(Side::Ours, "trainer-sft", "SFT, 8 sequences", PACKED_STEP_BYTES),
    trainer(Side::Peer, "trainer-sft", "TRL's SFTTrainer", PADDED_STEP_BYTES),
    trainer(Side::Ours, "trainer-dpo", "DPO, 4 pairs", PACKED_STEP_BYTES),
    trainer(Side::Peer, "trainer-dpo", "TRL's DPOTrainer", PADDED_STEP_BYTES),
    trainer(Side::Ours, "trainer-reward", "reward model, 4 pairs", PACKED_STEP_BYTES),
    trainer(Side::Peer, "trainer-reward", "TRL's RewardTrainer", PADDED_REWARD_BYTES),
    trainer(Side::Ours, "trainer-grpo", "GRPO, 4 x 8 answers", PACKED_STEP_BYTES),
    trainer(Side::Peer, "trainer-grpo", "TRL's GRPOTrainer", PACKED_STEP_BYTES),
    trainer(Side::Ours, "trainer-rloo", "RLOO, 4 x 8 answers", PACKED_STEP_BYTES),
    trainer(Side::Peer, "trainer-rloo", "TRL's RLOOTrainer", PACKED_STEP_BYTES),
    start(Side::Ours, "start-sft", "SFT"),
    start(Side::Peer, "start-sft", "TRL's SFTTrainer"),
    start(Side::Ours, "start-dpo", "DPO"),
    start(Side::Peer, "start-dpo", "TRL's DPOTrainer"),
    start(Side::Ours, "start-reward", "reward model"),
    start(Side::Peer, "start-reward", "TRL's RewardTrainer"),
    start(Side::Ours, "start-grpo", "GRPO"),
    start(Side::Peer, "start-grpo", "TRL's GRPOTrainer"),
    start(Side::Ours, "start-rloo", "RLOO"),
    start(Side::Peer, "start-rloo", "TRL's RLOOTrainer"),
    data(Side::Ours, "data", "a stream"),
    data(Side::Peer, "data", "`map` over processes"),
    data(Side::Peer, "data-streaming", "an `IterableDataset`"),
];

const fn data(side: Side, name: &'static str, what: &'static str) -> Job {
    job(Workload::Data, side, name, what, ROWS_PER_SECOND, GENERATION_BYTES)
}

const fn trainer(side: Side, name: &'static str, what: &'static str, needs_bytes: u64) -> Job {
    job(Workload::Trainers, side, name, what, USEFUL, needs_bytes)
}

const fn start(side: Side, name: &'static str, what: &'static str) -> Job {
    job(Workload::Starts, side, name, what, START, GENERATION_BYTES)
}

impl Job {
    /// What both measuring programs call it: starts are those of the trainers' own jobs.
    pub fn measured_as(&self) -> String {
        match self.name.strip_prefix("start-") {
            Some(trainer) => format!("trainer-{trainer}"),
            None => self.name.to_owned(),
        }
    }
}

/// What forward and backward hold beyond weights, gradients and optimizer state.
pub const BACKWARD_BYTES: &str = "backward_bytes_beyond_state";

/// One line of a table of comparisons.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    pub label: &'static str,
    pub metric: &'static str,
    /// Our job.
    pub ours: &'static str,
    /// The peer's jobs that it is held against; the best of them counts.
    pub peers: &'static [&'static str],
    /// How many times better we mean to be.
    pub aim: f64,
    pub better: Better,
}

/// Which end of a metric is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

const fn faster(
    label: &'static str,
    metric: &'static str,
    ours: &'static str,
    peers: &'static [&'static str],
    aim: f64,
) -> Comparison {
    Comparison { label, metric, ours, peers, aim, better: Better::Higher }
}

const fn less(
    label: &'static str,
    metric: &'static str,
    ours: &'static str,
    peers: &'static [&'static str],
    aim: f64,
) -> Comparison {
    Comparison { label, metric, ours, peers, aim, better: Better::Lower }
}

/// The main table.
pub const COMPARISONS: &[Comparison] = &[
    faster("decode, batch 1", DECODE, "decode-1", &["decode-1"], 1.5),
    faster("decode, batch 8", DECODE, "decode-8", &["decode-8"], 1.8),
    faster("decode, batch 32", DECODE, "decode-32", &["decode-32"], 2.0),
    faster("rollout", USEFUL, "rollout", &["rollout-rows-32", "rollout-rows-128"], 4.0),
    faster("training step", USEFUL, "train-micro-512", &["train-trl"], 3.0),
    less("training step, peak memory", PEAK, "train-micro-512", &["train-trl"], 2.0),
];

/// The table of the trainers.
pub const TRAINER_COMPARISONS: &[Comparison] = &[
    faster("SFT step", USEFUL, "trainer-sft", &["trainer-sft"], 3.0),
    less("SFT, peak memory", PEAK, "trainer-sft", &["trainer-sft"], 2.0),
    less("SFT, start", START, "start-sft", &["start-sft"], 5.0),
    faster("DPO step", USEFUL, "trainer-dpo", &["trainer-dpo"], 3.0),
    less("DPO, peak memory", PEAK, "trainer-dpo", &["trainer-dpo"], 2.0),
    less("DPO, start", START, "start-dpo", &["start-dpo"], 5.0),
    faster("reward model step", USEFUL, "trainer-reward", &["trainer-reward"], 3.0),
    less("reward model, peak memory", PEAK, "trainer-reward", &["trainer-reward"], 2.0),
    less("reward model, start", START, "start-reward", &["start-reward"], 5.0),
    faster("GRPO step", USEFUL, "trainer-grpo", &["trainer-grpo"], 4.0),
    less("GRPO, start", START, "start-grpo", &["start-grpo"], 5.0),
    faster("RLOO step", USEFUL, "trainer-rloo", &["trainer-rloo"], 4.0),
    less("RLOO, start", START, "start-rloo", &["start-rloo"], 5.0),
];

/// The table of data.
pub const DATA_COMPARISONS: &[Comparison] = &[
    faster("chat rows", ROWS_PER_SECOND, "data", &["data", "data-streaming"], 3.0),
    less("chat rows, peak memory", PEAK, "data", &["data", "data-streaming"], 2.0),
    less("chat rows, first batch", FIRST_BATCH, "data", &["data", "data-streaming"], 5.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_names_jobs_that_exist() {
        for comparison in COMPARISONS.iter().chain(TRAINER_COMPARISONS).chain(DATA_COMPARISONS) {
            let exists = |side: Side, name: &str| JOBS.iter().any(|job| job.side == side && job.name == name);
            assert!(exists(Side::Ours, comparison.ours), "{}", comparison.ours);
            for peer in comparison.peers {
                assert!(exists(Side::Peer, peer), "{peer}");
            }
        }
    }
}
