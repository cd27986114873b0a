//! What each augmentation does to a whole image, and its published statistics.

use cifar_data::{
    Augmentation, Augmenter, ColorJitter, Flip, Normalization, Pad, PadCrop, Policy,
    RandomResizedCrop, Sample, Scaling, Workspace, stream,
};

const SIDE: usize = 32;

fn augmenter(what: Augmentation) -> Augmenter {
    Augmenter::new(what, SIDE, SIDE, &Normalization::IDENTITY, 11).unwrap()
}

/// `count` draws of `what` on `image`.
fn draws(what: Augmentation, image: &[u8], count: usize, mut look: impl FnMut(&[f32])) {
    let augmenter = augmenter(what);
    let (mut work, mut out) = (Workspace::default(), vec![0.0; image.len()]);
    for draw in 0..count {
        let mut rng = stream(5, "test", &[draw as u64]);
        augmenter.apply(image, &mut out, Sample::default(), &mut rng, &mut work);
        look(&out);
    }
}

/// Column in the red channel, row in the green one.
fn coordinates() -> Vec<u8> {
    (0..SIDE * SIDE)
        .flat_map(|at| [(at % SIDE * 8) as u8, (at / SIDE * 8) as u8, 128])
        .collect()
}

fn red(out: &[f32], y: usize, x: usize) -> f32 {
    out[(y * SIDE + x) * 3] * 255.0 / 8.0
}

fn green(out: &[f32], y: usize, x: usize) -> f32 {
    out[(y * SIDE + x) * 3 + 1] * 255.0 / 8.0
}

#[test]
fn without_a_policy_pixels_are_normalised_and_nothing_else() {
    let image: Vec<u8> = (0..SIDE * SIDE * 3)
        .map(|at| (at * 7 % 256) as u8)
        .collect();
    let normalization = Normalization {
        mean: [0.5, 0.4, 0.3],
        std: [0.2, 0.25, 0.5],
    };
    let mut out = vec![0.0; image.len()];
    let short = Augmenter::new(Policy::None.augmentation(), SIDE, SIDE, &normalization, 0).unwrap();
    short.apply(
        &image,
        &mut out,
        Sample::default(),
        &mut stream(0, "", &[]),
        &mut Workspace::default(),
    );
    for (at, (&got, &value)) in out.iter().zip(&image).enumerate() {
        let expected =
            (f32::from(value) / 255.0 - normalization.mean[at % 3]) / normalization.std[at % 3];
        assert!((got - expected).abs() < 1e-5);
    }
    // The long way round (a shift by nothing) gives the same.
    let still = Augmentation {
        pad_crop: Some(PadCrop {
            pad: 0,
            mode: Pad::Zero,
        }),
        ..Augmentation::default()
    };
    let long = Augmenter::new(still, SIDE, SIDE, &normalization, 0).unwrap();
    let mut again = vec![0.0; image.len()];
    long.apply(
        &image,
        &mut again,
        Sample::default(),
        &mut stream(0, "", &[]),
        &mut Workspace::default(),
    );
    assert!(out.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn half_of_the_images_are_mirrored_left_to_right() {
    let image = coordinates();
    let mut mirrored = 0;
    let what = Augmentation {
        flip: Flip::Random,
        ..Augmentation::default()
    };
    draws(what, &image, 4_000, |out| {
        let first = red(out, 3, 0).round() as usize;
        assert!(first == 0 || first == 31);
        assert_eq!(
            red(out, 3, 5).round() as usize,
            if first == 0 { 5 } else { 26 }
        );
        assert_eq!(green(out, 3, 5).round() as usize, 3, "rows stay");
        mirrored += usize::from(first == 31);
    });
    assert!((1_870..2_130).contains(&mirrored), "{mirrored}");
}

#[test]
fn the_alternating_flip_alternates() {
    let image = coordinates();
    let augmenter = augmenter(Augmentation {
        flip: Flip::Alternating,
        ..Augmentation::default()
    });
    let (mut work, mut out) = (Workspace::default(), vec![0.0; image.len()]);
    let mut mirrored = |index, epoch, view| {
        augmenter.apply(
            &image,
            &mut out,
            Sample { index, epoch, view },
            &mut stream(0, "", &[]),
            &mut work,
        );
        red(&out, 0, 0) > 1.0
    };
    let mut first = 0;
    for index in 0..2_000 {
        let start = mirrored(index, 0, 0);
        first += usize::from(start);
        assert_eq!(mirrored(index, 1, 0), !start);
        assert_eq!(mirrored(index, 2, 0), start);
        assert_eq!(mirrored(index, 0, 1), !start);
    }
    assert!((900..1_100).contains(&first), "{first}");
}

#[test]
fn shifts_are_uniform_and_zeros_come_from_outside() {
    let image = coordinates();
    let mut counts = [0usize; 9];
    let what = Augmentation {
        pad_crop: Some(PadCrop {
            pad: 4,
            mode: Pad::Reflect,
        }),
        ..Augmentation::default()
    };
    draws(what, &image, 9_000, |out| {
        let (dx, dy) = (
            red(out, 16, 16).round() as i32 - 16,
            green(out, 16, 16).round() as i32 - 16,
        );
        assert!(dx.abs() <= 4 && dy.abs() <= 4);
        counts[(dx + 4) as usize] += 1;
    });
    assert!(
        counts.iter().all(|&count| (860..1_140).contains(&count)),
        "{counts:?}"
    );
    let what = Augmentation {
        pad_crop: Some(PadCrop {
            pad: 4,
            mode: Pad::Zero,
        }),
        ..Augmentation::default()
    };
    let mut outside = 0;
    draws(what, &vec![255; SIDE * SIDE * 3], 2_000, |out| {
        outside += out.iter().filter(|&&v| v == 0.0).count() / 3
    });
    // E|d| = 20/9 for each axis: 1 − (1 − 20/9/32)² of the area.
    let share = outside as f64 / 2_000.0 / 1_024.0;
    assert!((share - 0.134).abs() < 0.01, "{share}");
}

#[test]
fn resized_crops_follow_torchvisions_distribution() {
    let image = coordinates();
    for scale in [[0.2f32, 1.0], [0.08, 1.0]] {
        let crop = RandomResizedCrop {
            scale,
            ratio: [0.75, 4.0 / 3.0],
        };
        let what = Augmentation {
            random_resized_crop: Some(crop),
            ..Augmentation::default()
        };
        let (mut areas, mut ratios, mut lefts) = (Vec::new(), Vec::new(), Vec::new());
        draws(what, &image, 4_000, |out| {
            // The slope in the middle of the crop tells its size, the corner its place.
            let width = (red(out, 16, 20) - red(out, 16, 12)) / 8.0 * 32.0;
            let height = (green(out, 20, 16) - green(out, 12, 16)) / 8.0 * 32.0;
            let left = red(out, 16, 0);
            assert!(left > -0.01 && left + width < 32.6, "{left} {width}");
            areas.push(f64::from(width * height / 1_024.0));
            ratios.push(f64::from(width / height).ln());
            lefts.push(f64::from(left) / f64::from(32.0 - width).max(1.0));
        });
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        // torchvision 0.29.2, 60,000 draws of get_params on 32×32: mean area 0.5506 for scale (0.2, 1), 0.4896 for (0.08, 1).
        let expected = if scale[0] == 0.2 { 0.5506 } else { 0.4896 };
        assert!((mean(&areas) - expected).abs() < 0.012, "{}", mean(&areas));
        assert!(
            areas
                .iter()
                .all(|&area| area > f64::from(scale[0]) * 0.8 && area < 1.02)
        );
        assert!(mean(&ratios).abs() < 0.012, "{}", mean(&ratios));
        assert!(ratios.iter().all(|ratio| ratio.abs() < 0.29 + 0.12));
        assert!((mean(&lefts) - 0.5).abs() < 0.05, "{}", mean(&lefts));
    }
}

#[test]
fn rotation_and_scaling_stay_in_their_ranges_and_keep_the_centre() {
    let image = coordinates();
    let mut angles = Vec::new();
    draws(
        Augmentation {
            rotation: 0.02,
            ..Augmentation::default()
        },
        &image,
        2_000,
        |out| {
            let dx = red(out, 16, 20) - red(out, 16, 12);
            let dy = green(out, 16, 20) - green(out, 16, 12);
            angles.push(f64::from(dy.atan2(dx)) / std::f64::consts::TAU);
            assert!((red(out, 16, 16) + red(out, 15, 15) - 31.0).abs() < 0.05);
        },
    );
    let spread = (angles.iter().map(|a| a * a).sum::<f64>() / angles.len() as f64).sqrt();
    assert!(angles.iter().all(|a| a.abs() < 0.0205));
    assert!((spread - 0.02 / 3f64.sqrt()).abs() < 0.001, "{spread}");

    let what = Augmentation {
        scaling: Some(Scaling {
            width: 0.2,
            height: 0.1,
        }),
        ..Augmentation::default()
    };
    let (mut widest, mut tallest) = (0f32, 0f32);
    draws(what, &image, 2_000, |out| {
        let across = 8.0 / (red(out, 16, 20) - red(out, 16, 12));
        let down = 8.0 / (green(out, 20, 16) - green(out, 12, 16));
        assert!(
            (0.795..1.205).contains(&across) && (0.895..1.105).contains(&down),
            "{across} {down}"
        );
        widest = widest.max(across);
        tallest = tallest.max(down);
    });
    assert!(widest > 1.19 && tallest > 1.09);
}

#[test]
fn colours_change_as_often_and_as_much_as_they_should() {
    // One mid-colour everywhere: contrast and saturation act on it in a known way.
    let image: Vec<u8> = [140u8, 120, 100].repeat(SIDE * SIDE);
    let jitter = ColorJitter {
        brightness: 0.4,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        probability: 0.8,
    };
    let what = Augmentation {
        jitter: Some(jitter),
        ..Augmentation::default()
    };
    let (mut changed, mut factors) = (0, Vec::new());
    draws(what, &image, 4_000, |out| {
        let factor = f64::from(out[0]) / (140.0 / 255.0);
        if (factor - 1.0).abs() > 1e-6 {
            changed += 1;
            factors.push(factor);
        }
    });
    assert!((3_120..3_280).contains(&changed), "{changed}");
    let mean = factors.iter().sum::<f64>() / factors.len() as f64;
    assert!(
        (mean - 1.0).abs() < 0.015 && factors.iter().all(|f| (0.599..1.401).contains(f)),
        "{mean}"
    );

    let mut grey = 0;
    draws(
        Augmentation {
            grey: 0.2,
            ..Augmentation::default()
        },
        &image,
        4_000,
        |out| {
            let is_grey = out[0] == out[1] && out[1] == out[2];
            grey += usize::from(is_grey);
            assert!(
                !is_grey
                    || (out[0] - (0.2989 * 140.0 + 0.587 * 120.0 + 0.114 * 100.0) / 255.0).abs()
                        < 1e-5
            );
        },
    );
    assert!((720..880).contains(&grey), "{grey}");

    for policy in [Policy::SupCon, Policy::SimClr] {
        let mut grey = 0;
        draws(policy.augmentation(), &image, 2_000, |out| {
            assert!(out.iter().all(|v| (0.0..=1.0).contains(v)));
            grey += usize::from(out[0] == out[1] && out[1] == out[2]);
        });
        assert!((340..460).contains(&grey), "{policy}: {grey}");
    }
}

#[test]
fn cutout_covers_a_square_of_the_mean_colour() {
    let image = vec![255; SIDE * SIDE * 3];
    let mut covered = Vec::new();
    draws(
        Augmentation {
            cutout: 8,
            ..Augmentation::default()
        },
        &image,
        2_000,
        |out| {
            covered.push(
                out.as_chunks::<3>()
                    .0
                    .iter()
                    .filter(|pixel| **pixel == [0.0; 3])
                    .count(),
            );
        },
    );
    assert_eq!(*covered.iter().max().unwrap(), 64);
    assert!(*covered.iter().min().unwrap() >= 16);
    let whole = covered.iter().filter(|&&count| count == 64).count();
    // The centre is at least 4 from the edge on both sides: (25/32)².
    assert!((1_130..1_310).contains(&whole), "{whole}");
}

#[test]
fn odd_and_tiny_images_pass_through_every_policy() {
    for (height, width) in [(5, 7), (33, 9), (6, 64)] {
        let image: Vec<u8> = (0..height * width * 3)
            .map(|at| (at * 31 % 256) as u8)
            .collect();
        for policy in Policy::ALL {
            let mut what = policy.augmentation();
            what.cutout = 3;
            what.scaling = Some(Scaling {
                width: 0.5,
                height: 0.5,
            });
            let augmenter =
                Augmenter::new(what, height, width, &Normalization::IDENTITY, 0).unwrap();
            let mut out = vec![f32::NAN; image.len()];
            for draw in 0..50 {
                let mut rng = stream(1, "odd", &[draw]);
                augmenter.apply(
                    &image,
                    &mut out,
                    Sample::default(),
                    &mut rng,
                    &mut Workspace::default(),
                );
                assert!(out.iter().all(|value| (-1e-6..=1.000_001).contains(value)));
            }
        }
    }
}
