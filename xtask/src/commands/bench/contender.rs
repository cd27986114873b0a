//! A contender: a process of its own that answers JSON for JSON, line by line.
//!
//! Contenders wait while another is measured, and the peak memory of each is its own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, anyhow};
use serde::{Serialize, de::DeserializeOwned};

/// A process that answers line by line; ended when dropped.
pub struct Contender {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
    remedy: &'static str,
}

impl Contender {
    /// Starts it; `remedy` ends the message where it cannot be started or ends by itself.
    pub fn start(mut command: Command, name: &str, remedy: &'static str) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {program}; {remedy}"))?;
        let questions = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self {
            child,
            questions,
            answers,
            name: name.to_owned(),
            remedy,
        })
    }

    /// Asks without waiting for the answer.
    pub fn tell(&mut self, question: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(question)?;
        // One that has ended is noticed where its answer is missing.
        let _ = writeln!(self.questions, "{line}");
        Ok(())
    }

    /// The next answer.
    pub fn answer<A: DeserializeOwned>(&mut self) -> Result<A> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            let status = self.child.wait()?;
            return Err(anyhow!(
                "{} ended ({status}) before it answered; its message stands above, and {}",
                self.name,
                self.remedy
            ));
        }
        serde_json::from_str(&line)
            .with_context(|| format!("{} answered {:?}", self.name, line.trim_end()))
    }

    /// Asks and waits.
    pub fn ask<A: DeserializeOwned>(&mut self, question: &impl Serialize) -> Result<A> {
        self.tell(question)?;
        self.answer()
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of this process's `/proc/self/status`, in bytes; none where the system has no such file.
pub fn memory(field: &str) -> Option<u64> {
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Lets this process's peak begin anew, where the system can.
pub fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Holds this process, and every thread that it starts from now on, to so many of the processors that it was granted, where the system can:
/// threads beside those that compute, which load data, then have none of their own.
pub fn hold_to(processors: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let Ok(granted) = sched_getaffinity(None) else {
            return;
        };
        let mut held = CpuSet::new();
        let granted = (0..CpuSet::MAX_CPU).filter(|cpu| granted.is_set(*cpu));
        granted.take(processors).for_each(|cpu| held.set(cpu));
        let _ = sched_setaffinity(None, &held);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = processors;
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Contender {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Contender::start(command, "the shell", "the remedy").unwrap()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_held_to_its_processors() {
        let processors = std::thread::spawn(|| {
            hold_to(1);
            let beside = std::thread::spawn(std::thread::available_parallelism);
            beside.join().unwrap().unwrap().get()
        });
        assert_eq!(processors.join().unwrap(), 1);
    }

    #[test]
    fn answers_come_line_by_line() {
        let mut echo = shell("while read line; do echo \"$line\"; done");
        assert_eq!(echo.ask::<Vec<u32>>(&[1, 2]).unwrap(), [1, 2]);
        assert_eq!(echo.ask::<String>(&"go").unwrap(), "go");
        let refused = echo.ask::<u32>(&"no number").unwrap_err().to_string();
        assert!(
            refused.contains("the shell") && refused.contains("no number"),
            "{refused}"
        );
    }

    #[test]
    fn an_early_end_is_one_sentence_with_the_remedy() {
        let error = shell("exit 3").ask::<u32>(&"go").unwrap_err().to_string();
        for word in ["the shell", "3", "the remedy"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_holds_memory() {
        assert!(memory("VmRSS:").unwrap() > 100_000);
        assert!(memory("VmHWM:").unwrap() > 100_000);
    }
}
