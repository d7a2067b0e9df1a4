//! `docs/benchmarks.md`, made from the results; only the part between the two marks is written by people.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::jobs::{BACKWARD_BYTES, DATA_COUNTS, FIRST_BATCH, JOBS, Side, Workload};
use super::machine::ELSEWHERE;
use super::results::{JobResult, Results, Row, Spread};

/// What people write stands between these lines and outlives every run.
const KEPT_START: &str = "<!-- written by hand: cargo xtask bench keeps everything from here -->";
const KEPT_END: &str = "<!-- to here -->";

/// What the kept part holds until somebody writes it.
const KEPT_EMPTY: &str = "\n\n## Where the time goes\n\nNot written yet.\n\n";

const HEAD: &str = "# Benchmarks

Reins beside what a Python user would run: the same f32 weights (SmolLM2-135M-Instruct), the same token ids, the same
libtorch version, the same threads, one after the other in one run. This page is made by

```sh
cargo xtask bench
```

which builds the measuring program, fetches the model, installs the peer into an environment of its own, runs both in
turn and writes this page, the numbers of every repeat (`benchmarks.json`) and the picture. `cargo xtask bench --help` explains
its options. The peer's scripts are in `xtask/peers`, ours in `crates/rl-examples/src/bin/measure`.
";

/// Head of a table of comparisons.
const TABLE: &str = "| workload | unit | ours | peer | ratio | aim | |\n| --- | --- | --- | --- | --- | --- | --- |\n";

const HOW: &str = "## How it is measured

Each job is a process of its own, ours and the peer's in turn, and so again in each repeat. Both get the environment that
`.cargo/config.toml` sets for our programs, so that OpenMP's threads wait for each other in the same way.

- **decode**: greedy answers of 128 tokens to prompts of 28 to 36 tokens, end tokens ignored. A run that makes one token is
  the prefill; `decode_tokens_per_second` counts the other 127 tokens of each sequence over the rest of the time.
- **rollout**: 16 prompts x 8 samples at temperature 1, answer lengths evenly spread from 8 to 256 tokens and the same on
  both sides, end tokens ignored. `generate` ends a row at its length by a stopping criterion and goes on until its batch is
  done. Useful tokens are the sum of the wanted lengths.
- **train**: one step of full fine-tuning on 8 sequences of 32 to 512 tokens: forward, backward, clipping, AdamW, in f32, without
  gradient checkpointing. Every token but the first of each sequence is a label. A first step warms up, the second is
  timed. TRL runs as it comes, with a padded batch; the loops over plain transformers show what a careful user gets. One more
  job of ours has gradient checkpointing on.
- **memory**: the peak of the whole process as the kernel counts it (VmHWM). For the two vocabularies the peak is reset
  before each half of the step, and what the process held before the model, and 16 bytes per parameter (weight, gradient and
  two moments), are subtracted.
- **trainers**: full fine-tuning in f32 as above, by the trainers themselves, on the data of
  `xtask/peers/trainers.json` (made by `trainers_data.py` beside it). A first step warms up, and `seconds` is the
  median of the next two. SFT: the 8 sequences of 32 to 512 tokens in one batch. DPO and
  the reward model: 4 pairs with one prompt each, their 8 sequences of 32 to 512 tokens in one batch; DPO's
  reference runs beside the policy in every step. Useful tokens are those of all sequences. GRPO and RLOO: 4 prompts
  of 28 to 36 tokens x 8 answers sampled at temperature 1, lengths evenly spread from 8 to 128 and the same on both
  sides; a step is sampling, reward (the share of different ids), forward, backward and update; RLOO has a reference
  in its reward. TRL samples all 32 answers together and trains 8 at a time, an end token forced at each answer's
  length; useful tokens are those of the answers.
- **starts**: the same trainers, ended where their first step would begin: the time from the start of the process, by the
  kernel's clock, so it holds imports, weights and data. The median of five starts after one that brings the files into memory.
  Both sides make AdamW's moments in their first step, and so after the start.
- **data**: conversations made up by `crates/rl-data/examples/measure` as Parquet: read, chat template, tokens of
  SmolLM2, mask of the assistant's tokens, those above 2 048 tokens left out, packed by best-fit decreasing 1 000 at a
  time into rows of 2 048. The peer is `datasets` with transformers' fast tokenizer and TRL's packing and collator, once
  with `map` over processes, as many as threads, and once streaming in one process. Rows per second run from the reading of
  the tokenizer to the last batch; the first batch counts from the start of the process. Memory is that of all processes
  of a side: the peer's as a sampled sum of proportional shares (PSS), ours as the kernel's peak (VmHWM).
";

/// The page; `old` is the page that it replaces.
pub fn render(results: &Results, old: &str) -> String {
    let mut page = String::from(HEAD);
    let machine = &results.machine;
    let versions: Vec<String> = results.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut commands: Vec<&str> = Vec::new();
    for job in &results.jobs {
        if !commands.contains(&job.command.as_str()) {
            commands.push(&job.command);
        }
    }
    let commands: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "\nMachine: {}, {} cores ({}), {:.0} GB of memory; {} threads on both sides.\nVersions: {}.\nMade by {}.\n",
        machine.cpu,
        machine.cores,
        machine.features.join(", "),
        machine.memory_bytes as f64 / 1e9,
        results.threads,
        versions.join(", "),
        commands.join(", ")
    );
    let others = results.jobs.iter().filter_map(|job| job.values.get(ELSEWHERE)).flatten().copied().fold(0.0, f64::max);
    let _ = writeln!(page, "Other programs took at most {others:.1} cores while a job ran.");
    page += "\n## Results\n\nMedians, in brackets the lowest and the highest. The ratio says how many times better ours is than the best peer.\n\n";
    page += TABLE;
    for row in &results.rows {
        page += &comparison_line(row);
    }
    if !results.rows.is_empty() {
        page += "\n![Ratio and aim of each workload](figures/benchmarks.svg)\n";
    }
    page += &agreement(results);
    page += &memory(results);
    page += &trainers(results);
    page += &data(results);
    page += "\n";
    page += KEPT_START;
    page += kept(old).unwrap_or(KEPT_EMPTY);
    page += KEPT_END;
    page += "\n\n";
    page += HOW;
    page += "\n## Every number\n\n| side | job | what | metric | median | lowest | highest | repeats |\n";
    page += "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
    for job in JOBS {
        if let Some(result) = results.job(job.side, job.name) {
            page += &job_lines(result, job.what);
        }
    }
    page
}

/// One number of a job, for a progress line.
pub fn shown(metric: &str, values: &BTreeMap<String, f64>) -> String {
    let (unit, divisor, decimals) = unit(metric);
    values.get(metric).map_or_else(|| format!("no {metric}"), |value| format!("{:.decimals$} {unit}", value / divisor))
}

/// What stands between the marks of a page; `None` where it has none.
fn kept(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(KEPT_START)?;
    Some(rest.split_once(KEPT_END)?.0)
}

fn comparison_line(row: &Row) -> String {
    let (unit, _, _) = unit(&row.metric);
    let peer = match &row.peer {
        Some((job, spread)) => format!("{} `{job}`", ranged(&row.metric, spread)),
        None => "not run".into(),
    };
    let (ratio, verdict) = match row.ratio {
        Some(ratio) if row.aim <= ratio => (format!("{ratio:.2}x"), "reached"),
        Some(ratio) => (format!("{ratio:.2}x"), "missed"),
        None => ("-".into(), ""),
    };
    let (label, ours, aim) = (&row.label, ranged(&row.metric, &row.ours), row.aim);
    format!("| {label} | {unit} | {ours} | {peer} | {ratio} | {aim:.1}x | {verdict} |\n")
}

/// Whether both sides computed the same: greedy answers and losses.
fn agreement(results: &Results) -> String {
    let mut lines = String::new();
    let (mut equal, mut total) = (0, 0);
    for job in JOBS.iter().filter(|job| job.side == Side::Ours && job.workload == Workload::Decode) {
        let (ours, peer) = (results.job(Side::Ours, job.name), results.job(Side::Peer, job.name));
        if let (Some(ours), Some(peer)) = (ours, peer) {
            equal += ours.tokens.iter().zip(&peer.tokens).filter(|(ours, peer)| ours == peer).count();
            total += ours.tokens.len();
        }
    }
    if 0 < total {
        let _ = write!(lines, "\nGreedy answers that are equal to the last token on both sides: {equal} of {total}.\n");
    }
    let trained: Vec<&JobResult> =
        jobs_of(Workload::Train, results).into_iter().filter(|job| !job.losses.is_empty()).collect();
    if let Some((steps, widest)) = loss_difference(&trained) {
        let _ = write!(
            lines,
            "\nLosses of the {steps} training steps differ by at most {widest:.1e} between the {} jobs.\n",
            trained.len()
        );
    }
    lines
}

/// Those jobs of a workload that were run, of both sides.
fn jobs_of(workload: Workload, results: &Results) -> Vec<&JobResult> {
    let jobs = JOBS.iter().filter(|job| job.workload == workload);
    jobs.filter_map(|job| results.job(job.side, job.name)).collect()
}

/// Steps that all of `jobs` made, and the widest difference between any two losses of one step: small where all made the
/// same updates. `None` for fewer than two jobs.
fn loss_difference(jobs: &[&JobResult]) -> Option<(usize, f64)> {
    let steps = jobs.iter().map(|job| job.losses.len()).min().filter(|_| 1 < jobs.len())?;
    let width = |step: usize| {
        let losses = jobs.iter().map(|job| job.losses[step]);
        let (low, high) = losses.fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
        high - low
    };
    Some((steps, (0..steps).map(width).fold(0.0, f64::max)))
}

/// The trainers beside those of TRL, and whether both made the same updates where nothing is sampled.
fn trainers(results: &Results) -> String {
    if results.trainer_rows.is_empty() {
        return String::new();
    }
    let mut lines = format!(
        "\n## Trainers\n\nOptimizer steps of each trainer and of TRL's, the time from the start of the process to the start of the first of \
         them, and peak memory.\n\n{TABLE}"
    );
    for row in &results.trainer_rows {
        lines += &comparison_line(row);
    }
    let jobs = jobs_of(Workload::Trainers, results);
    let mut agreements = Vec::new();
    for ours in jobs.iter().filter(|job| job.side == Side::Ours.name() && !job.losses.is_empty()) {
        let both: Vec<&JobResult> = jobs.iter().filter(|job| job.name == ours.name).copied().collect();
        if let Some((_, widest)) = loss_difference(&both) {
            agreements.push(format!("`{}` {widest:.1e}", ours.name));
        }
    }
    if !agreements.is_empty() {
        let _ = write!(lines, "\nLosses of a step differ between both sides by at most: {}.\n", agreements.join(", "));
    }
    lines
}

/// Conversations to batches beside the Python libraries, and whether both made the same batches.
fn data(results: &Results) -> String {
    if results.data_rows.is_empty() {
        return String::new();
    }
    let mut lines = format!("\n## Data\n\nConversations to packed batches.\n\n{TABLE}");
    for row in &results.data_rows {
        lines += &comparison_line(row);
    }
    if let Some(first) = results.spread(Side::Ours, "data", FIRST_BATCH) {
        let (seconds, verdict) = (first.median, if first.median <= 1.0 { "reached" } else { "missed" });
        let _ =
            write!(lines, "\nOur first batch came {seconds:.2} s after the start; the aim is one second: {verdict}.\n");
    }
    let jobs = jobs_of(Workload::Data, results);
    for count in DATA_COUNTS {
        let found: Vec<String> = jobs
            .iter()
            .filter_map(|job| Some((job, Spread::of(job.values.get(count)?)?.median)))
            .map(|(job, median)| format!("{} `{}` {median}", job.side, job.name))
            .collect();
        let _ = write!(lines, "\n- {}: {}", count.replace('_', " "), found.join(", "));
    }
    lines + "\n"
}

/// The memory of a step at two vocabularies.
fn memory(results: &Results) -> String {
    let mut lines = String::new();
    for job in JOBS.iter().filter(|job| job.workload == Workload::Memory) {
        let median = |metric: &str| results.spread(job.side, job.name, metric).map(|spread| spread.median / 1e6);
        let metrics = ["state_bytes", BACKWARD_BYTES, "update_bytes_beyond_state", "one_logits_matrix_bytes"];
        if let [Some(state), Some(backward), Some(update), Some(logits)] = metrics.map(median) {
            let what = job.what;
            let _ = writeln!(lines, "| {what} | {state:.0} | {backward:.0} | {update:.0} | {logits:.0} |");
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\n## Memory and vocabulary\n\nOur training step of a decoder with 4 layers of width 256 on 2 048 tokens, in MB. The second and third \
         number are peaks beyond the first;\nthe last is what one f32 matrix of `[tokens, vocab]` would take.\n\n\
         | | weights, gradients, moments | forward and backward | clipping and update | one logits matrix |\n\
         | --- | --- | --- | --- | --- |\n{lines}"
    )
}

fn job_lines(result: &JobResult, what: &str) -> String {
    let mut lines = String::new();
    for (metric, values) in &result.values {
        if let Some(Spread { median, lowest, highest }) = Spread::of(values) {
            let (unit, divisor, decimals) = unit(metric);
            let shown = |value: f64| format!("{:.decimals$}", value / divisor);
            let (side, job, metric) = (&result.side, &result.name, metric.trim_end_matches("_bytes"));
            let (median, lowest, highest, count) = (shown(median), shown(lowest), shown(highest), values.len());
            let _ = writeln!(
                lines,
                "| {side} | `{job}` | {what} | {metric}, {unit} | {median} | {lowest} | {highest} | {count} |"
            );
        }
    }
    lines
}

fn ranged(metric: &str, spread: &Spread) -> String {
    let (_, divisor, decimals) = unit(metric);
    let shown = |value: f64| format!("{:.decimals$}", value / divisor);
    format!("{} ({} to {})", shown(spread.median), shown(spread.lowest), shown(spread.highest))
}

/// Unit for people, what to divide by, and decimals.
fn unit(metric: &str) -> (&'static str, f64, usize) {
    if metric.contains("bytes") {
        ("GB", 1e9, 2)
    } else if metric.ends_with("tokens_per_second") {
        ("tokens/s", 1.0, 1)
    } else if metric == "rows_per_second" {
        ("rows/s", 1.0, 0)
    } else if metric == ELSEWHERE {
        ("cores", 1.0, 2)
    } else if metric.ends_with("seconds") {
        ("s", 1.0, 2)
    } else {
        ("count", 1.0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::machine::Machine;
    use crate::bench::results::Measured;

    fn results() -> Results {
        let features = vec!["avx2".into(), "fma".into()];
        let machine = Machine { cpu: "Some CPU".into(), cores: 2, features, memory_bytes: 24_000_000_000 };
        let mut results = Results::new(machine, 2);
        let lines = [
            (
                Side::Ours,
                "decode-1",
                r#"{"decode_tokens_per_second": 20.0, "cores_taken_by_others": 0.06}"#,
                r#""tokens": [[1, 2]]"#,
            ),
            (
                Side::Ours,
                "decode-1",
                r#"{"decode_tokens_per_second": 24.0, "cores_taken_by_others": 0.21}"#,
                r#""tokens": [[1, 2]]"#,
            ),
            (Side::Peer, "decode-1", r#"{"decode_tokens_per_second": 10.0}"#, r#""tokens": [[1, 2]]"#),
            (Side::Ours, "decode-8", r#"{"decode_tokens_per_second": 90.0}"#, r#""tokens": [[1, 2], [3, 4]]"#),
            (Side::Peer, "decode-8", r#"{"decode_tokens_per_second": 75.0}"#, r#""tokens": [[1, 2], [3, 5]]"#),
            (Side::Ours, "decode-32", r#"{"decode_tokens_per_second": 200.25}"#, r#""tokens": []"#),
            (
                Side::Ours,
                "train-micro-512",
                r#"{"useful_tokens_per_second": 150.0, "peak_bytes": 4e9}"#,
                r#""losses": [4.5, 4.25]"#,
            ),
            (
                Side::Peer,
                "train-trl",
                r#"{"useful_tokens_per_second": 50.0, "peak_bytes": 14e9}"#,
                r#""losses": [4.5, 4.25025]"#,
            ),
            (
                Side::Ours,
                "memory-8k",
                r#"{"state_bytes": 80e6, "backward_bytes_beyond_state": 300e6, "update_bytes_beyond_state": 20e6, "one_logits_matrix_bytes": 67e6}"#,
                r#""losses": []"#,
            ),
        ];
        let trainers = [
            (Side::Ours, r#"{"useful_tokens_per_second": 160.0}"#, r#""losses": [0.75, 0.5]"#),
            (Side::Peer, r#"{"useful_tokens_per_second": 64.0}"#, r#""losses": [0.75, 0.625]"#),
        ];
        let trainers = trainers.map(|(side, values, more)| (side, "trainer-dpo", values, more));
        let data = [
            (Side::Ours, "data", r#"{"rows_per_second": 900.4, "first_batch_seconds": 0.25, "rows": 10}"#),
            (Side::Peer, "data", r#"{"rows_per_second": 300.0, "first_batch_seconds": 20.0, "rows": 10}"#),
            (Side::Peer, "data-streaming", r#"{"rows_per_second": 200.0, "first_batch_seconds": 5.0, "rows": 10}"#),
        ];
        let starts = [
            (Side::Ours, "start-dpo", r#"{"start_seconds": 0.5}"#),
            (Side::Peer, "start-dpo", r#"{"start_seconds": 8.0}"#),
        ];
        let data = data.into_iter().chain(starts).map(|(side, name, values)| (side, name, values, r#""losses": []"#));
        for (side, name, values, more) in lines.into_iter().chain(trainers).chain(data) {
            let line = format!(r#"{{"values": {values}, {more}, "versions": {{"torch": "2.11.0"}}}}"#);
            results.add(side, name, "cargo xtask bench", Measured::from_output(&line).unwrap());
        }
        results.compare();
        results
    }

    fn lines_with<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
        page.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[test]
    fn the_tables_hold_the_numbers() {
        let page = render(&results(), "");
        assert_eq!(
            lines_with(&page, "| decode, "),
            [
                "| decode, batch 1 | tokens/s | 22.0 (20.0 to 24.0) | 10.0 (10.0 to 10.0) `decode-1` | 2.20x | 1.5x | reached |",
                "| decode, batch 8 | tokens/s | 90.0 (90.0 to 90.0) | 75.0 (75.0 to 75.0) `decode-8` | 1.20x | 1.8x | missed |",
                "| decode, batch 32 | tokens/s | 200.2 (200.2 to 200.2) | not run | - | 2.0x |  |",
            ]
        );
        assert_eq!(
            lines_with(&page, "| training "),
            [
                "| training step | tokens/s | 150.0 (150.0 to 150.0) | 50.0 (50.0 to 50.0) `train-trl` | 3.00x | 3.0x | reached |",
                "| training step, peak memory | GB | 4.00 (4.00 to 4.00) | 14.00 (14.00 to 14.00) `train-trl` | 3.50x | 2.0x | reached |",
            ]
        );
        assert_eq!(
            lines_with(&page, "| DPO"),
            [
                "| DPO step | tokens/s | 160.0 (160.0 to 160.0) | 64.0 (64.0 to 64.0) `trainer-dpo` | 2.50x | 3.0x | missed |",
                "| DPO, start | s | 0.50 (0.50 to 0.50) | 8.00 (8.00 to 8.00) `start-dpo` | 16.00x | 5.0x | reached |",
            ]
        );
        assert_eq!(
            lines_with(&page, "| chat rows"),
            [
                "| chat rows | rows/s | 900 (900 to 900) | 300 (300 to 300) `data` | 3.00x | 3.0x | reached |",
                "| chat rows, first batch | s | 0.25 (0.25 to 0.25) | 5.00 (5.00 to 5.00) `data-streaming` | 20.00x | 5.0x | reached |",
            ]
        );
        assert_eq!(
            lines_with(&page, "Our first batch"),
            ["Our first batch came 0.25 s after the start; the aim is one second: reached."]
        );
        assert_eq!(lines_with(&page, "- rows"), ["- rows: ours `data` 10, peer `data` 10, peer `data-streaming` 10"]);
        assert_eq!(lines_with(&page, "| vocabulary"), ["| vocabulary 8 192 | 80 | 300 | 20 | 67 |"]);
        assert_eq!(
            lines_with(&page, "| peer | `train-trl`"),
            [
                "| peer | `train-trl` | TRL's SFTTrainer, padded batch of 8 | peak, GB | 14.00 | 14.00 | 14.00 | 1 |",
                "| peer | `train-trl` | TRL's SFTTrainer, padded batch of 8 | useful_tokens_per_second, tokens/s | 50.0 | 50.0 | 50.0 | 1 |",
            ]
        );
    }

    #[test]
    fn the_page_says_where_and_whether_both_sides_agree() {
        let page = render(&results(), "");
        for expected in [
            "Machine: Some CPU, 2 cores (avx2, fma), 24 GB of memory; 2 threads on both sides.\n",
            "Versions: torch 2.11.0.\nMade by `cargo xtask bench`.\n",
            "Other programs took at most 0.2 cores while a job ran.\n",
            "Greedy answers that are equal to the last token on both sides: 2 of 3.\n",
            "Losses of the 2 training steps differ by at most 2.5e-4 between the 2 jobs.\n",
            "Losses of a step differ between both sides by at most: `trainer-dpo` 1.2e-1.\n",
        ] {
            assert!(page.contains(expected), "{expected}\n{page}");
        }
    }

    #[test]
    fn what_people_wrote_outlives_a_run() {
        let first = render(&results(), "");
        assert!(first.contains("Not written yet."));
        let edited = first.replace("Not written yet.", "In the matrix products.").replace("| decode", "| tampered");
        let second = render(&results(), &edited);
        assert_eq!(second, first.replace("Not written yet.", "In the matrix products."));
        assert_eq!(render(&results(), &second), second);
    }

    #[test]
    fn a_progress_line_has_a_unit() {
        let values = BTreeMap::from([("peak_bytes".to_string(), 1.5e9), ("seconds".to_string(), 2.0)]);
        assert_eq!(shown("peak_bytes", &values), "1.50 GB");
        assert_eq!(shown("seconds", &values), "2.00 s");
        assert_eq!(shown("useful_tokens_per_second", &values), "no useful_tokens_per_second");
    }
}
