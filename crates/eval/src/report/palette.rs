//! Colours that eyes with any colour vision tell apart, on white and on black.
//!
//! After Okabe & Ito 2008, with lightness spread so that neighbours differ in grey, too. Figures carry classes, not
//! colours: `s0`… for series (stroke), `f0`… for fills; one style sheet resolves them for light and dark.

/// Colours of arms and classes on a light ground.
pub(crate) const LIGHT: [&str; 10] = [
    "#0068a8", "#c94f00", "#00876a", "#b8438f", "#7d6608", "#3f9fd8", "#6d3fb0", "#d98e00",
    "#1f2a6e", "#76777a",
];

/// The same on a dark ground.
pub(crate) const DARK: [&str; 10] = [
    "#5cb3ec", "#ff8a4a", "#2fcf9f", "#ee8ac9", "#cdb146", "#a5dcff", "#b994f5", "#ffc75a",
    "#8796ff", "#b4b5b8",
];

/// The colour number of an arm: the same arm has the same colour in every figure.
pub(crate) fn arm_colour(name: &str, position: usize) -> usize {
    match name {
        "baseline" => 9,
        "contrastive" => 1,
        "control" => 6,
        "finetuned" => 2,
        "transfer" => 0,
        "transfer-frozen" => 3,
        "transfer-contrastive" => 5,
        _ => position % LIGHT.len(),
    }
}

/// The style of every figure, light, then dark where the reader prefers it and looks at a screen.
pub(crate) fn figure_style() -> String {
    let mut style = String::from(
        ".fig text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:12px}\
         .fig .b{font-weight:600}.fig .s{font-size:11px}.fig .n{font-variant-numeric:tabular-nums}\
         .fig .grid{stroke-width:1}.fig .axis{stroke-width:1;fill:none}\
         .fig .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
         .fig .thin{stroke-width:1.25}.fig .thick{stroke-width:5;stroke-linecap:round;stroke-opacity:.32}\
         .fig .dash{stroke-dasharray:5 4}.fig .dot{fill-opacity:.78}\
         .fig .halo{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}.fig .l{font-size:13px}.fig .whisker{stroke-width:1.5;stroke-opacity:.75}",
    );
    style.push_str(&Theme::LIGHT.style());
    style.push_str("@media screen and (prefers-color-scheme:dark){");
    style.push_str(&Theme::DARK.style());
    style.push('}');
    style
}

/// The colours of one ground.
struct Theme {
    series: [&'static str; 10],
    ink: &'static str,
    mute: &'static str,
    grid: &'static str,
    axis: &'static str,
    paper: &'static str,
    good: &'static str,
    bad: &'static str,
}

impl Theme {
    const LIGHT: Theme = Theme {
        series: LIGHT,
        ink: "#1b1d22",
        mute: "#5a5f69",
        grid: "#dfe2e8",
        axis: "#9aa0ab",
        paper: "#ffffff",
        good: "#0068a8",
        bad: "#c94f00",
    };
    const DARK: Theme = Theme {
        series: DARK,
        ink: "#eceef2",
        mute: "#a6acb8",
        grid: "#31353d",
        axis: "#6d7480",
        paper: "#15171b",
        good: "#5cb3ec",
        bad: "#ff8a4a",
    };

    fn style(&self) -> String {
        let Theme {
            series,
            ink,
            mute,
            grid,
            axis,
            paper,
            good,
            bad,
        } = self;
        let mut style = format!(
            ".fig text{{fill:{ink}}}.fig text.mute{{fill:{mute}}}.fig .grid{{stroke:{grid}}}.fig .axis{{stroke:{axis}}}.fig .whisker{{stroke:{ink}}}\
             .fig .paper{{fill:{paper}}}.fig text.over{{fill:{paper}}}.fig .halo{{stroke:{paper}}}\
             .fig .good{{fill:{good}}}.fig .bad{{fill:{bad}}}.fig .frame{{fill:none;stroke:{grid}}}"
        );
        for (number, colour) in series.iter().enumerate() {
            style.push_str(&format!(
                ".fig .s{number}{{stroke:{colour}}}.fig .f{number},.fig text.f{number}{{fill:{colour}}}"
            ));
        }
        style
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2).
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.03928 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (a, b) = (luminance(one), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_marks_stand_out_from_their_ground() {
        for theme in [Theme::LIGHT, Theme::DARK] {
            assert!(contrast(theme.ink, theme.paper) > 7.0);
            assert!(contrast(theme.mute, theme.paper) > 4.5);
            for colour in theme.series.iter().chain([&theme.good, &theme.bad]) {
                assert!(
                    contrast(colour, theme.paper) > 2.6,
                    "{colour} on {}",
                    theme.paper
                );
            }
        }
    }

    #[test]
    fn every_arm_has_a_colour_of_its_own() {
        let mut colours = crate::results::ARMS.map(|arm| arm_colour(arm, 0));
        colours.sort_unstable();
        assert!(colours.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
