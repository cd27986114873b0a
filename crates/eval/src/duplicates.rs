//! Test images that repeat a training image, found on pixels and through features.
//!
//! A test image counts as one if some training image, as it is or mirrored, moved by at most [`DuplicatesConfig::shift`] pixels, is like it
//! in two ways over the pixels that both cover:
//! - as a whole: `r = Σ (a − ā)(b − b̄) / √(Σ (a − ā)² · Σ (b − b̄)²)` over pixels and channels, with one mean per channel, is at least
//!   [`DuplicatesConfig::correlation`]: brightness and contrast do not matter;
//! - in its details: the same of their gradients (differences to the right and downwards, with means of their own), `d`, is at least [`DuplicatesConfig::detail`].
//!   Without it, every ship between grey sea and grey sky repeats every other one.
//!
//! Comparing every pair at full size is too much, so candidates come first, the best few of each test image:
//! - by pixels: correlation of both images shrunk to 8×8 (a mean over areas), plain and mirrored;
//! - by features: cosine of the features, if features are given. They find what was cropped or moved and looks different when
//!   shrunk. Features alone never decide: training pulls different images of a class together.
//!
//! Measured on CIFAR-10 (a JPEG mirror), candidates by pixels, against the list that Barz & Denzler (2020, "Do We Train on Test Data?")
//! made by hand among neighbours in a network's features: 286 of 10,000 test images, 249 from the shot of a training image and 37 very
//! similar ones. Found: 354, with 178 of the 249 and 12 of the 37; of the others 35 are mirrored, which their search did not look for.
//! By eye, of the 72 found ones that are not on the list and have the smallest d (0.60 to 0.70) about four in five are repeats, above
//! that nearly all; of the 72 pairs just below the threshold (0.54 to 0.60) about half. By `r ≥ 0.92` alone it were 313, with 140
//! of the 249, and many a sea. What is missed was scaled or cropped by more than the shift: features lead to some of these.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::features::Features;
use crate::findings::DuplicatePair;
use crate::photographs::Photographs;
use crate::products::{largest, map_rows};

/// Options of [`near_duplicates`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DuplicatesConfig {
    /// The correlation at full size from which on a pair may be one.
    pub correlation: f64,
    /// The correlation of gradients at the same place from which on it is one.
    pub detail: f64,
    /// Pixels by which an image may be moved.
    pub shift: usize,
    /// Candidates of each test image, from each of the three searches (plain, mirrored, features).
    pub candidates: usize,
    /// The correlation of the shrunk images below which a pair is no candidate.
    pub small_correlation: f64,
    /// The cosine of features below which a pair is no candidate.
    pub cosine: f64,
}

impl Default for DuplicatesConfig {
    /// Where, on CIFAR-10, most of what is found are repeats to the eye: see the module's figures.
    fn default() -> Self {
        Self {
            correlation: 0.85,
            detail: 0.6,
            shift: 2,
            candidates: 5,
            small_correlation: 0.8,
            cosine: 0.8,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NearDuplicates {
    /// The best pair of each test image that pixels led to, in the order of the test images.
    pub by_pixels: Vec<DuplicatePair>,
    /// The best pair of each further test image that features led to.
    pub by_features: Vec<DuplicatePair>,
}

/// Finds the near-duplicates among test images. `features` are those of the test and of the training images.
///
/// # Errors
/// If sizes differ, bytes or features are missing, or a threshold is not a number of −1 to 1.
pub fn near_duplicates(
    test: &Photographs,
    train: &Photographs,
    features: Option<(&Features, &Features)>,
    config: &DuplicatesConfig,
) -> Result<NearDuplicates> {
    let (tests, trains) = (test.count()?, train.count()?);
    if (test.height, test.width) != (train.height, train.width) {
        return Err(Error::Invalid(format!(
            "near-duplicates need images of one size, got {}×{} for testing and {}×{} for training",
            test.height, test.width, train.height, train.width
        )));
    }
    for (name, value) in [
        ("correlation", config.correlation),
        ("detail", config.detail),
        ("small_correlation", config.small_correlation),
        ("cosine", config.cosine),
    ] {
        if !(-1.0..=1.0).contains(&value) {
            return Err(Error::Invalid(format!(
                "{name} of near-duplicates is {value}; use -1 to 1"
            )));
        }
    }
    let small = train.shrunk(false)?;
    let mut pixel_pairs: Vec<Vec<usize>> = vec![Vec::new(); tests];
    for mirrored in [false, true] {
        let found = nearest(
            &test.shrunk(mirrored)?,
            &small,
            config.candidates,
            config.small_correlation,
        )?;
        pixel_pairs
            .iter_mut()
            .zip(found)
            .for_each(|(all, more)| all.extend(more));
    }
    let by_pixels = confirmed(test, train, &pixel_pairs, config);
    let mut by_features = Vec::new();
    if let Some((of_test, of_train)) = features {
        if (of_test.len(), of_train.len()) != (tests, trains) {
            return Err(Error::Invalid(format!(
                "near-duplicates got {} and {} features for {tests} test and {trains} training images",
                of_test.len(),
                of_train.len()
            )));
        }
        let mut pairs = nearest(
            &of_test.unit(),
            &of_train.unit(),
            config.candidates,
            config.cosine,
        )?;
        for known in &by_pixels {
            pairs[known.test as usize].clear();
        }
        by_features = confirmed(test, train, &pairs, config);
    }
    Ok(NearDuplicates {
        by_pixels,
        by_features,
    })
}

/// The rows of `bank` with the largest products, from `least` on.
fn nearest(
    queries: &Features,
    bank: &Features,
    count: usize,
    least: f64,
) -> Result<Vec<Vec<usize>>> {
    map_rows(queries, bank, |_, products| {
        largest(products, count, None)
            .into_iter()
            .map(|index| index as usize)
            .filter(|&index| f64::from(products[index]) >= least)
            .collect()
    })
}

/// The best candidate of each test image, where it passes at full size.
fn confirmed(
    test: &Photographs,
    train: &Photographs,
    candidates: &[Vec<usize>],
    config: &DuplicatesConfig,
) -> Vec<DuplicatePair> {
    let best = |(index, candidates): (usize, &Vec<usize>)| {
        let mut best: Option<DuplicatePair> = None;
        for &other in candidates {
            for flipped in [false, true] {
                let found = test.likeness((index, train, other, flipped), config);
                if let Some((correlation, detail)) = found
                    && best.is_none_or(|best| detail > best.detail)
                {
                    best = Some(DuplicatePair {
                        test: index as u64,
                        train: other as u64,
                        correlation,
                        detail,
                        flipped,
                    });
                }
            }
        }
        best
    };
    candidates.par_iter().enumerate().filter_map(best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 32;

    /// Smooth pictures with some detail, all different.
    fn pictures(count: usize, seed: u64) -> Vec<Vec<u8>> {
        (0..count as u64)
            .map(|index| {
                let mut state = (seed << 32) + index * 7919 + 1;
                let mut draw = || {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f64 / (1u64 << 24) as f64
                };
                let waves: Vec<[f64; 6]> = (0..12)
                    .map(|_| {
                        [
                            draw() * 0.7 - 0.35,
                            draw() * 0.7 - 0.35,
                            draw() * 6.3,
                            draw(),
                            draw(),
                            draw(),
                        ]
                    })
                    .collect();
                let mut picture = Vec::new();
                for y in 0..SIDE {
                    for x in 0..SIDE {
                        for channel in 0..3 {
                            let sum: f64 = waves
                                .iter()
                                .map(|w| {
                                    w[3 + channel]
                                        * (w[0] * x as f64 + w[1] * y as f64 + w[2]).sin()
                                })
                                .sum();
                            picture.push((128.0 + 22.0 * sum).clamp(0.0, 255.0) as u8);
                        }
                    }
                }
                picture
            })
            .collect()
    }

    fn found(
        test: &[Vec<u8>],
        train: &[Vec<u8>],
        features: Option<(&Features, &Features)>,
    ) -> NearDuplicates {
        found_with(test, train, features, &DuplicatesConfig::default())
    }

    fn found_with(
        test: &[Vec<u8>],
        train: &[Vec<u8>],
        features: Option<(&Features, &Features)>,
        config: &DuplicatesConfig,
    ) -> NearDuplicates {
        let (test, train) = (test.concat(), train.concat());
        let photographs = |pixels| Photographs {
            height: SIDE,
            width: SIDE,
            pixels,
        };
        near_duplicates(&photographs(&test), &photographs(&train), features, config).unwrap()
    }

    fn changed(picture: &[u8], change: impl Fn(usize, usize, usize) -> f64) -> Vec<u8> {
        (0..picture.len())
            .map(|i| {
                change(i / 3 / SIDE, i / 3 % SIDE, i % 3)
                    .round()
                    .clamp(0.0, 255.0) as u8
            })
            .collect()
    }

    #[test]
    fn planted_duplicates_are_found_and_nothing_else() {
        let train = pictures(300, 1);
        let mut test = pictures(40, 2);
        let at = |index: usize| {
            let picture = train[index].clone();
            move |y: usize, x: usize, c: usize| f64::from(picture[(y * SIDE + x) * 3 + c])
        };
        let (b, c, d, e) = (at(50), at(77), at(120), at(299));
        test[3] = train[5].clone();
        test[7] = changed(&test[7], |y, x, ch| 40.0 + 0.7 * b(y, x, ch)); // light and contrast
        test[11] = changed(&test[11], |y, x, ch| c(y, SIDE - 1 - x, ch)); // mirrored
        test[19] = changed(&test[19], |y, x, ch| {
            d((y + 2).min(SIDE - 1), x.saturating_sub(1), ch)
        }); // moved
        test[23] = changed(&test[23], |y, x, ch| {
            e(y, x, ch) + ((y * 31 + x * 17 + ch * 7) % 9) as f64 - 4.0
        }); // noise, as compression leaves it
        let found = found(&test, &train, None);
        let pairs: Vec<(u64, u64, bool)> = found
            .by_pixels
            .iter()
            .map(|p| (p.test, p.train, p.flipped))
            .collect();
        assert_eq!(
            pairs,
            [
                (3, 5, false),
                (7, 50, false),
                (11, 77, true),
                (19, 120, false),
                (23, 299, false)
            ]
        );
        let first = &found.by_pixels[0];
        assert!((first.correlation - 1.0).abs() < 1e-12 && (first.detail - 1.0).abs() < 1e-12);
        assert!(found.by_features.is_empty());
    }

    #[test]
    fn scenes_of_one_light_are_no_repeats() {
        // The same gradient from sky to sea, with other details: alike as a whole, but not in detail.
        let scenes = |seed: u64| -> Vec<Vec<u8>> {
            let detailed = pictures(8, seed);
            let scene = |picture: &Vec<u8>| {
                changed(picture, |y, x, ch| {
                    let own = f64::from(picture[(y * SIDE + x) * 3 + ch]) - 128.0;
                    40.0 + 5.0 * y as f64 + 0.3 * own
                })
            };
            detailed.iter().map(scene).collect()
        };
        let (test, train) = (scenes(6), scenes(7));
        assert!(found(&test, &train, None).by_pixels.is_empty());
        let coarse = DuplicatesConfig {
            detail: -1.0,
            ..DuplicatesConfig::default()
        };
        let alike = found_with(&test, &train, None, &coarse).by_pixels;
        assert_eq!(alike.len(), 8, "without details each would repeat one");
    }

    #[test]
    fn features_lead_to_a_pair_but_do_not_decide() {
        // Fine stripes: a shift of two pixels turns the shrunk pictures into something else.
        let stripes = |phase: usize| -> Vec<u8> {
            (0..SIDE * SIDE * 3)
                .map(|i| {
                    let (y, x) = (i / 3 / SIDE, i / 3 % SIDE);
                    let far =
                        (y * y * 3 + (x + phase) * (x + phase) * 5 + 11 * y * (x + phase)) % 97;
                    (far * 2) as u8
                })
                .collect()
        };
        let mut train = pictures(50, 4);
        train[9] = stripes(0);
        let mut test = pictures(10, 5);
        test[6] = stripes(2);
        assert!(found(&test, &train, None).by_pixels.is_empty());
        // Test image 6 lies beside training image 9, and test image 1 beside a training image that it does not resemble.
        let row = |index: usize| {
            let angle = index as f32;
            [angle.cos(), angle.sin()]
        };
        let table = |rows: &[usize]| {
            let values = rows.iter().flat_map(|&index| row(index)).collect();
            Features::new(2, values, vec![0; rows.len()]).unwrap()
        };
        let of_train = table(&(0..50).collect::<Vec<_>>());
        let of_test = table(&[0, 20, 2, 3, 4, 5, 9, 7, 8, 9]);
        let found = found(&test, &train, Some((&of_test, &of_train)));
        assert!(found.by_pixels.is_empty());
        let pairs: Vec<(u64, u64)> = found
            .by_features
            .iter()
            .map(|p| (p.test, p.train))
            .collect();
        assert_eq!(pairs, [(6, 9)]);
    }

    #[test]
    fn wrong_sizes_are_named() {
        let pixels = vec![0; 48];
        let photographs = |height, width| Photographs {
            height,
            width,
            pixels: &pixels,
        };
        let text = near_duplicates(
            &photographs(4, 4),
            &photographs(2, 8),
            None,
            &DuplicatesConfig::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(text.contains("4×4") && text.contains("2×8"), "{text}");
        let text = near_duplicates(
            &photographs(5, 4),
            &photographs(5, 4),
            None,
            &DuplicatesConfig::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(text.contains("48"), "{text}");
    }
}
