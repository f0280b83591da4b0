//! `ab` strategies: which side a query falls on, stable over restarts and routers, and what the
//! two sides' outcomes say in the end.

mod report;

use flightpath_types::{Fingerprint, Principal, QueryId};

use crate::strategy::AbUnit;
use crate::{RouteInput, Strategy};

pub use report::{AbOutcome, AbReport, Interval, Method, compare};

/// The strategy that decides, and the one that might have.
pub(crate) struct Drawn<'a> {
    pub strategy: &'a Strategy,
    pub other: Option<&'a Strategy>,
    /// How probable this side was.
    pub share: f64,
}

pub(crate) fn draw<'a>(strategy: &'a Strategy, input: &RouteInput<'_>) -> Drawn<'a> {
    let Strategy::Ab(test) = strategy else { return Drawn { strategy, other: None, share: 1.0 } };
    let point = match (test.unit, input.fingerprint) {
        (AbUnit::Shape, Some(fingerprint)) => shape_point(fingerprint, input.principal),
        (AbUnit::Shape, None) | (AbUnit::Query, _) => query_point(input.query_id),
    };
    if point < test.share_b {
        Drawn { strategy: &test.b, other: Some(&test.a), share: test.share_b }
    } else {
        Drawn { strategy: &test.a, other: Some(&test.b), share: 1.0 - test.share_b }
    }
}

fn shape_point(fingerprint: Fingerprint, principal: &Principal) -> f64 {
    let start = fnv1a(FNV_OFFSET, &fingerprint.as_u64().to_be_bytes());
    unit_interval(fnv1a(start, principal.as_str().as_bytes()))
}

fn query_point(query_id: QueryId) -> f64 {
    unit_interval(fnv1a(FNV_OFFSET, query_id.as_bytes()))
}

pub(crate) const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a. The standard library's hashers may change between releases; this must not.
pub(crate) fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Spreads a hash over [0, 1), by the finalizer of splitmix64.
fn unit_interval(hash: u64) -> f64 {
    let mixed = mix(hash);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

pub(crate) fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_the_same_on_every_machine_and_release() {
        let point = shape_point(Fingerprint::from_u64(42), &Principal::new("ana"));
        assert_eq!(point, shape_point(Fingerprint::from_u64(42), &Principal::new("ana")));
        // A known value of FNV-1a: the empty text and "a".
        assert_eq!((fnv1a(FNV_OFFSET, b""), fnv1a(FNV_OFFSET, b"a")), (0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c));
    }

    #[test]
    fn draws_fill_the_interval_evenly() {
        let mut tenths = [0u32; 10];
        for shape in 0..10_000u64 {
            let point = shape_point(Fingerprint::from_u64(shape), &Principal::new("ana"));
            tenths[(point * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1_150).contains(count)), "{tenths:?}");
    }
}
