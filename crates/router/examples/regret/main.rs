//! The regret harness: replays a matrix of measured queries (`benchmarks/regret.py` collects it)
//! through predictor and router as they are, and prints what was lost against a router that knows
//! every time beforehand, beside simpler ways to route.
//!
//! `regret MATRIX.jsonl [--profile NAME | --strategy TEXT] [--shadow SHARE] [--warehouse asleep|idle|busy] [--gap SECONDS]...
//! [--worst COUNT]`

mod baselines;
mod matrix;
mod replay;
mod report;
mod timeline;

use std::process::ExitCode;

use flightpath_router::{Profile, Strategy};
use flightpath_types::WarehouseActivity;

use baselines::{Forest, best_threshold};
use matrix::Matrix;
use replay::{Objective, Play, Replay, Run};
use report::{Line, print_split};

pub(crate) struct Options {
    path: String,
    pub profile: Profile,
    /// Share of the queries that a second cheap engine runs too, for the predictor to learn from.
    pub shadow: f64,
    pub warehouse: WarehouseActivity,
    pub gaps_s: Vec<f64>,
    /// Queries to be listed that lost the most.
    worst: usize,
}

fn options() -> Result<Options, String> {
    let mut path = None;
    let mut profile = Profile::shipped().into_iter().find(|p| p.name == "interactive").unwrap_or_else(|| Profile::named("interactive"));
    let (mut shadow, mut warehouse, mut gaps_s, mut worst) = (0.02, WarehouseActivity::Asleep, Vec::new(), 0);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--profile" => {
                let name = value()?;
                profile =
                    Profile::shipped().into_iter().find(|p| p.name == name).ok_or_else(|| format!("no profile `{name}` is shipped"))?;
            }
            "--strategy" => profile.strategy = Strategy::parse(&value()?)?,
            "--shadow" => shadow = number(&value()?)?,
            "--worst" => worst = number(&value()?)? as usize,
            "--gap" => gaps_s.push(number(&value()?)?),
            "--warehouse" => {
                warehouse = match value()?.as_str() {
                    "asleep" => WarehouseActivity::Asleep,
                    "idle" => WarehouseActivity::Idle { idle_ms: 60_000.0 },
                    "busy" => WarehouseActivity::Busy,
                    other => return Err(format!("--warehouse is asleep, idle or busy, not {other}")),
                }
            }
            _ => path = Some(argument),
        }
    }
    if gaps_s.is_empty() {
        gaps_s = vec![2.0, 30.0, 300.0];
    }
    Ok(Options { path: path.ok_or("which matrix?")?, profile, shadow, warehouse, gaps_s, worst })
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` isn't a number"))
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("regret: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let matrix = Matrix::read(&options.path, options.warehouse)?;
    println!("{}\n", matrix.note);
    let profile = &options.profile;
    println!(
        "Profile `{}`, strategy `{}`: a query costs its dollars plus ${} for each second beyond {} ms; a failure counts as {} s. \
         Warehouse: {:?}. Shadow runs: {:.0}% of the queries.",
        profile.name,
        profile.strategy,
        profile.usd_per_second_late,
        profile.slo_ms,
        matrix.failure_ms() / 1_000.0,
        options.warehouse,
        options.shadow * 100.0
    );
    for (title, split) in splits(&matrix) {
        let plays = play(&matrix, options, &split);
        if !plays.is_empty() {
            print_split(&title, &matrix, &lines(&matrix, options, &split, &plays), &plays);
            report::print_worst(&matrix, &Objective::of(&options.profile), &plays, options.worst);
        }
    }
    timeline::print(&matrix, options);
    Ok(())
}

/// What is learned from, in order, and what is counted.
pub(crate) struct Split {
    /// Rounds of training and then a test without feedback; their results are put together.
    folds: Vec<(Vec<usize>, Vec<usize>)>,
    /// Counts runs while learning instead, from the second of each shape on.
    online: bool,
}

fn splits(matrix: &Matrix) -> Vec<(String, Split)> {
    let mut all = Vec::new();
    for (name, sequence) in matrix.sequences() {
        let split = Split { folds: vec![(sequence, Vec::new())], online: true };
        all.push((format!("Seen shapes: {name}, from the second run of each on"), split));
    }
    let base = matrix.base();
    let shapes = matrix.shapes(&base);
    let folds = (0..FOLDS).map(|fold| {
        let of_fold =
            |query: &usize| shapes.iter().position(|s| *s == matrix.queries[*query].fingerprint).is_some_and(|at| at % FOLDS == fold);
        let (test, train): (Vec<usize>, Vec<usize>) = base.iter().copied().partition(of_fold);
        (matrix.passes(&train, TRAINING_PASSES), test)
    });
    all.push((
        format!("Unseen shapes: {FOLDS} folds, every shape decided once before it was ever run"),
        Split { folds: folds.collect(), online: false },
    ));
    let (ds, rest): (Vec<usize>, Vec<usize>) = base.iter().copied().partition(|query| matrix.queries[*query].workload == "tpcds");
    if !ds.is_empty() && !rest.is_empty() {
        let folds = vec![(matrix.passes(&rest, TRAINING_PASSES), ds.clone()), (matrix.passes(&ds, TRAINING_PASSES), rest)];
        all.push(("Unseen tables: TPC-DS after the rest, and the rest after TPC-DS".into(), Split { folds, online: false }));
    }
    let grown = matrix.grown();
    if !grown.is_empty() {
        let folds = vec![(matrix.passes(&base, TRAINING_PASSES), grown)];
        all.push(("After growth: shapes seen on smaller tables".into(), Split { folds, online: false }));
    }
    all
}

const FOLDS: usize = 5;
const TRAINING_PASSES: usize = 3;

fn play(matrix: &Matrix, options: &Options, split: &Split) -> Vec<Play> {
    let mut plays = Vec::new();
    for (train, test) in &split.folds {
        let mut replay = Replay::new(matrix, options);
        for query in train {
            let play = replay.run(*query);
            if split.online && play.times_before > 0 {
                plays.push(play);
            }
        }
        plays.extend(test.iter().map(|query| replay.decide(*query)));
    }
    plays
}

fn lines(matrix: &Matrix, options: &Options, split: &Split, plays: &[Play]) -> Vec<Line> {
    let objective = Objective::of(&options.profile);
    let queries: Vec<usize> = plays.iter().map(|play| play.query).collect();
    let fixed = |title: String, choose: &dyn Fn(usize) -> usize| {
        Line::of(title, matrix, &objective, queries.iter().map(|query| Run::on(matrix, *query, choose(*query))))
    };
    let mut lines = vec![Line::of("**router**".into(), matrix, &objective, plays.iter().map(|play| Run::routed(matrix, play)))];
    for engine in 0..matrix.engines.len() {
        let title = format!("always {}", matrix.engines[engine].facts.id);
        lines.push(fixed(title, &|query| matrix.or_eligible(query, engine)));
    }
    let (threshold, below, above) = best_threshold(matrix, &objective, &queries);
    let title = format!("best threshold: {} up to {:.1} MB, else {}", matrix.name(below), threshold as f64 / 1e6, matrix.name(above));
    lines.push(fixed(title, &|query| {
        matrix.or_eligible(query, if matrix.queries[query].features.scan_bytes <= threshold { below } else { above })
    }));
    let forests: Vec<Forest> = split.folds.iter().map(|(train, _)| Forest::grow(matrix, &objective, train)).collect();
    let forest_of = |query: usize| {
        let fold = split.folds.iter().position(|(_, test)| test.contains(&query)).unwrap_or(0);
        matrix.or_eligible(query, forests[fold].choose(&matrix.presence(query)))
    };
    lines.push(fixed("forest on table presence".into(), &forest_of));
    lines.push(fixed("oracle".into(), &|query| matrix.oracle(&objective, query)));
    lines
}
