//! The crate's errors: what a config, a caller or a formula can get wrong.

use std::path::PathBuf;

/// Result of this crate's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong outside the policy's own answers; a bad answer is graded, it is never an error.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A config value is outside its range.
    #[error("{key} = {value}: {limit}")]
    Config {
        /// Key as written in the config file.
        key: &'static str,
        /// The value found.
        value: String,
        /// What the value must satisfy.
        limit: String,
    },
    /// Card values from which no hand can be made.
    #[error("card values {values:?}: a hand has 1 to 6 cards with values 1 to 13")]
    CardValues {
        /// The values given.
        values: Vec<u8>,
    },
    /// No solvable hand came up within the allowed number of draws.
    #[error("no solvable hand for seed {seed}, index {index} in {draws} draws; choose a target more hands can reach")]
    NoSolvableHand {
        /// Seed of the episode.
        seed: u64,
        /// Index of the episode.
        index: u64,
        /// Hands drawn and rejected.
        draws: u64,
    },
    /// No problem of the wanted form came up within the allowed number of draws.
    #[error(
        "no problem for seed {seed}, index {index} in {draws} draws; allow larger numbers or keep more template bins"
    )]
    NoProblem {
        /// Seed of the episode.
        seed: u64,
        /// Index of the episode.
        index: u64,
        /// Problems drawn and rejected.
        draws: u64,
    },
    /// `step` before the first `reset`.
    #[error("{environment}: step before reset; call reset(seed, index) first")]
    NotReset {
        /// Name of the environment.
        environment: &'static str,
    },
    /// `step` after the episode terminated or was truncated.
    #[error("{environment}: the episode has ended; call reset(seed, index) to start another")]
    EpisodeEnded {
        /// Name of the environment.
        environment: &'static str,
    },
    /// Coordinates that no place on the Earth has.
    #[error("latitude {latitude}, longitude {longitude}: must lie in [-90, 90] and [-180, 180] degrees")]
    Geocode {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
    },
    /// A file of routes or panoramas that cannot be read or written.
    #[error("{}: {reason}", path.display())]
    RouteFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A step had an outcome that the environment does not declare.
    #[error("{environment}: a step ended as {outcome}, which is none of the declared outcomes")]
    UndeclaredOutcome {
        /// Name of the environment.
        environment: &'static str,
        /// The outcome's label.
        outcome: &'static str,
    },
    /// A name that is none of a fixed set.
    #[error("{what} {found:?} is not known; there are {known}")]
    UnknownName {
        /// What was named.
        what: &'static str,
        /// The name given.
        found: String,
        /// The names there are.
        known: String,
    },
    /// Two parallel lists differ in length.
    #[error("{name}: {found} given for {expected} environments; give one each")]
    Length {
        /// What was counted.
        name: &'static str,
        /// Entries given.
        found: usize,
        /// Environments.
        expected: usize,
    },
    /// A vocabulary breaks one of its rules.
    #[error("vocabulary: {rule}, which {name:?} breaks")]
    Vocabulary {
        /// The rule.
        rule: &'static str,
        /// The name, or what the reader of the file says.
        name: String,
    },
    /// A file wants more different problems than come up.
    #[error("num_problems = {wanted}: only {found} different problems came up; ask for fewer or allow more operations")]
    TooFewProblems {
        /// Problems asked for.
        wanted: u64,
        /// Different problems found.
        found: u64,
    },
    /// Two files hold the same problem.
    #[error("{first} and {second} share a problem (index {index} of {second}); give them different seeds")]
    SharedProblem {
        /// A file.
        first: String,
        /// Another file.
        second: String,
        /// Index of the problem in the second.
        index: u64,
    },
    /// Something cannot be written as JSON.
    #[error("{what} cannot be written as JSON: {reason}")]
    Json {
        /// What was written.
        what: &'static str,
        /// What the writer says.
        reason: String,
    },
}

/// Why a formula has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// Not an expression: something is missing, doubled or unbalanced.
    #[error("not a complete expression")]
    Syntax,
    /// A number written with a leading zero.
    #[error("a number starts with zero")]
    LeadingZero,
    /// A division by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A number or an intermediate value does not fit 64 bits.
    #[error("a value does not fit 64 bits")]
    Overflow,
}

/// `Error::Config` unless `holds`.
pub(crate) fn ensure(holds: bool, key: &'static str, value: impl ToString, limit: impl Into<String>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { key, value: value.to_string(), limit: limit.into() }) }
}
