//! Tests of whole roads: parity with Python, masks over templates, packing at scale.

mod chat_templates;
mod fixtures;
mod packing;
mod parity;
mod rendering;
mod streaming;
mod tokens;
