//! Measures how fast conversations become packed batches: read, chat template, tokens, mask, length filter, packing.
//!
//! `cargo xtask bench data` runs it beside `xtask/peers/chat_data.py`, which does the same work with the Python libraries.
//! By hand:
//!
//! ```sh
//! cargo run --release -p rl-data --example measure -- rows MODEL 10000 chat.parquet
//! cargo run --release -p rl-data --example measure -- run MODEL 2 chat.parquet
//! ```

mod chat_rows;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rl_data::{
    ChatRecord, ConvertConfig, DatasetConfig, Layout, Packing, Prefetch, Renderer, Tokenizer, TrainOn, map_in_order,
    pack_stream, write_jsonl,
};
use serde_json::json;

use chat_rows::ChatRows;

/// Longer conversations are left out, and packed rows have at most as many tokens.
const MAX_TOKENS: usize = 2048;
/// Conversations that are packed together: the batch of TRL's `map`.
const PACKED_TOGETHER: usize = 1000;
/// Conversations that are rendered together.
const RENDERED_TOGETHER: usize = 256;
/// Records and packed rows made ahead.
const AHEAD: (usize, usize) = (512, 8);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["rows", model, count, out] => rows(model, count, out),
        ["run", model, threads, data] => run(model, threads, data),
        _ => Err("usage: measure rows MODEL COUNT OUT | measure run MODEL THREADS DATA".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn rows(model: &str, count: &str, out: &str) -> Result<(), Box<dyn Error>> {
    let rows = ChatRows::new(&Tokenizer::from_folder(model)?);
    let lines = format!("{out}.jsonl");
    write_jsonl(&lines, (0..count.parse()?).map(|index| rows.row(index)))?;
    // The name says the format.
    ConvertConfig { from: DatasetConfig::new(&lines), to: Layout::Messages, out: out.into() }.run()?;
    std::fs::remove_file(&lines)?;
    Ok(())
}

fn run(model: &str, threads: &str, data: &str) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    let renderer = Renderer::from_folder(model)?;
    let seen = Arc::new(AtomicUsize::new(0));

    let records = Prefetch::<ChatRecord>::new(AHEAD.0, DatasetConfig::new(data).stream()?)?;
    let count = Arc::clone(&seen);
    let examples = map_in_order(records, RENDERED_TOGETHER, move |record| {
        count.fetch_add(1, Ordering::Relaxed);
        renderer.example(&record?, TrainOn::Assistant)
    });
    let kept = examples.filter(|example| example.as_ref().map_or(true, |example| example.ids.len() <= MAX_TOKENS));
    let packed = pack_stream(kept, Packing::BestFitDecreasing, MAX_TOKENS, PACKED_TOGETHER)?;

    let mut first_batch = None;
    let (mut documents, mut batches, mut tokens, mut targets) = (0, 0, 0, 0);
    for batch in Prefetch::new(AHEAD.1, packed)? {
        let batch = batch?;
        if first_batch.is_none() {
            first_batch = Some(age_seconds()?);
        }
        batches += 1;
        documents += batch.num_documents();
        tokens += batch.ids.len();
        targets += batch.label_ids.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    let rows = seen.load(Ordering::Relaxed);
    let values = json!({
        "rows": rows,
        "rows_per_second": rows as f64 / seconds,
        "seconds": seconds,
        "first_batch_seconds": first_batch.ok_or("there was no batch")?,
        "kept_rows": documents,
        "batches": batches,
        "trained_on": tokens,
        "targets": targets,
        "peak_bytes": peak_bytes()?,
    });
    println!("{}", json!({"values": values, "versions": {"reins": env!("CARGO_PKG_VERSION")}}));
    Ok(())
}

/// The most memory this process ever held, as the kernel counts it (VmHWM).
fn peak_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("/proc/self/status has no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Seconds since this process was started, by the kernel's clock.
fn age_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name, which may hold anything; ticks are 1/100 s on Linux.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let started: f64 = fields.split_whitespace().nth(19).ok_or("/proc/self/stat has no start")?.parse()?;
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split_whitespace().next().ok_or("/proc/uptime has no number")?.parse()?;
    Ok(uptime - started / 100.0)
}
