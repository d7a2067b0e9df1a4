//! The one error type of this crate, and the checks that raise it.

/// What can be wrong with numbers given to this crate, or made by it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two arrays that describe the same tokens or samples differ in length.
    #[error("{name} has length {length}, but {reference} has length {expected}; give both the same shape")]
    ShapeMismatch {
        /// The array that does not fit.
        name: &'static str,
        /// Its length.
        length: usize,
        /// The array it was compared with.
        reference: &'static str,
        /// The length of that array.
        expected: usize,
    },
    /// An array cannot be cut into rows or groups of the given size.
    #[error("{name} has length {length}, which is not a multiple of {divisor_name} = {divisor}")]
    NotAMultiple {
        /// The array.
        name: &'static str,
        /// Its length.
        length: usize,
        /// The row length or the group size.
        divisor_name: &'static str,
        /// Its value.
        divisor: usize,
    },
    /// Nothing to average over: every token or sample of the whole step is masked out.
    #[error("{what}: nothing is left to average over; check the masks and the filters of this step")]
    EmptyBatch {
        /// The quantity that is empty.
        what: &'static str,
    },
    /// Fewer numbers than the quantity needs.
    #[error("{name} needs at least {needed} numbers, but got {count}")]
    TooFew {
        /// The quantity.
        name: &'static str,
        /// The numbers given.
        count: usize,
        /// The smallest number that works.
        needed: usize,
    },
    /// All numbers are equal, so a quantity that divides by their spread does not exist.
    #[error("{name} is undefined: all numbers are equal")]
    ZeroVariance {
        /// The quantity.
        name: &'static str,
    },
    /// A number is NaN or infinite.
    #[error("{name}[{index}] is {value}; it must be finite, and is never replaced by another number")]
    NonFinite {
        /// The array that holds it.
        name: &'static str,
        /// Its place in that array.
        index: usize,
        /// The number.
        value: f64,
    },
    /// An input that is optional in general, but that this choice needs.
    #[error("{name} is absent, but {user} needs it")]
    MissingInput {
        /// The input.
        name: &'static str,
        /// What needs it.
        user: &'static str,
    },
    /// A hyperparameter is outside its range.
    #[error("{name} is {value}, but it {limit}")]
    BadHyperparameter {
        /// The hyperparameter.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What must hold, beginning with "must".
        limit: &'static str,
    },
    /// A number of an array is outside its range.
    #[error("{name}[{index}] is {value}, but it {limit}")]
    OutOfRange {
        /// The array that holds it.
        name: &'static str,
        /// Its place in that array.
        index: usize,
        /// The number.
        value: f64,
        /// What must hold, beginning with "must".
        limit: &'static str,
    },
    /// An input that the chosen objective reads was not given.
    #[error("{name} is missing, but {needed_by} needs it")]
    Missing {
        /// The input.
        name: &'static str,
        /// What reads it.
        needed_by: &'static str,
    },
    /// Two settings that do not go together.
    #[error("{first} and {second} do not go together: {reason}")]
    Conflict {
        /// One setting.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// Why.
        reason: &'static str,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn same_length(name: &'static str, length: usize, reference: &'static str, expected: usize) -> Result<()> {
    if length == expected { Ok(()) } else { Err(Error::ShapeMismatch { name, length, reference, expected }) }
}

pub(crate) fn finite(name: &'static str, index: usize, value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { Err(Error::NonFinite { name, index, value }) }
}

/// Narrows to `f32`; a value beyond the range of `f32` is an error too, since it would become infinite.
pub(crate) fn finite_f32(name: &'static str, index: usize, value: f64) -> Result<f32> {
    let narrow = value as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(Error::NonFinite { name, index, value }) }
}

pub(crate) fn ensure(holds: bool, name: &'static str, value: f64, limit: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::BadHyperparameter { name, value, limit }) }
}
