#![doc = include_str!("../README.md")]

pub mod chat_template;
pub mod control_text;
pub mod date;
pub mod error;
pub mod jsonl;
pub mod named_template;
pub mod order;
pub mod pack;
mod python_json;
mod python_text;
pub mod record;
pub mod render;
pub mod select;
pub mod text_stream;
pub mod tokenizer;
pub mod train_tokenizer;

pub use chat_template::{CHATML, ChatTemplate};
pub use control_text::ContentTokens;
pub use date::Date;
pub use error::{Error, Result};
pub use jsonl::{JsonlReader, read_jsonl, write_jsonl};
pub use order::{Cursor, DataOrder, epoch_order};
pub use pack::{PackedBatch, Packing, pack};
pub use record::{ChatRecord, Message, Role};
pub use render::{Example, Renderer, TrainOn};
pub use select::{Selection, SelectionPolicy, SelectionReport, Truncation, Unusable, select};
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
pub use train_tokenizer::train_tokenizer;
