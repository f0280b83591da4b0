//! A conversion as an expression over the file's column.
//!
//! Opaque to DataFusion on purpose: pruning and simplification, which would move a cast to the
//! other side of a comparison, leave what they don't know alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use flightpath_types::{Error, ErrorKind};

use super::array::{Conversion, Unreadable};

#[derive(Debug)]
pub(crate) struct ConformExpr {
    column: Arc<dyn PhysicalExpr>,
    target: FieldRef,
    conversion: Conversion,
    /// `catalog.schema.table.column`, for messages.
    name: String,
}

impl ConformExpr {
    pub(crate) fn new(column: Arc<dyn PhysicalExpr>, target: FieldRef, conversion: Conversion, name: String) -> Self {
        Self { column, target, conversion, name }
    }
}

impl PartialEq for ConformExpr {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.target == other.target && self.conversion == other.conversion && self.name == other.name
    }
}

impl Eq for ConformExpr {}

impl Hash for ConformExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.target.hash(state);
        self.conversion.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for ConformExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conform({} AS {})", self.column, self.target.data_type())
    }
}

impl PhysicalExpr for ConformExpr {
    fn data_type(&self, _input_schema: &Schema) -> DfResult<DataType> {
        Ok(self.target.data_type().clone())
    }

    fn nullable(&self, _input_schema: &Schema) -> DfResult<bool> {
        Ok(self.target.is_nullable())
    }

    fn return_field(&self, _input_schema: &Schema) -> DfResult<FieldRef> {
        Ok(self.target.clone())
    }

    fn evaluate(&self, batch: &RecordBatch) -> DfResult<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        match self.conversion.apply(&array, self.target.data_type()) {
            Ok(array) => Ok(ColumnarValue::Array(array)),
            Err(e) => Err(DataFusionError::External(Box::new(self.client_error(e)))),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> DfResult<Arc<dyn PhysicalExpr>> {
        let (Some(column), true) = (children.pop(), children.is_empty()) else {
            return datafusion::common::internal_err!("a conversion has one child");
        };
        Ok(Arc::new(Self { column, target: self.target.clone(), conversion: self.conversion.clone(), name: self.name.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}

impl ConformExpr {
    fn client_error(&self, error: Unreadable) -> Error {
        match error {
            Unreadable::Value(e) => Error::new(
                ErrorKind::DataLoss,
                format!("column {} holds a value in a data file that isn't one of its type {}: {e}", self.name, self.target.data_type()),
            ),
            Unreadable::OldCalendar => Error::not_eligible(format!(
                "column {} holds dates or times so old that they were written in another calendar, which engine datafusion doesn't convert",
                self.name
            )),
            Unreadable::Nanoseconds => Error::not_eligible(format!("column {} holds times finer than a microsecond", self.name)),
        }
    }
}
