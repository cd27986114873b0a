//! Drawing SVG: a canvas that collects elements, and a figure that can stand in a page or alone.

use std::fmt::Write;

use super::palette::figure_style;
#[cfg(feature = "png")]
use super::palette::light_style;

/// Where a text's position lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Elements of a drawing, in user units of one CSS pixel.
pub(crate) struct Canvas {
    pub(crate) width: f64,
    pub(crate) height: f64,
    body: String,
}

impl Canvas {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Canvas {
            width,
            height,
            body: String::new(),
        }
    }

    /// SVG text as it stands; the caller has escaped it.
    pub(crate) fn raw(&mut self, element: &str) {
        self.body.push_str(element);
    }

    pub(crate) fn text(&mut self, at: (f64, f64), anchor: Anchor, class: &str, text: &str) {
        self.turned_text(at, anchor, class, text, 0.0);
    }

    /// Text turned clockwise by `degrees` around its position.
    pub(crate) fn turned_text(
        &mut self,
        at: (f64, f64),
        anchor: Anchor,
        class: &str,
        text: &str,
        degrees: f64,
    ) {
        let (x, y) = (number(at.0), number(at.1));
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let turn = match degrees {
            0.0 => String::new(),
            _ => format!(" transform=\"rotate({} {x} {y})\"", number(degrees)),
        };
        let class = attribute(class);
        self.put(format_args!(
            "<text x=\"{x}\" y=\"{y}\"{class}{anchor}{turn}>{}</text>",
            escape(text)
        ));
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.path(
            &format!(
                "M{} {}L{} {}",
                number(from.0),
                number(from.1),
                number(to.0),
                number(to.1)
            ),
            class,
        );
    }

    /// A line through `points`; gaps where a coordinate is not finite, a dot where a piece is one point long.
    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let mut data = String::new();
        for piece in points.split(|point| !point.0.is_finite() || !point.1.is_finite()) {
            for (position, point) in piece.iter().enumerate() {
                data.push(if position == 0 { 'M' } else { 'L' });
                let _ = write!(data, "{} {}", number(point.0), number(point.1));
            }
            if piece.len() == 1 {
                data.push_str("h0");
            }
        }
        if !data.is_empty() {
            self.path(&data, class);
        }
    }

    pub(crate) fn path(&mut self, data: &str, class: &str) {
        self.put(format_args!("<path{} d=\"{data}\"/>", attribute(class)));
    }

    /// Nothing where it would have no area: some readers complain about that.
    pub(crate) fn rect(&mut self, at: (f64, f64), size: (f64, f64), class: &str) {
        let size = (number(size.0.max(0.0)), number(size.1.max(0.0)));
        if size.0 == "0" || size.1 == "0" {
            return;
        }
        self.put(format_args!(
            "<rect{} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            attribute(class),
            number(at.0),
            number(at.1),
            size.0,
            size.1
        ));
    }

    pub(crate) fn circle(&mut self, at: (f64, f64), radius: f64, class: &str) {
        self.put(format_args!(
            "<circle{} cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
            attribute(class),
            number(at.0),
            number(at.1),
            number(radius)
        ));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a String does not fail.
        let _ = self.body.write_fmt(element);
    }
}

/// A drawing with its name and its description in words.
pub(crate) struct Figure {
    /// File stem, of letters, digits and dashes.
    pub(crate) name: String,
    /// Heading.
    pub(crate) title: String,
    /// The line under the figure.
    pub(crate) caption: String,
    /// What the figure says beyond its caption, for those who do not see it; may be empty.
    pub(crate) spoken: String,
    /// The data set, written into the standalone file so that the label travels with the picture.
    pub(crate) data: String,
    pub(crate) canvas: Canvas,
}

impl Figure {
    /// Title, contents and caption in words.
    fn described(&self) -> String {
        let parts = [&self.title, &self.spoken, &self.caption];
        let parts = parts
            .into_iter()
            .map(|part| part.trim_end_matches('.'))
            .filter(|part| !part.is_empty());
        format!("{}.", parts.collect::<Vec<_>>().join(". "))
    }

    /// The figure as an element of a page that carries `palette::page_style`.
    pub(crate) fn inline(&self) -> String {
        let Canvas {
            width,
            height,
            body,
        } = &self.canvas;
        format!(
            "<svg class=\"fig\" role=\"img\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" aria-label=\"{}\">{body}</svg>",
            escape(&self.described()),
            w = number(*width),
            h = number(*height),
        )
    }

    /// Does it show photographs or other pictures of pixels?
    pub(crate) fn holds_pictures(&self) -> bool {
        self.canvas.body.contains("<image ")
    }

    /// The figure as a file of its own: heading, drawing, the data set's label; light or dark, as the reader prefers.
    pub(crate) fn standalone(&self) -> String {
        self.file(&figure_style())
    }

    /// The same, light whatever is preferred.
    #[cfg(feature = "png")]
    pub(crate) fn on_white(&self) -> String {
        self.file(&light_style())
    }

    fn file(&self, style: &str) -> String {
        let Canvas {
            width,
            height,
            body,
        } = &self.canvas;
        let (head, foot, side) = (30.0, 26.0, 8.0);
        let (w, h) = (number(width + 2.0 * side), number(height + head + foot));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"fig\" role=\"img\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
             height=\"{h}\">\n<title>{title}</title>\n<desc>{about}</desc>\n<style>{style}</style>\n\
             <rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>\n<text class=\"b\" x=\"{left}\" y=\"20\">{title}</text>\n\
             <g transform=\"translate({side} {head})\">{body}</g>\n\
             <text class=\"s mute\" x=\"{left}\" y=\"{bottom}\">Data: {data}</text>\n</svg>\n",
            title = escape(&self.title),
            about = escape(&self.described()),
            data = escape(&self.data),
            left = side + 4.0,
            bottom = number(height + head + foot - 9.0),
        )
    }
}

/// Text safe inside an element and inside a quoted attribute of HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not allowed in XML at all: one such character in a class name would spoil the file.
            '\u{0}'..='\u{8}'
            | '\u{b}'
            | '\u{c}'
            | '\u{e}'..='\u{1f}'
            | '\u{fffe}'
            | '\u{ffff}' => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// A coordinate with at most one decimal, the shortest way; what is not finite is 0.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

fn attribute(class: &str) -> String {
    if class.is_empty() {
        String::new()
    } else {
        format!(" class=\"{class}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_nan() {
        assert_eq!(number(1.04), "1");
        assert_eq!(number(-0.04), "0");
        assert_eq!(number(2.25), "2.2");
        assert_eq!(number(f64::NAN), "0");
    }

    #[test]
    fn a_line_breaks_where_a_value_is_missing() {
        let mut canvas = Canvas::new(10.0, 10.0);
        canvas.polyline(
            &[(0.0, 0.0), (1.0, f64::NAN), (2.0, 2.0), (3.0, 3.0)],
            "line",
        );
        assert_eq!(canvas.body, "<path class=\"line\" d=\"M0 0h0M2 2L3 3\"/>");
    }

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(
            escape("<script>\"a\" & 'b'\u{1}"),
            "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}"
        );
    }
}
