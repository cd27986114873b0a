//! Rows from elsewhere: a batch cut into the parts of ranks, and a memory.

use std::ops::Range;

use candle_core::{DType, Tensor, Var};
use contrastive_loss::tiled::{Execution, Gathered};
use contrastive_loss::{Error, InfoNce, Loss, PerAnchor, Sigmoid, info_nce, normalize, sigmoid};

use crate::support::{assert_close, mean_and_gradient, noise, scalar, tensor, values};
use crate::tiled::losses;

/// The ranges of parts of unequal size.
fn cut(rows: usize, parts: usize) -> Vec<Range<usize>> {
    let bounds: Vec<usize> = (0..=parts)
        .map(|p| rows * p * (p + 1) / (parts * (parts + 1)))
        .collect();
    bounds.windows(2).map(|two| two[0]..two[1]).collect()
}

/// The samples of a range in all their views: `[V·M, D]` → `[V·m, D]`.
fn part(x: &Tensor, views: usize, own: &Range<usize>) -> Tensor {
    let samples = x.dim(0).unwrap() / views;
    let view = |v: usize| x.narrow(0, v * samples + own.start, own.len()).unwrap();
    Tensor::cat(&(0..views).map(view).collect::<Vec<_>>(), 0).unwrap()
}

/// The whole loss over gathered rows as the dense path has it.
fn dense(loss: &Loss, x: &Tensor, labels: &[u32]) -> PerAnchor {
    match loss {
        // Labels number the samples, whose views may stand anywhere: the same as a SupCon.
        Loss::NtXent { temperature } => {
            let supcon = Loss::supcon_out().with_temperature(*temperature);
            supcon.forward_by(Execution::Dense, x, labels, 1).unwrap()
        }
        _ => {
            let views = if loss.needs_two_views() { 2 } else { 1 };
            loss.forward_by(Execution::Dense, x, labels, views).unwrap()
        }
    }
}

fn gathered<'a>(
    rows: &'a Tensor,
    labels: &'a [u32],
    own: &Range<usize>,
    sums: Option<&'a Tensor>,
) -> Gathered<'a> {
    Gathered {
        rows,
        labels,
        own: own.clone(),
        sums,
    }
}

/// One batch cut into parts of unequal size: each part's gradient for its own rows, with and without the exchange of row sums.
#[test]
fn gradients_of_two_three_and_eight_parts_are_the_whole_batchs() {
    let (samples, columns) = (302, 12);
    let labels: Vec<u32> = (0..samples as u32).map(|row| row * row % 11).collect();
    for loss in losses() {
        let views = if loss.needs_two_views() { 2 } else { 1 };
        let x = tensor(&noise(11, views * samples, columns), columns, DType::F32);
        let (mean, whole) = mean_and_gradient(&x, |x| dense(&loss, x, &labels));
        let whole = tensor(&whole, columns, DType::F64);
        let size = whole.abs().unwrap().max_all().unwrap();
        let size = size.to_scalar::<f64>().unwrap().max(1e-2);
        for parts in [2, 3, 8] {
            let cuts = cut(samples, parts);
            let exchanged: Vec<Tensor> = cuts
                .iter()
                .map(|own| {
                    let local = part(&x, views, own);
                    loss.row_sums(&local, &gathered(&x, &labels, own, None))
                        .unwrap()
                })
                .collect();
            let exchanged = Tensor::cat(&exchanged, 0).unwrap();
            assert_eq!(exchanged.dim(0).unwrap(), samples);
            for own in &cuts {
                let local = part(&x, views, own);
                // What stands in the local rows' place does not matter.
                let mut elsewhere = x.clone();
                for view in 0..views {
                    let place = view * samples + own.start..view * samples + own.end;
                    let ones = x.narrow(0, 0, own.len()).unwrap().ones_like().unwrap();
                    elsewhere = elsewhere.slice_assign(&[place, 0..columns], &ones).unwrap();
                }
                let expected = part(&whole, views, own).flatten_all().unwrap();
                let expected = expected.affine(1.0 / size, 0.0).unwrap();
                for sums in [None, Some(&exchanged)] {
                    let of = |local: &Tensor| {
                        loss.forward_gathered(local, &gathered(&elsewhere, &labels, own, sums))
                            .unwrap()
                    };
                    let (value, slope) = mean_and_gradient(&local, of);
                    assert_close(&[value], &[mean], 1e-5);
                    let slope: Vec<f64> = slope.iter().map(|g| g / size).collect();
                    assert_close(&slope, &expected.to_vec1::<f64>().unwrap(), 2e-5);
                }
            }
        }
    }
}

/// Parameters shared by the ranks: y = x·w on each, gradients of w summed; in f64, by plain operators.
#[test]
fn summed_parameter_gradients_of_ranks_are_one_processs() {
    let (rows, inputs, columns) = (96, 10, 6);
    let x = tensor(&noise(2, rows, inputs), inputs, DType::F64);
    let w = tensor(&noise(3, inputs, columns), columns, DType::F64);
    let labels: Vec<u32> = (0..rows as u32).map(|row| row % 5).collect();
    let all = x.matmul(&w).unwrap();
    for loss in losses() {
        if loss.needs_two_views() {
            continue;
        }
        let (_, whole) = mean_and_gradient(&w, |w| dense(&loss, &x.matmul(w).unwrap(), &labels));
        let size = whole.iter().fold(1f64, |size, g| size.max(g.abs()));
        for ranks in [2, 3, 8] {
            let cuts = cut(rows, ranks);
            let exchanged: Vec<Tensor> = cuts
                .iter()
                .map(|own| {
                    let local = part(&all, 1, own);
                    loss.row_sums(&local, &gathered(&all, &labels, own, None))
                        .unwrap()
                })
                .collect();
            let exchanged = Tensor::cat(&exchanged, 0).unwrap();
            for sums in [None, Some(&exchanged)] {
                let mut sum = vec![0.0; inputs * columns];
                for own in &cuts {
                    let (_, part) = mean_and_gradient(&w, |w| {
                        let local = part(&x, 1, own).matmul(w).unwrap();
                        loss.forward_gathered(&local, &gathered(&all, &labels, own, sums))
                            .unwrap()
                    });
                    sum.iter_mut()
                        .zip(part)
                        .for_each(|(sum, part)| *sum += part);
                }
                assert_close(&sum, &whole, 1e-12 * size);
            }
        }
    }
}

/// The sigmoid loss' scale and bias are parameters of all ranks: each adds what its own anchors say.
#[test]
fn summed_gradients_of_scale_and_bias_are_one_processs() {
    let (samples, columns) = (60, 4);
    let x = tensor(&noise(8, 2 * samples, columns), columns, DType::F64);
    let labels = vec![0; samples];
    let loss: Loss = Sigmoid::default().into();
    let parameters =
        [1.2f64, -3.0].map(|v| Var::from_tensor(&tensor(&[v], 1, DType::F64)).unwrap());
    let tensors: Vec<Tensor> = parameters.iter().map(|v| v.as_tensor().clone()).collect();
    let gradients = |loss: PerAnchor| {
        let store = loss.mean().unwrap().backward().unwrap();
        parameters.each_ref().map(|v| {
            scalar(
                &store
                    .get(v)
                    .unwrap()
                    .squeeze(0)
                    .unwrap()
                    .squeeze(0)
                    .unwrap(),
            )
        })
    };
    let [a, b] = [0, samples].map(|at| normalize(&x.narrow(0, at, samples).unwrap()).unwrap());
    let whole = gradients(sigmoid(&a, &b, &tensors[0], &tensors[1]).unwrap());
    let mut sum = [0.0; 2];
    for own in cut(samples, 3) {
        let local = part(&x, 2, &own);
        let gathered = Gathered {
            rows: &x,
            labels: &labels,
            own,
            sums: None,
        };
        let part = loss
            .forward_gathered_with(&local, &gathered, &tensors)
            .unwrap();
        sum.iter_mut()
            .zip(gradients(part))
            .for_each(|(sum, part)| *sum += part);
    }
    assert_close(&sum, &whole, 1e-12);
}

#[test]
fn gathered_rows_that_do_not_fit_are_refused() {
    let x = tensor(&noise(1, 6, 3), 3, DType::F32);
    let loss = Loss::npairs();
    let try_with = |own, labels: &[u32], sums: Option<&Tensor>| {
        let local = x.narrow(0, 0, 2).unwrap();
        let gathered = Gathered {
            rows: &x,
            labels,
            own,
            sums,
        };
        loss.forward_gathered(&local, &gathered).map(drop)
    };
    assert!(try_with(4..6, &[0; 6], None).is_ok());
    for own in [4..7, 3..6] {
        assert!(matches!(
            try_with(own, &[0; 6], None),
            Err(Error::Mismatch { .. })
        ));
    }
    assert!(matches!(
        try_with(0..2, &[0; 5], None),
        Err(Error::LabelCount { .. })
    ));
    // Row sums of too few rows.
    let few = x.narrow(1, 0, 1).unwrap().narrow(0, 0, 4).unwrap();
    let error = try_with(0..2, &[0; 6], Some(&few)).unwrap_err();
    assert!(error.to_string().contains("Loss::row_sums"), "{error}");
    let triplet: Loss = "triplet".parse().unwrap();
    let gathered = Gathered {
        rows: &x,
        labels: &[0; 6],
        own: 0..2,
        sums: None,
    };
    let local = x.narrow(0, 0, 2).unwrap();
    assert!(matches!(
        triplet.forward_gathered(&local, &gathered),
        Err(Error::Untiled { .. })
    ));
}

#[test]
fn a_memory_is_more_candidates() {
    let (n, m, d) = (140, 200, 6);
    let x = noise(21, n + m, d);
    let all: Vec<u32> = (0..(n + m) as u32).map(|row| row * 3 % 8).collect();
    for loss in losses() {
        if loss.needs_views() {
            continue;
        }
        for dtype in [DType::F64, DType::F32] {
            let memory = tensor(&x[n * d..], d, dtype);
            let batch = tensor(&x[..n * d], d, dtype);
            let forward = |z: &Tensor| {
                loss.forward_with_memory(z, &all[..n], &memory, &all[n..])
                    .unwrap()
            };
            // The dense loss of everything, of which the batch's rows are looked at.
            let dense = |z: &Tensor| {
                let both = Tensor::cat(&[z, &memory], 0).unwrap();
                let mut loss = loss.forward_by(Execution::Dense, &both, &all, 1).unwrap();
                loss.values = loss.values.narrow(0, 0, n).unwrap();
                loss
            };
            let tolerance = if dtype == DType::F64 { 1e-11 } else { 3e-5 };
            assert_close(
                &values(&forward(&batch)),
                &values(&dense(&batch)),
                tolerance,
            );
            let sum = |loss: &dyn Fn(&Tensor) -> PerAnchor| {
                let var = Var::from_tensor(&batch).unwrap();
                let gradients = loss(&var).sum().unwrap().backward().unwrap();
                let gradient = gradients.get(&var).unwrap().to_dtype(DType::F64).unwrap();
                gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            assert_close(&sum(&forward), &sum(&dense), 20.0 * tolerance);
        }
    }
}

#[test]
fn the_memory_of_info_nce_is_a_queue_of_keys() {
    let (n, m, d) = (20, 30, 6);
    let x = tensor(&noise(3, 2 * n, d), d, DType::F64);
    let memory = tensor(&noise(4, m, d), d, DType::F64);
    for in_batch in [false, true] {
        let config = InfoNce {
            in_batch,
            ..InfoNce::default()
        };
        let loss: Loss = config.clone().into();
        let got = loss.forward_with_memory(&x, &vec![0; n], &memory, &vec![0; m]);
        let [q, k, queue] = [
            &x.narrow(0, 0, n).unwrap(),
            &x.narrow(0, n, n).unwrap(),
            &memory,
        ]
        .map(|rows| normalize(rows).unwrap());
        let expected = info_nce(&q, &k, Some(&queue), &config).unwrap();
        assert_close(&values(&got.unwrap()), &values(&expected), 1e-12);
    }
    let barlow: Loss = "barlow_twins".parse().unwrap();
    let refused = barlow.forward_with_memory(&x, &vec![0; n], &memory, &vec![0; m]);
    assert!(matches!(refused, Err(Error::Untiled { .. })));
}
