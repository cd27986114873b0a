//! Running the program in a world of its own: no network, no data, no settings of the user's.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Nothing here may take longer.
const LIMIT: Duration = Duration::from_secs(120);

/// The smallest run that has every kind of stage: a few steps each.
pub const TINY: &[&str] = &[
    "--recipe=smoke",
    "--device=cpu",
    "--set=data.train_limit=192",
    "--set=data.test_limit=100",
    "--set=data.validation=100",
    "--set=model.width=0.125",
    "--set=supervised.epochs=2",
    "--set=supervised.batch_size=32",
    "--set=pretrain.epochs=2",
    "--set=pretrain.batch_size=32",
    "--set=finetune.epochs=1",
    "--set=finetune.batch_size=32",
    "--set=probe.epochs=2",
    "--set=probe.batch_size=64",
    "--set=head.epochs=2",
    "--set=head.batch_size=64",
    "--set=evaluate.samples=4",
];

/// A folder of its own with the program in it.
pub struct World {
    folder: PathBuf,
    /// Removes the folder when the world ends.
    _temporary: Option<TempDir>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it reported.
    pub stderr: String,
}

impl World {
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        Self {
            folder: temporary.path().to_owned(),
            _temporary: Some(temporary),
        }
    }

    /// A world for a static, which nothing drops: under the build's own folder, where the next one of that name replaces it.
    pub fn lasting(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("an earlier world's folder");
        }
        fs::create_dir_all(&folder).expect("a folder");
        Self {
            folder,
            _temporary: None,
        }
    }

    /// A path inside the world.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `results.json` of a run.
    pub fn results(&self, run: &str) -> serde_json::Value {
        let text = fs::read_to_string(self.path(run).join("results.json")).expect("results");
        serde_json::from_str(&text).expect("JSON")
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("a file");
        path
    }

    /// The program with these arguments, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask-under-test"));
        self.prepare(&mut command);
        command.args(arguments);
        command
    }

    /// Takes the user's settings away from a command and puts it into the world.
    pub fn prepare(&self, command: &mut Command) {
        for name in [
            "CIFAR10_DIR",
            "CIFAR100_DIR",
            "HF_ENDPOINT",
            "HF_HUB_CACHE",
            "HF_TOKEN",
            "RUST_LOG",
            "RAYON_NUM_THREADS",
        ] {
            command.env_remove(name);
        }
        command
            .current_dir(&self.folder)
            .env("HF_HOME", self.path("hub"))
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
    }

    /// Runs the program to its end.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        finish(self.start(arguments))
    }

    /// Starts the program.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Child {
        self.command(arguments).spawn().expect("the program starts")
    }

    /// `command` with the tiny recipe in the run folder `run`, and more arguments.
    pub fn tiny(&self, command: &str, run: &str, more: &[&str]) -> Outcome {
        self.run(&tiny(command, run, more))
    }
}

/// The arguments of a tiny run.
pub fn tiny<'a>(command: &'a str, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command, "--run-dir", run];
    arguments.extend(TINY);
    arguments.extend(more);
    arguments
}

/// Waits for the end of a program, with a limit.
pub fn finish(mut child: Child) -> Outcome {
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        // What is no UTF-8 shows as an empty string and fails the test that looks.
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        text
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the program can be waited for") {
            break status;
        }
        if begun.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("the program ran longer than {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Outcome {
        code: status.code(),
        stdout: output.join().expect("stdout"),
        stderr: errors.join().expect("stderr"),
    }
}

/// Sends a signal by name (`KILL`, `TERM`, …).
pub fn signal(child: &Child, name: &str) {
    // The program may have ended just now; then there is nobody to tell.
    let _ = Command::new("kill")
        .args([&format!("-{name}"), &child.id().to_string()])
        .stderr(Stdio::null())
        .status();
}

impl Outcome {
    /// The program did what it was asked for.
    pub fn ok(&self) -> &Self {
        assert_eq!(
            self.code,
            Some(0),
            "stderr: {}\nstdout: {}",
            self.stderr,
            self.stdout
        );
        self
    }

    /// The program refused before it printed anything: code 2 and one line with all of these.
    pub fn refused(&self, words: &[&str]) {
        self.refused_after_output(words);
        assert_eq!(self.stdout, "");
    }

    /// The program refused: code 2 and one line on stderr that contains all of these.
    pub fn refused_after_output(&self, words: &[&str]) {
        assert_eq!(
            self.code,
            Some(2),
            "stderr: {}\nstdout: {}",
            self.stderr,
            self.stdout
        );
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|l| l.starts_with("error: "))
            .collect();
        assert_eq!(lines.len(), 1, "one sentence expected: {}", self.stderr);
        assert_eq!(
            self.stderr.lines().last(),
            lines.first().copied(),
            "{}",
            self.stderr
        );
        for word in words {
            assert!(
                lines[0].contains(word),
                "{word:?} is missing in: {}",
                lines[0]
            );
        }
    }
}

/// Every file of a folder that must be the same for the same run: weights, predictions, features,
/// and results.json without what the clock says.
pub fn essence(run: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    collect(run, run, &mut files);
    assert!(
        files
            .keys()
            .any(|name| name.ends_with("encoder.safetensors")),
        "{:?}",
        files.keys()
    );
    let results = fs::read(run.join("results.json")).expect("results.json");
    files.insert("results.json".to_owned(), without_times(&results));
    files
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name() != Some(OsStr::new("checkpoints")) {
                collect(root, &path, files);
            }
        } else if path.extension() == Some(OsStr::new("safetensors")) {
            let name = path
                .strip_prefix(root)
                .expect("inside")
                .to_string_lossy()
                .into_owned();
            files.insert(name, fs::read(&path).expect("a readable file"));
        }
    }
}

/// results.json as bytes, with seconds, rates and dates taken out, wherever they stand.
fn without_times(bytes: &[u8]) -> Vec<u8> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).expect("valid JSON");
    remove_times(&mut value);
    serde_json::to_vec_pretty(&value).expect("JSON")
}

fn remove_times(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            for clock in [
                "seconds",
                "images_per_second",
                "started",
                "finished",
                "command",
            ] {
                map.remove(clock);
            }
            map.values_mut().for_each(remove_times);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(remove_times),
        _ => {}
    }
}

/// Asserts that two runs are the same, file by file, and names the first that is not.
pub fn assert_same(first: &Path, second: &Path) {
    let (first, second) = (essence(first), essence(second));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
    for (name, bytes) in &first {
        assert!(bytes == &second[name], "{name} differs");
    }
}

/// Asserts that no line is wider than a terminal of 80 columns.
pub fn assert_narrow(text: &str) {
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
    }
}
