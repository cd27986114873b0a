//! The notice nobody can miss: this run is on drawn shapes, not on photographs.

use crate::text;

/// What it is drawn for; a narrow terminal gets less, down to the width of its first line.
const WIDTHS: std::ops::RangeInclusive<usize> = 36..=80;

/// The frame for stderr, `columns` wide where that makes sense, with the reason inside.
pub fn synthetic(reason: Option<&str>, columns: usize) -> String {
    let width = columns.clamp(*WIDTHS.start(), *WIDTHS.end());
    let row = |text: &str| format!("##  {text:<room$}  ##", room = width - 8);
    let rule = "#".repeat(width);
    let mut lines = vec![rule.clone(), row("")];
    lines.push(row("S Y N T H E T I C   D A T A"));
    lines.push(row(""));
    let reason = reason.unwrap_or("The embedded set of drawn shapes was asked for.");
    let nothing = "Nothing this run measures says anything about CIFAR-10.";
    for line in [reason, nothing]
        .iter()
        .flat_map(|text| text::wrap(text, width - 8))
    {
        lines.push(row(&line));
    }
    lines.push(row(""));
    lines.push(rule);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_as_wide_as_the_terminal_up_to_80_columns() {
        let long = "no source: ".to_owned() + &"https://a.very.long/address".repeat(6);
        for reason in [None, Some(long.as_str()), Some("SYNTHETIC DATA: a b")] {
            for (columns, width) in [(usize::MAX, 80), (80, 80), (57, 57), (3, 36)] {
                let text = synthetic(reason, columns);
                assert!(text.contains("S Y N T H E T I C"));
                for line in text.lines() {
                    assert_eq!(line.chars().count(), width, "{line}");
                }
            }
        }
    }
}
