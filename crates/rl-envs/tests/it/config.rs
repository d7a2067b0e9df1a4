//! Config files: what is refused, and how the refusal reads.

use rl_envs::Error;
use rl_envs::general_points::{
    Deck, GeneralPoints, GeneralPointsConfig, RewardConfig, RewardMode, RewardTable, TemplateKind, VisionConfig,
};

fn refused(config: GeneralPointsConfig) -> (&'static str, String) {
    match GeneralPoints::new(config) {
        Err(Error::Config { key, value, .. }) => (key, value),
        other => panic!("expected a config error, found {other:?}"),
    }
}

#[test]
fn values_out_of_range_are_named() {
    let base = GeneralPointsConfig::default;
    let vision = |resolution| Some(VisionConfig { resolution, recognition_only: false });
    let prices = |prices| RewardConfig { mode: RewardMode::Additive, prices: Some(prices) };
    for (config, key, value) in [
        (GeneralPointsConfig { num_cards: 0, ..base() }, "num_cards", "0"),
        (GeneralPointsConfig { num_cards: 7, ..base() }, "num_cards", "7"),
        (GeneralPointsConfig { num_cards: 5, legacy_float: true, ..base() }, "legacy_float", "true"),
        (
            GeneralPointsConfig { num_cards: 6, legacy_unclosed_bracket: true, ..base() },
            "legacy_unclosed_bracket",
            "true",
        ),
        (GeneralPointsConfig { vision: vision(16), ..base() }, "vision.resolution", "16"),
        (GeneralPointsConfig { vision: vision(400), template: TemplateKind::Compact, ..base() }, "template", "compact"),
        (GeneralPointsConfig { min_rank: 0, ..base() }, "min_rank", "0"),
        (GeneralPointsConfig { max_rank: 14, ..base() }, "max_rank", "14"),
        (GeneralPointsConfig { min_rank: 9, max_rank: 8, ..base() }, "max_rank", "8"),
        (GeneralPointsConfig { max_rank: 10, ood: true, ..base() }, "max_rank", "10"),
        (GeneralPointsConfig { max_attempts: 0, ..base() }, "max_attempts", "0"),
        (GeneralPointsConfig { target: 1_000_000, ..base() }, "target", "1000000"),
        (GeneralPointsConfig { num_cards: 1, target: 24, ..base() }, "target", "24"),
        (
            GeneralPointsConfig {
                min_rank: 11,
                treat_face_cards_as_10: false,
                template: TemplateKind::Example,
                ..base()
            },
            "template",
            "example",
        ),
        (
            GeneralPointsConfig {
                reward: prices(RewardTable { wrong_total: f64::NAN, ..RewardTable::PUBLISHED }),
                ..base()
            },
            "reward.prices.wrong_total",
            "NaN",
        ),
    ] {
        assert_eq!(refused(config), (key, value.to_string()));
    }
    let error = GeneralPointsConfig { num_cards: 7, ..base() }.validate().unwrap_err();
    assert_eq!(error.to_string(), "num_cards = 7: must be 1 to 6");
    let error = Deck::new(&GeneralPointsConfig { num_cards: 1, ood: true, target: 3, ..base() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "target = 3: no hand of 1 cards of ranks 1 to 13 with a face card reaches it; \
         choose another target or more cards"
    );
}

#[test]
fn files_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<GeneralPointsConfig>(text);
    assert_eq!(read("{}").unwrap(), GeneralPointsConfig::default());
    let config = read(r#"{"num_cards": 3, "template": "compact", "reward": {"mode": "coarse"}}"#).unwrap();
    assert_eq!((config.num_cards, config.template), (3, TemplateKind::Compact));
    assert_eq!(config.reward.table(), RewardTable::COARSE);
    for (text, word) in [
        (r#"{"num_card": 3}"#, "num_card"),
        (r#"{"suit_pool": "green"}"#, "green"),
        (r#"{"reward": {"mode": "additive", "price": {}}}"#, "price"),
        (r#"{"reward": {"prices": {"correct": 5}}}"#, "partial"),
        (r#"{"template": "short"}"#, "short"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(read(&text).unwrap(), config);
}

#[test]
fn prices_come_from_the_table() {
    use rl_envs::Environment;
    let table = RewardTable { illegal_formula: -0.25, attempt_limit: 0.0, ..RewardTable::PUBLISHED };
    let reward = RewardConfig { mode: RewardMode::Additive, prices: Some(table) };
    let mut game = GeneralPoints::new(GeneralPointsConfig { reward, max_attempts: 1, ..Default::default() }).unwrap();
    game.reset(0, 0).unwrap();
    assert_eq!(game.step("nothing").unwrap().reward, -0.25);
}
