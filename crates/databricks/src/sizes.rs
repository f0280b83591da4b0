//! What the sizes of warehouses mean: published figures, as priors.

/// One cluster of a size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    pub dbu_per_hour: f64,
    /// Of its workers, with 8 each.
    pub cores: u32,
}

/// Queries that one cluster runs at once.
pub const QUERIES_PER_CLUSTER: u32 = 10;
/// List prices of a DBU in US dollars. Serverless includes the machines, the others don't.
pub const USD_PER_DBU_SERVERLESS: f64 = 0.70;
pub const USD_PER_DBU_PRO: f64 = 0.55;
pub const USD_PER_DBU_CLASSIC: f64 = 0.22;

const SIZES: [(&str, f64, u32); 10] = [
    ("2X-Small", 4.0, 1),
    ("X-Small", 6.0, 2),
    ("Small", 12.0, 4),
    ("Medium", 24.0, 8),
    ("Large", 40.0, 16),
    ("X-Large", 80.0, 32),
    ("2X-Large", 144.0, 64),
    ("3X-Large", 272.0, 128),
    ("4X-Large", 528.0, 256),
    // Not published; in line with the doubling before it.
    ("5X-Large", 1056.0, 512),
];

/// A size's figures; of one that isn't known, those of the middle.
pub fn size(name: &str) -> Size {
    let found = SIZES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let (_, dbu_per_hour, workers) = found.unwrap_or(&SIZES[3]);
    Size { dbu_per_hour: *dbu_per_hour, cores: workers * 8 }
}

/// Whether this is the name of a size.
pub fn is_size(name: &str) -> bool {
    SIZES.iter().any(|(known, ..)| known.eq_ignore_ascii_case(name))
}
