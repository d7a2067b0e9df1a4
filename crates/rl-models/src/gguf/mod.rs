//! GGUF files: reading, dequantising, and turning them into checkpoints in the Hugging Face layout.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Versions 2 and 3, little-endian; weights in F32,
//! F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K; architectures `llama`, `qwen2` and `qwen3`; byte-level
//! BPE vocabularies. Not here: the other quantised types, and writing GGUF.

mod architecture;
mod convert;
mod dequantise;
mod k_quants;
mod metadata;
mod reader;
mod rope;
mod tokenizer;

pub use convert::{ConvertReport, convert_gguf};
pub use dequantise::{TensorType, dequantise, dequantise_into};
pub use metadata::{Metadata, MetadataValue};
pub use reader::{Gguf, TensorInfo};
