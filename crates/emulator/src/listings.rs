//! What only the workspace itself can show: `SHOW GRANTS` and `SHOW CREATE TABLE`, of tables that the
//! asker may read. `SHOW VOLUMES` shows that there are none.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use flightpath_catalog::TableName;
use flightpath_types::{Error, Principal, Result};
use futures::StreamExt;

use crate::guarded::no_right;
use crate::lakehouse::{Answer, Asked, Lakehouse, leading_words};
use crate::rules::SELECT;
use crate::types;
use crate::writes::target;

/// `None` for statements that the planner answers.
pub(crate) async fn run(lake: &Lakehouse, asked: &Asked) -> Result<Option<Answer>> {
    let text = asked.text.trim_end().trim_end_matches(';');
    let words = leading_words(text, 4);
    let word = |i: usize| words.get(i).map_or("", |(word, _, _)| word.as_str());
    let after = |i: usize| words.get(i).map_or(text.len(), |(_, _, end)| *end);
    match (word(0), word(1), word(2), word(3)) {
        ("SHOW", "GRANTS", "ON", "TABLE") => grants(lake, asked, readable(lake, asked, text, after(3))?).map(Some),
        ("SHOW", "GRANTS", "ON", _) => grants(lake, asked, readable(lake, asked, text, after(2))?).map(Some),
        ("SHOW", "CREATE", "TABLE", _) => create_table(lake, asked, readable(lake, asked, text, after(2))?).await.map(Some),
        ("SHOW", "VOLUMES", ..) => rows(&["database", "volume_name"], Vec::new()).map(Some),
        _ => Ok(None),
    }
}

fn readable(lake: &Lakehouse, asked: &Asked, text: &str, at: usize) -> Result<TableName> {
    let (name, _) = target(asked, text, at)?;
    match lake.rules.of(&name).allows(&asked.user, &lake.settings.read().default_privileges, SELECT) {
        true => Ok(name),
        false => Err(no_right(SELECT, &name)),
    }
}

fn grants(lake: &Lakehouse, asked: &Asked, name: TableName) -> Result<Answer> {
    let rules = lake.rules.of(&name);
    let held = match &rules.grants {
        Some(grants) => grants.clone(),
        None => [(asked.user.name.clone(), lake.settings.read().default_privileges.clone())].into(),
    };
    let row = |(holder, privilege): (&String, &String)| vec![holder.clone(), privilege.clone(), "TABLE".into(), name.to_string()];
    let all = held.iter().flat_map(|(holder, privileges)| privileges.iter().map(move |privilege| row((holder, privilege))));
    rows(&["Principal", "ActionType", "ObjectType", "ObjectKey"], all.collect())
}

async fn create_table(lake: &Lakehouse, asked: &Asked, name: TableName) -> Result<Answer> {
    let snapshot = lake.catalogs.newest(&Principal::new(&asked.user.name), &name).await?;
    let columns: Vec<String> =
        snapshot.schema.fields().iter().map(|field| format!("  {} {}", field.name(), types::sql_text(field.data_type()))).collect();
    rows(&["createtab_stmt"], vec![vec![format!("CREATE TABLE {name} (\n{})\nUSING delta", columns.join(",\n"))]])
}

fn rows(names: &[&str], rows: Vec<Vec<String>>) -> Result<Answer> {
    let schema = Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>()));
    let column = |i: usize| Arc::new(rows.iter().map(|row| row.get(i).cloned()).collect::<StringArray>()) as ArrayRef;
    let batch = RecordBatch::try_new(schema.clone(), (0..names.len()).map(column).collect());
    let batch = batch.map_err(|e| Error::internal(format!("a listing doesn't fit its schema: {e}")))?;
    Ok(Answer { schema, batches: futures::stream::iter([Ok(batch)]).boxed(), findings: Default::default() })
}
