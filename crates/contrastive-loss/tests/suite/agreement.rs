//! Agreement with other libraries and papers' own code: values, gradients, miners' choices.

use candle_core::Tensor;
use contrastive_loss::{
    DistanceWeighted, Loss, TripletKind, Triplets, mine_hard, mine_multi_similarity, mine_triplets,
    normalize,
};

use crate::reference::{Fixture, measure};
use crate::support::assert_close;

#[test]
fn values_and_gradients_agree_in_f64_and_f32() {
    let measured = measure();
    let recorded = Fixture::read("pairs.safetensors").made_by["sources"]
        .as_object()
        .unwrap()
        .len();
    assert_eq!(
        measured.len(),
        recorded,
        "the script has cases that are not compared"
    );
    for (name, agreement) in measured {
        // f64: its rounding, some hundred operations deep, times the sharpness. f32: a cosine is off by some 1e-7, which the
        // formula multiplies by its sharpness.
        let mut tolerance = [2e-14, 6e-7].map(|rounding| rounding * agreement.sharpness.max(2.0));
        if name == "circle" {
            // PyTorch's softplus is x itself beyond x = 20: off by up to e⁻²⁰.
            tolerance[0] += (-20f64).exp();
        }
        for (dtype, tolerance) in tolerance.into_iter().enumerate() {
            assert!(
                agreement.value[dtype] <= tolerance && agreement.gradient[dtype] <= tolerance,
                "{name}: {agreement:?}, tolerance {tolerance:e}"
            );
        }
    }
}

#[test]
fn miners_choose_what_pytorch_metric_learnings_choose() {
    let fixture = Fixture::read("pairs.safetensors");
    let triplets = |tensor: &Tensor| -> Triplets {
        let rows = tensor.to_vec2::<u8>().unwrap();
        rows.iter()
            .map(|t| (t[0].into(), t[1].into(), t[2].into()))
            .collect()
    };
    let pairs = |tensor: &Tensor| -> Vec<(usize, usize)> {
        let rows = tensor.to_vec2::<u8>().unwrap();
        rows.iter().map(|t| (t[0].into(), t[1].into())).collect()
    };
    for seed in 0..3 {
        let z = normalize(fixture.get(seed, "x")).unwrap();
        let labels = fixture.get(seed, "labels");
        let expected = |name: &str| fixture.get(seed, &format!("miner.{name}"));
        assert_eq!(mine_hard(&z, labels).unwrap(), triplets(expected("hard")));
        for (name, kind) in [
            ("margin_all", TripletKind::All),
            ("margin_hard", TripletKind::Hard),
            ("margin_semihard", TripletKind::SemiHard),
        ] {
            let mined = mine_triplets(&z, labels, 0.3, kind).unwrap();
            assert!(!mined.is_empty());
            assert_eq!(mined, triplets(expected(name)), "{name}");
        }
        let mined = mine_multi_similarity(&z, labels, 0.1).unwrap();
        assert_eq!(
            mined.positives(),
            pairs(expected("multi_similarity_positives"))
        );
        assert_eq!(
            mined.negatives(),
            pairs(expected("multi_similarity_negatives"))
        );
        let weights = DistanceWeighted::default()
            .weights(&z, labels)
            .unwrap()
            .concat();
        let expected = expected("distance_weighted").flatten_all().unwrap();
        assert_close(&weights, &expected.to_vec1::<f64>().unwrap(), 1e-12);
    }
}

#[test]
fn the_readme_tables_every_loss_with_measured_agreement() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("<!-- agreement: ").unwrap();
    let (block, _) = rest.split_once("<!-- /agreement -->").unwrap();
    for name in Loss::names() {
        let row = block.lines().find(|row| {
            let cell = row.split('|').nth(1).unwrap_or_default();
            cell.split(',')
                .any(|item| item.trim() == format!("`{name}`"))
        });
        let row = row.unwrap_or_else(|| panic!("{name} is missing: run the example `agreement`"));
        assert!(row.matches("e-").count() >= 3, "{row}");
    }
}
