//! What is learned, as plain data that outlives the process. Whoever keeps it chooses the format.

use serde::{Deserialize, Serialize};

/// Of this form, and of the features that the models rest on; what has another is left out.
pub(crate) const VERSION: u32 = 2;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorSnapshot {
    pub version: u32,
    pub ticks: u64,
    pub shapes: Vec<ShapeState>,
    pub models: Vec<ModelState>,
    /// Names of the saves whose lessons are in it: the keeper's, and empty as exported.
    #[serde(default)]
    pub saves: Vec<u64>,
}

impl PredictorSnapshot {
    /// Forgets all shapes but those seen last.
    pub fn keep_newest(&mut self, shapes_max: usize) {
        self.shapes.sort_by_key(|shape| std::cmp::Reverse(shape.tick));
        self.shapes.truncate(shapes_max);
    }
}

/// What came of taking a snapshot in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    pub shapes: usize,
    pub models: usize,
    pub left_out: usize,
}

/// One shape of query on one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShapeState {
    pub(crate) key: u64,
    pub(crate) tick: u64,
    pub(crate) classes: Vec<ClassState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassState {
    pub tick: u64,
    pub ln_bytes: f64,
    pub overhead_ms: f64,
    pub latency: Vec<f32>,
    pub latency_seen: u32,
    pub memory: Vec<f32>,
    pub memory_seen: u32,
}

/// One engine on one kind of worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    pub engine: String,
    pub shape: String,
    pub(crate) tick: u64,
    pub(crate) latency: RegressionState,
    pub(crate) memory: RegressionState,
    pub(crate) shape_z: f64,
    pub(crate) ln_usual_ms: Option<f64>,
    #[serde(default = "bytes_reach")]
    pub(crate) bytes_reach: f64,
}

fn bytes_reach() -> f64 {
    super::model::BYTES_REACH
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegressionState {
    /// Lower triangle of the sum of x x', by rows.
    pub xx: Vec<f64>,
    pub xy: Vec<f64>,
    pub yy: f64,
    pub weight: f64,
    pub seen: u32,
    /// Means nothing to another process.
    #[serde(skip)]
    pub learned: f64,
    pub low: Vec<f64>,
    pub high: Vec<f64>,
    pub z: f64,
}
