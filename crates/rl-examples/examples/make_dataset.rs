//! Writes a training file: conversations of GeneralPoints, V-IRL or matrix tasks, conversations, pairs, judged answers or
//! prompts of checkable instructions, or word problems with solutions; or converts a dataset that is there into another
//! layout or format.
//!
//! `cargo run --release -p rl-examples --example make_dataset -- --config configs/make_dataset/tiny-sft.toml`
//!
//! `cargo run --release -p rl-examples --example make_dataset -- convert --from pairs.parquet --to unpaired --out kto.jsonl`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rl_data::source::{ConvertConfig, Layout};
use rl_envs::DatasetConfig;
use rl_examples::ConfigArgs;
use rl_examples::dataset_args::{DatasetArgs, named};
use rl_examples::inspect::wrapped;
use serde::Serialize;

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// Writes a file to train on; `task` in the config says of what: card hands with expert answers and practice text, points of
/// city walks with the right answers, matrices, checkable instructions with answers that obey and answers that do not, or word
/// problems with solutions (and a manifest beside them).
///
/// Every row is a function of the seed and its index, so the same config always gives the same bytes.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: Option<ConfigArgs>,
}

#[derive(Subcommand)]
enum Command {
    Convert(Convert),
}

/// Writes a dataset that is there in another layout, another format, or both.
///
/// The rows are read one after another, so a dataset may be larger than memory. The columns are found by their usual
/// names, and what was found is printed. All other columns stay with the rows.
///
///     layout             columns                            read as
///     messages           messages | conversations           a conversation
///     prompt_completion  prompt, completion                 a conversation
///     preference         chosen, rejected [, prompt]        a pair; scores and margins too
///     unpaired           prompt, completion, label          an answer, desirable or not
///     prompt             prompt | context_messages          a prompt
///
/// Examples:
///
///     pairs into judged answers, for KTO:   convert --from pairs.parquet --to unpaired --out kto.jsonl
///     the preferred answers, for SFT:       convert --from pairs.parquet --to messages --out sft.jsonl
///     conversations into two columns:       convert --from sft.jsonl --to prompt_completion --out pc.parquet
///     another format:                       convert --from 'shards/*.jsonl.gz' --to messages --out sft.parquet
///     a downloaded dataset:                 convert --from HuggingFaceH4/ultrafeedback_binarized
///                                             --split train_prefs --ignore messages --to messages --out sft.jsonl
///     columns with other names:             convert --from qa.jsonl --column prompt=question
///                                             --column completion=answer --to messages --out sft.jsonl
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
struct Convert {
    /// A file, a folder, a pattern, or the name of a downloaded dataset: ORG/NAME or ORG/NAME@REVISION.
    ///
    /// Files end in .parquet, .jsonl or .json, the last two also with .gz or .zst. Nothing is fetched.
    #[arg(long, value_name = "DATASET")]
    from: String,
    /// The layout to write.
    #[arg(long, value_name = "LAYOUT", value_parser = named::<Layout>)]
    to: Layout,
    /// The file to write, .jsonl or .parquet; replaced whole or not at all.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    rows: DatasetArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    match (arguments.command, arguments.config) {
        (Some(Command::Convert(convert)), _) => convert.run(),
        (None, Some(config)) => match config.load()? {
            DatasetConfig::GeneralPoints(config) => write(&config.out, &config.rows()?),
            DatasetConfig::Instructions(config) => write(&config.out, &config.rows()?),
            DatasetConfig::Igsm(config) => {
                let dataset = config.build()?;
                write(&config.out, &dataset.rows)?;
                let manifest = config.out.with_extension("manifest.json");
                std::fs::write(&manifest, serde_json::to_string_pretty(&dataset.manifest)?)?;
                println!("manifest in {}", manifest.display());
                Ok(())
            }
            DatasetConfig::MatrixTasks(config) => write(&config.out, &config.rows()?),
            DatasetConfig::Virl(config) => write(&config.out, &config.rows()?),
        },
        (None, None) => anyhow::bail!("give --config FILE, or the command `convert`"),
    }
}

impl Convert {
    fn run(self) -> Result<()> {
        let Convert { from, to, out, rows } = self;
        let from = rows.dataset(&from)?;
        let config = ConvertConfig { from, to, out };
        make_folder(&config.out)?;
        let converted = config.run()?;
        wrapped(&converted.detection.to_string(), COLUMNS).iter().for_each(|line| println!("{line}"));
        println!("{} rows in {}", converted.num_rows, config.out.display());
        Ok(())
    }
}

fn write(out: &Path, rows: &[impl Serialize]) -> Result<()> {
    make_folder(out)?;
    rl_data::write_jsonl(out, rows)?;
    println!("{} rows in {}", rows.len(), out.display());
    Ok(())
}

fn make_folder(out: &Path) -> Result<()> {
    Ok(out.parent().map_or(Ok(()), std::fs::create_dir_all)?)
}
