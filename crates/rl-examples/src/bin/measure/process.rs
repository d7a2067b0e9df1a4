//! What the kernel says about this process's memory.

use anyhow::{Context, Result};

/// The most memory this process held since its start or since [`reset_peak`], in bytes (VmHWM).
pub fn peak_bytes() -> Result<u64> {
    rl_torch::peak_resident_bytes().context("the kernel does not say the peak (VmHWM in /proc/self/status)")
}

/// Memory this process holds now, in bytes (VmRSS).
pub fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.context("/proc/self/status has no VmRSS")? * 1024)
}

/// Makes the peak count from what is held now.
pub fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak through /proc/self/clear_refs")
}

/// Seconds since this process was started, by the kernel's clock.
pub fn age_seconds() -> Result<f64> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    // The second field is the program's name, which may hold anything; ticks are 1/100 s on Linux.
    let stat = read("/proc/self/stat")?;
    let started = stat.rsplit(')').next().and_then(|fields| fields.split_whitespace().nth(19)?.parse::<f64>().ok());
    let uptime = read("/proc/uptime")?.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    Ok(uptime.context("/proc/uptime has no number")? - started.context("/proc/self/stat has no start")? / 100.0)
}
