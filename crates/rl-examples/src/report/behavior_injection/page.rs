//! The page, from top to bottom.

use rl_eval::{GainDifference, PairedTest, Summary};
use rl_track::html::Report;

use super::charts;
use super::config::ReportConfig;
use super::numbers::{ModelNumbers, Numbers, SplitNumbers, VariantNumbers};
use crate::report::runs::{self, Column};
use crate::report::words::{interval, p_value, percent, signed, unbroken};

/// Transcripts per model and split.
const TRANSCRIPTS: usize = 2;

/// The whole page.
pub(super) fn page(config: &ReportConfig, evaluation: &Summary, numbers: &Numbers) -> Report {
    let figures = charts::all(numbers);
    let figure = |report: &mut Report, name: &str, caption: &str| {
        if let Some((_, svg)) = figures.iter().find(|(found, _)| found == name) {
            report.figure(svg, caption);
        }
    };
    let mut report = Report::new(&numbers.title);
    report.paragraph(
        "A language model learns grade-school word problems with exact answers (iGSM). It is first fine-tuned (SFT) on \
         solutions of the same problems written in different ways: plain steps; other orders of the problem (PP-Aug) or of \
         the solution (RC-Aug); or with behaviours written in, such as naming the next subgoal, looking up what it needs and \
         noticing that something is not known yet (BRIDGE). Each is then trained further by group-relative policy optimisation \
         (GRPO) on whether its answer is right, with the same settings and problems. The question is after which of them \
         this reinforcement learning (RL) gains most.",
    );
    report.list(&numbers.notes);
    report.heading("Findings");
    report.list(findings(numbers));
    for split in &numbers.splits {
        report.heading(&format!("Accuracy, {}", split.label));
        let caption = "Greedy first answers to the same problems; whiskers are 95 % Wilson intervals.";
        figure(&mut report, &format!("accuracy-{}", split.split), caption);
        accuracies(&mut report, numbers.num_tasks, split);
    }
    report.heading("Gain from reinforcement learning");
    figure(
        &mut report,
        "gains",
        "Accuracy after RL less accuracy before it; whiskers are 95 % intervals of paired differences.",
    );
    gains(&mut report, numbers);
    report.heading("Training");
    figure(
        &mut report,
        "sft-loss",
        "Mean negative log-likelihood of target tokens on the step's batch, before its update.",
    );
    figure(&mut report, "rl-accuracy", "Share of the step's sampled answers that are right.");
    figure(
        &mut report,
        "rl-uninformative",
        "Where all answers to a problem are right or all are wrong, no answer has an advantage and the problem teaches nothing.",
    );
    figure(&mut report, "rl-length", "Mean length of the step's answers.");
    figure(&mut report, "rl-entropy", "Mean over the step's sampled tokens.");
    let columns = [
        Column::new("right", "success_rate", 3),
        Column::new("no advantage", "zero_advantage_fraction", 3),
        Column::new("tokens", "response_tokens_per_turn", 1),
        Column::new("cut off", "truncated_fraction", 3),
        Column::new("entropy", "entropy", 3),
        Column::new("KL", "ref_kl", 4),
        Column::new("gradient norm", "grad_norm", 3),
    ];
    runs::table(&mut report, numbers.variants.iter().map(|variant| (variant.label.as_str(), &variant.rl)), &columns);
    transcripts(&mut report, config, evaluation);
    runs::provenance(&mut report, &numbers.provenance, &numbers.timing);
    report
}

fn accuracies(report: &mut Report, num_tasks: u64, split: &SplitNumbers) {
    let row = |label: &str, model: &ModelNumbers| {
        vec![
            label.to_owned(),
            interval(&model.accuracy),
            model.nonzero_accuracy.as_ref().map_or("–".into(), interval),
            model.process_accuracy.as_ref().map_or("–".into(), interval),
            format!("{:.1}", 100.0 * model.no_answer.rate),
            format!("{:.1}", model.answer_length.mean_tokens),
            format!("{:.1}", 100.0 * model.answer_length.truncated.rate),
        ]
    };
    let mut rows = vec![row("before SFT", &split.base)];
    for variant in &split.variants {
        rows.push(row(&format!("{}, SFT", variant.label), &variant.sft));
        rows.push(row(&format!("{}, RL", variant.label), &variant.rl));
    }
    let headers = [
        "model",
        "right (%)",
        "right where the answer is not 0 (%)",
        "every step right (%)",
        "no answer (%)",
        "tokens",
        "cut off (%)",
    ];
    report.table(&headers, &rows);
    let zero = split.always_zero.as_ref();
    let zero =
        zero.map_or(String::new(), |zero| format!(" Answering 0 to every one would get {} right.", percent(zero.rate)));
    report.note(&format!("{num_tasks} problems that were never trained on.{zero}"));
}

fn gains(report: &mut Report, numbers: &Numbers) {
    let mut rows = Vec::new();
    for split in &numbers.splits {
        for VariantNumbers { label, gain, beyond_first, .. } in &split.variants {
            rows.push(vec![
                split.label.clone(),
                label.clone(),
                gain_in_points(gain),
                gain.only_before.to_string(),
                gain.only_after.to_string(),
                p_value(gain.mid_p),
                beyond_first.as_ref().map_or("–".into(), difference_in_points),
            ]);
        }
    }
    let first = numbers.variants.first().map_or("", |variant| variant.label.as_str());
    let beyond = format!("beyond {first} (points)");
    report.table(&["problems", "data", "gain (points)", "lost", "won", "mid-p", &beyond], &rows);
    report.note(
        "Differences with 95 % intervals. Lost and won: problems that only the model before RL or only the one after it answers \
         rightly; mid-p is McNemar's. The last column is a difference of two gains on the same problems.",
    );
}

/// What the numbers say of the question, one sentence each.
fn findings(numbers: &Numbers) -> Vec<String> {
    let mut findings = Vec::new();
    let first = numbers.variants.first().map_or("", |variant| variant.label.as_str());
    for split in &numbers.splits {
        for variant in &split.variants {
            let Some(beyond) = &variant.beyond_first else { continue };
            let verdict = match (beyond.is_decided(), 0.0 < beyond.difference) {
                (false, _) => "RL gains neither decidably more nor less",
                (true, true) => "RL gains more",
                (true, false) => "RL gains less",
            };
            findings.push(unbroken(&format!(
                "{}: after {} {verdict} than after {first}: {} against {} points; the difference is {}.",
                split.label,
                variant.label,
                signed(100.0 * variant.gain.difference),
                signed(100.0 * split.variants[0].gain.difference),
                difference_in_points(beyond),
            )));
        }
    }
    findings
}

fn gain_in_points(test: &PairedTest) -> String {
    points([test.difference, test.difference_low, test.difference_high])
}

fn difference_in_points(difference: &GainDifference) -> String {
    points([difference.difference, difference.low, difference.high])
}

fn points(values: [f64; 3]) -> String {
    let [middle, low, high] = values.map(|value| signed(100.0 * value));
    unbroken(&format!("{middle} [{low}, {high}]"))
}

fn transcripts(report: &mut Report, config: &ReportConfig, evaluation: &Summary) {
    report.heading("Answers");
    let mut models = vec![("before SFT".to_owned(), config.base.as_str())];
    for variant in &config.variants {
        models.push((format!("{}, SFT", variant.label), &variant.sft.model));
        models.push((format!("{}, RL", variant.label), &variant.rl.model));
    }
    for (label, model) in models {
        for split in &config.splits {
            let found = evaluation.evaluation(model);
            let Some(result) = found.and_then(|found| found.result(&split.name, &config.decoding)) else { continue };
            report.subheading(&format!("{label}: {}", split.label));
            for transcript in result.transcripts.iter().take(TRANSCRIPTS) {
                let messages = transcript.messages.iter();
                let turns: Vec<(&str, &str)> =
                    messages.map(|message| (message.role.as_str(), message.content.as_str())).collect();
                let outcome = transcript.outcomes.join(", ").replace('_', " ");
                report.transcript(&format!("problem {}: {outcome}", transcript.task), &turns);
            }
        }
    }
}

/// One line per model and split, and the findings, for the terminal.
pub(super) fn lines(numbers: &Numbers) -> Vec<String> {
    let mut lines = Vec::new();
    for split in &numbers.splits {
        lines.push(format!("{}: before SFT {}", split.label, interval(&split.base.accuracy)));
        for VariantNumbers { label, sft, rl, gain, .. } in &split.variants {
            let (sft, rl) = (interval(&sft.accuracy), interval(&rl.accuracy));
            lines.push(format!("  {label:<10} SFT {sft}  RL {rl}  gain {}", gain_in_points(gain)));
        }
    }
    lines.extend(findings(numbers));
    lines
}
