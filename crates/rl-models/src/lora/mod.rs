//! Low-rank adapters: a trained update `scaling * B A` beside each frozen projection.
//!
//! Hu et al. 2021, section 4.1: <https://arxiv.org/abs/2106.09685>. Here: their settings, the tensors of one projection,
//! what a [`crate::Decoder`] does with all of them, and adapter files in PEFT's layout. Absent on purpose: adapters on
//! embeddings and output heads, several adapters at a time, and the variants (DoRA and others) that PEFT keeps apart by
//! a flag; a file that asks for one is refused.

mod adapter;
mod config;
mod dropout;
mod model;
mod peft;

pub(crate) use adapter::Lora;
pub use config::{LoraConfig, TargetModules};
pub(crate) use peft::base_and_adapters;
