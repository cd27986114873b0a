//! From values to pixels, and the round numbers at which an axis is marked.

use super::svg::{Anchor, Canvas};

/// A linear axis: values `low..high` over pixels `from..to`.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    step: f64,
}

impl Axis {
    /// An axis over the finite ones of `values`, widened to round numbers.
    pub(crate) fn around(
        values: impl IntoIterator<Item = f64>,
        from: f64,
        to: f64,
        marks: usize,
    ) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low <= 1e-12 * low.abs().max(high.abs()).max(1e-300) {
            let pad = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - pad, high + pad);
        }
        let step = nice_step((high - low) / marks.max(1) as f64);
        Axis {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            from,
            to,
            step,
        }
    }

    /// An axis over exactly `low..high`.
    pub(crate) fn exact(low: f64, high: f64, from: f64, to: f64, marks: usize) -> Self {
        let step = nice_step((high - low) / marks.max(1) as f64);
        Axis {
            low,
            high,
            from,
            to,
            step,
        }
    }

    /// Marks only at whole numbers.
    pub(crate) fn whole(mut self) -> Self {
        self.step = self.step.max(1.0).round();
        self
    }

    /// Pixel of a value; NaN stays NaN.
    pub(crate) fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The marked values.
    pub(crate) fn marks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last)
            .map(|position| position as f64 * self.step)
            .collect()
    }

    /// A mark as text, with as many decimals as the step needs.
    pub(crate) fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
        let text = format!("{value:.decimals$}");
        if value == 0.0 {
            "0".to_owned()
        } else {
            text.replace('-', "−")
        }
    }

    /// Horizontal grid lines with labels on their left, for a vertical axis.
    pub(crate) fn draw_left(&self, canvas: &mut Canvas, left: f64, right: f64, unit: &str) {
        for mark in self.marks() {
            let y = self.at(mark);
            canvas.line((left, y), (right, y), "grid");
            canvas.text(
                (left - 8.0, y + 4.0),
                Anchor::End,
                "s n mute",
                &format!("{}{unit}", self.label(mark)),
            );
        }
    }

    /// Vertical grid lines from `top` to `bottom` with labels below, for a horizontal axis.
    pub(crate) fn draw_below(
        &self,
        canvas: &mut Canvas,
        top: f64,
        bottom: f64,
        show: impl Fn(f64) -> String,
    ) {
        for mark in self.marks() {
            let x = self.at(mark);
            canvas.line((x, top), (x, bottom), "grid");
            canvas.text((x, bottom + 16.0), Anchor::Middle, "s n mute", &show(mark));
        }
    }
}

/// The smallest of 1, 2, 5 × 10ᵏ that is at least `rough`.
fn nice_step(rough: f64) -> f64 {
    if !rough.is_finite() || rough <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.marks()
            .into_iter()
            .map(|mark| axis.label(mark))
            .collect()
    }

    #[test]
    fn marks_are_round_and_cover_the_values() {
        let axis = Axis::around([0.13, 0.87], 0.0, 100.0, 5);
        assert_eq!(labels(&axis), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(axis.at(0.5), 50.0);
        assert_eq!(
            labels(&Axis::around([-3.0, 4.0], 0.0, 1.0, 4)),
            ["−4", "−2", "0", "2", "4"]
        );
        assert_eq!(
            labels(&Axis::exact(0.0, 3.0, 0.0, 1.0, 8).whole()),
            ["0", "1", "2", "3"]
        );
    }

    #[test]
    fn labels_have_the_decimals_of_their_step() {
        assert_eq!(
            labels(&Axis::exact(0.0, 0.3, 0.0, 1.0, 3)),
            ["0", "0.1", "0.2", "0.3"]
        );
        assert_eq!(
            labels(&Axis::exact(0.0, 4.0, 0.0, 1.0, 4)),
            ["0", "1", "2", "3", "4"]
        );
        assert_eq!(
            labels(&Axis::exact(0.0, 0.04, 0.0, 1.0, 2)),
            ["0", "0.02", "0.04"]
        );
    }

    #[test]
    fn no_values_or_equal_values_still_make_an_axis() {
        for values in [vec![], vec![f64::NAN], vec![2.0, 2.0], vec![0.0]] {
            let axis = Axis::around(values, 0.0, 100.0, 4);
            assert!(axis.marks().len() >= 2 && axis.at(0.5).is_finite());
        }
    }
}
