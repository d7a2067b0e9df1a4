//! Reading answers.

use proptest::prelude::*;
use rl_envs::general_points::answer::render_answer;
use rl_envs::general_points::{Answer, ParseMode, TemplateKind};

use ParseMode::{Lenient, Missing, Strict};

#[test]
fn formulas_are_found() {
    for (response, left_side, parse_mode) in [
        (r#"{"cards": ["4"], "number": [4], "formula": "4=24"}"#, Some("4"), Strict),
        (r#"  {"formula":"1+2"}  "#, Some("1+2"), Strict),
        (r#"{"formula": "8\/2"}"#, Some("8/2"), Strict),
        (r#"{"formula": ""}"#, Some(""), Strict),
        (r#"{"formula": "1 + 2 = 24"}"#, Some("1 + 2 "), Strict),
        (r#"{"formula": "1+2=3=24", "note": {"a": [1]}}"#, Some("1+2"), Strict),
        ("{\n \"cards\": [\"4\"],\n \"formula\": \"4=24\",\n}", Some("4"), Lenient),
        ("```json\n{\"formula\": \"1+2=24\"}\n```", Some("1+2"), Lenient),
        (r#"Let me think. {"formula": "1+2=24"} is it."#, Some("1+2"), Lenient),
        (r#"{'cards': ['4'], 'formula': '1+2=24'}"#, Some("1+2"), Lenient),
        ("\"formula\"  :\t\n\"1+2\"", Some("1+2"), Lenient),
        (r#"{"formula": "8\/2=4",}"#, Some("8/2"), Lenient),
        (r#"{"a": 1, "a": 2, "formula": "1", "formula": "2"}"#, Some("1"), Lenient),
        (r#"{"answer": {"formula": "1+2"}}"#, Some("1+2"), Lenient),
        (r#"{"formula": 24, } then "formula": "1+2""#, Some("1+2"), Lenient),
        (r#"the "formula" is simple: "formula": "3""#, Some("3"), Lenient),
        (r#"{"formula": 24}"#, None, Missing),
        (r#"{"formula": null}"#, None, Missing),
        (r#"{"formula": true}"#, None, Missing),
        (r#"{"formula": 2.5}"#, None, Missing),
        (r#"{"formula": ["1+2"]}"#, None, Missing),
        (r#"{"formula": {"formula": 3}}"#, None, Missing),
        (r#"["1+2"]"#, None, Missing),
        ("{\"formula\": \"1+\n2\"}", None, Missing),
        (r#"{"formula": "1+2"#, None, Missing),
        (r#"{"formula": '1+2"}"#, None, Missing),
        (r#"{formula: "1+2"}"#, None, Missing),
        (r#"{"formula" "1+2"}"#, None, Missing),
        ("1+2=24", None, Missing),
        ("", None, Missing),
    ] {
        let answer = Answer::parse(response);
        assert_eq!((answer.left_side(), answer.parse_mode()), (left_side, parse_mode), "{response}");
    }
}

#[test]
fn lists_hold_strings_or_numbers() {
    for (response, cards) in [
        (r#"{"cards": ["4", "K"]}"#, Some(vec!["4", "K"])),
        (r#"{'cards' : [ '4' , 'K', ], }"#, Some(vec!["4", "K"])),
        (r#"{"cards": [4, 10]}"#, Some(vec!["4", "10"])),
        (r#"{"cards": [4, K]"#, Some(vec!["4", "K"])),
        (r#"{"cards": []}"#, Some(vec![])),
        (r#"{"cards": "4 K"}"#, None),
        (r#"{"cards": ["4""#, None),
        (r#"{"number": [4]}"#, None),
    ] {
        assert_eq!(Answer::parse(response).cards(), cards, "{response}");
    }
    assert_eq!(Answer::parse(r#"{"number": [4, "10",]}"#).number(), Some(vec!["4", "10"]));
}

#[test]
fn rendered_answers_read_back() {
    let (cards, numbers) = (["4", "3", "K", "10"], [4, 3, 10, 10]);
    let standard = render_answer(TemplateKind::Standard, &cards, &numbers, "4+10+10", 24);
    assert_eq!(
        standard,
        "{\n  \"cards\": [\"4\", \"3\", \"K\", \"10\"],\n  \"number\": [4, 3, 10, 10],\n  \"formula\": \"4+10+10=24\",\n}"
    );
    let compact = render_answer(TemplateKind::Compact, &cards, &numbers, "4+10+10", 24);
    assert_eq!(compact, r#"{"cards":["4","3","K","10"],"number":[4,3,10,10],"formula":"4+10+10=24"}"#);
    for (text, parse_mode) in [(standard, Lenient), (compact, Strict)] {
        let answer = Answer::parse(&text);
        assert_eq!((answer.left_side(), answer.parse_mode()), (Some("4+10+10"), parse_mode));
        assert_eq!(answer.cards(), Some(cards.to_vec()));
        assert_eq!(answer.number(), Some(vec!["4", "3", "10", "10"]));
    }
}

proptest! {
    #[test]
    fn any_text_can_be_read(text in "([{}\\[\\]\"':,\\\\ \n=1é]|formula|cards){0,30}") {
        let answer = Answer::parse(&text);
        prop_assert_eq!(answer.formula().is_none(), answer.parse_mode() == Missing);
        let _ = (answer.left_side(), answer.cards(), answer.number());
    }
}
