//! The page, from top to bottom.

use rl_eval::{Proportion, Summary};
use rl_track::html::Report;

use super::charts;
use super::config::ReportConfig;
use super::numbers::{Comparison, Numbers, PreferenceRun, StageNumbers};
use crate::report::runs::{self, Column};
use crate::report::words::{interval, p_value, percent, percent_interval, signed, unbroken};

/// Transcripts per stage.
const TRANSCRIPTS: usize = 6;

/// The whole page.
pub(super) fn page(config: &ReportConfig, evaluation: &Summary, numbers: &Numbers) -> Report {
    let figures = charts::all(numbers);
    let figure = |report: &mut Report, name: &str, caption: &str| {
        if let Some((_, svg)) = figures.iter().find(|(found, _)| *found == name) {
            report.figure(svg, caption);
        }
    };
    let mut report = Report::new(&numbers.title);
    report.paragraph(
        "A small language model is asked short questions with a demand on the form of the answer, such as two sentences, three \
         bullet points or a word to use. Whether an answer obeys is checked exactly. It is fine-tuned (SFT) on answers that \
         obey; a reward model learns to tell them from answers that come close; DPO learns from the same pairs; RLOO \
         samples answers and learns from their rewards. The instructions below were never trained on.",
    );
    report.list(&numbers.notes);
    report.heading("Obedience on held-out instructions");
    figure(&mut report, "obedience", "Greedy answers; whiskers are 95 % Wilson intervals.");
    stages(&mut report, numbers);
    figure(&mut report, "obedience-by-kind", "The same by kind of constraint; whiskers are 95 % Wilson intervals.");
    comparisons(&mut report, &numbers.comparisons);
    report.heading("Supervised fine-tuning");
    figure(&mut report, "sft-loss", "Mean negative log-likelihood of target tokens, on the step's batch and held out.");
    report.heading("Preferences");
    figure(&mut report, "preferences", "Of each step's pairs, before its update.");
    preferences(&mut report, numbers);
    report.heading("Reinforcement learning");
    figure(&mut report, "rl-reward", "Each run by its own reward; the two scales have nothing to do with each other.");
    figure(&mut report, "rl-obedience", "By the exact verdict, whatever the run's reward is.");
    figure(&mut report, "rl-kl", "Mean over sampled tokens of log-probability less that of the SFT policy.");
    figure(&mut report, "rl-length", "Mean length of the step's answers.");
    reinforcement(&mut report, numbers);
    transcripts(&mut report, config, evaluation);
    runs::provenance(&mut report, &numbers.provenance, &numbers.timing);
    report
}

fn stages(report: &mut Report, numbers: &Numbers) {
    let row = |stage: &StageNumbers| {
        let outcome = |name: &str| stage.outcomes.get(name).copied().unwrap_or(0).to_string();
        vec![
            stage.label.clone(),
            interval(&stage.obedience),
            outcome("violated"),
            outcome("off_topic"),
            outcome("empty"),
            format!("{:.1}", stage.answer_length.mean_tokens),
            format!("{:.1}", 100.0 * stage.answer_length.truncated.rate),
            stage.model_reward.map_or("–".into(), signed_2),
        ]
    };
    let headers =
        ["stage", "obeyed (%)", "violated", "off topic", "empty", "tokens per answer", "cut off (%)", "reward model"];
    report.table(&headers, &numbers.stages.iter().map(row).collect::<Vec<_>>());
    report.note(&format!(
        "{} instructions. \"Reward model\": mean of its outputs, which are only good for comparison.",
        numbers.num_tasks
    ));
}

fn comparisons(report: &mut Report, comparisons: &[Comparison]) {
    report.subheading("Task by task");
    let row = |Comparison { test, win_rate }: &Comparison| {
        let dash = || "–".to_owned();
        vec![
            test.before.clone(),
            test.after.clone(),
            unbroken(&format!(
                "{} [{}, {}]",
                signed(100.0 * test.difference),
                signed(100.0 * test.difference_low),
                signed(100.0 * test.difference_high)
            )),
            test.only_before.to_string(),
            test.only_after.to_string(),
            p_value(test.mid_p),
            win_rate.map_or_else(dash, |rate| {
                format!("{:.1} ± {:.1}", 100.0 * rate.probability, 100.0 * rate.standard_error)
            }),
            win_rate.map_or_else(dash, |rate| format!("{} / {} / {}", rate.wins, rate.ties, losses(&rate))),
        ]
    };
    let headers = [
        "before",
        "after",
        "difference (points)",
        "only before",
        "only after",
        "mid-p",
        "win rate (%)",
        "win / tie / loss",
    ];
    report.table(&headers, &comparisons.iter().map(row).collect::<Vec<_>>());
    report.note(
        "Difference of obedience with a 95 % interval, instructions that only one of the two obeys, and McNemar's mid-p. Win \
         rate: mean probability, under the reward model, that the later answer is preferred, with its standard error. A \
         policy trained on that reward model is expected to win by it; its obedience says whether it should.",
    );
}

fn losses(rate: &rl_eval::WinRate) -> u64 {
    rate.num_tasks - rate.wins - rate.ties
}

fn preferences(report: &mut Report, numbers: &Numbers) {
    let mut rows = Vec::new();
    let runs: [(&str, &PreferenceRun); 2] =
        [("reward model", &numbers.reward_model), ("DPO's implicit reward", &numbers.dpo)];
    for (label, run) in runs {
        for (split, pairs) in &run.held_out {
            rows.push(vec![
                label.to_owned(),
                split.replace('_', " "),
                pairs.accuracy.trials.to_string(),
                interval(&pairs.accuracy),
                signed_2(pairs.margin),
            ]);
        }
    }
    report.table(&["ranked by", "pairs", "count", "ranked rightly (%)", "mean margin"], &rows);
}

fn reinforcement(report: &mut Report, numbers: &Numbers) {
    let columns = [
        Column::new("reward", "reward_mean", 3),
        Column::new("obeyed", "success_rate", 3),
        Column::new("KL", "ref_kl", 4),
        Column::new("tokens", "response_tokens_per_turn", 1),
        Column::new("cut off", "truncated_fraction", 3),
        Column::new("advantage 0", "zero_advantage_fraction", 3),
        Column::new("gradient norm", "grad_norm", 3),
    ];
    runs::table(report, numbers.rl.iter().map(|(label, run)| (label.as_str(), run)), &columns);
    report.note("Obedience is that of sampled training answers.");
}

fn transcripts(report: &mut Report, config: &ReportConfig, evaluation: &Summary) {
    report.heading("Answers");
    for stage in &config.stages {
        let found = evaluation.evaluation(&stage.model);
        let Some(result) = found.and_then(|found| found.result(&config.split, &config.decoding)) else { continue };
        report.subheading(&stage.label);
        for transcript in result.transcripts.iter().take(TRANSCRIPTS) {
            let messages = transcript.messages.iter();
            let turns: Vec<(&str, &str)> =
                messages.map(|message| (message.role.as_str(), message.content.as_str())).collect();
            let outcome = transcript.outcomes.join(", ").replace('_', " ");
            report.transcript(&format!("task {}: {outcome}", transcript.task), &turns);
        }
    }
}

/// One line per stage for the terminal.
pub(super) fn lines(numbers: &Numbers) -> Vec<String> {
    let mut lines: Vec<String> = numbers
        .stages
        .iter()
        .map(|stage| {
            let reward =
                stage.model_reward.map_or(String::new(), |reward| format!("  reward model {}", signed_2(reward)));
            format!("{:<28} obeys {}{reward}", stage.label, percent_interval(&stage.obedience))
        })
        .collect();
    let accuracy = |run: &PreferenceRun| {
        let shares: Vec<String> =
            run.held_out.values().map(|pairs: &super::PairAccuracy| share(&pairs.accuracy)).collect();
        shares.join(", ")
    };
    lines.push(format!("{:<28} ranks rightly {}", "reward model", accuracy(&numbers.reward_model)));
    lines.push(format!("{:<28} ranks rightly {}", "DPO's implicit reward", accuracy(&numbers.dpo)));
    lines
}

fn share(share: &Proportion) -> String {
    format!("{} of {} held-out pairs", percent(share.rate), share.trials)
}

/// Two decimals and always a sign.
fn signed_2(value: f64) -> String {
    format!("{value:+.2}").replace('-', "−")
}
