//! Several runs that differ in their seed alone: mean, spread, and paired differences with an interval.
//!
//! Of a difference between two arms, both the seed and the choice of test images are accidents. All seeds are measured
//! on the *same* test images, so the two are crossed, and the bootstrap draws both: seeds with replacement, and test images
//! with replacement, one draw of images for all seeds (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics
//! 1(2)). Drawing images anew for each seed would pretend that five seeds see five test splits.
//!
//! `d*_r = mean over drawn seeds s and drawn images i of (right_first[s][i] − right_second[s][i])`; the interval lies
//! between the 2.5th and 97.5th percentile of d*.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::atomic::write_atomically;
use crate::error::{Error, Result};
use crate::json::to_json;
use crate::results::Results;

/// Below this number of seeds there is an interval, but no verdict.
pub const SEEDS_FOR_A_VERDICT: usize = 5;
/// Resamples of the bootstrap.
const RESAMPLES: u64 = 2000;

/// One run among several that differ in their seed.
#[derive(Clone, Debug)]
pub struct SeedRun {
    /// What it found.
    pub results: Results,
    /// Which test images each arm's headline head got right, in the order of the test split.
    pub right: BTreeMap<String, Vec<bool>>,
}

/// What several seeds found together: `seeds.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeedsSummary {
    /// The seeds, in the order of every list below.
    pub seeds: Vec<u64>,
    /// By arm, by measure (`top1`, `ece`, `knn_top1`, `lbfgs_top1`, …).
    pub arms: BTreeMap<String, BTreeMap<String, Spread>>,
    /// Paired differences in test top-1, by name (`contrastive-baseline`).
    pub comparisons: BTreeMap<String, SeedsComparison>,
}

/// A figure over seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    #[serde(with = "crate::number")]
    pub mean: f64,
    /// Sample standard deviation (n − 1); absent for one seed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::number::optional"
    )]
    pub deviation: Option<f64>,
    /// One value per seed.
    #[serde(with = "crate::number::list")]
    pub values: Vec<f64>,
}

/// A paired difference in test top-1 over seeds, first minus second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedsComparison {
    /// The difference by seed, with mean and deviation, −1 to 1.
    pub difference: Spread,
    /// Lower end of the 95 % interval over seeds and test images.
    #[serde(with = "crate::number")]
    pub low: f64,
    /// Upper end of the 95 % interval over seeds and test images.
    #[serde(with = "crate::number")]
    pub high: f64,
    /// Test images behind every seed's difference.
    pub images: u64,
    /// Resamples of the bootstrap.
    pub resamples: u64,
    /// What may be said.
    pub verdict: Verdict,
}

/// What a paired difference over seeds allows to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fewer than [`SEEDS_FOR_A_VERDICT`] seeds: the interval, and no verdict.
    TooFewSeeds,
    /// The interval lies above 0.
    Better,
    /// The interval lies below 0.
    Worse,
    /// The interval holds 0.
    Undecided,
}

impl Spread {
    /// Mean and sample standard deviation of values, one per seed.
    ///
    /// ```
    /// let spread = eval::Spread::of(vec![1.0, 2.0, 4.0]);
    /// assert!((spread.mean - 7.0 / 3.0).abs() < 1e-12);
    /// assert!((spread.deviation.unwrap() - (7.0f64 / 3.0).sqrt()).abs() < 1e-12);
    /// ```
    pub fn of(values: Vec<f64>) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        Self {
            mean,
            deviation: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()),
            values,
        }
    }
}

impl SeedsSummary {
    /// Brings runs together. `stream(r)` gives the random numbers of resample r; equal streams give equal bits.
    ///
    /// # Errors
    /// If there is no run, two have one seed, or they were measured on different numbers of test images.
    pub fn of<D: FnMut() -> u64>(
        runs: &[SeedRun],
        stream: impl Fn(u64) -> D + Sync,
    ) -> Result<Self> {
        let seeds: Vec<u64> = runs.iter().map(|run| run.results.seed).collect();
        let mut distinct = seeds.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if runs.is_empty() || distinct.len() != runs.len() {
            return Err(Error::Invalid(format!(
                "a summary over seeds needs at least one run and one run per seed, got seeds {seeds:?}"
            )));
        }
        let mut arms = BTreeMap::new();
        for name in runs[0].results.arms.keys() {
            let found: Option<Vec<_>> = runs.iter().map(|run| measures(run, name)).collect();
            let Some(found) = found else {
                continue; // an arm that a run lacks has no mean over seeds
            };
            let mut spreads = BTreeMap::new();
            for measure in found[0].keys() {
                let values: Option<Vec<f64>> =
                    found.iter().map(|run| run.get(measure).copied()).collect();
                if let Some(values) = values {
                    spreads.insert(measure.clone(), Spread::of(values));
                }
            }
            arms.insert(name.clone(), spreads);
        }
        let mut comparisons = BTreeMap::new();
        for name in runs[0].results.comparisons.keys() {
            let pair = runs[0].right.keys().find_map(|first| {
                let second = name.strip_prefix(first.as_str())?.strip_prefix('-')?;
                runs[0]
                    .right
                    .contains_key(second)
                    .then_some((first.as_str(), second))
            });
            let Some((first, second)) = pair else {
                continue;
            };
            let right = |arm: &str| -> Option<Vec<&[bool]>> {
                runs.iter()
                    .map(|run| run.right.get(arm).map(Vec::as_slice))
                    .collect()
            };
            if let (Some(one), Some(other)) = (right(first), right(second)) {
                comparisons.insert(
                    name.clone(),
                    SeedsComparison::paired(&one, &other, &stream)?,
                );
            }
        }
        Ok(Self {
            seeds,
            arms,
            comparisons,
        })
    }

    /// Writes `seeds.json` atomically; the folder must exist.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, to_json(self)?.as_bytes())
    }
}

impl SeedsComparison {
    /// From what both arms got right: one list per seed, over the same test images in the same order.
    ///
    /// # Errors
    /// If there are no seeds or images, or the lists differ in length.
    pub fn paired<D: FnMut() -> u64>(
        first: &[&[bool]],
        second: &[&[bool]],
        stream: impl Fn(u64) -> D + Sync,
    ) -> Result<Self> {
        let images = first.first().map_or(0, |right| right.len());
        let even = first
            .iter()
            .chain(second)
            .all(|right| right.len() == images);
        if images == 0 || first.len() != second.len() || !even {
            return Err(Error::Invalid(format!(
                "a paired comparison over seeds needs the same test images from both arms and every seed, got lists of {:?} and {:?}",
                first.iter().map(|r| r.len()).collect::<Vec<_>>(),
                second.iter().map(|r| r.len()).collect::<Vec<_>>()
            )));
        }
        // [image][seed]: −1, 0 or 1.
        let seeds = first.len();
        let mut apart = vec![0i8; images * seeds];
        for (seed, (one, other)) in first.iter().zip(second).enumerate() {
            for (image, (&one, &other)) in one.iter().zip(*other).enumerate() {
                apart[image * seeds + seed] = i8::from(one) - i8::from(other);
            }
        }
        let by_seed = (0..seeds).map(|seed| {
            let sum: i64 = (0..images)
                .map(|i| i64::from(apart[i * seeds + seed]))
                .sum();
            sum as f64 / images as f64
        });
        let difference = Spread::of(by_seed.collect());
        let mut drawn: Vec<f64> = (0..RESAMPLES)
            .into_par_iter()
            .map(|resample| {
                let mut draw = stream(resample);
                let mut below =
                    |bound: usize| ((u128::from(draw()) * bound as u128) >> 64) as usize;
                let mut weights = vec![0i64; seeds];
                for _ in 0..seeds {
                    weights[below(seeds)] += 1;
                }
                let mut sums = vec![0i64; seeds];
                for _ in 0..images {
                    let image = below(images);
                    for (sum, &apart) in sums.iter_mut().zip(&apart[image * seeds..][..seeds]) {
                        *sum += i64::from(apart);
                    }
                }
                let sum: i64 = sums
                    .iter()
                    .zip(&weights)
                    .map(|(sum, weight)| sum * weight)
                    .sum();
                sum as f64 / (images * seeds) as f64
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        let (low, high) = (percentile(&drawn, 0.025), percentile(&drawn, 0.975));
        Ok(Self {
            difference,
            low,
            high,
            images: images as u64,
            resamples: RESAMPLES,
            verdict: match () {
                () if seeds < SEEDS_FOR_A_VERDICT => Verdict::TooFewSeeds,
                () if low > 0.0 => Verdict::Better,
                () if high < 0.0 => Verdict::Worse,
                () => Verdict::Undecided,
            },
        })
    }
}

/// Linear interpolation between order statistics (numpy's default).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, weight) = (place.floor() as usize, place.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * weight
}

/// The figures of an arm that are averaged over seeds, by name.
fn measures(run: &SeedRun, arm: &str) -> Option<BTreeMap<String, f64>> {
    let arm = run.results.arms.get(arm)?;
    let (head, features) = (&arm.test.classification, &arm.test.embedding);
    let mut found = BTreeMap::from([
        ("top1".to_owned(), head.top1),
        ("top5".to_owned(), head.top5),
        ("ece".to_owned(), head.ece),
        ("nll".to_owned(), head.nll),
    ]);
    let optional = [
        ("knn_top1", features.knn_top1),
        ("precision_at_1", features.precision_at_1),
        ("map_at_r", features.map_at_r),
        ("alignment", features.alignment),
        ("uniformity", features.uniformity),
        ("effective_rank", features.effective_rank),
        (
            "corruption_error",
            arm.corruption.as_ref().map(|found| found.mean_error),
        ),
        (
            "top1_without_duplicates",
            arm.duplicates.as_ref().map(|found| found.top1),
        ),
    ];
    found.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?))),
    );
    found.extend(
        arm.probes
            .iter()
            .map(|(name, probe)| (format!("{name}_top1"), probe.top1)),
    );
    found.extend(
        arm.few_shot
            .iter()
            .map(|few| (format!("few_shot_{}_top1", few.shots), few.top1)),
    );
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64, one stream per resample.
    fn stream(resample: u64) -> impl FnMut() -> u64 {
        let mut state = resample.wrapping_mul(0xd1b5_4a32_d192_ed03);
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    fn lists(seeds: usize, right: impl Fn(usize, usize) -> bool) -> Vec<Vec<bool>> {
        (0..seeds)
            .map(|seed| (0..2000).map(|image| right(seed, image)).collect())
            .collect()
    }

    fn paired(first: &[Vec<bool>], second: &[Vec<bool>]) -> SeedsComparison {
        let slices = |lists: &[Vec<bool>]| -> Vec<Vec<bool>> { lists.to_vec() };
        let (first, second) = (slices(first), slices(second));
        let first: Vec<&[bool]> = first.iter().map(Vec::as_slice).collect();
        let second: Vec<&[bool]> = second.iter().map(Vec::as_slice).collect();
        SeedsComparison::paired(&first, &second, stream).unwrap()
    }

    #[test]
    fn one_seed_has_the_interval_of_a_paired_proportion() {
        // 300 images right only in the first, 100 only in the second, of 2000.
        let first = lists(1, |_, image| image < 300);
        let second = lists(1, |_, image| (300..400).contains(&image));
        let found = paired(&first, &second);
        assert_eq!(found.difference.values, [0.1]);
        assert_eq!(found.difference.deviation, None);
        // √((p + q − (p − q)²)/n) with p = 0.15, q = 0.05; the bootstrap's own noise is below a twentieth of it.
        let half = 1.96 * ((0.2f64 - 0.01) / 2000.0).sqrt();
        assert!((found.low - (0.1 - half)).abs() < 0.1 * half, "{found:?}");
        assert!((found.high - (0.1 + half)).abs() < 0.1 * half, "{found:?}");
        assert_eq!(found.verdict, Verdict::TooFewSeeds);
    }

    #[test]
    fn images_shared_by_all_seeds_do_not_average_out() {
        // Every seed finds the same images: ten seeds know no more of the images than one.
        let first = |seeds| lists(seeds, |_, image| image < 300);
        let second = |seeds| lists(seeds, |_, image| (300..400).contains(&image));
        let (one, ten) = (
            paired(&first(1), &second(1)),
            paired(&first(10), &second(10)),
        );
        let width = |found: &SeedsComparison| found.high - found.low;
        assert!(
            (width(&ten) / width(&one) - 1.0).abs() < 0.1,
            "{one:?} {ten:?}"
        );
        assert_eq!(ten.verdict, Verdict::Better);
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval_and_no_verdict_comes_of_four() {
        // Seed s is better by (s − 2) times 100 images.
        let first = |seeds| lists(seeds, |seed, image| image < 100 * (seed + 1));
        let second = |seeds| lists(seeds, |_, image| image < 300);
        let five = paired(&first(5), &second(5));
        assert!((five.difference.mean - 0.0).abs() < 1e-12);
        assert!((five.difference.deviation.unwrap() - 0.05 * 2.5f64.sqrt()).abs() < 1e-12);
        assert!(five.low < -0.04 && five.high > 0.04, "{five:?}");
        assert_eq!(five.verdict, Verdict::Undecided);
        let clear = |seeds| paired(&lists(seeds, |_, _| true), &second(seeds)).verdict;
        assert_eq!(
            (clear(4), clear(5)),
            (Verdict::TooFewSeeds, Verdict::Better)
        );
        let reverse = paired(&second(5), &lists(5, |_, _| true));
        assert_eq!(reverse.verdict, Verdict::Worse);
    }

    #[test]
    fn the_bits_do_not_depend_on_the_number_of_threads() {
        let first = lists(3, |seed, image| (image * 7 + seed) % 10 < 6);
        let second = lists(3, |seed, image| (image * 3 + seed) % 10 < 5);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| paired(&first, &second))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn uneven_lists_are_refused() {
        let (a, b) = ([true, false], [true]);
        let message = SeedsComparison::paired(&[&a[..]], &[&b[..]], stream)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("[2]") && message.contains("[1]"),
            "{message}"
        );
        assert!(SeedsSummary::of(&[], stream).is_err());
    }
}
