//! watch, and the dashboard: in a terminal, and where there is none.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::support::{World, assert_narrow, finish, signal, tiny};

/// Far more epochs than a test has time for.
const LONG: &str = "--set=supervised.epochs=5000";

#[test]
fn a_finished_run_is_shown_and_left() {
    let world = World::new();
    world.tiny("run-all", "run", &[]).ok();
    let outcome = world.run(&["watch", "run"]);
    outcome.ok();
    assert_narrow(&outcome.stdout);
    assert_narrow(&outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains("[3/11] contrastive/pretrain: done in"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stdout.contains("top-1"),
        "the table: {}",
        outcome.stdout
    );
    world
        .run(&["watch", "nowhere"])
        .refused(&["nowhere", "config.toml"]);
}

#[test]
fn a_run_is_followed_to_its_end_without_disturbing_it() {
    let world = World::new();
    world.tiny("run-all", "alone", &[]).ok();
    let run = world.start(&tiny("run-all", "run", &[]));
    wait_for(|| world.path("run/config.toml").is_file());
    let watch = world.start(&["watch", "run"]);
    finish(run).ok();
    let outcome = finish(watch);
    outcome.ok();
    assert!(
        outcome.stderr.contains("finetuned/evaluate: done in"),
        "{}",
        outcome.stderr
    );
    crate::support::assert_same(&world.path("alone"), &world.path("run"));
}

#[test]
fn a_run_that_nobody_works_on_says_how_to_go_on() {
    let world = World::new();
    let run = world.start(&tiny("train", "run", &[LONG]));
    wait_for(|| grown(&world));
    signal(&run, "KILL");
    finish(run);
    let outcome = world.run(&["watch", "run"]);
    outcome.ok();
    assert!(
        outcome.stderr.contains("run-all --resume --run-dir run"),
        "{}",
        outcome.stderr
    );
}

/// A terminal of 80 by 24 that a test can read.
struct Terminal<'a> {
    world: &'a World,
    socket: String,
}

impl Terminal<'_> {
    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        self.world.prepare(&mut command);
        command
            .env_remove("TMUX")
            .env("TERM", "xterm-256color")
            .args(["-f", "/dev/null", "-S", &self.socket])
            .args(arguments);
        let output = command.output().expect("tmux runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Opens a pane in which `line` runs, with no shell of the user's.
    fn open(&self, name: &str, line: &str) {
        let program = env!("CARGO_BIN_EXE_xtask-under-test");
        let line = format!("{program} {line}; echo code $?; sleep 60");
        self.session(name, &line);
    }

    /// A pane of 80 columns and 24 rows for a shell's line.
    fn session(&self, name: &str, line: &str) {
        let size = ["-x", "80", "-y", "24"];
        self.tmux(&[&["-u", "new-session", "-d", "-s", name][..], &size, &[line]].concat());
    }

    fn screen(&self, name: &str) -> String {
        self.tmux(&["capture-pane", "-p", "-t", name])
    }

    /// The screen once it shows all of these.
    fn until(&self, name: &str, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen(name);
            if words.iter().all(|word| screen.contains(word)) {
                return screen;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{words:?} in\n{screen}"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_terminal_shows_curves_and_q_leaves_them() {
    if Command::new("tmux").arg("-V").output().is_err() {
        eprintln!("SKIPPED a_terminal_shows_curves_and_q_leaves_them: tmux is missing; install it");
        return;
    }
    let world = World::new();
    let terminal = Terminal {
        world: &world,
        socket: world.path("tmux").to_string_lossy().into_owned(),
    };
    let long = "--set=pretrain.epochs=5000";
    let line = tiny("pretrain", "run", &[long]).join(" ");
    terminal.open("train", &line);
    let words = [
        "contrastive/pretrain   epoch",
        "img/s",
        " left",
        "┤",
        "nearest is a positive",
        "from collapse",
    ];
    let screen = terminal.until("train", &words);
    assert!(
        screen
            .chars()
            .any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)),
        "a curve:\n{screen}"
    );
    assert_narrow(&screen);

    terminal.open("watch", "watch run");
    let screen = terminal.until("watch", &words);
    assert_narrow(&screen);
    terminal.tmux(&["send-keys", "-t", "watch", "q"]);
    let screen = terminal.until("watch", &["code 0"]);
    assert!(
        !screen.contains('┤'),
        "the dashboard is taken away:\n{screen}"
    );
    // Ctrl-C leaves the same way, and neither ends the run.
    terminal.open("again", "watch run");
    terminal.until("again", &words);
    terminal.tmux(&["send-keys", "-t", "again", "C-c"]);
    terminal.until("again", &["code 0"]);
    terminal.until("train", &words);

    // A narrow pane gets a bar, a dumb one lines.
    terminal.tmux(&["resize-window", "-t", "train", "-x", "50", "-y", "24"]);
    let begun = Instant::now();
    while terminal.screen("train").contains('┤') {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{}",
            terminal.screen("train")
        );
        thread::sleep(Duration::from_millis(50));
    }
    terminal.tmux(&["send-keys", "-t", "train", "C-c"]);
    terminal.until("train", &["code 130"]);
}

/// Neither a log, nor a terminal that says it is dumb, nor one whose user wants no colours gets anything but lines.
#[test]
fn logs_and_dumb_terminals_get_plain_lines() {
    if Command::new("tmux").arg("-V").output().is_err() {
        eprintln!("SKIPPED logs_and_dumb_terminals_get_plain_lines: tmux is missing; install it");
        return;
    }
    let world = World::new();
    let terminal = Terminal {
        world: &world,
        socket: world.path("tmux").to_string_lossy().into_owned(),
    };
    for (name, variable) in [("dumb", "TERM=dumb"), ("plain", "NO_COLOR=1")] {
        let run = format!("run-{name}");
        let line = tiny("train", &run, &["--set=supervised.epochs=3"]).join(" ");
        let program = env!("CARGO_BIN_EXE_xtask-under-test");
        let log = world.path(&format!("{name}.log"));
        let line = format!(
            "tmux -S {} pipe-pane -t {name} 'cat > {}'; env {variable} {program} {line}; echo code $?; sleep 60",
            terminal.socket,
            log.display()
        );
        terminal.session(name, &line);
        terminal.until(name, &["baseline/supervised epoch 3/3", "code 0"]);
        let bytes = fs::read(&log).expect("what the terminal was sent");
        assert!(
            !bytes.contains(&0x1b),
            "{name}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

fn grown(world: &World) -> bool {
    fs::metadata(world.path("run/metrics.jsonl")).is_ok_and(|file| file.len() > 0)
}

fn wait_for(ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
}
