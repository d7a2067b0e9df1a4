//! Tests of whole roads: parity with Python, masks over templates, pairs, packing and batching.

mod batching;
mod chat_templates;
mod fixtures;
mod packing;
mod parity;
mod preference;
mod rendering;
mod streaming;
mod tokens;
