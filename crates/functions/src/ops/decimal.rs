//! Decimal arithmetic with Databricks' results: exact, then HALF_UP to the result's scale, then
//! out of range when it has more digits than the result's precision.

use arrow::datatypes::{DataType, i256};
use flightpath_types::{Error, Result};

use super::arithmetic::Op;
use crate::cast::{in_precision, power_of_ten};
use crate::duckdb::decimal_text;
use crate::errors;

/// What is known of an operation before its values.
pub(crate) struct Shape {
    left_scale: i8,
    right_scale: i8,
    precision: u8,
    scale: i8,
    /// Factors that bring the operands to the result's scale; 1 where they can't.
    pub(crate) left_unit: i128,
    pub(crate) right_unit: i128,
    /// The result's type has room for every sum: no rounding, no overflow.
    pub(crate) simple: bool,
    pub(crate) simple_product: bool,
    /// Digits of the dividend once scaled for a division.
    division_digits: i32,
}

impl Shape {
    pub(crate) fn new(left: &DataType, right: &DataType, ret: &DataType) -> Result<Self> {
        let (DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)) = (left, right) else {
            return Err(Error::internal("decimal arithmetic without decimals"));
        };
        // `div` gives a BIGINT.
        let (precision, scale) = match ret {
            DataType::Decimal128(p, s) => (*p, *s),
            _ => (38, 0),
        };
        let whole = (p1 - s1.unsigned_abs()).max(p2 - s2.unsigned_abs());
        let fits = scale >= *s1 && scale >= *s2;
        Ok(Self {
            left_scale: *s1,
            right_scale: *s2,
            precision,
            scale,
            left_unit: power_of_ten(scale - s1).unwrap_or(1),
            right_unit: power_of_ten(scale - s2).unwrap_or(1),
            simple: fits && u32::from(whole) + u32::from(scale.unsigned_abs()) < u32::from(precision),
            simple_product: i32::from(scale) == i32::from(*s1) + i32::from(*s2) && u32::from(*p1) + u32::from(*p2) < u32::from(precision),
            division_digits: i32::from(*p1) + i32::from(scale) + i32::from(*s2) - i32::from(*s1),
        })
    }

    pub(crate) fn add(&self, a: i128, b: i128) -> Option<i128> {
        let exact = self.left_scale.max(self.right_scale);
        let wide = |v: i128, scale: i8| i256::from_i128(v).checked_mul(power(exact - scale));
        self.settle(wide(a, self.left_scale)?.checked_add(wide(b, self.right_scale)?)?, i32::from(exact))
    }

    pub(crate) fn multiply(&self, a: i128, b: i128) -> Option<i128> {
        let product = i256::from_i128(a).checked_mul(i256::from_i128(b))?;
        self.settle(product, i32::from(self.left_scale) + i32::from(self.right_scale))
    }

    /// HALF_UP; `None` for a zero divisor.
    pub(crate) fn divide(&self, a: i128, b: i128) -> Option<i128> {
        if b == 0 {
            return None;
        }
        let negative = (a < 0) != (b < 0);
        let (a, b) = (a.unsigned_abs(), b.unsigned_abs());
        let shift = i32::from(self.scale) + i32::from(self.right_scale) - i32::from(self.left_scale);
        let magnitude = if shift >= 0 && self.division_digits <= 38 {
            let dividend = a.checked_mul(power_of_ten(shift as i8)?.unsigned_abs())?;
            let (quotient, rest) = (dividend / b, dividend % b);
            i128::try_from(quotient).ok()?.checked_add(i128::from(rest >= b - rest))?
        } else {
            long_division(a, b, shift)?
        };
        let value = if negative { -magnitude } else { magnitude };
        in_precision(value, self.precision).then_some(value)
    }

    /// With the dividend's sign; `None` for a zero divisor.
    pub(crate) fn remainder(&self, a: i128, b: i128) -> Option<i128> {
        let (rest, exact) = self.exact_remainder(a, b)?;
        self.settle(rest, exact)
    }

    pub(crate) fn pmod(&self, a: i128, b: i128) -> Option<i128> {
        let (rest, exact) = self.exact_remainder(a, b)?;
        if !rest.is_negative() {
            return self.settle(rest, exact);
        }
        let divisor = i256::from_i128(b).checked_mul(power(exact as i8 - self.right_scale))?;
        self.settle(rest.checked_add(divisor)?.checked_rem(divisor)?, exact)
    }

    fn exact_remainder(&self, a: i128, b: i128) -> Option<(i256, i32)> {
        let exact = self.left_scale.max(self.right_scale);
        let wide = |v: i128, scale: i8| i256::from_i128(v).checked_mul(power(exact - scale));
        Some((wide(a, self.left_scale)?.checked_rem(wide(b, self.right_scale)?)?, i32::from(exact)))
    }

    /// Towards zero, as a BIGINT: the low 64 bits, as Java's `longValue` gives.
    pub(crate) fn integral(&self, a: i128, b: i128) -> Option<i64> {
        let exact = self.left_scale.max(self.right_scale);
        let wide = |v: i128, scale: i8| i256::from_i128(v).checked_mul(power(exact - scale));
        let quotient = wide(a, self.left_scale)?.checked_div(wide(b, self.right_scale)?)?;
        quotient.to_i128().map(|v| v as i64)
    }

    /// Rounds an exact value of scale `from` to the result's type.
    fn settle(&self, value: i256, from: i32) -> Option<i128> {
        let down = from - i32::from(self.scale);
        let scaled = if down > 0 {
            let unit = power_wide(down)?;
            let (quotient, rest) = (value.checked_div(unit)?, value.checked_rem(unit)?.checked_abs()?);
            if rest >= unit.checked_sub(rest)? { quotient.checked_add(value.signum())? } else { quotient }
        } else {
            value.checked_mul(power_wide(-down)?)?
        };
        scaled.to_i128().filter(|v| in_precision(*v, self.precision))
    }

    pub(crate) fn out_of_range(&self, op: Op, a: i128, s1: i8, b: i128, s2: i8) -> Error {
        let text = format!("{} {} {}", decimal_text(a, s1.max(0) as usize), op.symbol(), decimal_text(b, s2.max(0) as usize));
        errors::numeric_out_of_range(&text, self.precision, self.scale)
    }
}

/// Digit by digit, for dividends that don't fit once scaled; HALF_UP.
fn long_division(a: u128, b: u128, shift: i32) -> Option<i128> {
    if shift < 0 {
        let divisor = i256::from_parts(b, 0).checked_mul(power_wide(-shift)?)?;
        let dividend = i256::from_parts(a, 0);
        let (quotient, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
        return quotient.to_i128()?.checked_add(i128::from(rest >= divisor.checked_sub(rest)?));
    }
    let divisor = i256::from_parts(b, 0);
    let ten = i256::from_i128(10);
    let mut quotient = i128::try_from(a / b).ok()?;
    let mut rest = i256::from_parts(a % b, 0);
    for _ in 0..shift {
        let scaled = rest.checked_mul(ten)?;
        let digit = scaled.checked_div(divisor)?.to_i128()?;
        quotient = quotient.checked_mul(10)?.checked_add(digit)?;
        rest = scaled.checked_rem(divisor)?;
    }
    quotient.checked_add(i128::from(rest >= divisor.checked_sub(rest)?))
}

fn power(exponent: i8) -> i256 {
    // Exponents here are differences of scales, 0 to 38.
    power_of_ten(exponent).map_or(i256::ONE, i256::from_i128)
}

fn power_wide(exponent: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}
