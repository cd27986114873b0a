//! `run-all --seeds N`: complete runs in folders of their own, what they say together, and going on.

use std::fs;

use crate::support::{World, assert_narrow};

/// The smallest comparison of two arms.
const SMALL: [&str; 4] = [
    "--set=arms.control=false",
    "--set=arms.finetuned=false",
    "--set=head.epochs=0",
    "--set=evaluate.samples=2",
];

fn summary(world: &World, run: &str) -> serde_json::Value {
    let text = fs::read_to_string(world.path(run).join("seeds.json")).expect("seeds.json");
    serde_json::from_str(&text).expect("JSON")
}

/// A report less the lines that hold the time of its writing.
fn without_date(html: &[u8]) -> Vec<String> {
    let text = String::from_utf8(html.to_vec()).expect("UTF-8");
    let lines = text.lines().filter(|line| !line.contains("Finished"));
    lines.map(str::to_owned).collect()
}

#[test]
fn seeds_are_brought_together_and_more_can_be_added() {
    let world = World::new();
    let with = |count: &'static str| [&["--seeds", count][..], &SMALL].concat();
    let outcome = world.tiny("run-all", "runs/both", &with("2"));
    outcome.ok();
    assert_narrow(&outcome.stdout);
    assert!(
        outcome.stdout.contains("2 seeds give no verdict"),
        "{}",
        outcome.stdout
    );
    let found = summary(&world, "runs/both");
    let seeds: Vec<u64> = found["seeds"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|s| s.as_u64())
        .collect();
    assert_eq!(seeds.len(), 2);
    assert_eq!(seeds[1], seeds[0] + 1);
    for seed in &seeds {
        assert!(
            world
                .path(&format!("runs/both/seed-{seed}"))
                .join("report.html")
                .is_file()
        );
    }
    let difference = &found["comparisons"]["contrastive-baseline"];
    assert_eq!(difference["verdict"], "too_few_seeds");
    let (low, high) = (
        difference["low"].as_f64().unwrap(),
        difference["high"].as_f64().unwrap(),
    );
    let mean = difference["difference"]["mean"].as_f64().unwrap();
    assert!(low <= mean && mean <= high, "{difference}");
    // The figures are those of the runs.
    for (place, seed) in seeds.iter().enumerate() {
        let own = world.results(&format!("runs/both/seed-{seed}"));
        assert_eq!(
            found["arms"]["baseline"]["top1"]["values"][place],
            own["arms"]["baseline"]["test"]["top1"]
        );
    }
    let report = fs::read_to_string(world.path("runs/both/report.md")).expect("a report");
    assert!(
        report.contains("Over 2 seeds") && report.contains("sample standard deviation"),
        "{report}"
    );
    assert_eq!(world.results("runs/both")["seeds"], found);

    // The report is written again from the folders alone, with a page of its pictures and a README that shows some of them.
    let before = fs::read(world.path("runs/both/report.html")).expect("a report");
    fs::remove_file(world.path("runs/both/report.html")).expect("it was there");
    fs::write(
        world.path("README.md"),
        "Before\n<!-- results -->\n<!-- /results -->\nAfter\n",
    )
    .expect("a README");
    let again = world.run(&[
        "report",
        "--run-dir=runs/both",
        "--readme=README.md",
        "--pictures=docs/pictures",
    ]);
    again.ok();
    assert_narrow(&again.stdout);
    let after = fs::read(world.path("runs/both/report.html")).expect("a report");
    assert_eq!(without_date(&after), without_date(&before));
    assert_eq!(summary(&world, "runs/both"), found);
    let readme = fs::read_to_string(world.path("README.md")).expect("the README");
    assert!(readme.starts_with("Before\n") && readme.ends_with("After\n"));
    for part in [
        "2 seeds give no verdict",
        "](docs/pictures/map-t-sne-baseline.svg)",
        "](docs/pictures/map-t-sne-contrastive.svg)",
        "](docs/pictures/README.md)",
    ] {
        assert!(readme.contains(part), "{part}: {readme}");
    }
    let page = fs::read_to_string(world.path("docs/pictures/README.md")).expect("the page");
    assert!(page.contains("Over 2 seeds"), "{page}");
    for link in page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        assert!(world.path("docs/pictures").join(link).is_file(), "{link}");
    }
    world
        .run(&["report", "--run-dir=runs/both", "--readme=nowhere.md"])
        .refused(&["nowhere.md"]);
    // The seed that was begun last is the one to watch.
    let watch = world.run(&["watch", "runs/both"]);
    watch.ok();
    assert!(
        watch.stderr.contains(&format!("seed-{}", seeds[1])),
        "{}",
        watch.stderr
    );

    // Again without --resume is refused; one seed first and the second later gives the same bytes.
    world
        .tiny("run-all", "runs/both", &with("2"))
        .refused(&["runs/both", "--resume"]);
    world.tiny("run-all", "runs/later", &with("1")).ok();
    let resumed = world.run(&["run-all", "--run-dir=runs/later", "--resume", "--seeds=2"]);
    resumed.ok();
    assert_eq!(summary(&world, "runs/later"), found);
}
