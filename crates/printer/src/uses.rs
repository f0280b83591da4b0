//! Which columns expressions refer to, and how often.

use std::collections::{BTreeSet, HashMap};

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::Expr;

use crate::relation::is_subquery;

/// How often expressions refer to each column of a schema.
pub(crate) struct Uses {
    pub counts: Vec<usize>,
    pub has_subquery: bool,
}

impl Uses {
    pub fn of(exprs: &[Expr], schema: &DFSchemaRef) -> Self {
        let mut uses = Self { counts: vec![0; schema.fields().len()], has_subquery: false };
        let index = ColumnIndex::new(schema);
        for expr in exprs {
            // The closure doesn't fail, so neither does the walk.
            let _ = expr.apply(|e| {
                match e {
                    Expr::Column(column) => {
                        if let Some(i) = index.find(column) {
                            uses.counts[i] += 1;
                        }
                    }
                    e if is_subquery(e) => uses.has_subquery = true,
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            });
        }
        uses
    }

    pub fn indices(&self) -> BTreeSet<usize> {
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, _)| i).collect()
    }
}

/// Finds columns by name; a plain search for narrow schemas, a map for wide ones.
pub(crate) struct ColumnIndex<'a> {
    schema: &'a DFSchemaRef,
    by_name: Option<HashMap<&'a str, Vec<usize>>>,
}

impl<'a> ColumnIndex<'a> {
    pub fn new(schema: &'a DFSchemaRef) -> Self {
        let wide = schema.fields().len() > 64;
        let by_name = wide.then(|| {
            let mut map: HashMap<&str, Vec<usize>> = HashMap::new();
            for (i, field) in schema.fields().iter().enumerate() {
                map.entry(field.name()).or_default().push(i);
            }
            map
        });
        Self { schema, by_name }
    }

    pub fn find(&self, column: &datafusion::common::Column) -> Option<usize> {
        match &self.by_name {
            None => self.schema.maybe_index_of_column(column),
            Some(map) => match map.get(column.name.as_str())?.as_slice() {
                [only] => {
                    let (qualifier, _) = self.schema.qualified_field(*only);
                    let fits = column.relation.is_none() || qualifier.is_none() || column.relation.as_ref() == qualifier;
                    fits.then_some(*only)
                }
                _ => self.schema.maybe_index_of_column(column),
            },
        }
    }
}
