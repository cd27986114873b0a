//! The plot of `bench loss`: time and memory against the batch size, both axes logarithmic, as SVG.

use std::fmt::Write;

use super::loss::{Measured, Report};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 330.0;
/// A figure of one measurement, where it was measured.
type Reading<'a> = &'a dyn Fn(&Measured) -> Option<f64>;

/// One of the two panels: left edge, and what it shows.
const PANELS: [f64; 2] = [60.0, 440.0];
const SIDE: (f64, f64) = (290.0, 220.0);
const TOP: f64 = 40.0;
const COLOURS: [&str; 2] = ["#0b6e99", "#b3541e"];

/// Two panels, two lines each.
pub(super) fn svg(report: &Report) -> String {
    let peer = report.peer_version.as_deref().unwrap_or("peer");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title>supcon_out, D = {}, forward and backward</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n",
        report.columns
    );
    let lines = [(&report.tiled, "tiles"), (&report.peer, peer)];
    let seconds = |m: &Measured| Some(m.seconds.median);
    let memory = |m: &Measured| m.megabytes;
    let values: [(&str, Reading<'_>); 2] =
        [("seconds", &seconds), ("MB above the inputs", &memory)];
    for (left, (title, value)) in PANELS.into_iter().zip(values) {
        panel(&mut svg, left, title, &lines, value);
    }
    let caption = format!(
        "supcon_out, D = {}, f32, forward and backward; {}",
        report.columns, report.machine
    );
    text(
        &mut svg,
        (PANELS[0], HEIGHT - 12.0),
        "start",
        "#333",
        &caption,
    );
    svg + "</svg>\n"
}

fn panel(
    svg: &mut String,
    left: f64,
    title: &str,
    lines: &[(&Vec<Measured>, &str)],
    value: &dyn Fn(&Measured) -> Option<f64>,
) {
    let points: Vec<Vec<(f64, f64)>> = lines
        .iter()
        .map(|(line, _)| {
            let point = |m: &Measured| Some(((m.rows as f64).log2(), value(m)?.max(1e-6).log10()));
            line.iter().filter_map(point).collect()
        })
        .collect();
    let all = || points.iter().flatten();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min).floor();
        let high = all().map(of).fold(f64::NEG_INFINITY, f64::max).ceil();
        (low, high.max(low + 1.0))
    };
    if all().next().is_none() {
        return;
    }
    let ((x0, x1), (y0, y1)) = (range(|p| p.0), range(|p| p.1));
    let x = |v: f64| left + SIDE.0 * (v - x0) / (x1 - x0);
    let y = |v: f64| TOP + SIDE.1 * (y1 - v) / (y1 - y0);
    text(svg, (left, TOP - 22.0), "start", "#000", title);
    for mark in y0 as i32..=y1 as i32 {
        let at = y(f64::from(mark));
        rule(svg, (left, at), (left + SIDE.0, at));
        let label = format!("{}", 10f64.powi(mark));
        text(svg, (left - 6.0, at + 4.0), "end", "#333", &label);
    }
    for mark in x0 as i32..=x1 as i32 {
        let at = x(f64::from(mark));
        rule(svg, (at, TOP), (at, TOP + SIDE.1));
        // Every third label, the last one always; and the first, where it has room.
        let from_end = x1 as i32 - mark;
        if from_end % 3 == 0 || (mark == x0 as i32 && from_end % 3 == 2) {
            let label = format!("{}", 1u64 << mark.max(0));
            text(svg, (at, TOP + SIDE.1 + 16.0), "middle", "#333", &label);
        }
    }
    text(
        svg,
        (left + SIDE.0 / 2.0, TOP + SIDE.1 + 34.0),
        "middle",
        "#333",
        "rows of the batch, B",
    );
    for (index, (points, (_, name))) in points.iter().zip(lines).enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|&(a, b)| format!("{:.1},{:.1}", x(a), y(b)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for &(a, b) in points {
            let (a, b) = (x(a), y(b));
            let _ = writeln!(
                svg,
                "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
            );
        }
        let place = (left + 8.0, TOP + 16.0 + 15.0 * index as f64);
        text(svg, place, "start", colour, name);
    }
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, colour: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>",
        at.0, at.1
    );
}
