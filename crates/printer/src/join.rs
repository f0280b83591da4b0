//! Joins, written flat: `a JOIN b ON ... JOIN c ON ... WHERE ...`, as a person would.

use std::rc::Rc;

use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::logical_plan::Join;

use crate::block::{Block, Cell, CellKind, FromItem, Stage};
use crate::operator::check_comparable;
use crate::relation::{Env, Printer, has_subquery};
use crate::{Printed, refuse};

impl Printer {
    pub fn join(&mut self, join: &Join) -> Printed<Block> {
        if join.null_aware {
            return Err(refuse("a null-aware join"));
        }
        let (left_nullable, right_nullable) = match join.join_type {
            JoinType::Inner => (false, false),
            JoinType::Left => (false, true),
            JoinType::Right => (true, false),
            JoinType::Full => (true, true),
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::RightSemi | JoinType::RightAnti => (false, true),
            JoinType::LeftMark | JoinType::RightMark => return Err(refuse("a mark join")),
        };
        let swapped = matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti);
        let (first, second) = if swapped { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let first_block = self.relation(first)?;
        let mut filters = Vec::new();
        let (first_item, first_cells) = self.operand(first_block, left_nullable, &mut filters)?;

        let lateral = as_lateral(second);
        let second_block = match lateral {
            Some(inner) => {
                if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
                    return Err(refuse("this kind of join with LATERAL"));
                }
                if join.join_type == JoinType::Left {
                    crate::subquery::refuse_lost_values(inner)?;
                }
                self.outers.push(Env { parts: vec![(first.schema().clone(), first_cells.clone())] });
                let printed = self.relation(inner);
                self.outers.pop();
                let wrapped = self.wrap(printed?)?;
                Block {
                    from: wrapped.from.map(|f| FromItem { text: format!("LATERAL {}", f.text), joined: false, derived: None }),
                    ..wrapped
                }
            }
            None => self.relation(second)?,
        };
        let (second_item, second_cells) = self.operand(second_block, right_nullable, &mut filters)?;

        let parts = vec![(first.schema().clone(), first_cells.clone()), (second.schema().clone(), second_cells.clone())];
        let conditions = self.join_conditions(join, &Env { parts }, &mut filters)?;
        let second_text = if second_item.joined { format!("({})", second_item.text) } else { second_item.text };
        let on = if conditions.is_empty() { "TRUE".to_string() } else { conditions.join(" AND ") };
        let first_text = first_item.text;
        let text = match join.join_type {
            JoinType::Inner if conditions.is_empty() => format!("{first_text} CROSS JOIN {second_text}"),
            JoinType::Inner => format!("{first_text} JOIN {second_text} ON {on}"),
            JoinType::Left => format!("{first_text} LEFT JOIN {second_text} ON {on}"),
            JoinType::Right => format!("{first_text} RIGHT JOIN {second_text} ON {on}"),
            JoinType::Full => format!("{first_text} FULL JOIN {second_text} ON {on}"),
            JoinType::LeftSemi | JoinType::RightSemi => format!("{first_text} SEMI JOIN {second_text} ON {on}"),
            JoinType::LeftAnti | JoinType::RightAnti => format!("{first_text} ANTI JOIN {second_text} ON {on}"),
            JoinType::LeftMark | JoinType::RightMark => return Err(refuse("a mark join")),
        };
        let mut cells = (*first_cells).clone();
        if matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) {
            cells.extend(second_cells.iter().cloned());
        }
        let mut block = Block::new(Some(FromItem { text, joined: true, derived: None }), cells);
        if !filters.is_empty() {
            block.filters = filters;
            block.stage = Stage::Where;
        }
        Ok(block)
    }

    /// `block` as an operand of a join. Filters of a side that the join keeps whole move behind the join.
    fn operand(&mut self, block: Block, nullable: bool, filters: &mut Vec<String>) -> Printed<(FromItem, Rc<Vec<Cell>>)> {
        let plain = block.cells.iter().all(|c| match c.kind {
            CellKind::Column | CellKind::Absent => true,
            CellKind::Literal => !nullable,
            CellKind::Computed => false,
        });
        let flat = block.stage == Stage::From || (block.stage == Stage::Where && !nullable);
        let block = if plain && flat && block.from.is_some() { block } else { self.wrap(block)? };
        filters.extend(block.filters);
        let from = block.from.ok_or_else(|| refuse("a join of nothing"))?;
        Ok((from, block.cells))
    }

    fn join_conditions(&mut self, join: &Join, env: &Env, filters: &mut Vec<String>) -> Printed<Vec<String>> {
        let mut conditions = Vec::with_capacity(join.on.len() + 1);
        for (left, right) in &join.on {
            let (left, right) = (self.expr(left, env)?, self.expr(right, env)?);
            check_comparable(&left.ty, &right.ty, false)?;
            let equality = match join.null_equality {
                NullEquality::NullEqualsNothing => "=",
                NullEquality::NullEqualsNull => "IS NOT DISTINCT FROM",
            };
            conditions.push(format!("{} {equality} {}", left.operand(), right.operand()));
        }
        if let Some(filter) = &join.filter {
            let subquery = has_subquery(filter);
            if subquery && join.join_type != JoinType::Inner {
                return Err(refuse("a subquery in the condition of an outer join"));
            }
            for conjunct in datafusion::logical_expr::utils::split_conjunction(filter) {
                let printed = self.expr(conjunct, env)?.conjunct();
                if subquery { filters.push(printed) } else { conditions.push(printed) }
            }
        }
        Ok(conditions)
    }
}

fn as_lateral(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => as_lateral(&alias.input),
        _ => None,
    }
}
