//! V-IRL: walks from start to stop, feedback, limits, the two rules, expert data and settings.

use rl_envs::vector::reset_many;
use rl_envs::virl::prompt::template_sha256;
use rl_envs::virl::{
    ActionSpace, DatasetConfig, DatasetPart, EpisodeKind, Expert, RewardTable, RouteOrder, RouteSource, RowKind,
    SyntheticConfig, TemplateKind, Virl, VirlConfig, expert_example,
};
use rl_envs::{Environment, EnvironmentConfig, Error, Message, Role};

const WRONG: &str = r#"{"current observation": "x", "action": "fly()"}"#;

fn new(config: VirlConfig) -> Virl {
    Virl::new(config).unwrap()
}

/// Every prompt and right answer of a walk.
fn walk(config: &VirlConfig, seed: u64, index: u64) -> Vec<(String, String)> {
    let mut task = new(config.clone());
    let mut prompt = task.reset(seed, index).unwrap().messages.remove(0).content;
    let mut turns = Vec::new();
    loop {
        let answer = task.expert_answer().unwrap();
        let step = task.step(&answer).unwrap();
        assert_eq!((step.outcome, step.reward), ("correct", 1.0));
        turns.push((prompt, answer));
        match step.feedback {
            Some(feedback) => {
                assert!(task.starts_over() && !step.success);
                prompt = feedback.content;
            }
            None => {
                assert!(step.success && step.terminated && !step.truncated && !task.starts_over());
                assert_eq!(task.expert_answer(), None);
                return turns;
            }
        }
    }
}

#[test]
fn the_expert_always_succeeds() {
    for template in [TemplateKind::Standard, TemplateKind::Compact] {
        for absolute_action in [true, false] {
            for city in 0..3 {
                let routes = RouteSource::Synthetic(SyntheticConfig { city, ..SyntheticConfig::TRAINING });
                let config = VirlConfig { template, absolute_action, routes, ..VirlConfig::default() };
                let mut longest = 0;
                for index in 0..100 {
                    longest = longest.max(walk(&config, 42, index).len());
                }
                assert!(longest > 15);
            }
        }
    }
    // The published switches do not get in its way.
    let legacy = VirlConfig {
        legacy_nowrap: true,
        legacy_short_leg: true,
        legacy_double_waypoint: true,
        legacy_landmark_test: true,
        legacy_extra_step: true,
        relocation: false,
        ..VirlConfig::default()
    };
    for index in 0..100 {
        assert!(walk(&legacy, 1, index).len() > 3);
    }
}

#[test]
fn a_walk_goes_point_by_point() {
    let mut task = new(VirlConfig::default());
    assert_eq!(task.step(WRONG), Err(Error::NotReset { environment: "virl" }));
    assert_eq!(task.info(), serde_json::Value::Null);
    assert_eq!((task.expert_answer(), task.prompt(), task.position()), (None, None, None));

    let observation = task.reset(42, 3).unwrap();
    assert_eq!(observation.messages.len(), 1);
    assert_eq!(observation.messages[0].role, Role::User);
    let info = task.info();
    assert!(info["verify_info"].is_null() && info["outcome"].is_null() && info["parse_mode"].is_null());
    assert_eq!(info["instruction_idx"], 1);
    assert_eq!(info["current_obs"], "No landmark is near;");
    assert_eq!(info["obs_act_seq"], "O_1: No landmark is near;\nA_1:");
    assert_eq!(info["remaining_attempts"], 2);
    let first_action = task.expected_action().unwrap().label();
    assert_eq!(info["gt_action"], first_action);
    let global = info["global_instruction"].as_str().unwrap();
    assert!(global.starts_with("1. To begin, turn ") && global.ends_with('.'));
    assert!(observation.messages[0].content.contains(global));

    // A failed attempt: the same point, one attempt less, a reason and a reminder of the form.
    let failed = task.step(WRONG).unwrap();
    assert_eq!(
        (failed.outcome, failed.reward, failed.success, failed.ended()),
        ("incorrect_action", -1.0, false, false)
    );
    assert!(!task.starts_over());
    let feedback = failed.feedback.unwrap();
    assert_eq!(feedback.role, Role::User);
    assert!(feedback.content.starts_with("That answer failed: the action is wrong."), "{}", feedback.content);
    assert!(feedback.content.contains("\"current observation\"") && feedback.content.contains("\"action\""));
    assert_eq!((task.info()["remaining_attempts"].clone(), task.info()["position"].clone()), (1.into(), 0.into()));

    // A right one: the next point, a conversation of its own, all attempts back, and no trace of the failure.
    let step = task.step(&task.expert_answer().unwrap()).unwrap();
    assert_eq!((step.outcome, step.reward, step.success, step.ended()), ("correct", 1.0, false, false));
    assert!(task.starts_over());
    let prompt = step.feedback.unwrap().content;
    assert_eq!(Some(&prompt), task.prompt().as_ref());
    assert!(prompt.contains(&format!("O_1: No landmark is near;\nA_1: {first_action}\nO_2: ")), "{prompt}");
    assert!(!prompt.contains("fly") && !prompt.contains("failed"));
    let info = task.info();
    assert_eq!((info["remaining_attempts"].clone(), info["position"].clone()), (2.into(), 1.into()));
    assert_eq!((info["outcome"].clone(), info["is_success"].clone()), ("correct".into(), true.into()));
    assert!(prompt.contains(&format!("{}\n\n[Output]", info["obs_act_seq"].as_str().unwrap())));
}

#[test]
fn the_last_failed_attempt_truncates_and_pays_the_limit() {
    let mut task = new(VirlConfig::default());
    task.reset(0, 0).unwrap();
    task.step(&task.expert_answer().unwrap()).unwrap();
    let reward = task.step("no idea").unwrap().reward;
    let step = task.step("no idea").unwrap();
    assert_eq!((step.reward, step.terminated, step.truncated, step.feedback), (reward - 1.0, false, true, None));
    assert_eq!(
        (task.info()["is_success"].clone(), task.info()["remaining_attempts"].clone()),
        (false.into(), 0.into())
    );
    assert_eq!(task.step("no idea"), Err(Error::EpisodeEnded { environment: "virl" }));
    assert!(task.reset(0, 1).is_ok() && !task.starts_over());
    assert_eq!(task.info()["is_success"], true);
}

#[test]
fn the_legacy_extra_step_is_penalised_ungraded() {
    let mut task = new(VirlConfig { legacy_extra_step: true, ..VirlConfig::default() });
    task.reset(0, 0).unwrap();
    for _ in 0..2 {
        let step = task.step("no idea").unwrap();
        assert_eq!((step.reward, step.ended()), (-1.0, false));
    }
    // Even a right answer comes too late.
    let step = task.step(&task.expert_answer().unwrap()).unwrap();
    assert_eq!((step.outcome, step.reward, step.success), ("attempt_limit", -1.0, false));
    assert_eq!((step.terminated, step.truncated, step.feedback), (false, true, None));
    assert_eq!(task.info()["verify_info"], "the attempt limit is reached.");
}

#[test]
fn a_limit_of_steps_truncates() {
    let mut task = new(VirlConfig { max_steps: Some(3), ..VirlConfig::default() });
    task.reset(0, 0).unwrap();
    for turn in 0..3 {
        let step = task.step(&task.expert_answer().unwrap()).unwrap();
        assert_eq!((step.truncated, step.feedback.is_none()), (turn == 2, turn == 2));
        assert_eq!(step.reward, if turn == 2 { 0.0 } else { 1.0 });
    }
    assert_eq!(task.info()["is_success"], false);
    // Reached together with the destination, it does nothing.
    let length = walk(&VirlConfig::default(), 0, 0).len() as u32;
    assert_eq!(walk(&VirlConfig { max_steps: Some(length), ..VirlConfig::default() }, 0, 0).len() as u32, length);
}

/// The line of the template that states the rule, by template and rule.
fn rule(template: TemplateKind, absolute: bool) -> &'static str {
    match (template, absolute) {
        (TemplateKind::Standard, true) => {
            "\"turn_direction(x)\": turn until you face x, one of 'north', 'northeast', 'east', 'southeast', 'south', \
             'southwest', 'west' and 'northwest'."
        }
        (TemplateKind::Standard, false) => {
            "\"turn_direction(x)\": turn to your x, one of 'left', 'right', 'slightly left' and 'slightly right'."
        }
        (TemplateKind::Compact, true) => {
            "turn_direction(north / northeast / east / southeast / south / southwest / west / northwest)"
        }
        (TemplateKind::Compact, false) => "turn_direction(left / right / slightly left / slightly right)",
    }
}

#[test]
fn the_rules_differ_in_their_sentence_and_in_the_words_of_turns_alone() {
    for template in [TemplateKind::Standard, TemplateKind::Compact] {
        let id = VirlConfig { template, ..VirlConfig::default() };
        let ood = id.rule_shifted();
        assert_eq!(VirlConfig { absolute_action: true, ..ood.clone() }, id);
        for index in 0..40 {
            let (one, other) = (walk(&id, 7, index), walk(&ood, 7, index));
            assert_eq!(one.len(), other.len());
            // The turns of this walk, in order, in either tongue.
            let mut turns: Vec<(String, String)> = Vec::new();
            for ((prompt, answer), (shifted, shifted_answer)) in one.iter().zip(&other) {
                assert_eq!(prompt.matches(rule(template, true)).count(), 1, "{prompt}");
                let mut expected = prompt.replace(rule(template, true), rule(template, false));
                for (number, (absolute, relative)) in turns.iter().enumerate() {
                    let line = |action: &str| format!("\nA_{}: {action}\n", number + 1);
                    assert!(expected.contains(&line(absolute)));
                    expected = expected.replace(&line(absolute), &line(relative));
                }
                assert_eq!(shifted, &expected);
                let action = |answer: &str| answer.rsplit_once("action\":").unwrap().1.trim().to_string();
                let bare = |answer: &str| action(answer).replace(['"', ',', '}', '\n'], "");
                assert_eq!(answer.replace(&action(answer), ""), shifted_answer.replace(&action(shifted_answer), ""));
                turns.push((bare(answer), bare(shifted_answer)));
                let (absolute, relative) = turns.last().unwrap();
                assert_eq!(absolute == relative, !absolute.starts_with("turn"), "{absolute} {relative}");
            }
        }
    }
    assert_ne!(template_sha256(TemplateKind::Standard), template_sha256(TemplateKind::Compact));
    assert_eq!(template_sha256(TemplateKind::Compact).len(), 64);
    assert_eq!(new(VirlConfig::default()).template_sha256(), template_sha256(TemplateKind::Standard));
}

#[test]
fn a_prompt_reads_as_written_down_here() {
    let routes =
        RouteSource::Synthetic(SyntheticConfig { min_segments: 1, max_segments: 1, ..SyntheticConfig::TRAINING });
    let config = VirlConfig { template: TemplateKind::Compact, routes, drop_rate: 1.0, ..VirlConfig::default() };
    let turns = walk(&config, 0, 0);
    // With one segment and no point between: a turn at the start, and the stop.
    assert_eq!(turns.len(), 2);
    let task = {
        let mut task = new(config);
        task.reset(0, 0).unwrap();
        task
    };
    let rail = task.rail().unwrap();
    let turn = rail.points()[0].absolute_action.label();
    let seen = rail.observation(&rail.points()[1]);
    let expected = format!(
        "{}\nActions: forward() {} stop()\nO_1: No landmark is near;\nA_1: {turn}\nO_2: {seen}\nA_2:",
        rail.str_instruction(),
        rule(TemplateKind::Compact, true)
    );
    assert_eq!(turns[1].0, expected);
    let answer = format!(
        r#"{{"current observation":"{seen}","current instruction":"{}","action":"stop()"}}"#,
        rail.instruction(2)
    );
    assert_eq!(turns[1].1, answer);
    assert!(
        seen.ends_with(';') && seen.contains(" is on your "),
        "nothing is said of intersections at the end: {seen}"
    );
}

#[test]
fn episodes_depend_on_seed_and_index_alone() {
    for episode in [EpisodeKind::Route, EpisodeKind::Point] {
        let config = VirlConfig { episode, ..VirlConfig::default() };
        let mut task = new(config.clone());
        let forward: Vec<_> = (0..300).map(|index| task.reset(42, index).unwrap()).collect();
        let mut other = new(config.clone());
        let backward: Vec<_> = (0..300).rev().map(|index| other.reset(42, index).unwrap()).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        let mut many: Vec<Virl> = (0..300).map(|_| task.clone()).collect();
        assert_eq!(reset_many(&mut many, 42, &(0..300).collect::<Vec<_>>()).unwrap(), forward);
        let repeated = forward.iter().filter(|observation| **observation == task.reset(43, 0).unwrap()).count();
        assert_eq!(repeated, 0);
        assert_ne!(forward[0], forward[1]);
    }
}

#[test]
fn data_are_the_same_with_any_number_of_threads() {
    let environment = VirlConfig::default();
    let part =
        |kind, num_episodes| DatasetPart { kind, num_episodes, first_index: 0, environment: environment.clone() };
    let parts = vec![part(RowKind::Point, 200), part(RowKind::Walk, 20), part(RowKind::Retry, 100)];
    let config = DatasetConfig { out: "x.jsonl".into(), seed: 3, parts };
    let bytes = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_vec(&config.rows().unwrap()).unwrap())
    };
    let one = bytes(1);
    assert_eq!(one, bytes(1));
    assert_eq!(one, bytes(3));
}

#[test]
fn one_point_is_an_episode_of_its_own() {
    let config = VirlConfig { episode: EpisodeKind::Point, ..VirlConfig::default() };
    let mut task = new(config);
    let mut kinds = std::collections::BTreeMap::<&str, u32>::new();
    for index in 0..600 {
        task.reset(5, index).unwrap();
        let expected = task.expected_action().unwrap();
        assert_eq!(task.task_kind(), Some(expected.kind()));
        *kinds.entry(expected.kind()).or_default() += 1;
        if index % 2 == 0 {
            assert!(!task.step(WRONG).unwrap().ended());
        }
        let step = task.step(&task.expert_answer().unwrap()).unwrap();
        assert_eq!((step.success, step.terminated, step.feedback), (true, true, None));
        assert!(!task.starts_over());
    }
    assert!(kinds.len() == 3 && kinds.values().all(|&count| count > 40), "{kinds:?}");
}

#[test]
fn routes_come_at_random_or_in_turn() {
    let routes =
        RouteSource::Synthetic(SyntheticConfig { num_routes: 18, first_route: 5000, ..SyntheticConfig::TRAINING });
    let config = VirlConfig { routes, order: RouteOrder::Sequential, ..VirlConfig::default() };
    let mut task = new(config.clone());
    for index in 0..40 {
        task.reset(1, index).unwrap();
        assert_eq!(task.position(), Some((index % 18, 0)));
    }
    let mut task = new(VirlConfig { order: RouteOrder::Random, ..config });
    let found: std::collections::HashSet<u64> = (0..200)
        .map(|index| {
            task.reset(1, index).unwrap();
            task.position().unwrap().0
        })
        .collect();
    assert_eq!(found.len(), 18);
}

#[test]
fn expert_data_are_the_environment_s_own_prompts() {
    let config = VirlConfig::default();
    let mut expert = Expert::new(&config).unwrap();
    let mut point = new(VirlConfig { episode: EpisodeKind::Point, ..config.clone() });
    for index in 0..50 {
        let example = expert.example(3, index).unwrap();
        assert_eq!(example.messages[..1], point.reset(3, index).unwrap().messages);
        assert_eq!((example.route, example.position), point.position().unwrap());
        assert_eq!(example.messages[1].role, Role::Assistant);
        assert!(point.step(&example.messages[1].content).unwrap().success);
        assert_eq!(example, expert_example(&config, 3, index).unwrap());

        let retry = expert.retry(3, index).unwrap();
        assert_eq!(retry.messages.len(), 4);
        point.reset(3, index).unwrap();
        let failed = point.step(&retry.messages[1].content).unwrap();
        assert_eq!(failed.outcome, "incorrect_action");
        assert_eq!(failed.feedback.as_ref(), Some(&retry.messages[2]));
        assert!(point.step(&retry.messages[3].content).unwrap().success);
        assert_eq!((&retry.messages[0], &retry.messages[3]), (&example.messages[0], &example.messages[1]));

        let turns = walk(&config, 3, index);
        let examples = expert.walk(3, index).unwrap();
        assert_eq!(examples.len(), turns.len());
        for (position, (example, (prompt, answer))) in examples.iter().zip(turns).enumerate() {
            assert_eq!(example.messages, [Message::user(prompt), Message::assistant(answer)]);
            assert_eq!(example.position, position);
        }
    }
}

#[test]
fn settings_are_checked() {
    let refused = |config: VirlConfig| Virl::new(config).unwrap_err().to_string();
    let routes = |num_routes, min_segments, max_segments| {
        RouteSource::Synthetic(SyntheticConfig { city: 0, first_route: 0, num_routes, min_segments, max_segments })
    };
    let default = VirlConfig::default;
    for (config, message) in [
        (VirlConfig { drop_rate: 1.5, ..default() }, "drop_rate = 1.5"),
        (VirlConfig { drop_rate: f64::NAN, ..default() }, "drop_rate = NaN"),
        (VirlConfig { straight_line_length: 0, ..default() }, "straight_line_length = 0"),
        (VirlConfig { max_attempts: 0, ..default() }, "max_attempts = 0"),
        (VirlConfig { max_steps: Some(0), ..default() }, "max_steps = 0"),
        (VirlConfig { routes: routes(0, 2, 6), ..default() }, "routes.num_routes = 0"),
        (VirlConfig { routes: routes(1, 0, 6), ..default() }, "routes.min_segments = 0"),
        (
            VirlConfig { routes: routes(1, 3, 2), ..default() },
            "routes.max_segments = 2: must be 3 (min_segments) to 32",
        ),
        (
            VirlConfig { reward: RewardTable { correct: f64::INFINITY, ..RewardTable::PUBLISHED }, ..default() },
            "reward.correct = inf",
        ),
    ] {
        let found = refused(config);
        assert!(found.contains(message), "{found}");
    }
    let value = serde_json::json!({
        "name": "virl", "absolute_action": false, "episode": "point", "drop_rate": 0.25,
        "routes": {"kind": "synthetic", "city": 4, "first_route": 0, "num_routes": 9, "min_segments": 1, "max_segments": 2},
    });
    let read: EnvironmentConfig = serde_json::from_value(value.clone()).unwrap();
    let EnvironmentConfig::Virl(config) = &read else { panic!("{read:?}") };
    assert_eq!((config.action_space(), config.drop_rate), (ActionSpace::Relative, 0.25));
    assert_eq!(serde_json::from_value::<EnvironmentConfig>(serde_json::to_value(&read).unwrap()).unwrap(), read);
    assert_eq!((read.max_attempts(), read.starts_over()), (2, false));
    assert!(EnvironmentConfig::Virl(default()).starts_over());
    read.validate().unwrap();
    assert_eq!(read.build().unwrap().name(), "virl");
    let mut wrong = value;
    wrong["absolute_actions"] = true.into();
    assert!(serde_json::from_value::<EnvironmentConfig>(wrong).is_err());
    let missing = r#"{"name": "virl", "routes": {"kind": "folder", "path": "/no/such/folder"}}"#;
    let missing: EnvironmentConfig = serde_json::from_str(missing).unwrap();
    assert!(missing.build().err().unwrap().to_string().contains("/no/such/folder/route_infos.json"));
}
