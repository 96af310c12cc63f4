//! What the machine is, and what it says about a process and a disk.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::host::instant;
use crate::{Error, Result};

/// Bytes of one write whose durability is timed: a page.
const PAGE_BYTES: usize = 4096;

/// Where figures come from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Memory.
    pub memory_mib: u64,
    /// Kernel name and release.
    pub kernel: String,
    /// The file system below the benchmark's directory.
    pub disk_free_gib: u64,
}

impl Machine {
    /// This one; its disk is that of `directory`.
    pub fn of(directory: &Path) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = rustix::system::uname();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            processor: processor.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: kib_of(&memory, "MemTotal").unwrap_or(0) / 1024,
            kernel: format!("{} {}", kernel.sysname().to_string_lossy(), kernel.release().to_string_lossy()),
            disk_free_gib: free_bytes(directory).unwrap_or(0) >> 30,
        }
    }
}

/// Bytes that may still be written below `directory`.
pub fn free_bytes(directory: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(directory).map_err(|e| Error::because("cannot ask for free disk space", e))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Times one write of a page and the `fdatasync` after it, `rounds` times; answers the median.
pub fn fdatasync(directory: &Path, rounds: usize) -> Result<Duration> {
    let failed = |e| Error::because(format_args!("cannot time fdatasync in {}", directory.display()), e);
    let path = directory.join("fdatasync.tmp");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).map_err(failed)?;
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let started = instant();
        file.write_all(&[7; PAGE_BYTES]).and_then(|()| file.sync_data()).map_err(failed)?;
        took.push(started.elapsed());
    }
    fs::remove_file(&path).map_err(failed)?;
    took.sort_unstable();
    Ok(took[took.len() / 2])
}

/// Memory of a process.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Resident, file mappings included.
    pub resident_kib: u64,
    /// Resident and its own: heap and stacks.
    pub anonymous_kib: u64,
    /// The most that ever was resident.
    pub peak_kib: u64,
}

/// What `/proc` says of process `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|e| Error::because(format_args!("cannot read {path}"), e))?;
    let field = |name| kib_of(&text, name).ok_or_else(|| Error(format!("{path} has no {name}")));
    Ok(Memory { resident_kib: field("VmRSS")?, anonymous_kib: field("RssAnon")?, peak_kib: field("VmHWM")? })
}

/// Processor time that process `pid` has used so far, in user and in kernel.
pub fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| Error::because(format_args!("cannot read {path}"), e))?;
    let ticks = cpu_ticks(&text).ok_or_else(|| Error(format!("{path} has another form than expected")))?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_millis(ticks.saturating_mul(1_000) / per_second))
}

/// Fields 14 and 15 of a line whose second field may hold anything, in brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse);
    Some(ticks.next()?.ok()? + ticks.next()?.ok().unwrap_or(0_u64))
}

/// The number of a line such as `VmRSS: 1234 kB`.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found_by_their_whole_name() {
        let text = "VmRSSx:\t9 kB\nVmRSS:\t    1234 kB\nThreads:\t5\n";
        assert_eq!(kib_of(text, "VmRSS"), Some(1234));
        assert_eq!(kib_of(text, "VmHWM"), None);
        assert_eq!(kib_of(text, "Threads"), None);
    }

    #[test]
    fn processor_time_is_found_behind_a_hostile_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 40 2 13 14";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a"), None);
        assert!(cpu(std::process::id()).is_ok());
    }

    #[test]
    fn this_process_has_memory_and_its_disk_room() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.anonymous_kib > 0 && memory.peak_kib >= memory.resident_kib);
        assert!(free_bytes(&std::env::temp_dir()).unwrap() > 0);
    }
}
