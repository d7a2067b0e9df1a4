//! What the machine has: memory that this process may take, and free disk.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the limits of control groups stand.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process may hold all in all: what it holds now and what is available, by the kernel's account and by
/// the limits of its control groups. None where the system does not say.
pub fn memory_limit() -> Option<u64> {
    let own = resident_bytes()?;
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let machine = own + kibibytes(&meminfo, "MemAvailable:")?;
    Some(cgroup_room().map_or(machine, |room| machine.min(own + room)))
}

/// Bytes of memory that this process holds.
pub fn resident_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Free bytes on the disk of `path` or of its nearest parent that exists; none where the system does not say.
pub fn free_disk(path: &Path) -> Option<u64> {
    let absolute = std::path::absolute(path).ok()?;
    let existing = absolute.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The smallest room under the limits of this process's control group and those above it; none without a limit.
fn cgroup_room() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = PathBuf::from(CGROUPS).join(own);
    let number = |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let room = |folder: &Path| {
        let limit = number(folder, "memory.max")?; // `max` is no number: no limit
        let used = number(folder, "memory.current")?;
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // Cached files count as used but are given up when memory is wanted.
        let cached = statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
        Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0u64))))
    };
    folder.ancestors().take_while(|folder| folder.starts_with(CGROUPS)).filter_map(room).min()
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Bytes for people, in powers of ten.
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(kibibytes(text, "MemAvailable:"), Some(1 << 20));
        assert_eq!(kibibytes(text, "SwapTotal:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_memory_and_a_disk() {
        let (limit, own) = (memory_limit().unwrap(), resident_bytes().unwrap());
        assert!(0 < own && own < limit);
        assert!(0 < free_disk(Path::new("a/folder/that/is/not/there")).unwrap());
    }

    #[test]
    fn bytes_are_short() {
        assert_eq!([999, 12_345, 3_080_000_000].map(human), ["999 B", "12 kB", "3.08 GB"]);
    }
}
