//! Batched generation: an engine with slots of a key/value cache, refilled as responses end.
//!
//! - [`generate`] answers a list of requests; [`stream`] one, token by token; [`Engine`] is what both drive.
//! - [`SamplingConfig`] says how tokens are chosen and when a response ends.
//! - [`log_prob_gap`] measures how far the sampler is from the trainer.
//!
//! Nothing is padded, on neither side. Deliberately absent: beam search, speculative decoding, sharing of prompts that
//! are only partly equal.

mod admission;
mod cache;
mod cancel;
mod config;
mod engine;
mod gap;
mod prompts;
mod request;
mod sample;
mod slot;
mod stats;
mod stop;
mod stream;
mod truncate;

pub use cancel::CancelToken;
pub use config::SamplingConfig;
pub use engine::{Engine, OnToken, generate};
pub use gap::{Gap, log_prob_gap};
pub use request::{FinishReason, Request, Response, Token};
pub use stats::Stats;
pub use stop::{Released, StopStrings};
pub use stream::{TokenStream, stream};
