//! Exit codes, and which error earns which.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed while running |
//! | 2 | bad input: a flag, a recipe, a file or a folder, named in one sentence |
//! | 128 + n | stopped by signal n after writing a checkpoint: 130 SIGINT, 143 SIGTERM, 138 SIGUSR1 (158 on macOS) |

use std::fmt;

/// Input that no retry will mend: exit code 2.
#[derive(Debug)]
struct BadInput(String);

/// A signal stopped the run after its checkpoint: exit code 128 + signal.
#[derive(Debug)]
struct Stopped {
    signal: i32,
    how_to_resume: String,
}

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stopped by {} with everything saved; continue with: {}",
            crate::signals::name(self.signal),
            self.how_to_resume
        )
    }
}

impl std::error::Error for BadInput {}
impl std::error::Error for Stopped {}

/// An error for exit code 2; the sentence names the flag or file, the value and the remedy.
pub fn bad_input(sentence: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(sentence.into()))
}

/// An error for exit code 128 + `signal`.
pub fn stopped(signal: i32, how_to_resume: String) -> anyhow::Error {
    anyhow::Error::new(Stopped {
        signal,
        how_to_resume,
    })
}

/// Says which of trainer's errors are the caller's input (2) and which happened while running (1).
pub fn from_trainer(error: trainer::Error) -> anyhow::Error {
    use trainer::Error as E;
    let input = match &error {
        E::RecipeSyntax { .. }
        | E::RecipeField { .. }
        | E::Unfit { .. }
        | E::FolderTaken { .. }
        | E::Unwritable { .. }
        | E::NoRun { .. }
        | E::NotARun { .. }
        | E::NoArm { .. }
        | E::Unfinished { .. }
        | E::Locked { .. }
        | E::ResumeMismatch { .. }
        | E::Damaged { .. }
        | E::UnknownStage { .. }
        | E::StageOrder { .. }
        | E::NothingMeasured { .. } => true,
        E::Network(error) => !matches!(
            error,
            resnet::Error::Tensor(_)
                | resnet::Error::Io {
                    action: "write",
                    ..
                }
        ),
        E::Data(error) => is_bad_data(error),
        _ => false,
    };
    if input {
        bad_input(error.to_string())
    } else {
        anyhow::Error::new(error)
    }
}

/// Errors of cifar-data: a network that fails is no fault of the input, everything else is.
pub fn from_data(error: cifar_data::Error) -> anyhow::Error {
    if is_bad_data(&error) {
        bad_input(error.to_string())
    } else {
        anyhow::Error::new(error)
    }
}

fn is_bad_data(error: &cifar_data::Error) -> bool {
    use cifar_data::Error as E;
    !matches!(error, E::Network { .. } | E::Panic { .. })
}

/// What the operating system said, without its error number.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// The exit code an error earns.
pub fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<BadInput>().is_some() {
        2
    } else if let Some(stopped) = error.downcast_ref::<Stopped>() {
        u8::try_from(128 + stopped.signal).unwrap_or(1)
    } else {
        1
    }
}

/// The error and its causes as one line.
pub fn line(error: &anyhow::Error) -> String {
    let prefix = if error.downcast_ref::<Stopped>().is_some() {
        ""
    } else {
        "error: "
    };
    let mut text = prefix.to_owned();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Wrappers often repeat the message of what they wrap.
        if last.is_empty() {
            text.push_str(&cause);
        } else if !last.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        } else {
            continue;
        }
        last = cause;
    }
    if text.contains("No space left on device") {
        text.push_str("; free space, then go on (a run: with --resume --run-dir)");
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn codes() {
        assert_eq!(code(&anyhow!("disk full")), 1);
        assert_eq!(code(&bad_input("--x: bad")), 2);
        assert_eq!(code(&stopped(2, String::new())), 130);
        assert_eq!(code(&stopped(15, String::new())), 143);
        let wrapped: anyhow::Error = Err::<(), _>(bad_input("inner"))
            .context("outer")
            .unwrap_err();
        assert_eq!(code(&wrapped), 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_comes_with_what_to_do() {
        let full = std::io::Error::from_raw_os_error(28);
        let text = line(&from_trainer(trainer::Error::Io(full)));
        assert!(text.contains("No space left on device"), "{text}");
        assert!(text.contains("free space, then go on"), "{text}");
        assert!(!line(&anyhow!("permission denied")).contains("free space"));
    }

    #[test]
    fn one_line_without_repetition() {
        let error = anyhow!("file not\n found").context("reading x: file not\n found");
        assert_eq!(line(&error), "error: reading x: file not found");
        let error = anyhow!("permission denied").context("writing y");
        assert_eq!(line(&error), "error: writing y: permission denied");
    }
}
