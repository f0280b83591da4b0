//! Variance, deviation, skewness, kurtosis, covariance and correlation: Spark's one-pass formulas
//! (CentralMomentAgg, Covariance, PearsonCorrelation), so that results agree to the last digits.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Float64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Accumulator;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Moment {
    VarPop,
    VarSamp,
    StddevPop,
    StddevSamp,
    Skewness,
    Kurtosis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Comoment {
    CovarPop,
    CovarSamp,
    Corr,
    /// Of the regression of the first argument on the second.
    Sxx,
    Syy,
    Sxy,
    R2,
    Slope,
    Intercept,
}

pub(super) fn state_fields(count: usize) -> Vec<Field> {
    (0..count).map(|_| Field::new("", DataType::Float64, false)).collect()
}

fn state<const N: usize>(values: [f64; N]) -> Vec<ScalarValue> {
    values.into_iter().map(|v| ScalarValue::Float64(Some(v))).collect()
}

fn float(value: Option<f64>) -> ScalarValue {
    ScalarValue::Float64(value.map(|v| if v.is_nan() { f64::NAN } else { v }))
}

#[derive(Debug, Default)]
struct Moments {
    n: f64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
}

#[derive(Debug)]
pub(super) struct Running {
    moment: Moment,
    so_far: Moments,
}

impl Running {
    pub(super) fn new(moment: Moment) -> Self {
        Self { moment, so_far: Moments::default() }
    }
}

impl Moments {
    fn add(&mut self, x: f64) {
        let n = self.n + 1.0;
        let delta = x - self.mean;
        let delta_n = delta / n;
        let m2 = self.m2 + delta * (delta - delta_n);
        let (delta2, delta_n2) = (delta * delta, delta_n * delta_n);
        let m3 = self.m3 - 3.0 * delta_n * m2 + delta * (delta2 - delta_n2);
        self.m4 += -4.0 * delta_n * m3 - 6.0 * delta_n2 * m2 + delta * (delta * delta2 - delta_n * delta_n2);
        (self.n, self.mean, self.m2, self.m3) = (n, self.mean + delta_n, m2, m3);
    }

    fn merge(&mut self, o: &Moments) {
        if o.n == 0.0 {
            return;
        }
        // As it is, without the rounding of the formulas below: equal values have no variance.
        if self.n == 0.0 {
            *self = Moments { ..*o };
            return;
        }
        let (n1, n2) = (self.n, o.n);
        let n = n1 + n2;
        let delta = o.mean - self.mean;
        let d = delta / n;
        self.m4 = self.m4
            + o.m4
            + d * d * d * delta * n1 * n2 * (n1 * n1 - n1 * n2 + n2 * n2)
            + 6.0 * d * d * (n1 * n1 * o.m2 + n2 * n2 * self.m2)
            + 4.0 * d * (n1 * o.m3 - n2 * self.m3);
        self.m3 = self.m3 + o.m3 + d * d * delta * n1 * n2 * (n1 - n2) + 3.0 * d * (n1 * o.m2 - n2 * self.m2);
        self.m2 = self.m2 + o.m2 + delta * d * n1 * n2;
        self.mean += d * n2;
        self.n = n;
    }

    fn result(&self, moment: Moment) -> Option<f64> {
        let Moments { n, m2, m3, m4, .. } = *self;
        if n == 0.0 {
            return None;
        }
        match moment {
            Moment::VarPop => Some(m2 / n),
            Moment::StddevPop => Some((m2 / n).sqrt()),
            Moment::VarSamp if n == 1.0 => None,
            Moment::VarSamp => Some(m2 / (n - 1.0)),
            Moment::StddevSamp if n == 1.0 => None,
            Moment::StddevSamp => Some((m2 / (n - 1.0)).sqrt()),
            Moment::Skewness | Moment::Kurtosis if m2 == 0.0 => None,
            Moment::Skewness => Some(n.sqrt() * m3 / (m2 * m2 * m2).sqrt()),
            Moment::Kurtosis => Some(n * m4 / (m2 * m2) - 3.0),
        }
    }
}

impl Accumulator for Running {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().for_each(|x| self.so_far.add(x));
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(float(self.so_far.result(self.moment)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let Moments { n, mean, m2, m3, m4 } = self.so_far;
        Ok(state([n, mean, m2, m3, m4]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let column = |i: usize| states[i].as_primitive::<Float64Type>();
        for row in 0..states[0].len() {
            let at = |i: usize| column(i).value(row);
            self.so_far.merge(&Moments { n: at(0), mean: at(1), m2: at(2), m3: at(3), m4: at(4) });
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Comoments {
    n: f64,
    x: f64,
    y: f64,
    ck: f64,
    x2: f64,
    y2: f64,
}

#[derive(Debug)]
pub(super) struct Corunning {
    moment: Comoment,
    so_far: Comoments,
}

impl Corunning {
    pub(super) fn new(moment: Comoment) -> Self {
        Self { moment, so_far: Comoments::default() }
    }
}

impl Comoments {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        let (dx, dy) = (x - self.x, y - self.y);
        let (x_mean, y_mean) = (self.x + dx / self.n, self.y + dy / self.n);
        self.ck += dx * (y - y_mean);
        self.x2 += dx * (x - x_mean);
        self.y2 += dy * (y - y_mean);
        (self.x, self.y) = (x_mean, y_mean);
    }

    fn merge(&mut self, o: &Comoments) {
        if o.n == 0.0 {
            return;
        }
        if self.n == 0.0 {
            *self = Comoments { ..*o };
            return;
        }
        let n = self.n + o.n;
        let (dx, dy) = (o.x - self.x, o.y - self.y);
        let (dxn, dyn_) = (dx / n, dy / n);
        self.ck = self.ck + o.ck + dx * dyn_ * self.n * o.n;
        self.x2 = self.x2 + o.x2 + dx * dxn * self.n * o.n;
        self.y2 = self.y2 + o.y2 + dy * dyn_ * self.n * o.n;
        self.x += dxn * o.n;
        self.y += dyn_ * o.n;
        self.n = n;
    }

    fn slope(&self) -> f64 {
        (self.ck / self.n) / (self.y2 / self.n)
    }

    fn result(&self, moment: Comoment) -> Option<f64> {
        if self.n == 0.0 {
            return None;
        }
        match moment {
            Comoment::CovarPop => Some(self.ck / self.n),
            Comoment::CovarSamp => (self.n > 1.0).then(|| self.ck / (self.n - 1.0)),
            Comoment::Corr => {
                let spread = (self.x2 * self.y2).sqrt();
                (self.n > 1.0 && spread != 0.0).then(|| self.ck / spread)
            }
            // `x` is the first argument here, the dependent variable.
            Comoment::Sxx => Some(self.y2),
            Comoment::Syy => Some(self.x2),
            Comoment::Sxy => Some(self.ck),
            Comoment::R2 if self.y2 == 0.0 => None,
            Comoment::R2 if self.x2 == 0.0 => Some(1.0),
            Comoment::R2 => {
                let corr = self.ck / (self.x2 * self.y2).sqrt();
                Some(corr * corr)
            }
            Comoment::Slope => (self.y2 > 0.0).then(|| self.slope()),
            Comoment::Intercept => (self.y2 > 0.0).then(|| self.x - self.slope() * self.y),
        }
    }
}

impl Accumulator for Corunning {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (xs, ys) = (values[0].as_primitive::<Float64Type>(), values[1].as_primitive::<Float64Type>());
        for (x, y) in xs.iter().zip(ys) {
            if let (Some(x), Some(y)) = (x, y) {
                self.so_far.add(x, y);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        Ok(float(self.so_far.result(self.moment)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let Comoments { n, x, y, ck, x2, y2 } = self.so_far;
        Ok(state([n, x, y, ck, x2, y2]))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let column = |i: usize| states[i].as_primitive::<Float64Type>();
        for row in 0..states[0].len() {
            let at = |i: usize| column(i).value(row);
            self.so_far.merge(&Comoments { n: at(0), x: at(1), y: at(2), ck: at(3), x2: at(4), y2: at(5) });
        }
        Ok(())
    }
}
