//! Where a training loop's batches come from: augmented images, or features computed beforehand.

use crate::Result;
use candle_core::{Device, Tensor};
use cifar_data::{Loader, stream};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use std::ops::Range;

/// Input of one forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// `[V·B, H, W, 3]` pixels or `[B, D]` features; view-major.
    pub input: Tensor,
    /// `[B]`.
    pub labels: Vec<u32>,
    /// V.
    pub views: usize,
}

impl Batch {
    /// A loader's batch on `device`.
    pub fn new(batch: cifar_data::Batch, device: &Device) -> Result<Self> {
        let rows = batch.views * batch.labels.len();
        let input = Tensor::from_vec(batch.pixels, (rows, batch.height, batch.width, 3), device)?; // [V·B, H, W, 3]
        Ok(Self {
            input,
            labels: batch.labels,
            views: batch.views,
        })
    }

    /// V·B.
    pub fn rows(&self) -> usize {
        self.views * self.labels.len()
    }

    /// `[V·B]`: the label of every row.
    pub fn row_labels(&self) -> Vec<u32> {
        self.labels.repeat(self.views)
    }

    /// Cuts the batch into `count` parts, every view of an image in the same part.
    pub fn parts(self, count: usize) -> Result<Vec<Self>> {
        if count <= 1 {
            return Ok(vec![self]);
        }
        let cuts = self.cuts(count).into_iter();
        cuts.map(|images| self.part(images)).collect()
    }

    /// The images of `count` parts of nearly equal size.
    pub fn cuts(&self, count: usize) -> Vec<Range<usize>> {
        let images = self.labels.len();
        let size = images.div_ceil(count.max(1)).max(2);
        let mut cuts = Vec::with_capacity(count);
        let mut start = 0;
        while start < images {
            // A single image left over goes with the part before it: batch statistics need two.
            let mut length = size.min(images - start);
            if images - start - length == 1 {
                length += 1;
            }
            cuts.push(start..start + length);
            start += length;
        }
        cuts
    }

    /// Some of the images, in all their views.
    pub fn part(&self, images: Range<usize>) -> Result<Self> {
        let mut dims = self.input.dims().to_vec();
        dims.splice(0..1, [self.views, self.labels.len()]);
        let input = self.input.reshape(dims)?; // [V, B, …]
        let input = input.narrow(1, images.start, images.len())?;
        Ok(Self {
            input: input.contiguous()?.flatten(0, 1)?, // [V·b, …]
            labels: self.labels[images].to_vec(),
            views: self.views,
        })
    }
}

/// Batches of an epoch, from any step on.
pub(crate) trait Feed {
    fn steps_per_epoch(&self) -> usize;
    fn epoch(
        &self,
        epoch: usize,
        first_step: usize,
    ) -> Box<dyn Iterator<Item = Result<Batch>> + '_>;
}

/// Images from `cifar-data`'s loader, made ahead in the background.
#[derive(Debug)]
pub(crate) struct ImageFeed {
    pub loader: Loader,
    pub device: Device,
}

impl Feed for ImageFeed {
    fn steps_per_epoch(&self) -> usize {
        self.loader.steps_per_epoch()
    }

    fn epoch(
        &self,
        epoch: usize,
        first_step: usize,
    ) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        Box::new(
            self.loader
                .epoch(epoch, first_step)
                .map(|batch| Batch::new(batch?, &self.device)),
        )
    }
}

/// Rows of a feature table, shuffled anew for every epoch.
#[derive(Debug)]
pub(crate) struct FeatureFeed {
    pub features: Tensor, // [N, D]
    pub labels: Vec<u32>, // [N]
    pub batch_size: usize,
    pub seed: u64,
    pub purpose: String,
}

impl FeatureFeed {
    fn order(&self, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.labels.len() as u32).collect();
        shuffle(
            &mut order,
            &mut stream(
                self.seed,
                &format!("{}: order", self.purpose),
                &[epoch as u64],
            ),
        );
        order
    }
}

impl Feed for FeatureFeed {
    fn steps_per_epoch(&self) -> usize {
        (self.labels.len() / self.batch_size).max(1)
    }

    fn epoch(
        &self,
        epoch: usize,
        first_step: usize,
    ) -> Box<dyn Iterator<Item = Result<Batch>> + '_> {
        let order = self.order(epoch);
        let size = self.batch_size.min(order.len());
        let batches = (first_step..self.steps_per_epoch()).map(move |step| {
            let picked = &order[step * size..(step + 1) * size];
            let rows = Tensor::from_slice(picked, size, self.features.device())?;
            Ok(Batch {
                input: self.features.index_select(&rows, 0)?, // [B, D]
                labels: picked.iter().map(|&i| self.labels[i as usize]).collect(),
                views: 1,
            })
        });
        Box::new(batches)
    }
}

/// Fisher–Yates.
fn shuffle(items: &mut [u32], rng: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        let j = ((u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64) as usize;
        items.swap(i, j);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> FeatureFeed {
        FeatureFeed {
            features: Tensor::arange(0f32, 14.0, &Device::Cpu)
                .unwrap()
                .reshape((7, 2))
                .unwrap(),
            labels: (0..7).collect(),
            batch_size: 2,
            seed: 1,
            purpose: "test".to_owned(),
        }
    }

    #[test]
    fn features_keep_their_labels_and_any_step_can_be_first() {
        let feed = table();
        let all: Vec<Batch> = feed.epoch(4, 0).map(Result::unwrap).collect();
        assert_eq!((all.len(), feed.steps_per_epoch()), (3, 3));
        for batch in &all {
            let first: Vec<f32> = batch
                .input
                .narrow(1, 0, 1)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(
                first,
                batch
                    .labels
                    .iter()
                    .map(|&l| 2.0 * l as f32)
                    .collect::<Vec<_>>()
            );
        }
        let late: Vec<Batch> = feed.epoch(4, 2).map(Result::unwrap).collect();
        assert_eq!(late[0].labels, all[2].labels);
        assert_ne!(feed.order(0), feed.order(1));
    }

    #[test]
    fn parts_hold_every_view_of_their_images() {
        let input = Tensor::arange(0f32, 10.0, &Device::Cpu)
            .unwrap()
            .reshape((10, 1))
            .unwrap();
        let batch = Batch {
            input,
            labels: vec![0, 1, 2, 3, 4],
            views: 2,
        };
        let parts = batch.parts(2).unwrap();
        assert_eq!(
            parts.iter().map(|p| p.labels.clone()).collect::<Vec<_>>(),
            [vec![0, 1, 2], vec![3, 4]]
        );
        assert_eq!(
            parts[1]
                .input
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
            [3.0, 4.0, 8.0, 9.0]
        );
        assert_eq!(parts[0].row_labels(), [0, 1, 2, 0, 1, 2]);
    }
}
