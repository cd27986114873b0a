//! Rows and batches in which nothing can be computed, and input that is refused, over the catalogue.

use crate::catalogue::all;
use crate::support::{mean_and_gradient, noise, tensor};
use candle_core::{DType, Device, Tensor};
use contrastive_loss::*;

#[test]
fn rows_without_pairs_follow_their_policy() {
    let x = tensor(&noise(5, 5, 3), 3, DType::F64);
    let y = [0, 0, 1, 1, 2];
    let count = |loss: Loss| {
        let out = loss.forward(&x, &y, 1).unwrap();
        assert_eq!((out.without_positives, out.without_negatives), (1, 0));
        (out.undefined(), out.divisor)
    };
    assert_eq!(count(Circle::default().into()), (1, 4));
    assert_eq!(
        count(
            Nca {
                undefined_rows: UndefinedRows::CountAsZero,
                ..Nca::default()
            }
            .into()
        ),
        (1, 5)
    );
    // A lonely row still repels.
    assert_eq!(count(MultiSimilarity::default().into()), (0, 5));
    assert_eq!(count(SupConWeighted::default().into()), (1, 4));
    let strict: [Loss; 4] = [
        Circle {
            undefined_rows: UndefinedRows::Error,
            ..Circle::default()
        }
        .into(),
        Triplet {
            undefined_rows: UndefinedRows::Error,
            ..Triplet::default()
        }
        .into(),
        LiftedStructure {
            undefined_rows: UndefinedRows::Error,
            ..LiftedStructure::default()
        }
        .into(),
        SupConWeighted {
            undefined_rows: UndefinedRows::Error,
            ..SupConWeighted::default()
        }
        .into(),
    ];
    for loss in strict {
        let error = loss.forward(&x, &y, 1).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Undefined {
                    rows: 1,
                    of: 5,
                    first: 4,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn without_any_pair_the_mean_is_zero_with_zero_gradient() {
    let x = tensor(&noise(6, 4, 3), 3, DType::F32);
    for loss in all() {
        // Every row alone, and every row of one label: no triplet either way.
        if matches!(
            loss,
            Loss::Pairwise(
                Pairwise::Triplet(_)
                    | Pairwise::LiftedStructure(_)
                    | Pairwise::GeneralizedLifted(_)
                    | Pairwise::Circle(_)
            )
        ) {
            for y in [[0, 1, 2, 3], [7, 7, 7, 7]] {
                let (mean, gradient) = mean_and_gradient(&x, |x| loss.forward(x, &y, 1).unwrap());
                assert_eq!(mean, 0.0, "{loss:?}");
                assert!(gradient.iter().all(|&g| g == 0.0), "{loss:?}");
            }
        }
    }
}

#[test]
fn wrong_input_is_named() {
    let x = tensor(&noise(1, 4, 3), 3, DType::F32);
    let message = |loss: Loss, y: &[u32], views: usize, parameters: &[Tensor]| {
        loss.forward_with(&x, y, views, parameters)
            .unwrap_err()
            .to_string()
    };
    let arcface: Loss = "arcface".parse().unwrap();
    let text = message(arcface.clone(), &[0, 0, 1, 1], 1, &[]);
    assert!(
        text.contains("arcface") && text.contains("proxies") && text.contains("Loss::parameters"),
        "{text}"
    );
    let proxies = tensor(&noise(2, 2, 3), 3, DType::F32);
    let text = message(
        arcface.clone(),
        &[0, 0, 1, 2],
        1,
        std::slice::from_ref(&proxies),
    );
    assert!(
        text.contains("label 2 of row 3") && text.contains("2 classes"),
        "{text}"
    );
    let narrow = tensor(&noise(2, 2, 2), 2, DType::F32);
    let text = message(arcface, &[0, 0, 1, 1], 1, &[narrow]);
    assert!(text.contains("[4, 3]") && text.contains("[2, 2]"), "{text}");
    for loss in ["info_nce", "sigmoid", "barlow_twins", "vicreg"] {
        let text = message(loss.parse().unwrap(), &[0, 0, 1, 1], 1, &[]);
        assert!(text.contains("exactly two views"), "{text}");
    }
    let one = |loss: Loss| loss.check().unwrap_err().to_string();
    assert!(
        one(Circle {
            gamma: 0.0,
            ..Circle::default()
        }
        .into())
        .contains("`gamma`")
    );
    assert!(
        one(ArcFace {
            margin: 28.6,
            ..ArcFace::default()
        }
        .into())
        .contains("`margin`")
    );
    assert!(
        one(SubCenterArcFace {
            sub_centers: 0,
            ..SubCenterArcFace::default()
        }
        .into())
        .contains("`sub_centers`")
    );
    assert!(
        one(SupConWeighted {
            balance: Balance::EffectiveNumber(1.0),
            ..SupConWeighted::default()
        }
        .into())
        .contains("effective_number")
    );
    assert!(
        one(VicReg {
            eps: 0.0,
            ..VicReg::default()
        }
        .into())
        .contains("`eps`")
    );
    let queue = Tensor::zeros((3, 3), DType::F32, &Device::Cpu).unwrap();
    let moco = InfoNce {
        in_batch: false,
        ..InfoNce::default()
    };
    assert!(
        info_nce(&x, &x, None, &moco)
            .unwrap_err()
            .to_string()
            .contains("nothing would repel")
    );
    let both = InfoNce {
        symmetric: true,
        ..InfoNce::default()
    };
    assert!(matches!(
        info_nce(&x, &x, Some(&queue), &both),
        Err(Error::Conflict { .. })
    ));
    assert!(
        vicreg(
            &x.narrow(0, 0, 1).unwrap(),
            &x.narrow(0, 0, 1).unwrap(),
            &VicReg::default()
        )
        .is_err()
    );
    let mut broken = || 1.0;
    let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu).unwrap();
    let z = normalize(&tensor(&noise(3, 4, 3), 3, DType::F32)).unwrap();
    let config = DistanceWeighted {
        nonzero_loss_cutoff: 2.0,
        ..DistanceWeighted::default()
    };
    assert!(mine_distance_weighted(&z, &labels, &config, &mut broken).is_err());
    assert!(
        supcon_soft(
            &z,
            &tensor(&[-1.0; 16], 4, DType::F32),
            &SoftSupCon::default()
        )
        .is_err()
    );
}
