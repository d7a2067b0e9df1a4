//! The errors of this crate.

use std::path::PathBuf;

/// What can go wrong between this crate, libtorch and the operating system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// libtorch refused an operation of the shim.
    #[error("libtorch: {0}")]
    Shim(String),
    /// An argument that cannot be used.
    #[error("`{name}` is {value}: {reason}")]
    Argument {
        /// Parameter name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is needed.
        reason: String,
    },
    /// A device name that is not `auto`, `cpu`, `cuda` or `cuda:N`.
    #[error("device `{0}` is not known; use `auto`, `cpu`, `cuda` or `cuda:N`")]
    UnknownDevice(String),
    /// A CUDA device was asked for and cannot be used.
    #[error("device `{device}` cannot be used: {reason}")]
    NoCuda {
        /// The device as it was asked for.
        device: String,
        /// What is missing and how to mend it.
        reason: String,
    },
    /// A file could not be opened or mapped.
    #[error("cannot map {path}: {source}")]
    Map {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A gradient norm is NaN or infinite; `tensor` is the first parameter whose gradient is not finite.
    #[error("the gradient of `{tensor}` is not finite")]
    NonFiniteGradient {
        /// Parameter name.
        tensor: String,
    },
    /// An optimizer step was asked for and no parameter has a gradient.
    #[error("none of {num_parameters} parameters has a gradient; run the backward pass before the step")]
    NoGradient {
        /// Parameters of the optimizer.
        num_parameters: usize,
    },
    /// Tensors of one call are on different devices.
    #[error("{first} but {second}; move them to one device")]
    MixedDevices {
        /// A tensor and its device.
        first: String,
        /// Another, on another device.
        second: String,
    },
    /// Saved optimizer state does not fit the parameters.
    #[error("optimizer state does not fit: {0}")]
    OptimizerState(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
