#![doc = include_str!("../README.md")]

pub mod chat_template;
pub mod control_text;
pub mod conversation;
pub mod date;
pub mod error;
pub mod fields;
pub mod inspect;
pub mod jsonl;
pub mod language;
pub mod named_template;
pub mod order;
pub mod pack;
pub mod preference_example;
pub mod preference_record;
pub mod prompt_record;
mod python_json;
mod python_text;
pub mod record;
pub mod render;
pub mod select;
pub mod text_stream;
pub mod tokenizer;
pub mod tool_call;
pub mod train_tokenizer;
pub mod unpaired_record;

pub use chat_template::{CHATML, ChatTemplate};
pub use control_text::ContentTokens;
pub use conversation::{Conversation, Turns};
pub use date::Date;
pub use error::{Error, Result};
pub use fields::Fields;
pub use jsonl::{JsonlReader, read_jsonl, write_jsonl};
pub use language::{Language, LanguageFound, find_language};
pub use order::{Cursor, DataOrder, epoch_order};
pub use pack::{PackedBatch, Packing, pack};
pub use preference_example::{PreferenceExample, PromptExample, Seams, UnpairedExample};
pub use preference_record::PreferenceRecord;
pub use prompt_record::PromptRecord;
pub use record::{ChatRecord, Message, Role, Weight};
pub use render::{EndOfTurn, Example, Renderer, TrainOn};
pub use select::{
    DropReason, Dropped, Duplicates, EmptyTurns, LanguageRule, LengthDraw, LengthPercentile, RoleOrder, Selectable,
    Selection, SelectionPolicy, SelectionReport, Truncation, UnknownLanguage, Unusable, select, select_records,
};
pub use text_stream::TextStream;
pub use tokenizer::Tokenizer;
pub use tool_call::{FunctionCall, ToolCall};
pub use train_tokenizer::train_tokenizer;
pub use unpaired_record::UnpairedRecord;
