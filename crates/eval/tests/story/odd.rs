//! Reports of what is odd: hostile names, any number of arms and classes, numbers that are none, parts that do not fit.

use crate::invented;
use crate::report::{assert_balanced, without_base64, write};
use eval::{ReportInput, summary_table, write_report};

#[test]
fn hostile_names_stay_text() {
    let mut input = invented::input(3);
    let hostile = "<script>alert('x')</script>\"|*&\u{1}";
    input.results.dataset.classes[0] = hostile.to_owned();
    input.results.dataset.source = hostile.to_owned();
    input.results.dataset.name = format!("data {hostile}");
    input.results.command = format!("{hostile} ``` </code>");
    input.results.notes.push(hostile.to_owned());
    input.recipe_text = format!("# {hostile}\n```\n<b>");
    input.curves[0].loss = hostile.to_owned();
    input.curves[0].stage = hostile.to_owned();
    input.curves[1].arm = format!("../../{hostile}");
    input.maps[0].maps[0].arm = hostile.to_owned();
    input.snapshots[0].space = hostile.to_owned();
    input.gallery.as_mut().unwrap().arms[1].arm = hostile.to_owned();
    let arm = input.results.arms["baseline"].clone();
    input.results.arms.insert(hostile.to_owned(), arm);
    let answer = input.samples[0].predictions["baseline"];
    input.samples[0]
        .predictions
        .insert(hostile.to_owned(), answer);
    let written = write(&input);
    assert_balanced(&written.html, "report.html");
    // Photographs, data and script, and no fourth one: what is hostile stands in the data, and cannot end them.
    assert_eq!(written.html.matches("<script").count(), 3);
    assert_eq!(written.html.matches("</script").count(), 3);
    assert!(!written.html.contains("<b>"));
    let outside_code: String = written.markdown.split("````").step_by(2).collect();
    assert!(!outside_code.contains("<script"));
    for (file, svg) in &written.figures {
        assert_balanced(svg, file);
        assert!(!svg.contains("<script") && !svg.contains('\u{1}'), "{file}");
        assert!(
            file.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)),
            "{file}"
        );
    }
}

#[test]
fn stages_with_like_names_have_files_of_their_own() {
    let mut input = invented::input(2);
    input.curves[1].arm = "baseline".to_owned();
    input.curves[1].stage = "super vised".to_owned();
    input.curves[2].arm = "baseline".to_owned();
    input.curves[2].stage = "super-vised".to_owned();
    let written = write(&input);
    let names: Vec<&str> = written
        .figures
        .iter()
        .map(|(file, _)| file.as_str())
        .collect();
    assert!(
        names.contains(&"curve-baseline-super-vised.svg")
            && names.contains(&"curve-baseline-super-vised-2.svg")
    );
}

#[test]
fn any_number_of_arms_makes_a_report() {
    for arms in 0..=5 {
        let mut input = invented::input(arms);
        let written = write(&input);
        assert_balanced(&written.html, "report.html");
        if arms == 1 {
            assert!(
                written
                    .html
                    .contains("one arm and one seed compare nothing")
            );
        }
        input.curves.clear();
        for stage in input
            .results
            .arms
            .values_mut()
            .flat_map(|arm| &mut arm.train.stages)
        {
            stage.joules = None;
        }
        input.maps.clear();
        input.gallery = None;
        input.snapshots.clear();
        input.samples.clear();
        input.recipe_text.clear();
        let bare = write(&input);
        assert_balanced(&bare.html, "report.html");
        for absent in [
            "id=\"curves\"",
            "id=\"maps\"",
            "id=\"photographs\"",
            "id=\"similarity\"",
            "id=\"retrieval\"",
            "id=\"mistakes\"",
            "<script",
        ] {
            assert!(!bare.html.contains(absent));
        }
        assert!(bare.html.contains("energy was not measured") && !bare.html.contains("kJ"));
        assert!(
            bare.html.contains("npairs"),
            "the recipe is shown from the results"
        );
    }
}

#[test]
fn arms_without_a_baseline_are_compared_with_the_first() {
    let mut input = invented::input(3);
    input.results.arms.remove("baseline");
    let written = write(&input);
    assert!(written.html.contains("Difference to contrastive"));
    assert!(written.html.contains("the control arm reached"));
}

#[test]
fn what_is_not_finite_is_a_dash_and_a_gap() {
    let mut input = invented::input(2);
    for arm in input.results.arms.values_mut() {
        for test in arm.heads.values_mut().chain([&mut arm.test.classification]) {
            test.top1 = f64::NAN;
            test.top5 = f64::INFINITY;
            test.nll = f64::NEG_INFINITY;
            test.per_class = vec![f64::NAN; 10];
            test.reliability
                .iter_mut()
                .for_each(|bin| bin.accuracy = f64::NAN);
            test.confusion = vec![vec![0; 10]; 10];
        }
        arm.train.seconds = f64::NAN;
        arm.test.embedding.map_at_r = Some(f64::NAN);
    }
    input.results.comparisons.clear();
    input.curves[0].points[4].train_loss = f64::NAN;
    input.curves[1]
        .points
        .iter_mut()
        .for_each(|point| point.train_loss = f64::INFINITY);
    input.maps[0].maps[0].points[5] = [f32::NAN, 0.0];
    input.maps[0].maps[1]
        .points
        .iter_mut()
        .for_each(|point| *point = [f32::INFINITY, 0.0]);
    input.samples[0]
        .predictions
        .values_mut()
        .for_each(|answer| answer.confidence = f64::NAN);
    let written = write(&input);
    assert_balanced(&written.html, "report.html");
    let texts = written
        .figures
        .iter()
        .map(|(_, svg)| svg)
        .chain([&written.html, &written.markdown]);
    for text in texts {
        let visible = without_base64(text);
        assert!(!visible.contains("NaN") && !visible.contains(">inf"));
    }
    assert!(written.html.contains("One image has no finite position"));
    assert!(summary_table(&input.results).contains('–'));
}

#[test]
fn parts_that_do_not_fit_are_refused_before_anything_is_written() {
    type Spoil = fn(&mut ReportInput);
    let spoilt: [(Spoil, &str); 10] = [
        (
            |input| input.maps[0].images.truncate(7),
            "7 images for 2000 labels",
        ),
        (
            |input| {
                input
                    .gallery
                    .as_mut()
                    .unwrap()
                    .pictures
                    .as_mut()
                    .unwrap()
                    .rgb
                    .truncate(6_143_999)
            },
            "got 6143999",
        ),
        (
            |input| {
                input.gallery.as_mut().unwrap().arms[0]
                    .confidence
                    .truncate(3)
            },
            "3 confidences for 2000 images",
        ),
        (
            |input| input.gallery.as_mut().unwrap().arms[1].neighbours[8][2] = 2000,
            "each of 2000 images has 10 neighbours",
        ),
        (
            |input| input.snapshots[0].frames[2].similarity.truncate(9999),
            "9999 similarities for 100 images",
        ),
        (
            |input| input.maps[0].maps[1].points.truncate(1999),
            "1999 points for 2000 labels",
        ),
        (|input| input.maps[0].labels[0] = 10, "label 10"),
        (
            |input| input.samples[2].rgb.truncate(3071),
            "3072 bytes, got 3071",
        ),
        (|input| input.samples[2].label = 99, "class 99"),
        (
            |input| {
                drop(
                    input
                        .results
                        .arms
                        .get_mut("baseline")
                        .unwrap()
                        .test
                        .classification
                        .confusion
                        .pop(),
                )
            },
            "10×10",
        ),
    ];
    for (spoil, expected) in spoilt {
        let mut input = invented::input(2);
        spoil(&mut input);
        let folder = tempfile::tempdir().unwrap();
        let message = write_report(folder.path(), &input).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn many_classes_make_a_small_page() {
    let mut input = invented::input(2);
    let classes = 100;
    input.results.dataset.classes = (0..classes).map(|class| format!("class {class}")).collect();
    for arm in input.results.arms.values_mut() {
        let test = &mut arm.test.classification;
        test.confusion = (0..classes)
            .map(|row| {
                (0..classes)
                    .map(|column| ((row * 7 + column * 3) % 11) as u64)
                    .collect()
            })
            .collect();
        test.per_class = vec![0.5; classes];
    }
    input.gallery = None;
    let written = write(&input);
    assert_balanced(&written.html, "report.html");
    assert!(written.html.len() < 3_500_000, "{}", written.html.len());
    assert!(written.html.contains("15 largest gains"));
}
