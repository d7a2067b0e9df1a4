//! The screen: a head, panels with curves, a sample, a foot.

use serde_json::Value;

use crate::clock::duration_text;
use crate::run;
use crate::view::chart::{Ranges, averaged, chart, marks_per_letter};
use crate::view::record::{Activity, Curve, Record};
use crate::view::text::{Line, Style, text_columns, value_text, wrap};

/// How a frame is drawn and what part of the record it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the screen.
    pub width: usize,
    /// Lines of the screen.
    pub height: usize,
    /// Nothing but ASCII, for terminals without braille.
    pub is_ascii: bool,
    /// Colours by ANSI escape codes.
    pub has_colors: bool,
    /// Rows of panels scrolled past; more than there are shows the last ones.
    pub skipped_rows: usize,
    /// Which sample is shown, counted back from the latest one.
    pub sample_back: usize,
}

impl Default for Look {
    /// 80x24 without colours.
    fn default() -> Self {
        Self { width: 80, height: 24, is_ascii: false, has_colors: false, skipped_rows: 0, sample_back: 0 }
    }
}

/// What a reader looks for first, each with the names it may have, the most telling one first.
const TOPICS: [&[&str]; 8] = [
    &["reward_mean", "accuracy", "rewards_chosen"],
    &["loss", "policy_loss"],
    &["rollout_kl", "ref_kl", "kl_loss", "approx_kl", "kl_desirable"],
    &["entropy"],
    &["response_tokens_per_turn", "response_length", "num_labels", "num_tokens"],
    &["response_tokens_per_second", "tokens_per_second", "seconds"],
    &["peak_bytes"],
    &["success_rate", "margin", "grad_norm"],
];

const MIN_PANEL_WIDTH: usize = 36;
/// Title and two rows of curve.
const MIN_PANEL_HEIGHT: usize = 3;
const MAX_PANEL_HEIGHT: usize = 9;
/// Least lines of a sample, its title included.
const MIN_SAMPLE_HEIGHT: usize = 5;

/// A screen of `look.height` lines of at most `look.width` columns, joined by line breaks.
///
/// Several records are compared: their curves stand below each other on common axes.
pub fn frame(records: &[Record], look: &Look) -> String {
    let mut lines = head(records, look);
    let foot = 1;
    let room = look.height.saturating_sub(lines.len() + foot);
    let sample_room = match records.iter().any(|record| !record.samples.is_empty()) {
        true if room >= MIN_SAMPLE_HEIGHT + MIN_PANEL_HEIGHT => (room / 3).max(MIN_SAMPLE_HEIGHT),
        _ => 0,
    };
    let (panels, hidden) = panel_lines(records, look, room - sample_room);
    let left = room - panels.len();
    lines.extend(panels);
    if sample_room > 0 {
        lines.extend(sample_lines(records, look, left));
    }
    // The foot stands at the bottom, wherever the sample ends.
    lines.resize(look.height.saturating_sub(foot), Line::default());
    let mut keys = String::from("q quit · arrows: more curves, other samples");
    if hidden > 0 {
        keys.push_str(&format!(" · {hidden} curves not shown"));
    }
    lines.push(Line::new(Style::Soft, &keys));
    lines.truncate(look.height);
    let rendered = lines.into_iter().map(|line| line.fit(look.width, look.is_ascii));
    rendered.map(|line| line.render(look.has_colors, look.is_ascii)).collect::<Vec<_>>().join("\n")
}

/// Name, activity and pace of each run; what is awaited; then where it comes from, or how the runs differ.
fn head(records: &[Record], look: &Look) -> Vec<Line> {
    let mut lines = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let name_style = if records.len() > 1 { Style::Run(index) } else { Style::Bold };
        let (style, activity) = activity(record);
        let mut line = Line::new(name_style, &record.name).with(Style::Plain, "  ").with(style, &activity);
        for fact in pace(record) {
            line = line.with(Style::Plain, &format!(" · {fact}"));
        }
        lines.push(line);
        if !record.remark.is_empty() {
            lines.extend(wrap(&record.remark, look.width).iter().take(3).map(|text| Line::new(Style::Warning, text)));
        }
    }
    match records {
        [record] => lines.extend(origin(record).map(|text| Line::new(Style::Soft, &text))),
        [first, others @ ..] => {
            for other in others {
                let text = match run::differences(&first.folder, &other.folder) {
                    Err(_) => "no manifests and configurations to compare yet".to_owned(),
                    Ok(found) if found.is_empty() => "no difference is recorded".to_owned(),
                    // What moves results first; the command says the same again.
                    Ok(found) => {
                        let telling = found.iter().filter(|difference| difference.what != "command");
                        telling.map(ToString::to_string).collect::<Vec<_>>().join(" · ")
                    }
                };
                lines.push(Line::new(Style::Soft, &text));
            }
        }
        [] => {}
    }
    lines
}

fn activity(record: &Record) -> (Style, String) {
    let is_done = record.max_steps().is_some() && record.last_step() >= record.max_steps();
    match record.activity {
        Activity::NotBegun => (Style::Warning, "not begun".to_owned()),
        Activity::Running => (Style::Good, "running".to_owned()),
        Activity::Quiet(_) if is_done => (Style::Good, "finished".to_owned()),
        Activity::Quiet(age) => {
            (Style::Warning, format!("not running here, last line {} ago", duration_text(age.as_secs_f64())))
        }
    }
}

fn pace(record: &Record) -> Vec<String> {
    let mut facts = Vec::new();
    let Some(step) = record.last_step() else { return facts };
    facts.push(match record.max_steps() {
        Some(max) if max > 0 => format!("step {step}/{max} ({} %)", step * 100 / max),
        _ => format!("step {step}"),
    });
    if let Some(seconds) = record.seconds_per_step() {
        facts.push(format!("{} s/step", value_text("seconds", seconds)));
        let left = record.max_steps().map_or(0, |max| max.saturating_sub(step));
        if left > 0 && record.activity == Activity::Running {
            facts.push(format!("eta {}", duration_text(seconds * left as f64)));
        }
    }
    facts
}

fn origin(record: &Record) -> Option<String> {
    let manifest = record.manifest.as_ref()?;
    let mut facts: Vec<String> = manifest
        .seeds
        .iter()
        .map(|(name, seed)| match name.as_str() {
            "seed" => format!("seed {seed}"),
            name => format!("{name} seed {seed}"),
        })
        .collect();
    if let Some(start) = manifest.starts.last() {
        facts.push(format!("started {}", start.timing.started));
        facts.extend(start.revision.as_ref().map(|revision| format!("code {revision}")));
    }
    if manifest.starts.len() > 1 {
        facts.push(format!("resumed {} times", manifest.starts.len() - 1));
    }
    Some(facts.join(" · "))
}

/// The panels that fit into `room` lines, and how many curves are left out.
fn panel_lines(records: &[Record], look: &Look, room: usize) -> (Vec<Line>, usize) {
    const GAP: usize = 2;
    let names = panel_names(records);
    let across = ((look.width + GAP) / (MIN_PANEL_WIDTH + GAP)).max(1);
    let height_each = MIN_PANEL_HEIGHT.max(1 + records.len());
    let num_rows = names.len().div_ceil(across);
    let shown_rows = num_rows.min(room / height_each);
    if shown_rows == 0 {
        return (Vec::new(), names.len());
    }
    let height = (room / shown_rows).min(MAX_PANEL_HEIGHT.max(height_each));
    let first = look.skipped_rows.min(num_rows - shown_rows);
    let width = (look.width - GAP * (across - 1)) / across;
    let mut lines = Vec::new();
    let mut shown = 0;
    for row in names.chunks(across).skip(first).take(shown_rows) {
        let panels: Vec<Vec<Line>> = row.iter().map(|name| panel(records, name, look, width, height)).collect();
        shown += row.len();
        for index in 0..height {
            let mut line = Line::default();
            for (column, panel) in panels.iter().enumerate() {
                let gap = if column == 0 { 0 } else { GAP };
                let piece = panel.get(index).cloned().unwrap_or_default().fit(width, look.is_ascii);
                line = line.with(Style::Plain, &" ".repeat(gap)).then(piece);
            }
            lines.push(line);
        }
    }
    (lines, names.len() - shown)
}

/// Names of measurements: one of each topic, then all others as they came.
fn panel_names(records: &[Record]) -> Vec<String> {
    let mut all: Vec<&str> = Vec::new();
    // Training first: other splits mostly measure the same.
    for is_training in [true, false] {
        for curve in records.iter().flat_map(|record| &record.curves) {
            if (curve.split == "train") == is_training && !all.contains(&curve.name.as_str()) {
                all.push(&curve.name);
            }
        }
    }
    let leading = TOPICS.iter().filter_map(|names| names.iter().find(|name| all.contains(name)));
    let mut names: Vec<&str> = leading.copied().collect();
    all.retain(|name| !names.contains(name));
    names.extend(all);
    names.into_iter().map(str::to_owned).collect()
}

/// Title and curves of one measurement; each run has rows of its own on common axes, whose ends the title tells.
fn panel(records: &[Record], name: &str, look: &Look, width: usize, height: usize) -> Vec<Line> {
    let curves: Vec<Option<&Curve>> = records.iter().map(|record| leading_curve(record, name)).collect();
    let columns = width * marks_per_letter(look.is_ascii).0;
    let drawn: Vec<Option<Vec<(u64, f64)>>> =
        curves.iter().map(|curve| curve.map(|curve| averaged(&curve.points, columns))).collect();
    let mut title = Line::new(Style::Bold, name);
    for (index, (record, curve)) in records.iter().zip(&curves).enumerate() {
        let style = if records.len() > 1 { Style::Run(index) } else { Style::Plain };
        let text = curve.and_then(last_value).map_or("-".to_owned(), |value| value_text(name, value));
        title = title.with(Style::Plain, if index == 0 { " " } else { " · " }).with(style, &text);
        if records.len() == 1 {
            let others = record
                .curves
                .iter()
                .filter(|other| other.name == name && curve.is_some_and(|leading| leading.split != other.split));
            for other in others {
                let value = last_value(other).map_or("-".to_owned(), |value| value_text(name, value));
                title = title.with(Style::Soft, &format!(" {} {value}", other.split));
            }
        }
    }
    let ranges = Ranges::of(drawn.iter().flatten().map(Vec::as_slice));
    if let Some(Ranges { y: (low, high), .. }) = ranges {
        title = title.with(Style::Soft, &format!("  [{}, {}]", value_text(name, low), value_text(name, high)));
    }
    let mut lines = vec![title];
    let rows_each = height.saturating_sub(1) / records.len().max(1);
    for (index, points) in drawn.iter().enumerate() {
        let rows = match (points, ranges) {
            (Some(points), Some(ranges)) => chart(points, ranges, width, rows_each, look.is_ascii),
            _ => vec![String::new(); rows_each],
        };
        lines.extend(rows.iter().map(|row| Line::new(Style::Run(index), row)));
    }
    lines
}

/// The curve that a panel draws: of training, else of the first split that has one.
fn leading_curve<'a>(record: &'a Record, name: &str) -> Option<&'a Curve> {
    record.curve("train", name).or_else(|| record.curves.iter().find(|curve| curve.name == name))
}

fn last_value(curve: &Curve) -> Option<f64> {
    curve.points.last().map(|(_, value)| *value)
}

/// A sample of the first run that has one: its numbers, the end of its prompt, its answer as far as there is room.
fn sample_lines(records: &[Record], look: &Look, room: usize) -> Vec<Line> {
    let Some(record) = records.iter().find(|record| !record.samples.is_empty()) else { return Vec::new() };
    let count = record.samples.len();
    let place = count - 1 - look.sample_back.min(count - 1);
    let Some((step, sample)) = record.samples.get(place) else { return Vec::new() };
    let parts = SampleParts::of(sample);
    let mut title = format!("sample {} of {count}, step {step}", place + 1);
    parts.facts.iter().for_each(|fact| title.push_str(&format!(" · {fact}")));
    let mut lines = vec![Line::new(Style::Bold, &title)];
    if let Some((role, text)) = &parts.prompt {
        let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let head = format!("{role}: ");
        let tail = last_columns(&one_line, look.width.saturating_sub(text_columns(&head)), look.is_ascii);
        lines.push(Line::new(Style::Soft, &head).with(Style::Soft, &tail));
    }
    let texts = wrap(&parts.answer, look.width);
    let left = room.saturating_sub(lines.len());
    lines.extend(texts.iter().take(left).map(|text| Line::new(Style::Plain, text)));
    if texts.len() > left && left > 0 {
        lines.pop();
        let more = texts.len() + 1 - left;
        lines.push(Line::new(Style::Soft, &format!("({more} more lines)")));
    }
    lines.truncate(room);
    lines
}

/// A sample, taken apart as far as its form is known.
struct SampleParts {
    facts: Vec<String>,
    prompt: Option<(String, String)>,
    answer: String,
}

impl SampleParts {
    fn of(sample: &Value) -> Self {
        let Some(object) = sample.as_object() else {
            let answer = sample.as_str().map_or_else(|| sample.to_string(), str::to_owned);
            return Self { facts: Vec::new(), prompt: None, answer };
        };
        let mut parts = Self { facts: Vec::new(), prompt: None, answer: String::new() };
        for (key, value) in object {
            match (key.as_str(), value) {
                ("messages", Value::Array(messages)) => parts.take_messages(messages),
                ("prompt", Value::String(text)) => parts.prompt = Some((key.clone(), text.clone())),
                (_, Value::String(text)) if text.len() > 40 || text.contains('\n') => parts.add_text(key, text),
                (_, Value::String(text)) => parts.facts.push(format!("{key} {text}")),
                (_, Value::Number(number)) => {
                    parts.facts.push(format!("{key} {}", value_text(key, number.as_f64().unwrap_or(f64::NAN))));
                }
                (_, value) => {
                    let text = value.to_string();
                    if text.len() <= 40 {
                        parts.facts.push(format!("{key} {text}"))
                    } else {
                        parts.add_text(key, &text)
                    }
                }
            }
        }
        parts
    }

    /// What stands before the last message is the prompt; of it the end of the last message is shown.
    fn take_messages(&mut self, messages: &[Value]) {
        let text = |message: &Value, key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some((last, before)) = messages.split_last() {
            self.prompt = before.last().map(|message| (text(message, "role"), text(message, "content")));
            self.add_text(&text(last, "role"), &text(last, "content"));
        }
    }

    fn add_text(&mut self, name: &str, text: &str) {
        if !self.answer.is_empty() {
            self.answer.push('\n');
        }
        self.answer.push_str(&format!("{name}: {text}"));
    }
}

/// The end of a text, with a mark where its beginning is cut off.
fn last_columns(text: &str, width: usize, is_ascii: bool) -> String {
    if text_columns(text) <= width {
        return text.to_owned();
    }
    let mark = if is_ascii { "~" } else { "…" };
    let mut used = 1;
    let kept = text.char_indices().rev().take_while(|(_, letter)| {
        used += text_columns(letter.encode_utf8(&mut [0; 4]));
        used <= width
    });
    let start = kept.last().map_or(text.len(), |(index, _)| index);
    format!("{mark}{}", &text[start..])
}
