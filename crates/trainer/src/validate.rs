//! Measuring a classifier on the validation split, without a graph.

use crate::Result;
use crate::classify;
use crate::features::FeatureSet;
use crate::feed::Batch;
use crate::model::Head;
use crate::wheel::Validation;
use candle_core::{Device, Tensor};
use cifar_data::Loader;

/// Rows of a feature table that go through a head at once.
pub(crate) const FEATURE_ROWS: usize = 4096;

/// The validation images, if there are any.
#[derive(Debug)]
pub(crate) struct ValidationImages(pub Option<Loader>);

impl ValidationImages {
    /// Accuracy and loss of `logits` over all images; none without a split.
    pub fn measure(
        &self,
        device: &Device,
        logits: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Option<Validation>> {
        let Some(loader) = &self.0 else {
            return Ok(None);
        };
        let mut sums = Sums::default();
        for batch in loader.epoch(0, 0) {
            let batch = Batch::new(batch?, device)?;
            sums.add(&logits(&batch.input)?, &batch.labels)?;
        }
        Ok(Some(sums.mean()))
    }
}

/// Accuracy and loss of a head over a feature table, whose rows pass through `prepare`.
pub(crate) fn measure_features(
    head: &Head,
    features: &FeatureSet,
    prepare: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Validation> {
    let mut sums = Sums::default();
    for (rows, labels) in features.chunks(FEATURE_ROWS) {
        sums.add(&head.logits(&prepare(&rows?)?)?, labels)?;
    }
    Ok(sums.mean())
}

#[derive(Default)]
struct Sums {
    rows: usize,
    correct: usize,
    loss: f64,
}

impl Sums {
    fn add(&mut self, logits: &Tensor, labels: &[u32]) -> Result<()> {
        self.rows += labels.len();
        self.correct += classify::correct(logits, labels)?;
        let loss = classify::cross_entropy(logits, labels, 0.0)?.to_scalar::<f32>()?;
        self.loss += f64::from(loss) * labels.len() as f64;
        Ok(())
    }

    fn mean(&self) -> Validation {
        let rows = self.rows.max(1) as f64;
        Validation {
            accuracy: self.correct as f64 / rows,
            loss: self.loss / rows,
        }
    }
}
