//! The notice nobody can miss: this run is on drawn shapes, not on photographs.

use crate::text;

const WIDTH: usize = 80;

/// The frame for stderr, with the reason inside.
pub fn synthetic(reason: Option<&str>) -> String {
    let rule = "#".repeat(WIDTH);
    let mut lines = vec![rule.clone(), row("")];
    lines.push(row("S Y N T H E T I C   D A T A"));
    lines.push(row(""));
    let reason = reason.unwrap_or("The embedded set of drawn shapes was asked for.");
    for line in text::wrap(reason, WIDTH - 8) {
        lines.push(row(&line));
    }
    lines.push(row(
        "Nothing this run measures says anything about CIFAR-10.",
    ));
    lines.push(row(""));
    lines.push(rule);
    lines.join("\n")
}

fn row(text: &str) -> String {
    format!("##  {text:<width$}  ##", width = WIDTH - 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_80_columns() {
        let long = "no source: ".to_owned() + &"https://a.very.long/address".repeat(6);
        for text in [
            synthetic(None),
            synthetic(Some(&long)),
            synthetic(Some("SYNTHETIC DATA: a b")),
        ] {
            assert!(text.contains("S Y N T H E T I C"));
            for line in text.lines() {
                assert_eq!(line.chars().count(), WIDTH, "{line}");
            }
        }
    }
}
