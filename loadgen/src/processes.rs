//! What processes cost: CPU seconds and memory as the kernel counts them (`/proc`, Linux).
//! Elsewhere every reading is empty and the reports leave the rows out.

use std::{fs, time::Duration};

use serde::Serialize;

/// `/proc` counts CPU time in hundredths of a second, whatever the kernel's own tick.
const TICKS_A_SECOND: f64 = 100.0;

/// A process to watch, with the name it has in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// As the report calls it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl Watched {
    /// This process itself.
    #[must_use]
    pub fn own() -> Self {
        Self { name: "loadgen".to_owned(), pid: std::process::id() }
    }
}

impl std::str::FromStr for Watched {
    type Err = String;
    /// `name=pid`
    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.split_once('=');
        named
            .and_then(|(name, pid)| Some(Self { name: name.to_owned(), pid: pid.parse().ok()? }))
            .ok_or_else(|| format!("`{text}` is not of the form `name=pid`"))
    }
}

/// What one process cost between two readings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessCost {
    /// As the report calls it.
    pub name: String,
    /// CPU seconds, user and system, of all its threads.
    pub cpu_s: f64,
    /// CPU seconds a second: 1.0 is one core.
    pub cores: f64,
    /// Memory in use at the second reading, MiB.
    pub memory_mib: f64,
}

/// A first reading, to compare a later one with.
#[derive(Debug)]
pub struct Meter {
    before: Vec<(Watched, f64)>,
    started: std::time::Instant,
}

impl Meter {
    /// Reads the CPU time that the processes have used so far. What cannot be read is left out.
    #[must_use]
    pub fn start(watched: &[Watched]) -> Self {
        let before = watched
            .iter()
            .filter_map(|one| Some((one.clone(), cpu_s(&format!("/proc/{}/stat", one.pid))?)));
        Self { before: before.collect(), started: std::time::Instant::now() }
    }

    /// What each has cost since.
    #[must_use]
    pub fn read(&self) -> Vec<ProcessCost> {
        let elapsed_s = self.started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
        let cost = |(watched, before): &(Watched, f64)| {
            let used = cpu_s(&format!("/proc/{}/stat", watched.pid))? - before;
            Some(ProcessCost {
                name: watched.name.clone(),
                cpu_s: used,
                cores: used / elapsed_s,
                memory_mib: memory_mib(watched.pid)?,
            })
        };
        self.before.iter().filter_map(cost).collect()
    }
}

/// CPU seconds that the living threads of this process have used whose names begin so. It tells
/// parts of one process apart, when each part runs on threads of its own name.
#[must_use]
pub fn threads_cpu_s(name_prefix: &str) -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let of_thread = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        name.starts_with(name_prefix).then(|| cpu_s(path.join("stat").to_str()?)).flatten()
    };
    threads.flatten().filter_map(of_thread).sum()
}

/// User and system time from a `stat` file: fields 14 and 15; the name (2) may hold spaces.
fn cpu_s(stat: &str) -> Option<f64> {
    let text = fs::read_to_string(stat).ok()?;
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_A_SECOND)
}

fn memory_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::{Meter, Watched};

    #[test]
    fn a_process_that_is_gone_is_left_out_of_the_report() {
        let gone = Watched { name: "gone".to_owned(), pid: u32::MAX };
        assert!(Meter::start(&[gone]).read().is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_no_negative_cost() {
        let costs = Meter::start(&[Watched::own()]).read();
        assert!(costs[0].memory_mib > 0.5, "{costs:?}");
        assert!(costs[0].cpu_s >= 0.0, "{costs:?}");
    }

    #[test]
    fn a_process_is_named_on_the_command_line() {
        assert_eq!("trip=42".parse(), Ok(Watched { name: "trip".to_owned(), pid: 42 }));
        assert!("trip".parse::<Watched>().is_err());
    }
}
