//! When a warehouse is up, and with how many clusters: from the first query on, until nothing has
//! come for its auto-stop. You pay for that time, whatever runs in it.

use flightpath_types::QUERIES_PER_CLUSTER;

use crate::warehouse::Warehouse;

/// What one timeline comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Uptime {
    pub up_ms: i64,
    /// Clusters times the time they were up.
    pub cluster_ms: i64,
    /// Times it woke up.
    pub wakes: u64,
}

impl Uptime {
    pub fn cluster_hours(&self) -> f64 {
        self.cluster_ms as f64 / 3_600_000.0
    }

    pub fn hours(&self) -> f64 {
        self.up_ms as f64 / 3_600_000.0
    }
}

/// When a warehouse that nothing comes to stops.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AutoStop {
    After(i64),
    /// Never by itself: what is looked at ends at this.
    Never {
        until_ms: i64,
    },
}

impl AutoStop {
    fn tail_ms(self, last: i64) -> i64 {
        match self {
            AutoStop::After(ms) => ms,
            AutoStop::Never { until_ms } => (until_ms - last).max(0),
        }
    }
}

/// `spans` are queries' beginnings and ends in milliseconds, in order of their beginnings. More
/// clusters than the least run only as long as queries need them.
pub(crate) fn uptime(spans: impl Iterator<Item = (i64, i64)>, warehouse: &Warehouse, auto_stop: AutoStop) -> Uptime {
    let mut uptime = Uptime::default();
    let mut ends: std::collections::BinaryHeap<std::cmp::Reverse<i64>> = Default::default();
    // The running stretch: its beginning, and when its last query so far ends.
    let mut stretch: Option<(i64, i64)> = None;
    let mut at = 0;
    let clusters = |running: usize| {
        let wanted = u32::try_from(running).unwrap_or(u32::MAX).div_ceil(QUERIES_PER_CLUSTER);
        i64::from(wanted.clamp(warehouse.clusters_min, warehouse.clusters_max))
    };
    for (start, end) in spans {
        // What ends before this begins lets clusters go.
        while let Some(std::cmp::Reverse(ended)) = ends.peek().copied().filter(|e| e.0 <= start) {
            uptime.cluster_ms += (ended - at) * clusters(ends.len());
            at = ended;
            ends.pop();
        }
        match stretch {
            Some((_, last)) if start - last <= auto_stop.tail_ms(last) => {
                uptime.cluster_ms += (start - at) * clusters(ends.len());
                stretch = stretch.map(|(begun, last)| (begun, last.max(end)));
            }
            asleep => {
                uptime.close(asleep, auto_stop, clusters(0));
                uptime.wakes += 1;
                stretch = Some((start, end));
            }
        }
        at = start;
        ends.push(std::cmp::Reverse(end));
    }
    while let Some(std::cmp::Reverse(ended)) = ends.pop() {
        uptime.cluster_ms += (ended - at) * clusters(ends.len() + 1);
        at = ended;
    }
    uptime.close(stretch, auto_stop, clusters(0));
    uptime
}

impl Uptime {
    /// A stretch ends with its idle tail.
    fn close(&mut self, stretch: Option<(i64, i64)>, auto_stop: AutoStop, clusters: i64) {
        if let Some((begun, last)) = stretch {
            let tail_ms = auto_stop.tail_ms(last);
            self.up_ms += last - begun + tail_ms;
            self.cluster_ms += tail_ms * clusters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn of(spans: &[(i64, i64)], clusters_max: u32) -> Uptime {
        let warehouse = Warehouse { clusters_max, ..Warehouse::assumed("w") };
        uptime(spans.iter().map(|(a, b)| (a * MINUTE, b * MINUTE)), &warehouse, AutoStop::After(10 * MINUTE))
    }

    #[test]
    fn a_warehouse_stays_up_until_nothing_came_for_its_auto_stop() {
        assert_eq!(of(&[], 1), Uptime::default());
        assert_eq!(of(&[(0, 1)], 1), Uptime { up_ms: 11 * MINUTE, cluster_ms: 11 * MINUTE, wakes: 1 });
        // Nine minutes of silence: still up. Twelve: it slept.
        assert_eq!(of(&[(0, 1), (10, 11)], 1).up_ms, 21 * MINUTE);
        assert_eq!(of(&[(0, 1), (13, 14)], 1), Uptime { up_ms: 22 * MINUTE, cluster_ms: 22 * MINUTE, wakes: 2 });
        let never = AutoStop::Never { until_ms: 100 * MINUTE };
        let spans = [(0, MINUTE), (40 * MINUTE, 41 * MINUTE)];
        assert_eq!(uptime(spans.into_iter(), &Warehouse::assumed("w"), never).up_ms, 100 * MINUTE);
        // A long query covers short ones.
        assert_eq!(of(&[(0, 60), (5, 6), (65, 66)], 1).up_ms, 76 * MINUTE);
    }

    #[test]
    fn clusters_are_added_while_more_queries_run_than_one_takes() {
        let eleven: Vec<(i64, i64)> = (0..11).map(|_| (0, 10)).collect();
        assert_eq!(of(&eleven, 1).cluster_ms, 20 * MINUTE);
        assert_eq!(of(&eleven, 4).cluster_ms, 30 * MINUTE);
        // Most of them end early.
        let mut mixed: Vec<(i64, i64)> = (0..10).map(|_| (0, 2)).collect();
        mixed.push((0, 10));
        assert_eq!(of(&mixed, 4).cluster_ms, (2 * 2 + 8 + 10) * MINUTE);
        assert_eq!(of(&mixed, 4).up_ms, 20 * MINUTE);
    }
}
