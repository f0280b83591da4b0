//! Which worker a query goes to: one that has read its largest table lately, by rendezvous hashing
//! among equals, unless that worker has more than its share of the work. Pure.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A worker may have this many times the fleet's mean load before queries go elsewhere.
const LOAD_FACTOR: f64 = 1.25;

/// A worker that may be given the query.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    pub name: &'a str,
    pub slots: u32,
    /// Queries that run on it or wait there.
    pub load: u32,
    /// Whether it has read the table lately.
    pub cached: bool,
    /// Whether this query has failed there.
    pub failed_here: bool,
}

/// The position of the worker for a query whose largest table is `table`; `None` of none.
pub fn choose(workers: &[Choice<'_>], table: &str) -> Option<usize> {
    let slots: f64 = workers.iter().map(|w| f64::from(w.slots.max(1))).sum();
    let load: f64 = workers.iter().map(|w| f64::from(w.load)).sum();
    // This query counts too.
    let mean = (load + 1.0) / slots.max(1.0);
    let key = |worker: &Choice<'_>| {
        let own = f64::from(worker.slots.max(1));
        let share = (LOAD_FACTOR * mean * own).floor().max(1.0);
        let full = worker.load >= worker.slots;
        let over = f64::from(worker.load) + 1.0 > share;
        // Of those that are over their share, the least loaded.
        let pressure = if full || over { f64::from(worker.load) / own } else { 0.0 };
        (worker.failed_here, full, over, pressure, !worker.cached, -weight(worker.name, table, own))
    };
    let order = |a: &(bool, bool, bool, f64, bool, f64), b: &(bool, bool, bool, f64, bool, f64)| {
        (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)).then(a.3.total_cmp(&b.3)).then(a.4.cmp(&b.4)).then(a.5.total_cmp(&b.5))
    };
    (0..workers.len()).min_by(|a, b| order(&key(&workers[*a]), &key(&workers[*b])))
}

/// Weighted rendezvous hashing: each worker wins tables in proportion to its slots, and only the
/// tables of a worker that comes or goes change hands.
fn weight(worker: &str, table: &str, slots: f64) -> f64 {
    // Fixed keys: all routers of one build place alike.
    let mut hasher = DefaultHasher::new();
    (worker, table).hash(&mut hasher);
    // In (0, 1), from the upper 53 bits.
    let uniform = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -slots / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(names: &[&'static str]) -> Vec<Choice<'static>> {
        names.iter().map(|name| Choice { name, slots: 8, load: 0, cached: false, failed_here: false }).collect()
    }

    fn winner<'a>(workers: &[Choice<'a>], table: &str) -> &'a str {
        workers[choose(workers, table).unwrap()].name
    }

    fn tables() -> Vec<String> {
        (0..3000).map(|n| format!("lake.default.t{n}")).collect()
    }

    #[test]
    fn tables_spread_by_slots_and_only_a_newcomers_move() {
        let mut workers = fleet(&["a", "b", "c"]);
        workers[2].slots = 16;
        let before: Vec<&str> = tables().iter().map(|t| winner(&workers, t)).collect();
        for (name, share) in [("a", 750), ("b", 750), ("c", 1500)] {
            let won = before.iter().filter(|w| **w == name).count();
            assert!(won.abs_diff(share) < 150, "{name}: {won}");
        }
        workers.push(Choice { name: "d", ..workers[0] });
        let mut moved = 0;
        for (table, before) in tables().iter().zip(before) {
            let now = winner(&workers, table);
            assert!(now == before || now == "d");
            moved += usize::from(now != before);
        }
        assert!(moved.abs_diff(600) < 150, "{moved}");
    }

    #[test]
    fn a_worker_that_has_the_table_wins_until_it_has_more_than_its_share() {
        let mut workers = fleet(&["a", "b", "c"]);
        for holder in 0..3 {
            workers.iter_mut().enumerate().for_each(|(n, w)| w.cached = n == holder);
            assert_eq!(choose(&workers, "t"), Some(holder));
        }
        // "c" holds it and works already, the others idle.
        workers[2].load = 4;
        assert_ne!(winner(&workers, "t"), "c");
        // All work alike: back to the cache.
        workers[0].load = 4;
        workers[1].load = 4;
        assert_eq!(winner(&workers, "t"), "c");
    }

    #[test]
    fn full_and_failing_workers_come_last_and_somebody_is_always_chosen() {
        let mut workers = fleet(&["a", "b"]);
        let first = choose(&workers, "t").unwrap();
        workers[first].failed_here = true;
        assert_eq!(choose(&workers, "t"), Some(1 - first));
        workers[1 - first].load = 8;
        assert_eq!(choose(&workers, "t"), Some(1 - first), "better to wait there than to fail again");
        workers[1 - first].failed_here = true;
        assert_eq!(choose(&workers, "t"), Some(first));
        assert_eq!(choose(&[], "t"), None);
        workers.iter_mut().for_each(|w| w.load = 8);
        workers[0].load = 20;
        assert_eq!(choose(&workers, "t"), Some(1), "of full ones the least loaded");
    }

    #[test]
    fn load_stays_near_the_mean_however_the_tables_are_asked_for() {
        let mut workers = fleet(&["a", "b", "c", "d"]);
        for _ in 0..20 {
            let chosen = choose(&workers, "one table alone").unwrap();
            workers[chosen].load += 1;
        }
        assert!(workers.iter().all(|w| (3..=7).contains(&w.load)), "{workers:?}");
    }
}
