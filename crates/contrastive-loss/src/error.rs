//! What can go wrong: what was expected, what came, where, and what to do.

use candle_core::DType;

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A temperature that is zero, negative, NaN, infinite, or so small that 1/τ overflows f32.
    #[error(
        "temperature must be a finite number of at least {least:e}, got {got}; usual values lie between 0.05 and 0.5"
    )]
    Temperature {
        /// The value that came.
        got: f64,
        /// The smallest temperature accepted.
        least: f64,
    },
    /// The base of [`Scale::TemperatureOver`](crate::Scale::TemperatureOver) is not a positive finite number.
    #[error(
        "the base temperature of the scale must be a positive finite number, got {got}; the reference code uses 0.07"
    )]
    ScaleBase {
        /// The value that came.
        got: f64,
    },
    /// No rows or no columns where there must be some.
    #[error("{what} must not be empty, got shape {shape:?}; drop empty batches before the loss")]
    Empty {
        /// The argument.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor whose shape is not the one the function works on.
    #[error("{what} must have the shape {expected}, got {got:?}")]
    Shape {
        /// The argument.
        what: &'static str,
        /// The expected shape, in words.
        expected: &'static str,
        /// The shape that came.
        got: Vec<usize>,
    },
    /// Two tensors whose rows do not belong together.
    #[error(
        "{left} has the shape {left_shape:?} and {right} has the shape {right_shape:?}: {need}"
    )]
    Mismatch {
        /// The first argument.
        left: &'static str,
        /// Its shape.
        left_shape: Vec<usize>,
        /// The second argument.
        right: &'static str,
        /// Its shape.
        right_shape: Vec<usize>,
        /// What they must have in common.
        need: &'static str,
    },
    /// An element type the function does not take.
    #[error("{what} must be {expected}, got {got:?}; convert it with to_dtype")]
    DType {
        /// The argument.
        what: &'static str,
        /// The accepted element types, in words.
        expected: &'static str,
        /// The type that came.
        got: DType,
    },
    /// A number of views that does not fit the number of rows.
    #[error("{rows} rows cannot be {views} views of one batch: {need}")]
    Views {
        /// Rows of the embeddings.
        rows: usize,
        /// The number of views that was asked for.
        views: usize,
        /// What the two must satisfy.
        need: &'static str,
    },
    /// The number of labels is not the number of rows of one view.
    #[error(
        "expected {expected} labels ({rows} rows in {views} views), got {got}; labels are given once per sample, not per view"
    )]
    LabelCount {
        /// rows / views.
        expected: usize,
        /// Rows of the embeddings.
        rows: usize,
        /// Number of views.
        views: usize,
        /// Labels that came.
        got: usize,
    },
    /// A multi-hot label that is negative, NaN or infinite.
    #[error(
        "multi-hot labels must be finite and not negative, got {got} at row {row}, class {class}"
    )]
    LabelValue {
        /// The value that came.
        got: f64,
        /// Its row.
        row: usize,
        /// Its column.
        class: usize,
    },
    /// Rows without a defined loss, under [`UndefinedRows::Error`](crate::UndefinedRows::Error).
    #[error(
        "{rows} of {of} rows have {missing} (the first is row {first}); use a class-balanced sampler or two views, or choose another `undefined_rows`"
    )]
    Undefined {
        /// How many rows.
        rows: usize,
        /// Rows of the batch.
        of: usize,
        /// The first such row.
        first: usize,
        /// What the rows lack.
        missing: &'static str,
    },
    /// An option of a loss out of its range.
    #[error("the loss option `{option}` must be {expected}, got {got}")]
    Setting {
        /// The option.
        option: &'static str,
        /// Its range, in words.
        expected: String,
        /// The value that came.
        got: f64,
    },
    /// Options that exclude each other.
    #[error("{first} and {second} exclude each other: {remedy}")]
    Conflict {
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A pair that a set of pairs cannot hold.
    #[error("the pair {pair:?} does not fit {rows} anchors and {columns} references: {need}")]
    Pair {
        /// (anchor, reference).
        pair: (usize, usize),
        /// Anchors.
        rows: usize,
        /// References.
        columns: usize,
        /// What a pair must satisfy.
        need: &'static str,
    },
    /// A loss with parameters of its own that came without them, or with others.
    #[error(
        "the loss \"{loss}\" has parameters of its own, {expected}; got {got}. Make them as `Loss::parameters` says and call `Loss::forward_with`"
    )]
    Parameters {
        /// The loss.
        loss: &'static str,
        /// Names and shapes.
        expected: String,
        /// What came.
        got: String,
    },
    /// A label that no proxy stands for.
    #[error(
        "the label {got} of row {row} has no proxy: there are {classes} classes, numbered from 0; make as many proxies as the data has classes"
    )]
    Class {
        /// The label that came.
        got: i64,
        /// Its row.
        row: usize,
        /// How many classes there are.
        classes: usize,
    },
    /// A loss that needs the whole similarity matrix of its batch.
    #[error(
        "{what} has no tiled form: call Loss::forward, or forward_by with Execution::Dense or Execution::Auto, and Loss::forward_in for rows of former batches"
    )]
    Untiled {
        /// The loss, or the option that stands in the way.
        what: &'static str,
    },
    /// A miner or a memory for a loss that takes none.
    #[error(
        "the loss \"{loss}\" takes no {what}: leave it out, or take a loss over pairs such as \"multi_similarity\""
    )]
    Unsupported {
        /// The loss.
        loss: &'static str,
        /// What came.
        what: &'static str,
    },
    /// A name that is none of this crate's.
    #[error("unknown {what} \"{got}\"; expected one of {expected}")]
    Name {
        /// What the name should name.
        what: &'static str,
        /// The name that came.
        got: String,
        /// The names that exist.
        expected: String,
    },
    /// An error of Candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(inner) => inner,
            other => candle_core::Error::wrap(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn becomes_candle_error_and_keeps_its_sentence() {
        let error = Error::Temperature {
            got: -1.0,
            least: 1e-30,
        };
        let text = error.to_string();
        assert!(
            text.contains("temperature") && text.contains("-1"),
            "{text}"
        );
        let candle: candle_core::Error = error.into();
        assert!(candle.to_string().contains(&text), "{candle}");
    }
}
