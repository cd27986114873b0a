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

/// Cividis (Nuñez et al. 2018) at ten places: similarities, on any ground.
pub(crate) const CIVIDIS: [[u8; 3]; 10] = [
    [0, 34, 78],
    [18, 53, 112],
    [59, 73, 108],
    [87, 93, 109],
    [112, 113, 115],
    [138, 134, 120],
    [165, 156, 116],
    [195, 179, 105],
    [225, 204, 85],
    [254, 232, 56],
];

/// What figures have in common on every ground.
const SHAPES: &str = ".fig text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;font-size:12px}\
    .fig .b{font-weight:600}.fig .s{font-size:11px}.fig .n{font-variant-numeric:tabular-nums}\
    .fig .grid{stroke-width:1}.fig .axis{stroke-width:1;fill:none}\
    .fig .line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
    .fig .thin{stroke-width:1.25}.fig .thick{stroke-width:5;stroke-linecap:round;stroke-opacity:.32}\
    .fig .dash{stroke-dasharray:5 4}.fig .dot{fill:none;stroke-width:4.6;stroke-linecap:round;stroke-opacity:.78}\
    .fig .halo{paint-order:stroke;stroke-width:5px;stroke-linejoin:round}.fig .l{font-size:13px}.fig .whisker{stroke-width:1.5;stroke-opacity:.75}";

/// The style of a standalone figure: light, then dark where the reader prefers it and looks at a screen. Colours stand
/// in full: many programs that draw SVG know no CSS variables.
pub(crate) fn figure_style() -> String {
    format!(
        "{SHAPES}{}@media screen and (prefers-color-scheme:dark){{{}}}",
        Theme::LIGHT.style(),
        Theme::DARK.style()
    )
}

/// The style of a figure on white.
#[cfg(feature = "png")]
pub(crate) fn light_style() -> String {
    format!("{SHAPES}{}", Theme::LIGHT.style())
}

/// The style of figures in a page: colours are variables, so that the reader may choose the ground (`data-theme` at the
/// root), whatever the system prefers. Print is on white.
pub(crate) fn page_style() -> String {
    format!(
        ":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\
         @media screen{{:root[data-theme=dark]{{{dark}}}}}{SHAPES}{rules}",
        light = Theme::LIGHT.variables("light"),
        dark = Theme::DARK.variables("dark"),
        rules = Theme::VARIABLES.style(),
    )
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
    const VARIABLES: Theme = Theme {
        series: [
            "var(--c0)",
            "var(--c1)",
            "var(--c2)",
            "var(--c3)",
            "var(--c4)",
            "var(--c5)",
            "var(--c6)",
            "var(--c7)",
            "var(--c8)",
            "var(--c9)",
        ],
        ink: "var(--ink)",
        mute: "var(--mute)",
        grid: "var(--line)",
        axis: "var(--axis)",
        paper: "var(--paper)",
        good: "var(--good)",
        bad: "var(--bad)",
    };
    const LIGHT: Theme = Theme {
        series: LIGHT,
        ink: "#1b1d22",
        mute: "#5a5f69",
        grid: "#dfe2e8",
        axis: "#9aa0ab",
        paper: "#ffffff",
        good: "#0068a8",
        bad: "#b84600",
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

    /// The colours as CSS variables.
    fn variables(&self, scheme: &str) -> String {
        let series: String = (self.series.iter().enumerate())
            .map(|(number, colour)| format!(";--c{number}:{colour}"))
            .collect();
        let soft = if scheme == "dark" {
            "#1e2126"
        } else {
            "#f5f6f8"
        };
        format!(
            "color-scheme:{scheme};--soft:{soft};--ink:{};--mute:{};--line:{};--axis:{};--paper:{};--good:{};--bad:{}{series}",
            self.ink, self.mute, self.grid, self.axis, self.paper, self.good, self.bad
        )
    }

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
            for text in [theme.good, theme.bad] {
                assert!(contrast(text, theme.paper) > 4.5, "{text}");
            }
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
