//! Statements that change data, the few that a stand-in needs: `INSERT INTO`, `CREATE TABLE ... AS`
//! and `DELETE FROM`, as real commits in the tables' Delta logs. Everything else is refused as not
//! simulated. Tables with rules are never written: what was masked would become the data.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use flightpath_catalog::{Catalog, TableName, TableSnapshot};
use flightpath_types::{Error, ErrorKind, Principal, Result};
use futures::StreamExt;

use crate::commit::{self, DataFiles};
use crate::guarded::no_right;
use crate::lakehouse::{Answer, Asked, Lakehouse, leading_words, unsupported};
use crate::literals::name as quoted_name;
use crate::rewrite::complete;
use crate::rules::MODIFY;
use crate::types;

pub(crate) async fn run(lake: &Lakehouse, asked: &Asked) -> Result<Answer> {
    let text = asked.text.trim_end().trim_end_matches(';');
    let words = leading_words(text, 4);
    let word = |i: usize| words.get(i).map_or("", |(word, _, _)| word.as_str());
    let after = |i: usize| words.get(i).map_or(text.len(), |(_, _, end)| *end);
    match (word(0), word(1), word(2)) {
        ("INSERT", "INTO", "TABLE") => insert(lake, asked, text, after(2)).await,
        ("INSERT", "INTO", _) => insert(lake, asked, text, after(1)).await,
        ("CREATE", "TABLE", _) => create_as(lake, asked, text, after(1)).await,
        ("DELETE", "FROM", _) => delete(lake, asked, text, after(1)).await,
        (first, second, _) => Err(unsupported(&format!("`{first} {second}`"))),
    }
}

async fn insert(lake: &Lakehouse, asked: &Asked, text: &str, at: usize) -> Result<Answer> {
    let (target, at) = target(asked, text, at)?;
    let snapshot = writable(lake, asked, &target).await?;
    let (columns, query) = columns_and_query(text, at);
    let fields = snapshot.schema.fields();
    let columns = columns.unwrap_or_else(|| fields.iter().map(|f| f.name().clone()).collect());
    if let Some(unknown) = columns.iter().find(|c| !fields.iter().any(|f| f.name().eq_ignore_ascii_case(c))) {
        let message = format!("A column with name `{unknown}` cannot be resolved in {target}.");
        return Err(Error::classed(ErrorKind::InvalidArgument, "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", "42703", message));
    }
    let select = fields.iter().map(|field| {
        let ty = types::sql_text(field.data_type());
        let given = columns.iter().position(|c| c.eq_ignore_ascii_case(field.name()));
        let value = given.map_or("NULL".to_string(), |i| format!("inserted.c{i}"));
        let value = if given.is_some() && field.data_type().is_nested() { value } else { format!("CAST({value} AS {ty})") };
        format!("{value} AS {}", quoted_name(field.name()))
    });
    let names: Vec<String> = (0..columns.len()).map(|i| format!("c{i}")).collect();
    let select = format!("SELECT {} FROM ({query}\n) AS inserted({})", select.collect::<Vec<_>>().join(", "), names.join(", "));
    let files = collect(lake, asked, select, &snapshot).await?;
    let rows = files.rows();
    commit::append(&snapshot, files)?;
    lake.catalogs.get(&target.catalog).refresh(&Principal::new(&asked.user.name), &target).await?;
    Ok(counts(&["num_affected_rows", "num_inserted_rows"], rows))
}

async fn create_as(lake: &Lakehouse, asked: &Asked, text: &str, at: usize) -> Result<Answer> {
    let (target, at) = target(asked, text, at)?;
    let words = leading_words(&text[at..], 1);
    let Some((word, _, end)) = words.first() else { return Err(unsupported("CREATE TABLE without AS")) };
    if word != "AS" {
        return Err(unsupported("CREATE TABLE with columns or options; write CREATE TABLE name AS query"));
    }
    let query = text[at + end..].to_string();
    let principal = Principal::new(&asked.user.name);
    let exists = lake.catalogs.newest(&principal, &target).await.is_ok() || lake.rules.of(&target).view_definition.is_some();
    if exists {
        let message = format!("Cannot create table or view {target} because it already exists.");
        return Err(Error::classed(ErrorKind::InvalidArgument, "TABLE_OR_VIEW_ALREADY_EXISTS", "42P07", message));
    }
    let folder = lake.catalogs.folder_for(&target)?;
    let mut answer = lake.answer(&Asked { text: query, ..asked.clone() }).await?;
    let mut files = DataFiles::create(&folder, storable(&answer.schema)?)?;
    while let Some(batch) = answer.batches.next().await {
        files.write(&batch?)?;
    }
    let rows = files.rows();
    commit::create(files)?;
    // The folder is looked at again, because the name wasn't known.
    lake.catalogs.newest(&principal, &target).await?;
    Ok(counts(&["num_affected_rows", "num_inserted_rows"], rows))
}

async fn delete(lake: &Lakehouse, asked: &Asked, text: &str, at: usize) -> Result<Answer> {
    let (target, at) = target(asked, text, at)?;
    let snapshot = writable(lake, asked, &target).await?;
    let predicate = match &leading_words(&text[at..], 1)[..] {
        [] => "TRUE".to_string(),
        [(word, _, end)] if word == "WHERE" => text[at + end..].to_string(),
        _ => return Err(unsupported("DELETE with more than a WHERE")),
    };
    let table = quoted(&target);
    let count = format!("SELECT count(*) FROM {table} WHERE ({predicate}\n)");
    let mut counted = lake.answer(&Asked { text: count, ..asked.clone() }).await?;
    let mut deleted = 0;
    while let Some(batch) = counted.batches.next().await {
        deleted += batch?.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    if deleted > 0 {
        let select = format!("SELECT * FROM {table} WHERE NOT coalesce(({predicate}\n), FALSE)");
        let kept = collect(lake, asked, select, &snapshot).await?;
        commit::replace(&snapshot, kept, "DELETE")?;
        lake.catalogs.get(&target.catalog).refresh(&Principal::new(&asked.user.name), &target).await?;
    }
    Ok(counts(&["num_affected_rows"], deleted.unsigned_abs()))
}

/// The rows of a query as data files of a table.
async fn collect(lake: &Lakehouse, asked: &Asked, select: String, snapshot: &TableSnapshot) -> Result<DataFiles> {
    let mut answer = lake.answer(&Asked { text: select, ..asked.clone() }).await?;
    let mut files = DataFiles::create(std::path::Path::new(&snapshot.location), snapshot.schema.clone())?;
    while let Some(batch) = answer.batches.next().await {
        files.write(&batch?)?;
    }
    Ok(files)
}

/// The table, when this principal may write it and the simulation can.
async fn writable(lake: &Lakehouse, asked: &Asked, target: &TableName) -> Result<Arc<TableSnapshot>> {
    let rules = lake.rules.of(target);
    if !rules.allows(&asked.user, &lake.settings.read().default_privileges, MODIFY) {
        return Err(no_right(MODIFY, target));
    }
    if rules.governed() {
        return Err(unsupported("writing to views and to tables with row filters or column masks"));
    }
    let snapshot = lake.catalogs.newest(&Principal::new(&asked.user.name), target).await?;
    commit::check_writable(&snapshot)?;
    Ok(snapshot)
}

/// What a new table's schema is: names once each, types that Delta can store.
fn storable(schema: &SchemaRef) -> Result<SchemaRef> {
    let mut names = std::collections::HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name().to_lowercase()) {
            let message = format!("The column `{}` already exists.", field.name().to_lowercase());
            return Err(Error::classed(ErrorKind::InvalidArgument, "COLUMN_ALREADY_EXISTS", "42711", message));
        }
        if field.name().contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=']) {
            let message = format!("Found invalid character(s) among ' ,;{{}}()\\n\\t=' in the column name `{}`.", field.name());
            return Err(Error::classed(ErrorKind::InvalidArgument, "DELTA_INVALID_CHARACTERS_IN_COLUMN_NAMES", "42K05", message));
        }
        if matches!(field.data_type(), DataType::Null | DataType::Interval(_) | DataType::Duration(_)) {
            return Err(unsupported(&format!("a table with a column of type {}", types::sql_text(field.data_type()))));
        }
    }
    let nullable = |f: &Field| f.clone().with_nullable(true);
    Ok(Arc::new(Schema::new(schema.fields().iter().map(|f| nullable(f)).collect::<Vec<_>>())))
}

fn quoted(name: &TableName) -> String {
    [&name.catalog, &name.schema, &name.table].map(|part| quoted_name(part)).join(".")
}

/// The table's name that begins at or after `at`, and where it ends.
pub(crate) fn target(asked: &Asked, text: &str, at: usize) -> Result<(TableName, usize)> {
    let mut parts = Vec::new();
    let mut at = at;
    while let Some((part, end)) = identifier(text, at) {
        parts.push(part);
        at = end;
        match text[at..].starts_with('.') {
            true => at += 1,
            false => break,
        }
    }
    let name = complete(&parts, &asked.place).ok_or_else(|| {
        Error::classed(ErrorKind::InvalidArgument, "PARSE_SYNTAX_ERROR", "42601", "a table's name of one to three parts was expected")
    })?;
    Ok((name, at))
}

/// A word or a name in backticks, and where it ends.
fn identifier(text: &str, at: usize) -> Option<(String, usize)> {
    let rest = text[at..].trim_start();
    let at = text.len() - rest.len();
    if let Some(quoted) = rest.strip_prefix('`') {
        let mut name = String::new();
        let mut chars = quoted.char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if c != '`' {
                name.push(c);
            } else if chars.next_if(|(_, c)| *c == '`').is_some() {
                name.push('`');
            } else {
                return Some((name, at + 1 + i + 1));
            }
        }
        return None;
    }
    let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    (length > 0).then(|| (rest[..length].to_string(), at + length))
}

/// The column list, if there's one, and the query behind it.
fn columns_and_query(text: &str, at: usize) -> (Option<Vec<String>>, &str) {
    let list = || {
        let rest = text[at..].trim_start();
        let mut at = text.len() - rest.len() + rest.starts_with('(').then_some(1)?;
        let mut columns = Vec::new();
        loop {
            let (column, end) = identifier(text, at)?;
            columns.push(column);
            let rest = text[end..].trim_start();
            at = text.len() - rest.len() + 1;
            match rest.chars().next()? {
                ',' => {}
                ')' => return Some((columns, &text[at..])),
                _ => return None,
            }
        }
    };
    match list() {
        Some((columns, query)) => (Some(columns), query),
        None => (None, &text[at..]),
    }
}

/// One row of counts, as Databricks answers statements that change data.
fn counts(names: &[&str], rows: u64) -> Answer {
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let value: ArrayRef = Arc::new(Int64Array::from(vec![i64::try_from(rows).unwrap_or(i64::MAX)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![value; names.len()]);
    let batch = batch.map_err(|e| Error::internal(format!("counts don't fit their schema: {e}")));
    Answer { schema, batches: futures::stream::iter([batch]).boxed(), findings: Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_list_is_told_from_a_query_in_parentheses() {
        let text = "t (a, `b c`) VALUES (1, 2)";
        assert_eq!(columns_and_query(text, 1), (Some(vec!["a".into(), "b c".into()]), " VALUES (1, 2)"));
        assert_eq!(columns_and_query("t (SELECT a, b FROM u)", 1).0, None);
        assert_eq!(columns_and_query("t VALUES (1)", 1), (None, " VALUES (1)"));
    }

    #[test]
    fn names_end_where_they_end() {
        assert_eq!(identifier(" `a``b`.c", 0), Some(("a`b".into(), 7)));
        assert_eq!(identifier("abc(", 0), Some(("abc".into(), 3)));
        assert_eq!(identifier(".x", 0), None);
    }
}
