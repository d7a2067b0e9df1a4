//! Whatever is made from a seed and an index is made again from them alone: in any order, by any number of threads.

use rayon::prelude::*;
use rl_envs::general_points::{
    DatasetConfig, DatasetPart, Expert, GeneralPointsConfig, Repeats, RowKind, TemplateKind,
};
use rl_envs::wrappers::Recorder;
use rl_envs::{Environment, Preset};
use sha2::{Digest, Sha256};

const EPISODES: u64 = 60;

/// Everything about an episode that is answered well at its second attempt, or where there is one, at its first.
fn bytes(environment: &mut Recorder<Box<dyn Environment>>, index: u64) -> Vec<u8> {
    environment.reset(42, index).unwrap();
    let mut picture = environment.picture().map(|picture| picture.png()).unwrap_or_default();
    let mut ended = environment.step("no idea").unwrap().ended();
    while !ended {
        let answer = environment.expert().unwrap();
        ended = environment.step(&answer).unwrap().ended();
    }
    let record = (environment.transcript().unwrap(), environment.info());
    picture.extend(serde_json::to_vec(&record).unwrap());
    picture
}

#[test]
fn episodes_are_made_again_byte_for_byte() {
    for &preset in Preset::ALL {
        let new = || Recorder::new(preset.config().build().unwrap());
        let episodes = if preset == Preset::GeneralPointsVision { EPISODES / 6 } else { EPISODES };
        let mut one = new();
        let forward: Vec<Vec<u8>> = (0..episodes).map(|index| bytes(&mut one, index)).collect();
        let mut other = new();
        let backward: Vec<Vec<u8>> = (0..episodes).rev().map(|index| bytes(&mut other, index)).collect();
        assert!(forward.iter().eq(backward.iter().rev()), "{preset}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let parallel: Vec<Vec<u8>> = pool.install(|| (0..episodes).into_par_iter().map_init(new, bytes).collect());
        assert!(forward == parallel, "{preset}");
        assert!(1 < forward.iter().collect::<std::collections::HashSet<_>>().len(), "{preset}");
    }
}

fn part(kind: RowKind, num_rows: u64, environment: GeneralPointsConfig) -> DatasetPart {
    DatasetPart { kind, num_rows, first_index: 0, repeats: Repeats::Allowed, environment }
}

#[test]
fn training_rows_are_made_again_one_by_one_and_by_any_number_of_threads() {
    let environment = GeneralPointsConfig::default();
    let config = DatasetConfig {
        out: "x.jsonl".into(),
        seed: 5,
        parts: vec![part(RowKind::Expert, 400, environment.clone()), part(RowKind::Retry, 50, environment.clone())],
    };
    let digest = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rows = pool.install(|| config.rows()).unwrap();
        Sha256::digest(serde_json::to_vec(&rows).unwrap())
    };
    assert_eq!(digest(1), digest(4));

    // On the fly: the row of an index is the one in the file.
    let expert = Expert::new(&environment).unwrap();
    let rows = config.rows().unwrap();
    for index in [399, 7, 0, 123] {
        let messages = expert.example(5, index).unwrap().messages;
        assert_eq!(rows.iter().filter(|row| row.messages == messages).count(), 1, "row {index}");
    }
}

#[test]
fn repeated_hands_are_passed_over() {
    let environment = GeneralPointsConfig { num_cards: 2, max_rank: 9, ..GeneralPointsConfig::default() };
    let rows = |num_rows, repeats| {
        let part = DatasetPart { repeats, ..part(RowKind::Expert, num_rows, environment.clone()) };
        DatasetConfig { out: "x.jsonl".into(), seed: 5, parts: vec![part] }.rows()
    };
    let prompts = |repeats| -> usize {
        let rows = rows(4, repeats).unwrap();
        rows.iter().map(|row| row.messages[0].content.clone()).collect::<std::collections::HashSet<_>>().len()
    };
    // 3x8, 4x6 and their turned hands are all that two cards up to nine give.
    assert_eq!(prompts(Repeats::Skipped), 4);
    assert!(prompts(Repeats::Allowed) < 4);
    let error = rows(5, Repeats::Skipped).unwrap_err().to_string();
    assert_eq!(error, "num_rows = 5: only 4 different hands were found; ask for fewer rows");
}

#[test]
fn the_published_loss_data_can_be_made() {
    let environment = GeneralPointsConfig::default().rule_shifted();
    let rows = |kind| {
        let part = part(kind, 20, environment.clone());
        DatasetConfig { out: "x.jsonl".into(), seed: 5, parts: vec![part] }.rows()
    };
    let ours = rows(RowKind::Expert).unwrap();
    for (row, ours) in rows(RowKind::LegacyLoss).unwrap().iter().zip(&ours) {
        let (prompt, ours_prompt) = (&row.messages[0].content, &ours.messages[0].content);
        let sentence = "The face cards J, Q and K count as 11, 12 and 13 respectively.";
        let other = "'J' is worth 11, 'Q' is worth 12 and 'K' is worth 13.";
        assert_eq!(*prompt, ours_prompt.replace(sentence, other));
        let answer = &row.messages[1].content;
        assert!(!answer.contains('=') && answer.ends_with("\"\n}"), "{answer}");
        assert_eq!(row.values, ours.values);
        serde_json::from_str::<serde_json::Value>(answer).unwrap();
    }
    let compact = GeneralPointsConfig { template: TemplateKind::Compact, ..environment.clone() };
    let part = part(RowKind::LegacyLoss, 1, compact);
    let config = DatasetConfig { out: "x.jsonl".into(), seed: 5, parts: vec![part] };
    assert!(config.rows().unwrap_err().to_string().contains("standard template"));
}
