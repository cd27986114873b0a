//! The fixtures of make_reference.py: every loss of other libraries and papers, and how near this crate comes.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use contrastive_loss::*;

const TAU: f64 = 0.2;

/// A file of fixtures, with what made it.
pub struct Fixture {
    pub tensors: HashMap<String, Tensor>,
    pub made_by: serde_json::Value,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let made_by = header["__metadata__"]["made_by"].as_str().unwrap();
        Self {
            tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap(),
            made_by: serde_json::from_str(made_by).unwrap(),
        }
    }

    pub fn get(&self, seed: usize, name: &str) -> &Tensor {
        &self.tensors[&format!("{seed}.{name}")]
    }
}

/// A loss as a function of the embeddings, not normalised, and of its own parameters.
pub type Function = Box<dyn Fn(&Tensor, &Tensor) -> PerAnchor>;

pub struct Case {
    pub name: &'static str,
    /// The tensor of the fixture that holds the loss' own parameters.
    pub parameter: Option<&'static str>,
    /// How much the formula multiplies the rounding of a similarity: what its f32 tolerance is scaled by.
    pub sharpness: f64,
    pub function: Function,
}

fn case(
    name: &'static str,
    sharpness: f64,
    function: impl Fn(&Tensor) -> Result<PerAnchor> + 'static,
) -> Case {
    Case {
        name,
        parameter: None,
        sharpness,
        function: Box::new(move |x, _| function(x).unwrap()),
    }
}

fn unit(x: &Tensor) -> Tensor {
    normalize(x).unwrap()
}

/// All cases of pairs.safetensors for one seed.
pub fn pair_cases(fixture: &Fixture, seed: usize) -> Vec<Case> {
    let labels = fixture.get(seed, "labels").clone();
    let [y, soft, weights] = ["y", "soft", "weights"].map(|name| fixture.get(seed, name).clone());
    let of = |name: &'static str, sharpness: f64, loss: Loss| {
        let labels = labels.clone();
        let Loss::Pairwise(loss) = loss else {
            panic!("{name} is no loss over pairs")
        };
        case(name, sharpness, move |x| {
            loss.as_loss().forward(&unit(x), &labels)
        })
    };
    let triplet = |mining, average, soft, margin| {
        Loss::from(Triplet {
            margin,
            soft,
            mining,
            average,
            ..Triplet::default()
        })
    };
    let margins = |average| {
        Loss::from(MaxMargin {
            positive_margin: 0.2,
            negative_margin: 1.1,
            average,
            ..MaxMargin::default()
        })
    };
    let mut all = vec![
        of("max_margin", 1.0, margins(Average::Active)),
        of("max_margin_all", 1.0, margins(Average::All)),
        of(
            "triplet_all",
            1.0,
            triplet(Mining::All, Average::Active, false, 0.2),
        ),
        of(
            "triplet_all_mean",
            1.0,
            triplet(Mining::All, Average::All, false, 0.2),
        ),
        of(
            "triplet_all_soft",
            1.0,
            triplet(Mining::All, Average::Active, true, 0.0),
        ),
        of(
            "triplet_hard",
            1.0,
            triplet(Mining::Hard, Average::Active, false, 0.2),
        ),
        of(
            "triplet_hard_soft",
            1.0,
            triplet(Mining::Hard, Average::Active, true, 0.0),
        ),
        of(
            "triplet_semi_hard",
            1.0,
            triplet(Mining::SemiHard, Average::Active, false, 0.5),
        ),
        of("lifted_structure", 1.0, LiftedStructure::default().into()),
        of(
            "generalized_lifted",
            1.0,
            GeneralizedLifted::default().into(),
        ),
        of("multi_similarity", 50.0, MultiSimilarity::default().into()),
        of("circle", 80.0, Circle::default().into()),
        of(
            "nca",
            6.0,
            Nca {
                scale: 3.0,
                ..Nca::default()
            }
            .into(),
        ),
    ];
    let y_labels = labels.clone();
    all.push(case("npairs", 1.0 / TAU, move |x| {
        npairs(
            &similarity_matrix(&unit(x), TAU)?,
            &y_labels,
            &NpairsConfig::default(),
        )
    }));
    let multi_hot = y.clone();
    all.push(case("npairs_multilabel", 1.0 / TAU, move |x| {
        let s = similarity_matrix(&unit(x), TAU)?;
        npairs_multilabel(&s, &multi_hot, &NpairsConfig::default())
    }));
    let (out, all_rows) = (Summation::Out, Denominator::All);
    for (name, summation, denominator) in [
        ("supcon_out", out, all_rows),
        ("supcon_in", Summation::In, all_rows),
        ("supcon_one_positive", out, Denominator::OnePositive),
        ("supcon_only_negatives", out, Denominator::OnlyNegatives),
    ] {
        let labels = labels.clone();
        let config = SupConConfig {
            temperature: TAU,
            summation,
            denominator,
            ..SupConConfig::default()
        };
        all.push(case(name, 1.0 / TAU, move |x| {
            supcon(&unit(x), &labels, &config)
        }));
    }
    all.push(case("nt_xent", 1.0 / TAU, |x| {
        nt_xent(&unit(x), 2, &NtXentConfig { temperature: TAU })
    }));
    let per_sample = labels.narrow(0, 0, 6).unwrap();
    for (name, balance, positives_cap) in [
        ("supcon_weighted", Balance::Inverse, None),
        (
            "supcon_effective_number",
            Balance::EffectiveNumber(0.9),
            None,
        ),
        ("supcon_capped", Balance::None, Some(1)),
    ] {
        let labels = per_sample.clone();
        all.push(case(name, 1.0 / TAU, move |x| {
            let config = SupConWeighted {
                temperature: TAU,
                balance,
                positives_cap,
                ..SupConWeighted::default()
            };
            supcon_weighted(&unit(x), &labels, 2, &config)
        }));
    }
    let config = SoftSupCon {
        temperature: TAU,
        ..SoftSupCon::default()
    };
    let given = config.clone();
    all.push(case("supcon_soft", 1.0 / TAU, move |x| {
        supcon_soft(&unit(x), &weights, &given)
    }));
    for (name, overlap, y) in [
        ("supcon_multilabel_product", Overlap::Product, &soft),
        ("supcon_multilabel_jaccard", Overlap::Jaccard, &y),
        ("supcon_multilabel_any", Overlap::Any, &y),
        ("supcon_multilabel_per_label", Overlap::PerLabel, &y),
    ] {
        let (y, config) = (y.clone(), config.clone());
        all.push(case(name, 1.0 / TAU, move |x| {
            supcon_multilabel(&unit(x), &y, overlap, &config)
        }));
    }
    let y_labels = labels.clone();
    all.push(case("triplet_mined", 1.0, move |x| {
        let z = unit(x);
        let triplets = mine_triplets(&z, &y_labels, 0.3, TripletKind::SemiHard)?;
        let loss = Triplet {
            margin: 0.3,
            ..Triplet::default()
        };
        loss.over_triplets(&Measure::Euclidean.matrix(&z, &z)?, &triplets)
    }));
    let y_labels = labels.clone();
    all.push(case("multi_similarity_mined", 50.0, move |x| {
        let z = unit(x);
        // pytorch-metric-learning counts the rows that a miner left without pairs as 0.
        let loss = MultiSimilarity {
            undefined_rows: UndefinedRows::CountAsZero,
            ..MultiSimilarity::default()
        };
        loss.forward_mined(&z, &mine_multi_similarity(&z, &y_labels, 0.1)?)
    }));
    let remember = |name, sharpness, loss: Loss| {
        let labels = labels.clone();
        let Loss::Pairwise(loss) = loss else {
            panic!("{name} is no loss over pairs")
        };
        case(name, sharpness, move |x| {
            let mut memory = CrossBatchMemory::new(6)?;
            let part = |start| {
                (
                    unit(&x.narrow(0, start, 4).unwrap()),
                    labels.narrow(0, start, 4).unwrap(),
                )
            };
            for start in [0, 4] {
                let (z, labels) = part(start);
                memory.push(&z, &labels)?;
            }
            let (z, labels) = part(8);
            memory.forward(loss.as_loss(), &z, &labels)
        })
    };
    let margin = MaxMargin {
        negative_margin: 1.1,
        ..MaxMargin::default()
    };
    all.push(remember("max_margin_memory", 1.0, margin.into()));
    all.push(remember(
        "multi_similarity_memory",
        50.0,
        MultiSimilarity::default().into(),
    ));
    all
}

/// All cases of proxies_and_views.safetensors for one seed.
pub fn other_cases(fixture: &Fixture, seed: usize) -> Vec<Case> {
    let queue = unit(fixture.get(seed, "queue"));
    let halves = |x: &Tensor| (x.narrow(0, 0, 6).unwrap(), x.narrow(0, 6, 6).unwrap());
    let mut all = vec![
        case("info_nce", 1.0 / TAU, move |x| {
            let (a, b) = halves(&unit(x));
            let config = InfoNce {
                temperature: TAU,
                symmetric: true,
                ..InfoNce::default()
            };
            info_nce(&a, &b, None, &config)
        }),
        case("info_nce_queue", 1.0 / TAU, move |x| {
            let (a, b) = halves(&unit(x));
            let config = InfoNce {
                temperature: TAU,
                in_batch: false,
                ..InfoNce::default()
            };
            info_nce(&a, &b, Some(&queue), &config)
        }),
        case("barlow_twins", 10.0, move |x| {
            let (a, b) = halves(x);
            barlow_twins(&a, &b, &BarlowTwins::default())
        }),
        case("vicreg", 25.0, move |x| {
            let (a, b) = halves(x);
            vicreg(&a, &b, &VicReg::default())
        }),
        Case {
            name: "sigmoid",
            parameter: Some("scalars"),
            sharpness: 5.0,
            function: Box::new(move |x, t| {
                let (a, b) = halves(&unit(x));
                sigmoid(&a, &b, &t.get(0).unwrap(), &t.get(1).unwrap()).unwrap()
            }),
        },
    ];
    let labels = fixture.get(seed, "labels").clone();
    type Proxied = Box<dyn Fn(&Tensor, &Tensor, &Tensor) -> Result<PerAnchor>>;
    let proxied: [(&str, &str, f64, Proxied); 6] = [
        (
            "proxy_nca",
            "proxies",
            6.0,
            Box::new(|z, y, w| proxy_nca(z, y, w, &ProxyNca { scale: 3.0 })),
        ),
        (
            "proxy_anchor",
            "proxies",
            32.0,
            Box::new(|z, y, w| proxy_anchor(z, y, w, &ProxyAnchor::default())),
        ),
        (
            "normalized_softmax",
            "proxies",
            1.0 / TAU,
            Box::new(|z, y, w| {
                normalized_softmax(z, y, w, &NormalizedSoftmax { temperature: TAU })
            }),
        ),
        (
            "cosface",
            "proxies",
            16.0,
            Box::new(|z, y, w| {
                cosface(
                    z,
                    y,
                    w,
                    &CosFace {
                        margin: 0.35,
                        scale: 16.0,
                    },
                )
            }),
        ),
        (
            "arcface",
            "proxies",
            16.0,
            Box::new(|z, y, w| {
                arcface(
                    z,
                    y,
                    w,
                    &ArcFace {
                        margin: 0.5,
                        scale: 16.0,
                    },
                )
            }),
        ),
        (
            "subcenter_arcface",
            "sub_proxies",
            16.0,
            Box::new(|z, y, w| {
                let config = SubCenterArcFace {
                    margin: 0.5,
                    scale: 16.0,
                    sub_centers: 3,
                };
                subcenter_arcface(z, y, w, &config)
            }),
        ),
    ];
    for (name, parameter, sharpness, function) in proxied {
        let labels = labels.clone();
        all.push(Case {
            name,
            parameter: Some(parameter),
            sharpness,
            function: Box::new(move |x, w| function(x, &labels, w).unwrap()),
        });
    }
    all
}

/// The largest differences over all seeds: of the value, relative to the larger of it and 1, and of the gradient (and of the parameters'), relative to
/// its largest entry; in f64 and f32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Agreement {
    pub value: [f64; 2],
    pub gradient: [f64; 2],
    pub sharpness: f64,
}

/// Measures every case.
pub fn measure() -> Vec<(&'static str, Agreement)> {
    let mut all: Vec<(&'static str, Agreement)> = Vec::new();
    for (file, cases) in [
        (
            "pairs.safetensors",
            pair_cases as fn(&Fixture, usize) -> Vec<Case>,
        ),
        ("proxies_and_views.safetensors", other_cases),
    ] {
        let fixture = Fixture::read(file);
        for seed in 0..3 {
            for case in cases(&fixture, seed) {
                let at = all.iter().position(|(name, _)| *name == case.name);
                let at = at.unwrap_or_else(|| {
                    all.push((case.name, Agreement::default()));
                    all.len() - 1
                });
                let agreement = &mut all[at].1;
                agreement.sharpness = case.sharpness;
                for (index, dtype) in [DType::F64, DType::F32].into_iter().enumerate() {
                    let (value, gradient) = compare(&fixture, seed, &case, dtype);
                    agreement.value[index] = agreement.value[index].max(value);
                    agreement.gradient[index] = agreement.gradient[index].max(gradient);
                }
            }
        }
    }
    all
}

fn compare(fixture: &Fixture, seed: usize, case: &Case, dtype: DType) -> (f64, f64) {
    let var =
        |name: &str| Var::from_tensor(&fixture.get(seed, name).to_dtype(dtype).unwrap()).unwrap();
    let x = var("x");
    let parameter = var(case.parameter.unwrap_or("x"));
    let mean = (case.function)(&x, &parameter).mean().unwrap();
    let store = mean.backward().unwrap();
    let expected = |what: &str| numbers(fixture.get(seed, &format!("{}.{what}", case.name)));
    let value = expected("value")[0];
    let value = (numbers(&mean)[0] - value).abs() / value.abs().max(1.0);
    let mut gradient = distance(&numbers(store.get(&x).unwrap()), &expected("gradient"));
    if case.parameter.is_some() {
        let got = numbers(store.get(&parameter).unwrap());
        gradient = gradient.max(distance(&got, &expected("parameter_gradient")));
    }
    (value, gradient)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(0f64, |m, e| m.max(e.abs()));
    let furthest = got
        .iter()
        .zip(expected)
        .fold(0f64, |m, (g, e)| m.max((g - e).abs()));
    furthest / largest
}
