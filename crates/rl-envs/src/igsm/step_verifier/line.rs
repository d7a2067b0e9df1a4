//! Reads one line of a solution.

use super::expression::Expression;
use crate::igsm::formula::Formula;
use crate::igsm::lexer::{Lexer, Token, Unexpected};
use crate::igsm::parse::{RawReference, formula, reference, reference_list};

/// What a line says, names not looked up.
#[derive(Debug, Clone)]
pub(super) struct Line<'t> {
    pub reference: RawReference<'t>,
    /// Value that the line says is given.
    pub fact: Option<i128>,
    /// Letter, and whether the line says that it is already in use.
    pub letter: u8,
    pub reminded: bool,
    pub info: Option<Info<'t>>,
    pub end: LineEnd<'t>,
}

/// The definition a line restates.
#[derive(Debug, Clone)]
pub(super) enum Info<'t> {
    Formula(Formula<RawReference<'t>>),
    /// Products of one or two quantities, added.
    Total(Vec<(RawReference<'t>, Option<RawReference<'t>>)>),
}

/// How a line ends.
#[derive(Debug, Clone)]
pub(super) enum LineEnd<'t> {
    /// An equation chain; `letter` is its left side.
    Solve { letter: u8, symbolic: Option<Expression>, numeric: Vec<Expression>, value: i128 },
    /// It cannot be computed because these are unknown; `letter` is what has to wait.
    Locked { letter: u8, unknown: Vec<RawReference<'t>> },
}

/// `We look for REF.`
pub(super) fn opening(text: &str) -> Result<RawReference<'_>, Unexpected> {
    let mut lexer = Lexer::new(text);
    lexer.words("We look for")?;
    let target = reference(&mut lexer)?;
    lexer.sign(b'.', "a full stop")?;
    end(&lexer)?;
    Ok(target)
}

/// `So REF is INT.`
pub(super) fn closing(text: &str) -> Result<(RawReference<'_>, i128), Unexpected> {
    let mut lexer = Lexer::new(text);
    lexer.words("So")?;
    let target = reference(&mut lexer)?;
    lexer.words("is")?;
    let value = lexer.number()?;
    lexer.sign(b'.', "a full stop")?;
    end(&lexer)?;
    Ok((target, value))
}

/// A line without its dash.
pub(super) fn line(text: &str) -> Result<Line<'_>, Unexpected> {
    let mut lexer = Lexer::new(text);
    let head = head(&mut lexer)?;
    let info = if lexer.take_word("By") { Some(info(&mut lexer)?) } else { None };
    let end_of_line = match lexer.peek() {
        Token::Letter(_) => chain(&mut lexer)?,
        _ => locked(&mut lexer)?,
    };
    end(&lexer)?;
    Ok(Line {
        reference: head.reference,
        fact: head.fact,
        letter: head.letter,
        reminded: head.reminded,
        info,
        end: end_of_line,
    })
}

struct Head<'t> {
    reference: RawReference<'t>,
    fact: Option<i128>,
    letter: u8,
    reminded: bool,
}

fn head<'t>(lexer: &mut Lexer<'t>) -> Result<Head<'t>, Unexpected> {
    let plain = |reference, letter| Head { reference, fact: None, letter, reminded: false };
    if lexer.take_word("Let") {
        let letter = lexer.letter()?;
        lexer.words("be")?;
        let found = plain(reference(lexer)?, letter);
        stop(lexer)?;
        return Ok(found);
    }
    if lexer.take_word("As") {
        lexer.words("stated")?;
        lexer.sign(b',', "a comma")?;
        return fact(lexer);
    }
    if lexer.take_word("It") {
        lexer.words("is given that")?;
        return fact(lexer);
    }
    let announced = if lexer.take_word("Next") {
        lexer.words("is")?;
        let announced = reference(lexer)?;
        if lexer.take_sign(b',') {
            lexer.words("call it")?;
            let found = plain(announced, lexer.letter()?);
            stop(lexer)?;
            return Ok(found);
        }
        announced
    } else if lexer.take_word("Now") {
        if lexer.take_word("take") {
            let announced = reference(lexer)?;
            lexer.words("as")?;
            let found = plain(announced, lexer.letter()?);
            stop(lexer)?;
            return Ok(found);
        }
        lexer.words("turn to")?;
        reference(lexer)?
    } else {
        return lexer.unexpected("the start of a line");
    };
    stop(lexer)?;
    if lexer.take_word("It") {
        lexer.words("is already called")?;
        let found = Head { reminded: true, ..plain(announced, lexer.letter()?) };
        stop(lexer)?;
        return Ok(found);
    }
    Ok(plain(announced, name(lexer)?))
}

fn fact<'t>(lexer: &mut Lexer<'t>) -> Result<Head<'t>, Unexpected> {
    let reference = reference(lexer)?;
    lexer.words("is")?;
    let value = lexer.number()?;
    stop(lexer)?;
    Ok(Head { reference, fact: Some(value), letter: name(lexer)?, reminded: false })
}

/// `Call it x.`, `Write x for it.` or `Let x stand for it.`
fn name(lexer: &mut Lexer<'_>) -> Result<u8, Unexpected> {
    let letter;
    if lexer.take_word("Call") {
        lexer.words("it")?;
        letter = lexer.letter()?;
    } else if lexer.take_word("Write") {
        letter = lexer.letter()?;
        lexer.words("for it")?;
    } else if lexer.take_word("Let") {
        letter = lexer.letter()?;
        lexer.words("stand for it")?;
    } else {
        return lexer.unexpected("a letter for the quantity");
    }
    stop(lexer)?;
    Ok(letter)
}

/// After `By`: `the text it is EXPR.` or `the text it adds REF multiplied by REF and ...`
fn info<'t>(lexer: &mut Lexer<'t>) -> Result<Info<'t>, Unexpected> {
    lexer.words("the text it")?;
    let info = if lexer.take_word("adds") {
        let mut terms = Vec::new();
        loop {
            let count = reference(lexer)?;
            let held = if lexer.take_word("multiplied") {
                lexer.words("by")?;
                Some(reference(lexer)?)
            } else {
                None
            };
            terms.push((count, held));
            if !lexer.take_word("and") {
                break Info::Total(terms);
            }
        }
    } else {
        lexer.words("is")?;
        Info::Formula(formula(lexer)?)
    };
    stop(lexer)?;
    Ok(info)
}

fn chain<'t>(lexer: &mut Lexer<'_>) -> Result<LineEnd<'t>, Unexpected> {
    let letter = lexer.letter()?;
    let mut links = Vec::new();
    while lexer.take_sign(b'=') {
        links.push(Expression::parse(lexer)?);
    }
    stop(lexer)?;
    let mut links = links.into_iter().peekable();
    let symbolic = links.next_if(|first| !first.letters().is_empty());
    let mut numeric: Vec<Expression> = links.collect();
    if numeric.iter().any(|link| !link.letters().is_empty()) {
        return lexer.unexpected("numbers after the first expression");
    }
    let Some(value) = numeric.pop().and_then(|last| last.as_number()) else {
        return lexer.unexpected("a value at the end");
    };
    Ok(LineEnd::Solve { letter, symbolic, numeric, value })
}

fn locked<'t>(lexer: &mut Lexer<'t>) -> Result<LineEnd<'t>, Unexpected> {
    let (letter, unknown);
    if lexer.take_word("Since") {
        unknown = reference_list(lexer)?;
        lexer.words(if unknown.len() == 1 { "is" } else { "are" })?;
        lexer.words("unknown so far")?;
        lexer.sign(b',', "a comma")?;
        letter = lexer.letter()?;
        lexer.words("has to wait")?;
    } else if lexer.take_word("This") {
        lexer.words("needs")?;
        unknown = reference_list(lexer)?;
        lexer.words("first so")?;
        letter = lexer.letter()?;
        lexer.words("has to wait")?;
    } else if lexer.take_word("Without") {
        unknown = reference_list(lexer)?;
        lexer.words("there is no way to get")?;
        letter = lexer.letter()?;
        lexer.words("yet")?;
    } else {
        return lexer.unexpected("an equation, or what is unknown");
    }
    stop(lexer)?;
    Ok(LineEnd::Locked { letter, unknown })
}

fn stop(lexer: &mut Lexer<'_>) -> Result<(), Unexpected> {
    lexer.sign(b'.', "a full stop")
}

fn end(lexer: &Lexer<'_>) -> Result<(), Unexpected> {
    match lexer.peek() {
        Token::End => Ok(()),
        _ => lexer.unexpected("the end of the line"),
    }
}
