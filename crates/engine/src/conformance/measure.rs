//! Processor time of processes, as the kernel counts it.

use std::time::Duration;

/// The kernel's unit in `/proc`, the same on all of Linux's current platforms.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time that `process` has used since it started; none when it's gone.
pub fn cpu_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field is the command in parentheses, which may hold anything.
    let after_command = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = after_command.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}
