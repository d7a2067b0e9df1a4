//! A plan on one screen: 80 columns, about 40 lines.

use std::fmt;

use super::system::human;
use super::{FilePlan, Measured, MemoryTerm, Plan, PlannedModel};

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Bins of a histogram, and columns of its longest bar.
const BINS: usize = 6;
const BAR: usize = 40;
/// Files beside the first, and notes, that are shown; of the others there is a count.
const SHOWN: usize = 4;

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        lines.iter().try_for_each(|line| writeln!(out, "{}", cut(line)))
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "largest step, measured: {:.2} s, peak {}", self.seconds, human(self.peak))
    }
}

impl Plan {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} on {} into {}", self.method, self.device, self.run.display()), String::new()];
        lines.push("models".into());
        lines.extend(self.models.iter().map(model));
        lines.push(String::new());
        lines.push("data".into());
        lines.extend(shown(self.files.iter().map(file), SHOWN + 1, "files"));
        let lengths: Vec<usize> = self.training_files().flat_map(|file| file.lengths.iter().copied()).collect();
        if let Some(first) = self.files.first() {
            let key = first.key.split(".datasets.").next().unwrap_or_default();
            lines.push(format!("  lengths of {key} in tokens"));
            lines.extend(histogram(if lengths.is_empty() { &first.lengths } else { &lengths }));
        }
        lines.push(String::new());
        lines.extend(self.work());
        lines.push(String::new());
        lines.extend(self.memory_lines());
        lines.push(String::new());
        lines.push(self.disk_line());
        lines.extend(shown(self.notes.iter().map(|note| format!("note: {note}")), SHOWN, "notes"));
        lines
    }

    fn training_files(&self) -> impl Iterator<Item = &FilePlan> {
        self.files.iter().filter(|file| 0 < file.epoch_rows && 0 < file.kept)
    }

    fn work(&self) -> Vec<String> {
        let visited = self.steps.saturating_mul(self.per_step as u64);
        let mut lines =
            vec![format!("steps        {} of {} {} each: {visited} in all", self.steps, self.per_step, self.unit)];
        let epoch: usize = self.training_files().map(|file| file.epoch_rows).sum();
        if self.training_files().any(|file| 0 < file.trained) {
            let of_run = |count: fn(&FilePlan) -> u64| {
                let of_epoch = |file: &FilePlan| count(file) as f64 * file.epoch_rows as f64 / file.kept as f64;
                (self.training_files().map(of_epoch).sum::<f64>() * visited as f64 / epoch as f64).round()
            };
            lines.push(format!(
                "tokens       {} in the run, {} of them trained",
                short(of_run(|file| file.tokens)),
                short(of_run(|file| file.trained))
            ));
        }
        if let Some(rollout) = &self.rollout {
            lines.push(format!("sampling     {} slots, at most {} tokens a sequence", rollout.slots, rollout.longest));
        }
        lines.push(format!(
            "largest pass {} tokens, {} of them trained (micro_batch_tokens {})",
            self.largest.tokens, self.largest.labels, self.micro_batch_tokens
        ));
        lines
    }

    fn memory_lines(&self) -> Vec<String> {
        let limit = self.memory_limit.map_or("not known here".into(), human);
        let verdict = match self.memory_limit {
            Some(limit) if limit < self.memory.peak() => "DOES NOT FIT",
            Some(_) => "fits",
            None => "not checked",
        };
        let mut lines =
            vec![format!("memory       {} at the peak, {limit} available: {verdict}", human(self.memory.peak()))];
        let term = |term: &MemoryTerm| format!("  {:>9}  {}", human(term.bytes), term.name);
        lines.extend(self.memory.held.iter().map(term));
        if let Some(phase) = self.memory.largest_phase() {
            lines.push(format!("  {:>9}  {}:", human(phase.bytes()), phase.name));
            lines.extend(phase.terms.iter().map(|part| format!("  {}", term(part))));
        }
        lines
    }

    fn disk_line(&self) -> String {
        let free = self.free_disk.map_or("not known here".into(), human);
        let disk = &self.disk;
        format!(
            "disk         {} for {} checkpoints ({} each, {} while resumable), {free} free",
            human(disk.most),
            disk.kept,
            human(disk.model),
            human(disk.whole)
        )
    }
}

fn model(model: &PlannedModel) -> String {
    let (all, trained) = (model.num_parameters(), model.num_trained());
    let what = match trained {
        0 => "frozen".to_owned(),
        _ if trained == all => "all trained".to_owned(),
        _ => format!("{} trained ({:.2} %)", short(trained as f64), 100.0 * trained as f64 / all as f64),
    };
    let config = &model.config;
    let dtype = format!("{:?}", model.dtype).to_lowercase();
    format!(
        "  {:<12} {} {dtype}, {what}; {} layers of {}, {} tokens of vocabulary",
        model.role,
        short(all as f64),
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size
    )
}

fn file(file: &FilePlan) -> String {
    let dropped = if file.dropped.is_empty() { "none dropped".to_owned() } else { file.dropped.join(", ") };
    let cut = match file.report.truncated {
        0 => String::new(),
        cut => format!(", {cut} cut"),
    };
    format!("  {:<12} {} of {} rows kept ({dropped}{cut}); {}", file.key, file.kept, file.rows, file.path.display())
}

/// Bars over equal ranges of length, with counts.
fn histogram(lengths: &[usize]) -> Vec<String> {
    let (Some(&least), Some(&most)) = (lengths.iter().min(), lengths.iter().max()) else { return Vec::new() };
    let width = (most - least + 1).div_ceil(BINS).max(1);
    let bins = (most - least) / width + 1;
    let mut counts = vec![0usize; bins];
    lengths.iter().for_each(|length| counts[(length - least) / width] += 1);
    let tallest = counts.iter().copied().max().unwrap_or(1).max(1);
    let line = |(bin, &count): (usize, &usize)| {
        let (from, to) = (least + bin * width, (least + (bin + 1) * width - 1).min(most));
        // A count above 0 shows at least a little.
        let bar = "#".repeat((count * BAR).div_ceil(tallest));
        format!("  {:>13} {bar:<BAR$} {count}", format!("{from}-{to}"))
    };
    counts.iter().enumerate().map(line).collect()
}

/// The first `most` lines, and how many more there are.
fn shown(lines: impl Iterator<Item = String>, most: usize, what: &str) -> Vec<String> {
    let all: Vec<String> = lines.collect();
    let rest = all.len().saturating_sub(most);
    let mut first: Vec<String> = all.into_iter().take(most).collect();
    if 0 < rest {
        first.push(format!("  and {rest} more {what}"));
    }
    first
}

/// Numbers for people: `134.5 M`.
fn short(number: f64) -> String {
    match number {
        number if number < 1e4 => format!("{number:.0}"),
        number if number < 1e6 => format!("{:.1} k", number / 1e3),
        number if number < 1e9 => format!("{:.1} M", number / 1e6),
        number => format!("{:.2} G", number / 1e9),
    }
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.trim_end().to_owned();
    }
    let kept: String = line.chars().take(WIDTH - 3).collect();
    format!("{kept}...")
}
