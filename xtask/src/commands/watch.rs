//! `watch`: the dashboard of a run that another process works on.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use eval::Results;
use trainer::Overview;

use crate::{
    cli::WatchArgs,
    commands::seeds,
    exit::from_trainer,
    keys::Keys,
    progress::Screen,
    session::program,
    text::{out, quoted},
};

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// A run that has written nothing for so long may have ended; only then its lock is looked at.
const QUIET: Duration = Duration::from_secs(3);

/// Follows the run until it ends, or the user leaves.
pub fn run(args: &WatchArgs) -> Result<()> {
    let screen = Screen::stderr();
    let run_dir = match newest_seed(&args.run_dir) {
        Some(seed) => {
            screen.note(format!("watching {}", seed.display()));
            seed
        }
        None => args.run_dir.clone(),
    };
    let run = Overview::open(&run_dir).map_err(from_trainer)?;
    screen.expect(run.stages(), BTreeMap::new());
    let mut tail = Tail::new(&run.metrics());
    for line in tail.lines()? {
        if let Some(event) = run.event(&line) {
            screen.catch_up(&event);
        }
    }
    let results = run_dir.join("results.json");
    let ended = follow(&run, &screen, &mut tail, &results);
    screen.clear();
    match ended? {
        End::Left => {}
        End::Stopped => screen.note(format!(
            "nobody works on this run; go on with: {} run-all --resume --run-dir {}",
            program(),
            quoted(&run_dir.to_string_lossy())
        )),
        End::Finished => match Results::load(&results) {
            Ok(results) => out(eval::summary_table(&results).trim_end())?,
            Err(_) => screen.note(format!(
                "every stage is done; the table: {} report --run-dir {}",
                program(),
                quoted(&run_dir.to_string_lossy())
            )),
        },
    }
    Ok(())
}

/// Of runs of several seeds the one that was begun last; none where the folder is a run itself.
fn newest_seed(root: &Path) -> Option<PathBuf> {
    if root.join("config.toml").is_file() {
        return None;
    }
    let begun = seeds::seeds_in(root).into_iter().rev();
    begun
        .map(|seed| root.join(seeds::folder(seed)))
        .find(|run| run.join("config.toml").is_file())
}

/// How watching ends.
enum End {
    /// The run is done.
    Finished,
    /// The process that worked on it is gone.
    Stopped,
    /// The user has seen enough.
    Left,
}

fn follow(run: &Overview, screen: &Screen, tail: &mut Tail, results: &Path) -> Result<End> {
    let keys = Keys::listen();
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        // Without it the signal ends the program at once, which is as well.
        let _ = signal_hook::flag::register(signal, Arc::clone(&asked));
    }
    // Whether anybody is at work is looked at once at the beginning, and then only when it has long been quiet.
    let now = Instant::now();
    let mut last_line = now.checked_sub(QUIET).unwrap_or(now);
    let mut told = false;
    loop {
        // Looked at first: what was written before it was done is read below.
        let finished = run.is_finished();
        for line in tail.lines()? {
            last_line = Instant::now();
            if let Some(event) = run.event(&line) {
                screen.event(&event);
            }
        }
        if finished {
            // The report comes after the last stage, and takes a while.
            if results.is_file() || !run.is_at_work().map_err(from_trainer)? {
                return Ok(End::Finished);
            }
            if !std::mem::replace(&mut told, true) {
                screen.note("every stage is done; the report is being written");
            }
        }
        if !finished && last_line.elapsed() >= QUIET && !run.is_at_work().map_err(from_trainer)? {
            return Ok(End::Stopped);
        }
        if keys.leave_within(EVERY) || asked.load(Ordering::Relaxed) {
            return Ok(End::Left);
        }
    }
}

/// Whole lines of a file that grows.
struct Tail {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            rest: Vec::new(),
        }
    }

    /// The lines that have become whole since the last call; none while there is no file.
    fn lines(&mut self) -> Result<Vec<String>> {
        let mut file = match fs_err::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let length = file.metadata()?.len();
        if length < self.offset {
            // A resumed run has cut the file back to its checkpoint: what is written from there on is new.
            self.offset = length;
            self.rest.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        self.offset += file.read_to_end(&mut self.rest)? as u64;
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let text = String::from_utf8_lossy(&whole);
        Ok(text.lines().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_whole_lines_are_read_and_a_file_that_shrinks_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut tail = Tail::new(&path);
        assert!(tail.lines().unwrap().is_empty(), "no file yet");
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "one\ntwo\nthr").unwrap();
        assert_eq!(tail.lines().unwrap(), ["one", "two"]);
        assert!(tail.lines().unwrap().is_empty());
        writeln!(file, "ee").unwrap();
        assert_eq!(tail.lines().unwrap(), ["three"]);
        file.set_len(4).unwrap();
        assert!(tail.lines().unwrap().is_empty());
        file.seek(SeekFrom::End(0)).unwrap();
        writeln!(file, "again").unwrap();
        assert_eq!(tail.lines().unwrap(), ["again"]);
    }
}
