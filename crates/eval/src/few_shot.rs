//! Few-shot classification: what a handful of labelled images of each class are worth.
//!
//! From K training features of each class, drawn at random and scaled to length 1, the class's prototype is their mean,
//! `c_y = 1/K · Σ f_i/‖f_i‖` (Snell et al. 2017, equation 1, with the cosine as similarity, as in Chen et al. 2019); a test image is
//! of the class whose prototype has the largest cosine with it. Nothing is trained. The mean over many draws is told with their
//! sample standard deviation: with one shot a draw says little.

use crate::error::{Error, Result};
use crate::features::Features;
use crate::findings::FewShotRecord;
use crate::products::{largest, map_rows};

/// Top-1 on `test` from `shots` training features of each class, over `draws` draws; `random(d)` gives the numbers of draw `d`.
///
/// # Errors
/// If features are not sound or differ in width, a label is not below `classes`, a class has fewer than `shots` training features, or
/// `shots` or `draws` is 0.
pub fn few_shot<R: FnMut() -> u64>(
    train: &Features,
    test: &Features,
    classes: usize,
    shots: usize,
    draws: usize,
    random: impl Fn(u64) -> R,
) -> Result<FewShotRecord> {
    train.check()?;
    test.check()?;
    if train.dim != test.dim || shots == 0 || draws == 0 {
        return Err(Error::Invalid(format!(
            "few-shot: {shots} shots, {draws} draws, features of {} and {} numbers; use at least one of each, and features of one encoder",
            train.dim, test.dim
        )));
    }
    let mut by_class = vec![Vec::new(); classes];
    for (row, &label) in train.labels.iter().enumerate() {
        let Some(rows) = by_class.get_mut(label as usize) else {
            return Err(Error::Invalid(format!(
                "few-shot among {classes} classes met the label {label}; labels must be below the number of classes"
            )));
        };
        rows.push(row);
    }
    if let Some(class) = by_class.iter().position(|rows| rows.len() < shots) {
        return Err(Error::Invalid(format!(
            "few-shot: class {class} has {} training features, fewer than {shots} shots",
            by_class[class].len()
        )));
    }
    let queries = test.unit();
    let mut found = Vec::with_capacity(draws);
    for draw in 0..draws as u64 {
        let mut random = random(draw);
        let prototypes = prototypes(train, &by_class, shots, &mut random)?;
        let answers = map_rows(&queries, &prototypes, |_, cosines| {
            largest(cosines, 1, None)[0]
        })?;
        let right = answers.iter().zip(&test.labels).filter(|(a, b)| a == b);
        found.push(right.count() as f64 / test.len() as f64);
    }
    let mean = found.iter().sum::<f64>() / draws as f64;
    let squares: f64 = found.iter().map(|top1| (top1 - mean) * (top1 - mean)).sum();
    Ok(FewShotRecord {
        shots: shots as u64,
        draws: draws as u64,
        top1: mean,
        deviation: (draws > 1).then(|| (squares / (draws - 1) as f64).sqrt()),
    })
}

/// A mean of unit features for each class, of length 1 again: `[C, D]`.
fn prototypes(
    train: &Features,
    by_class: &[Vec<usize>],
    shots: usize,
    random: &mut impl FnMut() -> u64,
) -> Result<Features> {
    let mut values = Vec::with_capacity(by_class.len() * train.dim);
    for rows in by_class {
        let mut rows = rows.clone();
        let mut sum = vec![0f64; train.dim];
        for place in 0..shots {
            // The first steps of a Fisher–Yates shuffle: `shots` different rows.
            let left = (rows.len() - place) as u128;
            let other = place + ((u128::from(random()) * left) >> 64) as usize;
            rows.swap(place, other);
            let row = train.row(rows[place]);
            let length = row
                .iter()
                .map(|&x| f64::from(x).powi(2))
                .sum::<f64>()
                .sqrt();
            if length > 0.0 {
                (sum.iter_mut().zip(row)).for_each(|(sum, &x)| *sum += f64::from(x) / length);
            }
        }
        values.extend(sum.into_iter().map(|x| x as f32));
    }
    let labels = (0..by_class.len() as u32).collect();
    Ok(Features::new(train.dim, values, labels)?.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few numbers that look random.
    fn random(draw: u64) -> impl FnMut() -> u64 {
        let mut state = (draw + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        }
    }

    /// Classes around directions of their own in the plane, `spread` radians wide.
    fn plane(count: usize, classes: usize, spread: f64, seed: u64) -> Features {
        let mut random = random(seed + 77);
        let mut values = Vec::new();
        for row in 0..count {
            let noise = (random() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
            let angle =
                (row % classes) as f64 * std::f64::consts::TAU / classes as f64 + spread * noise;
            let length = 1.0 + 3.0 * (row % 7) as f64; // lengths say nothing
            values.extend([(length * angle.cos()) as f32, (length * angle.sin()) as f32]);
        }
        let labels = (0..count).map(|row| (row % classes) as u32).collect();
        Features::new(2, values, labels).unwrap()
    }

    #[test]
    fn more_shots_are_better_and_vary_less() {
        let (train, test) = (plane(600, 6, 2.0, 1), plane(300, 6, 2.0, 2));
        let found: Vec<FewShotRecord> = [1, 5, 50]
            .map(|shots| few_shot(&train, &test, 6, shots, 40, random).unwrap())
            .to_vec();
        assert!(
            found[0].top1 < found[1].top1 && found[1].top1 < found[2].top1,
            "{found:?}"
        );
        assert!(found[0].deviation > found[1].deviation && found[1].deviation > found[2].deviation);
        assert_eq!((found[1].shots, found[1].draws), (5, 40));
        assert_eq!(found[1], few_shot(&train, &test, 6, 5, 40, random).unwrap());
        let easy = few_shot(
            &plane(60, 6, 0.1, 3),
            &plane(60, 6, 0.1, 4),
            6,
            1,
            3,
            random,
        )
        .unwrap();
        assert_eq!((easy.top1, easy.deviation), (1.0, Some(0.0)));
    }

    #[test]
    fn with_every_image_as_a_shot_it_is_the_nearest_class_mean() {
        let (train, test) = (plane(60, 6, 3.0, 5), plane(90, 6, 3.0, 6));
        let unit = |row: &[f32]| {
            let length = f64::from(row[0]).hypot(f64::from(row[1]));
            [f64::from(row[0]) / length, f64::from(row[1]) / length]
        };
        let mut means = [[0f64; 2]; 6];
        for row in 0..train.len() {
            let [x, y] = unit(train.row(row));
            let mean = &mut means[train.labels[row] as usize];
            *mean = [mean[0] + x, mean[1] + y];
        }
        let right = (0..test.len()).filter(|&row| {
            let [x, y] = unit(test.row(row));
            let cosine = |m: &[f64; 2]| (m[0] * x + m[1] * y) / m[0].hypot(m[1]);
            let best = (0..6).max_by(|&a, &b| cosine(&means[a]).total_cmp(&cosine(&means[b])));
            best == Some(test.labels[row] as usize)
        });
        let expected = right.count() as f64 / 90.0;
        let found = few_shot(&train, &test, 6, 10, 2, random).unwrap();
        assert_eq!((found.top1, found.deviation), (expected, Some(0.0)));
        assert_eq!(
            few_shot(&train, &test, 6, 10, 1, random).unwrap().deviation,
            None
        );
    }

    #[test]
    fn too_many_shots_are_refused_by_class() {
        let (train, test) = (plane(13, 6, 0.1, 1), plane(6, 6, 0.1, 2));
        let message = |shots, classes| {
            let found = few_shot(&train, &test, classes, shots, 1, random);
            found.unwrap_err().to_string()
        };
        let text = message(3, 6);
        assert!(
            text.contains("class 1 has 2") && text.contains("3 shots"),
            "{text}"
        );
        assert!(message(1, 5).contains("label 5"));
        assert!(message(0, 6).contains("0 shots"));
    }
}
