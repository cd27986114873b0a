//! How long it takes to look at what was trained: neighbours, what a recipe measures on request, and the report's maps.
//!
//! Rates are measured before step 0 on little work of each kind; how much work there will be is counted. Only the iterations of a
//! probe on its way to the optimum cannot be known beforehand.

use crate::corruption::SEVERITIES;
use crate::gallery::{MOST_SHOWN, TSNE_IMAGES};
use crate::measures::{DRAWS, wanted};
use crate::splits::Splits;
use crate::{Arm, Recipe, Result, StageId, plan};
use cifar_data::{corrupt, stream};
use eval::{DuplicatesConfig, Features, LogisticConfig, Photographs, TsneConfig};
use rand_chacha::rand_core::RngCore;
use std::collections::BTreeSet;
use std::time::Instant;

/// Rows of the small table that the rate of products is measured on.
const ROWS: usize = 512;
/// Rows of the table that a probe is timed on: two blocks, and of a ResNet-50's features fewer than numbers in each, so that only
/// the passes over rows are timed.
const PROBE_ROWS: usize = 1024;
/// Images of the small map, test images of the small search for near-duplicates, and images of each corruption.
const FEW: usize = 256;
/// Numbers of a photograph shrunk to 8×8, of which candidates for near-duplicates are found.
const SHRUNK: usize = 192;
/// Iterations of a probe that are timed.
const TIMED_ITERATIONS: usize = 3;
/// Iterations of L-BFGS that are counted for each λ. They depend on the features: on those of a ResNet-50 after `quick` the λ of 0.1
/// to 10⁻⁵ took 43 each on 490 images, 31 on 4,900 and 41 on 49,000; bringing the best one to its optimum took some 40 more.
const ITERATIONS: f64 = 50.0;
/// What looking at the curvature adds to an iteration, in rows for each number in a feature (there: 50 ms, 14,000 rows of 2,048).
const CURVATURE: f64 = 7.0;

/// Images of the splits that an evaluation reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub train: usize,
    pub test: usize,
    pub classes: usize,
}

/// Seconds for a unit of each kind of work.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requested {
    /// A multiply-add in products of feature tables, neighbours kept.
    product: f64,
    /// An image corrupted, the mean over the recipe's corruptions.
    corrupt: f64,
    /// A training row in an iteration of a probe.
    probe: f64,
    /// A pair of images in a t-SNE map.
    map: f64,
    /// A test image's candidates for near-duplicates, compared at full size.
    confirm: f64,
}

impl Requested {
    /// Times a little of what the recipe will ask for; `dim`: numbers in a feature.
    pub fn measure(recipe: &Recipe, splits: &Splits, classes: usize, dim: usize) -> Result<Self> {
        let settings = &recipe.evaluate;
        let table = invented(ROWS, dim, classes)?;
        let seconds = timed(|| Ok(eval::nearest_others(&table, 1).map(drop)?))?;
        let mut rates = Self {
            product: seconds / (ROWS * ROWS * dim) as f64,
            ..Self::default()
        };
        let small = invented(FEW, dim, classes)?;
        let seconds = timed(|| Ok(eval::tsne2(&small, TsneConfig::default()).map(drop)?))?;
        rates.map = seconds / (FEW * FEW) as f64;
        if settings.fits_probes() {
            let config = LogisticConfig {
                max_iterations: TIMED_ITERATIONS,
                ..LogisticConfig::default()
            };
            let rows = splits.train.len().min(PROBE_ROWS);
            let table = invented(rows, dim, classes)?;
            let seconds =
                timed(|| Ok(eval::fit_logistic(&table, classes, &config, None).map(drop)?))?;
            rates.probe = seconds / (rows * TIMED_ITERATIONS) as f64;
        }
        let few = splits
            .images
            .subset(&splits.train[..FEW.min(splits.train.len())]);
        for &corruption in &settings.corruptions {
            let seconds = timed(|| Ok(corrupt(&few, corruption, 3, 0).map(drop)?))?;
            rates.corrupt += seconds / (few.len() * settings.corruptions.len()) as f64;
        }
        if settings.duplicates {
            // Every image meets itself here: no candidate is dismissed early, which is more than there will be to do.
            let photographs = Photographs {
                height: few.height,
                width: few.width,
                pixels: &few.pixels,
            };
            let config = DuplicatesConfig::default();
            let seconds = timed(|| {
                Ok(eval::near_duplicates(&photographs, &photographs, None, &config).map(drop)?)
            })?;
            rates.confirm = seconds / few.len() as f64;
        }
        Ok(rates)
    }

    /// Seconds of an arm's probes at their optimum: the control's are the baseline's.
    fn probes(&self, recipe: &Recipe, arm: Arm, train: f64, dim: usize) -> f64 {
        if arm == Arm::Control && recipe.arms.baseline {
            return 0.0;
        }
        let settings = &recipe.evaluate;
        let rows: f64 = wanted(settings)
            .iter()
            .map(|wanted| {
                let rows = wanted.label_share * train;
                rows + if rows < dim as f64 {
                    0.0
                } else {
                    CURVATURE * dim as f64
                }
            })
            .sum();
        rows * settings.lbfgs_lambdas.len() as f64 * ITERATIONS * self.probe
    }

    /// Seconds of an arm's evaluation beyond the features of the test images; `features`: images that the encoder takes in a
    /// second.
    pub fn evaluation(
        &self,
        recipe: &Recipe,
        arm: Arm,
        images: Counts,
        dim: usize,
        features: f64,
    ) -> f64 {
        let settings = &recipe.evaluate;
        let (train, test) = (images.train as f64, images.test as f64);
        let classes = images.classes;
        let bank = train.min(settings.knn_bank as f64);
        let neighbours = test * (bank + test) * dim as f64 * self.product;
        let draws = (DRAWS * settings.shots.len()) as f64;
        let few_shot = draws * test * classes as f64 * dim as f64 * self.product;
        let probes = self.probes(recipe, arm, train, dim);
        let corrupted = test.min(settings.corruption_images as f64)
            * (settings.corruptions.len() * SEVERITIES) as f64;
        let corruptions = corrupted * (self.corrupt + 1.0 / features);
        let duplicates = if settings.duplicates {
            let numbers = (2 * SHRUNK + dim) as f64; // plain, mirrored, by features
            test * (train * numbers * self.product + self.confirm)
        } else {
            0.0
        };
        neighbours + few_shot + probes + corruptions + duplicates
    }

    /// Seconds of the report: maps of every encoder, and the neighbours of all test images.
    pub fn report(&self, recipe: &Recipe, images: Counts, dim: usize) -> f64 {
        let test = images.test as f64;
        let mapped = test.min(TSNE_IMAGES as f64);
        let shown = if images.test <= MOST_SHOWN { test } else { 0.0 };
        encoders(recipe) as f64
            * (mapped * mapped * self.map + shown * shown * dim as f64 * self.product)
    }
}

/// How many encoders are evaluated; arms may share one.
fn encoders(recipe: &Recipe) -> usize {
    let stages: Vec<StageId> = plan::stages(recipe);
    let owners = stages
        .into_iter()
        .map(|stage| plan::frozen(recipe, stage).owner);
    owners.collect::<BTreeSet<_>>().len()
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64())
}

/// A table of numbers that mean nothing: uniform in −1 to 1, classes in turn.
fn invented(rows: usize, dim: usize, classes: usize) -> Result<Features> {
    let mut rng = stream(0, "speed: features", &[]);
    let values = (0..rows * dim).map(|_| (rng.next_u32() as f32 / u32::MAX as f32) * 2.0 - 1.0);
    let labels = (0..rows).map(|row| (row % classes.max(1)) as u32);
    Ok(Features::new(dim, values.collect(), labels.collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Requested = Requested {
        product: 1e-9,
        corrupt: 1e-4,
        probe: 1e-6,
        map: 1e-6,
        confirm: 1e-3,
    };

    const IMAGES: Counts = Counts {
        train: 40_000,
        test: 10_000,
        classes: 10,
    };

    #[test]
    fn what_is_asked_for_is_counted_and_nothing_else() {
        let mut recipe = Recipe::default();
        recipe.evaluate.shots.clear();
        let seconds =
            |recipe: &Recipe| RATES.evaluation(recipe, Arm::Baseline, IMAGES, 100, 1000.0);
        let plain = seconds(&recipe);
        // 10,000 test images against 10,000 of the bank and 10,000 of their own.
        assert!((plain - 20.0).abs() < 1e-9, "{plain}");
        for (field, value, more) in [
            // 40,000 rows, six λ, and the curvature of 100 numbers; a share of too few rows goes without.
            ("evaluate.lbfgs", "true", 40_700.0 * 6.0 * ITERATIONS * 1e-6),
            (
                "evaluate.few_labels",
                "[0.1, 0.001]",
                (4700.0 + 40.0) * 6.0 * ITERATIONS * 1e-6,
            ),
            // 100 draws of 10 classes, twice.
            ("evaluate.shots", "[1, 5]", 2000.0 * 10_000.0 * 100.0 * 1e-9),
            // 1000 images, five severities: drawn, then seen by the encoder.
            ("evaluate.corruptions", "fog", 5000.0 * (1e-4 + 1e-3)),
            ("evaluate.duplicates", "true", 4e8 * 484.0 * 1e-9 + 10.0),
        ] {
            recipe = Recipe::default();
            recipe.evaluate.shots.clear();
            recipe.set(field, value).unwrap();
            let found = seconds(&recipe) - plain;
            assert!(
                (found - more).abs() < 1e-9 * more,
                "{field}: {found} for {more}"
            );
        }
    }

    #[test]
    fn the_control_has_the_baselines_probes() {
        let mut recipe = Recipe::default();
        recipe.evaluate.lbfgs = true;
        assert!(RATES.probes(&recipe, Arm::Baseline, 1000.0, 100) > 0.0);
        assert_eq!(RATES.probes(&recipe, Arm::Control, 1000.0, 100), 0.0);
    }

    #[test]
    fn the_report_maps_every_encoder_once() {
        let mut recipe = Recipe::default();
        let two = RATES.report(&recipe, IMAGES, 100);
        assert!(
            (two - 2.0 * (2500.0 * 2500.0 * 1e-6 + 1e8 * 1e-7)).abs() < 1e-9,
            "{two}"
        );
        recipe.arms.control = true; // reads the baseline's encoder
        assert_eq!(RATES.report(&recipe, IMAGES, 100), two);
        let many = Counts {
            test: 20_000,
            ..IMAGES
        };
        assert!((RATES.report(&recipe, many, 100) - 12.5).abs() < 1e-9);
    }
}
