//! The eight published files: four ways to fine-tune, prompts to train on, to validate and to test on.

use std::collections::HashMap;
use std::path::Path;

use super::augment::Augmentation;
use super::config::{ProblemConfig, TemplateSplit};
use super::dataset::{Dataset, DatasetConfig, RowKind};
use super::trace::{Analysis, TraceConfig, TraceStyle};
use crate::error::{Error, Result};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitKind {
    /// Fine-tuning.
    Sft,
    /// Training with rewards.
    RlTrain,
    /// Validation while training with rewards.
    RlValidation,
    /// Final evaluation.
    Test,
}

/// Problems per file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSizes {
    /// Of each fine-tuning file, before augmentation.
    pub sft: u64,
    /// Of the training prompts.
    pub rl_train: u64,
    /// Of the validation prompts.
    pub rl_validation: u64,
    /// Of each test file.
    pub test: u64,
}

impl SplitSizes {
    /// As published.
    pub const PUBLISHED: SplitSizes = SplitSizes { sft: 2000, rl_train: 10_000, rl_validation: 500, test: 500 };
}

/// Ranges of operations of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitOperations {
    /// Fine-tuning and training prompts, from and to.
    pub train: (u32, u32),
    /// Validation, from and to.
    pub validation: (u32, u32),
    /// The test like the training, exactly.
    pub test_in: u32,
    /// The harder test, exactly.
    pub test_out: u32,
}

impl SplitOperations {
    /// As published.
    pub const PUBLISHED: SplitOperations =
        SplitOperations { train: (15, 20), validation: (21, 25), test_in: 20, test_out: 25 };
}

/// A file of the collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// What it is for.
    pub kind: SplitKind,
    /// Name of the file without its extension.
    pub stem: String,
    /// How it is made; `out` is `stem` with `.jsonl`.
    pub config: DatasetConfig,
}

/// The eight files in `folder`, with the published seeds. `base` says what holds for all problems; its operations, split and
/// zero rejection are replaced. With `by_template` files to train on and files to test on share no template.
pub fn published(
    folder: &Path,
    base: &ProblemConfig,
    operations: &SplitOperations,
    sizes: &SplitSizes,
    by_template: bool,
) -> Vec<Split> {
    let train_bins = by_template.then_some(TemplateSplit::TRAIN);
    let test_bins = by_template.then_some(TemplateSplit::TEST);
    let range = |(low, high): (u32, u32), force, zero_reject_prob, split| ProblemConfig {
        min_operations: low,
        max_operations: high,
        force,
        zero_reject_prob,
        split,
        ..base.clone()
    };
    let train = range(operations.train, false, 0.0, train_bins);
    let make = |kind, seed, num_problems, problems: &ProblemConfig, trace, augmentation| {
        let rows = if kind == SplitKind::Sft { RowKind::Conversations } else { RowKind::Prompts };
        let problems = problems.clone();
        let out = folder.to_path_buf();
        let (first_index, content_mask) = (0, false);
        let mut config =
            DatasetConfig { out, seed, num_problems, first_index, rows, problems, trace, augmentation, content_mask };
        let stem = stem(kind, &config);
        config.out = folder.join(format!("{stem}.jsonl"));
        Split { kind, stem, config }
    };
    let sft = |trace, augmentation| make(SplitKind::Sft, 100, sizes.sft, &train, trace, augmentation);
    let validation = range(operations.validation, false, 0.6, test_bins);
    let exactly = |operations, zero_reject_prob| range((operations, operations), true, zero_reject_prob, test_bins);
    let test = |problems: &ProblemConfig| {
        make(SplitKind::Test, 400, sizes.test, problems, TraceConfig::PLAIN, Augmentation::None)
    };
    vec![
        sft(TraceConfig::VANILLA, Augmentation::None),
        sft(TraceConfig::BRIDGE, Augmentation::None),
        sft(TraceConfig::VANILLA, Augmentation::ReasoningOrder { rows: 4 }),
        sft(TraceConfig::VANILLA, Augmentation::PremisePermutation { rows: 4 }),
        make(SplitKind::RlTrain, 200, sizes.rl_train, &train, TraceConfig::PLAIN, Augmentation::None),
        make(SplitKind::RlValidation, 300, sizes.rl_validation, &validation, TraceConfig::PLAIN, Augmentation::None),
        test(&exactly(operations.test_in, 0.0)),
        test(&exactly(operations.test_out, 0.6)),
    ]
}

/// Published name of a file: what it is for, its size, how solutions are written and how many operations they take.
pub fn stem(kind: SplitKind, config: &DatasetConfig) -> String {
    let name = match kind {
        SplitKind::Sft => "SFT",
        SplitKind::RlTrain => "RL_train",
        SplitKind::RlValidation => "RL_val",
        SplitKind::Test => "test",
    };
    let size = match config.num_problems {
        count if count >= 1000 && count.is_multiple_of(1000) => format!("{}K", count / 1000),
        count => count.to_string(),
    };
    let augmentation = match config.augmentation {
        Augmentation::None => String::new(),
        Augmentation::PremisePermutation { rows } => format!("_{rows}Qaug"),
        Augmentation::ReasoningOrder { rows } => format!("_{rows}Aaug"),
    };
    let problems = &config.problems;
    let range = if problems.force {
        problems.max_operations.to_string()
    } else {
        format!("{}-{}", problems.min_operations, problems.max_operations)
    };
    let trace = &config.trace;
    match trace.style {
        TraceStyle::Plain => format!("{name}_{size}{augmentation}_no_CoT_op_{range}"),
        TraceStyle::Cot => {
            let detailed = if trace.detailed { "detailed" } else { "no_detailed" };
            let analysis = match trace.analysis {
                Analysis::Level { level } => level.to_string(),
                Analysis::Uniform { probability } => format!("p{probability:?}"),
            };
            let reflection = trace.reflection_prob;
            format!("{name}_{size}{augmentation}_CoT_op_{range}_{detailed}_reflect_{reflection:?}_analysis_{analysis}")
        }
    }
}

/// Checks that no problem of one file is in another, by its text.
///
/// # Errors
/// [`Error::SharedProblem`] naming two files and the item.
pub fn check_disjoint(files: &[(&str, &Dataset)]) -> Result<()> {
    let mut owners: HashMap<String, &str> = HashMap::new();
    for &(name, dataset) in files {
        for problem in &dataset.problems {
            if let Some(owner) = owners.insert(problem.question(), name)
                && owner != name
            {
                let (first, second) = (owner.to_string(), name.to_string());
                return Err(Error::SharedProblem { first, second, index: problem.index() });
            }
        }
    }
    Ok(())
}
