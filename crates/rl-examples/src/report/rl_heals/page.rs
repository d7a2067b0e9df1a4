//! The page, from top to bottom: what was found, on what it rests, and how to repeat it.

use rl_analysis::figures::figures;
use rl_eval::{SplitResult, Transcript};
use rl_track::html::Report;

use super::charts;
use super::claims::{self, Claim};
use super::config::ReportConfig;
use super::game::Game;
use super::inputs::Inputs;
use super::numbers::{Numbers, StageNumbers};
use super::weights::{degrees, small_percent};
use crate::report::words::{interval, percent, percent_interval, unbroken};

/// Transcripts of each kind (solved, not solved) per stage and split.
const TRANSCRIPTS: usize = 2;
/// Outcome of an answer that solves its task.
const CORRECT: &str = "correct";

/// The whole page.
pub(super) fn page(config: &ReportConfig, inputs: &Inputs, numbers: &Numbers) -> Report {
    let mut report = Report::new(&numbers.title);
    introduction(&mut report, config, inputs, numbers);
    verdicts(&mut report, numbers);
    stages(&mut report, config, inputs, numbers);
    fine_tuning(&mut report, config, inputs, numbers);
    reinforcement(&mut report, inputs, numbers);
    transcripts(&mut report, config, inputs);
    weight_section(&mut report, inputs, numbers);
    provenance(&mut report, inputs, numbers);
    report
}

fn introduction(report: &mut Report, config: &ReportConfig, inputs: &Inputs, numbers: &Numbers) {
    let task = inputs.game.task();
    report.paragraph(&inputs.game.introduction());
    let headline = &numbers.headline;
    let mut found = format!(
        "At the end of SFT the model solves {} of {} new ID {task}s at the first attempt ({} decoding, 95 % \
         Wilson interval).",
        percent_interval(&headline.first_attempt),
        headline.first_attempt.trials,
        config.decoding
    );
    // Only cards have values.
    if let (Some(seen), Game::GeneralPoints(_)) = (&headline.seen_in_training, &inputs.game) {
        found.push_str(&format!(
            " The card values of {} of these hands stood in the training data, in some order.",
            percent(seen.rate)
        ));
        match &headline.first_attempt_unseen {
            Some(unseen) => found.push_str(&format!(
                " Of the {} hands with unseen values it solves {}.",
                unseen.trials,
                percent_interval(unseen)
            )),
            None => found.push_str(" No hand had unseen values, so success on unseen values was not measured."),
        }
    }
    report.paragraph(&unbroken(&found));
    if !numbers.scaled_down.is_empty() {
        report.subheading("What is scaled down");
        report.list(&numbers.scaled_down);
    }
}

fn verdicts(report: &mut Report, numbers: &Numbers) {
    report.heading("What showed and what did not");
    report.paragraph(&claims::paragraph(&numbers.claims));
    let row = |claim: &Claim| {
        [claim.id, claim.statement, claim.verdict.label(), &unbroken(&claim.evidence)].map(str::to_owned).into()
    };
    let rows: Vec<Vec<String>> = numbers.claims.iter().map(row).collect();
    report.table(&["", "claim", "verdict", "numbers"], &rows);
}

fn stages(report: &mut Report, config: &ReportConfig, inputs: &Inputs, numbers: &Numbers) {
    let task = inputs.game.task();
    report.heading(&format!("The stages on new {task}s"));
    let (chosen, played) = (numbers.provenance.selection_seed, numbers.provenance.final_seed);
    let note = if chosen == played {
        format!(
            "Careful: these are the {task}s on which the best checkpoint was chosen (seed {played}), which flatters it \
             in every comparison below."
        )
    } else {
        format!(
            "All stages play the same {} {task}s per split (seed {played}). The best checkpoint was chosen on other \
             {task}s (seed {chosen}), so its lead here is not one of luck in choosing. Whiskers and brackets are 95 % \
             Wilson intervals.",
            inputs.final_evaluation.num_tasks
        )
    };
    report.paragraph(&note);
    report.figure(
        &charts::stages(config, numbers).to_svg(),
        "First-attempt success before SFT, at the two SFT checkpoints, and after RL from each of them.",
    );
    let attempts = numbers.stages.iter().map(|stage| stage.max_attempts).max().unwrap_or(1);
    let within = format!("within {attempts} attempts");
    let headers = [
        "stage",
        "split",
        "decoding",
        "first attempt",
        within.as_str(),
        "unseen values",
        "values seen",
        "format errors",
    ];
    // Only cards have values and formulas.
    let num_columns = if inputs.game.format_error().is_some() { headers.len() } else { headers.len() - 3 };
    let rows: Vec<Vec<String>> = numbers.stages.iter().map(|stage| stage_row(stage)[..num_columns].to_vec()).collect();
    report.table(&headers[..num_columns], &rows);
    report.note(match inputs.game {
        Game::GeneralPoints(_) => {
            "In percent. \"Unseen values\": first-attempt success on hands whose multiset of card values does not stand in \
             the SFT data; \"values seen\": share of the other hands. \"Format errors\": graded answers without a usable \
             formula."
        }
        Game::Virl(_) => {
            "In percent. On whole walks, \"first attempt\": no point of the walk took a second attempt; otherwise: no point \
             was given up."
        }
    });
}

fn stage_row(stage: &StageNumbers) -> Vec<String> {
    let dash = || "–".to_owned();
    vec![
        stage.stage.clone(),
        stage.split.clone(),
        stage.decoding.clone(),
        interval(&stage.first_attempt),
        interval(&stage.within_attempts),
        stage.first_attempt_unseen.as_ref().map_or_else(dash, interval),
        stage.seen_in_training.as_ref().map_or_else(dash, |share| format!("{:.1}", 100.0 * share.rate)),
        stage.format_errors.as_ref().map_or_else(dash, |share| format!("{:.1}", 100.0 * share.rate)),
    ]
}

fn fine_tuning(report: &mut Report, config: &ReportConfig, inputs: &Inputs, numbers: &Numbers) {
    let task = inputs.game.task();
    report.heading("Supervised fine-tuning");
    report.figure(
        &charts::accuracy(config, numbers).to_svg(),
        &format!(
            "{} fixed {task}s per split, {} decoding, one attempt; bands are 95 % Wilson intervals. Step 0 is the model \
             before SFT. The best OOD checkpoint ({}) is the highest of many, so its height on these {task}s is \
             flattered.",
            inputs.sft_evaluation.num_tasks, config.decoding, numbers.sft.best
        ),
    );
    if !numbers.sft.held_out_loss.is_empty() {
        report.figure(
            &charts::held_out_loss(config, numbers).to_svg(),
            &format!(
                "Mean negative log-likelihood of expert answers to held-out {task}s. If the loss located the OOD peak, \
                 the markers would stand together."
            ),
        );
    }
    if inputs.game.format_error().is_some() {
        report.figure(
            &charts::format_errors(config, numbers).to_svg(),
            "Share of answers from which no formula could be read, on the same hands; bands are 95 % Wilson intervals.",
        );
    }
}

fn reinforcement(report: &mut Report, inputs: &Inputs, numbers: &Numbers) {
    report.heading("Reinforcement learning");
    let mut figure = |title: &str, y_label: &str, metric: &str, scale: f64, caption: &str| {
        if numbers.rl.values().any(|run| run.curves.contains_key(metric)) {
            report.figure(&charts::rl_curves(numbers, title, y_label, metric, scale).to_svg(), caption);
        }
    };
    figure(
        "Mean reward by RL step",
        "reward per episode",
        "reward_mean",
        1.0,
        "Of the sampled ID episodes of each step.",
    );
    figure(
        "Success while sampling, by RL step",
        "first-attempt success (%)",
        "first_attempt_success_rate",
        100.0,
        "First-attempt success of the sampled ID episodes of each step.",
    );
    let cell = |value: Option<&f64>, digits: usize| value.map_or("–".to_owned(), |value| format!("{value:.digits$}"));
    let mut rows = Vec::new();
    for (key, label) in charts::STARTS {
        let Some(run) = numbers.rl.get(key) else { continue };
        for (when, values) in [("first steps", &run.first_steps), ("last steps", &run.last_steps)] {
            let names = [
                ("reward_mean", 3),
                ("first_attempt_success_rate", 3),
                ("success_rate", 3),
                ("clip_fraction", 4),
                ("approx_kl", 5),
                ("grad_norm", 3),
            ];
            let numbers = names.map(|(name, digits)| cell(values.get(name), digits));
            rows.push([vec![label.to_owned(), when.to_owned()], numbers.into()].concat());
        }
    }
    let headers =
        ["RL run", "mean over", "reward", "first attempt", "success", "clip fraction", "approx. KL", "grad norm"];
    report.table(&headers, &rows);
    report.note("Means over the first and the last 5 steps of each run.");

    report.subheading("Advantages");
    report.figure(
        &charts::advantages(inputs).to_svg(),
        "Advantages of the first rollout of each run, one per answer or episode, before whitening and before any \
         update: a fresh value head, where there is one, says 0 everywhere.",
    );
    let mut rows = Vec::new();
    for (key, label) in charts::STARTS {
        let Some(run) = numbers.rl.get(key) else { continue };
        for (what, shape) in [("advantages", &run.advantages), ("episode rewards", &run.rewards)] {
            let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
            rows.push(vec![
                label.to_owned(),
                what.to_owned(),
                shape.count.to_string(),
                format!("{:.3}", shape.mean),
                format!("{:.3}", shape.std),
                number(shape.skewness),
                number(shape.excess_kurtosis),
                format!("{:.1}", 100.0 * shape.share_positive),
            ]);
        }
    }
    report.table(&["RL run", "numbers", "count", "mean", "std", "skewness", "excess kurtosis", "above 0 (%)"], &rows);
}

fn weight_section(report: &mut Report, inputs: &Inputs, numbers: &Numbers) {
    report.heading("Weights");
    let weights = &numbers.weights;
    report.paragraph(
        "Base is the best OOD checkpoint, target the end of SFT, other the end of RL from there. Angles lie between \
         the leading singular subspaces; they say something only where they leave the null bands.",
    );
    let pairs =
        [("SFT: base to target", &weights.sft), ("RL: target to other", &weights.rl), ("base to other", &weights.both)];
    let share = |share: Option<f64>| share.map_or("–".to_owned(), percent);
    let row = |(label, pair): (&str, &super::weights::PairNumbers)| {
        vec![
            label.to_owned(),
            small_percent(pair.relative_update),
            small_percent(pair.sigma_drift),
            degrees(Some(pair.angle)),
            degrees(pair.rounding_angle),
            degrees(pair.independent_angle),
            share(pair.share_above_rounding),
            share(pair.share_unrelated),
        ]
    };
    let headers = [
        "pair",
        "size of update",
        "drift of σ",
        "mean angle",
        "rounding null up to",
        "unrelated from",
        "above rounding",
        "unrelated",
    ];
    report.table(&headers, &pairs.map(row));
    let flagged: Vec<String> =
        weights.fresh_init_flagged.iter().map(|(role, count)| format!("{role} {count}")).collect();
    report.note(&format!(
        "{} matrices. Size of update: Frobenius norm over that of the weights. Drift: mean relative change of a \
         singular value. The last two columns are shares of matrix sides. Matrices that look freshly initialised: {}.",
        weights.sft.matrices,
        flagged.join(", ")
    ));
    let mut projection = String::new();
    for figure in figures(&inputs.comparison) {
        let (stem, text) = caption(&figure.name);
        if stem != projection {
            report.subheading(stem);
            projection = stem.to_owned();
        }
        report.figure(&figure.svg, text);
    }
}

/// The projection that a figure of the comparison is about, and what kind of chart it is, from its name.
fn caption(name: &str) -> (&str, &str) {
    let kinds = [
        ("-spectrum", "Singular values of the three checkpoints."),
        ("-shift", "Change of each singular value."),
        ("-angles-left", "Principal angles between checkpoints, output side, with 90 % bands of the null models."),
        ("-angles-right", "Principal angles between checkpoints, input side, with 90 % bands of the null models."),
        ("-update-left", "Principal angles between the updates of SFT and of RL, output side, with 90 % null bands."),
        ("-update-right", "Principal angles between the updates of SFT and of RL, input side, with 90 % null bands."),
    ];
    let find = |(end, text): &(&str, &'static str)| Some((name.strip_suffix(end)?, *text));
    kinds.iter().find_map(find).unwrap_or((name, ""))
}

fn transcripts(report: &mut Report, config: &ReportConfig, inputs: &Inputs) {
    report.heading("Transcripts");
    let task = inputs.game.task();
    report.note(&format!(
        "Among the first {task}s of the final evaluation: some that were solved at last and some that were not."
    ));
    for (split, label) in [(&config.splits.id, "in distribution"), (&config.splits.ood, "out of distribution")] {
        report.subheading(&capital(label));
        for (model, stage) in config.stages.labelled() {
            let evaluation = inputs.final_evaluation.evaluation(model);
            let Some(result) = evaluation.and_then(|evaluation| evaluation.result(split, &config.decoding)) else {
                continue;
            };
            for transcript in chosen(result) {
                let turns: Vec<(&str, &str)> = transcript
                    .messages
                    .iter()
                    .map(|message| (message.role.as_str(), message.content.as_str()))
                    .collect();
                let outcomes: Vec<String> =
                    transcript.outcomes.iter().map(|outcome| outcome.replace('_', " ")).collect();
                report
                    .transcript(&format!("{stage}, {task} {}: {}", transcript.task, outcomes.join(", then ")), &turns);
            }
        }
    }
}

/// The first solved and the first unsolved tasks, in their order.
fn chosen(result: &SplitResult) -> Vec<&Transcript> {
    let is_solved = |transcript: &&Transcript| transcript.outcomes.iter().any(|outcome| outcome == CORRECT);
    let solved = result.transcripts.iter().filter(is_solved).take(TRANSCRIPTS);
    let unsolved = result.transcripts.iter().filter(|transcript| !is_solved(transcript)).take(TRANSCRIPTS);
    solved.chain(unsolved).collect()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn provenance(report: &mut Report, inputs: &Inputs, numbers: &Numbers) {
    report.heading("Provenance");
    let mut rows =
        vec![vec!["prompt template".to_owned(), "sha256".to_owned(), numbers.provenance.template_sha256.clone()]];
    for (role, hash) in &numbers.weights.weight_sha256 {
        rows.push(vec!["compared weights".into(), role.clone(), hash.clone()]);
    }
    for (run, manifest) in &inputs.manifests {
        for (name, seed) in &manifest.seeds {
            rows.push(vec![run.clone(), name.clone(), seed.to_string()]);
        }
        for (name, hash) in &manifest.inputs {
            rows.push(vec![run.clone(), name.clone(), hash.clone()]);
        }
        let mut revisions: Vec<String> = Vec::new();
        for revision in manifest.starts.iter().filter_map(|start| start.revision.as_ref()) {
            let text = format!("{}{}", revision.commit, if revision.modified { ", modified" } else { "" });
            if !revisions.contains(&text) {
                revisions.push(text);
            }
        }
        if !revisions.is_empty() {
            rows.push(vec![run.clone(), "code".into(), revisions.join("; ")]);
        }
    }
    let text: Vec<String> = rows.iter().map(|row| format!("{:<18} {:<14} {}", row[0], row[1], row[2])).collect();
    report.note(
        "Seeds, SHA-256 of inputs (folders: of the list of their files' hashes) and revisions of the code, by run.",
    );
    report.details("Seeds, hashes and revisions", &text.join("\n"));
    let times: Vec<String> = numbers.timing.iter().map(|(run, seconds)| format!("{run} {seconds:.0} s")).collect();
    report.note(&format!("Time in training steps: {}.", times.join(", ")));
    report.note("Every number of this page stands in summary.json beside it; angles and spectra in comparison.json.");
}
