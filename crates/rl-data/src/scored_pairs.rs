//! Preference pairs from scored answers: whatever can score an answer (a verifier, a reward model, a judge) makes pairs.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::fields::{check_prompt, check_response};
use crate::preference_record::PreferenceRecord;
use crate::record::Message;

/// A prompt with several answers to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// What is answered; does not end with the assistant.
    pub prompt: Vec<Message>,
    /// The answers, each beginning and ending with the assistant.
    pub answers: Vec<Vec<Message>>,
    /// Further fields, which the pair keeps.
    pub extra: Map<String, Json>,
}

impl Answers {
    /// Texts that answer a prompt.
    pub fn new<T: Into<String>>(prompt: Vec<Message>, answers: impl IntoIterator<Item = T>) -> Self {
        let answers = answers.into_iter().map(|text| vec![Message::assistant(text)]).collect();
        Answers { prompt, answers, extra: Map::new() }
    }
}

/// Which prompts make a pair.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairPolicy {
    /// The best answer's score must be above the worst one's by this much at least; 0 or more. Equal scores never make a
    /// pair. It moves results, so it has no default.
    pub min_margin: f64,
}

/// What [`scored_pairs`] did. `prompts` is `pairs` and all that begin with `dropped` together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PairReport {
    /// Prompts seen.
    pub prompts: usize,
    /// Answers scored.
    pub answers: usize,
    /// Pairs made.
    pub pairs: usize,
    /// Prompts with fewer than two answers.
    pub dropped_too_few: usize,
    /// Prompts whose answers all have one score.
    pub dropped_tied: usize,
    /// Prompts whose best and worst are closer than the margin.
    pub dropped_margin: usize,
    /// Prompts whose best and worst answer say the same, although their scores differ.
    pub dropped_identical: usize,
    /// Pairs whose chosen answer shares its score with another; the first of them was taken.
    pub tied_best: usize,
    /// Pairs whose rejected answer shares its score with another; the first of them was taken.
    pub tied_worst: usize,
}

/// Pairs and what became of the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredPairs {
    /// In the order of the prompts; `margin` is the difference of the scores, and `chosen_score` and `rejected_score`
    /// are among the further fields.
    pub records: Vec<PreferenceRecord>,
    /// For each pair the index of its prompt.
    pub rows: Vec<usize>,
    /// The counts.
    pub report: PairReport,
}

/// Scores the answers to each prompt and pairs the best with the worst.
///
/// `scorer` gets a prompt with its answers and gives one score for each, higher is better; its errors end the work. Of
/// equal scores the first answer is taken, so the pairs are a function of answers and scores.
///
/// Errors: [`Error::ScoreCount`], [`Error::Score`] for one that is not finite, [`Error::Row`] for a prompt or an answer that
/// has the wrong speaker, [`Error::Setting`] for the margin.
pub fn scored_pairs<E: From<Error>>(
    rows: impl IntoIterator<Item = Answers>,
    policy: PairPolicy,
    mut scorer: impl FnMut(&[Message], &[Vec<Message>]) -> std::result::Result<Vec<f64>, E>,
) -> std::result::Result<ScoredPairs, E> {
    let min_margin = policy.min_margin;
    if !(min_margin.is_finite() && min_margin >= 0.0) {
        let rule = "must be finite and not negative";
        return Err(Error::Setting { name: "min_margin", value: min_margin.to_string(), rule }.into());
    }
    let mut pairs = ScoredPairs { records: Vec::new(), rows: Vec::new(), report: PairReport::default() };
    for (row, answers) in rows.into_iter().enumerate() {
        pairs.report.prompts += 1;
        check(&answers).map_err(|source| Error::Row { row, source: Box::new(source) })?;
        if answers.answers.len() < 2 {
            pairs.report.dropped_too_few += 1;
            continue;
        }
        let scores = scorer(&answers.prompt, &answers.answers)?;
        pairs.report.answers += scores.len();
        pairs.consider(row, answers, &scores, min_margin)?;
    }
    Ok(pairs)
}

impl ScoredPairs {
    fn consider(&mut self, row: usize, answers: Answers, scores: &[f64], min_margin: f64) -> Result<()> {
        let Answers { prompt, mut answers, mut extra } = answers;
        if scores.len() != answers.len() {
            return Err(Error::ScoreCount { row, scores: scores.len(), answers: answers.len() });
        }
        if let Some((answer, &score)) = scores.iter().enumerate().find(|(_, score)| !score.is_finite()) {
            return Err(Error::Score { row, answer, score });
        }
        let (mut best, mut worst) = (0, 0);
        for (answer, &score) in scores.iter().enumerate() {
            if scores[best] < score {
                best = answer;
            }
            if score < scores[worst] {
                worst = answer;
            }
        }
        let (high, low) = (scores[best], scores[worst]);
        let report = &mut self.report;
        let dropped = if high == low {
            Some(&mut report.dropped_tied)
        } else if high - low < min_margin {
            Some(&mut report.dropped_margin)
        } else if answers[best] == answers[worst] {
            Some(&mut report.dropped_identical)
        } else {
            None
        };
        if let Some(count) = dropped {
            *count += 1;
            return Ok(());
        }
        let shared = |extreme: f64| usize::from(1 < scores.iter().filter(|&&score| score == extreme).count());
        report.pairs += 1;
        report.tied_best += shared(high);
        report.tied_worst += shared(low);
        extra.insert("chosen_score".into(), json!(high));
        extra.insert("rejected_score".into(), json!(low));
        let (chosen, rejected) = (std::mem::take(&mut answers[best]), std::mem::take(&mut answers[worst]));
        self.records.push(PreferenceRecord { prompt, chosen, rejected, margin: Some(high - low), extra });
        self.rows.push(row);
        Ok(())
    }
}

fn check(answers: &Answers) -> Result<()> {
    check_prompt("prompt", &answers.prompt)?;
    answers.answers.iter().try_for_each(|answer| check_response("answers", answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The score is the number that the answer says.
    fn said(_: &[Message], answers: &[Vec<Message>]) -> Result<Vec<f64>> {
        let number = |answer: &Vec<Message>| answer[0].content.trim().parse::<f64>();
        Ok(answers.iter().map(|answer| number(answer).unwrap_or(f64::NAN)).collect())
    }

    fn answers(texts: &[&str]) -> Answers {
        Answers::new(vec![Message::user("a number?")], texts.iter().copied())
    }

    #[test]
    fn best_and_worst_make_a_pair_and_the_rest_is_counted() {
        let rows = [
            answers(&["2", "5", "1", "5 "]), // 5 twice
            answers(&["3", "3 "]),           // all tied
            answers(&["3", "3.5"]),          // below the margin
            answers(&["1"]),                 // too few
            answers(&["7", "6", "6 "]),      // the margin exactly; 6 twice
        ];
        let pairs = scored_pairs(rows, PairPolicy { min_margin: 1.0 }, said).unwrap();
        let report = PairReport {
            prompts: 5,
            answers: 11,
            pairs: 2,
            dropped_too_few: 1,
            dropped_tied: 1,
            dropped_margin: 1,
            dropped_identical: 0,
            tied_best: 1,
            tied_worst: 1,
        };
        assert_eq!((pairs.report, pairs.rows), (report, vec![0, 4]));
        let text = |messages: &[Message]| messages[0].content.clone();
        let found: Vec<_> =
            pairs.records.iter().map(|pair| (text(&pair.chosen), text(&pair.rejected), pair.margin)).collect();
        assert_eq!(found, [("5".into(), "1".into(), Some(4.0)), ("7".into(), "6".into(), Some(1.0))]);

        // The record is what a file of pairs holds.
        let line = serde_json::to_string(&pairs.records[0]).unwrap();
        assert_eq!(serde_json::from_str::<PreferenceRecord>(&line).unwrap(), pairs.records[0]);
        assert_eq!(pairs.records[0].extra["chosen_score"], json!(5.0));
    }

    #[test]
    fn equal_answers_never_make_a_pair() {
        let mut next = 0.0;
        let noisy = |_: &[Message], answers: &[Vec<Message>]| -> Result<Vec<f64>> {
            next += 1.0;
            Ok((0..answers.len()).map(|place| next * place as f64).collect())
        };
        let pairs = scored_pairs([answers(&["same", "same"])], PairPolicy { min_margin: 0.0 }, noisy).unwrap();
        assert_eq!((pairs.records.len(), pairs.report.dropped_identical), (0, 1));
    }

    #[test]
    fn bad_scores_and_rows_are_named() {
        let policy = PairPolicy { min_margin: 0.0 };
        let error = scored_pairs([answers(&["1", "2"]), answers(&["1", "x"])], policy, said).unwrap_err();
        assert!(matches!(error, Error::Score { row: 1, answer: 1, .. }), "{error}");
        let few = |_: &[Message], _: &[Vec<Message>]| -> Result<Vec<f64>> { Ok(vec![1.0]) };
        let error = scored_pairs([answers(&["1", "2"])], policy, few).unwrap_err();
        assert!(matches!(error, Error::ScoreCount { row: 0, scores: 1, answers: 2 }), "{error}");
        let mut spoken = answers(&["1", "2"]);
        spoken.answers[1] = vec![Message::user("2")];
        let error = scored_pairs([spoken], policy, said).unwrap_err();
        assert!(matches!(error, Error::Row { row: 0, .. }), "{error}");
        for min_margin in [-1.0, f64::NAN] {
            assert!(scored_pairs([answers(&["1", "2"])], PairPolicy { min_margin }, said).is_err());
        }
    }
}
