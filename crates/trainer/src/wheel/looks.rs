//! What a stage shows of itself on TensorBoard beside its scalars: the first batch, and how weights and gradients are spread.
//!
//! Nothing here changes a weight or draws a random number, and the position alone says when to look.

use super::Wheel;
use crate::feed::Batch;
use crate::step::Stepped;
use crate::{Histogram, Result};

/// How often a stage's weights and gradients are looked at, about.
const LOOKS: usize = 10;
/// Images of the first batch that are shown, and views of each.
const SHOWN_IMAGES: usize = 8;
const SHOWN_VIEWS: usize = 8;

impl Wheel<'_> {
    /// Whether this step's weights and gradients go to TensorBoard as histograms: the last step of every epoch, or of ten epochs spread over
    /// the stage. Said by the position alone, so that a resumed run writes what the uninterrupted one would have.
    pub(super) fn looks_closer(&self) -> bool {
        let p = &self.position;
        let every = self.training.epochs.div_ceil(LOOKS);
        let last = p.epoch + 1 == self.training.epochs;
        p.step + 1 == self.steps_per_epoch && (last || p.epoch.is_multiple_of(every))
    }

    pub(super) fn show_spread(&mut self, stepped: &Stepped) -> Result<()> {
        let step = self.position.global_step + 1;
        let mut weights = Vec::new();
        let parameters = self.stepper.optimizer.parameters().iter();
        for parameter in parameters.filter(|parameter| parameter.decay) {
            let histogram = Histogram::of_tensor(&parameter.var, 1.0)?;
            weights.push((parameter.name.clone(), histogram));
        }
        let journal = &mut self.experiment.journal;
        journal.histograms(self.stage, step, "weights", &weights)?;
        journal.histograms(self.stage, step, "gradients", &stepped.gradients)
    }

    /// Puts some images of the first batch, in all their views, on TensorBoard: a row for each image.
    pub(super) fn show_views(&mut self, batch: &Batch) -> Result<()> {
        let [_, height, width, 3] = *batch.input.dims() else {
            return Ok(()); // features
        };
        let images = batch.labels.len().min(SHOWN_IMAGES);
        let views = batch.views.min(SHOWN_VIEWS);
        let normalization = self.experiment.normalization();
        let mut photos = Vec::new();
        for image in 0..images {
            for view in 0..views {
                let row = view * batch.labels.len() + image;
                let pixels = batch.input.narrow(0, row, 1)?.flatten_all()?;
                photos.push(normalization.to_bytes(&pixels.to_vec1()?));
            }
        }
        let photos: Vec<&[u8]> = photos.iter().map(Vec::as_slice).collect();
        // Single views stand side by side.
        let columns = if views > 1 { views } else { 4 };
        let sheet = eval::sheet(&photos, columns, height, width)?;
        let columns = columns.min(photos.len());
        let size = (photos.len().div_ceil(columns) * height, columns * width);
        let journal = &mut self.experiment.journal;
        journal.image(self.stage, 0, "first batch", size, &sheet)
    }
}
