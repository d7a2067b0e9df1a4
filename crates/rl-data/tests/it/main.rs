//! Tests of whole roads: parity with Python, masks over templates, pairs, packing at scale.

mod chat_templates;
mod fixtures;
mod masks;
mod packing;
mod parity;
mod preference;
mod rendering;
mod streaming;
mod tokens;
mod trainability;
