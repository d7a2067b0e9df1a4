//! What the kernel says about this process's memory.

use anyhow::{Context, Result};

/// The most memory this process held since its start or since [`reset_peak`], in bytes (VmHWM).
pub fn peak_bytes() -> Result<u64> {
    field("VmHWM:")
}

/// Memory this process holds now, in bytes (VmRSS).
pub fn resident_bytes() -> Result<u64> {
    field("VmRSS:")
}

/// Makes the peak count from what is held now.
pub fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak through /proc/self/clear_refs")
}

fn field(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("/proc/self/status has no {name}"))? * 1024)
}
