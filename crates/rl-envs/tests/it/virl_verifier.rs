//! V-IRL: what answers are worth, against the definition, a second implementation, and hostile text.

use std::time::{Duration, Instant};

use rl_core::random::RandomKey;
use rl_envs::Environment;
use rl_envs::virl::{
    ActionSpace, Answer, EpisodeKind, Outcome, ParseMode, Rail, RailPoint, RewardTable, Verifier, Virl, VirlConfig,
};

/// Longest time that one hostile answer may take, built without optimisation and beside other work.
const STEP_LIMIT: Duration = Duration::from_secs(2);

fn is_slow() -> bool {
    std::env::var("REINS_SLOW").is_ok_and(|value| value == "1")
}

/// A task whose episodes stand at the start of a walk.
fn walk(config: VirlConfig) -> Virl {
    let mut task = Virl::new(VirlConfig { episode: EpisodeKind::Route, ..config }).unwrap();
    task.reset(1, 0).unwrap();
    task
}

/// The first point of each kind: away from intersections, at one, and where the walk stops.
fn points(rail: &Rail) -> [RailPoint; 3] {
    let find = |wanted: fn(&&RailPoint) -> bool| *rail.points().iter().find(wanted).unwrap();
    [find(|point| !point.is_waypoint), find(|point| point.observes_intersection()), find(|point| point.is_stop())]
}

fn answer(observation: &str, action: &str) -> String {
    format!(r#"{{"current observation": "{observation}", "current instruction": "x", "action": "{action}"}}"#)
}

#[test]
fn answers_are_priced_as_published() {
    let task = walk(VirlConfig { drop_rate: 0.0, ..VirlConfig::default() });
    let rail = task.rail().unwrap();
    let [away, intersection, stop] = points(rail);
    let legacy_config = VirlConfig { legacy_landmark_test: true, ..VirlConfig::default() };
    let (verifier, legacy) = (Verifier::new(task.config()), Verifier::new(&legacy_config));
    let (at, not_at) = ("You are at an intersection", "Nothing here");
    let wrong = "turn_direction(nowhere)";
    // Point, observation, action (none: the right one), reward, message, and the reward of the published test.
    let cases = [
        (&away, not_at, None, 1.0, "the action is right.", 1.0),
        // A right action is right whatever is observed.
        (&away, at, None, 1.0, "the action is right.", 1.0),
        (&away, not_at, Some(wrong), -1.0, "the action is wrong.", -1.0),
        (&away, at, Some(wrong), -1.5, "you are not at an intersection.", -1.5),
        (&away, "an INTERSECTION?", Some(wrong), -1.5, "you are not at an intersection.", -1.5),
        (&intersection, at, None, 1.0, "the action is right.", 1.0),
        (&intersection, not_at, None, 1.0, "the action is right.", 1.0),
        // The published test never sees that there is one: it penalises who claims it and spares who does not.
        (&intersection, at, Some(wrong), -1.0, "the action is wrong.", -1.5),
        (&intersection, not_at, Some(wrong), -1.5, "you are at an intersection.", -1.0),
        (&intersection, not_at, Some("forward()"), -1.5, "you are at an intersection.", -1.0),
        (&stop, not_at, None, 1.0, "the action is right.", 1.0),
        (&stop, not_at, Some("forward()"), -1.0, "the action is wrong.", -1.0),
        (&stop, at, Some("forward()"), -1.5, "you are not at an intersection.", -1.5),
    ];
    for (point, observation, action, reward, message, published) in cases {
        let action = action.unwrap_or(point.absolute_action.label());
        let text = answer(observation, action);
        let verdict = verifier.grade(&Answer::parse(&text), rail, point);
        assert_eq!((verdict.reward, verdict.message()), (reward, message), "{text}");
        assert_eq!(legacy.grade(&Answer::parse(&text), rail, point).reward, published, "{text}");
    }
    // Without an action, and without an observation.
    for (text, away_reward, intersection_reward) in [
        ("no idea", -1.0, -1.5),
        ("", -1.0, -1.5),
        (r#"{"action": 5, "current observation": "intersection"}"#, -1.5, -1.0),
        (r#"{"current observation": ["intersection"], "action": "forward()!"}"#, -1.0, -1.5),
    ] {
        let grade = |point| verifier.grade(&Answer::parse(text), rail, point).reward;
        assert_eq!((grade(&away), grade(&intersection)), (away_reward, intersection_reward), "{text}");
    }
    // To the letter.
    for action in [" forward()", "forward() ", "Forward()", "forward", "forward( )", "forward()\\n"] {
        let forward = *rail.points().iter().find(|point| point.absolute_action.label() == "forward()").unwrap();
        let text = answer(not_at, action);
        assert_eq!(verifier.grade(&Answer::parse(&text), rail, &forward).outcome, Outcome::IncorrectAction, "{text}");
    }
    assert_eq!(verifier.attempt_limit().reward, -1.0);
    assert_eq!(RewardTable::PUBLISHED.incorrect_observation, -1.5);
}

#[test]
fn the_rule_decides_which_turn_is_right() {
    let task = walk(VirlConfig::default());
    let rail = task.rail().unwrap();
    let start = rail.points()[0];
    for (absolute_action, right) in [(true, start.absolute_action), (false, start.relative_action)] {
        let verifier = Verifier::new(&VirlConfig { absolute_action, ..VirlConfig::default() });
        assert_eq!(verifier.expected(&start), right);
        let spaces = [ActionSpace::Absolute, ActionSpace::Relative];
        for action in spaces.into_iter().flat_map(ActionSpace::actions) {
            let text = answer("", action.label());
            let verdict = verifier.grade(&Answer::parse(&text), rail, &start);
            assert_eq!(verdict.outcome == Outcome::Correct, action == right, "{action:?}");
        }
    }
}

#[test]
fn answers_are_read_in_any_dress() {
    let spread =
        "Sure!\n```json\n{\n  'current observation' : 'No landmark is near;',\n  \"action\" :\n\t\"stop()\",\n}\n```";
    for (text, action, observation, mode) in [
        (
            r#"{"current observation":"a","current instruction":"b","action":"c"}"#,
            Some("c"),
            Some("a"),
            ParseMode::Strict,
        ),
        ("{\n  \"current observation\": \"a\",\n  \"action\": \"c\",\n}", Some("c"), Some("a"), ParseMode::Lenient),
        (spread, Some("stop()"), Some("No landmark is near;"), ParseMode::Lenient),
        (r#"  {"action": "a\"bé\n"} "#, Some("a\"bé\n"), None, ParseMode::Strict),
        (r#"{'action': 'it\'s'}"#, Some("it's"), None, ParseMode::Lenient),
        // Escapes other than of quotes and backslashes stay in text that is not JSON.
        (r#"'action': 'a\nb\\'"#, Some(r"a\nb\"), None, ParseMode::Lenient),
        (r#"{"action": "first", "action": "second"}"#, Some("first"), None, ParseMode::Strict),
        (r#"{"x": {"action": "inner"}, "action": "outer"}"#, Some("outer"), None, ParseMode::Strict),
        (r#"{"x": {"action": "inner"}}"#, Some("inner"), None, ParseMode::Lenient),
        (r#"[{"action": "listed"}]"#, Some("listed"), None, ParseMode::Lenient),
        (r#"{"action": ["a"], "x": "y"}"#, None, None, ParseMode::Missing),
        (r#"{"action": null}"#, None, None, ParseMode::Missing),
        (r#"{"action": {"action": "a"}}"#, None, None, ParseMode::Missing),
        (r#"{action: "a"}"#, None, None, ParseMode::Missing),
        ("\"action\": \"a\nb\"", None, None, ParseMode::Missing),
        (r#""action" = "a""#, None, None, ParseMode::Missing),
        (r#""action": a, "action": "b""#, Some("b"), None, ParseMode::Lenient),
        (r#""reaction": "a""#, None, None, ParseMode::Missing),
        (r#""action': "a""#, None, None, ParseMode::Missing),
        (r#""action": "unclosed"#, None, None, ParseMode::Missing),
    ] {
        let answer = Answer::parse(text);
        assert_eq!((answer.action(), answer.observation(), answer.parse_mode()), (action, observation, mode), "{text}");
    }
}

/// The reading of answers and their grading once more, letter by letter and without regard to speed.
mod slow {
    #[derive(Debug, Clone, PartialEq)]
    pub enum Json {
        Text(String),
        Object(Vec<(String, Json)>),
        Other,
    }

    pub struct Reader {
        letters: Vec<char>,
        at: usize,
    }

    impl Reader {
        pub fn whole(text: &str) -> Option<Json> {
            let mut reader = Reader { letters: text.chars().collect(), at: 0 };
            let value = reader.value()?;
            reader.blanks();
            (reader.at == reader.letters.len()).then_some(value)
        }

        fn peek(&self) -> Option<char> {
            self.letters.get(self.at).copied()
        }

        fn take(&mut self, wanted: char) -> Option<()> {
            (self.peek()? == wanted).then(|| self.at += 1)
        }

        fn blanks(&mut self) {
            while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
                self.at += 1;
            }
        }

        fn value(&mut self) -> Option<Json> {
            self.blanks();
            match self.peek()? {
                '"' => self.text().map(Json::Text),
                '{' => {
                    let mut fields = Vec::new();
                    self.list('{', '}', |reader| {
                        reader.blanks();
                        let key = reader.text()?;
                        reader.blanks();
                        reader.take(':')?;
                        fields.push((key, reader.value()?));
                        Some(())
                    })?;
                    Some(Json::Object(fields))
                }
                '[' => self.list('[', ']', |reader| reader.value().map(drop)).map(|()| Json::Other),
                't' => self.word("true"),
                'f' => self.word("false"),
                'n' => self.word("null"),
                _ => self.number(),
            }
        }

        fn list(&mut self, open: char, close: char, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
            self.take(open)?;
            self.blanks();
            if self.take(close).is_some() {
                return Some(());
            }
            loop {
                item(self)?;
                self.blanks();
                if self.take(close).is_some() {
                    return Some(());
                }
                self.take(',')?;
            }
        }

        fn word(&mut self, word: &str) -> Option<Json> {
            for letter in word.chars() {
                self.take(letter)?;
            }
            Some(Json::Other)
        }

        fn number(&mut self) -> Option<Json> {
            let begin = self.at;
            while self.peek().is_some_and(|c| c.is_ascii_digit() || "+-.eE".contains(c)) {
                self.at += 1;
            }
            let text: String = self.letters[begin..self.at].iter().collect();
            is_json_number(&text).then_some(Json::Other)
        }

        fn text(&mut self) -> Option<String> {
            self.take('"')?;
            let mut text = String::new();
            loop {
                let letter = self.peek()?;
                self.at += 1;
                match letter {
                    '"' => return Some(text),
                    '\\' => {
                        let escaped = self.peek()?;
                        self.at += 1;
                        text.push(match escaped {
                            '"' | '\\' | '/' => escaped,
                            'n' => '\n',
                            't' => '\t',
                            'r' => '\r',
                            'b' => '\u{8}',
                            'f' => '\u{c}',
                            // The answers below hold no other escape.
                            _ => return None,
                        });
                    }
                    letter if (letter as u32) < 32 => return None,
                    letter => text.push(letter),
                }
            }
        }
    }

    fn is_json_number(text: &str) -> bool {
        let text = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let exponent_is_good = exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
        digits(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(digits) && exponent_is_good
    }

    /// The first `"key": "value"` of any text.
    fn anywhere(text: &str, key: &str) -> Option<String> {
        let letters: Vec<char> = text.chars().collect();
        let key: Vec<char> = key.chars().collect();
        for start in 1..letters.len() {
            let end = start + key.len();
            if end >= letters.len() || letters[start..end] != key[..] {
                continue;
            }
            let quote = letters[start - 1];
            if (quote != '"' && quote != '\'') || letters[end] != quote {
                continue;
            }
            let mut at = end + 1;
            let skip = |at: &mut usize| {
                while *at < letters.len() && letters[*at].is_whitespace() {
                    *at += 1;
                }
            };
            skip(&mut at);
            if letters.get(at) != Some(&':') {
                continue;
            }
            at += 1;
            skip(&mut at);
            let Some(&open) = letters.get(at).filter(|c| **c == '"' || **c == '\'') else { continue };
            at += 1;
            let mut value = String::new();
            loop {
                match letters.get(at) {
                    None | Some('\n') => break,
                    Some('\\') => match letters.get(at + 1) {
                        Some('\n') | None => break,
                        Some(&next) if next == '"' || next == '\'' || next == '\\' || next == '/' => {
                            value.push(next);
                            at += 2;
                        }
                        Some(_) => {
                            value.push('\\');
                            at += 1;
                        }
                    },
                    Some(&letter) if letter == open => return Some(value),
                    Some(&letter) => {
                        value.push(letter);
                        at += 1;
                    }
                }
            }
        }
        None
    }

    fn field(text: &str, key: &str) -> Option<String> {
        if let Some(Json::Object(fields)) = Reader::whole(text)
            && let Some((_, value)) = fields.iter().find(|(name, _)| name == key)
        {
            return match value {
                Json::Text(text) => Some(text.clone()),
                _ => None,
            };
        }
        anywhere(text, key)
    }

    /// Reward and message by the task's definition.
    pub fn grade(text: &str, true_observation: &str, true_action: &str) -> (f64, &'static str) {
        if field(text, "action").as_deref() == Some(true_action) {
            return (1.0, "the action is right.");
        }
        let claimed =
            field(text, "current observation").unwrap_or_default().to_ascii_lowercase().contains("intersection");
        match (claimed, true_observation.contains("intersection")) {
            (true, false) => (-1.5, "you are not at an intersection."),
            (false, true) => (-1.5, "you are at an intersection."),
            _ => (-1.0, "the action is wrong."),
        }
    }
}

/// A right or wrong answer in one of several layouts, then changed here and there.
fn mutated(key: RandomKey, observation: &str, action: &str) -> String {
    let pick = |position, items: &[&'static str]| items[key.below(position, items.len() as u64) as usize];
    let spaces = [ActionSpace::Absolute, ActionSpace::Relative];
    let actions: Vec<&str> = spaces.into_iter().flat_map(ActionSpace::actions).map(|action| action.label()).collect();
    let action = if key.below(0, 2) == 0 { action } else { actions[key.below(1, actions.len() as u64) as usize] };
    let observation = match key.below(2, 4) {
        0 => "You are at an intersection",
        1 => "x",
        _ => observation,
    };
    let (quote, colon, end) =
        (pick(3, &["\"", "'"]), pick(4, &[":", ": ", " : ", ":\n"]), pick(5, &["}", ",}", ",\n}", ""]));
    let field = |name: &str, value: &str| format!("{quote}{name}{quote}{colon}{quote}{value}{quote}");
    let mut fields = vec![
        field("current observation", observation),
        field("current instruction", "Turn left."),
        field("action", action),
    ];
    match key.below(6, 8) {
        0 => fields.swap(0, 2),
        1 => fields.push(field("action", "stop()")),
        2 => fields.insert(0, format!("\"x\":{{{}}}", field("action", action))),
        3 => fields[2] = "\"action\":[1,-2.5e3,true]".into(),
        4 => fields.truncate(2),
        _ => {}
    }
    let mut text =
        format!("{}{{{}{end}", pick(7, &["", "", "```json\n", "I go on: "]), fields.join(pick(8, &[",", ", ", ",\n"])));
    const JUNK: [&str; 18] = [
        "\"",
        "'",
        "\\",
        "\\\\",
        "\\n",
        ":",
        ",",
        "{",
        "}",
        "[",
        "]",
        "\n",
        " ",
        "é",
        "\"action\": \"forward()\"",
        "action",
        "intersection",
        "\u{0}",
    ];
    for edit in 0..key.below(9, 4) {
        let key = key.at(edit);
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let place = places[key.below(0, places.len() as u64) as usize];
        if key.below(1, 3) > 0 {
            text.insert_str(place, JUNK[key.below(2, JUNK.len() as u64) as usize]);
        } else if place < text.len() {
            text.remove(place);
        }
    }
    text
}

#[test]
fn grading_agrees_with_a_second_implementation() {
    let cases = if is_slow() { 1_000_000 } else { 20_000 };
    let mut counts = [0_u64; 3];
    let mut lenient = 0;
    for absolute_action in [true, false] {
        let task = walk(VirlConfig { drop_rate: 0.0, absolute_action, ..VirlConfig::default() });
        let (rail, verifier) = (task.rail().unwrap(), Verifier::new(task.config()));
        for index in 0..cases / 2 {
            let key = RandomKey::new(u64::from(absolute_action), "test/mutated").at(index);
            let point = &rail.points()[(index % rail.points().len() as u64) as usize];
            let (observation, action) = (rail.observation(point), verifier.expected(point).label());
            let text = mutated(key, &observation, action);
            let answer = Answer::parse(&text);
            let verdict = verifier.grade(&answer, rail, point);
            assert_eq!((verdict.reward, verdict.message()), slow::grade(&text, &observation, action), "{text}");
            counts[match verdict.outcome {
                Outcome::Correct => 0,
                Outcome::IncorrectObservation => 1,
                _ => 2,
            }] += 1;
            lenient += u64::from(answer.parse_mode() == ParseMode::Lenient);
        }
    }
    // No class is a rarity, or the comparison says little.
    assert!(counts.iter().all(|&count| count > cases / 20), "{counts:?}");
    assert!((cases / 5..cases * 19 / 20).contains(&lenient), "{lenient}");
}

/// Text that means no good.
fn hostile(key: RandomKey) -> String {
    let size = |position| match key.below(position, 400) {
        0 => 1 << 20,
        1..10 => 1 << 13,
        _ => 1 + key.below(position + 1, 60) as usize,
    };
    const PIECES: [&str; 20] = [
        "{",
        "[",
        "\"",
        "'",
        "\\",
        "{\"action\":",
        "\"action\":\"",
        "'action':'",
        "\"current observation\":",
        "intersectio",
        "\0",
        "\u{202e}",
        "é🂡",
        "9",
        "\n",
        " ",
        ",",
        "}",
        "\"action\" ",
        "\u{feff}",
    ];
    match key.below(0, 6) {
        // One piece over and over: deep brackets, endless numbers, blanks, quotes.
        0 => PIECES[key.below(1, PIECES.len() as u64) as usize].repeat(size(2) / 4 + 1),
        // Two in turn, closed or not.
        1 => {
            let pair: String =
                (1..3).map(|position| PIECES[key.below(position, PIECES.len() as u64) as usize]).collect();
            let count = size(3) / 16 + 1;
            format!("{}{}", pair.repeat(count), if key.below(5, 2) == 0 { "\"}".repeat(count) } else { String::new() })
        }
        // A good beginning and then a value without end.
        2 => format!("{{\"action\": \"forward(){}", "\\\"".repeat(size(2) / 2)),
        3 => format!(
            "{{\"current observation\": \"{}\", \"action\": {}}}",
            "iI".repeat(size(2) / 2),
            "-1".repeat(3) + &"0".repeat(size(4))
        ),
        // Pieces in any order.
        4 => (0..size(2).min(2000) as u64).map(|i| PIECES[key.at(i).below(0, PIECES.len() as u64) as usize]).collect(),
        // Any characters.
        _ => {
            (0..size(2).min(500) as u64).filter_map(|i| char::from_u32(key.at(i).below(0, 0x11_0000) as u32)).collect()
        }
    }
}

#[test]
fn hostile_text_is_judged_in_bounded_time() {
    let cases = if is_slow() { 1_000_000 } else { 20_000 };
    let mut task = Virl::new(VirlConfig { max_attempts: u32::MAX, ..VirlConfig::default() }).unwrap();
    let mut point = Virl::new(VirlConfig { episode: EpisodeKind::Point, ..VirlConfig::default() }).unwrap();
    task.reset(1, 0).unwrap();
    let (mut longest, mut of_length, mut total) = (Duration::ZERO, 0, 0_usize);
    for index in 0..cases {
        let text = hostile(RandomKey::new(2, "test/hostile").at(index));
        let begin = Instant::now();
        let step = task.step(&text).unwrap();
        let time = begin.elapsed();
        assert!(!step.ended() && step.reward.is_finite());
        if longest < time {
            (longest, of_length) = (time, text.len());
        }
        total += text.len();
        point.reset(2, index).unwrap();
        assert!(!point.step(&text).unwrap().success || text.contains("forward()"));
    }
    println!("{cases} answers of {total} bytes; the longest judgement took {longest:?} for {of_length} bytes");
    assert!(longest < STEP_LIMIT, "{longest:?} for {of_length} bytes");
}
