//! GGUF files: reading, dequantising, and turning them into checkpoints in the Hugging Face layout.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Versions 2 and 3, little-endian; weights in F32,
//! F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1; architecture `llama`; byte-level BPE vocabularies. Not here: K-quants,
//! and writing GGUF.

mod convert;
mod dequantise;
mod llama;
mod metadata;
mod reader;
mod tokenizer;

pub use convert::{ConvertReport, convert_gguf};
pub use dequantise::{TensorType, dequantise};
pub use metadata::{Metadata, MetadataValue};
pub use reader::{Gguf, TensorInfo};
