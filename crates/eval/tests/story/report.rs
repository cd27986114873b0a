//! The report: it says what the results say, names what it shows, harms nobody, and reaches out to nowhere.

use std::path::{Path, PathBuf};

use crate::invented;
use eval::{
    CorruptionRecord, DuplicatesRecord, FewShotRecord, ProbeRecord, ReportInput, SeedsComparison,
    SeedsSummary, Spread, Verdict, summary_table, write_report,
};
use std::collections::BTreeMap;

pub struct Written {
    pub html: String,
    pub markdown: String,
    pub figures: Vec<(String, String)>,
}

pub fn write(input: &ReportInput) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let paths = write_report(folder.path(), input).unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    assert_eq!(
        std::fs::read_dir(folder.path().join("figures"))
            .unwrap()
            .count(),
        paths.figures.len() + paths.pictures.len()
    );
    if cfg!(feature = "png") {
        let names = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths.iter().map(|path| path.with_extension("")).collect()
        };
        assert_eq!(names(&paths.pictures), names(&paths.figures));
    }
    Written {
        html: read(&paths.html),
        markdown: read(&paths.markdown),
        figures: paths
            .figures
            .iter()
            .map(|path| (name(path), read(path)))
            .collect(),
    }
}

/// Is the text well-formed as far as tags go? Void elements of HTML are known; raw text (style, script) is skipped.
pub fn assert_balanced(text: &str, what: &str) {
    let void = ["meta", "link", "img", "br", "!doctype"];
    let raw = ["style", "script"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let end = start
            + rest[start..]
                .find('>')
                .unwrap_or_else(|| panic!("{what}: a tag does not end"));
        let tag = &rest[start + 1..end];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '\n', '/'])
            .next()
            .unwrap();
        rest = &rest[end + 1..];
        if tag.starts_with('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "{what}: </{name}> closes another element"
            );
        } else if !tag.ends_with('/') && !void.contains(&name) {
            open.push(name);
        }
        if raw.contains(&name) && !tag.starts_with('/') {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
    }
    assert!(open.is_empty(), "{what}: {open:?} stay open");
}

/// The text less pictures and packed numbers, which hold any letters.
pub fn without_base64(text: &str) -> String {
    let text = text
        .replace("base64,", "\u{0}")
        .replace("\"data\":\"", "\u{0}");
    let rest = text
        .split('\u{0}')
        .enumerate()
        .map(|(part, text)| match part {
            0 => text,
            _ => text.split_once('"').map_or("", |(_, rest)| rest),
        });
    rest.collect()
}

#[test]
fn the_report_holds_the_figures_of_the_results() {
    let input = invented::input(5);
    let written = write(&input);
    for (name, arm) in &input.results.arms {
        let test = &arm.test.classification;
        let comparison = input.results.comparison(name, "baseline").unwrap();
        let mut figures = vec![
            format!("{:.2}\u{a0}%", 100.0 * test.top1),
            format!("{:.2}\u{a0}%", 100.0 * test.top5),
        ];
        figures.push(format!("{:.2}\u{a0}%", 100.0 * arm.heads["mlp"].top1));
        figures.extend(
            test.per_class
                .iter()
                .map(|share| format!("{:.2}\u{a0}%", 100.0 * share)),
        );
        if name != "baseline" {
            figures.push(format!("+{:.2}", 100.0 * comparison.difference).replace("+-", "−"));
        }
        for figure in figures {
            assert!(
                written.html.contains(&figure),
                "{name}: {figure} is not in report.html"
            );
            assert!(
                written.markdown.contains(&figure),
                "{name}: {figure} is not in report.md"
            );
        }
        // Every count of the confusion matrix stands in its figure.
        let (_, svg) = written
            .figures
            .iter()
            .find(|(file, _)| *file == format!("confusion-{name}.svg"))
            .unwrap();
        for count in test.confusion.iter().flatten().filter(|count| **count > 0) {
            assert!(svg.contains(&format!(">{count}</text>")), "{name}: {count}");
        }
    }
    for text in [&written.html, &written.markdown] {
        assert!(text.contains("one seed gives no verdict"));
        assert!(text.contains("probe-linear") && text.contains("22\u{a0}min 22\u{a0}s"));
        // 12 epochs of 45,000 images at 402.5 a second and 41.5 watts.
        assert!(text.contains("55.68\u{a0}kJ") && text.contains("processor packages"));
        assert!(text.contains("an invented CPU") && text.contains("temperature = 0.05"));
    }
    // The answer comes before every table and figure.
    assert!(written.html.find("class=\"lead\"").unwrap() < written.html.find("<table").unwrap());
}

#[test]
fn pages_are_well_formed_and_reach_out_to_nowhere() {
    let written = write(&invented::input(5));
    assert_balanced(&written.html, "report.html");
    for forbidden in [
        "http://",
        "https://",
        "@import",
        "url(",
        "<iframe",
        "<object",
        "src=\"//",
        "onload",
        "<script src",
    ] {
        assert!(
            !written.html.contains(forbidden),
            "report.html contains {forbidden}"
        );
    }
    for reference in written.html.split(" src=\"").skip(1) {
        assert!(
            reference.starts_with("data:image/png;base64,")
                || reference.starts_with("data:image/jpeg;base64,")
        );
    }
    for reference in written.html.split(" href=\"").skip(1) {
        assert!(
            reference.starts_with('#') || reference.starts_with("data:"),
            "{}",
            &reference[..30]
        );
    }
    for (file, svg) in &written.figures {
        assert_balanced(svg, file);
        assert!(
            !without_base64(svg)
                .replace("http://www.w3.org/2000/svg", "")
                .contains("http"),
            "{file}"
        );
        let visible = without_base64(svg);
        assert!(
            !visible.contains("NaN") && !visible.contains("inf\""),
            "{file}"
        );
        assert!(
            written.markdown.contains(&format!("](figures/{file})")),
            "{file} is not in report.md"
        );
    }
    // The policy allows the one script by its hash, pictures that the page carries, and nothing else.
    let policy = "default-src 'none'; script-src 'sha256-";
    assert_eq!(written.html.matches(policy).count(), 1);
    assert!(
        !written.html.contains("'unsafe-eval'") && written.html.matches("<script>").count() == 1
    );
    // Nothing links to a section that is not there.
    for target in written.html.split(" href=\"#").skip(1) {
        let target = &target[..target.find('"').unwrap()];
        assert!(
            written.html.contains(&format!("id=\"{target}\"")),
            "#{target}"
        );
    }
}

#[test]
fn two_thousand_photographs_stay_below_ten_megabytes() {
    let input = invented::input(5);
    assert_eq!(input.maps[0].labels.len(), 2000);
    let size = write(&input).html.len();
    assert!(size < 10_000_000, "{size} bytes");
}

#[test]
fn several_seeds_change_the_answer_and_five_may_give_a_verdict() {
    let mut input = invented::input(2);
    let single = write(&input).html;
    assert!(
        single.contains("one seed gives no verdict")
            && !single.contains("over seeds and test images")
    );
    let spread = |mean: f64, seeds: usize| {
        Spread::of(
            (0..seeds)
                .map(|seed| mean + 0.004 * (seed as f64 - 1.0))
                .collect(),
        )
    };
    for (seeds, verdict, said) in [
        (
            3,
            Verdict::TooFewSeeds,
            "3 seeds give no verdict, it takes 5",
        ),
        (5, Verdict::Better, "; better."),
        (5, Verdict::Undecided, "undecided: the interval holds zero"),
    ] {
        let top1 = |mean| BTreeMap::from([("top1".to_owned(), spread(mean, seeds))]);
        let paired = SeedsComparison {
            difference: spread(0.0472, seeds),
            low: 0.0131,
            high: 0.0817,
            images: 2000,
            resamples: 2000,
            verdict,
        };
        input.results.seeds = Some(SeedsSummary {
            seeds: (0..seeds as u64).collect(),
            arms: BTreeMap::from([
                ("baseline".to_owned(), top1(0.52)),
                ("contrastive".to_owned(), top1(0.56)),
            ]),
            comparisons: BTreeMap::from([("contrastive-baseline".to_owned(), paired)]),
        });
        let written = write(&input);
        for text in [&written.html, &written.markdown] {
            assert!(text.contains(said), "{said}");
            assert!(
                text.contains(&format!("Over {seeds} seeds")) && text.contains("+1.31 to +8.17")
            );
            assert!(!text.contains("one seed gives no verdict"));
        }
        if seeds == 3 {
            // 0.516, 0.52, 0.524
            assert!(written.html.contains("52.00\u{a0}% ± 0.40"));
        }
    }
}

#[test]
fn what_was_measured_beyond_the_headline_has_a_table() {
    let mut input = invented::input(2);
    assert!(!write(&input).html.contains("43.21\u{a0}%"));
    let arm = input.results.arms.get_mut("contrastive").unwrap();
    let probe = ProbeRecord {
        top1: 0.4321,
        ..ProbeRecord::default()
    };
    arm.probes.insert("lbfgs_1pct".to_owned(), probe);
    arm.corruption = Some(CorruptionRecord {
        images: 500,
        mean_error: 0.6789,
        ..CorruptionRecord::default()
    });
    arm.duplicates = Some(DuplicatesRecord {
        by_pixels: 73,
        top1: 0.5432,
        ..DuplicatesRecord::default()
    });
    let written = write(&input);
    for text in [&written.html, &written.markdown] {
        for told in [
            "43.21\u{a0}%",
            "67.89\u{a0}%",
            "54.32\u{a0}%",
            "By pixels",
            "repeat a training image",
        ] {
            assert!(text.contains(told), "{told}");
        }
    }
}

#[test]
fn few_shot_stands_in_a_table_by_number_of_images() {
    let mut input = invented::input(2);
    let arm = input.results.arms.get_mut("contrastive").unwrap();
    arm.few_shot = [(1, 0.3124, Some(0.0561)), (20, 0.5087, None)]
        .map(|(shots, top1, deviation)| FewShotRecord {
            shots,
            draws: 100,
            top1,
            deviation,
        })
        .to_vec();
    let written = write(&input);
    for text in [&written.html, &written.markdown] {
        for part in [
            "1 image",
            "20 images",
            "31.24\u{a0}% ± 5.61",
            "50.87\u{a0}%",
            "over 100 draws",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}

#[test]
fn what_all_test_images_tell_is_in_the_figures() {
    let input = invented::input(3);
    let gallery = input.gallery.as_ref().unwrap();
    let written = write(&input);
    let figure = |name: &str| {
        let found = written.figures.iter().find(|(file, _)| file == name);
        &found.unwrap_or_else(|| panic!("{name} is missing")).1
    };
    for arm in ["baseline", "contrastive"] {
        let place = gallery
            .arms
            .iter()
            .position(|found| found.arm == arm)
            .unwrap();
        // The first image of each of ten classes with ten neighbours: as many right marks as the gallery has.
        let right = (0..10)
            .flat_map(|query| &gallery.arms[place].neighbours[query])
            .zip((0..10u32).flat_map(|query| [query; 10]))
            .filter(|(found, query)| gallery.labels[**found as usize] == *query)
            .count();
        let svg = figure(&format!("retrieval-{arm}.svg"));
        assert_eq!(svg.matches(">✓</text>").count(), right);
        assert_eq!(svg.matches("<image").count(), 110);
        assert_eq!(
            figure(&format!("hardest-{arm}.svg"))
                .matches("<image")
                .count(),
            12
        );
        assert!(figure(&format!("confused-{arm}.svg")).contains(" taken for "));
        assert!(figure(&format!("similarity-{arm}-features.svg")).contains(">after, epoch 12<"));
        assert!(
            figure(&format!("map-t-sne-{arm}.svg"))
                .matches("h0")
                .count()
                == 2000
        );
    }
    for arm in ["baseline", "contrastive", "control"] {
        assert!(figure(&format!("reliability-{arm}.svg")).contains("ECE "));
    }
    let confusion = |arm: &str| &input.results.arms[arm].test.classification.confusion;
    let svg = figure("confusion-difference-contrastive.svg");
    let change = confusion("contrastive")[3][5] as i64 - confusion("baseline")[3][5] as i64;
    assert_ne!(change, 0);
    let sign = if change < 0 { '−' } else { '+' };
    assert!(svg.contains(&format!(">{sign}{}</text>", change.abs())));
    // The script's data are all there.
    for key in [
        "\"curves\":[{",
        "\"films\":[{",
        "\"step_x\":32",
        "\"method\":\"t-SNE\"",
    ] {
        assert!(written.html.contains(key), "{key}");
    }
}

#[test]
fn synthetic_data_are_called_so_everywhere_and_photographs_are_not() {
    let mut input = invented::input(2);
    let written = write(&input);
    assert!(written.html.contains("class=\"banner\"") && written.html.contains("SYNTHETIC DATA"));
    assert!(written.markdown.contains("**SYNTHETIC DATA.**"));
    assert!(summary_table(&input.results).contains("SYNTHETIC data"));

    input.results.dataset.synthetic = false;
    input.results.dataset.name = "CIFAR-10 (JPEG mirror)".to_owned();
    let written = write(&input);
    assert!(!written.html.contains("SYNTHETIC") && !written.markdown.contains("SYNTHETIC"));
    assert!(!summary_table(&input.results).contains("SYNTHETIC"));
    // The label of the data travels with the answer, each table of test figures and each picture.
    assert!(written.html.matches("CIFAR-10 (JPEG mirror)").count() >= 8);
    assert!(written.markdown.matches("CIFAR-10 (JPEG mirror)").count() >= 8);
    for (file, svg) in &written.figures {
        assert!(svg.contains("Data: CIFAR-10 (JPEG mirror)"), "{file}");
    }

    input.results.dataset.synthetic = true;
    let written = write(&input);
    assert!(
        written
            .figures
            .iter()
            .all(|(_, svg)| svg.contains("Data: SYNTHETIC: CIFAR-10"))
    );
}

#[test]
fn a_new_report_replaces_the_old_one_and_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    write_report(folder.path(), &invented::input(5)).unwrap();
    let paths = write_report(folder.path(), &invented::input(1)).unwrap();
    let again = std::fs::read(&paths.html).unwrap();
    let figures = std::fs::read_dir(folder.path().join("figures"))
        .unwrap()
        .count();
    assert_eq!(figures, paths.figures.len() + paths.pictures.len());
    write_report(folder.path(), &invented::input(1)).unwrap();
    assert_eq!(
        std::fs::read(&paths.html).unwrap(),
        again,
        "the same input gives the same bytes"
    );
}

#[test]
fn the_summary_fits_a_terminal() {
    for arms in 0..=5 {
        let mut results = invented::results(arms);
        results.dataset.name =
            "a data set whose name takes more room than any terminal has for one".to_owned();
        let table = summary_table(&results);
        for line in table.lines() {
            assert!(
                line.chars().count() <= 80,
                "{} characters: {line}",
                line.chars().count()
            );
        }
        for (_, arm) in results.arms_in_order() {
            assert!(table.contains(&format!("{:.2} %", 100.0 * arm.test.classification.top1)));
        }
    }
}
