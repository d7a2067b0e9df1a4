//! Tests of whole roads: parity with Python, masks over templates, pairs, packing and batching.

mod batching;
mod chat_templates;
mod fixtures;
mod masks;
mod packing;
mod parity;
#[cfg(feature = "parquet")]
mod parquet;
mod preference;
mod rendering;
mod sources;
mod streaming;
mod tokens;
mod trainability;
