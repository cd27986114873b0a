//! Losses with a memory and with miners, as recipes combine them.

use candle_core::{DType, Tensor, Var};
use contrastive_loss::tiled::Execution;
use contrastive_loss::{
    Context, CrossBatchMemory, Denominator, DistanceWeighted, InfoNce, Loss, Mined, Miner,
    PairLoss, PairSet, Pairwise, PerAnchor, Scale, Task, Triplet, UndefinedRows,
    mine_distance_weighted, mine_hard, mine_multi_similarity, mine_triplets, normalize,
};

use crate::support::{assert_close, labels, noise, scalar, tensor, values};

/// Numbers in [0, 1) that do not depend on anything.
fn draws() -> impl FnMut() -> f64 {
    let mut state = 0.5;
    move || {
        state = (state * 7.31 + 0.17) % 1.0;
        state
    }
}

fn pairwise() -> Vec<Pairwise> {
    let names = [
        "max_margin",
        "triplet",
        "lifted_structure",
        "generalized_lifted",
        "multi_similarity",
        "circle",
        "nca",
    ];
    let of = |name: &&str| match name.parse::<Loss>().unwrap() {
        Loss::Pairwise(loss) => loss,
        other => panic!("{other:?}"),
    };
    names.iter().map(of).collect()
}

/// A memory that holds these rows.
fn filled(loss: &Loss, rows: &Tensor, labels: &[u32], views: usize) -> CrossBatchMemory {
    let mut memory = CrossBatchMemory::new(10_000).unwrap();
    loss.remember(&mut memory, rows, labels, views).unwrap();
    memory
}

#[test]
fn a_mined_loss_is_the_miner_and_then_the_loss() {
    let (samples, d) = (12, 6);
    let y: Vec<u32> = (0..samples as u32).map(|i| i % 3).collect();
    let x = tensor(&noise(5, 2 * samples, d), d, DType::F64);
    let z = normalize(&x).unwrap();
    let both = labels(&y.repeat(2));
    for miner in Miner::NAMES.map(|name| name.parse::<Miner>().unwrap()) {
        let expected = match &miner {
            Miner::Hard => Err(mine_hard(&z, &both).unwrap()),
            Miner::SemiHard { margin } => {
                Err(
                    mine_triplets(&z, &both, *margin, contrastive_loss::TripletKind::SemiHard)
                        .unwrap(),
                )
            }
            Miner::DistanceWeighted(options) => {
                Err(mine_distance_weighted(&z, &both, options, &mut draws()).unwrap())
            }
            Miner::MultiSimilarity { epsilon } => {
                Ok(mine_multi_similarity(&z, &both, *epsilon).unwrap())
            }
        };
        for loss in pairwise() {
            let whole = Loss::Pairwise(loss.clone());
            let mined = whole.mine(&miner, &x, &y, 2, None, &mut draws()).unwrap();
            let rows = 2 * samples;
            let by_hand = match &expected {
                Ok(pairs) => {
                    assert_eq!(mined, Mined::Pairs(pairs.clone()));
                    loss.as_loss().forward_mined(&z, pairs).unwrap()
                }
                Err(triplets) => {
                    assert!(!triplets.is_empty(), "{miner}");
                    let expected = Mined::Triplets {
                        triplets: triplets.clone(),
                        rows,
                        columns: rows,
                    };
                    assert_eq!(mined, expected);
                    match &loss {
                        Pairwise::Triplet(loss) => {
                            let distances = loss.measure().matrix(&z, &z).unwrap();
                            loss.over_triplets(&distances, triplets).unwrap()
                        }
                        loss => {
                            let mut positives: Vec<_> =
                                triplets.iter().map(|&(a, p, _)| (a, p)).collect();
                            let mut negatives: Vec<_> =
                                triplets.iter().map(|&(a, _, n)| (a, n)).collect();
                            positives.dedup();
                            negatives.dedup();
                            let pairs = PairSet::from_pairs(rows, rows, &positives, &negatives);
                            loss.as_loss().forward_mined(&z, &pairs.unwrap()).unwrap()
                        }
                    }
                }
            };
            let context = Context {
                mined: Some(&mined),
                ..Context::default()
            };
            let got = whole.forward_in(&x, &y, 2, &context).unwrap();
            assert_close(&values(&got), &values(&by_hand), 1e-13);
            assert_eq!(got.divisor, by_hand.divisor);
        }
    }
}

/// The loss of a batch and its memory as one, of which the batch's rows are looked at.
fn of_everything(loss: &Loss, z: &Tensor, memory: &Tensor, y: &[u32]) -> PerAnchor {
    let both = Tensor::cat(&[z, memory], 0).unwrap();
    let mut whole = loss.forward_by(Execution::Dense, &both, y, 1).unwrap();
    whole.values = whole.values.narrow(0, 0, z.dim(0).unwrap()).unwrap();
    whole
}

#[test]
fn a_memory_is_more_references_and_passes_no_gradient() {
    let (n, m, d) = (10, 14, 5);
    let x = noise(7, n + m, d);
    let y: Vec<u32> = (0..(n + m) as u32).map(|i| i * 5 % 4).collect();
    let rows = |part: &[f64]| tensor(part, d, DType::F64);
    let (batch, former) = (rows(&x[..n * d]), rows(&x[n * d..]));
    let mut losses: Vec<Loss> = pairwise().into_iter().map(Loss::Pairwise).collect();
    losses.extend([Loss::npairs(), Loss::supcon_out(), Loss::supcon_in()]);
    for summation in ["supcon_out", "supcon_in"] {
        let loss: Loss = summation.parse().unwrap();
        losses.push(loss.with_temperature(0.5));
    }
    losses.push(Loss::SupConOut {
        temperature: 0.3,
        denominator: Denominator::OnePositive,
        scale: Scale::One,
        undefined_rows: UndefinedRows::Skip,
    });
    for loss in losses {
        if !loss.takes_memory() {
            assert_eq!(loss.name(), "lifted_structure");
            continue;
        }
        let memory = filled(&loss, &former, &y[n..], 1);
        let context = Context {
            memory: Some(&memory),
            ..Context::default()
        };
        if let Loss::Pairwise(Pairwise::MaxMargin(loss)) = &loss {
            // Its values are shares of all active pairs: the pairs of the batch's rows by hand.
            let of = |same: bool| -> Vec<(usize, usize)> {
                let pairs = (0..n).flat_map(|i| (0..n + m).map(move |j| (i, j)));
                pairs
                    .filter(|&(i, j)| i != j && (y[i] == y[j]) == same)
                    .collect()
            };
            let pairs = PairSet::from_pairs(n, n + m, &of(true), &of(false)).unwrap();
            let all = normalize(&tensor(&x, d, DType::F64)).unwrap();
            let z = all.narrow(0, 0, n).unwrap();
            let expected = loss.forward_against(&z, &all, &pairs).unwrap();
            let whole = Loss::from(loss.clone());
            let got = whole.forward_in(&batch, &y[..n], 1, &context).unwrap();
            assert_close(&values(&got), &values(&expected), 1e-12);
            continue;
        }
        let got = loss.forward_in(&batch, &y[..n], 1, &context).unwrap();
        let expected = of_everything(&loss, &batch, &former, &y);
        assert_close(&values(&got), &values(&expected), 1e-10);
        let gradient = |run: &dyn Fn(&Tensor) -> PerAnchor| {
            let var = Var::from_tensor(&batch).unwrap();
            let store = run(&var).sum().unwrap().backward().unwrap();
            let slope = store.get(&var).unwrap().flatten_all().unwrap();
            slope.to_vec1::<f64>().unwrap()
        };
        assert_close(
            &gradient(&|z| loss.forward_in(z, &y[..n], 1, &context).unwrap()),
            &gradient(&|z| of_everything(&loss, z, &former, &y)),
            1e-9,
        );
        // Until something is remembered, the loss is the plain one.
        let empty = CrossBatchMemory::new(5).unwrap();
        let context = Context {
            memory: Some(&empty),
            ..Context::default()
        };
        let got = loss.forward_in(&batch, &y[..n], 1, &context).unwrap();
        let plain = loss.forward(&batch, &y[..n], 1).unwrap();
        assert_close(&values(&got), &values(&plain), 0.0);
    }
}

#[test]
fn former_batches_only_repel_where_samples_are_told_apart() {
    let (n, m, d) = (6, 9, 4);
    let x = tensor(&noise(1, 2 * n, d), d, DType::F64);
    let former = tensor(&noise(2, 2 * m, d), d, DType::F64);
    let tau = 0.5;
    let z: Vec<Vec<f64>> = normalize(&x).unwrap().to_vec2().unwrap();
    let f: Vec<Vec<f64>> = normalize(&former).unwrap().to_vec2().unwrap();
    let s = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / tau;
    // Labels that agree with each other do not matter.
    let (y, former_y) = (vec![3; n], vec![3; m]);

    let loss = Loss::nt_xent().with_temperature(tau);
    let memory = filled(&loss, &former, &former_y, 2);
    let context = Context {
        memory: Some(&memory),
        ..Context::default()
    };
    let got = loss.forward_in(&x, &y, 2, &context).unwrap();
    let expected: Vec<f64> = (0..2 * n)
        .map(|i| {
            let others = (0..2 * n)
                .filter(|&j| j != i)
                .map(|j| s(&z[i], &z[j]).exp());
            let all: f64 = others.chain(f.iter().map(|f| s(&z[i], f).exp())).sum();
            all.ln() - s(&z[i], &z[(i + n) % (2 * n)])
        })
        .collect();
    assert_close(&values(&got), &expected, 1e-12);

    let config = InfoNce {
        temperature: tau,
        in_batch: false,
        symmetric: false,
    };
    let loss: Loss = config.into();
    assert!(loss.needs_memory() && loss.takes_memory());
    let memory = filled(&loss, &former, &former_y, 2);
    assert_eq!((memory.len(), memory.labels()), (m, vec![-1; m]));
    let context = Context {
        memory: Some(&memory),
        ..Context::default()
    };
    let got = loss.forward_in(&x, &y, 2, &context).unwrap();
    let expected: Vec<f64> = (0..n)
        .map(|i| {
            let own = s(&z[i], &z[i + n]);
            let queue: f64 = f[m..].iter().map(|key| s(&z[i], key).exp()).sum();
            (own.exp() + queue).ln() - own
        })
        .collect();
    assert_close(&values(&got), &expected, 1e-12);
}

/// The monitor's scale in a context: at one point the mean is the collapse value, elsewhere not below the floor.
#[test]
fn bounds_know_the_memory_and_what_was_mined() {
    let (n, m, d) = (9, 12, 6);
    let y: Vec<u32> = (0..n as u32).map(|i| i % 3).collect();
    let former_y: Vec<u32> = (0..m as u32).map(|i| i % 4).collect();
    let task = Task { dim: d, classes: 4 };
    let point = |rows: usize| tensor(&[0.3, -0.2, 0.9, 0.1, 0.0, 0.4].repeat(rows), d, DType::F64);
    let only_the_queue = InfoNce {
        in_batch: false,
        ..InfoNce::default()
    };
    let mut cases: Vec<(Loss, Option<Miner>)> = vec![
        (Loss::npairs(), None),
        (Loss::supcon_out(), None),
        (Loss::supcon_in(), None),
        (Loss::nt_xent(), None),
        (InfoNce::default().into(), None),
        (only_the_queue.into(), None),
    ];
    for loss in pairwise() {
        cases.push((Loss::Pairwise(loss.clone()), None));
        for name in Miner::NAMES {
            cases.push((Loss::Pairwise(loss.clone()), Some(name.parse().unwrap())));
        }
    }
    for (loss, miner) in cases {
        let views = if loss.needs_views() { 2 } else { 1 };
        for at_a_point in [true, false] {
            let rows = |seed: u64, count: usize| match at_a_point {
                true => point(count),
                false => tensor(&noise(seed, count, d), d, DType::F64),
            };
            let (x, former) = (rows(1, views * n), rows(2, views * m));
            let full = loss
                .takes_memory()
                .then(|| filled(&loss, &former, &former_y, views));
            let empty = loss
                .takes_memory()
                .then(|| CrossBatchMemory::new(4).unwrap());
            for memory in [None, empty, full] {
                if memory.is_none() && loss.needs_memory() {
                    continue;
                }
                let mut context = Context {
                    memory: memory.as_ref(),
                    ..Context::default()
                };
                let mined = miner.as_ref().map(|miner| {
                    loss.mine(miner, &x, &y, views, context.memory, &mut draws())
                        .unwrap()
                });
                context.mined = mined.as_ref();
                let mean = loss.forward_in(&x, &y, views, &context).unwrap();
                let (nothing, mean) =
                    (mean.undefined() == mean.defined.len(), mean.mean().unwrap());
                let bounds = loss.bounds_in(&y, views, task, &context).unwrap();
                let what = format!("{loss} with {miner:?} and {}", memory.is_some());
                if at_a_point && !nothing {
                    let off = (scalar(&mean) - bounds.collapse).abs();
                    assert!(
                        off < 1e-6 * bounds.collapse.abs().max(1.0),
                        "{what}: {off:e}"
                    );
                }
                assert!(scalar(&mean) >= bounds.floor - 1e-9, "{what}: {bounds:?}");
            }
        }
    }
}

#[test]
fn what_takes_no_miner_or_memory_says_so() {
    let x = tensor(&noise(1, 8, 4), 4, DType::F32);
    let y = [0, 0, 1, 1];
    let mut memory = CrossBatchMemory::new(8).unwrap();
    for name in Loss::names() {
        let loss: Loss = name.parse().unwrap();
        let mined = loss.mine(&Miner::Hard, &x, &y, 2, None, &mut || 0.0);
        match loss.takes_miner() {
            true => drop(mined.unwrap()),
            false => {
                let error = mined.unwrap_err().to_string();
                assert!(
                    error.contains(name) && error.contains("no miner"),
                    "{error}"
                );
            }
        }
        if !loss.takes_memory() {
            let error = loss
                .remember(&mut memory, &x, &y, 2)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(name) && error.contains("no memory"),
                "{error}"
            );
            let context = Context {
                memory: Some(&memory),
                ..Context::default()
            };
            assert!(loss.forward_in(&x, &y, 2, &context).is_err());
        }
    }
    let loss: Loss = Triplet::default().into();
    assert!(loss.remember(&mut memory, &x, &y[..3], 2).is_err());
    let bad = Miner::DistanceWeighted(DistanceWeighted {
        cutoff: 3.0,
        ..DistanceWeighted::default()
    });
    assert!(loss.mine(&bad, &x, &y, 2, None, &mut || 0.0).is_err());
    // What was mined for another batch does not fit this one.
    let mined = loss
        .mine(
            &Miner::MultiSimilarity { epsilon: 0.1 },
            &x,
            &y,
            2,
            None,
            &mut || 0.0,
        )
        .unwrap();
    let context = Context {
        mined: Some(&mined),
        ..Context::default()
    };
    let fewer = x.narrow(0, 0, 6).unwrap();
    assert!(loss.forward_in(&fewer, &y[..3], 2, &context).is_err());
}
