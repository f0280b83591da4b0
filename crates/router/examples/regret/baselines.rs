//! Simpler ways to route, given every advantage: the threshold is the best one in hindsight, the
//! forest learns from the times of every engine, not just of the one that ran.

use crate::matrix::{Matrix, mixed};
use crate::replay::{Objective, Run};

/// Bytes up to which one engine runs a query and beyond which another does: the best on these very
/// queries.
pub(crate) fn best_threshold(matrix: &Matrix, objective: &Objective, queries: &[usize]) -> (u64, usize, usize) {
    let mut bytes: Vec<u64> = queries.iter().map(|query| matrix.queries[*query].features.scan_bytes).collect();
    bytes.push(0);
    bytes.sort_unstable();
    bytes.dedup();
    let engines = 0..matrix.engines.len();
    let mut best = (f64::INFINITY, (0, 0, 0));
    for below in engines.clone() {
        for above in engines.clone().filter(|above| *above != below) {
            for threshold in &bytes {
                let cost: f64 = queries
                    .iter()
                    .map(|query| {
                        let side = if matrix.queries[*query].features.scan_bytes <= *threshold { below } else { above };
                        objective.cost(&Run::on(matrix, *query, matrix.or_eligible(*query, side)))
                    })
                    .sum();
                if cost < best.0 {
                    best = (cost, (*threshold, below, above));
                }
            }
        }
    }
    best.1
}

const TREES: u64 = 50;
const DEPTH_MAX: usize = 10;

/// A random forest of classification trees over which tables a query touches: bootstrap samples,
/// a random third of the tables at each node, split by the Gini index.
pub(crate) struct Forest {
    trees: Vec<Node>,
    classes: usize,
}

enum Node {
    Leaf(usize),
    Split { table: usize, without: Box<Node>, with: Box<Node> },
}

struct Example {
    presence: Vec<bool>,
    best: usize,
}

impl Forest {
    pub fn grow(matrix: &Matrix, objective: &Objective, queries: &[usize]) -> Self {
        let examples: Vec<Example> =
            queries.iter().map(|query| Example { presence: matrix.presence(*query), best: matrix.oracle(objective, *query) }).collect();
        let classes = matrix.engines.len();
        let trees = (0..TREES)
            .map(|tree| {
                let count = examples.len().max(1) as u64;
                let sample: Vec<&Example> =
                    (0..count).filter_map(|draw| examples.get((mixed(tree << 32 | draw) % count) as usize)).collect();
                node(&sample, classes, DEPTH_MAX, tree + 1)
            })
            .collect();
        Self { trees, classes }
    }

    pub fn choose(&self, presence: &[bool]) -> usize {
        let mut votes = vec![0u32; self.classes];
        for tree in &self.trees {
            let mut at = tree;
            let leaf = loop {
                match at {
                    Node::Leaf(class) => break *class,
                    Node::Split { table, without, with } => at = if presence[*table] { with } else { without },
                }
            };
            votes[leaf] += 1;
        }
        (0..self.classes).max_by_key(|class| (votes[*class], std::cmp::Reverse(*class))).unwrap_or(0)
    }
}

fn counts(examples: &[&Example], classes: usize) -> Vec<f64> {
    let mut counts = vec![0.0; classes];
    examples.iter().for_each(|example| counts[example.best] += 1.0);
    counts
}

/// Gini impurity times the number of examples.
fn impurity(examples: &[&Example], classes: usize) -> f64 {
    let total = examples.len() as f64;
    if total == 0.0 { 0.0 } else { total - counts(examples, classes).iter().map(|n| n * n).sum::<f64>() / total }
}

fn node(examples: &[&Example], classes: usize, depth: usize, seed: u64) -> Node {
    let counted = counts(examples, classes);
    let most = (0..classes).max_by(|a, b| counted[*a].total_cmp(&counted[*b])).unwrap_or(0);
    let whole = impurity(examples, classes);
    if depth == 0 || whole == 0.0 {
        return Node::Leaf(most);
    }
    let tables = examples.first().map_or(0, |example| example.presence.len());
    let split = |table: usize| -> (Vec<&Example>, Vec<&Example>) { examples.iter().partition(|example| !example.presence[table]) };
    let best = (0..tables)
        .filter(|table| mixed(seed << 16 ^ *table as u64).is_multiple_of(3))
        .map(|table| {
            let (without, with) = split(table);
            (table, impurity(&without, classes) + impurity(&with, classes))
        })
        .min_by(|a, b| a.1.total_cmp(&b.1));
    match best {
        Some((table, after)) if after < whole - 1e-9 => {
            let (without, with) = split(table);
            let child = |examples: &[&Example], side: u64| Box::new(node(examples, classes, depth - 1, mixed(seed ^ side)));
            Node::Split { table, without: child(&without, 1), with: child(&with, 2) }
        }
        _ => Node::Leaf(most),
    }
}
