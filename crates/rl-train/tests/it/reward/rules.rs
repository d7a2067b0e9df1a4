//! Rules against scores worked out by hand, and the weighted sum of several sources.

use rl_train::Error;
use rl_train::reward::{
    Compare, ContainsRule, CustomRewards, ExternalScores, Extract, FormatRule, LengthRule, LengthUnit, MatchRule,
    Score, Scorer, SourceKind,
};
use serde_json::{Value, json};

use super::{config, request, score, source};

fn check(kind: SourceKind, cases: &[(&str, Value, f64)]) {
    let requests: Vec<_> = cases.iter().map(|(response, metadata, _)| request(7, response, metadata.clone())).collect();
    let batch = score(&config(1, 1.0, vec![source("rule", kind)]), CustomRewards::new(), &requests);
    for ((response, _, expected), score) in cases.iter().zip(&batch.sources[0].scores) {
        assert_eq!(score, &Score::Ok(*expected), "{response:?}");
    }
    assert_eq!(batch.sources[0].counts.ok, cases.len());
}

fn rule(extract: Extract, compare: Compare) -> SourceKind {
    SourceKind::Match(MatchRule { field: "answer".to_string(), extract, compare })
}

#[test]
fn a_match_compares_the_extracted_part() {
    let four = || json!({"answer": "4"});
    check(rule(Extract::Whole, Compare::Exact), &[(" 4\n", four(), 1.0), ("four", four(), 0.0), ("", four(), 0.0)]);
    check(
        rule(Extract::Boxed, Compare::Exact),
        &[
            ("so \\boxed{3}, no, \\boxed{4}.", four(), 1.0),
            ("\\boxed{4} or rather \\boxed{5}", four(), 0.0),
            ("\\boxed{\\frac{1}{2}}", json!({"answer": "\\frac{1}{2}"}), 1.0),
            ("\\boxed{4", four(), 0.0), // never closed
            ("4", four(), 0.0),         // no box
        ],
    );
    check(
        rule(Extract::Tag("answer".to_string()), Compare::IgnoreCase),
        &[
            ("<answer>no</answer><answer> PARIS </answer> yes", json!({"answer": "Paris"}), 1.0),
            ("<answer>PARIS", json!({"answer": "Paris"}), 0.0),
        ],
    );
    check(
        rule(Extract::After("####".to_string()), Compare::Number),
        &[
            ("steps\n#### 1,234\nmore", json!({"answer": 1234}), 1.0),
            ("#### $0.50", json!({"answer": "0.5"}), 1.0),
            ("#### -3", json!({"answer": 3}), 0.0),
            ("#### nan", json!({"answer": 3}), 0.0),
        ],
    );
}

#[test]
fn text_length_and_format_rules() {
    check(
        SourceKind::Contains(ContainsRule { field: "answer".to_string() }),
        &[("it is Paris.", json!({"answer": "Paris"}), 1.0), ("it is paris.", json!({"answer": "Paris"}), 0.0)],
    );
    // free 4, limit 8: 0 up to 4, then (4 - n) / 4, -1 from 8 on
    let length = |unit| SourceKind::Length(LengthRule { unit, free: 4, limit: 8 });
    check(
        length(LengthUnit::Characters),
        &[
            ("äöüß", json!({}), 0.0),
            ("123456", json!({}), -0.5),
            ("12345678", json!({}), -1.0),
            ("1234567890", json!({}), -1.0),
        ],
    );
    check(length(LengthUnit::Words), &[("one two three four  five", json!({}), -0.25), ("", json!({}), 0.0)]);
    let tags = ["think", "answer"].map(String::from).to_vec();
    check(
        SourceKind::Format(FormatRule { tags }),
        &[
            (" <think>a</think>\n<answer>b</answer>\n", json!({}), 1.0),
            ("<answer>b</answer><think>a</think>", json!({}), 0.0),
            ("<think>a</think><answer>b</answer> bye", json!({}), 0.0),
            ("<think>a<think>b</think></think><answer>b</answer>", json!({}), 0.0),
            ("<think>a</think>", json!({}), 0.0),
        ],
    );
}

#[test]
fn a_missing_reference_is_no_zero() {
    let sources = vec![source("match", rule(Extract::Whole, Compare::Number))];
    let requests =
        [json!({}), json!({"answer": null}), json!({"answer": "many"}), json!({"answer": [4]}), json!({"answer": 4})]
            .map(|metadata| request(0, "4", metadata));
    let batch = score(&config(1, 1.0, sources), CustomRewards::new(), &requests);
    assert_eq!(batch.totals, [None, None, None, None, Some(1.0)]);
    assert_eq!(super::invalid(&batch, 0), [("bad field", 2), ("no field", 2)]);
}

#[test]
fn the_total_is_the_weighted_sum_of_all_that_count() {
    let mut exact = source("exact", rule(Extract::Whole, Compare::Exact));
    exact.weight = 2.0;
    let mut model = source("model", SourceKind::External {});
    model.weight = -0.5;
    let mut noted = source("noted", SourceKind::External {});
    noted.weight = 0.0;
    let mut scorer = Scorer::new(&config(1, 1.0, vec![exact, model, noted]), CustomRewards::new()).unwrap();
    assert_eq!(scorer.external_sources().collect::<Vec<_>>(), ["model", "noted"]);

    let requests = ["4", "5", "4", "4"].map(|response| request(0, response, json!({"answer": 4})));
    let mut external = ExternalScores::new();
    let nan = Score::Ok(f64::NAN); // a caller's NaN is found like any other
    external.insert("model".to_string(), vec![Score::Ok(3.0), Score::Ok(1.0), Score::TimedOut, nan]);
    external.insert("noted".to_string(), vec![Score::TimedOut; 4]);
    let batch = scorer.score(&requests, &external).unwrap();
    assert_eq!(batch.totals, [Some(2.0 - 1.5), Some(-0.5), None, None]);
    assert_eq!(super::invalid(&batch, 1), [("not finite", 1)]);
    assert_eq!(
        (batch.sources[1].counts.ok, batch.sources[1].counts.timed_out, batch.sources[2].counts.timed_out),
        (2, 1, 4)
    );
    assert!(batch.sources.iter().all(|source| source.counts.total() == requests.len()));

    external.remove("noted");
    assert!(matches!(scorer.score(&requests, &external), Err(Error::RewardSource { name, .. }) if name == "noted"));
    external.insert("noted".to_string(), vec![Score::TimedOut; 3]);
    assert!(matches!(scorer.score(&requests, &external), Err(Error::RewardSource { name, .. }) if name == "noted"));
    external.insert("noted".to_string(), vec![Score::TimedOut; 4]);
    external.insert("other".to_string(), vec![Score::TimedOut; 4]);
    assert!(matches!(scorer.score(&requests, &external), Err(Error::RewardSource { name, .. }) if name == "other"));
}

#[test]
fn a_sum_that_overflows_is_an_error() {
    let mut huge = source("huge", SourceKind::External {});
    huge.weight = 1e300;
    let mut scorer = Scorer::new(&config(1, 1.0, vec![huge]), CustomRewards::new()).unwrap();
    let external = ExternalScores::from([("huge".to_string(), vec![Score::Ok(1e300)])]);
    let scored = scorer.score(&[request(41, "", json!({}))], &external);
    assert!(matches!(scored, Err(Error::RewardOverflow { sample: 41 })));
}
