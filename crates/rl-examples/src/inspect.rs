//! Rows of a dataset as the trainer will see them: roles, trained tokens, what is kept and what is dropped.
//!
//! Not here: how rows are drawn (`rl_data::inspect`).

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use rl_data::inspect::{Inspect, Sequence, Style, length_histogram, page, selection_figures, terminal};
use rl_data::source::Detection;
use rl_data::{
    ChatRecord, DatasetConfig, EndOfTurn, Example, PreferenceRecord, PromptRecord, Record, Renderer, Role, Seams,
    Selectable, Selection, SelectionPolicy, TrainOn, Truncation, Turns, UnpairedRecord, Unusable, select_records,
};
use rl_train::DataConfig;
use serde::Deserialize;

use crate::dataset_args::DatasetArgs;

/// Rows shown unless others are asked for.
const FIRST_ROWS: usize = 3;

/// What to show.
#[derive(Debug, Clone, clap::Args)]
pub struct InspectArgs {
    /// The configuration of a trainer; its data, model, selection and what it trains are used.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Changes one value of that file, such as `selection.max_length=512`; may be given often.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A dataset in place of the configuration's: a file, a folder, a pattern, or the name of a downloaded dataset, ORG/NAME
    /// or ORG/NAME@REVISION.
    ///
    /// Files end in .parquet, .jsonl or .json, the last two also with .gz or .zst. Nothing is fetched.
    #[arg(long, value_name = "DATASET")]
    pub data: Option<String>,
    /// How it is read.
    #[command(flatten)]
    pub rows_read: DatasetArgs,
    /// A checkpoint folder, or ORG/NAME in the Hugging Face cache, in place of the configuration's.
    #[arg(long, value_name = "FOLDER")]
    pub model: Option<PathBuf>,
    /// Rows to show, such as `0,7,20-25`; else the first three that are kept.
    #[arg(long, value_name = "LIST", value_parser = parse_rows)]
    pub rows: Option<Rows>,
    /// Lists every dropped row with its reason.
    #[arg(long)]
    pub dropped: bool,
    /// Puts a bar between tokens.
    #[arg(long)]
    pub tokens: bool,
    /// Writes the rows into one HTML file that needs no network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Columns of a line.
    #[arg(long, default_value_t = 80)]
    pub width: usize,
}

/// Indices of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows(Vec<std::ops::RangeInclusive<usize>>);

/// The keys of a trainer's configuration that decide what it sees; the others are not looked at.
#[derive(Debug, Deserialize)]
struct Configured {
    data: DataConfig,
    model: Model,
    train_on: Option<TrainOn>,
    seams: Option<Seams>,
    #[serde(default)]
    end_of_turn: EndOfTurn,
    selection: SelectionPolicy,
}

#[derive(Debug, Default, Deserialize)]
struct Model {
    path: Option<PathBuf>,
}

/// Prints figures, a histogram and rows; writes the page if one is asked for.
///
/// # Errors
/// What is missing, the first bad row of the data, or the first row that the selection refuses.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let configured = match &args.config {
        Some(file) => {
            let all: serde_json::Map<String, serde_json::Value> = rl_track::config::load(file, &args.set)?;
            serde_json::from_value(all.into()).with_context(|| format!("`{}`", file.display()))?
        }
        None => Configured {
            data: DatasetConfig::new(args.data.as_ref().context("give --data or --config")?).into(),
            model: Model::default(),
            train_on: None,
            seams: None,
            end_of_turn: EndOfTurn::default(),
            selection: SelectionPolicy::new(usize::MAX, Truncation::Drop, Unusable::Drop),
        },
    };
    let data = match &args.data {
        Some(path) => args.rows_read.dataset(path)?.into(),
        None if args.rows_read.is_empty() => configured.data.clone(),
        None => bail!("the options of a dataset go with --data; of the configuration's, change them with --set"),
    };
    let Some(model) = args.model.as_ref().or(configured.model.path.as_ref()) else {
        bail!("there is no tokenizer yet: give --model, for a new model a checkpoint of its run");
    };
    let folder = model.to_str().map(rl_models::checkpoint::resolve_model).transpose()?;
    let renderer = Renderer::from_folder(folder.as_deref().unwrap_or(model))?;
    let renderer = renderer.with_end_of_turn(configured.end_of_turn);
    let view = View { args, renderer: &renderer, policy: &configured.selection };
    let (mut titles, mut figures, mut shown) = (Vec::new(), String::new(), Vec::new());
    for (index, (_, dataset)) in data.datasets("data").enumerate() {
        if 0 < index {
            println!();
        }
        let (found, sequences) = view.dataset(dataset, &configured)?;
        titles.push(dataset.to_string());
        figures.push_str(&found);
        shown.extend(sequences);
    }
    if let Some(file) = &args.html {
        let text = page(&titles.join(", "), &figures, &shown);
        std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
        println!("\nsee {}", file.display());
    }
    Ok(())
}

/// What the rows of a dataset are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Preference,
    Unpaired,
    Prompt,
}

/// Told by the columns, unless the configuration trains on turns; and how they are read.
fn kind_of(data: &DatasetConfig, trains_on_turns: bool) -> rl_data::Result<(Kind, Detection)> {
    if trains_on_turns {
        return Ok((Kind::Chat, data.detect::<ChatRecord>()?));
    }
    if let Ok(detection) = data.detect::<PreferenceRecord>() {
        return Ok((Kind::Preference, detection));
    }
    if let Ok(detection) = data.detect::<UnpairedRecord>() {
        return Ok((Kind::Unpaired, detection));
    }
    let chats = data.stream::<ChatRecord>();
    if let Ok(mut records) = chats {
        // Conversations without an answer are prompts.
        let first = records.next().transpose();
        let is_prompt = |record: &ChatRecord| record.messages.last().is_some_and(|last| last.role != Role::Assistant);
        if !matches!(&first, Ok(Some(record)) if is_prompt(record)) {
            return Ok((Kind::Chat, records.detection().clone()));
        }
        return Ok((Kind::Prompt, data.detect::<PromptRecord>()?));
    }
    match data.detect::<PromptRecord>() {
        Ok(detection) => Ok((Kind::Prompt, detection)),
        Err(_) => Ok((Kind::Chat, data.detect::<ChatRecord>()?)),
    }
}

type Shown = (String, Vec<Sequence>);

struct View<'a> {
    args: &'a InspectArgs,
    renderer: &'a Renderer,
    policy: &'a SelectionPolicy,
}

impl View<'_> {
    fn dataset(&self, data: &DatasetConfig, configured: &Configured) -> Result<Shown> {
        let renderer = self.renderer;
        let seams = configured.seams.unwrap_or(Seams::Error);
        let (kind, detection) = kind_of(data, configured.train_on.is_some())?;
        self.print(&format!("{data}: {detection}"));
        let all = |example: &dyn Inspect| example.sequences().into_iter().map(|(name, e)| (name, e.clone())).collect();
        match kind {
            Kind::Chat => {
                let train_on = configured.train_on.unwrap_or(TrainOn::Assistant);
                self.show(data, |rows: &[ChatRecord]| renderer.examples(rows, train_on), |_, example| Ok(all(example)))
            }
            Kind::Preference => {
                let rows = |rows: &[PreferenceRecord]| renderer.preference_examples(rows, seams);
                self.show(data, rows, |_, example| Ok(all(example)))
            }
            Kind::Unpaired => {
                let rows = |rows: &[UnpairedRecord]| renderer.unpaired_examples(rows, seams);
                self.show(data, rows, |_, example| Ok(all(example)))
            }
            Kind::Prompt => {
                let layout = |record: &PromptRecord, kept: &rl_data::PromptExample| -> Result<_> {
                    let Example { ids, trainable, roles } = renderer.prompt_layout(record)?;
                    let cut = ids.len().saturating_sub(kept.prompt_ids.len());
                    let (ids, trainable, roles) =
                        (ids[cut..].to_vec(), trainable[cut..].to_vec(), roles[cut..].to_vec());
                    let example = Example { ids, trainable, roles };
                    Ok(vec![("", example)])
                };
                self.show(data, |rows: &[PromptRecord]| renderer.prompt_examples(rows), layout)
            }
        }
    }

    fn show<R: Record + Turns, T: Selectable>(
        &self,
        data: &DatasetConfig,
        tokenised: impl Fn(&[R]) -> Vec<rl_data::Result<T>>,
        sequences: impl Fn(&R, &T) -> Result<Vec<(&'static str, Example)>>,
    ) -> Result<Shown> {
        let records: Vec<R> = data.read()?;
        let selection = select_records(&records, tokenised(&records), self.policy)?;
        let lengths: Vec<usize> = selection.examples.iter().map(Selectable::longest).collect();
        let figures = selection_figures(&selection.report) + &length_histogram(&lengths, self.args.width)?;
        figures.lines().for_each(|line| self.print(line));
        if self.args.dropped {
            println!();
            let dropped = selection.dropped.iter();
            dropped.for_each(|dropped| self.print(&format!("row {}: {}", dropped.row, dropped.reason)));
        }
        let mut shown = Vec::new();
        for index in self.chosen(&selection) {
            let (row, example) = (selection.rows[index], &selection.examples[index]);
            for (name, example) in sequences(&records[row], example)? {
                shown.push(Sequence::new(format!("row {row}{name}"), &example, self.renderer.tokenizer())?);
            }
        }
        let colours =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = Style { width: self.args.width, colours, tokens: self.args.tokens };
        shown.iter().for_each(|sequence| print!("\n{}", terminal(sequence, &style)));
        Ok((figures, shown))
    }

    /// Prints a line, cut between words where it is too wide.
    fn print(&self, line: &str) {
        wrapped(line, self.args.width.max(40)).iter().for_each(|line| println!("{line}"));
    }

    /// Which kept rows to show; says why a row that was asked for is not among them.
    fn chosen<T>(&self, selection: &Selection<T>) -> Vec<usize> {
        let Some(Rows(wanted)) = &self.args.rows else { return (0..selection.rows.len().min(FIRST_ROWS)).collect() };
        let asked = |row: usize| wanted.iter().any(|range| range.contains(&row));
        for dropped in selection.dropped.iter().filter(|dropped| asked(dropped.row)) {
            println!("\nrow {} was dropped: {}", dropped.row, dropped.reason);
        }
        if let Some(past) = wanted.iter().map(|range| *range.end()).find(|row| *row >= selection.report.rows) {
            println!("\nrow {past} does not exist; there are {}", selection.report.rows);
        }
        (0..selection.rows.len()).filter(|&index| asked(selection.rows[index])).collect()
    }
}

/// Lines of at most `width` columns but for longer words; all but the first are indented.
pub fn wrapped(line: &str, width: usize) -> Vec<String> {
    if line.chars().count() <= width {
        return vec![line.to_owned()];
    }
    let mut lines = vec![String::new()];
    for (index, word) in line.split(' ').enumerate() {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if 0 < used && width < used + 1 + word.chars().count() {
            lines.push(format!("  {word}"));
        } else {
            let space = if index == 0 { "" } else { " " };
            lines[last].push_str(&format!("{space}{word}"));
        }
    }
    lines
}

fn parse_rows(text: &str) -> std::result::Result<Rows, String> {
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("`{text}` is not the index of a row"));
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => Ok(number(first)?..=number(last)?),
        None => number(part).map(|row| row..=row),
    };
    text.split(',').map(range).collect::<std::result::Result<_, _>>().map(Rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_lines_are_cut_between_words() {
        assert_eq!(wrapped("one two three", 13), ["one two three"]);
        assert_eq!(wrapped("one two three", 8), ["one two", "  three"]);
        assert_eq!(wrapped("    one twothree four", 8), ["    one", "  twothree", "  four"]);
    }

    #[test]
    fn rows_are_lists_of_numbers_and_ranges() {
        assert_eq!(parse_rows("0,7, 20-25").unwrap(), Rows(vec![0..=0, 7..=7, 20..=25]));
        for text in ["", "a", "1-", "-1", "1,,2"] {
            assert!(parse_rows(text).is_err(), "{text}");
        }
    }
}
