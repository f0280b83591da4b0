//! How busy the machines of an engine are that are paid by the hour: what one query costs there is its
//! share of those hours. Counted in the time that queries are billed for, so that all of them together come
//! to what the machines cost.

use std::time::{Duration, Instant};

/// What an engine runs on, and who else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machines {
    /// Each paid by the hour.
    pub count: u32,
    /// Other routers' queries that run there now.
    pub others_running: u32,
}

impl Default for Machines {
    fn default() -> Self {
        Self { count: 1, others_running: 0 }
    }
}

/// Time of queries, and of machines; what is long past counts less.
#[derive(Debug)]
pub(crate) struct Usage {
    since: Instant,
    noted: Instant,
    machines: Machines,
    /// Seconds of queries.
    used: f64,
    /// Seconds of machines.
    paid: f64,
}

impl Default for Usage {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl Usage {
    /// What is this long past counts by 1/e.
    const FADES_SECONDS: f64 = 3_600.0;
    const WATCHED_MIN: Duration = Duration::from_secs(600);

    fn since(now: Instant) -> Self {
        Self { since: now, noted: now, machines: Machines::default(), used: 0.0, paid: 0.0 }
    }

    /// Until now so many of this router's queries ran.
    pub fn note(&mut self, running: u32, now: Instant) {
        let seconds = now.saturating_duration_since(self.noted).as_secs_f64();
        let kept = (-seconds / Self::FADES_SECONDS).exp();
        let running = running.saturating_add(self.machines.others_running);
        self.used = self.used * kept + seconds * f64::from(running);
        self.paid = self.paid * kept + seconds * f64::from(self.machines.count);
        self.noted = now;
    }

    /// From now on these.
    pub fn on(&mut self, machines: Machines) {
        self.machines = machines;
    }

    /// A query that counted as running for so long is billed for another time: less, where its client was
    /// waited for; nothing, where it wasn't answered.
    pub fn correct(&mut self, held: Duration, billed: Duration) {
        let (held, billed) = (held.as_secs_f64(), billed.as_secs_f64());
        if held > 0.0 {
            // What of it hasn't faded since: no more may be taken back.
            let counts = Self::FADES_SECONDS * (1.0 - (-held / Self::FADES_SECONDS).exp());
            self.used = (self.used + counts * (billed / held - 1.0)).max(0.0);
        }
    }

    /// Queries that ran on each machine at once, on average; `None` until it was watched for a while.
    pub fn mean(&self, now: Instant) -> Option<f64> {
        let watched = now.saturating_duration_since(self.since) >= Self::WATCHED_MIN;
        (watched && self.paid > 0.0).then(|| self.used / self.paid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_what_ran_of_late_and_unknown_at_first() {
        let start = Instant::now();
        let at = |minutes: u64| start + 60 * SECOND * u32::try_from(minutes).unwrap();
        let mut usage = Usage::since(start);
        usage.note(1, at(5));
        assert_eq!(usage.mean(at(5)), None);
        usage.note(0, at(20));
        assert!((usage.mean(at(20)).unwrap() - 0.2).abs() < 0.05);
        // Six at once for a while: more than one on average.
        usage.note(6, at(80));
        assert!(usage.mean(at(80)).unwrap() > 3.0);
        // Hours of rest later, the beginning hardly counts.
        usage.note(0, at(900));
        assert!(usage.mean(at(900)).unwrap() < 0.01);
    }

    /// Whatever ran where, queries together cost what the machines cost.
    #[test]
    fn each_machines_hour_counts_and_so_do_others_queries() {
        let start = Instant::now();
        let usd_per_second = 0.5;
        for (count, others_running) in [(1, 0), (4, 0), (4, 3)] {
            let mut usage = Usage::since(start);
            usage.on(Machines { count, others_running });
            // Two at once for twenty minutes, by queries of a minute each; nothing fades in between that
            // wouldn't on both sides.
            for minute in 1..=20 {
                usage.note(2, start + 60 * SECOND * minute);
            }
            let end = start + 20 * 60 * SECOND;
            let per_query_second = usd_per_second / usage.mean(end).unwrap();
            let query_seconds = f64::from(2 + others_running) * 20.0 * 60.0;
            let paid = usd_per_second * f64::from(count) * 20.0 * 60.0;
            assert!((per_query_second * query_seconds / paid - 1.0).abs() < 1e-9, "{count} machines, {others_running} of others");
        }
    }

    #[test]
    fn a_client_that_reads_slowly_keeps_no_machine_busy() {
        let start = Instant::now();
        let mut usage = Usage::since(start);
        (1..=1_000).for_each(|second| usage.note(1, start + second * SECOND));
        let end = start + 1_000 * SECOND;
        let before = usage.mean(end).unwrap();
        usage.correct(1_000 * SECOND, 100 * SECOND);
        assert!((usage.mean(end).unwrap() / before - 0.1).abs() < 1e-3);
        usage.correct(1_000 * SECOND, Duration::ZERO);
        assert_eq!(usage.mean(end), Some(0.0));
    }

    #[test]
    fn what_one_query_held_for_hours_in_vain_is_not_taken_from_the_others() {
        let start = Instant::now();
        let mut usage = Usage::since(start);
        let hours = 3 * 3_600;
        // Two are answered all the time, and a third is never.
        (1..=hours).for_each(|second| usage.note(3, start + second * SECOND));
        usage.correct(hours * SECOND, Duration::ZERO);
        assert!((usage.mean(start + hours * SECOND).unwrap() - 2.0).abs() < 1e-2);
    }
}
