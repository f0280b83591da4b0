//! Every setting: its path in TOML, what it means, and how it is taken.

use std::path::PathBuf;
use std::time::Duration;

use flightpath_router::Strategy;

use super::Settings;
use super::value::Given;

#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub path: &'static str,
    pub help: &'static str,
    pub set: fn(&mut Settings, Given<'_>) -> Result<(), String>,
}

impl Setting {
    /// `engines.duckdb.memory` is `FLIGHTPATH_ENGINES_DUCKDB_MEMORY`.
    pub fn variable(&self) -> String {
        format!("FLIGHTPATH_{}", self.path.to_ascii_uppercase().replace('.', "_"))
    }
}

const MANY: u64 = 1_000_000;
const DAY_SECONDS: f64 = 86_400.0;

/// Each local engine has the same settings.
macro_rules! engine_settings {
    ($engine:ident, $($field:ident $suffix:literal $help:literal $read:expr),+ $(,)?) => {
        [$(Setting {
            path: concat!("engines.", stringify!($engine), ".", $suffix),
            help: $help,
            set: |s, v| { s.$engine.$field = $read(v)?; Ok(()) },
        }),+]
    };
}

macro_rules! local_engine {
    ($engine:ident) => {
        engine_settings!($engine,
            enabled "enabled" "whether this engine may be used" Given::boolean,
            memory_bytes "memory" "memory of all its queries together" (|v: Given<'_>| v.bytes(64 << 20)),
            temp_bytes "temp" "disk it may spill to" (|v: Given<'_>| v.bytes(0)),
            threads "threads" "threads" (|v: Given<'_>| v.whole(1, 1024)),
            slots "slots" "queries at once" (|v: Given<'_>| v.whole(1, 10_000)),
            usd_per_hour "usd_per_hour" "price of an hour of it, for predictions" (|v: Given<'_>| v.number(0.0, 1e6)),
        )
    };
}

const BASE: &[Setting] = &[
    Setting {
        path: "listen",
        help: "address and port of the Flight SQL server",
        set: |s, v| {
            let text = v.text()?;
            s.listen = text.parse().map_err(|_| format!("must be an address and port such as \"127.0.0.1:31337\", not \"{text}\""))?;
            Ok(())
        },
    },
    Setting {
        path: "data",
        help: "folders of tables",
        set: |s, v| {
            s.data = v.list()?.into_iter().map(PathBuf::from).collect();
            Ok(())
        },
    },
    Setting {
        path: "state_dir",
        help: "folder for the query log, its spool and temporary files",
        set: |s, v| {
            s.state_dir = PathBuf::from(v.optional_text()?.ok_or("must name a folder")?);
            Ok(())
        },
    },
    Setting {
        path: "log_level",
        help: "what is written to standard error: error, warn, info, debug, trace, or tracing directives",
        set: |s, v| {
            let text = v.text()?;
            flightpath_telemetry::check_level(&text)?;
            s.log_level = text;
            Ok(())
        },
    },
    Setting {
        path: "log_format",
        help: "how it is written there: `text` or `json`",
        set: |s, v| {
            s.log_format = flightpath_telemetry::LogFormat::parse(&v.text()?)?;
            Ok(())
        },
    },
    Setting {
        path: "tls.certificate",
        help: "PEM file with the certificate chain",
        set: |s, v| {
            s.tls_certificate = v.optional_text()?.map(PathBuf::from);
            Ok(())
        },
    },
    Setting {
        path: "tls.key",
        help: "PEM file with the private key",
        set: |s, v| {
            s.tls_key = v.optional_text()?.map(PathBuf::from);
            Ok(())
        },
    },
    Setting {
        path: "log.url",
        help: "database of the query log: postgres://... or a SQLite file",
        set: |s, v| {
            let url = v.optional_text()?;
            if let Some(scheme) = url.as_deref().and_then(|u| u.split_once("://")).map(|(scheme, _)| scheme)
                && !["postgres", "postgresql", "sqlite"].contains(&scheme)
            {
                return Err("must begin with postgres:// or sqlite://".into());
            }
            s.log_url = url;
            Ok(())
        },
    },
    Setting {
        path: "log.spool_max",
        help: "disk for records that the log's database hasn't taken yet",
        set: |s, v| {
            s.log_spool_bytes_max = v.bytes(1 << 20)?;
            Ok(())
        },
    },
    Setting {
        path: "log.read_rows_max",
        help: "records that one scan of system.queries or system.decisions may go through; a query that needs more fails",
        set: |s, v| {
            s.log_read_rows_max = v.whole(1, 10_000 * MANY)?;
            Ok(())
        },
    },
    Setting {
        path: "log.retention_days",
        help: "days after which a query's record is deleted; 0 keeps records for ever",
        set: |s, v| {
            let days = v.number(0.0, 36_500.0)?;
            s.log_retention = Some(Duration::from_secs_f64(days * DAY_SECONDS)).filter(|keep| *keep > Duration::ZERO);
            Ok(())
        },
    },
    Setting {
        path: "routing.strategy",
        help: "strategy of profile `default`: `rules`, `cost`, `latency`, `cheapest_within_slo`, `always:<engine>` or `ab:<a>|<b>`",
        set: |s, v| {
            s.strategy = Strategy::parse(&v.text()?)?;
            Ok(())
        },
    },
    Setting {
        path: "routing.profile",
        help: "profile of queries whose session, tag and user have none",
        set: |s, v| {
            s.default_profile = v.optional_text()?;
            Ok(())
        },
    },
    Setting {
        path: "routing.escalation_factor",
        help: "a query that takes this many times its predicted p95 moves to the next engine; 0 for never",
        set: |s, v| {
            s.escalation.factor = v.number(0.0, 1_000.0)?;
            Ok(())
        },
    },
    Setting {
        path: "routing.escalation_min_seconds",
        help: "no query moves for being slow before this",
        set: |s, v| {
            s.escalation.after_min = v.seconds(0.0, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "routing.escalation_share",
        help: "share of all queries that may move for being slow, so that an overload doesn't make more work; 0 for none",
        set: |s, v| {
            s.escalation.share = v.number(0.0, 1.0)?;
            Ok(())
        },
    },
    Setting {
        path: "prices.storage_usd_per_gb",
        help: "what a GB that is read from tables costs, requests and transfer together",
        set: |s, v| {
            s.data_prices.storage_usd_per_gb = v.number(0.0, 1e3)?;
            Ok(())
        },
    },
    Setting {
        path: "prices.egress_usd_per_gb",
        help: "what a GB of results costs that leaves the warehouse's cloud",
        set: |s, v| {
            s.data_prices.egress_usd_per_gb = v.number(0.0, 1e3)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.hold_max",
        help: "beginning of a result that is kept back until it's whole or this large, so that an engine's failure stays invisible",
        set: |s, v| {
            s.hold_bytes_max = v.bytes(0)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.hold_total_max",
        help: "memory for what is kept back of all results together",
        set: |s, v| {
            s.hold_total_bytes_max = v.bytes(0)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.timeout_seconds",
        help: "longest query where the session sets no limit; 0 for none",
        set: |s, v| {
            s.timeout = Some(v.seconds(0.0, 30.0 * DAY_SECONDS)?).filter(|t| *t > Duration::ZERO);
            Ok(())
        },
    },
    Setting {
        path: "limits.queue_max",
        help: "queries that may wait for one engine",
        set: |s, v| {
            s.queue_max = v.whole(0, MANY)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.queue_wait_seconds",
        help: "longest wait for an engine's slot",
        set: |s, v| {
            s.queue_wait = v.seconds(0.0, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.drain_seconds",
        help: "how long running queries may take to finish at shutdown",
        set: |s, v| {
            s.drain = v.seconds(0.0, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.drain_delay_seconds",
        help: "how long new queries are still taken at shutdown, while health says NOT_SERVING already",
        set: |s, v| {
            s.drain_delay = v.seconds(0.0, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "limits.connections_max",
        help: "client connections at once",
        set: |s, v| {
            s.connections_max = v.whole(1, MANY)?;
            Ok(())
        },
    },
    Setting {
        path: "shadow.share",
        help: "share of queries (0 to 1) that are run again on another engine in the background and compared",
        set: |s, v| {
            s.shadow_share = v.number(0.0, 1.0)?;
            Ok(())
        },
    },
    Setting {
        path: "shadow.rows_max",
        help: "answers of more rows aren't compared",
        set: |s, v| {
            s.shadow_rows_max = v.whole(1, 1_000 * MANY)?;
            Ok(())
        },
    },
    Setting {
        path: "shadow.timeout_seconds",
        help: "longest comparison run",
        set: |s, v| {
            s.shadow_timeout = v.seconds(0.1, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "shadow.runs_max",
        help: "comparison runs at once; 0 for none",
        set: |s, v| {
            s.shadow_runs_max = v.whole(0, 1_000)?;
            Ok(())
        },
    },
    Setting {
        path: "catalog.refresh_seconds",
        help: "how often new table versions are looked for",
        set: |s, v| {
            s.catalog_refresh = v.seconds(0.05, DAY_SECONDS)?;
            Ok(())
        },
    },
    Setting {
        path: "catalog.partition_time_zone",
        help: "zone of TIMESTAMP partition values that were written without one; such tables are refused where this isn't set",
        set: |s, v| {
            let zone = v.optional_text()?;
            s.partition_time_zone = match zone {
                None => None,
                Some(name) => {
                    Some(name.parse().map_err(|_| format!("must be a time zone such as \"UTC\" or \"Europe/Berlin\", not \"{name}\""))?)
                }
            };
            Ok(())
        },
    },
];

pub(crate) static SETTINGS: std::sync::LazyLock<Vec<Setting>> = std::sync::LazyLock::new(|| {
    BASE.iter()
        .copied()
        .chain(local_engine!(datafusion))
        .chain(local_engine!(duckdb))
        .chain(super::databricks::settings())
        .chain(super::door::settings())
        .chain(super::fleet::settings())
        .chain(super::telemetry::settings())
        .collect()
});

/// Every setting's path, environment variable and meaning.
pub fn documentation() -> Vec<(String, String, String)> {
    let mut lines: Vec<(String, String, String)> =
        SETTINGS.iter().map(|s| (s.path.to_string(), s.variable(), s.help.to_string())).collect();
    lines.push((
        "auth.users".into(),
        String::new(),
        "users: `name`, `password_hash` (argon2, PHC text), and `admin` for who sees what everybody did".into(),
    ));
    lines.push(("auth.tokens".into(), String::new(), "bearer tokens: `principal`, `token_sha256` (hex), and `admin`".into()));
    lines.push((
        "profiles.<name>".into(),
        String::new(),
        "how a kind of work is served: strategy, SLO, engines, limits, budget, and whose it is".into(),
    ));
    lines
}
