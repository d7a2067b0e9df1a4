//! Converts a GGUF file or a checkpoint folder into a checkpoint folder that this project and transformers open.
//!
//! `cargo run --release -p rl-examples --example convert -- model.gguf --out data/models/name`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use rl_models::checkpoint::{SaveOptions, checksums, convert_folder, resolve_model};
use rl_models::config::Dtype;
use rl_models::gguf::convert_gguf;

/// Converts a GGUF file or a checkpoint folder into a checkpoint folder in the Hugging Face layout.
///
/// From GGUF: architectures `llama`, `qwen2` and `qwen3`; types F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K
/// and Q6_K; byte-level BPE vocabularies. The weights are dequantised, config.json, tokenizer and chat template are
/// rebuilt from the file. From a folder: the weights change their type or are split over other files, all else stays.
///
/// Anything that cannot be kept is an error that names the key or the tensor. One tensor is in memory at a time.
#[derive(Parser)]
#[command(after_help = "Examples:
  convert SmolLM2-135M-Instruct.Q4_K_M.gguf --out data/models/smollm2          weights as f32: nothing is lost
  convert qwen2.5-0.5b.gguf --out data/models/qwen --dtype bf16                half the size, rounded
  convert data/models/smollm2 --out smollm2-bf16 --dtype bf16 --max-shard-size 100MB
  convert HuggingFaceTB/SmolLM2-135M-Instruct --out smollm2-f32 --dtype f32    from the Hugging Face cache")]
struct Arguments {
    /// A GGUF file, a checkpoint folder, or a repository ORG/NAME[@REVISION] in the Hugging Face cache.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The folder to make. It must not exist; it appears only when complete.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Type of the stored weights: f32, bf16 or f16. Without it f32 from GGUF, and unchanged from a folder.
    #[arg(long, value_parser = parse_dtype)]
    dtype: Option<Dtype>,
    /// Most bytes of weights per file, such as 500MB or 5GB; more weights go to several files with an index.
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size)]
    max_shard_size: u64,
    /// Prints the SHA-256 of every file written.
    #[arg(long)]
    checksums: bool,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let Arguments { source, out, dtype, max_shard_size, checksums: print_checksums } = Arguments::parse();
    let options = SaveOptions { dtype, max_shard_size };
    let path = resolve_model(&source)?;
    if path.is_dir() {
        println!("wrote      {}\nweights    {}", out.display(), convert_folder(&path, &out, &options)?);
    } else {
        println!("{}", convert_gguf(&path, &out, &options)?);
    }
    if print_checksums {
        checksums(&out)?.iter().for_each(|(file, sum)| println!("{sum}  {file}"));
    }
    Ok(())
}

fn parse_dtype(text: &str) -> Result<Dtype> {
    Ok(match text {
        "f32" => Dtype::Float32,
        "f16" => Dtype::Float16,
        "bf16" => Dtype::BFloat16,
        _ => bail!("`{text}` is none of f32, bf16 and f16"),
    })
}

fn parse_size(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = ["", "KB", "MB", "GB"].iter().position(|unit| unit.eq_ignore_ascii_case(&text[digits.len()..]));
    let size = unit.and_then(|power| digits.parse::<u64>().ok()?.checked_mul(1000u64.pow(power as u32)));
    size.filter(|&size| 0 < size).ok_or_else(|| anyhow::anyhow!("`{text}` is not a size such as 500MB or 5GB"))
}
