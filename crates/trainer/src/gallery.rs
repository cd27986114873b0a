//! All test images for the report: small pictures, kept when the test split is opened, and what the arms make of them.

use crate::experiment::Experiment;
use crate::features::FeatureSet;
use crate::results::answer;
use crate::{Arm, Result, StageId, StageKind, plan};
use candle_core::{DType, Device, Tensor};
use cifar_data::Images;
use eval::{EmbeddingMap, EmbeddingMaps, Features, Gallery, GalleryArm, Pictures, TsneConfig};
use resnet::{read_safetensors, write_safetensors};
use std::collections::BTreeMap;

/// More test images than these are not shown one by one: a page that holds them would be too large.
pub(crate) const MOST_SHOWN: usize = 10_000;
/// Pictures are made so small that neither side is longer.
const SIDE: usize = 64;
/// Neighbours of each image in each space.
const NEIGHBOURS: usize = 10;
/// Images of a t-SNE map, at most: its time grows with their square.
pub(crate) const TSNE_IMAGES: usize = 2500;

/// Keeps small pictures of the test images, so that nothing opens the split again.
pub(crate) fn save_pictures(lab: &Experiment, images: &Images, total: usize) -> Result<()> {
    let path = lab.folder.pictures();
    if path.exists() || total > MOST_SHOWN || total == 0 {
        return Ok(());
    }
    let by = images.height.max(images.width).div_ceil(SIDE);
    let (height, width) = (images.height / by, images.width / by);
    if height == 0 || width == 0 {
        return Ok(());
    }
    let mut pixels = Vec::with_capacity(total * height * width * 3);
    for index in 0..total {
        shrink(
            images.image(index),
            images.width,
            (height, width),
            by,
            &mut pixels,
        );
    }
    let tensors = BTreeMap::from([(
        "pixels".to_owned(),
        Tensor::from_vec(pixels, (total, height, width, 3), &Device::Cpu)?,
    )]);
    Ok(write_safetensors(&path, &tensors, &BTreeMap::new())?)
}

/// Means over squares of `by` pixels.
fn shrink(rgb: &[u8], across: usize, (height, width): (usize, usize), by: usize, to: &mut Vec<u8>) {
    let half = by * by / 2;
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let square = (0..by * by).map(|at| {
                    let (row, column) = (y * by + at / by, x * by + at % by);
                    usize::from(rgb[(row * across + column) * 3 + channel])
                });
                to.push(((square.sum::<usize>() + half) / (by * by)) as u8);
            }
        }
    }
}

impl Experiment {
    /// All test images with what every evaluated arm makes of them. None where there are too many to be shown.
    pub(crate) fn gallery(&self) -> Result<Option<Gallery>> {
        let mut gallery = Gallery {
            labels: Vec::new(),
            pictures: None,
            arms: Vec::new(),
        };
        for arm in self.evaluated() {
            let predictions = self.headline_predictions(arm)?;
            if predictions.len() > MOST_SHOWN {
                return Ok(None);
            }
            let answers = (0..predictions.len()).map(|image| answer(predictions.row(image)));
            let (predicted, confidence) = answers
                .map(|answer| (answer.class, answer.confidence as f32))
                .unzip();
            let neighbours = match self.own_test_features(arm)? {
                Some(features) => eval::nearest_others(&features, NEIGHBOURS)?,
                None => Vec::new(),
            };
            gallery.labels = predictions.labels;
            gallery.arms.push(GalleryArm {
                arm: arm.name().to_owned(),
                predicted,
                confidence,
                neighbours,
            });
        }
        if self.folder.pictures().exists() {
            gallery.pictures = self.pictures(gallery.labels.len())?;
        }
        Ok((!gallery.arms.is_empty()).then_some(gallery))
    }

    fn pictures(&self, images: usize) -> Result<Option<Pictures>> {
        let tensors = read_safetensors(&self.folder.pictures())?.tensors;
        let Some(pixels) = tensors.get("pixels") else {
            return Ok(None);
        };
        let (count, height, width, _) = pixels.dims4()?;
        if count != images || pixels.dtype() != DType::U8 {
            return Ok(None);
        }
        Ok(Some(Pictures {
            height,
            width,
            rgb: pixels.flatten_all()?.to_vec1()?,
        }))
    }

    /// The test images in the features of an arm's own encoder; none for an arm that reads another one's.
    fn own_test_features(&self, arm: Arm) -> Result<Option<Features>> {
        let frozen = plan::frozen(self.recipe(), StageId::new(arm, StageKind::Evaluate));
        if frozen.owner != arm {
            return Ok(None); // the control's encoder is the baseline's
        }
        let path = self.folder.features(frozen, "test");
        FeatureSet::load(&path, &Device::Cpu)?.to_eval().map(Some)
    }

    /// The same test images in every arm's feature space: by principal components, and by t-SNE some of them.
    pub(crate) fn maps(&self) -> Result<Vec<EmbeddingMaps>> {
        let mut pca = Vec::new();
        let mut tsne = Vec::new();
        let (mut labels, mut chosen): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        for arm in self.evaluated() {
            let Some(features) = self.own_test_features(arm)? else {
                continue;
            };
            let map = eval::pca2(&features)?;
            let name = arm.name().to_owned();
            pca.push(EmbeddingMap {
                arm: name.clone(),
                points: map.points,
                explained: Some(map.explained),
            });
            chosen = eval::scattered(features.len(), TSNE_IMAGES);
            tsne.push(EmbeddingMap {
                arm: name,
                points: eval::tsne2(&some(&features, &chosen)?, TsneConfig::default())?,
                explained: None,
            });
            labels = features.labels;
        }
        if pca.is_empty() {
            return Ok(Vec::new());
        }
        let chosen_labels = chosen.iter().map(|&image| labels[image as usize]).collect();
        Ok(vec![
            EmbeddingMaps {
                method: "PCA".to_owned(),
                images: (0..labels.len() as u32).collect(),
                labels,
                maps: pca,
            },
            EmbeddingMaps {
                method: "t-SNE".to_owned(),
                images: chosen,
                labels: chosen_labels,
                maps: tsne,
            },
        ])
    }
}

/// Some rows of a table.
fn some(features: &Features, rows: &[u32]) -> Result<Features> {
    let values = rows.iter().flat_map(|&row| features.row(row as usize));
    let labels = rows.iter().map(|&row| features.labels[row as usize]);
    Ok(Features::new(
        features.dim,
        values.copied().collect(),
        labels.collect(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_means_of_squares() {
        // 5 × 4 pixels by two: the odd column is left out.
        let rgb: Vec<u8> = (0..60).collect();
        let mut small = Vec::new();
        shrink(&rgb, 5, (2, 2), 2, &mut small);
        // (0 + 3 + 15 + 18) / 4, and one more for each channel.
        assert_eq!(small[..6], [9, 10, 11, 15, 16, 17]);
        assert_eq!(small[6..], [39, 40, 41, 45, 46, 47]);
        let mut same = Vec::new();
        shrink(&rgb, 5, (4, 5), 1, &mut same);
        assert_eq!(same, rgb);
    }
}
