//! Batches as cifar-data's `ClassBalanced` sampler deals them: classes in runs of M images, view-major where there are views.

use crate::support::{mean_and_gradient, noise, tensor};
use candle_core::{DType, Tensor};
use contrastive_loss::{Loss, Mining, PairLoss, Task, Triplet, mine_hard, normalize};

/// C classes with M images each, in the sampler's order: M images of one class, then the next.
fn m_per_class(classes: u32, per_class: usize) -> Vec<u32> {
    (0..classes)
        .flat_map(|class| std::iter::repeat_n(class * 3 % classes, per_class))
        .collect()
}

#[test]
fn every_loss_takes_them_and_every_row_counts() {
    for (classes, per_class) in [(4, 4), (8, 2), (5, 3)] {
        let labels = m_per_class(classes, per_class);
        let task = Task {
            dim: 6,
            classes: classes as usize,
        };
        for views in [1, 2] {
            let x = tensor(&noise(3, labels.len() * views, 6), 6, DType::F32);
            for name in Loss::names() {
                let loss: Loss = name.parse().unwrap();
                if loss.needs_views() && views == 1 {
                    continue;
                }
                let parameters = starts(&loss, task);
                let (mean, gradient) = mean_and_gradient(&x, |x| {
                    let values = loss.forward_with(x, &labels, views, &parameters).unwrap();
                    assert_eq!(
                        (values.without_positives, values.undefined()),
                        (0, 0),
                        "{name}"
                    );
                    values
                });
                let bounds = loss.bounds(&labels, views, task, &parameters).unwrap();
                assert!(
                    mean.is_finite() && mean >= bounds.floor - 1e-6,
                    "{name}: {mean} {bounds:?}"
                );
                assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
                assert!(gradient.iter().any(|&g| g != 0.0), "{name}");
            }
        }
    }
}

#[test]
fn batch_hard_mines_one_triplet_for_each_row_and_is_the_loss_of_them() {
    let labels = m_per_class(4, 4);
    let labels = Tensor::new(labels.as_slice(), &candle_core::Device::Cpu).unwrap();
    let z = normalize(&tensor(&noise(4, 16, 5), 5, DType::F64)).unwrap();
    let triplets = mine_hard(&z, &labels).unwrap();
    assert_eq!(triplets.len(), 16);
    let loss = Triplet {
        mining: Mining::Hard,
        margin: 0.4,
        ..Triplet::default()
    };
    let direct = loss
        .forward(&z, &labels)
        .unwrap()
        .values
        .to_vec1::<f64>()
        .unwrap();
    let matrix = loss.measure().matrix(&z, &z).unwrap();
    let mined = loss
        .over_triplets(&matrix, &triplets)
        .unwrap()
        .values
        .to_vec1::<f64>()
        .unwrap();
    assert_eq!(direct, mined);
}

/// The loss' own parameters as training starts them, with numbers instead of chance.
pub fn starts(loss: &Loss, task: Task) -> Vec<Tensor> {
    use contrastive_loss::Start;
    let parameters = loss.parameters(task);
    parameters
        .iter()
        .map(|spec| {
            let count = spec.shape.iter().product();
            let values = match spec.start {
                Start::Constant(value) => vec![value; count],
                Start::Normal(std) => noise(9, 1, count)
                    .iter()
                    .map(|x| x * std * 3f64.sqrt())
                    .collect(),
            };
            let flat = tensor(&values, count, DType::F32);
            flat.reshape(spec.shape.as_slice()).unwrap()
        })
        .collect()
}
