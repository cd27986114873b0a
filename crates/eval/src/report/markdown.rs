//! Text inside Markdown: what would be markup is escaped, so that a class named `|<b>*x*` stays a name.

use std::fmt;

use askama::filters::Escaper;

/// The escaper of `*.md` templates (named in `askama.toml`).
#[derive(Clone, Copy)]
pub(crate) struct Markdown;

impl Escaper for Markdown {
    fn write_escaped_str<W: fmt::Write>(&self, mut to: W, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|character| write_escaped(&mut to, character))
    }

    fn write_escaped_char<W: fmt::Write>(&self, mut to: W, character: char) -> fmt::Result {
        write_escaped(&mut to, character)
    }
}

fn write_escaped(to: &mut impl fmt::Write, character: char) -> fmt::Result {
    match character {
        '&' => to.write_str("&amp;"),
        '<' => to.write_str("&lt;"),
        '>' => to.write_str("&gt;"),
        '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' => {
            to.write_char('\\')?;
            to.write_char(character)
        }
        // A line break would end a table row.
        '\n' | '\r' => to.write_char(' '),
        other => to.write_char(other),
    }
}

/// A code fence longer than any run of backticks in `text`.
pub(crate) fn fence(text: &str) -> String {
    let longest = text
        .split(|character| character != '`')
        .map(str::len)
        .max()
        .unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let mut text = String::new();
        Markdown
            .write_escaped_str(&mut text, "a|<b>*c*\n[d](e)")
            .unwrap();
        assert_eq!(text, "a\\|&lt;b&gt;\\*c\\* \\[d\\](e)");
    }

    #[test]
    fn a_fence_holds_whatever_it_holds() {
        assert_eq!(fence("plain"), "```");
        assert_eq!(fence("a ```` b"), "`````");
    }
}
