//! The tables that are printed.

use crate::matrix::Matrix;
use crate::replay::{Objective, Play, Run};

/// Beyond this factor and this much later than the oracle: mis-routed, or worse.
const MISROUTE: (f64, f64) = (2.0, 250.0);
const CATASTROPHE: (f64, f64) = (10.0, 5_000.0);

/// One way to route, over all queries of a split.
pub(crate) struct Line {
    title: String,
    cost: f64,
    usd: f64,
    latencies_ms: Vec<f64>,
    /// Cost over the oracle's, by query.
    regrets: Vec<f64>,
    misroutes: usize,
    catastrophes: usize,
}

impl Line {
    pub fn of(title: String, matrix: &Matrix, objective: &Objective, runs: impl Iterator<Item = Run>) -> Self {
        let (latencies_ms, regrets) = (Vec::new(), Vec::new());
        let mut line = Self { title, cost: 0.0, usd: 0.0, latencies_ms, regrets, misroutes: 0, catastrophes: 0 };
        for run in runs {
            let oracle = Run::on(matrix, run.query, matrix.oracle(objective, run.query));
            let (cost, least) = (objective.cost(&run), objective.cost(&oracle));
            line.cost += cost;
            line.usd += run.usd;
            line.latencies_ms.push(run.latency_ms);
            line.regrets.push(if least > 0.0 { cost / least } else { 1.0 });
            let beyond = |(factor, more): (f64, f64)| run.latency_ms > (oracle.latency_ms * factor).max(oracle.latency_ms + more);
            line.misroutes += usize::from(beyond(MISROUTE));
            line.catastrophes += usize::from(beyond(CATASTROPHE) || !run.through);
        }
        line
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.latencies_ms.len().max(1) as f64 * 100.0
    }
}

pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The first line is the router's, the last the oracle's.
pub(crate) fn print_split(title: &str, matrix: &Matrix, lines: &[Line], plays: &[Play]) {
    let Some(oracle) = lines.last() else { return };
    let singles = lines.iter().filter(|line| line.title.starts_with("always "));
    let single = singles.map(|line| line.cost).fold(f64::INFINITY, f64::min);
    println!("\n### {title} ({} decisions)\n", plays.len());
    println!("| | regret ratio | closed gap | p95 regret | mis-routed | catastrophes | p50 ms | p95 ms | $ per 1000 |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for line in lines {
        let gap = single - oracle.cost;
        let closed = if gap > oracle.cost * 1e-6 { format!("{:.0}%", (single - line.cost) / gap * 100.0) } else { "-".into() };
        println!(
            "| {} | {:.3} | {closed} | {:.2} | {:.1}% | {:.2}% | {:.1} | {:.1} | {:.5} |",
            line.title,
            line.cost / oracle.cost,
            quantile(&line.regrets, 0.95),
            line.share(line.misroutes),
            line.share(line.catastrophes),
            quantile(&line.latencies_ms, 0.5),
            quantile(&line.latencies_ms, 0.95),
            line.usd / line.latencies_ms.len().max(1) as f64 * 1_000.0,
        );
    }
    println!("\nThe router went to {}.", shares(matrix, plays));
    print_predictions(matrix, plays);
    let decide_us: Vec<f64> = plays.iter().map(|play| play.decide_ms * 1_000.0).collect();
    println!("Deciding: p50 {:.0} us, p99 {:.0} us, in the router's cost above.", quantile(&decide_us, 0.5), quantile(&decide_us, 0.99));
}

/// The decisions that lost the most, with what was predicted and what it was.
pub(crate) fn print_worst(matrix: &Matrix, objective: &Objective, plays: &[Play], count: usize) {
    let lost = |play: &Play| {
        objective.cost(&Run::routed(matrix, play)) - objective.cost(&Run::on(matrix, play.query, matrix.oracle(objective, play.query)))
    };
    let mut sorted: Vec<&Play> = plays.iter().collect();
    sorted.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    for play in sorted.iter().take(count) {
        let query = &matrix.queries[play.query];
        let engines = play.predicted.iter().map(|(engine, numbers)| {
            let (_, actual) = matrix.median_ms(play.query, *engine);
            let (name, source) = (matrix.name(*engine), numbers.source.as_str());
            let (p50, p95) = (numbers.latency_ms - numbers.wait_ms, numbers.latency_p95_ms - numbers.wait_ms);
            let memory = numbers.memory_bytes >> 20;
            format!("{name} {actual:.0} ms ({source} of {}: p50 {p50:.0}, p95 {p95:.0}, {memory} MiB)", numbers.observations)
        });
        println!("{}: lost ${:.7}; {}", query.id, lost(play), engines.collect::<Vec<_>>().join(", "));
    }
}

fn shares(matrix: &Matrix, plays: &[Play]) -> String {
    let share = |engine: usize| {
        let count = plays.iter().filter(|play| play.engine == engine).count();
        format!("{} {:.0}%", matrix.name(engine), count as f64 / plays.len().max(1) as f64 * 100.0)
    };
    (0..matrix.engines.len()).map(share).collect::<Vec<_>>().join(", ")
}

/// How far predictions were from the runs, on the chosen engine and on each.
fn print_predictions(matrix: &Matrix, plays: &[Play]) {
    let line = |title: &str, wanted: &dyn Fn(&Play, usize) -> bool| {
        let (mut errors, mut under, mut all) = (Vec::new(), 0u32, 0u32);
        for play in plays {
            for (engine, numbers) in play.predicted.iter().filter(|(engine, _)| wanted(play, *engine)) {
                let Some(runs) = matrix.runs(play.query, *engine).filter(|runs| runs.failed.is_none()) else { continue };
                for ms in &runs.latency_ms {
                    under += u32::from(*ms <= numbers.latency_p95_ms - numbers.wait_ms);
                    all += 1;
                }
                let (_, actual) = matrix.median_ms(play.query, *engine);
                let predicted = (numbers.latency_ms - numbers.wait_ms).max(0.01);
                errors.push((predicted / actual).max(actual / predicted));
            }
        }
        if all > 0 {
            println!(
                "{title}: q-error p50 {:.2}, p95 {:.2}; {:.1}% of the runs under the predicted p95.",
                quantile(&errors, 0.5),
                quantile(&errors, 0.95),
                f64::from(under) / f64::from(all) * 100.0
            );
        }
    };
    line("Predictions for the chosen engine", &|play, engine| play.engine == engine);
    for engine in 0..matrix.engines.len() {
        let simulated = if matrix.engines[engine].simulated { " (simulated)" } else { "" };
        line(&format!("Predictions for {}{simulated}", matrix.name(engine)), &|_, of| of == engine);
        print_memory(matrix, plays, engine);
    }
}

/// Less is as good as nothing, however many times more was predicted.
const MEMORY_MIN: u64 = 16 << 20;

/// The same for the peaks of memory that were measured.
fn print_memory(matrix: &Matrix, plays: &[Play], engine: usize) {
    let (mut errors, mut under) = (Vec::new(), 0u32);
    for play in plays {
        let Some(actual) = matrix.runs(play.query, engine).and_then(|runs| runs.memory_bytes) else { continue };
        for (_, numbers) in play.predicted.iter().filter(|(of, _)| *of == engine) {
            under += u32::from(actual <= numbers.memory_p95_bytes);
            let (predicted, actual) = (numbers.memory_bytes.max(MEMORY_MIN) as f64, actual.max(MEMORY_MIN) as f64);
            errors.push((predicted / actual).max(actual / predicted));
        }
    }
    if !errors.is_empty() {
        println!(
            "Memory on {}: q-error p50 {:.2}, p95 {:.2}; {:.1}% of the peaks under the predicted p95.",
            matrix.name(engine),
            quantile(&errors, 0.5),
            quantile(&errors, 0.95),
            f64::from(under) / errors.len() as f64 * 100.0
        );
    }
}
