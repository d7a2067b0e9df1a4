//! What the step verifier finds.

use serde::Serialize;

use crate::igsm::formula::Reference;

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The line does not fit the grammar.
    #[error("byte {position} of the line: expected {expected}")]
    Parse {
        /// Byte of the line.
        position: usize,
        /// What the grammar wants there.
        expected: &'static str,
    },
    /// The problem says nothing of the quantity.
    #[error("the problem has no {thing} count of one {container}")]
    UnknownParameter {
        /// What is counted.
        thing: String,
        /// In what.
        container: String,
    },
    /// A letter is given to a second quantity, or a quantity gets a second letter.
    #[error("the letter {letter} clashes with an earlier line")]
    LetterClash {
        /// The letter.
        letter: char,
    },
    /// A letter is used before it has a value.
    #[error("the letter {letter} has no value yet")]
    UndefinedLetter {
        /// The letter.
        letter: char,
    },
    /// Other quantities are used than those the definition names.
    #[error("uses {} quantities too many and {} too few", extra.len(), missing.len())]
    WrongDependencies {
        /// Named by the definition, not used.
        missing: Vec<Reference>,
        /// Used, not named.
        extra: Vec<Reference>,
    },
    /// The right quantities in another expression.
    #[error("the expression is not what the problem says")]
    WrongExpression,
    /// The numbers are not the values of the letters.
    #[error("the numbers are not the values of the letters")]
    WrongSubstitution,
    /// An equality of the chain is false.
    #[error("an equality is false")]
    WrongArithmetic,
    /// The line is right in itself, but computes with a wrong value of an earlier line.
    #[error("a wrong value of an earlier line is passed on")]
    WrongValue,
    /// Said to be out of reach although it is not, or for the wrong reason.
    #[error("what is said to be unknown is not what is unknown")]
    FalseLocked,
    /// Computed a second time.
    #[error("computed a second time")]
    Resolved,
    /// The opening or the closing line is not about the query, or the closing line has not the value computed for it.
    #[error("not the query, or not the value computed for it")]
    WrongTarget,
    /// The box does not hold the value of the closing line.
    #[error("the box differs from the closing line")]
    BoxMismatch,
}

/// Classes of findings. All but [`ErrorClass::Unnecessary`] are errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// [`StepError::Parse`]
    Parse,
    /// [`StepError::UnknownParameter`]
    UnknownParameter,
    /// [`StepError::LetterClash`]
    LetterClash,
    /// [`StepError::UndefinedLetter`]
    UndefinedLetter,
    /// [`StepError::WrongDependencies`]
    WrongDependencies,
    /// [`StepError::WrongExpression`]
    WrongExpression,
    /// [`StepError::WrongSubstitution`]
    WrongSubstitution,
    /// [`StepError::WrongArithmetic`]
    WrongArithmetic,
    /// [`StepError::WrongValue`]
    WrongValue,
    /// [`StepError::FalseLocked`]
    FalseLocked,
    /// [`StepError::Resolved`]
    Resolved,
    /// Computes what the query does not need; a flag.
    Unnecessary,
    /// [`StepError::WrongTarget`]
    WrongTarget,
    /// [`StepError::BoxMismatch`]
    BoxMismatch,
}

impl ErrorClass {
    /// All 14, in the order in which a line is checked.
    pub const ALL: [ErrorClass; 14] = [
        ErrorClass::Parse,
        ErrorClass::UnknownParameter,
        ErrorClass::LetterClash,
        ErrorClass::UndefinedLetter,
        ErrorClass::WrongDependencies,
        ErrorClass::WrongExpression,
        ErrorClass::WrongSubstitution,
        ErrorClass::WrongArithmetic,
        ErrorClass::WrongValue,
        ErrorClass::FalseLocked,
        ErrorClass::Resolved,
        ErrorClass::Unnecessary,
        ErrorClass::WrongTarget,
        ErrorClass::BoxMismatch,
    ];
}

impl StepError {
    /// Its class.
    pub fn class(&self) -> ErrorClass {
        match self {
            StepError::Parse { .. } => ErrorClass::Parse,
            StepError::UnknownParameter { .. } => ErrorClass::UnknownParameter,
            StepError::LetterClash { .. } => ErrorClass::LetterClash,
            StepError::UndefinedLetter { .. } => ErrorClass::UndefinedLetter,
            StepError::WrongDependencies { .. } => ErrorClass::WrongDependencies,
            StepError::WrongExpression => ErrorClass::WrongExpression,
            StepError::WrongSubstitution => ErrorClass::WrongSubstitution,
            StepError::WrongArithmetic => ErrorClass::WrongArithmetic,
            StepError::WrongValue => ErrorClass::WrongValue,
            StepError::FalseLocked => ErrorClass::FalseLocked,
            StepError::Resolved => ErrorClass::Resolved,
            StepError::WrongTarget => ErrorClass::WrongTarget,
            StepError::BoxMismatch => ErrorClass::BoxMismatch,
        }
    }
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// The line that names the query.
    Opening,
    /// Repeats a given number.
    Fact,
    /// Computes a value.
    Solve,
    /// Says that a value cannot be computed yet.
    Locked,
    /// A line with a dash that does not fit the grammar.
    Unreadable,
    /// The line with the result, and what follows it.
    Closing,
    /// The box.
    Answer,
}

impl LineKind {
    /// Whether it is a line of the solution proper, with a dash.
    pub fn is_step(self) -> bool {
        matches!(self, LineKind::Fact | LineKind::Solve | LineKind::Locked | LineKind::Unreadable)
    }
}

/// Findings on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineReport {
    /// What it is.
    pub kind: LineKind,
    /// The quantity it is about, where it can be read.
    pub reference: Option<Reference>,
    /// The first thing that is wrong with it.
    pub error: Option<StepError>,
    /// It computes what the query does not need. Not an error.
    pub unnecessary: bool,
    /// It computes something while an earlier quantity of the given order waits. Not an error.
    pub out_of_turn: bool,
}

impl LineReport {
    pub(super) fn plain(kind: LineKind, error: Option<StepError>) -> Self {
        LineReport { kind, reference: None, error, unnecessary: false, out_of_turn: false }
    }

    /// The class of its error, or else whether it is unnecessary.
    pub fn class(&self) -> Option<ErrorClass> {
        let flag = self.unnecessary.then_some(ErrorClass::Unnecessary);
        self.error.as_ref().map(StepError::class).or(flag)
    }
}

/// Findings on a whole solution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    lines: Vec<LineReport>,
    final_correct: bool,
}

impl Report {
    pub(super) fn new(lines: Vec<LineReport>, final_correct: bool) -> Self {
        Report { lines, final_correct }
    }

    /// Opening line, steps, closing line and box, in the order of the text.
    pub fn lines(&self) -> &[LineReport] {
        &self.lines
    }

    /// The lines with a dash.
    pub fn steps(&self) -> impl Iterator<Item = &LineReport> {
        self.lines.iter().filter(|line| line.kind.is_step())
    }

    /// Whether the box holds the answer.
    pub fn final_correct(&self) -> bool {
        self.final_correct
    }

    /// No error anywhere, and the answer is right.
    pub fn process_correct(&self) -> bool {
        self.final_correct && self.first_error().is_none()
    }

    /// Place in [`Report::lines`] of the first error, and the error.
    pub fn first_error(&self) -> Option<(usize, &StepError)> {
        self.lines.iter().enumerate().find_map(|(place, line)| line.error.as_ref().map(|error| (place, error)))
    }

    /// Share of steps without an error; 0 without steps.
    pub fn correct_share(&self) -> f64 {
        self.share(|line| line.error.is_none())
    }

    /// Share of steps that compute what the query does not need; 0 without steps.
    pub fn unnecessary_share(&self) -> f64 {
        self.share(|line| line.unnecessary)
    }

    /// Share of steps that find something out of reach; 0 without steps.
    pub fn reflective_share(&self) -> f64 {
        self.share(|line| line.kind == LineKind::Locked)
    }

    /// Steps that compute something out of turn.
    pub fn num_out_of_turn(&self) -> usize {
        self.lines.iter().filter(|line| line.out_of_turn).count()
    }

    fn share(&self, holds: impl Fn(&LineReport) -> bool) -> f64 {
        let total = self.steps().count();
        let held = self.steps().filter(|line| holds(line)).count();
        if total == 0 { 0.0 } else { held as f64 / total as f64 }
    }
}
