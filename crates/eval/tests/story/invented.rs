//! A report's input made of invented figures: for tests, and for looking at the report's design.
//!
//! Nothing here was measured. The data set is marked as synthetic and named so.

use std::collections::BTreeMap;

use eval::{
    ARMS, ArmResult, ClassificationMetrics, CurvePoint, DatasetRecord, EmbeddingMap, EmbeddingMaps,
    EmbeddingMetrics, Environment, Gallery, GalleryArm, Pictures, ReliabilityBin, ReportInput,
    Results, SamplePhoto, SamplePrediction, SnapshotFrame, Snapshots, StageCurve, StageRecord,
    TrainRecord,
};

const CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];
const TEST_IMAGES: usize = 2000;

/// SplitMix64: enough for invented figures, and no dependency.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// Uniform in 0..1.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: the sum of twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Predictions of an arm that is right with about the given probability.
fn predictions(labels: &[u32], accuracy: f64, dice: &mut Dice) -> Vec<u32> {
    let twin = [8, 9, 4, 5, 7, 3, 2, 4, 0, 1];
    labels
        .iter()
        .map(|label| {
            let ease =
                [0.05, 0.12, -0.08, -0.18, -0.02, -0.1, 0.08, 0.03, 0.1, 0.06][*label as usize];
            match dice.uniform() {
                chance if chance < accuracy + ease => *label,
                chance if chance < accuracy + ease + 0.15 => twin[*label as usize],
                _ => (dice.uniform() * 10.0) as u32,
            }
        })
        .collect()
}

fn metrics(labels: &[u32], predicted: &[u32]) -> ClassificationMetrics {
    let mut confusion = vec![vec![0u64; 10]; 10];
    for (label, guess) in labels.iter().zip(predicted) {
        confusion[*label as usize][*guess as usize] += 1;
    }
    let per_class = confusion
        .iter()
        .enumerate()
        .map(|(class, row)| row[class] as f64 / row.iter().sum::<u64>() as f64);
    let right: u64 = (0..10).map(|class| confusion[class][class]).sum();
    let top1 = right as f64 / labels.len() as f64;
    ClassificationMetrics {
        top1,
        top5: 1.0 - 0.35 * (1.0 - top1),
        per_class: per_class.collect(),
        ece: 0.11 * (1.0 - top1),
        nll: 2.6 * (1.0 - top1),
        confusion,
        reliability: (6..15)
            .map(|bin| ReliabilityBin {
                low: f64::from(bin) / 15.0,
                high: f64::from(bin + 1) / 15.0,
                images: labels.len() as u64 / 9,
                confidence: (f64::from(bin) + 0.6) / 15.0,
                accuracy: top1 + (f64::from(bin) - 10.0) / 40.0,
            })
            .collect(),
    }
}

fn stage(name: &str, epochs: u64, images: u64) -> StageRecord {
    let images_seen = epochs * images;
    let images_per_second = if name.starts_with("probe") {
        5210.0
    } else {
        402.5
    };
    StageRecord {
        name: name.to_owned(),
        epochs,
        images_seen,
        multiply_adds: images_seen
            * if name.starts_with("probe") {
                71_000_000
            } else {
                3 * 71_000_000
            },
        seconds: images_seen as f64 / images_per_second,
        images_per_second,
        joules: Some(images_seen as f64 / images_per_second * 41.5),
    }
}

fn stages(arm: &str) -> Vec<StageRecord> {
    let probe = || stage("probe-linear", 10, 45_000);
    match arm {
        "baseline" => vec![stage("supervised", 12, 45_000)],
        "contrastive" => vec![stage("pretrain", 12, 45_000), probe()],
        "control" => vec![stage("supervised", 12, 45_000), probe()],
        "finetuned" => vec![stage("pretrain", 12, 45_000), stage("finetune", 4, 45_000)],
        _ => vec![stage("probe-linear", 10, 45_000)],
    }
}

fn curve(
    arm: &str,
    stage: &str,
    loss: &str,
    from: f64,
    to: f64,
    epochs: usize,
    dice: &mut Dice,
) -> StageCurve {
    let done_before = if stage.starts_with("probe") || stage == "finetune" {
        115_020_000_000_000
    } else {
        0
    };
    let points = (1..=epochs).map(|epoch| {
        let done = 1.0 - (-3.0 * epoch as f64 / epochs as f64).exp();
        CurvePoint {
            epoch: epoch as f64,
            train_loss: from + (to - from) * done + 0.02 * dice.normal(),
            validation_loss: (stage == "supervised")
                .then(|| from + (0.85 * to + 0.15 * from - from) * done + 0.03 * dice.normal()),
            validation_top1: (stage != "pretrain")
                .then(|| 0.2 + 0.42 * done + 0.01 * dice.normal()),
            multiply_adds: Some(done_before + epoch as u64 * 9_585_000_000_000),
            images: Some(done_before / 213_000_000 + epoch as u64 * 45_000),
            seconds: Some((done_before / 213_000_000) as f64 / 402.5 + epoch as f64 * 111.8),
        }
    });
    StageCurve {
        arm: arm.to_owned(),
        stage: stage.to_owned(),
        loss: loss.to_owned(),
        collapse: (stage == "pretrain").then_some((265f64).ln()),
        points: points.collect(),
    }
}

/// A drawn image: a shape on a ground, one shape and colour per class.
fn picture(class: u32, dice: &mut Dice) -> Vec<u8> {
    let ground = [
        dice.uniform() * 160.0,
        dice.uniform() * 160.0,
        dice.uniform() * 160.0,
    ];
    let (x0, y0, size) = (
        12.0 + 8.0 * dice.uniform(),
        12.0 + 8.0 * dice.uniform(),
        6.0 + 5.0 * dice.uniform(),
    );
    let turn = f64::from(class) * 0.7;
    let ink = [
        128.0 + 127.0 * turn.cos(),
        128.0 + 127.0 * (turn + 2.1).cos(),
        128.0 + 127.0 * (turn + 4.2).cos(),
    ];
    let mut rgb = Vec::new();
    for y in 0..32 {
        for x in 0..32 {
            let (dx, dy) = (
                (f64::from(x) - x0).abs() / size,
                (f64::from(y) - y0).abs() / size,
            );
            let inside = match class % 4 {
                0 => dx.hypot(dy) < 1.0,
                1 => dx.max(dy) < 0.9,
                2 => dx + dy < 1.1,
                _ => dx.min(dy) < 0.25 && dx.max(dy) < 1.1,
            };
            for channel in 0..3 {
                let base = if inside {
                    ink[channel]
                } else {
                    ground[channel] + 2.0 * f64::from(y)
                };
                rgb.push((base + 12.0 * dice.normal()).clamp(0.0, 255.0) as u8);
            }
        }
    }
    rgb
}

fn map(arm: &str, method: &str, labels: &[u32], dice: &mut Dice) -> EmbeddingMap {
    let spread = if arm == "baseline" { 1.4 } else { 4.0 };
    let spread = spread * if method == "PCA" { 1.0 } else { 1.6 };
    let points = labels.iter().map(|label| {
        let angle = f64::from(*label) * 0.628;
        let radius = spread * (1.0 + 0.25 * f64::from(*label % 3));
        [
            (radius * angle.cos() + 1.2 * dice.normal()) as f32,
            (0.8 * radius * angle.sin() + dice.normal()) as f32,
        ]
    });
    EmbeddingMap {
        arm: arm.to_owned(),
        points: points.collect(),
        explained: (method == "PCA").then_some([0.31, 0.17]),
    }
}

/// Pictures of all test images, answers of all arms, and neighbours in the first two.
fn gallery(images: usize, arms: &[&str], dice: &mut Dice) -> Gallery {
    let labels: Vec<u32> = (0..images as u32).map(|image| image % 10).collect();
    let rgb = labels
        .iter()
        .flat_map(|label| picture(*label, dice))
        .collect();
    let arms = arms
        .iter()
        .zip([0.52, 0.575, 0.51, 0.6, 0.7])
        .enumerate()
        .map(|(place, (arm, accuracy))| GalleryArm {
            arm: (*arm).to_owned(),
            predicted: predictions(&labels, accuracy, dice),
            confidence: (0..images)
                .map(|_| (0.35 + 0.64 * dice.uniform()) as f32)
                .collect(),
            neighbours: if place > 1 {
                Vec::new()
            } else {
                (0..images)
                    .map(|image| {
                        (0..10)
                            .map(|_| neighbour(image, images, accuracy, dice))
                            .collect()
                    })
                    .collect()
            },
        });
    let arms = arms.collect();
    Gallery {
        labels,
        pictures: Some(Pictures {
            height: 32,
            width: 32,
            rgb,
        }),
        arms,
    }
}

/// Another image, of the same class (a multiple of ten away) about as often as `accuracy` says.
fn neighbour(image: usize, images: usize, accuracy: f64, dice: &mut Dice) -> u32 {
    let away = 1 + (dice.uniform() * (images / 10 - 2) as f64) as usize;
    let other = usize::from(dice.uniform() > accuracy) * 3;
    ((image + 10 * away + other) % images) as u32
}

fn snapshots(arm: &str, space: &str, dice: &mut Dice) -> Snapshots {
    let labels: Vec<u32> = (0..100).map(|image| image / 10).collect();
    let gap = match (arm, space) {
        ("baseline", _) => 0.35,
        (_, "features") => 0.5,
        _ => 0.8,
    };
    let frames = (0..=12).map(|epoch| {
        let done = 1.0 - (-3.0 * epoch as f64 / 12.0).exp();
        let mut similarity = vec![1f32; 100 * 100];
        for i in 0..100 {
            for j in i + 1..100 {
                let apart = if labels[i] == labels[j] { 0.1 } else { 1.0 };
                let cosine = 0.97 - gap * done * (apart + 0.25 * dice.uniform());
                similarity[i * 100 + j] = cosine as f32;
                similarity[j * 100 + i] = cosine as f32;
            }
        }
        SnapshotFrame { epoch, similarity }
    });
    Snapshots {
        arm: arm.to_owned(),
        space: space.to_owned(),
        frames: frames.collect(),
        labels,
    }
}

/// The report of the first two arms on `images` test images: as large as a page has to be.
#[allow(dead_code)] // one of the two users of this file needs it
pub fn large(images: usize) -> ReportInput {
    let mut dice = Dice::new(13);
    let mut input = input(2);
    let labels: Vec<u32> = (0..images as u32).map(|image| image % 10).collect();
    let mut maps = |method: &str, count: usize| EmbeddingMaps {
        method: method.to_owned(),
        images: (0..count as u32).collect(),
        labels: labels[..count].to_vec(),
        maps: ["baseline", "contrastive"]
            .iter()
            .map(|arm| map(arm, method, &labels[..count], &mut dice))
            .collect(),
    };
    input.maps = vec![maps("PCA", images), maps("t-SNE", images.min(2500))];
    input.gallery = Some(gallery(images, &["baseline", "contrastive"], &mut dice));
    input
}

/// Results of the first `arms` arms.
pub fn results(arms: usize) -> Results {
    let mut dice = Dice::new(7);
    let labels: Vec<u32> = (0..TEST_IMAGES as u32).map(|image| image % 10).collect();
    let dataset = DatasetRecord {
        name: "SYNTHETIC demo (invented figures)".to_owned(),
        source: "drawn and invented for looking at the report's design; nothing was trained"
            .to_owned(),
        synthetic: true,
        classes: CLASSES.map(str::to_owned).to_vec(),
        checksums: BTreeMap::from([("demo.bin".to_owned(), "0".repeat(64))]),
        train_images: 45_000,
        validation_images: 5_000,
        test_images: TEST_IMAGES as u64,
        height: 32,
        width: 32,
        note: None,
    };
    let environment = Environment {
        versions: BTreeMap::from([("eval".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        device: "cpu".to_owned(),
        cpu: "an invented CPU".to_owned(),
        threads: 2,
        simd: "avx512f".to_owned(),
        os: "linux x86_64".to_owned(),
        rustc: "rustc 1.95.0".to_owned(),
        started: Some("2026-01-01T00:00:00Z".to_owned()),
        finished: Some("2026-01-01T00:30:00Z".to_owned()),
        ..Environment::default()
    };
    let recipe = serde_json::json!({"name": "demo", "pretrain": {"loss": "npairs", "temperature": 0.05, "epochs": 12}});
    let mut results = Results::new(
        dataset,
        environment,
        recipe,
        0,
        "cargo run -p eval --example demo_report -- FOLDER",
    );
    let mut right: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for (arm, accuracy) in ARMS
        .into_iter()
        .zip([0.52, 0.575, 0.51, 0.6, 0.7])
        .take(arms)
    {
        let guessed = predictions(&labels, accuracy, &mut dice);
        let weaker = predictions(&labels, accuracy - 0.015, &mut dice);
        right.insert(
            arm,
            labels
                .iter()
                .zip(&guessed)
                .map(|(label, guess)| label == guess)
                .collect(),
        );
        let heads = BTreeMap::from([
            ("linear".to_owned(), metrics(&labels, &guessed)),
            ("mlp".to_owned(), metrics(&labels, &weaker)),
        ]);
        let embedding = EmbeddingMetrics {
            knn_top1: Some(accuracy - 0.03),
            precision_at_1: Some(accuracy - 0.06),
            map_at_r: Some(accuracy - 0.3),
            alignment: Some(0.9 - accuracy),
            uniformity: Some(-1.2 - accuracy),
            effective_rank: Some(400.0 * accuracy),
            ..EmbeddingMetrics::default()
        };
        let record =
            ArmResult::new("linear", heads, embedding, TrainRecord::over(stages(arm))).unwrap();
        results.arms.insert(arm.to_owned(), record);
    }
    for arm in right.keys().filter(|arm| **arm != "baseline") {
        results
            .compare(arm, &right[arm], "baseline", &right["baseline"], &labels)
            .unwrap();
    }
    results
}

/// Everything that a report can show, for the first `arms` arms.
pub fn input(arms: usize) -> ReportInput {
    let mut dice = Dice::new(11);
    let mut input = ReportInput::new(results(arms));
    let runs: Vec<&str> = ARMS.into_iter().take(arms).collect();
    input.recipe_text =
        "name = \"demo\"\n\n[pretrain]\nloss = \"npairs\"\ntemperature = 0.05\nepochs = 12\n"
            .to_owned();
    input.curves = vec![curve(
        "baseline",
        "supervised",
        "cross-entropy",
        2.3,
        1.1,
        12,
        &mut dice,
    )];
    if arms > 1 {
        input.curves.push(curve(
            "contrastive",
            "pretrain",
            "npairs",
            5.58,
            4.1,
            12,
            &mut dice,
        ));
        input.curves.push(curve(
            "contrastive",
            "probe-linear",
            "cross-entropy",
            1.9,
            1.05,
            10,
            &mut dice,
        ));
    }
    if arms > 3 {
        input.curves.push(curve(
            "control",
            "probe-linear",
            "cross-entropy",
            1.7,
            1.15,
            10,
            &mut dice,
        ));
        input.curves.push(curve(
            "finetuned",
            "finetune",
            "cross-entropy",
            1.2,
            0.8,
            4,
            &mut dice,
        ));
    }
    let labels: Vec<u32> = (0..TEST_IMAGES as u32).map(|image| image % 10).collect();
    input.maps = ["PCA", "t-SNE"]
        .into_iter()
        .map(|method| EmbeddingMaps {
            method: method.to_owned(),
            images: (0..TEST_IMAGES as u32).collect(),
            labels: labels.clone(),
            maps: runs
                .iter()
                .take(2)
                .map(|arm| map(arm, method, &labels, &mut dice))
                .collect(),
        })
        .collect();
    input.gallery = Some(gallery(TEST_IMAGES, &runs, &mut dice));
    input.snapshots = runs
        .iter()
        .take(2)
        .flat_map(|arm| {
            let spaces: &[&str] = if *arm == "baseline" {
                &["features"]
            } else {
                &["features", "embeddings"]
            };
            spaces.iter().map(|space| (*arm, *space))
        })
        .map(|(arm, space)| snapshots(arm, space, &mut dice))
        .collect();
    input.samples = (0..12)
        .map(|index| {
            let label = index as u32 % 10;
            let answers = runs.iter().map(|arm| {
                let class = if dice.uniform() < 0.6 {
                    label
                } else {
                    (dice.uniform() * 10.0) as u32
                };
                (
                    (*arm).to_owned(),
                    SamplePrediction {
                        class,
                        confidence: 0.35 + 0.6 * dice.uniform(),
                    },
                )
            });
            SamplePhoto {
                index: index * 163,
                height: 32,
                width: 32,
                label,
                predictions: answers.collect(),
                rgb: picture(label, &mut dice),
            }
        })
        .collect();
    input
}
