//! Prompts, episodes, expert data and many environments at once.

use rl_envs::general_points::prompt::template_sha256;
use rl_envs::general_points::{
    Answer, Expert, GeneralPoints, GeneralPointsConfig, ParseMode, TemplateKind, expert_example,
};
use rl_envs::vector::{reset_many, step_many};
use rl_envs::{Environment, Error, Role};

const WRONG: &str = r#"{"formula": "1=24"}"#;

fn new(config: GeneralPointsConfig) -> GeneralPoints {
    GeneralPoints::new(config).unwrap()
}

fn solution(config: &GeneralPointsConfig, seed: u64, index: u64) -> String {
    expert_example(config, seed, index).unwrap().messages[1].content.clone()
}

#[test]
fn a_right_answer_terminates() {
    let config = GeneralPointsConfig::default();
    let mut game = new(config.clone());
    assert_eq!(game.step(WRONG), Err(Error::NotReset { environment: "general_points" }));
    assert_eq!(game.info(), serde_json::Value::Null);

    let observation = game.reset(42, 3).unwrap();
    assert_eq!(observation.messages.len(), 1);
    assert_eq!(observation.messages[0].role, Role::User);
    assert_eq!(game.info()["verify_info"], serde_json::Value::Null);

    let failed = game.step(WRONG).unwrap();
    assert!(!failed.ended() && !failed.success);
    let feedback = failed.feedback.unwrap();
    assert_eq!(feedback.role, Role::User);
    assert!(feedback.content.contains("these numbers are not used"), "{}", feedback.content);

    let step = game.step(&solution(&config, 42, 3)).unwrap();
    assert_eq!((step.outcome, step.reward, step.success), ("correct", 5.0, true));
    assert_eq!((step.terminated, step.truncated, step.feedback), (true, false, None));
    let info = game.info();
    assert_eq!(info["parse_mode"], "lenient");
    assert_eq!(info["outcome"], "correct");
    assert_eq!(info["remaining_attempts"], 3);
    assert_eq!(info["remaining_numbers"], serde_json::json!([]));
    assert_eq!(info["verify_info"], "the formula is correct.");
    assert!(info["solutions"].as_array().unwrap().contains(&info["formula"]));
    assert_eq!(game.step(WRONG), Err(Error::EpisodeEnded { environment: "general_points" }));
    assert!(game.reset(42, 4).is_ok());
}

#[test]
fn the_last_failed_attempt_truncates_and_pays_the_limit() {
    let mut game = new(GeneralPointsConfig { max_attempts: 3, ..Default::default() });
    game.reset(0, 0).unwrap();
    for _ in 0..2 {
        let step = game.step("no idea").unwrap();
        assert_eq!((step.outcome, step.reward, step.truncated), ("illegal_formula", -3.0, false));
        assert!(step.feedback.is_some());
    }
    let step = game.step("no idea").unwrap();
    assert_eq!((step.outcome, step.reward), ("illegal_formula", -4.0));
    assert_eq!((step.terminated, step.truncated, step.feedback), (false, true, None));
    assert!(matches!(game.step("no idea"), Err(Error::EpisodeEnded { .. })));
}

#[test]
fn the_legacy_extra_step_is_penalised_ungraded() {
    let config = GeneralPointsConfig { max_attempts: 2, legacy_extra_step: true, ..Default::default() };
    let mut game = new(config.clone());
    game.reset(0, 0).unwrap();
    for _ in 0..2 {
        let step = game.step("no idea").unwrap();
        assert_eq!((step.reward, step.ended()), (-3.0, false));
    }
    // Even a right answer comes too late.
    let step = game.step(&solution(&config, 0, 0)).unwrap();
    assert_eq!((step.outcome, step.reward, step.success), ("attempt_limit", -1.0, false));
    assert_eq!((step.terminated, step.truncated, step.feedback), (false, true, None));
    assert_eq!(game.info()["verify_info"], "the attempt limit is reached.");
    assert_eq!(game.info()["parse_mode"], serde_json::Value::Null);
}

fn prompt(config: &GeneralPointsConfig) -> String {
    new(config.clone()).reset(5, 11).unwrap().messages.remove(0).content
}

#[test]
fn the_rule_sentence_is_all_that_tells_the_rules_apart() {
    for template in [TemplateKind::Standard, TemplateKind::Example, TemplateKind::Compact] {
        // Ranks up to ten mean the same under both rules, so both deal the same hand.
        let ten = GeneralPointsConfig { template, max_rank: 10, ..Default::default() };
        let rank = GeneralPointsConfig { treat_face_cards_as_10: false, ..ten.clone() };
        let (ten_rule, rank_rule) = match template {
            TemplateKind::Compact => ("J Q K count 10 10 10.", "J Q K count 11 12 13."),
            _ => (
                "The face cards J, Q and K all count as 10.",
                "The face cards J, Q and K count as 11, 12 and 13 respectively.",
            ),
        };
        assert!(prompt(&ten).contains(ten_rule));
        assert_eq!(prompt(&ten).replace(ten_rule, rank_rule), prompt(&rank));
    }
}

#[test]
fn prompts_carry_the_hand_and_fit_its_size() {
    for (num_cards, target, words) in
        [(1, 7, "one card."), (2, 12, "two cards."), (3, 24, "three cards."), (4, 24, "four cards.")]
    {
        let config = GeneralPointsConfig { num_cards, target, ..Default::default() };
        let mut game = new(config.clone());
        let text = game.reset(5, 11).unwrap().messages.remove(0).content;
        let cards: Vec<&str> = game.hand().unwrap().cards().iter().map(|card| card.plain()).collect();
        assert_eq!(cards.len(), num_cards);
        assert!(text.contains(&format!("Cards: [\"{}\"]", cards.join("\", \""))), "{text}");
        assert!(text.contains(words) && text.contains(&format!("the {target} points game")), "{text}");
        assert!(!text.contains("<<"), "{text}");
        assert!(game.step(&solution(&config, 5, 11)).unwrap().success);
    }
}

#[test]
fn the_compact_prompt_is_compact() {
    let config = GeneralPointsConfig { template: TemplateKind::Compact, ..Default::default() };
    let text = prompt(&config);
    assert!((15..=20).contains(&text.split_whitespace().count()), "{text}");
    assert!(text.starts_with("Cards: ") && text.ends_with("Use each once to make 24."), "{text}");
}

#[test]
fn the_worked_example_is_right() {
    let config = GeneralPointsConfig { template: TemplateKind::Example, ..Default::default() };
    let text = prompt(&config);
    let (_, example) = text.split_once("[Example]").unwrap();
    assert!(example.contains(r#"For the cards ["A", "A", "A", "8"]"#), "{example}");
    assert!(example.contains(r#"(1+1+1)*8=24"#) || example.contains("8*(1+1+1)=24"), "{example}");
    assert!(text.ends_with("Reply with the JSON object only."));
}

#[test]
fn hashes_are_of_the_wording() {
    let hashes = [TemplateKind::Standard, TemplateKind::Example, TemplateKind::Compact]
        .map(|template| template_sha256(&GeneralPointsConfig { template, ..Default::default() }));
    assert!(hashes.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert!(hashes[0] != hashes[1] && hashes[0] != hashes[2]);
    let game = new(GeneralPointsConfig::default());
    assert_eq!(game.template_sha256(), new(game.config().rule_shifted()).template_sha256());
}

#[test]
fn expert_answers_are_right_and_use_the_prompt_of_the_game() {
    let base = GeneralPointsConfig::default();
    let compact = GeneralPointsConfig { template: TemplateKind::Compact, ..base.clone() };
    let small = GeneralPointsConfig { num_cards: 3, target: 12, ..compact.clone() };
    for (config, parse_mode) in [
        (base.clone(), ParseMode::Lenient),
        (base.rule_shifted(), ParseMode::Lenient),
        (compact, ParseMode::Strict),
        (small.rule_shifted(), ParseMode::Strict),
    ] {
        let (mut game, expert) = (new(config.clone()), Expert::new(&config).unwrap());
        for index in 0..200 {
            let observation = game.reset(9, index).unwrap();
            let example = expert.example(9, index).unwrap();
            assert_eq!(example.messages[..1], observation.messages[..]);
            let answer = &example.messages[1];
            assert_eq!(answer.role, Role::Assistant);
            let read = Answer::parse(&answer.content);
            let numbers: Vec<String> = game.hand().unwrap().numbers().iter().map(ToString::to_string).collect();
            assert_eq!(read.parse_mode(), parse_mode);
            assert_eq!(read.number().unwrap(), numbers);
            let plain: Vec<&str> = game.hand().unwrap().cards().iter().map(|card| card.plain()).collect();
            assert_eq!(read.cards().unwrap(), plain);
            assert!(game.step(&answer.content).unwrap().success, "{}", answer.content);
        }
    }
}

/// The twelve solutions of {6, 6, 6, 6} come up equally often: a chi-square test.
#[test]
fn solutions_are_sampled_uniformly() {
    let config = GeneralPointsConfig { min_rank: 5, max_rank: 6, ..Default::default() };
    let expert = Expert::new(&config).unwrap();
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for index in 0..12_000 {
        let example = expert.example(1, index).unwrap();
        let answer = Answer::parse(&example.messages[1].content);
        if answer.number().unwrap() == ["6", "6", "6", "6"] {
            *counts.entry(answer.left_side().unwrap().to_string()).or_default() += 1;
        }
    }
    let total: u32 = counts.values().sum();
    assert_eq!(counts.len(), 12, "{counts:?}");
    let expected = f64::from(total) / 12.0;
    let chi_square: f64 = counts.values().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    // 99.9 % quantile of chi-square with 11 degrees of freedom.
    assert!(chi_square < 31.264, "{chi_square}: {counts:?}");
}

#[test]
fn example_serialises_as_chat() {
    let value = serde_json::to_value(expert_example(&GeneralPointsConfig::default(), 0, 0).unwrap()).unwrap();
    assert_eq!(value["messages"][0]["role"], "user");
    assert_eq!(value["messages"][1]["role"], "assistant");
    assert_eq!(value.as_object().unwrap().len(), 1);
}

#[test]
fn many_environments_keep_their_order() {
    let config = GeneralPointsConfig::default();
    let mut games: Vec<Box<dyn Environment>> = (0..300).map(|_| Box::new(new(config.clone())) as _).collect();
    let indices: Vec<u64> = (0..300).map(|i| (i * 7) % 300).collect();
    let observations = reset_many(&mut games, 3, &indices).unwrap();
    let mut one = new(config.clone());
    for (observation, &index) in observations.iter().zip(&indices) {
        assert_eq!(*observation, one.reset(3, index).unwrap());
    }

    let responses: Vec<Option<String>> = indices
        .iter()
        .map(|&index| match index % 3 {
            0 => Some(solution(&config, 3, index)),
            1 => Some("no idea".to_string()),
            _ => None,
        })
        .collect();
    let steps = step_many(&mut games, &responses).unwrap();
    for (step, &index) in steps.iter().zip(&indices) {
        assert_eq!(step.as_ref().map(|step| step.success), [Some(true), Some(false), None][(index % 3) as usize]);
    }
    assert!(matches!(step_many(&mut games, &responses), Err(Error::EpisodeEnded { .. })));
    assert_eq!(reset_many(&mut games, 3, &[1, 2]), Err(Error::Length { name: "indices", found: 2, expected: 300 }));
}
