//! Selections of small rows, counted by hand.

use super::*;
use crate::record::Message;

/// Trainable tokens are the positive numbers.
fn example(signed: &[i32]) -> Result<Example> {
    Ok(Example {
        ids: signed.iter().map(|x| x.unsigned_abs()).collect(),
        trainable: signed.iter().map(|&x| x > 0).collect(),
        roles: vec![None; signed.len()],
    })
}

fn policy(too_long: Truncation, unusable: Unusable) -> SelectionPolicy {
    SelectionPolicy::new(3, too_long, unusable)
}

/// Rows: fits; five tokens with targets 4 and 5; nothing to learn; only its first token, which is no target;
/// failed to render; five tokens with target 2.
fn rows() -> Vec<Result<Example>> {
    vec![
        example(&[-1, 2]),
        example(&[-1, -2, -3, 4, 5]),
        example(&[-1, -2]),
        example(&[1, -2]),
        Err(Error::NoAnswer),
        example(&[-1, 2, -3, -4, -5]),
    ]
}

#[test]
fn every_row_is_counted_once() {
    let dropped = select(rows(), &policy(Truncation::Drop, Unusable::Drop)).unwrap();
    assert_eq!(dropped.rows, [0]);
    let first_failure = Some(format!("row 4: {}", Error::NoAnswer));
    let expected = SelectionReport {
        rows: 6,
        max_length: 3,
        kept: 1,
        dropped_too_long: 2,
        dropped_untrainable: 2,
        dropped_unrenderable: 1,
        first_failure: first_failure.clone(),
        tokens: 2,
        trainable_tokens: 1,
        ..SelectionReport::default()
    };
    assert_eq!(dropped.report, expected);

    let left = select(rows(), &policy(Truncation::Left, Unusable::Drop)).unwrap();
    assert_eq!(left.rows, [0, 1]);
    assert_eq!(left.examples[1].ids, [3, 4, 5]);
    assert_eq!(left.examples[1].trainable, [false, true, true]);
    // Row 5 loses its only target to the cut, so its cut tokens are not those of a kept row.
    let expected = SelectionReport {
        rows: 6,
        max_length: 3,
        kept: 2,
        truncated: 1,
        tokens_cut: 2,
        dropped_untrainable: 3,
        dropped_unrenderable: 1,
        first_failure,
        tokens: 5,
        trainable_tokens: 3,
        ..SelectionReport::default()
    };
    assert_eq!(left.report, expected);

    let right = select(rows(), &policy(Truncation::Right, Unusable::Drop)).unwrap();
    assert_eq!(right.rows, [0, 5]);
    assert_eq!(right.examples[1].ids, [1, 2, 3]);
}

#[test]
fn errors_name_the_row() {
    let error = select(rows(), &policy(Truncation::Error, Unusable::Error)).unwrap_err();
    assert!(matches!(error, Error::TooLong { row: 1, length: 5, limit: 3 }), "{error}");
    let error = select(rows(), &policy(Truncation::Drop, Unusable::Error)).unwrap_err();
    assert!(matches!(error, Error::Untrainable { row: 2 }), "{error}");
    let error = select(rows().into_iter().skip(4), &policy(Truncation::Drop, Unusable::Error)).unwrap_err();
    assert!(matches!(error, Error::Row { row: 0, .. }), "{error}");
    let tiny = SelectionPolicy { max_length: 1, ..policy(Truncation::Drop, Unusable::Drop) };
    assert!(select(rows(), &tiny).is_err());
}

#[test]
fn every_dropped_row_is_listed_with_its_figures() {
    let dropped = select(rows(), &policy(Truncation::Drop, Unusable::Drop)).unwrap();
    let lines: Vec<String> = dropped.dropped.iter().map(|d| format!("{} {}", d.row, d.reason)).collect();
    let unrenderable = format!("4 not renderable: {}", Error::NoAnswer);
    assert_eq!(
        lines,
        [
            "1 too long: 5 tokens, limit 3",
            "2 nothing to train: none of 2 tokens is a target",
            "3 nothing to train: none of 2 tokens is a target",
            unrenderable.as_str(),
            "5 too long: 5 tokens, limit 3",
        ]
    );
    let total: usize = dropped.report.dropped().iter().map(|(_, count)| count).sum();
    assert_eq!(total + dropped.report.kept, dropped.report.rows);
}

#[test]
fn only_the_first_of_equal_rows_stays() {
    let rows = || vec![example(&[-1, 2]), example(&[1, 2]), example(&[-1, 2]), example(&[-1, 2, 3])];
    let keep = policy(Truncation::Drop, Unusable::Drop);
    assert_eq!(select(rows(), &keep).unwrap().rows, [0, 1, 2, 3]);
    let found = select(rows(), &SelectionPolicy { duplicates: Duplicates::Drop, ..keep }).unwrap();
    assert_eq!((found.rows, found.report.dropped_duplicate), (vec![0, 1, 3], 1));
    assert_eq!(found.dropped, [Dropped { row: 2, reason: DropReason::Duplicate { of: 0 } }]);
}

#[test]
fn a_measured_limit_takes_the_place_of_the_given_one() {
    // Lengths 10, 20, ..., 100 with a prompt of all but one token: the 95th percentile is 95.5.
    let rows =
        || (1..=10).map(|n| example(&(1..=10 * n).map(|x| if x == 10 * n { x } else { -x }).collect::<Vec<_>>()));
    let length_percentile = Some(LengthPercentile { percentile: 95.0, draw: None });
    let given = SelectionPolicy { max_length: 50, length_percentile, ..policy(Truncation::Drop, Unusable::Drop) };
    let found = select(rows(), &given).unwrap();
    assert_eq!((found.report.max_length, found.report.kept, found.report.dropped_too_long), (95, 9, 1));
    // The prompt share is of the given length, and the limit is measured on what it leaves: 10, 20, 30 give 29.
    let found = select(rows(), &SelectionPolicy { max_prompt_share: Some(0.7), ..given }).unwrap();
    assert_eq!((found.report.dropped_long_prompt, found.report.max_length), (7, 29));
    assert_eq!((found.rows, found.report.dropped_too_long), (vec![0, 1], 1));
}

#[test]
fn rules_about_conversations_need_them() {
    let records =
        ["", "two"].map(|text| vec![Message::user("one"), Message::assistant(text)]).map(crate::ChatRecord::new);
    let rows = || vec![example(&[-1, 2]), example(&[-1, 3])];
    let rule = SelectionPolicy { empty_turns: EmptyTurns::Drop, ..policy(Truncation::Drop, Unusable::Drop) };
    assert!(matches!(select(rows(), &rule).unwrap_err(), Error::Setting { name: "selection", .. }));
    let found = select_records(&records, rows(), &rule).unwrap();
    assert_eq!(
        (found.rows, found.dropped),
        (vec![1], vec![Dropped { row: 0, reason: DropReason::EmptyTurn { message: 1 } }])
    );
    assert!(matches!(select_records(&records[..1], rows(), &rule).unwrap_err(), Error::Setting { name: "rows", .. }));
    assert!(matches!(
        select_records(&records, rows().split_off(1), &rule).unwrap_err(),
        Error::Setting { name: "rows", .. }
    ));
}
