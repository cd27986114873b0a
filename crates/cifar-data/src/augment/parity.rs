//! Each operation against torchvision and Keras (`tests/fixtures/augment.py`).

use std::collections::BTreeMap;

use super::colour::Planes;
use super::config::Pad;
use super::geometry::{Crop, Tap, affine, resize_crop, shift};

const SIDE: usize = 8;
const SIZE: (usize, usize) = (SIDE, SIDE);

#[derive(serde::Deserialize)]
struct Fixture {
    image: Vec<u8>,
    cases: BTreeMap<String, Vec<f32>>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../tests/fixtures/augment.json")).unwrap()
}

/// `[H, W, 3]` u8 → `[3, H, W]` in 0..1.
fn planes(image: &[u8]) -> Vec<f32> {
    (0..3)
        .flat_map(|channel| {
            image
                .iter()
                .skip(channel)
                .step_by(3)
                .map(|&value| f32::from(value) / 255.0)
        })
        .collect()
}

fn run(name: &str, planes: &[f32]) -> Vec<f32> {
    let mut words = name.split(' ');
    let operation = words.next().unwrap();
    let n: Vec<f32> = words.map(|word| word.parse().unwrap()).collect();
    let whole = |i: usize| n[i] as usize;
    let mut now = planes.to_vec();
    let mut out = vec![f32::NAN; planes.len()];
    match operation {
        "brightness" => Planes::new(&mut now).brightness(n[0]),
        "contrast" => Planes::new(&mut now).contrast(n[0]),
        "saturation" => Planes::new(&mut now).saturation(n[0]),
        "hue" => Planes::new(&mut now).hue(n[0]),
        "grey" => Planes::new(&mut now).grey(),
        "crop" => {
            let crop = Crop {
                top: whole(0),
                left: whole(1),
                height: whole(2),
                width: whole(3),
            };
            let mut taps = vec![Tap::default(); 2 * SIDE];
            resize_crop(
                planes,
                &mut out,
                SIZE,
                crop,
                &mut [0.0; SIDE * SIDE],
                &mut taps,
            );
            return out;
        }
        "reflect" | "zero" => {
            let mode = if operation == "zero" {
                Pad::Zero
            } else {
                Pad::Reflect
            };
            shift(planes, &mut out, SIZE, (n[0] as isize, n[1] as isize), mode);
            return out;
        }
        "affine" => {
            affine(planes, &mut out, SIZE, n[0], (n[1], n[2]));
            return out;
        }
        other => panic!("no operation {other}"),
    }
    now
}

#[test]
fn every_operation_agrees_with_torchvision_and_keras() {
    let fixture = fixture();
    let input = planes(&fixture.image);
    assert!(fixture.cases.len() >= 20);
    for (name, expected) in &fixture.cases {
        let got = run(name, &input);
        assert_eq!(got.len(), expected.len());
        for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() < 2e-5,
                "{name}, element {at}: {got} instead of {expected}"
            );
        }
    }
}

#[test]
fn hue_turns_red_to_green_to_blue_and_leaves_grey_alone() {
    let mut pixels = [1.0, 0.3, 0.0, 0.3, 0.0, 0.3];
    Planes::new(&mut pixels).hue(1.0 / 3.0);
    let expected = [0.0, 0.3, 1.0, 0.3, 0.0, 0.3];
    assert!(
        pixels
            .iter()
            .zip(expected)
            .all(|(got, expected)| (got - expected).abs() < 1e-6),
        "{pixels:?}"
    );
}
