//! What libtorch has and tch hides, behind a safe interface.
//!
//! Here: choosing a device (with CUDA opened at run time), settings of the process, fused AdamW with a state that can be
//! saved, operations over many tensors, gradient norms and clipping, attention over sequences laid end to end, graph
//! nodes written in Rust and activation checkpointing, CPU kernels, memory in use and freed, read-only file maps and tensors from
//! their bytes. This is the
//! only crate of the workspace with C++ and with `unsafe` code.
//! Deliberately absent: models, files' meanings, training loops.
#![allow(unsafe_code)]

pub mod attention;
pub mod autograd;
mod bytes;
mod counting_allocator;
pub mod error;
mod ffi;
pub mod foreach;
mod freed_memory;
mod gradient;
pub mod kernels;
mod mapped_file;
pub mod memory;
mod optimizer;
mod runtime;
mod settings;

pub use bytes::tensor_from_bytes;
pub use counting_allocator::CountingAllocator;
pub use error::{Error, Result};
pub use freed_memory::keep_freed_memory;
pub use gradient::{clip_grad_norm, grad_norm, zero_grad};
pub use mapped_file::MappedFile;
pub use memory::{MemoryReport, MemoryTracker, peak_resident_bytes};
pub use optimizer::{AdamW, AdamWConfig};
pub use runtime::{default_device, describe_devices, parse_device, set_num_threads};
pub use settings::{AttentionKernels, Determinism, RuntimeSettings};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;

/// The libtorch that this crate is built for; the binding refuses any other.
pub const LIBTORCH_VERSION: &str = "2.11.0";
