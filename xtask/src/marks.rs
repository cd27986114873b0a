//! Generated text in a text file of the user's: what stands between two marks is replaced, whole or not at all.

use std::path::Path;

use anyhow::Result;

use crate::exit::{bad_input, io_reason};

/// Two marks, and the flag that names the file they stand in.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// As typed, for messages.
    pub flag: &'static str,
    /// Where the text begins.
    pub begin: &'static str,
    /// Where it ends.
    pub end: &'static str,
}

impl Marks {
    /// Refuses a file that cannot be read or lacks the marks; worth calling before hours of work.
    pub fn check(&self, file: &Path) -> Result<()> {
        self.with(file, "").map(drop)
    }

    /// Puts `block` between the marks.
    pub fn put(&self, file: &Path, block: &str) -> Result<()> {
        let new = self.with(file, block)?;
        Ok(eval::write_atomically(file, new.as_bytes())?)
    }

    fn with(&self, file: &Path, block: &str) -> Result<String> {
        let (flag, name) = (self.flag, file.display());
        let text = std::fs::read_to_string(file).map_err(|error| {
            let reason = io_reason(&error);
            bad_input(format!(
                "{flag} {name}: cannot be read: {reason}; name a text file"
            ))
        })?;
        self.replaced(&text, block).ok_or_else(|| {
            bad_input(format!(
                "{flag} {name}: the marks {} and {} are missing; put them where the table is to stand",
                self.begin, self.end
            ))
        })
    }

    fn replaced(&self, text: &str, block: &str) -> Option<String> {
        let begin = text.find(self.begin)? + self.begin.len();
        let end = begin + text[begin..].find(self.end)?;
        Some(format!("{}\n{block}\n{}", &text[..begin], &text[end..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: Marks = Marks {
        flag: "--write",
        begin: "<!-- begin -->",
        end: "<!-- end -->",
    };

    #[test]
    fn only_the_text_between_the_marks_changes() {
        let Marks { begin, end, .. } = MARKS;
        let text = format!("a\n{begin}\nold\n{end}\nb {end}");
        let new = MARKS.replaced(&text, "new").unwrap();
        assert_eq!(new, format!("a\n{begin}\nnew\n{end}\nb {end}"));
        assert_eq!(MARKS.replaced(&new, "new").unwrap(), new);
        assert!(MARKS.replaced("a", "new").is_none());
        assert!(MARKS.replaced(end, "new").is_none());
    }
}
