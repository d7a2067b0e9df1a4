//! Single answers with verdicts as token ids, in the order that an objective wants them.

use rl_data::UnpairedExample;

use crate::batch::TrainingRow;
use crate::sft::training_row;
use crate::{Error, Result};

/// An answer to a prompt, judged desirable or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingAnswer {
    /// Prompt and response; trainable are the response's tokens.
    pub row: TrainingRow,
    /// Tokens of the prompt.
    pub prompt_length: usize,
    /// The verdict.
    pub is_desirable: bool,
}

impl TrainingAnswer {
    /// A prompt `[seq]` with a response `[seq]`, every token of which is trained.
    pub fn new(id: u64, prompt_ids: &[i64], response_ids: &[i64], is_desirable: bool) -> Self {
        let prompt_length = prompt_ids.len();
        let ids = [prompt_ids, response_ids].concat();
        let trainable = (0..ids.len()).map(|token| prompt_length <= token).collect();
        TrainingAnswer { row: TrainingRow { id, ids, trainable, group: None }, prompt_length, is_desirable }
    }

    /// Refuses an answer without a target.
    pub(crate) fn check(&self) -> Result<()> {
        if 0 < self.row.num_labels() { Ok(()) } else { Err(Error::NoResponse { row: self.row.id }) }
    }

    /// This prompt with the response of `other`, cut at its end to `max_length` tokens.
    pub(super) fn mismatched(&self, other: &TrainingAnswer, max_length: usize) -> TrainingRow {
        let (own, theirs) = (self.prompt_length, other.prompt_length);
        let mut ids = [&self.row.ids[..own], &other.row.ids[theirs..]].concat();
        let mut trainable = [&self.row.trainable[..own], &other.row.trainable[theirs..]].concat();
        ids.truncate(max_length);
        trainable.truncate(max_length);
        TrainingRow { id: self.row.id, ids, trainable, group: None }
    }
}

pub(super) fn training_answer(id: u64, example: UnpairedExample) -> TrainingAnswer {
    TrainingAnswer {
        row: training_row(id, example.completion),
        prompt_length: example.prompt_ids.len(),
        is_desirable: example.label,
    }
}

/// Answers as they are visited: one by one, or for even sampling in twos, a desirable one first. The rarer side then comes
/// round more often, so that every step holds as many of either.
pub(crate) fn units(answers: Vec<TrainingAnswer>, is_even: bool) -> Result<Vec<Vec<TrainingAnswer>>> {
    if !is_even {
        return Ok(answers.into_iter().map(|answer| vec![answer]).collect());
    }
    check_both(&answers)?;
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.is_desirable);
    let unit = |index: usize| vec![good[index % good.len()].clone(), bad[index % bad.len()].clone()];
    Ok((0..good.len().max(bad.len())).map(unit).collect())
}

/// Refuses answers of one verdict alone, which even sampling has nothing to compare with.
pub(super) fn check_both(answers: &[TrainingAnswer]) -> Result<()> {
    let good = answers.iter().filter(|answer| answer.is_desirable).count();
    if 0 < good && good < answers.len() {
        return Ok(());
    }
    Err(Error::UnsuitableData {
        what: format!("{good} desirable and {} undesirable answers", answers.len() - good),
        reason: "even sampling needs both; use `kto` or add the other side",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatched_row_is_one_prompt_with_the_response_of_another() {
        let (a, b) = (TrainingAnswer::new(7, &[1, 2], &[3], true), TrainingAnswer::new(8, &[4], &[5, 6, 7], false));
        let row = a.mismatched(&b, 4);
        assert_eq!((row.ids, row.trainable), (vec![1, 2, 5, 6], vec![false, false, true, true]));
        assert_eq!(b.mismatched(&a, 9).ids, [4, 3]);
    }

    #[test]
    fn even_sampling_repeats_the_rarer_side() {
        let answer = |id, good| TrainingAnswer::new(id, &[1], &[2], good);
        let answers = vec![answer(0, true), answer(1, false), answer(2, false), answer(3, false)];
        let ids: Vec<[u64; 2]> =
            units(answers, true).unwrap().iter().map(|unit| [unit[0].row.id, unit[1].row.id]).collect();
        assert_eq!(ids, [[0, 1], [0, 2], [0, 3]]);
        assert!(units(vec![answer(0, true)], true).is_err());
    }
}
