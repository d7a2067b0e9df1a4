//! Programs as rewards: good ones, and ones that loop, die, flood, allocate without end and talk nonsense.

use std::path::Path;
use std::time::{Duration, Instant};

use rl_train::Error;
use rl_train::reward::{
    CommandConfig, CustomRewards, ExternalScores, Lifetime, RetryConfig, RewardConfig, Score, Scorer, SourceKind,
};
use serde_json::json;

use super::{SLACK, config, invalid, request, score, source, told};

/// Enough for a waiting Python to answer on a busy machine.
const DEADLINE: f64 = 6.0;

/// Enough for many Pythons to start on a busy machine.
const PERSISTENT: Lifetime = Lifetime::Persistent { start_seconds: 60.0 };

/// Answers with the length of the response, unless the metadata says otherwise.
const UNRULY: &str = r#"
import json, os, sys, time
print('{"ready": true}', flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    do = ask["metadata"]["do"]
    reply = {"id": ask["id"], "score": len(ask["response"]), "note": "fields more are fine"}
    if do == "loop":
        while True: pass
    if do == "silent": continue
    if do == "late": time.sleep(1000)
    if do == "die": sys.exit(3)
    if do == "kill": os.abort()
    if do == "close": os.close(1); time.sleep(1000)
    if do == "nan": reply["score"] = float("nan")
    if do == "inf": reply["score"] = -float("inf")
    if do == "none": del reply["score"]
    if do == "error": reply = {"id": ask["id"], "error": "cannot judge"}
    if do == "stranger": reply["id"] += 1
    if do == "garbage": print("I think this is quite good!", flush=True); continue
    if do == "bytes": os.write(1, b"\xff\xfe\n"); continue
    if do == "twice": print(json.dumps(reply), flush=True)
    if do == "hoard":
        hoard = []
        while True: hoard.append(bytearray(1 << 24))
    if do == "flood":
        while True: os.write(1, b"x" * 65536)
    print(json.dumps(reply), flush=True)
"#;

fn program(argv: &[&str], lifetime: Lifetime) -> SourceKind {
    let argv = argv.iter().map(|word| word.to_string()).collect();
    SourceKind::Command(CommandConfig { argv, memory_mib: Some(256), lifetime })
}

fn unruly(workers: usize) -> RewardConfig {
    config(workers, DEADLINE, vec![source("program", program(&["python3", "-c", UNRULY], PERSISTENT))])
}

fn count(batch: &rl_train::reward::ScoredBatch) -> (usize, usize) {
    (batch.sources[0].counts.ok, batch.sources[0].counts.timed_out)
}

#[test]
fn a_step_ends_within_its_deadline_whatever_a_program_does() {
    let what = [
        "loop", "silent", "late", "die", "kill", "close", "nan", "inf", "none", "error", "stranger", "garbage",
        "bytes", "hoard", "flood", "fine",
    ];
    let mut scorer = Scorer::new(&unruly(what.len()), CustomRewards::new()).unwrap();
    let started = Instant::now();
    let batch = scorer.score(&told(&what), &ExternalScores::new()).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < DEADLINE + SLACK, "{seconds} s");
    assert_eq!(count(&batch), (1, 3), "{:?}", batch.sources[0].scores);
    let expected = [
        ("died", 4),
        ("failed", 1),
        ("no score", 1),
        ("not JSON", 2),
        ("not finite", 2),
        ("protocol", 1),
        ("too long", 1),
    ];
    assert_eq!(invalid(&batch, 0), expected, "{:?}", batch.sources[0].scores);
    assert_eq!(batch.num_abandoned, 0, "programs are killed, threads come back");
    let reason = |sample: usize| match &batch.sources[0].scores[sample] {
        Score::Invalid(reason) => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(3).contains("exit status: 3"), "{}", reason(3));
    assert!(reason(4).contains("signal: 6"), "{}", reason(4));
    assert!(reason(13).contains("MemoryError"), "{}", reason(13));

    let batch = scorer.score(&told(&["fine"; 64]), &ExternalScores::new()).unwrap();
    assert_eq!(count(&batch), (64, 0), "{:?}", batch.sources[0].scores);
}

#[test]
fn hundreds_of_samples_of_every_kind() {
    // Among 400 there are 4 each of what follows, the rest is fine.
    let kinds = ["die", "nan", "error", "garbage", "stranger", "loop"];
    let what: Vec<&str> =
        (0..400).map(|index| if index % 16 == 0 && index < 384 { kinds[index / 16 % 6] } else { "fine" }).collect();
    let batch = score(&unruly(8), CustomRewards::new(), &told(&what));
    assert_eq!(count(&batch), (376, 4), "{:?}", batch.sources[0].scores);
    assert_eq!(invalid(&batch, 0), [("died", 4), ("failed", 4), ("not JSON", 4), ("not finite", 4), ("protocol", 4)]);
    for (index, what) in what.iter().enumerate().filter(|(_, what)| **what == "fine") {
        assert_eq!(batch.totals[index], Some((index % 10) as f64), "sample {index}, {what}");
    }
}

#[test]
fn a_second_answer_is_not_taken_for_the_next_sample() {
    let batch = score(&unruly(1), CustomRewards::new(), &told(&["fine", "twice", "fine", "fine"]));
    assert_eq!(batch.totals, [Some(0.0), Some(1.0), None, Some(3.0)]);
    assert_eq!(invalid(&batch, 0), [("protocol", 1)]);
}

#[test]
fn a_program_that_died_is_asked_again() {
    // Dies on its first question if the file is not there yet.
    let folder = tempfile::tempdir().unwrap();
    let script = r#"read -r line; if [ -e "$1" ]; then echo '{"id": 1, "score": 0.5}'; else : > "$1"; exit 9; fi"#;
    let mark = folder.path().join("mark");
    let argv = ["sh", "-c", script, "sh", mark.to_str().unwrap()];
    let mut config = config(1, DEADLINE, vec![source("program", program(&argv, Lifetime::PerSample))]);
    config.sources[0].retry = RetryConfig { max_retries: 1, backoff_seconds: 0.01 };
    let batch = score(&config, CustomRewards::new(), &told(&["go"]));
    assert_eq!(batch.totals, [Some(0.5)]);
    assert_eq!(batch.sources[0].counts.retries, 1);
}

#[test]
fn the_program_of_the_readme_works() {
    let kind = program(&["python3", "-c", super::from_readme("python")], PERSISTENT);
    let requests = ["it is 42", "it is 43"].map(|response| request(0, response, json!({})));
    let batch = score(&config(2, DEADLINE, vec![source("program", kind)]), CustomRewards::new(), &requests);
    assert_eq!(batch.totals, [Some(1.0), Some(0.0)]);
}

#[test]
fn a_program_per_sample_reads_all_of_its_input() {
    let script = "import json, sys; ask = json.load(sys.stdin); \
                  print(json.dumps({'id': ask['id'], 'score': ask['sample'] + ask['metadata']['bonus']}))";
    let kind = program(&["python3", "-c", script], Lifetime::PerSample);
    let requests: Vec<_> = (0..6).map(|sample| request(sample, "", json!({"bonus": 0.5}))).collect();
    let batch = score(&config(2, DEADLINE, vec![source("program", kind)]), CustomRewards::new(), &requests);
    assert_eq!(batch.totals, [0.5, 1.5, 2.5, 3.5, 4.5, 5.5].map(Some));
}

#[test]
fn a_sample_larger_than_the_pipe_goes_through_and_a_deaf_program_does_not_block() {
    let large = request(0, &"a".repeat(3_000_000), json!({"do": "fine"}));
    let batch = score(&unruly(1), CustomRewards::new(), std::slice::from_ref(&large));
    assert_eq!(batch.totals, [Some(3e6)]);

    let kind = program(&["sh", "-c", r#"echo '{"ready": true}'; exec sleep 1000"#], PERSISTENT);
    let started = Instant::now();
    let batch = score(&config(1, 1.0, vec![source("program", kind)]), CustomRewards::new(), &[large]);
    assert!(started.elapsed().as_secs_f64() < 1.0 + SLACK);
    assert_eq!(count(&batch), (0, 1));
}

#[test]
fn what_a_program_started_dies_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = r#"sleep 1000 & echo "$$ $!" >> "$1"; echo '{"ready": true}'; while :; do sleep 1000; done"#;
    let argv = ["sh", "-c", script, "sh", pids.to_str().unwrap()];
    let mut scorer =
        Scorer::new(&config(1, 1.0, vec![source("program", program(&argv, PERSISTENT))]), CustomRewards::new())
            .unwrap();
    let batch = scorer.score(&told(&["go"]), &ExternalScores::new()).unwrap();
    assert_eq!(count(&batch), (0, 1));
    let started = |count: usize| {
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let text = std::fs::read_to_string(&pids).unwrap_or_default();
            let found: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
            if found.len() == count {
                return found;
            }
            assert!(Instant::now() < patience, "{found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    // The killed process and its child are gone, and a successor is up.
    let all = started(4);
    assert_eq!(all[..2].iter().map(|&pid| is_alive(pid)).collect::<Vec<_>>(), [false; 2]);
    drop(scorer);
    assert_eq!(all.iter().map(|&pid| is_alive(pid)).collect::<Vec<_>>(), [false; 4]);
}

#[test]
fn a_program_that_does_not_get_ready_is_an_error_before_the_run() {
    let cases = [
        ("exec sleep 1000", "within 1 s"),
        ("echo no module named judge >&2; exit 7", "exit status: 7; stderr ends with: no module named judge"),
        ("echo hello; exec sleep 1000", "first line"),
    ];
    for (script, expected) in cases {
        let started = Instant::now();
        let kind = program(&["sh", "-c", script], Lifetime::Persistent { start_seconds: 1.0 });
        let error = Scorer::new(&config(4, 1.0, vec![source("program", kind)]), CustomRewards::new()).err().unwrap();
        assert!(matches!(&error, Error::RewardSource { reason, .. } if reason.contains(expected)), "{error}");
        assert!(started.elapsed().as_secs_f64() < 1.0 + SLACK);
    }
}

#[test]
fn a_slow_start_costs_no_sample_its_deadline_but_the_step_is_kept() {
    // Each process takes longer to start than a score may take, and answers once; one that is asked again while it goes
    // down has died, hence the retries.
    let script = r#"sleep 1.5; echo '{"ready": true}'; read -r line; echo '{"id": 1, "score": 2}'"#;
    let kind = program(&["sh", "-c", script], PERSISTENT);
    let mut slow = config(2, 1.0, vec![source("program", kind)]);
    slow.sources[0].retry = RetryConfig { max_retries: 3, backoff_seconds: 0.0 };
    let batch = score(&slow, CustomRewards::new(), &told(&["go"; 6]));
    assert_eq!(count(&batch), (6, 0), "{:?}", batch.sources[0].scores);

    slow.step_deadline_seconds = Some(1.5); // the two that stand ready, and then starts that go on beyond the step
    let started = {
        let mut scorer = Scorer::new(&slow, CustomRewards::new()).unwrap();
        let started = Instant::now();
        let batch = scorer.score(&told(&["go"; 40]), &ExternalScores::new()).unwrap();
        assert!(2 <= count(&batch).0 && count(&batch).0 + count(&batch).1 == 40, "{:?}", batch.sources[0].scores);
        started.elapsed().as_secs_f64()
    };
    assert!(started < 1.5 + SLACK, "{started} s");
}

#[test]
fn a_program_that_is_not_there_is_an_error_before_the_run() {
    for name in ["no-such-program-anywhere", "/no/such/program"] {
        let config = config(1, 1.0, vec![source("program", program(&[name], PERSISTENT))]);
        let error = Scorer::new(&config, CustomRewards::new()).err().unwrap();
        assert!(matches!(&error, Error::RewardSource { reason, .. } if reason.contains(name)), "{error}");
    }
}

/// Whether the process runs, a zombie that nobody has fetched yet not counted; asked again for a while.
fn is_alive(pid: u32) -> bool {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
        let state = status.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        if matches!(state, None | Some('Z' | 'X')) {
            return false;
        }
        if patience < Instant::now() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
