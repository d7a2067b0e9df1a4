//! The errors of this crate.

use std::path::{Path, PathBuf};

/// What can end a training run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is out of its limits.
    #[error(transparent)]
    Config(#[from] rl_track::ConfigError),
    /// From the mathematics: shapes, empty batches, non-finite numbers.
    #[error(transparent)]
    Core(#[from] rl_core::Error),
    /// From data and templates.
    #[error(transparent)]
    Data(#[from] rl_data::Error),
    /// From the environment.
    #[error(transparent)]
    Environment(#[from] rl_envs::Error),
    /// From models, checkpoints and generation.
    #[error(transparent)]
    Model(#[from] rl_models::Error),
    /// From optimizer and devices.
    #[error(transparent)]
    Torch(#[from] rl_torch::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
    /// From the run's record.
    #[error(transparent)]
    Track(#[from] rl_track::Error),
    /// An error, and where in the run it happened.
    #[error("step {step}: {source}")]
    AtStep {
        /// Step that was under way.
        step: u64,
        /// What happened.
        source: Box<Error>,
    },
    /// An error, and the rows that made it.
    #[error("rows {}: {source}", join(rows))]
    InRows {
        /// Rows of the file, or numbers within the rollout.
        rows: Vec<u64>,
        /// What happened.
        source: Box<Error>,
    },
    /// More numbers were not finite than the configuration allows.
    #[error(
        "{skipped} micro-batches or updates were not finite and were skipped, over the limit of {limit}; the last: {last}"
    )]
    TooManySkipped {
        /// Skipped so far.
        skipped: u64,
        /// `training.non_finite.max_skipped`.
        limit: u64,
        /// The last one.
        last: Box<Error>,
    },
    /// The model is probably lost: every step has numbers that are not finite.
    #[error(
        "{steps} optimizer steps in a row skipped numbers that were not finite; go back to an earlier checkpoint with a lower learning rate"
    )]
    SkippedInARow {
        /// Steps in a row.
        steps: u64,
    },
    /// Something that the configuration names cannot be used.
    #[error("`{key}` = {}: {source}{}", path.display(), after(mend))]
    Input {
        /// Dotted path of the key.
        key: String,
        /// The file or folder it names.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
        /// What would do instead; empty where the error says so itself.
        mend: String,
    },
    /// The run would need more memory than there is.
    #[error(
        "the run needs about {needed} of memory at its peak ({largest}) and {available} are available; lower \
         `training.micro_batch_tokens` (now {micro_batch_tokens}){mends}, or set `training.memory_check = \"off\"` to try \
         all the same; `--plan` shows the terms"
    )]
    Memory {
        /// Predicted peak, as people read it.
        needed: String,
        /// The largest terms of the prediction.
        largest: String,
        /// What the process may still take, with what it holds.
        available: String,
        /// `training.micro_batch_tokens`.
        micro_batch_tokens: usize,
        /// Further mends, each after a comma.
        mends: String,
    },
    /// The checkpoints of the run do not fit on the disk.
    #[error(
        "`run` = {}: its checkpoints take about {needed} and the disk has {available} free; lower \
         `training.checkpoints.keep_last`, raise `training.checkpoints.every`, or choose another disk", path.display()
    )]
    Disk {
        /// `run`.
        path: PathBuf,
        /// Predicted size.
        needed: String,
        /// Free bytes.
        available: String,
    },
    /// A parameter group names nothing that is trained.
    #[error(
        "`training.groups`: no trained parameter has `{parameters}` in its name; `--print-config` shows the file, a checkpoint's header the names"
    )]
    EmptyGroup {
        /// The parts of names.
        parameters: String,
    },
    /// All parameters are frozen, or there is no model.
    #[error("there is no parameter to train: check `model` and the frozen groups of `training.groups`")]
    NothingToTrain,
    /// A reference policy is needed and cannot be had.
    #[error("this objective compares with a reference policy: give `reference`, or start from `model.path`")]
    NoReference,
    /// The reference policy has other tokens.
    #[error("the reference {} has a vocabulary of {found}, the policy one of {needed}: their log-probabilities cannot be compared", path.display())]
    ReferenceVocabulary {
        /// The reference.
        path: PathBuf,
        /// Its vocabulary.
        found: i64,
        /// The policy's.
        needed: i64,
    },
    /// The critic has other tokens than the policy.
    #[error("the critic {} has a vocabulary of {found}, the policy one of {needed}: it would read other tokens; start it from a model with the policy's tokenizer", path.display())]
    CriticVocabulary {
        /// What the critic starts from.
        path: PathBuf,
        /// Its vocabulary.
        found: i64,
        /// The policy's.
        needed: i64,
    },
    /// A row of preference data has no token to learn from.
    #[error("row {row} has a response without a token that is predicted; every response needs one")]
    NoResponse {
        /// Its row in the file.
        row: u64,
    },
    /// Data that cannot serve this objective.
    #[error("{what}: {reason}")]
    UnsuitableData {
        /// What was counted, and how many there are.
        what: String,
        /// Why that cannot be trained on, and the mend.
        reason: &'static str,
    },
    /// A folder that should hold a reward model holds none.
    #[error("{} is no reward model: it has neither `score.weight` nor the adapters and head of one", path.display())]
    NotARewardModel {
        /// The folder.
        path: PathBuf,
    },
    /// A reward model's folder lacks the statistics of its rewards.
    #[error("{} has no `{file}`: it was saved without an evaluation; give the run `held_out` pairs, or take raw rewards", path.display())]
    NoRewardStatistics {
        /// The folder.
        path: PathBuf,
        /// The file looked for.
        file: &'static str,
    },
    /// The evaluation did not give the number that decides about the best checkpoint.
    #[error(
        "`training.evaluation.best.metric` is `{metric}`, which this evaluation did not give; `metrics.jsonl` has the names as SPLIT/NAME"
    )]
    NoSuchMetric {
        /// The metric asked for.
        metric: String,
    },
    /// A replayed step computed something else than the recorded one.
    #[error(
        "step {step}: the record says {recorded}, the replay {found}: the code, the machine's numerics or an input has changed"
    )]
    Diverged {
        /// The first step that differs.
        step: u64,
        /// Digest of the record.
        recorded: String,
        /// Digest of the replay.
        found: String,
    },
    /// The record has no digest of this step.
    #[error("the record has no digest of step {step}; `metrics.jsonl` lists the steps that can be replayed")]
    NotRecorded {
        /// The step.
        step: u64,
    },
    /// A replayed step asks for other scores than the recorded one did.
    #[error("the record of rewards has no call with {samples} samples here: the replay sampled other answers")]
    OtherScores {
        /// Samples of the call.
        samples: usize,
    },
    /// No answer of a rollout can be trained on.
    #[error(
        "none of the {samples} answers of this rollout has a reward and a trained token; see the reward's counts in `metrics.jsonl`"
    )]
    NothingScored {
        /// Answers sampled.
        samples: usize,
    },
    /// Dynamic sampling gave up.
    #[error(
        "dynamic sampling found {found} of {wanted} groups worth training on in {rounds} rounds; widen the filter, raise `max_rounds`, or choose other prompts"
    )]
    TooFewGroups {
        /// Groups kept.
        found: usize,
        /// `rollout.prompts_per_step`.
        wanted: usize,
        /// `rollout.dynamic_sampling.max_rounds`.
        rounds: usize,
    },
    /// A sampler was given to a run that plays an environment.
    #[error("a sampler answers prompts, and this run plays an environment; give `rollout.task` of kind `prompts`")]
    NoPrompts,
    /// A plain prompt is a conversation.
    #[error("{}, row {row}: a plain prompt is one message, this one has {found}; leave `plain` out to use the chat template", path.display())]
    PlainPrompt {
        /// The file.
        path: PathBuf,
        /// Its row, counted from 1.
        row: usize,
        /// Messages of the prompt.
        found: usize,
    },
    /// A plain prompt has what only a chat template prints.
    #[error("{}, row {row}: a plain prompt would lose the row's `{name}`, which only the chat template prints; leave `plain` out, or the column with `ignore`", path.display())]
    PlainVariable {
        /// The dataset.
        path: PathBuf,
        /// Its row, counted from 1.
        row: usize,
        /// The variable of the template: `tools`, or one of `chat_template_kwargs`.
        name: String,
    },
    /// A prompt is above the limit of the configuration.
    #[error("{}, row {row}: the prompt has {length} tokens, the limit is {limit}; raise `max_length` or set `too_long = \"drop\"`", path.display())]
    PromptTooLong {
        /// The file.
        path: PathBuf,
        /// Its row, counted from 1.
        row: usize,
        /// Tokens of the prompt.
        length: usize,
        /// `max_length`.
        limit: usize,
    },
    /// A checkpoint cannot be resumed from.
    #[error("{}: {reason}", path.display())]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// Why, and the mend.
        reason: String,
    },
    /// There are checkpoints, and none can be resumed from.
    #[error(
        "no checkpoint of {} can be resumed from; put a whole one back, or move the folder away to start anew: {}",
        path.display(),
        reasons.join("; ")
    )]
    NothingToResume {
        /// The run's folder.
        path: PathBuf,
        /// What is wrong with each, the newest first.
        reasons: Vec<String>,
    },
    /// Old and current log-probabilities differ before the first update of a rollout.
    #[error(
        "the ratio of the first update is off by {deviation:e}, more than {limit:e}: the forward pass is not reproducible"
    )]
    RatioNotOne {
        /// Largest `|ratio - 1|` seen.
        deviation: f64,
        /// Largest allowed.
        limit: f64,
    },
    /// A source of rewards cannot be built or used as configured.
    #[error("reward `{name}`: {reason}")]
    RewardSource {
        /// Name of the source.
        name: String,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// A score failed at a source that is to end the run.
    #[error("reward `{name}` has no score for sample {sample}: {reason} (its `on_failure` is `stop`)")]
    RewardFailed {
        /// The request's number.
        sample: u64,
        /// Name of the source.
        name: String,
        /// Why there is no score.
        reason: String,
    },
    /// Too many threads are stuck in user code.
    #[error(
        "reward `{name}`: {running} of its calls or those of other sources are still stuck after their deadline, more than \
         max_abandoned = {limit}; mend it, or make it a `command` source, which can be killed"
    )]
    RewardAbandoned {
        /// Source of the call that went over the limit.
        name: String,
        /// Threads that do not come back.
        running: usize,
        /// Most allowed.
        limit: usize,
    },
    /// The weighted sum of a sample's scores is not finite, though every score is.
    #[error("the weighted sum of the rewards of sample {sample} is not finite; scale the scores or their weights down")]
    RewardOverflow {
        /// The request's number.
        sample: u64,
    },
    /// No thread for the workers that score.
    #[error("cannot start a thread for rewards: {0}")]
    RewardThread(std::io::Error),
    /// A file or folder could not be made or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Signal handlers could not be installed.
    #[error("cannot install signal handlers: {0}")]
    Signal(std::io::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::File { action, path, source }
    }

    /// For `map_err`: names the key and the file that it stands for.
    pub(crate) fn input<E: Into<Error>>(key: &str, path: &Path, mend: String) -> impl FnOnce(E) -> Error {
        let (key, path) = (key.to_owned(), path.to_path_buf());
        move |error| Error::Input { key, path, source: Box::new(error.into()), mend }
    }

    /// Whether a number that should be finite is not.
    pub(crate) fn is_non_finite(&self) -> bool {
        match self {
            Error::Core(rl_core::Error::NonFinite { .. })
            | Error::Model(rl_models::Error::NonFinite { .. })
            | Error::Torch(rl_torch::Error::NonFiniteGradient { .. }) => true,
            Error::InRows { source, .. } | Error::AtStep { source, .. } => source.is_non_finite(),
            _ => false,
        }
    }

    /// Names the rows that made the error.
    pub(crate) fn in_rows(self, rows: Vec<u64>) -> Self {
        if rows.is_empty() { self } else { Error::InRows { rows, source: Box::new(self) } }
    }

    /// Names the step at which the error happened.
    pub(crate) fn at_step(self, step: u64) -> Self {
        Error::AtStep { step, source: Box::new(self) }
    }
}

/// A mend behind its error.
fn after(mend: &str) -> String {
    if mend.is_empty() { String::new() } else { format!("; {mend}") }
}

fn join(rows: &[u64]) -> String {
    rows.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}
