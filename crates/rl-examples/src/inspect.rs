//! Rows of a data file as the trainer will see them: roles, trained tokens, what is kept and what is dropped.
//!
//! Not here: how rows are drawn (`rl_data::inspect`).

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rl_data::inspect::{Inspect, Sequence, Style, length_histogram, page, selection_figures, terminal};
use rl_data::{
    ChatRecord, Example, Fields, JsonlReader, PreferenceRecord, PromptRecord, Renderer, Seams, Selectable, Selection,
    SelectionPolicy, TrainOn, Truncation, Turns, UnpairedRecord, Unusable, read_jsonl, select_records,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    /// A JSON Lines file in place of the configuration's.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
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
    data: PathBuf,
    model: Model,
    train_on: Option<TrainOn>,
    seams: Option<Seams>,
    selection: SelectionPolicy,
}

#[derive(Debug, Default, Deserialize)]
struct Model {
    path: Option<PathBuf>,
}

/// Prints figures, a histogram and rows; writes the page if one is asked for.
///
/// # Errors
/// What is missing, the first bad line of the file, or the first row that the selection refuses.
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let configured = match &args.config {
        Some(file) => {
            let all: serde_json::Map<String, serde_json::Value> = rl_track::config::load(file, &args.set)?;
            serde_json::from_value(all.into()).with_context(|| format!("`{}`", file.display()))?
        }
        None => Configured {
            data: args.data.clone().context("give --data or --config")?,
            model: Model::default(),
            train_on: None,
            seams: None,
            selection: SelectionPolicy::new(usize::MAX, Truncation::Drop, Unusable::Drop),
        },
    };
    let data = args.data.as_ref().unwrap_or(&configured.data);
    let Some(model) = args.model.as_ref().or(configured.model.path.as_ref()) else {
        bail!("there is no tokenizer yet: give --model, for a new model a checkpoint of its run");
    };
    let folder = model.to_str().map(rl_models::checkpoint::resolve_model).transpose()?;
    let renderer = Renderer::from_folder(folder.as_deref().unwrap_or(model))?;
    let view = View { args, renderer: &renderer, policy: &configured.selection };
    let seams = configured.seams.unwrap_or(Seams::Error);
    let all = |example: &dyn Inspect| example.sequences().into_iter().map(|(name, e)| (name, e.clone())).collect();
    match kind_of(data)? {
        Kind::Chat => {
            let train_on = configured.train_on.unwrap_or(TrainOn::Assistant);
            view.show(data, |rows: &[ChatRecord]| renderer.examples(rows, train_on), |_, example| Ok(all(example)))
        }
        Kind::Preference => {
            let rows = |rows: &[PreferenceRecord]| renderer.preference_examples(rows, seams);
            view.show(data, rows, |_, example| Ok(all(example)))
        }
        Kind::Unpaired => {
            let rows = |rows: &[UnpairedRecord]| renderer.unpaired_examples(rows, seams);
            view.show(data, rows, |_, example| Ok(all(example)))
        }
        Kind::Prompt => {
            let layout = |record: &PromptRecord, kept: &rl_data::PromptExample| -> Result<_> {
                let Example { ids, trainable, roles } = renderer.prompt_layout(record)?;
                let cut = ids.len().saturating_sub(kept.prompt_ids.len());
                let (ids, trainable, roles) = (ids[cut..].to_vec(), trainable[cut..].to_vec(), roles[cut..].to_vec());
                let example = Example { ids, trainable, roles };
                Ok(vec![("", example)])
            };
            view.show(data, |rows: &[PromptRecord]| renderer.prompt_examples(rows), layout)
        }
    }
}

/// What the rows of a file are.
enum Kind {
    Chat,
    Preference,
    Unpaired,
    Prompt,
}

/// Told by the fields of the first row; said aloud, as it is a guess.
fn kind_of(data: &Path) -> Result<Kind> {
    let Some(first) = JsonlReader::<Fields>::open(data)?.next().transpose()? else {
        bail!("`{}` has no rows", data.display());
    };
    let has = |field: &str| first.0.get(field).is_some_and(|value| !value.is_null());
    let answered = || {
        let last = first.0.get("messages").and_then(|messages| messages.as_array()?.last());
        last.and_then(|message| message.get("role")).is_some_and(|role| role == "assistant")
    };
    let (kind, name, why) = if has("chosen") {
        (Kind::Preference, "pairs", "`chosen`")
    } else if has("label") && has("completion") {
        (Kind::Unpaired, "judged answers", "`completion` and `label`")
    } else if answered() {
        (Kind::Chat, "conversations", "`messages` that end with the assistant")
    } else {
        (Kind::Prompt, "prompts", "no answer")
    };
    println!("{}: {name}, since the first row has {why}", data.display());
    Ok(kind)
}

struct View<'a> {
    args: &'a InspectArgs,
    renderer: &'a Renderer,
    policy: &'a SelectionPolicy,
}

impl View<'_> {
    fn show<R: DeserializeOwned + Turns, T: Selectable>(
        &self,
        data: &Path,
        tokenised: impl Fn(&[R]) -> Vec<rl_data::Result<T>>,
        sequences: impl Fn(&R, &T) -> Result<Vec<(&'static str, Example)>>,
    ) -> Result<()> {
        let records: Vec<R> = read_jsonl(data)?;
        let selection = select_records(&records, tokenised(&records), self.policy)?;
        let lengths: Vec<usize> = selection.examples.iter().map(Selectable::longest).collect();
        let figures = selection_figures(&selection.report) + &length_histogram(&lengths, self.args.width)?;
        print!("{figures}");
        if self.args.dropped {
            println!();
            selection.dropped.iter().for_each(|dropped| println!("row {}: {}", dropped.row, dropped.reason));
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
        if let Some(file) = &self.args.html {
            let text = page(&data.display().to_string(), &figures, &shown);
            std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))?;
            println!("\nsee {}", file.display());
        }
        Ok(())
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
    fn rows_are_lists_of_numbers_and_ranges() {
        assert_eq!(parse_rows("0,7, 20-25").unwrap(), Rows(vec![0..=0, 7..=7, 20..=25]));
        for text in ["", "a", "1-", "-1", "1,,2"] {
            assert!(parse_rows(text).is_err(), "{text}");
        }
    }
}
