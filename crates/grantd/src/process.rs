//! What the process knows of itself: for `/metrics`.

use grantd_server::metrics::Text;

use crate::telemetry;

/// Clock ticks of a second in `/proc`: 100 on every system that grantd is built for.
const TICKS: f64 = 100.0;

/// Writes it all. What the system does not tell is left out.
pub fn write(text: &mut Text) {
    let help = "Log lines that were dropped because nobody took them in time.";
    text.counter("grantd_log_lines_dropped_total", help, telemetry::dropped());
    if !cfg!(target_os = "linux") {
        return;
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    family(text, "process_cpu_seconds_total", "counter", "Processor time that was used.", cpu_seconds(&stat));
    let memory = resident_bytes(&read("/proc/self/status"));
    family(text, "process_resident_memory_bytes", "gauge", "Memory in use.", memory);
    // One of them is the directory that is being read.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
    family(text, "process_open_fds", "gauge", "Open files.", open);
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    family(text, "process_max_fds", "gauge", "Files that may be open.", most);
    let started = started_at(&stat, &read("/proc/stat"));
    family(text, "process_start_time_seconds", "gauge", "When the process started, in seconds since 1970.", started);
}

fn family(text: &mut Text, name: &str, kind: &str, help: &str, value: Option<impl std::fmt::Display>) {
    text.family(name, kind, help);
    if let Some(value) = value {
        text.sample(name, &[], value);
    }
}

/// The fields behind the name of the program, which may hold anything.
fn field(stat: &str, n: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(n)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 11)? + field(stat, 12)?) / TICKS)
}

fn started_at(stat: &str, system: &str) -> Option<f64> {
    let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + field(stat, 19)? / TICKS)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_written_about_and_has_a_value() {
        let mut text = Text::default();
        write(&mut text);
        let text = text.into_string();
        let page = include_str!("../../../docs/metrics.md");
        let families: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert!(
            !families.is_empty() && families.iter().all(|name| page.contains(&format!("`{name}`"))),
            "{families:?}"
        );
        let documented = page.split('`').filter(|word| word.starts_with("process_")).count();
        if cfg!(target_os = "linux") {
            assert_eq!(families.len(), documented + 1);
            for name in families {
                let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
                assert!(value.parse::<f64>().unwrap() >= 0.0, "{name} {value}");
            }
        }
    }

    #[test]
    fn the_system_s_files_are_understood() {
        let stat =
            "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 3 0 12345 1000 200 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(started_at(stat, "cpu 1 2\nbtime 1000\n"), Some(1123.45));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2_097_152));
        assert_eq!((cpu_seconds(""), started_at("", ""), resident_bytes("")), (None, None, None));
    }
}
