//! Bitmaps of 32,768 bits: which of as many numbers a group has, so that distinct values can be counted
//! bucket by bucket. The lowest bit of the first byte is the first number.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;
use flightpath_types::Error;

use super::udaf::external;

pub(crate) const BYTES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bitmap {
    /// Of the positions of bits.
    Construct,
    /// Of bitmaps, those shorter than others ending in zeros.
    Or,
}

#[derive(Debug)]
pub(super) struct Building {
    bitmap: Bitmap,
    bytes: Vec<u8>,
}

impl Building {
    pub(super) fn new(bitmap: Bitmap) -> Self {
        Self { bitmap, bytes: vec![0; BYTES] }
    }

    fn set(&mut self, position: i64) -> DfResult<()> {
        let at = usize::try_from(position).ok().filter(|at| *at < BYTES * 8).ok_or_else(|| {
            external(Error::raised(
                "INVALID_BITMAP_POSITION",
                "22003",
                format!("The 0-indexed bitmap position {position} is out of bounds. The bitmap has {} bits.", BYTES * 8),
            ))
        })?;
        self.bytes[at / 8] |= 1 << (at % 8);
        Ok(())
    }

    fn join(&mut self, others: &ArrayRef) {
        for other in others.as_binary::<i32>().iter().flatten() {
            self.bytes.iter_mut().zip(other).for_each(|(own, theirs)| *own |= theirs);
        }
    }
}

impl Accumulator for Building {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        match self.bitmap {
            Bitmap::Construct => values[0].as_primitive::<Int64Type>().iter().flatten().try_for_each(|p| self.set(p)),
            Bitmap::Or => {
                self.join(&values[0]);
                Ok(())
            }
        }
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(ScalarValue::Binary(Some(self.bytes.clone())))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.bytes.capacity()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.join(&states[0]);
        Ok(())
    }
}
