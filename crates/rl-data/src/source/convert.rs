//! A dataset written anew: in another layout, another format, or both.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::config::DatasetConfig;
use super::format::{Compression, Format};
use super::layout::{Detection, Layout};
#[cfg(feature = "parquet")]
use super::parquet::write_parquet;
use super::record::Record;
use crate::error::{Error, Result};
use crate::fields::{as_json, write_fields};
use crate::jsonl::try_write_jsonl;
use crate::preference_record::PreferenceRecord;
use crate::prompt_record::PromptRecord;
use crate::record::{ChatRecord, Message, Role};
use crate::unpaired_record::UnpairedRecord;

/// What is read and what is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvertConfig {
    /// The dataset.
    pub from: DatasetConfig,
    /// The layout to write.
    pub to: Layout,
    /// The file to write: `.jsonl` or `.parquet`. It is replaced whole or not at all.
    pub out: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// How the dataset was read.
    pub detection: Detection,
    /// Rows written.
    pub num_rows: usize,
}

impl ConvertConfig {
    /// Reads, converts and writes, one row after another.
    ///
    /// | to | from |
    /// | --- | --- |
    /// | `messages` | conversations; prompts with completions; the preferred answers of pairs |
    /// | `prompt_completion` | the same: the completion is the last answer, the prompt all before it |
    /// | `preference` | pairs |
    /// | `unpaired` | judged answers; pairs, as a desirable and an undesirable answer |
    /// | `prompt` | prompts; the prompts of pairs |
    ///
    /// # Errors
    /// As [`DatasetConfig::stream`], and of writing; [`Error::Field`] where a conversation does not end with an answer.
    pub fn run(&self) -> Result<Converted> {
        match self.to {
            Layout::Messages => self.write::<ChatRecord, _>(Ok),
            Layout::PromptCompletion => self.write(PromptCompletion::new),
            Layout::Preference => self.write::<PreferenceRecord, _>(Ok),
            Layout::Unpaired => self.write::<UnpairedRecord, _>(Ok),
            Layout::Prompt => self.write::<PromptRecord, _>(Ok),
        }
    }

    fn write<R: Record, T: Serialize>(&self, convert: impl Fn(R) -> Result<T>) -> Result<Converted> {
        let from = self.with_layout::<R>()?;
        let detection = from.detect::<R>()?;
        let rows = || Ok(from.stream::<R>()?.map(|record| record.and_then(&convert)));
        let num_rows = match Format::of(&self.out) {
            Some((Format::JsonLines, Compression::None)) => try_write_jsonl(&self.out, rows()?)?,
            Some((Format::Parquet, _)) => to_parquet(&self.out, rows)?,
            _ => {
                let problem = "the file to write must end in .jsonl or .parquet".to_owned();
                return Err(Error::Dataset { name: self.out.display().to_string(), problem });
            }
        };
        Ok(Converted { detection, num_rows })
    }

    /// The dataset with a layout that holds `R`. What is to be written says what is wanted, so that layouts which
    /// training takes only by name are taken here too.
    fn with_layout<R: Record>(&self) -> Result<DatasetConfig> {
        let refused = match self.from.detect::<R>() {
            Err(error @ Error::Columns { .. }) if self.from.layout.is_none() => error,
            Err(error) => return Err(error),
            Ok(_) => return Ok(self.from.clone()),
        };
        for layout in R::ON_REQUEST {
            let from = DatasetConfig { layout: Some(*layout), ..self.from.clone() };
            if from.detect::<R>().is_ok() {
                return Ok(from);
            }
        }
        Err(refused)
    }
}

#[cfg(feature = "parquet")]
fn to_parquet<T: Serialize, I: Iterator<Item = Result<T>>>(out: &Path, rows: impl Fn() -> Result<I>) -> Result<usize> {
    write_parquet(out, rows)
}

#[cfg(not(feature = "parquet"))]
fn to_parquet<T: Serialize, I: Iterator<Item = Result<T>>>(out: &Path, _rows: impl Fn() -> Result<I>) -> Result<usize> {
    Err(Error::FeatureOff { path: out.to_path_buf(), feature: "parquet" })
}

/// A conversation in two columns: the last answer, and all before it.
struct PromptCompletion {
    prompt: Vec<Message>,
    completion: Vec<Message>,
    extra: Map<String, Json>,
}

impl PromptCompletion {
    fn new(record: ChatRecord) -> Result<Self> {
        let ChatRecord { messages: mut prompt, extra } = record;
        match prompt.pop() {
            Some(answer) if answer.role == Role::Assistant && !prompt.is_empty() => {
                Ok(PromptCompletion { prompt, completion: vec![answer], extra })
            }
            Some(last) if last.role == Role::Assistant => {
                Err(Error::field("messages", "the answer has no prompt before it"))
            }
            _ => Err(Error::field("messages", "the conversation does not end with an answer")),
        }
    }
}

impl Serialize for PromptCompletion {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let named = [("prompt", as_json(&self.prompt)), ("completion", as_json(&self.completion))];
        write_fields(&named, &self.extra, serializer)
    }
}
