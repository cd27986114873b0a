//! A curve in braille: two points across and four down in every character.

/// A series that is kept whole in little memory: where it grows too long, neighbours become their mean.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: Vec<f64>,
    /// Values in a point.
    stride: usize,
    /// The point under way: sum and count.
    open: (f64, usize),
    last: Option<f64>,
}

/// Points that a series keeps at most.
const MAX_POINTS: usize = 4096;

impl Series {
    /// Appends a value; one that is not finite leaves no trace.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.last = Some(value);
        self.open = (self.open.0 + value, self.open.1 + 1);
        if self.open.1 < self.stride.max(1) {
            return;
        }
        self.points.push(self.open.0 / self.open.1 as f64);
        self.open = (0.0, 0);
        if self.points.len() == MAX_POINTS {
            let halves = self.points.chunks(2);
            self.points = halves
                .map(|two| two.iter().sum::<f64>() / two.len() as f64)
                .collect();
            self.stride = 2 * self.stride.max(1);
        }
    }

    /// The last value.
    pub fn last(&self) -> Option<f64> {
        self.last
    }

    /// `count` means over equal parts of the series; where there are fewer points, they are spread over the same axis and joined.
    fn resampled(&self, count: usize) -> Vec<f64> {
        let n = self.points.len();
        if n == 0 {
            return Vec::new();
        }
        if n <= count {
            let at = |i: usize| {
                let place = i as f64 * (n - 1) as f64 / (count.max(2) - 1) as f64;
                let (near, part) = (place.floor() as usize, place.fract());
                let far = (near + 1).min(n - 1);
                self.points[near] + (self.points[far] - self.points[near]) * part
            };
            return (0..count).map(at).collect();
        }
        (0..count)
            .map(|i| {
                let part =
                    &self.points[i * n / count..((i + 1) * n / count).max(i * n / count + 1)];
                part.iter().sum::<f64>() / part.len() as f64
            })
            .collect()
    }

    /// `height` lines of `width` characters: the curve over all that has been pushed, its scale to the left.
    pub fn chart(&self, width: usize, height: usize) -> Vec<String> {
        const LABEL: usize = 7;
        let columns = width.saturating_sub(LABEL + 1).max(1);
        let points = self.resampled(2 * columns);
        let low = points.iter().copied().fold(f64::INFINITY, f64::min);
        let high = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let cells = braille(&points, low, high, columns, height);
        let label = |row: usize| match (points.is_empty(), row) {
            (true, _) => String::new(),
            (_, 0) => short(high),
            (_, row) if row + 1 == height => short(low),
            _ => String::new(),
        };
        let lines = cells.into_iter().enumerate();
        lines
            .map(|(row, cells)| format!("{:>LABEL$}┤{cells}", label(row)))
            .collect()
    }
}

/// A number in at most six characters.
fn short(value: f64) -> String {
    match value.abs() {
        size if size != 0.0 && !(0.001..99_999.5).contains(&size) => format!("{value:.0e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The points, scaled to `low..=high`, joined from column to column; every line has `columns` characters.
fn braille(points: &[f64], low: f64, high: f64, columns: usize, height: usize) -> Vec<String> {
    /// Bits of the dots of a character, by column and row.
    const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
    let mut cells = vec![vec![0u8; columns]; height];
    let rows = 4 * height;
    let row_of = |value: f64| {
        let share = if high > low {
            (high - value) / (high - low)
        } else {
            0.5
        };
        ((share * (rows - 1) as f64).round() as usize).min(rows - 1)
    };
    let mut before = None;
    for (x, &value) in points.iter().take(2 * columns).enumerate() {
        let row = row_of(value);
        // A steep step leaves no gap: the way from the last row is drawn too.
        let from = match before {
            Some(last) if last < row => last + 1,
            Some(last) if last > row => last - 1,
            _ => row,
        };
        for y in from.min(row)..=from.max(row) {
            cells[y / 4][x / 2] |= DOTS[x % 2][y % 4];
        }
        before = Some(row);
    }
    let letter = |bits: u8| char::from_u32(0x2800 + u32::from(bits)).unwrap_or(' ');
    cells
        .into_iter()
        .map(|line| line.into_iter().map(letter).collect())
        .collect()
}

/// A bar of `width` characters in eighths of a character.
pub fn bar(done: u64, total: u64, width: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let share = if total == 0 {
        0.0
    } else {
        (done as f64 / total as f64).clamp(0.0, 1.0)
    };
    let eighths = (share * (8 * width) as f64).floor() as usize;
    let mut text: String = "█".repeat(eighths / 8);
    if eighths / 8 < width {
        text.push(EIGHTHS[eighths % 8]);
    }
    let used = text.chars().count();
    text + &" ".repeat(width - used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_line_rises() {
        let mut series = Series::default();
        (0..16).for_each(|i| series.push(f64::from(i)));
        let chart = series.chart(8 + 8, 2);
        assert_eq!(
            chart,
            ["15.0┤⠀⠀⠀⠀⣀⠤⠒⠉", "0.000┤⣀⠤⠒⠉⠀⠀⠀⠀"].map(|line| format!("{line:>16}"))
        );
    }

    #[test]
    fn charts_have_their_size_whatever_is_drawn() {
        for values in [
            vec![],
            vec![1.0],
            vec![2.0; 9],
            vec![f64::NAN, 1e-30, -1e30],
            (0..9999).map(f64::from).collect(),
        ] {
            let mut series = Series::default();
            values.iter().for_each(|&value| series.push(value));
            for (width, height) in [(10, 1), (38, 4), (200, 12)] {
                let chart = series.chart(width, height);
                assert_eq!(chart.len(), height);
                for line in chart {
                    assert_eq!(line.chars().count(), width, "{line:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_series_keeps_its_shape_in_little_memory() {
        let mut series = Series::default();
        (0..100_000).for_each(|i| series.push(if i < 50_000 { 0.0 } else { 1.0 }));
        assert!(series.points.len() < MAX_POINTS);
        let half = series.resampled(10);
        assert_eq!((half[0], half[3], half[6], half[9]), (0.0, 0.0, 1.0, 1.0));
        assert_eq!(series.last(), Some(1.0));
    }

    #[test]
    fn bars_fill_in_eighths() {
        assert_eq!(bar(0, 8, 2), "  ");
        assert_eq!(bar(5, 8, 2), "█▎");
        assert_eq!(bar(9, 8, 2), "██");
        assert_eq!(bar(1, 0, 3), "   ");
    }
}
