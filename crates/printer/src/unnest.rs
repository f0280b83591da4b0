//! Lists made rows.

use std::rc::Rc;

use datafusion::logical_expr::logical_plan::Unnest;

use crate::block::{Block, Cell, CellKind, Stage};
use crate::relation::{Printer, type_name};
use crate::{Printed, refuse};

impl Printer {
    pub fn unnest(&mut self, unnest: &Unnest) -> Printed<Block> {
        use datafusion::common::NullHandling;
        if !unnest.struct_type_columns.is_empty() {
            return Err(refuse("unnesting a struct"));
        }
        let block = self.relation(&unnest.input)?;
        let mut block = if block.stage > Stage::Where || !block.has_only_columns() { self.wrap(block)? } else { block };
        let mut cells = Vec::with_capacity(unnest.dependency_indices.len());
        for source in &unnest.dependency_indices {
            let cell = block.cells.get(*source).ok_or_else(|| refuse("an UNNEST without its input"))?;
            let Some((_, list)) = unnest.list_type_columns.iter().find(|(index, _)| index == source) else {
                cells.push(cell.clone());
                continue;
            };
            if list.depth != 1 {
                return Err(refuse("unnesting several levels at once"));
            }
            let text = &cell.text;
            let ty = type_name(unnest.input.schema().field(*source).data_type())?;
            let text = match unnest.options.null_handling {
                NullHandling::Drop => format!("unnest({text})"),
                NullHandling::Preserve => format!("unnest(CASE WHEN {text} IS NULL THEN CAST([NULL] AS {ty}) ELSE {text} END)"),
                NullHandling::PreserveAndExpandEmpty => {
                    format!("unnest(CASE WHEN {text} IS NULL OR len({text}) = 0 THEN CAST([NULL] AS {ty}) ELSE {text} END)")
                }
            };
            cells.push(Cell { text, kind: CellKind::Computed });
        }
        block.cells = Rc::new(cells);
        // The rows are multiplied by the select list: nothing may share this SELECT.
        self.wrap(block)
    }
}
