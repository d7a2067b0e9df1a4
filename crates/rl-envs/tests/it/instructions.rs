//! The instruction task: the verifier by hand-written answers, the writer by the verifier, the splits by counting.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rl_envs::instructions::*;
use rl_envs::{Environment, Error};

const SPLITS: [Split; 2] = [Split::Train, Split::HeldOut];
/// Largest difference of mean lengths between chosen and rejected answers, relative to the chosen.
const MEAN_LENGTH_TOLERANCE: f64 = 0.03;
/// How far from a half the share of pairs with a longer chosen answer may be, ties counted half.
const LONGER_TOLERANCE: f64 = 0.05;

fn all_kinds(split: Split) -> PromptConfig {
    PromptConfig { split, kinds: ConstraintKind::ALL.into() }
}

fn topic(name: &str) -> &'static Topic {
    Topic::named(name).unwrap()
}

fn instructions(split: Split) -> Instructions {
    Instructions::new(&InstructionsConfig { prompts: all_kinds(split), reward: RewardTable::BINARY }).unwrap()
}

#[test]
fn the_verifier_reads_answers_as_its_rules_say() {
    let sentences = |count| Constraint::Sentences { count };
    let bullets = |count| Constraint::BulletPoints { count };
    let numbers = |count| Constraint::NumberedList { count };
    let include = || Constraint::Include { word: "nectar".into() };
    let avoid = || Constraint::Avoid { word: "nectar".into() };
    let at_most = |count| Constraint::AtMostWords { count };
    let at_least = |count| Constraint::AtLeastWords { count };
    let begin = || Constraint::BeginWith { phrase: "Let me explain.".into() };
    let end = || Constraint::EndWith { phrase: "That is all.".into() };
    let json = || Constraint::JsonKeys { keys: ["topic".into(), "fact".into()] };
    for (constraint, answer, met) in [
        (sentences(1), "Bees dance.", true),
        (sentences(1), "  Bees dance", true),
        (sentences(1), "Bees dance. They hum.", false),
        (sentences(2), "Bees dance. They hum.", true),
        (sentences(2), "Bees dance!! They hum?!", true),
        (sentences(2), "Bees dance\nThey hum", true),
        (sentences(2), "A bee weighs 0.1 gram. See a.b for more", true),
        (sentences(1), "... Bees ... ", true),
        (sentences(2), "Bees dance. ...", false),
        (bullets(2), "- Bees dance.\n- They hum.", true),
        (bullets(2), "\n - Bees dance.\n\n- They hum.\n", true),
        (bullets(2), "- Bees dance.\n- They hum.\n- They fly.", false),
        (bullets(2), "Here you go:\n- Bees dance.\n- They hum.", false),
        (bullets(2), "- Bees dance.\n-They hum.", false),
        (bullets(2), "- Bees dance.\n- ", false),
        (bullets(2), "* Bees dance.\n* They hum.", false),
        (numbers(2), "1. Bees dance.\n2. They hum.", true),
        (numbers(2), "1. Bees dance.\n3. They hum.", false),
        (numbers(2), "1) Bees dance.\n2) They hum.", false),
        (Constraint::LowerCase, "bees dance: 1, 2.", true),
        (Constraint::LowerCase, "bees Dance.", false),
        (Constraint::LowerCase, "été", true),
        (Constraint::LowerCase, "Été", false),
        (Constraint::LowerCase, "...", false),
        (include(), "Bees like Nectar.", true),
        (include(), "Bees like nectars.", false),
        (include(), "Bees like \"nectar\"", true),
        (avoid(), "Bees like nectars.", true),
        (avoid(), "NECTAR!", false),
        (at_most(3), "one two three", true),
        (at_most(3), "one two - three .", true),
        (at_most(3), "one two three four", false),
        (at_most(3), "", false),
        (at_least(3), "one two-two three", true),
        (at_least(3), "one two - .", false),
        (begin(), "Let me explain. Bees dance.", true),
        (begin(), "let me explain. Bees dance.", false),
        (begin(), "Sure. Let me explain. Bees dance.", false),
        (begin(), "Let me explain.", false),
        (end(), "Bees dance. That is all.\n", true),
        (end(), "Bees dance. That is all. Bye.", false),
        (end(), "Bees dance. That is all", false),
        (json(), r#"{"topic": "bees", "fact": "They hum."}"#, true),
        (json(), "{\"fact\":\"They hum.\",\n \"topic\":\"bees\"}\n", true),
        (json(), r#"{"topic": "bees", "fact": ""}"#, false),
        (json(), r#"{"topic": "bees", "fact": 3}"#, false),
        (json(), r#"{"topic": "bees"}"#, false),
        (json(), r#"{"topic": "bees", "fact": "hum", "more": "x"}"#, false),
        (json(), r#"["topic", "fact"]"#, false),
        (json(), r#"Here: {"topic": "bees", "fact": "They hum."}"#, false),
        (json(), r#"{"topic": "bees", "fact": "They hum."#, false),
    ] {
        assert_eq!(constraint.is_met(answer), met, "{constraint:?} {answer:?}");
    }
}

#[test]
fn an_answer_must_speak_of_the_topic() {
    let graded = |answer| grade(topic("bees"), &Constraint::Sentences { count: 1 }, answer);
    assert_eq!(graded("A bee is small."), Outcome::Obeyed);
    assert_eq!(graded("They love NECTAR."), Outcome::Obeyed);
    assert_eq!(graded("A bee is small. It hums."), Outcome::Violated);
    assert_eq!(graded("It is a nice day."), Outcome::OffTopic);
    assert_eq!(graded("Beehives hum."), Outcome::OffTopic);
    assert_eq!(graded(" \n...!\u{200b}"), Outcome::Empty);
}

#[test]
fn prompts_read_as_they_should() {
    let bees = topic("bees");
    let all = Constraint::all(bees);
    let prompts: Vec<String> = all.iter().zip(0..).map(|(constraint, n)| constraint.prompt(bees, n)).collect();
    for expected in [
        "Tell me about bees. Answer in exactly one sentence.",
        "What should I know about bees? Answer in exactly two sentences.",
        "Tell me about bees. Answer with exactly three bullet points that begin with \"- \", and nothing else.",
        "Tell me about bees. Do not use any capital letters.",
        "Say something about bees. Use the word \"queen\" in your answer.",
    ] {
        assert!(prompts.iter().any(|prompt| prompt == expected), "{prompts:#?}");
    }
    let kinds: BTreeSet<ConstraintKind> = all.iter().map(Constraint::kind).collect();
    assert_eq!(kinds.len(), ConstraintKind::ALL.len());
    let moon = Constraint::LowerCase.prompt(topic("the Moon"), 3);
    assert_eq!(moon, "Please describe the Moon. Do not use any capital letters.");
}

/// What the writer relies on.
#[test]
fn topics_are_made_of_plain_sentences_with_a_word_of_their_own() {
    let names: BTreeSet<&str> = TOPICS.iter().map(|topic| topic.name).collect();
    assert_eq!((TOPICS.len(), names.len()), (40, 40));
    let mut sentences = BTreeSet::new();
    for topic in TOPICS.iter() {
        for fact in &topic.facts {
            let (body, words) = (fact.sentence.strip_suffix('.').unwrap(), fact.sentence.split(' ').count());
            assert!((4..=8).contains(&words), "{}", fact.sentence);
            assert!(body.chars().all(|c| c.is_ascii_alphabetic() || c == ' '), "{}", fact.sentence);
            assert!(body.starts_with(|c: char| c.is_ascii_uppercase()) && !body.contains("  "), "{}", fact.sentence);
            assert!(sentences.insert(fact.sentence), "{} stands twice", fact.sentence);
            let holders = topic.facts.iter().filter(|other| {
                let lower = other.sentence.to_lowercase();
                lower.split([' ', '.']).any(|word| word == fact.word)
            });
            assert_eq!(holders.map(|f| f.sentence).collect::<Vec<_>>(), [fact.sentence], "{}", topic.name);
        }
    }
}

#[test]
fn the_chosen_answer_obeys_and_the_rejected_one_does_not() {
    let mut kinds = BTreeMap::new();
    for split in SPLITS {
        let prompts = Prompts::new(&all_kinds(split)).unwrap();
        // Three rounds, so that the same prompt is answered in other ways.
        for index in 0..3 * prompts.len() as u64 {
            let (instruction, answers) = (prompts.instruction(11, index), prompts.answers(11, index));
            assert_eq!(instruction.grade(&answers.chosen), Outcome::Obeyed, "{instruction:?}\n{}", answers.chosen);
            assert_eq!(
                instruction.grade(&answers.rejected),
                Outcome::Violated,
                "{instruction:?}\n{}",
                answers.rejected
            );
            *kinds.entry(instruction.constraint.kind()).or_insert(0) += 1;
        }
    }
    assert_eq!(kinds.len(), ConstraintKind::ALL.len());
}

#[test]
fn length_does_not_tell_the_two_apart() {
    for split in SPLITS {
        let prompts = Prompts::new(&all_kinds(split)).unwrap();
        let (mut chosen, mut rejected, mut longer, mut longest) = (0, 0, 0.0, 0);
        for index in 0..prompts.len() as u64 {
            let answers = prompts.answers(5, index);
            let lengths = [&answers.chosen, &answers.rejected].map(|text| text.len());
            (chosen, rejected) = (chosen + lengths[0], rejected + lengths[1]);
            longer += match lengths[0].cmp(&lengths[1]) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
            longest = longest.max(lengths[0].max(lengths[1]));
        }
        let difference = (chosen as f64 - rejected as f64) / chosen as f64;
        let longer = longer / prompts.len() as f64;
        println!("{split:?}: {} prompts, difference {difference:.4}, longer {longer:.3}, {longest}", prompts.len());
        assert!(difference.abs() < MEAN_LENGTH_TOLERANCE, "{split:?} {difference}");
        assert!((longer - 0.5).abs() < LONGER_TOLERANCE, "{split:?} {longer}");
    }
}

#[test]
fn no_held_out_pair_of_topic_and_constraint_is_trained_on() {
    let [train, held_out] = SPLITS.map(|split| {
        let prompts = Prompts::new(&all_kinds(split)).unwrap();
        let asked: BTreeSet<String> = (0..prompts.len() as u64).map(|i| prompts.instruction(3, i).prompt()).collect();
        // A round names every prompt once, whatever the seed, and seeds have other orders.
        assert_eq!(asked.len(), prompts.len());
        let other: BTreeSet<String> = (0..prompts.len() as u64).map(|i| prompts.instruction(4, i).prompt()).collect();
        assert_eq!(asked, other);
        assert!((0..9).any(|i| prompts.instruction(3, i) != prompts.instruction(4, i)));
        let pairs: BTreeSet<String> = (0..prompts.len() as u64)
            .map(|i| prompts.instruction(3, i))
            .map(|instruction| format!("{} {:?}", instruction.topic.name, instruction.constraint))
            .collect();
        (asked, pairs)
    });
    assert!(train.0.is_disjoint(&held_out.0) && train.1.is_disjoint(&held_out.1));
    let pairs = TOPICS.iter().map(|topic| Constraint::all(topic).len()).sum::<usize>();
    assert_eq!((train.1.len() + held_out.1.len(), train.0.len() + held_out.0.len()), (pairs, 4 * pairs));
    let share = held_out.1.len() as f64 / pairs as f64;
    assert!((share - prompts::HELD_OUT_SHARE).abs() < 0.04 && train.0.len() > 3000, "{share}");
    // Fewer kinds are fewer prompts, on the same side as before.
    let few = PromptConfig { split: Split::HeldOut, kinds: vec![ConstraintKind::LowerCase] };
    let few = Prompts::new(&few).unwrap();
    assert!((0..few.len() as u64).all(|i| held_out.0.contains(&few.instruction(8, i).prompt())));
    for kinds in [vec![], vec![ConstraintKind::LowerCase; 2]] {
        let error = Prompts::new(&PromptConfig { split: Split::Train, kinds }).unwrap_err();
        assert!(matches!(error, Error::Config { key: "kinds", .. }), "{error}");
    }
}

#[test]
fn an_episode_is_one_prompt_and_one_answer() {
    let config = InstructionsConfig {
        prompts: all_kinds(Split::Train),
        reward: RewardTable { obeyed: 2.0, violated: 0.5, off_topic: -1.0, empty: -2.0 },
    };
    let mut game = Instructions::new(&config).unwrap();
    assert!(matches!(game.step("x"), Err(Error::NotReset { environment: "instructions" })));
    assert!(game.info().is_null());
    for index in 0..50 {
        let answers = game.prompts().answers(7, index);
        for (answer, outcome, reward) in [
            (answers.chosen.as_str(), "obeyed", 2.0),
            (answers.rejected.as_str(), "violated", 0.5),
            ("Nothing to see.", "off_topic", -1.0),
            ("?", "empty", -2.0),
        ] {
            let observation = game.reset(7, index).unwrap();
            assert_eq!(observation.messages.len(), 1);
            assert_eq!(observation.messages[0].content, game.instruction().unwrap().prompt());
            let step = game.step(answer).unwrap();
            assert_eq!((step.outcome, step.reward, step.success), (outcome, reward, outcome == "obeyed"));
            assert!(step.terminated && !step.truncated && step.feedback.is_none());
            assert_eq!(game.info()["outcome"], outcome);
            assert!(matches!(game.step(answer), Err(Error::EpisodeEnded { .. })));
        }
    }
    let reward = RewardTable { empty: f64::NAN, ..RewardTable::BINARY };
    let error = Instructions::new(&InstructionsConfig { reward, ..config }).unwrap_err();
    assert!(matches!(error, Error::Config { key: "reward.empty", .. }), "{error}");
}

fn dataset(rows: RowKind, num_rows: u64, first_index: u64) -> DatasetConfig {
    DatasetConfig { out: "x.jsonl".into(), seed: 9, rows, num_rows, first_index, prompts: all_kinds(Split::Train) }
}

#[test]
fn every_kind_of_row_can_be_judged_by_what_it_carries() {
    for kind in [RowKind::Conversations, RowKind::Preferences, RowKind::Unpaired, RowKind::Prompts] {
        let config = dataset(kind, 300, 20);
        let rows = config.rows().unwrap();
        assert_eq!(rows, config.rows().unwrap());
        let mut labels = [0, 0];
        for row in &rows {
            let row = serde_json::to_value(row).unwrap();
            let text = |field: &str, at: usize| row[field][at]["content"].as_str().unwrap().to_string();
            let instruction: Instruction = serde_json::from_value(row["instruction"].clone()).unwrap();
            let answers = match kind {
                RowKind::Conversations => {
                    assert_eq!(text("messages", 0), instruction.prompt());
                    vec![(text("messages", 1), true)]
                }
                RowKind::Preferences => vec![(text("chosen", 0), true), (text("rejected", 0), false)],
                RowKind::Unpaired => vec![(text("completion", 0), row["label"].as_bool().unwrap())],
                RowKind::Prompts => vec![],
            };
            if kind != RowKind::Conversations {
                assert_eq!(text("prompt", 0), instruction.prompt());
            }
            for (answer, obeys) in answers {
                assert_eq!(instruction.grade(&answer) == Outcome::Obeyed, obeys, "{answer}");
                labels[usize::from(obeys)] += 1;
            }
        }
        let expected = match kind {
            RowKind::Conversations => 0..=0,
            RowKind::Preferences => 300..=300,
            RowKind::Unpaired => 120..=180,
            RowKind::Prompts => 0..=0,
        };
        assert!(expected.contains(&labels[0]), "{kind:?} {labels:?}");
    }
    let unknown = r#"{"topic":"cheddar","constraint":{"kind":"lower_case"},"wording":0}"#;
    assert!(serde_json::from_str::<Instruction>(unknown).unwrap_err().to_string().contains("cheddar"));
}

#[test]
fn a_file_never_asks_the_same_twice() {
    let count = Prompts::new(&all_kinds(Split::Train)).unwrap().len() as u64;
    let whole = dataset(RowKind::Prompts, count, 0).rows().unwrap();
    let distinct: BTreeSet<String> = whole.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    assert_eq!(distinct.len() as u64, count);
    assert_eq!(dataset(RowKind::Prompts, 10, 30).rows().unwrap(), whole[30..40]);
    for (num_rows, first_index) in [(0, 0), (count + 1, 0), (1, count), (2, u64::MAX)] {
        let error = dataset(RowKind::Prompts, num_rows, first_index).rows().unwrap_err();
        assert!(matches!(error, Error::Config { key: "num_rows", .. }), "{error}");
    }
}

#[test]
fn hostile_answers_are_judged_like_any_other() {
    let deep = "[".repeat(200_000);
    let keys = format!("{{\"topic\":{}", "{\"topic\":".repeat(100_000));
    let long = "bees ".repeat(200_000);
    let mut game = instructions(Split::HeldOut);
    for answer in
        [deep.as_str(), &keys, &long, "\0", "\u{202e}- \u{feff}", "- \n- \n", "\r\r\n", "İI\u{307}ß", "1. 2. 3. "]
    {
        for index in 0..60 {
            game.reset(1, index).unwrap();
            let step = game.step(answer).unwrap();
            assert!(step.terminated);
        }
    }
}

proptest! {
    #[test]
    fn any_text_has_one_outcome(text in any::<String>(), index in 0_u64..600) {
        let prompts = Prompts::new(&all_kinds(Split::HeldOut)).unwrap();
        let instruction = prompts.instruction(1, index);
        let outcome = instruction.grade(&text);
        // Outer white space never counts.
        prop_assert_eq!(instruction.grade(&format!("\n {text}\t\n")), outcome);
        if outcome == Outcome::Obeyed {
            prop_assert!(instruction.constraint.is_met(&text));
        }
    }

    /// Answers made of the pieces that matter.
    #[test]
    fn pieces_of_answers_have_one_outcome(pieces in prop::collection::vec(0_usize..12, 0..12), index in 0_u64..600) {
        let words = ["- ", "1. ", "2. ", "\n", "Bees", " nectar", ".", "!", "{\"topic\":", "\"x\"}", "That is all.", " "];
        let text: String = pieces.iter().map(|&piece| words[piece]).collect();
        let prompts = Prompts::new(&all_kinds(Split::Train)).unwrap();
        let instruction = prompts.instruction(1, index);
        let outcome = instruction.grade(&text);
        prop_assert_eq!(outcome == Outcome::Empty, !text.chars().any(char::is_alphanumeric));
    }
}

#[test]
fn a_task_is_of_the_kind_that_its_constraint_has() {
    let mut environment = instructions(Split::HeldOut);
    assert_eq!(environment.task_kind(), None);
    let mut seen = BTreeSet::new();
    for index in 0..200 {
        environment.reset(1, index).unwrap();
        let kind = environment.instruction().unwrap().constraint.kind();
        // The name is the one that configs are written with.
        assert_eq!(environment.task_kind(), serde_json::to_value(kind).unwrap().as_str());
        seen.insert(kind);
    }
    assert_eq!(seen.len(), ConstraintKind::ALL.len());
}
