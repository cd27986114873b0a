//! Small pieces of text: durations, counts, and printing to a stdout that may be closed.

use std::{
    io::{self, Write},
    time::Duration,
};

/// Writes to stdout; a reader that went away (`| head`) is no error of ours.
pub fn out(text: impl AsRef<str>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let result = writeln!(stdout, "{}", text.as_ref()).and_then(|()| stdout.flush());
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to stderr; a closed stderr must not end a training run.
pub fn note(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// `8s`, `4m05s`, `2h07m`, `3d04h`: two units at most.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `1.5 GiB`, `20 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `text` cut to `width` characters, with `…` where something was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `text` in lines of at most `width` characters, broken at spaces; longer words are split.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (index, piece) in letters.chunks(width).enumerate() {
            let space = usize::from(used > 0 && index == 0);
            if used > 0 && used + space + piece.len() > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            if used > 0 && space > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    if used > 0 || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A line that is drawn up for 80 columns, for fewer: broken at spaces, what follows two columns further in than the line began.
/// Columns inside it stay as they are.
pub fn fold(line: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let indent = rest.iter().take_while(|c| **c == ' ').count();
    let hanging = " ".repeat((indent + 2).min(width / 2));
    let mut lines = Vec::new();
    while rest.len() > width.max(1) {
        let begin = rest.iter().take_while(|c| **c == ' ').count();
        // A cut that leaves no more than the next line begins with would go round in circles.
        let space = (begin + 1..=width).rfind(|at| rest[*at] == ' ' && *at > hanging.len());
        let cut = space.unwrap_or(width.max(1));
        let head: String = rest[..cut].iter().collect();
        lines.push(head.trim_end().to_owned());
        let tail: String = rest[cut..].iter().collect();
        rest = hanging.chars().chain(tail.trim_start().chars()).collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// `text` as a POSIX shell takes it back as one word.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0.0, "0s"),
            (59.4, "59s"),
            (59.6, "1m00s"),
            (245.0, "4m05s"),
            (7620.0, "2h07m"),
            (273_600.0, "3d04h"),
        ] {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(20 << 20), "20 MiB");
        assert_eq!(bytes(u64::MAX), "16777216 TiB");
    }

    #[test]
    fn cuts_at_characters() {
        assert_eq!(cut("größe", 5), "größe");
        assert_eq!(cut("größer", 5), "größ…");
    }

    #[test]
    fn wraps_at_spaces_and_splits_monsters() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn narrow_terminals_break_lines_between_words() {
        let line = "   9  control/evaluate                    about 0s";
        assert_eq!(fold(line, 80), [line]);
        assert_eq!(fold(line, 40), ["   9  control/evaluate", "     about 0s"]);
        assert_eq!(
            fold("[1/11] baseline/supervised: 4 epochs of 54 steps", 40),
            ["[1/11] baseline/supervised: 4 epochs of", "  54 steps"]
        );
        assert_eq!(fold("abcdefghij", 4), ["abcd", "  ef", "  gh", "  ij"]);
        for width in 0..60 {
            let lines = fold(&line.repeat(3), width);
            let whole: String = lines.concat().split_whitespace().collect();
            assert_eq!(whole, line.repeat(3).split_whitespace().collect::<String>());
            assert!(width < 8 || lines.iter().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn quotes_only_what_needs_it() {
        assert_eq!(quoted("runs/a-b"), "runs/a-b");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
