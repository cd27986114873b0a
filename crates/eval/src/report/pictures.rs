//! The report's figures as a page of a repository: a README of pictures, each with a sentence on what it shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use askama::Template;

use super::format::{arm_title, percent};
use super::input::ReportInput;
use super::io;
use super::markdown;
use super::page::{Page, failed};
use super::raster;
use super::story;
use super::svg::Figure;
use super::tables::Table;
use crate::atomic::write_atomically;
use crate::command::public_command;
use crate::error::{Error, Result};
use crate::results::Results;

/// The first line of the page: by it, it is known again.
const MARK: &str =
    "<!-- Written by `cargo xtask report --pictures`: what is changed here is lost. -->";

/// Where [`write_pictures`] put what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PicturesPaths {
    /// `README.md`.
    pub page: PathBuf,
    /// Its pictures.
    pub pictures: Vec<PathBuf>,
    /// The few that say most, for a page that has room for no more: file, and what it shows.
    pub cover: Vec<(PathBuf, String)>,
}

/// `README.md` of the folder.
#[derive(Template)]
#[template(path = "pictures.md")]
struct Text<'a> {
    mark: &'static str,
    page: &'a Page,
    sections: Vec<Section<'a>>,
    command: String,
    command_fence: String,
}

/// Pictures that belong together.
struct Section<'a> {
    title: &'static str,
    says: String,
    figures: Vec<(&'a Figure, String)>,
    tables: Vec<&'a Table>,
}

impl<'a> Section<'a> {
    /// Two beside each other.
    fn rows(&self) -> std::slice::Chunks<'_, (&'a Figure, String)> {
        self.figures.chunks(2)
    }
}

/// Writes `README.md` and its pictures into `folder`, which is made where it is missing: pictures first, each file atomically.
/// Drawings are SVG; what holds photographs is PNG (without the feature `png` SVG, too), since pages may not be
/// allowed to show an image within an image. Pictures of an earlier page that this one does not have are removed.
///
/// # Errors
/// If the parts of `input` do not fit together, a file cannot be written, or the folder has a `README.md` of other origin.
pub fn write_pictures(folder: &Path, input: &ReportInput) -> Result<PicturesPaths> {
    input.check()?;
    let text = folder.join("README.md");
    let before = match std::fs::read_to_string(&text) {
        Ok(before) if before.starts_with(MARK) => linked(&before),
        Ok(_) => {
            return Err(Error::Invalid(format!(
                "{} was not written by this program; name a folder of the pictures' own",
                text.display()
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
        Err(error) => return Err(io("read", &text, error)),
    };
    std::fs::create_dir_all(folder).map_err(|source| io("create", folder, source))?;
    let page = Page::new(input)?;
    let mut sections = sections(&page, &input.results);
    let mut pictures = Vec::new();
    for (figure, file) in sections.iter_mut().flat_map(|section| &mut section.figures) {
        let drawn = if figure.holds_pictures() {
            raster::png(figure)?
        } else {
            None
        };
        let (ending, bytes) = match drawn {
            Some(png) => ("png", png),
            None => ("svg", figure.standalone().into_bytes()),
        };
        *file = format!("{}.{ending}", figure.name);
        let path = folder.join(&*file);
        write_atomically(&path, &bytes)?;
        pictures.push(path);
    }
    let cover = cover(&sections, &input.results);
    let cover = cover
        .into_iter()
        .map(|(file, says)| (folder.join(file), says));
    let paths = PicturesPaths {
        page: text,
        cover: cover.collect(),
        pictures,
    };
    let page = Text {
        mark: MARK,
        command_fence: markdown::fence(&page.command),
        command: public_command(&page.command),
        page: &page,
        sections,
    };
    write_atomically(&paths.page, page.render().map_err(failed)?.as_bytes())?;
    for file in before {
        let old = folder.join(&file);
        if !paths.pictures.contains(&old) && old.is_file() {
            std::fs::remove_file(&old).map_err(|source| io("remove", &old, source))?;
        }
    }
    Ok(paths)
}

/// The pictures that a page names: files beside it.
fn linked(page: &str) -> BTreeSet<String> {
    let targets = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let plain = |name: &&str| {
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        (name.ends_with(".svg") || name.ends_with(".png")) && name.chars().all(letters)
    };
    targets.filter(plain).map(str::to_owned).collect()
}

fn sections<'a>(page: &'a Page, results: &Results) -> Vec<Section<'a>> {
    let pair = story::main_pair(results);
    // The arms that the report is about. An arm's name may end as another one's: the longest counts.
    let about = |figure: &&Figure| {
        let arms = results.arms.keys();
        let owner = arms
            .filter(|arm| figure.name.ends_with(&format!("-{arm}")))
            .max_by_key(|arm| arm.len());
        pair.is_none_or(|(arm, against)| {
            owner.is_some_and(|owner| owner == arm || owner == against)
        })
    };
    let section = |title, says: String, figures: Vec<&'a Figure>| Section {
        title,
        says,
        figures: (figures.into_iter().map(|figure| (figure, String::new()))).collect(),
        tables: Vec::new(),
    };
    let all = |figures: &'a [Figure]| figures.iter().collect::<Vec<_>>();
    let mut sections = vec![Section {
        tables: [&page.arms_table].into_iter().chain(&page.measures).collect(),
        ..section(
            "The arms",
            "A dot is what an arm reached on the test images, a bar its 95 % interval; beside it, the difference to the arm that others are \
             measured against. Where a bar of the difference crosses the line at zero, these test images do not tell the two apart."
                .to_owned(),
            all(&page.accuracy),
        )
    }];
    sections.push(section(
        "Learning curves",
        "Validation accuracy of all arms against what they had spent by then, earlier stages counted; and the losses of the encoders' own \
         training. A contrastive loss on the dashed line would mean that all embeddings are one point."
            .to_owned(),
        (page.curves.iter())
            .filter(|figure| !figure.name.contains("-probe-"))
            .collect(),
    ));
    sections.push(section(
        "Embedding maps",
        format!(
            "Each dot is a test image at the place that its features give it, coloured by its true class: the more the colours keep apart, \
             the more an encoder knows of the classes without any head. {}",
            neighbours(results)
        ),
        page.maps.iter().filter(about).collect(),
    ));
    sections.push(section(
        "Similarity before, during and after training",
        "Cosine similarities of the same validation images, all with all, sorted by class. Training that works draws bright squares along \
         the diagonal, and in the histograms moves pairs of one class away from pairs of different classes."
            .to_owned(),
        all(&page.similarities),
    ));
    sections.push(section(
        "Retrieval",
        "For the first test image of each class (none was picked), the ten nearest others in each encoder's features: ✓ of the same class, \
         ✗ of another."
            .to_owned(),
        all(&page.retrieval),
    ));
    sections.push(section(
        "Class by class",
        "Points gained or lost in each class; thin lines are 95 % intervals over the test images of the class.".to_owned(),
        all(&page.class_differences),
    ));
    sections.push(section(
        "Confusion",
        "Rows are true classes, columns answers. In the difference, blue is better (more right, fewer errors) and orange worse.".to_owned(),
        page.confusions.iter().filter(about).collect(),
    ));
    sections.push(section(
        "The most confused pairs",
        "What the arms mistake most often, with the photographs that they were surest of."
            .to_owned(),
        all(&page.confused),
    ));
    sections.push(section(
        "Hardest mistakes",
        "Wrong answers with the highest confidence.".to_owned(),
        all(&page.hardest),
    ));
    sections.push(section(
        "Reliability",
        "How often an answer is right, by how sure the arm was: below the dashed line it is surer than right.".to_owned(),
        page.reliability.iter().filter(about).collect(),
    ));
    sections.push(section(
        "Some test images",
        "Drawn at random before anything was known of the answers.".to_owned(),
        page.contact_sheet.iter().collect(),
    ));
    sections.retain(|section| !section.figures.is_empty());
    sections
}

/// How often the nearest other test image is of the same class, for the arms that measured it.
fn neighbours(results: &Results) -> String {
    let told: Vec<String> = (results.arms_in_order().into_iter())
        .filter_map(|(name, arm)| {
            let share = arm.test.embedding.precision_at_1?;
            Some(format!(
                "{} {}",
                arm_title(name).to_lowercase(),
                percent(share)
            ))
        })
        .collect();
    if told.is_empty() {
        return String::new();
    }
    format!(
        "The nearest other test image is of the same class for: {}.",
        told.join(", ")
    )
}

/// The last map of both arms, and similarities: of the arm that the report is about where there are several.
fn cover(sections: &[Section<'_>], results: &Results) -> Vec<(String, String)> {
    let of = |title: &str| {
        let section = sections.iter().find(|section| section.title == title);
        section.map_or(&[][..], |section| &section.figures[..])
    };
    let says = |(figure, file): &(&Figure, String)| {
        (
            file.clone(),
            format!("{}. {}", figure.title, figure.caption),
        )
    };
    let maps = of("Embedding maps");
    let similarities = of("Similarity before, during and after training");
    let main = story::main_pair(results).map_or("", |(arm, _)| arm);
    let main = format!("similarity-{main}-");
    let chosen = similarities
        .iter()
        .rfind(|(figure, _)| figure.name.starts_with(&main))
        .or(similarities.last());
    let first = similarities.first().filter(|_| similarities.len() > 1);
    (maps[maps.len().saturating_sub(2)..].iter())
        .chain(first)
        .chain(chosen)
        .map(says)
        .collect()
}
