//! What the machine offers: processor, SIMD, memory and disk.

use std::{
    path::{Path, PathBuf},
    thread,
};

/// The processor's name as the system gives it, with family and model: some names tell no generation.
pub fn processor() -> String {
    fs_err::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| named(&text))
        .or_else(|| sysctl("machdep.cpu.brand_string"))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn named(cpuinfo: &str) -> Option<String> {
    let field = |name: &str| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
    };
    let name = field("model name")?;
    Some(match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    })
}

/// Threads that parallel work will use: RAYON_NUM_THREADS if set, else what the system grants.
pub fn threads() -> usize {
    std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|value| value.parse().ok())
        .filter(|&count| count > 0)
        .unwrap_or_else(available_threads)
}

/// Threads the system grants this process (affinity and cgroup quota respected).
pub fn available_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Built in.
    pub total: u64,
    /// To be had now without swapping, where the system says so.
    pub available: Option<u64>,
}

/// Total and available memory, where the system tells.
pub fn memory() -> Option<Memory> {
    if let Ok(text) = fs_err::read_to_string("/proc/meminfo") {
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib * 1024)
        };
        return Some(Memory {
            total: field("MemTotal:")?,
            available: field("MemAvailable:"),
        });
    }
    let total = sysctl("hw.memsize")?.parse().ok()?;
    Some(Memory {
        total,
        available: None,
    })
}

/// Bytes free to us on the disk that holds `path` or its nearest existing parent.
pub fn disk_free(path: &Path) -> Option<u64> {
    let existing = existing_parent(path)?;
    let stat = rustix::fs::statvfs(&existing).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// `path` or its nearest parent that exists.
pub fn existing_parent(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    absolute
        .ancestors()
        .find(|candidate| candidate.exists())
        .map(Path::to_owned)
}

/// One line for benchmark output: processor, instruction set in use, threads.
pub fn line() -> String {
    format!("{}, {}", processor(), kernels::cpu_features())
}

fn sysctl(key: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = std::process::Command::new("sysctl")
        .args(["-n", key])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_threads_and_a_disk() {
        assert!(!processor().is_empty());
        assert!(threads() >= 1);
        assert!(disk_free(Path::new("no/such/folder/yet")).unwrap() > 0);
        assert!(!line().contains('\n'));
    }

    #[test]
    fn a_processor_is_told_from_others_of_its_name() {
        let x86 = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n";
        assert_eq!(named(x86).as_deref(), Some("AMD EPYC (family 26, model 2)"));
        assert_eq!(named("model name\t: A CPU\n").as_deref(), Some("A CPU"));
        assert_eq!(named("CPU part\t: 0xd40\n"), None);
    }
}
