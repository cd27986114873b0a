//! The tables of the report, as text cells: HTML and Markdown show the same ones.

use super::figures::most_confused;
use super::format::{
    NONE, arm_title, count, decimal, duration, energy, optional, percent, points, points_range,
    rate, scientific,
};
use super::story::reference;
use crate::comparison::wilson_interval;
use crate::results::{EmbeddingMetrics, Results};

/// A table; the first column names the row, the columns from `numbers` on hold numbers.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Row>,
    pub(crate) numbers: usize,
}

/// A row; a `strong` one is set apart (a headline, a sum).
pub(crate) struct Row {
    pub(crate) cells: Vec<String>,
    pub(crate) strong: bool,
}

impl Table {
    pub(crate) fn new(caption: String, head: &[&str], numbers: usize) -> Self {
        Table {
            caption,
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            rows: Vec::new(),
            numbers,
        }
    }

    pub(crate) fn push(&mut self, cells: Vec<String>, strong: bool) {
        self.rows.push(Row { cells, strong });
    }
}

/// The arms by their headline heads.
pub(crate) fn arms(results: &Results) -> Table {
    let reference = reference(results).unwrap_or_default();
    let difference = format!("Difference to {}", arm_title(reference).to_lowercase());
    let caption = format!(
        "Test split of {}, headline heads, seed {}. Intervals: 95 % over test images; differences in percentage points.",
        results.dataset.label(),
        results.seed
    );
    let head = [
        "Arm",
        "Head",
        "Test top\u{2011}1",
        "Interval",
        &difference,
        "Interval of the difference",
        "Top\u{2011}5",
        "ECE",
    ];
    let mut table = Table::new(caption, &head, 2);
    for (name, arm) in results.arms_in_order() {
        let test = &arm.test.classification;
        let interval = wilson_interval(test.top1, arm.test.images());
        let comparison = (name != reference)
            .then(|| results.comparison(name, reference))
            .flatten();
        table.push(
            vec![
                arm_title(name),
                arm.headline.clone(),
                percent(test.top1),
                interval.map_or_else(
                    || NONE.to_owned(),
                    |(low, high)| format!("{} to {}", percent(low), percent(high)),
                ),
                comparison.as_ref().map_or_else(
                    || NONE.to_owned(),
                    |comparison| points(comparison.difference),
                ),
                comparison.map_or_else(
                    || NONE.to_owned(),
                    |comparison| points_range(comparison.low, comparison.high),
                ),
                percent(test.top5),
                percent(test.ece),
            ],
            false,
        );
    }
    table
}

/// Every head of every arm. `None` if no arm has more than its headline.
pub(crate) fn heads(results: &Results) -> Option<Table> {
    if results.arms.values().all(|arm| arm.heads.len() < 2) {
        return None;
    }
    let caption = format!(
        "Every head on the test split of {}. The headline head of an arm is set in bold.",
        results.dataset.label()
    );
    let mut table = Table::new(
        caption,
        &[
            "Arm",
            "Head",
            "Test top\u{2011}1",
            "Top\u{2011}5",
            "ECE",
            "Negative log-likelihood",
        ],
        2,
    );
    for (name, arm) in results.arms_in_order() {
        for (head, metrics) in &arm.heads {
            table.push(
                vec![
                    arm_title(name),
                    head.clone(),
                    percent(metrics.top1),
                    percent(metrics.top5),
                    percent(metrics.ece),
                    decimal(metrics.nll),
                ],
                *head == arm.headline,
            );
        }
    }
    Some(table)
}

/// The features without any head. `None` if none was measured.
pub(crate) fn embeddings(results: &Results) -> Option<Table> {
    if results
        .arms
        .values()
        .all(|arm| arm.test.embedding == EmbeddingMetrics::default())
    {
        return None;
    }
    let caption = format!(
        "The encoders' features on the test split of {}, without any head.",
        results.dataset.label()
    );
    let head = [
        "Arm",
        "kNN top\u{2011}1",
        "Precision@1",
        "MAP@R",
        "Alignment",
        "Uniformity",
        "Effective rank",
    ];
    let mut table = Table::new(caption, &head, 1);
    for (name, arm) in results.arms_in_order() {
        let features = &arm.test.embedding;
        table.push(
            vec![
                arm_title(name),
                optional(features.knn_top1, percent),
                optional(features.precision_at_1, percent),
                optional(features.map_at_r, percent),
                optional(features.alignment, decimal),
                optional(features.uniformity, decimal),
                optional(features.effective_rank, |rank| format!("{rank:.1}")),
            ],
            false,
        );
    }
    Some(table)
}

/// What every stage of every arm cost, and the sums.
pub(crate) fn budget(results: &Results) -> Table {
    let measured = results
        .arms
        .values()
        .flat_map(|arm| &arm.train.stages)
        .any(|stage| stage.joules.is_some());
    let energy_told = if measured {
        "energy is that of the processor packages (RAPL), whatever else ran on them."
    } else {
        "energy was not measured: the machine shows no counters that could be read (RAPL)."
    };
    let caption = format!(
        "What training cost. A stage that two arms rest on was run once and stands in both; multiply-adds count forward \
         and backward passes; {energy_told}"
    );
    let mut head = vec![
        "Arm",
        "Stage",
        "Epochs",
        "Images seen",
        "Multiply-adds",
        "Time",
        "Images/s",
    ];
    if measured {
        head.push("Energy");
    }
    let mut table = Table::new(caption, &head, 2);
    for (name, arm) in results.arms_in_order() {
        let train = &arm.train;
        let cells = |stage: &str, epochs, images, spent, seconds, speed, joules| {
            let spent = if spent == 0 {
                NONE.to_owned()
            } else {
                scientific(spent)
            };
            let mut cells = vec![
                arm_title(name),
                stage.to_owned(),
                count(epochs),
                count(images),
                spent,
                duration(seconds),
                rate(speed),
            ];
            if measured {
                cells.push(optional(joules, energy));
            }
            cells
        };
        for stage in &train.stages {
            let row = cells(
                &stage.name,
                stage.epochs,
                stage.images_seen,
                stage.multiply_adds,
                stage.seconds,
                stage.images_per_second,
                stage.joules,
            );
            table.push(row, train.stages.len() == 1);
        }
        if train.stages.len() != 1 {
            let sum = cells(
                "all stages",
                train.epochs,
                train.images_seen,
                train.multiply_adds,
                train.seconds,
                train.images_per_second,
                train.joules(),
            );
            table.push(sum, true);
        }
    }
    table
}

/// Test accuracy per class and arm. `None` without classes or arms.
pub(crate) fn classes(results: &Results) -> Option<Table> {
    let arms = results.arms_in_order();
    if arms.is_empty() || results.dataset.classes.is_empty() {
        return None;
    }
    let mut head = vec!["Class".to_owned(), "Images".to_owned()];
    head.extend(arms.iter().map(|(name, _)| arm_title(name)));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let caption = format!("Test accuracy by class, {}.", results.dataset.label());
    let mut table = Table::new(caption, &head, 1);
    for (class, name) in results.dataset.classes.iter().enumerate() {
        let images = arms
            .iter()
            .find_map(|(_, arm)| Some(arm.test.classification.confusion.get(class)?.iter().sum()));
        let mut cells = vec![name.clone(), images.map_or_else(|| NONE.to_owned(), count)];
        cells.extend(arms.iter().map(|(_, arm)| {
            optional(
                arm.test.classification.per_class.get(class).copied(),
                percent,
            )
        }));
        table.push(cells, false);
    }
    Some(table)
}

/// The most frequent errors of each arm. `None` where no errors were counted.
pub(crate) fn errors(results: &Results) -> Option<Table> {
    let caption = format!(
        "The five most frequent errors of each arm, {}.",
        results.dataset.label()
    );
    let mut table = Table::new(
        caption,
        &[
            "Arm",
            "True class",
            "Taken for",
            "Images",
            "Share of the class",
        ],
        3,
    );
    let class = |class: usize| {
        results
            .dataset
            .classes
            .get(class)
            .cloned()
            .unwrap_or_else(|| class.to_string())
    };
    for (name, arm) in results.arms_in_order() {
        let confusion = &arm.test.classification.confusion;
        for (truth, predicted, images) in most_confused(confusion, 5) {
            let all: u64 = confusion[truth].iter().sum();
            let share = percent(images as f64 / all as f64);
            table.push(
                vec![
                    arm_title(name),
                    class(truth),
                    class(predicted),
                    count(images),
                    share,
                ],
                false,
            );
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The data set, as name and value.
pub(crate) fn dataset(results: &Results) -> Vec<(String, String)> {
    let data = &results.dataset;
    let mut facts = vec![
        ("Name".to_owned(), data.label()),
        ("Source".to_owned(), data.source.clone()),
        (
            "Synthetic".to_owned(),
            if data.synthetic {
                "yes: drawn by the program"
            } else {
                "no"
            }
            .to_owned(),
        ),
        (
            "Images".to_owned(),
            format!(
                "{} train, {} validation, {} test; {}\u{a0}×\u{a0}{} pixels",
                count(data.train_images),
                count(data.validation_images),
                count(data.test_images),
                data.height,
                data.width
            ),
        ),
        (
            "Classes".to_owned(),
            format!("{}: {}", data.classes.len(), data.classes.join(", ")),
        ),
    ];
    facts.extend(
        data.checksums
            .iter()
            .map(|(file, sum)| (file.clone(), sum.clone())),
    );
    facts
}

/// Machine and program, as name and value.
pub(crate) fn environment(results: &Results) -> Vec<(String, String)> {
    let place = &results.environment;
    let mut facts = vec![
        ("Device".to_owned(), place.device.clone()),
        ("CPU".to_owned(), place.cpu.clone()),
        ("Threads".to_owned(), place.threads.to_string()),
        ("SIMD".to_owned(), place.simd.clone()),
        ("System".to_owned(), place.os.clone()),
        ("Compiler".to_owned(), place.rustc.clone()),
        (
            "Git revision".to_owned(),
            place
                .git_revision
                .clone()
                .unwrap_or_else(|| "unknown".to_owned()),
        ),
        ("Seed".to_owned(), results.seed.to_string()),
    ];
    facts.extend(
        place
            .versions
            .iter()
            .map(|(name, version)| (name.clone(), version.clone())),
    );
    facts.extend(
        place
            .started
            .iter()
            .map(|time| ("Started".to_owned(), time.clone())),
    );
    facts.extend(
        place
            .finished
            .iter()
            .map(|time| ("Finished".to_owned(), time.clone())),
    );
    facts.retain(|(_, value)| !value.is_empty());
    facts
}
