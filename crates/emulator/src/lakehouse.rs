//! From a client's text to rows: rules put around its tables, planned by Flightpath's own planner,
//! run on DataFusion, so that answers have Databricks' types and names. Nothing here knows the wire.

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use flightpath_catalog::Catalog;
use flightpath_engine::{BatchStream, Engine, Execution, Findings};
use flightpath_engine_datafusion::DataFusionEngine;
use flightpath_plan::{PlannedQuery, Statement};
use flightpath_planner::{PlanRequest, Planner};
use flightpath_types::{Error, ErrorKind, Principal, QueryId, Result, Session};
use futures::StreamExt;
use uuid::Uuid;

use crate::auth::{Accounts, User};
use crate::config::{Config, Settings};
use crate::guarded::{Catalogs, Guarded, Purpose, RAW_MARK};
use crate::listings;
use crate::literals::Parameter;
use crate::rewrite::{Place, Rewriter};
use crate::rules::RuleBook;
use crate::state::Shared;

pub(crate) struct Lakehouse {
    pub catalogs: Arc<Catalogs>,
    pub rules: Arc<RuleBook>,
    pub settings: Shared<Settings>,
    reading: Planner,
    describing: Planner,
    engine: Arc<DataFusionEngine>,
    raw_prefix: Arc<str>,
}

/// A statement and what it came with.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub user: User,
    pub text: String,
    pub place: Place,
    pub parameters: Vec<Parameter>,
}

/// An answer about to come.
pub(crate) struct Answer {
    pub schema: SchemaRef,
    pub batches: BatchStream,
    /// What running it tells beside its rows.
    pub findings: Arc<Findings>,
}

impl Lakehouse {
    pub async fn open(config: &Config, rules: Arc<RuleBook>, accounts: Arc<Accounts>, settings: Shared<Settings>) -> Result<Self> {
        let catalogs = Arc::new(Catalogs::open(&config.catalogs).await?);
        // Not to be guessed; what it names is past all rules.
        let raw_prefix: Arc<str> = format!("{RAW_MARK}{}_", Uuid::new_v4().simple()).into();
        let planner = |purpose| {
            let (catalogs, rules, accounts) = (catalogs.clone(), rules.clone(), accounts.clone());
            let guarded = Guarded { catalogs, rules, accounts, settings: settings.clone(), raw_prefix: raw_prefix.clone(), purpose };
            let guarded: Arc<dyn Catalog> = Arc::new(guarded);
            Planner::new(guarded, Default::default())
        };
        let engine = flightpath_engine_datafusion::Config {
            cores: config.engine_threads.max(1),
            memory_bytes_max: config.engine_memory_bytes,
            query_memory_bytes_max: config.engine_memory_bytes,
            ..Default::default()
        };
        Ok(Self {
            reading: planner(Purpose::Reading),
            describing: planner(Purpose::Describing),
            engine: Arc::new(DataFusionEngine::new(engine)?),
            catalogs,
            rules,
            settings,
            raw_prefix,
        })
    }

    /// Plans and starts a query or a command that only looks.
    pub async fn answer(&self, asked: &Asked) -> Result<Answer> {
        match Form::of(&asked.text) {
            Form::Query => self.run(self.plan(asked, "", &asked.text).await?, asked).await,
            Form::About { query } => {
                let (prefix, query) = asked.text.split_at(query);
                self.run(self.plan(asked, prefix, query).await?, asked).await
            }
            Form::Command => {
                if let Some(listing) = listings::run(self, asked).await? {
                    return Ok(listing);
                }
                let statement = self.planned(&self.describing, asked, asked.text.clone()).await?;
                match statement {
                    // Planned without the rules: it may be looked at, never run.
                    Statement::Query(_) | Statement::Write(_) | Statement::PassThrough(_) => Err(unsupported("this form of a query")),
                    other => self.run(other, asked).await,
                }
            }
            Form::Write => Err(unsupported("this kind of statement")),
        }
    }

    async fn plan(&self, asked: &Asked, prefix: &str, query: &str) -> Result<Statement> {
        let settings = self.settings.read().clone();
        let rewriter = Rewriter {
            catalogs: &self.catalogs,
            rules: &self.rules,
            settings: &settings,
            user: &asked.user,
            parameters: &asked.parameters,
            raw_prefix: &self.raw_prefix,
        };
        let text = format!("{prefix}{}", rewriter.query(query, &asked.place).await?);
        self.planned(&self.reading, asked, text).await.map_err(|e| self.without_raw_names(e))
    }

    async fn planned(&self, planner: &Planner, asked: &Asked, text: String) -> Result<Statement> {
        let mut session = Session::new(Principal::new(&asked.user.name));
        session.catalog = asked.place.catalog.clone();
        session.schema = asked.place.schema.clone();
        Ok(planner.plan(&PlanRequest { text: text.into(), session, params: None, token: None }).await?.statement)
    }

    async fn run(&self, statement: Statement, asked: &Asked) -> Result<Answer> {
        match statement {
            Statement::Query(query) => self.execute(query, asked).await,
            Statement::Local(result) | Statement::SetSession { shows: result, .. } => {
                let batches = result.batches.into_iter().map(Ok);
                Ok(Answer { schema: result.schema, batches: futures::stream::iter(batches).boxed(), findings: Arc::default() })
            }
            Statement::ExplainRoute(_) => Err(unsupported("EXPLAIN ROUTE")),
            Statement::PassThrough(_) => Err(unsupported("another dialect")),
            Statement::Write(_) => Err(unsupported("this kind of statement")),
        }
    }

    async fn execute(&self, query: Arc<PlannedQuery>, asked: &Asked) -> Result<Answer> {
        if let Err(refusal) = self.engine.eligible(&query) {
            return Err(unsupported(&refusal.reason));
        }
        let schema = query.schema.clone();
        let findings = Arc::<Findings>::default();
        let execution = Execution {
            query_id: QueryId::generate(),
            principal: Principal::new(&asked.user.name),
            token: None,
            deadline: None,
            traceparent: None,
            findings: findings.clone(),
        };
        let stream = self.engine.execute(query, execution).await?;
        let promised = schema.clone();
        Ok(Answer { schema, batches: stream.map(move |batch| conformed(&batch?, &promised)).boxed(), findings })
    }

    /// A syntax error may quote the text around it.
    fn without_raw_names(&self, error: Error) -> Error {
        if !error.message().contains(RAW_MARK) {
            return error;
        }
        let message = error.message().replace(&*self.raw_prefix, "");
        match (error.class(), error.sql_state()) {
            (Some(class), Some(state)) => Error::classed(error.kind(), class.to_string(), state.to_string(), message),
            _ => Error::new(error.kind(), message),
        }
    }

    pub async fn shutdown(self: &Arc<Self>) {
        self.engine.shutdown().await;
    }
}

/// What this simulation doesn't answer, said as such.
pub(crate) fn unsupported(what: &str) -> Error {
    let message = format!("simulated Databricks (not the real one) doesn't support {what}");
    Error::classed(ErrorKind::NotEligible, "NOT_IMPLEMENTED_BY_SIMULATION", "0A000", message)
}

/// What a text is by its first words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Query,
    /// EXPLAIN or DESCRIBE of the query that begins at this byte.
    About {
        query: usize,
    },
    /// SHOW, DESCRIBE, SET...
    Command,
    Write,
}

impl Form {
    pub fn of(text: &str) -> Self {
        let words = leading_words(text, 3);
        let word = |i: usize| words.get(i).map_or("", |(word, _, _)| word.as_str());
        let begins = |i: usize| words.get(i).map_or(text.len(), |(_, start, _)| *start);
        let is_query = |i: usize| matches!(word(i), "SELECT" | "WITH" | "FROM" | "VALUES" | "TABLE" | "(" | "");
        match word(0) {
            "EXPLAIN" if is_query(1) => Form::About { query: begins(1) },
            "EXPLAIN" => Form::About { query: begins(2) },
            "DESCRIBE" | "DESC" if word(1) == "QUERY" => Form::About { query: begins(2) },
            "DESCRIBE" | "DESC" if matches!(word(1), "SELECT" | "WITH" | "FROM" | "VALUES") => Form::Command,
            "DESCRIBE" | "DESC" | "SHOW" | "USE" | "SET" | "RESET" => Form::Command,
            "INSERT" | "CREATE" | "DELETE" | "UPDATE" | "MERGE" | "DROP" | "ALTER" | "TRUNCATE" | "COPY" | "GRANT" | "REVOKE"
            | "OPTIMIZE" | "VACUUM" | "ANALYZE" | "CALL" | "EXECUTE" | "BEGIN" | "DECLARE" | "REFRESH" | "COMMENT" | "CACHE" | "REPAIR"
            | "RESTORE" | "MSCK" | "FSCK" | "CLEAR" | "UNDROP" | "DENY" | "REORG" | "LOAD" => Form::Write,
            _ => Form::Query,
        }
    }
}

/// The first words in capitals, with where each begins and ends; comments are passed over.
pub(crate) fn leading_words(text: &str, most: usize) -> Vec<(String, usize, usize)> {
    let mut words = Vec::new();
    let mut at = 0;
    while words.len() < most {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        at += blank;
        let rest = &text[at..];
        if rest.starts_with("--") {
            at += rest.find('\n').map_or(rest.len(), |end| end + 1);
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if rest.is_empty() {
            break;
        } else {
            let letters = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = letters.max(rest.chars().next().map_or(1, char::len_utf8));
            words.push((rest[..length].to_uppercase(), at, at + length));
            at += length;
        }
    }
    words
}

/// An engine's batch in the promised names and types.
fn conformed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Result<Vec<ArrayRef>> = batch.columns().iter().zip(schema.fields()).map(|(c, f)| conform(c, f.data_type())).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns?, &options)
        .map_err(|e| Error::internal(format!("an answer doesn't fit its schema: {e}")))
}

fn conform(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    if *column.data_type() == DataType::Null {
        return Ok(new_null_array(to, column.len()));
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    cast_with_options(column, to, &strict).map_err(|e| Error::internal(format!("an answer doesn't fit its promised type: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_words_tell_what_a_text_is() {
        assert_eq!(Form::of("  -- x\n/* y */ select 1"), Form::Query);
        assert_eq!(Form::of("DESCRIBE QUERY SELECT 1"), Form::About { query: 15 });
        assert_eq!(Form::of("explain extended select 1"), Form::About { query: 17 });
        assert_eq!(Form::of("EXPLAIN (SELECT 1)"), Form::About { query: 8 });
        assert_eq!(Form::of("DESCRIBE t"), Form::Command);
        assert_eq!(Form::of("insert into t select 1"), Form::Write);
        assert_eq!(Form::of("(SELECT 1)"), Form::Query);
        assert_eq!(Form::of(""), Form::Query);
    }
}
