//! Which queries leave. The history doesn't tell which shapes of queries another engine may run, so
//! that is drawn many times: all queries of a shape leave in a draw, or none. One that leaves at a
//! lower level leaves at every higher one.

use std::collections::HashMap;

use serde::Serialize;

use crate::estimate::{Assumptions, LEVELS};
use crate::read::{Class, History, Query};

/// How often is drawn, a power of two.
const DRAWS_MAX: usize = 64;
/// Of the largest histories.
const DRAWS_MIN: usize = 8;
/// Queries times draws: some seconds' work.
const QUERIES_DRAWN_MAX: usize = 16_000_000;
/// A shape with more than this part of what could leave decides the answer almost alone.
const HEAVY_SHARE: f64 = 0.2;

/// One draw of the shapes that leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Draw {
    number: u32,
    of: u32,
}

impl Draw {
    /// As many as there is time for with so many queries.
    pub fn all(queries: usize) -> Vec<Draw> {
        let of = 1u32 << (QUERIES_DRAWN_MAX / queries.max(1)).clamp(DRAWS_MIN, DRAWS_MAX).ilog2();
        (0..of).map(|number| Draw { number, of }).collect()
    }

    /// Where a shape falls, in [0, 1). Each of its draws falls into a strip of its own, so that it
    /// leaves in just its share of them; its hash says in which order the strips come, so that two
    /// shapes have nothing to do with each other.
    fn falls(self, shape: u64) -> f64 {
        let hash = mix(shape);
        let key = |bit: u32| (hash >> bit) as u32;
        let strips = self.of - 1;
        // Each step turns the numbers of the strips into each other.
        let mut strip = (self.number ^ key(0)).wrapping_mul(key(6) | 1) & strips;
        strip ^= strip >> 3;
        strip = strip.wrapping_mul(key(12) | 1).wrapping_add(key(18)) & strips;
        let within = (hash >> 24) as f64 / (1u64 << 40) as f64;
        (f64::from(strip) + within) / f64::from(self.of)
    }
}

/// The finalizer of splitmix64.
fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Whether a query leaves at this level of this draw.
pub(crate) fn leaves(query: &Query, level: usize, draw: Draw, assumptions: &Assumptions) -> bool {
    match query.class {
        Class::Metadata => true,
        Class::Other => false,
        Class::Select => fits(query, level, assumptions) && draw.falls(query.shape) < assumptions.share[level],
    }
}

/// Whether a query that reads is small enough to leave, if its shape may.
fn fits(query: &Query, level: usize, assumptions: &Assumptions) -> bool {
    let small = match query.read_bytes {
        Some(bytes) => bytes <= assumptions.bytes_max[level],
        // How much it reads isn't known: a short one can't have read much.
        None => level > 0 && query.end_ms - query.start_ms < 60_000,
    };
    // What spilled on a warehouse needs more memory than a machine has, but for the boldest guess.
    small && (!query.spilled || level + 1 == LEVELS.len())
}

/// A shape of queries that the answer hangs on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeavyShape {
    /// The beginning of one query's text; `None` where the export has none.
    pub example: Option<String>,
    pub queries: u64,
    /// Of the queries that could leave.
    pub share_of_queries: f64,
    /// Of the time that those took.
    pub share_of_time: f64,
}

/// Those with a large part of the queries, which keep a warehouse up, or of their time; the largest first.
pub(crate) fn heavy_shapes(history: &History, assumptions: &Assumptions) -> Vec<HeavyShape> {
    // Where every shape may leave, or none, nothing is left to chance.
    if assumptions.share.iter().all(|share| *share <= 0.0 || *share >= 1.0) {
        return Vec::new();
    }
    let could_leave = |q: &&Query| q.class == Class::Select && (0..LEVELS.len()).any(|level| fits(q, level, assumptions));
    let mut shapes = HashMap::<u64, (u64, f64)>::new();
    let mut all = (0u64, 0.0f64);
    for query in history.queries.iter().filter(could_leave) {
        for (queries, ms) in [&mut all, shapes.entry(query.shape).or_default()] {
            *queries += 1;
            *ms += (query.end_ms - query.start_ms) as f64;
        }
    }
    let mut heavy: Vec<HeavyShape> = shapes
        .into_iter()
        .map(|(shape, (queries, ms))| HeavyShape {
            example: history.examples.get(&shape).cloned(),
            queries,
            share_of_queries: queries as f64 / all.0 as f64,
            // All of them may have taken no time at all.
            share_of_time: ms / all.1.max(1.0),
        })
        .filter(|shape| shape.share_of_queries.max(shape.share_of_time) > HEAVY_SHARE)
        .collect();
    heavy.sort_by(|a, b| {
        let by_time = b.share_of_time.total_cmp(&a.share_of_time);
        by_time.then(b.queries.cmp(&a.queries)).then_with(|| a.example.cmp(&b.example))
    });
    heavy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(shape: u64, share: f64) -> usize {
        Draw::all(1).iter().filter(|draw| draw.falls(shape) < share).count()
    }

    #[test]
    fn a_shape_leaves_in_its_share_of_the_draws() {
        for shape in 0..1_000 {
            assert_eq!((left(shape, 0.0), left(shape, 0.5), left(shape, 1.0)), (0, 32, 64), "{shape}");
            // 44.8 of 64.
            assert!((44..=45).contains(&left(shape, 0.7)), "{shape}");
        }
    }

    #[test]
    fn shapes_leave_independently_of_each_other() {
        let draws = Draw::all(1);
        let both = |a: u64, b: u64| draws.iter().filter(|draw| draw.falls(a) < 0.5 && draw.falls(b) < 0.5).count();
        let pairs = 1_000;
        let sum: usize = (0..pairs).map(|i| both(2 * i, 2 * i + 1)).sum();
        // A quarter of 64 draws, on average.
        let mean = sum as f64 / pairs as f64;
        assert!((mean - 16.0).abs() < 0.5, "{mean}");
        // In each draw about half of the shapes leave.
        for draw in &draws {
            let leave = (0..1_000).filter(|shape| draw.falls(*shape) < 0.5).count();
            assert!((400..=600).contains(&leave), "{draw:?}: {leave}");
        }
    }

    #[test]
    fn large_histories_are_drawn_less_often() {
        for (queries, draws) in [(0, 64), (100_000, 64), (250_000, 64), (250_001, 32), (1_000_000, 16), (10_000_000, 8)] {
            assert_eq!(Draw::all(queries).len(), draws, "{queries}");
        }
    }
}
