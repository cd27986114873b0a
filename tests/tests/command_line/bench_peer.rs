//! `bench --peer torch` with a stand-in for Python: what is refused, what is asked, and what is written.

use std::fs;

use crate::support::{World, assert_narrow};

/// Imports what is asked for and answers as `assets/bench/torch_peer.py` does, at once; `$LOSS` in its place.
const STAND_IN: &str = r#"#!/bin/sh
case "$2" in import*) exit 0;; esac
read -r first
threads=$(echo "$first" | sed 's/.*"threads":\([0-9]*\).*/\1/')
echo "$first" >> asked.txt
echo "{\"ready\":true,\"torch\":\"9.9\",\"torchvision\":\"0.9\",\"capability\":\"$ATEN_CPU_CAPABILITY$ONEDNN_MAX_CPU_ISA\",\"threads\":$threads}"
while read -r line; do
  case "$line" in
    *memory*) echo '{"peak_bytes":123000000}';;
    *) echo '{"seconds":0.5,"loss":LOSS}';;
  esac
done
"#;

const SMALL: [&str; 7] = [
    "bench",
    "--peer=torch",
    "--python=./python",
    "--network=r50",
    "--batch=2",
    "--rounds=1",
    "--steps=1",
];

fn world(script: &str) -> World {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let python = world.write("python", script);
    fs::set_permissions(python, fs::Permissions::from_mode(0o755)).expect("executable");
    world
}

#[test]
fn a_python_without_torch_is_refused_with_its_reason_and_the_remedy() {
    let script = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n";
    world(script).run(&SMALL).refused(&[
        "--peer torch",
        "./python",
        "No module named 'torch'",
        "pip install torch",
        "--python",
    ]);
}

#[test]
fn the_active_environments_python_comes_first() {
    let world = world("#!/bin/sh\nexit 1\n");
    world.write("venv/bin/unused", "");
    let mut command = world.command(&["bench", "--peer=torch", "--network=r50", "--batch=2"]);
    command
        .env("VIRTUAL_ENV", world.path("venv"))
        .env("PATH", world.path("nothing"));
    let outcome = crate::support::finish(command.spawn().expect("the program starts"));
    outcome.refused(&["venv/bin/python", "python3", "torchvision"]);
}

#[test]
fn files_without_marks_are_refused_before_anything_is_measured() {
    let world = world(&STAND_IN.replace("LOSS", "1.0"));
    world.write("plain.md", "no marks\n");
    for file in ["plain.md", "absent.md"] {
        let arguments = [&SMALL[..], &["--write", file]].concat();
        world.run(&arguments).refused(&["--write", file]);
    }
    assert!(!world.path("asked.txt").exists());
}

#[test]
fn the_tables_are_printed_and_written_between_the_marks() {
    let world = world(&STAND_IN.replace("LOSS", "1.0"));
    let text = "# Title\n<!-- bench:begin -->\nstale\n<!-- bench:end -->\nrest\n";
    world.write("A.md", text);
    world.write("B.md", text);
    let arguments = [
        &SMALL[..],
        &["--only=train,avx2", "--write=A.md", "--write=B.md"],
    ]
    .concat();
    let outcome = world.run(&arguments);
    outcome.ok();
    assert_narrow(&outcome.stdout);
    for part in [
        "PyTorch 9.9 (), torchvision 0.9",
        "PyTorch bf16",
        "123 MB",
        "4.0 (4.0–4.0)",
        "f32 to f32",
    ] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }
    let written = fs::read_to_string(world.path("A.md")).expect("A.md");
    assert!(
        written.starts_with("# Title\n<!-- bench:begin -->\n"),
        "{written}"
    );
    assert!(
        written.ends_with("\n<!-- bench:end -->\nrest\n"),
        "{written}"
    );
    for part in [
        "| `r50`, batch 2: training step, images/s | 4.0 (4.0–4.0) | 4.0 (4.0–4.0) | ",
        "cargo xtask bench --peer torch --only train,avx2 --network r50 --batch 2 --steps 1 --rounds 1\n",
        "| ≥ 2.0× |",
    ] {
        assert!(written.contains(part), "{part}: {written}");
    }
    assert!(
        !written.contains("stale") && !written.contains("./python"),
        "{written}"
    );
    assert_eq!(
        written,
        fs::read_to_string(world.path("B.md")).expect("B.md")
    );
    let asked = fs::read_to_string(world.path("asked.txt")).expect("asked.txt");
    let asked: Vec<serde_json::Value> = asked
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let precisions: Vec<&str> = asked
        .iter()
        .filter_map(|request| request["precision"].as_str())
        .collect();
    assert_eq!(precisions, ["f32", "bf16", "f32"]);
    assert!(
        asked
            .iter()
            .all(|request| request["task"] == "train" && request["batch"] == 2)
    );
}

#[test]
fn json_has_every_contender_and_goal() {
    let world = world(&STAND_IN.replace("LOSS", "1.0"));
    let outcome = world.run(&[&SMALL[..], &["--json", "--only=avx2"]].concat());
    outcome.ok();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON on stdout");
    // The stand-in shows the environment that limits PyTorch.
    assert_eq!(report["peer"], "PyTorch 9.9 (avx2AVX2), torchvision 0.9");
    let case = &report["cases"][0];
    assert_eq!(case["section"], "avx2");
    let sides: Vec<&str> = case["contenders"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|contender| contender["side"].as_str())
        .collect();
    assert_eq!(sides, ["own", "torch"]);
    let own = case["contenders"][0]["rates"]["median"]
        .as_f64()
        .expect("a rate");
    assert_eq!(case["contenders"][1]["rates"]["median"], 4.0);
    assert_eq!(case["goals"][0]["value"], own / 4.0);
}

#[test]
fn a_loss_that_is_no_number_and_an_early_end_fail_with_one_sentence() {
    for (script, word) in [
        (STAND_IN.replace("LOSS", "null"), "no finite number"),
        (STAND_IN.replace("read -r first", "exit 7"), "ended"),
    ] {
        let outcome = world(&script).run(&SMALL);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
        let last = outcome.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("PyTorch") && last.contains(word), "{last}");
    }
}
