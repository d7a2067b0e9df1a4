//! The machine that the numbers belong to.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Vector and matrix instructions that decide how fast f32 products are.
const FEATURES: [&str; 8] = ["avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "asimd", "sve"];

/// What a reader needs to judge the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    /// Those of [`FEATURES`] that it has.
    pub features: Vec<String>,
    pub memory_bytes: u64,
}

impl Machine {
    /// This machine, by the kernel's account.
    pub fn this() -> Result<Self> {
        let info = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        Ok(Self { cpu: cpu(&info), cores, features: features(&info), memory_bytes: memory("MemTotal:")? })
    }

    /// The same kind of machine; two of a kind differ by a little memory.
    pub fn is_like(&self, other: &Self) -> bool {
        (&self.cpu, self.cores, &self.features) == (&other.cpu, other.cores, &other.features)
    }
}

/// Memory that programs could take now.
pub fn available_bytes() -> Result<u64> {
    memory("MemAvailable:")
}

/// Name of the metric that says how many cores other programs took while a job ran.
pub const ELSEWHERE: &str = "cores_taken_by_others";

/// The kernel's ticks per second, as it shows them to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time spent so far, by everybody and by the processes that we started and that have ended.
pub struct Busy {
    at: Instant,
    everybody: u64,
    ours: u64,
}

impl Busy {
    pub fn now() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let everybody = busy_ticks(&read("/proc/stat")?).context("/proc/stat has no processor times")?;
        let ours = children_ticks(&read("/proc/self/stat")?).context("/proc/self/stat has no times of children")?;
        Ok(Self { at: Instant::now(), everybody, ours })
    }

    /// Cores that programs which are not ours kept busy since `before`, on average.
    pub fn others_since(&self, before: &Self) -> f64 {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let ours = self.ours.saturating_sub(before.ours) as f64;
        let everybody = self.everybody.saturating_sub(before.everybody) as f64;
        // The two counts are rounded apart from each other, so a small negative difference means nothing.
        ((everybody - ours) / TICKS_PER_SECOND / seconds).max(0.0)
    }
}

/// User, nice, system, irq, softirq and steal time of all cores; idle and waiting are left out (proc(5)).
fn busy_ticks(stat: &str) -> Option<u64> {
    let ticks: Vec<u64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|word| word.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].iter().map(|&at| ticks.get(at)).sum()
}

/// `cutime` and `cstime`, fields 16 and 17 of proc(5); the name in brackets may hold blanks.
fn children_ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(13)?.parse::<u64>().ok()? + fields.get(14)?.parse::<u64>().ok()?)
}

fn memory(key: &str) -> Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kib = info.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("/proc/meminfo has no {key}"))? * 1024)
}

fn cpu(info: &str) -> String {
    field(info, "model name").unwrap_or(std::env::consts::ARCH).to_string()
}

fn features(info: &str) -> Vec<String> {
    let flags: Vec<&str> =
        field(info, "flags").or_else(|| field(info, "Features")).unwrap_or_default().split_whitespace().collect();
    FEATURES.iter().filter(|feature| flags.contains(feature)).map(ToString::to_string).collect()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_read() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nflags\t\t: fpu avx avx2 fma avx512f_x\n\nprocessor\t: 1\n";
        assert_eq!(cpu(info), "Some CPU @ 2.0GHz");
        assert_eq!(features(info), ["avx2", "fma"]);
        assert_eq!(features("Features\t: fp asimd\n"), ["asimd"]);
    }

    #[test]
    fn processor_time_is_read() {
        // user 10, nice 1, system 5, idle 900, iowait 80, irq 2, softirq 3, steal 4
        assert_eq!(busy_ticks("cpu  10 1 5 900 80 2 3 4 0 0\ncpu0 1 1 1\n"), Some(25));
        assert_eq!(busy_ticks("intr 5\n"), None);
        let stat = "42 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 300 40 20 0";
        assert_eq!(children_ticks(stat), Some(340));
        let at = Instant::now();
        let later = at + std::time::Duration::from_secs(2);
        let before = Busy { at, everybody: 1_000, ours: 100 };
        let after = Busy { at: later, everybody: 1_400, ours: 350 };
        assert_eq!(after.others_since(&before), 0.75); // 150 ticks in 2 s
    }
}
