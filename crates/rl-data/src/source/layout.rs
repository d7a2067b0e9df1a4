//! Layouts: which columns hold a record, how that is found out, and how a row becomes a record.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::column::{ColumnKind, Columns, nearest};
use super::record::Record;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::preference_record::SCORE_FIELDS;

/// How the rows of a dataset are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A whole conversation in one column.
    Messages,
    /// What is asked and what is answered, each text or messages.
    PromptCompletion,
    /// Two answers, each text, messages, or a whole conversation; with or without the prompt.
    Preference,
    /// What is asked, an answer and whether it is desirable.
    Unpaired,
    /// What is asked, alone.
    Prompt,
}

/// Names of columns where they are not the usual ones; the left side is the meaning, the value the name in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnMap {
    /// A whole conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<String>,
    /// What is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// The preferred answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// The other answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// Whether the answer is desirable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// By how much the preferred answer is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<String>,
    /// Score of the preferred answer; with `rejected_score` in place of `margin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen_score: Option<String>,
    /// Score of the other answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_score: Option<String>,
}

/// What was decided about a dataset's columns, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// How the rows are read.
    pub layout: Layout,
    /// Meaning, name in the file and content of every column that is read.
    pub columns: Vec<(&'static str, String, ColumnKind)>,
    /// The columns that stay with the record as they are.
    pub kept: Vec<String>,
    /// Whether the configuration named the layout.
    pub named: bool,
}

/// A column by its meaning: the field of the record, and the names it has in files, the usual one first.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Meaning {
    field: &'static str,
    names: &'static [&'static str],
}

const MESSAGES: Meaning =
    Meaning { field: "messages", names: &["messages", "conversations", "conversation", "message"] };
const PROMPT: Meaning = Meaning { field: "prompt", names: &["prompt", "context_messages", "query"] };
const COMPLETION: Meaning = Meaning { field: "completion", names: &["completion", "response"] };
const CHOSEN: Meaning = Meaning { field: "chosen", names: &["chosen"] };
const REJECTED: Meaning = Meaning { field: "rejected", names: &["rejected"] };
const LABEL: Meaning = Meaning { field: "label", names: &["label"] };
const MARGIN: Meaning = Meaning { field: "margin", names: &["margin"] };
const CHOSEN_SCORE: Meaning = Meaning { field: "chosen_score", names: &["chosen_score"] };
const REJECTED_SCORE: Meaning = Meaning { field: "rejected_score", names: &["rejected_score"] };

impl Layout {
    /// The name in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Layout::Messages => "messages",
            Layout::PromptCompletion => "prompt_completion",
            Layout::Preference => "preference",
            Layout::Unpaired => "unpaired",
            Layout::Prompt => "prompt",
        }
    }

    fn needed(self) -> &'static [Meaning] {
        match self {
            Layout::Messages => &[MESSAGES],
            Layout::PromptCompletion => &[PROMPT, COMPLETION],
            Layout::Preference => &[CHOSEN, REJECTED],
            Layout::Unpaired => &[PROMPT, COMPLETION, LABEL],
            Layout::Prompt => &[PROMPT],
        }
    }

    /// Whether the rows are judged answers, of which this layout would learn all.
    fn learns_from_judged(self, columns: &Columns) -> bool {
        self == Layout::PromptCompletion && kind(columns, LABEL.field) == Some(&ColumnKind::Boolean)
    }

    fn optional(self) -> &'static [Meaning] {
        match self {
            Layout::Preference => &[PROMPT, MARGIN, CHOSEN_SCORE, REJECTED_SCORE],
            _ => &[],
        }
    }
}

impl ColumnMap {
    fn get(&self, meaning: Meaning) -> Option<&str> {
        self.entries().into_iter().find(|(field, _)| *field == meaning.field).map(|(_, name)| name)
    }

    fn entries(&self) -> Vec<(&'static str, &str)> {
        let ColumnMap { messages, prompt, completion, chosen, rejected, label, margin, chosen_score, rejected_score } =
            self;
        let all = [
            (MESSAGES, messages),
            (PROMPT, prompt),
            (COMPLETION, completion),
            (CHOSEN, chosen),
            (REJECTED, rejected),
            (LABEL, label),
            (MARGIN, margin),
            (CHOSEN_SCORE, chosen_score),
            (REJECTED_SCORE, rejected_score),
        ];
        all.into_iter().filter_map(|(meaning, name)| Some((meaning.field, name.as_deref()?))).collect()
    }

    /// Whether no column is named.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }
}

impl Detection {
    /// Decides how `columns` hold an `R`. `layout` and `map` are what the configuration says, `name` is the dataset's.
    pub(super) fn new<R: Record>(
        name: &str,
        columns: &Columns,
        layout: Option<Layout>,
        map: &ColumnMap,
    ) -> Result<Detection> {
        let refuse = |problem: String| Error::Columns { name: name.to_owned(), record: R::NAME, problem };
        if let Some((field, missing)) = map.entries().into_iter().find(|(_, name)| kind(columns, name).is_none()) {
            return Err(refuse(format!(
                "columns.{field} = {missing:?} is not there; {}",
                there(columns, Some(missing))
            )));
        }
        let candidates = match layout {
            Some(layout) if !R::DETECTED.contains(&layout) && !R::ON_REQUEST.contains(&layout) => {
                let known: Vec<&str> = R::DETECTED.iter().chain(R::ON_REQUEST).map(|layout| layout.as_str()).collect();
                let problem = format!("layout = {:?} has none; those that do: {}", layout.as_str(), known.join(", "));
                return Err(refuse(problem));
            }
            Some(layout) => vec![layout],
            None => R::DETECTED.to_vec(),
        };
        let mut reasons = Vec::new();
        for candidate in candidates {
            let fitted = fit(candidate, columns, map).and_then(|found| match layout {
                None if candidate.learns_from_judged(columns) => Err("`label` judges the completions".to_owned()),
                _ => Ok(found),
            });
            match fitted {
                Ok(found) => {
                    let is_read = |name: &str| found.iter().any(|(_, read, _)| read == name);
                    let kept = columns.iter().map(|(name, _)| name).filter(|name| !is_read(name)).cloned().collect();
                    return Ok(Detection { layout: candidate, columns: found, kept, named: layout.is_some() });
                }
                Err(reason) => reasons.push(format!("not {}: {reason}", candidate.as_str())),
            }
        }
        let mut offered = R::DETECTED.iter().chain(R::ON_REQUEST).filter(|other| fit(**other, columns, map).is_ok());
        let mend = match offered.next() {
            Some(other) if layout != Some(*other) => format!("layout = {:?} would fit", other.as_str()),
            _ => "name the columns, as in columns = { prompt = \"question\" }".to_owned(),
        };
        Err(refuse(format!("{}; {}; {mend}", reasons.join("; "), there(columns, None))))
    }

    /// Gives the columns of a row the names of their meanings; a row of JSON may have fields that the first had not.
    pub(super) fn rename(&self, mut fields: Fields) -> Result<Fields> {
        for (field, name, _) in &self.columns {
            if field != name
                && let Some(value) = fields.0.shift_remove(name)
                && fields.0.insert((*field).to_owned(), value).is_some()
            {
                return Err(Error::field(field, format!("the row has a `{field}` too; list it in `ignore`")));
            }
        }
        Ok(fields)
    }

    /// The numbers whose difference becomes the margin, where the layout has one and no column says it.
    fn scores(&self) -> Option<(&'static str, &'static str)> {
        if self.layout != Layout::Preference || self.columns.iter().any(|(field, ..)| *field == MARGIN.field) {
            return None;
        }
        let is_there = |name: &str| {
            self.kept.iter().any(|kept| kept == name) || self.columns.iter().any(|(field, ..)| *field == name)
        };
        SCORE_FIELDS.into_iter().find(|(chosen, rejected)| is_there(chosen) && is_there(rejected))
    }

    /// The name in the file of a field of the record.
    pub(super) fn name_of<'a>(&'a self, field: &'a str) -> &'a str {
        self.columns.iter().find(|(known, ..)| *known == field).map_or(field, |(_, name, _)| name)
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.named { "as configured" } else { "by its columns" };
        write!(formatter, "layout {} ({how}):", self.layout.as_str())?;
        for (index, (field, name, kind)) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match field == name {
                true => write!(formatter, "{comma} `{name}` is {kind}")?,
                false => write!(formatter, "{comma} {field} is `{name}`, {kind}")?,
            }
        }
        if let Some((chosen, rejected)) = self.scores() {
            write!(formatter, "; margin is `{chosen}` - `{rejected}`")?;
        }
        if !self.kept.is_empty() {
            write!(formatter, "; kept with the record: `{}`", self.kept.join("`, `"))?;
        }
        Ok(())
    }
}

type Found = Vec<(&'static str, String, ColumnKind)>;

/// The columns of a layout, or why it does not fit.
fn fit(layout: Layout, columns: &Columns, map: &ColumnMap) -> std::result::Result<Found, String> {
    let (needed, optional) = (layout.needed(), layout.optional());
    let has = |field: &str| needed.iter().chain(optional).any(|meaning| meaning.field == field);
    if let Some((field, _)) = map.entries().into_iter().find(|(field, _)| !has(field)) {
        return Err(format!("it has no `{field}`, which `columns` names"));
    }
    let mut found = Found::new();
    for meaning in needed.iter().chain(optional) {
        let Some(name) = resolve(*meaning, columns, map)? else {
            if optional.contains(meaning) {
                continue;
            }
            let known = meaning.names.join("` or `");
            let near = nearest(meaning.field, columns.iter().map(|(name, _)| name.as_str()));
            let near = near.map(|name| format!(" (the nearest is `{name}`)")).unwrap_or_default();
            return Err(format!("no `{known}`{near}"));
        };
        if name != meaning.field && kind(columns, meaning.field).is_some() {
            let field = meaning.field;
            return Err(format!("there is a `{field}` beside `{name}`; list it in `ignore`"));
        }
        let kind = kind(columns, name).cloned().unwrap_or(ColumnKind::Null);
        found.push((meaning.field, name.to_owned(), kind));
    }
    Ok(found)
}

/// The column of a meaning: the configured one, else the one with the usual name, else the only one with another name.
fn resolve<'a>(
    meaning: Meaning,
    columns: &'a Columns,
    map: &'a ColumnMap,
) -> std::result::Result<Option<&'a str>, String> {
    if let Some(name) = map.get(meaning) {
        return Ok(Some(name));
    }
    let is_there = |name: &&'static str| match kind(columns, name) {
        // Other names are common words: what they name must look like a conversation.
        Some(kind) => *name == meaning.field || meaning != MESSAGES || kind.may_be_messages(),
        None => false,
    };
    let mut found = meaning.names.iter().copied().filter(is_there);
    match (found.next(), found.next()) {
        (Some(first), Some(second)) if first != meaning.field => {
            let field = meaning.field;
            Err(format!(
                "both `{first}` and `{second}` may be the {field}; say columns.{field} = {first:?} or {second:?}"
            ))
        }
        (first, _) => Ok(first),
    }
}

fn kind<'a>(columns: &'a Columns, name: &str) -> Option<&'a ColumnKind> {
    columns.iter().find(|(known, _)| known == name).map(|(_, kind)| kind)
}

/// The columns there are, for messages, with the nearest to a missing one.
fn there(columns: &Columns, missing: Option<&str>) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let near = missing.and_then(|missing| nearest(missing, names.iter().copied()));
    let near = near.map(|name| format!("the nearest is `{name}`; ")).unwrap_or_default();
    format!("{near}the columns are `{}`", names.join("`, `"))
}
