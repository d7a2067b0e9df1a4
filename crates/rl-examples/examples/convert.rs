//! Converts a GGUF file into a checkpoint folder that this project and transformers open.
//!
//! `cargo run --release -p rl-examples --example convert -- --gguf model.gguf --out data/models/name`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Converts a GGUF file into a checkpoint folder in the Hugging Face layout.
///
/// The weights are dequantised and stored as f32, so nothing of the file is lost; 135 million weights take 540 MB.
/// Beside them the folder gets config.json, tokenizer.json, tokenizer_config.json, special_tokens_map.json,
/// generation_config.json and, where the file has one, the chat template.
///
/// Readable: architecture `llama`; types F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1; byte-level BPE vocabularies.
/// Anything else is an error that names the key or the tensor.
#[derive(Parser)]
#[command(after_help = "Example:\n  convert --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out data/models/smollm2-135m")]
struct Arguments {
    /// The GGUF file to read.
    #[arg(long, value_name = "FILE")]
    gguf: PathBuf,
    /// The folder to make. It must not exist; it appears only when complete.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let arguments = Arguments::parse();
    let report = rl_models::gguf::convert_gguf(&arguments.gguf, &arguments.out)?;
    println!("{report}");
    Ok(())
}
