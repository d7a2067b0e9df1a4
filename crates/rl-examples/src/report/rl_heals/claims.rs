//! The published claims against the numbers of this run: shown, not shown, or not decidable.
//!
//! A claim is shown only by a test at the 5 % level in its direction. Everything else is "not shown", unless the run
//! could not have shown it whatever had happened: then it is "not decidable". P-values are not corrected for the number
//! of claims. All are those of Jin et al. 2025, <https://arxiv.org/abs/2509.12235>.

use serde::Serialize;

use crate::report::words::{in_words, p_value, percent, percent_interval, signed};
use rl_eval::{ALPHA, PairedTest};

/// What the numbers say about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A test at the 5 % level points the claim's way.
    Shown,
    /// It does not.
    NotShown,
    /// It could not have, in a run of this size.
    NotDecidable,
}

impl Verdict {
    /// In words.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::Shown => "shown",
            Verdict::NotShown => "not shown",
            Verdict::NotDecidable => "not decidable at this size",
        }
    }
}

/// A claim and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Claim {
    /// Number in the list of published claims, with a letter where one claim has several parts.
    pub id: &'static str,
    /// The claim.
    pub statement: &'static str,
    /// What the numbers say.
    pub verdict: Verdict,
    /// The numbers.
    pub evidence: String,
    /// The tests behind it.
    pub tests: Vec<PairedTest>,
}

/// C1: success out of distribution falls from the best checkpoint of fine-tuning to the last.
///
/// `is_same` says that the two are one checkpoint; `start_to_best` compares the model before fine-tuning with the best
/// one, both out of distribution.
pub(super) fn forgetting(is_same: bool, start_to_best: &PairedTest, ood: &PairedTest, id: &PairedTest) -> Claim {
    let verdict = match (is_same, ood.fell(), ood.is_decidable()) {
        (true, _, _) => Verdict::NotShown,
        (false, true, _) => Verdict::Shown,
        (false, false, true) => Verdict::NotShown,
        (false, false, false) => Verdict::NotDecidable,
    };
    let evidence = if is_same {
        format!(
            "The checkpoint with the best OOD success is the last one ({}), so nothing was lost by the end.",
            percent(ood.after_success.rate)
        )
    } else {
        format!(
            "{}: {}. Before SFT it was {}, {}. In distribution: {}.",
            match verdict {
                Verdict::Shown => "OOD success fell from the best OOD checkpoint to the end of SFT",
                Verdict::NotShown if ood.rose() => "OOD success rose from the best OOD checkpoint to the end of SFT",
                Verdict::NotShown =>
                    "A fall of OOD success from the best OOD checkpoint to the end of SFT is not beyond chance",
                Verdict::NotDecidable => "Too few tasks were solved by only one of the two checkpoints",
            },
            in_words(ood),
            percent_interval(&start_to_best.before_success),
            if start_to_best.fell() {
                "above the best SFT checkpoint: here SFT only loses OOD success and has no peak of its own"
            } else if start_to_best.rose() {
                "so SFT first raised it"
            } else {
                "not different from the best SFT checkpoint beyond chance"
            },
            in_words(id)
        )
    };
    claim(
        "C1",
        "SFT on one rule loses success under the other rule (OOD) while it goes on",
        verdict,
        evidence,
        [ood, id, start_to_best],
    )
}

/// C2, first part: reinforcement learning from the last checkpoint restores what was lost.
///
/// Without a loss there is nothing to restore, whatever the curve did. `peak` compares the best checkpoint with the end
/// of reinforcement learning.
pub(super) fn recovery(forgotten: Verdict, last_to_rl: &PairedTest, peak: &PairedTest) -> Claim {
    let verdict = match (forgotten, last_to_rl.rose(), last_to_rl.is_decidable()) {
        (Verdict::Shown, true, _) => Verdict::Shown,
        (Verdict::Shown, false, true) => Verdict::NotShown,
        _ => Verdict::NotDecidable,
    };
    let lost = peak.before_success.rate - last_to_rl.before_success.rate;
    let regained = last_to_rl.difference;
    let lead = match verdict {
        Verdict::Shown => {
            format!(
                "RL from the end of SFT regained {} of the {} points lost",
                signed(100.0 * regained).trim_start_matches('+'),
                signed(100.0 * lost).trim_start_matches('+')
            )
        }
        Verdict::NotShown if last_to_rl.fell() => "RL from the end of SFT lost more OOD success".into(),
        Verdict::NotShown => "A gain of OOD success by RL from the end of SFT is not beyond chance".into(),
        Verdict::NotDecidable if forgotten != Verdict::Shown => {
            "No loss of OOD success was shown, so there is none to restore; RL changed it".into()
        }
        Verdict::NotDecidable => "Too few tasks were solved by only one of the two models".into(),
    };
    let evidence = format!("{lead}: {}.", in_words(last_to_rl));
    claim("C2a", "RL from the end of SFT restores OOD success", verdict, evidence, [last_to_rl])
}

/// C2, second part: it does not exceed the peak of fine-tuning.
///
/// Absence of a difference is not evidence that there is none, so only an end below the peak shows it.
pub(super) fn ceiling(best_to_rl: &PairedTest) -> Claim {
    let verdict = match (best_to_rl.fell(), best_to_rl.is_decidable()) {
        (true, _) => Verdict::Shown,
        (false, true) => Verdict::NotShown,
        (false, false) => Verdict::NotDecidable,
    };
    let lead = match verdict {
        Verdict::Shown => "After RL from the end of SFT, OOD success is below that of the best OOD checkpoint",
        Verdict::NotShown if best_to_rl.rose() => {
            "It does exceed it: after RL from the end of SFT, OOD success is above that of the best OOD checkpoint"
        }
        Verdict::NotShown => "RL from the end of SFT is neither above nor below the best OOD checkpoint beyond chance",
        Verdict::NotDecidable => "Too few tasks were solved by only one of the two models",
    };
    let evidence = format!("{lead}: {}.", in_words(best_to_rl));
    claim("C2b", "RL does not exceed the OOD peak of SFT", verdict, evidence, [best_to_rl])
}

/// C2, third part: reinforcement learning that starts at the peak costs success out of distribution.
pub(super) fn early_start(best_to_rl: &PairedTest) -> Claim {
    let verdict = match (best_to_rl.fell(), best_to_rl.is_decidable()) {
        (true, _) => Verdict::Shown,
        (false, true) => Verdict::NotShown,
        (false, false) => Verdict::NotDecidable,
    };
    let lead = match verdict {
        Verdict::Shown => "OOD success fell in RL from the best OOD checkpoint",
        Verdict::NotShown if best_to_rl.rose() => "OOD success rose in RL from the best OOD checkpoint",
        Verdict::NotShown => "A change of OOD success in RL from the best OOD checkpoint is not beyond chance",
        Verdict::NotDecidable => "Too few tasks were solved by only one of the two models",
    };
    let evidence = format!("{lead}: {}.", in_words(best_to_rl));
    claim("C2c", "RL from the OOD peak of SFT lowers OOD success", verdict, evidence, [best_to_rl])
}

/// Where a held-out loss is least, against where success out of distribution is highest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LossMinimum {
    /// Name of the held-out data.
    pub split: String,
    /// Step of the least loss.
    pub step: u64,
    /// The loss there.
    pub loss: f64,
    /// Success out of distribution: at the peak (before) and at `step` (after).
    pub test: PairedTest,
}

/// C4: no held-out loss locates the peak of success out of distribution.
///
/// The peak is the best of `num_checkpoints` on the very tasks of the test, so its lead is flattered; p-values are
/// therefore multiplied by the number of checkpoints it was chosen over (Bonferroni).
pub(super) fn loss_misses_peak(peak_step: u64, num_checkpoints: usize, minima: &[LossMinimum]) -> Claim {
    let choices = num_checkpoints.saturating_sub(1).max(1) as f64;
    let adjusted = |minimum: &LossMinimum| (minimum.test.mid_p * choices).min(1.0);
    let misses = |minimum: &LossMinimum| minimum.step != peak_step && minimum.test.fell() && adjusted(minimum) < ALPHA;
    let could = |minimum: &LossMinimum| minimum.step == peak_step || minimum.test.is_decidable();
    let verdict = if minima.is_empty() || num_checkpoints < 2 || !minima.iter().any(could) {
        Verdict::NotDecidable
    } else if minima.iter().all(misses) {
        Verdict::Shown
    } else {
        Verdict::NotShown
    };
    let mut evidence =
        format!("Of {num_checkpoints} checkpoints with a held-out loss, OOD success was highest at step {peak_step}.");
    if minima.is_empty() {
        evidence.push_str(" No held-out loss was recorded.");
    }
    for minimum in minima {
        evidence.push_str(&format!(" The loss on held-out {} data was least at step {}", minimum.split, minimum.step));
        if minimum.step == peak_step {
            evidence.push_str(", which is the same checkpoint.");
            continue;
        }
        let verb = if misses(minimum) { "was lower" } else { "is not lower beyond chance" };
        evidence.push_str(&format!(
            " ({:.3}); OOD success there {verb}: {} against {} at the peak (mid-p {} after correction for \
             choosing the peak).",
            minimum.loss,
            percent(minimum.test.after_success.rate),
            percent(minimum.test.before_success.rate),
            p_value(adjusted(minimum)),
        ));
    }
    let tests: Vec<&PairedTest> = minima.iter().map(|minimum| &minimum.test).collect();
    claim("C4", "Held-out loss does not locate the OOD peak", verdict, evidence, tests)
}

/// C3 and C11: the window of starts from which reinforcement learning recovers, and that the skew of the advantages
/// tells it.
///
/// Both are statements about many starts. `skewness` holds a label and the skewness of each start.
pub(super) fn window(skewness: &[(&str, Option<f64>)]) -> Claim {
    let text = |(label, value): &(&str, Option<f64>)| match value {
        Some(value) => format!("{label}: {}", format!("{value:.2}").replace('-', "−")),
        None => format!("{label}: none, all advantages are equal"),
    };
    let values: Vec<String> = skewness.iter().map(text).collect();
    let evidence = format!(
        "{} starts of RL cannot show a window or a correlation. Skewness of the first rollout's raw advantages: {}.",
        skewness.len(),
        values.join("; ")
    );
    let statement = "Only a window of SFT checkpoints can be healed by RL, and skewed advantages mark its ends";
    claim("C3, C11", statement, Verdict::NotDecidable, evidence, [])
}

pub(super) fn claim<'a>(
    id: &'static str,
    statement: &'static str,
    verdict: Verdict,
    evidence: String,
    tests: impl IntoIterator<Item = &'a PairedTest>,
) -> Claim {
    Claim { id, statement, verdict, evidence, tests: tests.into_iter().cloned().collect() }
}

/// All verdicts in one paragraph.
pub(super) fn paragraph(claims: &[Claim]) -> String {
    let of = |verdict: Verdict| -> Vec<String> {
        let matching = claims.iter().filter(|claim| claim.verdict == verdict);
        matching.map(|claim| format!("{} ({})", uncapital(claim.statement), claim.id)).collect()
    };
    let part = |verdict: Verdict, lead: &str| {
        let names = of(verdict);
        if names.is_empty() { format!("{lead}: none. ") } else { format!("{lead}: {}. ", names.join("; ")) }
    };
    format!(
        "{}{}{}\"Shown\" means that a test on this run points the claim's way at the 5 % level, or, for weights, that \
         the stated limits are met; it is one run with one seed. \"Not shown\" is not a disproof. P-values are for \
         each claim by itself.",
        part(Verdict::Shown, "Shown in this run"),
        part(Verdict::NotShown, "Not shown"),
        part(Verdict::NotDecidable, "Not decidable at this size")
    )
}

/// A statement in the middle of a sentence; abbreviations keep their capitals.
fn uncapital(statement: &str) -> String {
    let mut letters = statement.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain([second]).chain(letters).collect()
        }
        _ => statement.to_owned(),
    }
}
