//! Reads a problem back from its text.

use std::collections::HashSet;

use super::formula::{Base, Formula, Reference};
use super::lexer::{Lexer, Token, Unexpected};
use super::problem::Operator;
use super::vocabulary::Vocabulary;

/// "In one `container`, the `item` count is `formula`".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Item and container.
    pub reference: Reference,
    /// What is said of it.
    pub formula: Formula<Reference>,
}

/// A problem as its text tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedProblem {
    /// In the order of the text.
    pub conditions: Vec<Condition>,
    /// What is asked for.
    pub query: Reference,
}

/// Why a text is not a problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The grammar is broken.
    #[error("byte {position}: expected {expected}")]
    Syntax {
        /// Byte of the text.
        position: usize,
        /// What the grammar wants there.
        expected: &'static str,
    },
    /// A name that is not in the vocabulary.
    #[error("{name:?} is not in the vocabulary")]
    UnknownName {
        /// The name.
        name: String,
    },
    /// Names that do not go together: other systems, a container that is not larger, a category in place of an item.
    #[error("the {thing} count of one {container} has no meaning")]
    NoMeaning {
        /// What is counted.
        thing: String,
        /// In what.
        container: String,
    },
    /// Two conditions for one quantity.
    #[error("the {thing} count of one {container} is given twice")]
    Twice {
        /// What is counted.
        thing: String,
        /// In what.
        container: String,
    },
}

impl From<Unexpected> for ParseError {
    fn from(unexpected: Unexpected) -> Self {
        ParseError::Syntax { position: unexpected.position, expected: unexpected.expected }
    }
}

/// "the `thing` count of one `container`", names not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawReference<'t> {
    pub thing: &'t str,
    pub container: &'t str,
}

impl ParsedProblem {
    /// Reads the text of a problem with the names of `vocabulary`.
    ///
    /// # Errors
    /// [`ParseError`] at the first sentence that does not fit.
    pub fn parse(text: &str, vocabulary: &Vocabulary) -> Result<Self, ParseError> {
        let mut lexer = Lexer::new(text);
        let mut conditions = Vec::new();
        let mut seen = HashSet::new();
        while lexer.take_word("In") {
            lexer.words("one")?;
            let container = lexer.name()?;
            lexer.sign(b',', "a comma")?;
            lexer.words("the")?;
            let raw = RawReference { thing: lexer.name()?, container };
            lexer.words("count is")?;
            let formula = formula(&mut lexer)?;
            lexer.sign(b'.', "a full stop")?;
            let reference = resolve(raw, vocabulary)?;
            if reference.thing.is_category() {
                return Err(ParseError::NoMeaning { thing: raw.thing.into(), container: raw.container.into() });
            }
            if !seen.insert(reference) {
                return Err(ParseError::Twice { thing: raw.thing.into(), container: raw.container.into() });
            }
            let formula = formula.try_map(|&raw| resolve(raw, vocabulary))?;
            conditions.push(Condition { reference, formula });
        }
        lexer.words("What is")?;
        let query = resolve(reference(&mut lexer)?, vocabulary)?;
        lexer.sign(b'?', "a question mark")?;
        match lexer.peek() {
            Token::End => Ok(ParsedProblem { conditions, query }),
            _ => Ok(lexer.unexpected("the end of the text")?),
        }
    }
}

/// What a raw reference means.
pub(super) fn resolve(raw: RawReference<'_>, vocabulary: &Vocabulary) -> Result<Reference, ParseError> {
    let look_up = |name: &str| vocabulary.thing(name).ok_or_else(|| ParseError::UnknownName { name: name.into() });
    let (thing, container) = (look_up(raw.thing)?, look_up(raw.container)?);
    let fits =
        if thing.is_category() { thing.layer() < container.layer() } else { thing.layer() + 1 == container.layer() };
    if container.is_category() || thing.system() != container.system() || !fits {
        return Err(ParseError::NoMeaning { thing: raw.thing.into(), container: raw.container.into() });
    }
    Ok(Reference { thing, container })
}

/// `the NAME count of one NAME`
pub(super) fn reference<'t>(lexer: &mut Lexer<'t>) -> Result<RawReference<'t>, Unexpected> {
    lexer.words("the")?;
    reference_tail(lexer)
}

fn reference_tail<'t>(lexer: &mut Lexer<'t>) -> Result<RawReference<'t>, Unexpected> {
    let thing = lexer.name()?;
    lexer.words("count of one")?;
    Ok(RawReference { thing, container: lexer.name()? })
}

/// `REF, REF and REF`, at least one.
pub(super) fn reference_list<'t>(lexer: &mut Lexer<'t>) -> Result<Vec<RawReference<'t>>, Unexpected> {
    let mut list = vec![reference(lexer)?];
    while lexer.take_sign(b',') {
        list.push(reference(lexer)?);
    }
    if lexer.take_word("and") {
        list.push(reference(lexer)?);
    }
    Ok(list)
}

/// `EXPR`
pub(super) fn formula<'t>(lexer: &mut Lexer<'t>) -> Result<Formula<RawReference<'t>>, Unexpected> {
    let Token::Number(number) = lexer.peek() else { return Ok(Formula::Plain(base(lexer)?)) };
    lexer.take();
    if lexer.take_word("plus") {
        Ok(Formula::Joined(number, Operator::Plus, base(lexer)?))
    } else if lexer.take_word("multiplied") {
        lexer.words("by")?;
        Ok(Formula::Joined(number, Operator::Times, base(lexer)?))
    } else {
        Ok(Formula::Constant(number))
    }
}

fn base<'t>(lexer: &mut Lexer<'t>) -> Result<Base<RawReference<'t>>, Unexpected> {
    lexer.words("the")?;
    if lexer.take_word("total") {
        lexer.words("of")?;
        let list = reference_list(lexer)?;
        if list.len() < 2 { lexer.unexpected("a second quantity") } else { Ok(Base::Sum(list)) }
    } else if lexer.take_word("gap") {
        let first = reference(lexer)?;
        lexer.words("minus")?;
        Ok(Base::Gap(first, reference(lexer)?))
    } else {
        Ok(Base::Single(reference_tail(lexer)?))
    }
}
