//! What the templates show: words, tables and figures, ready to be set in HTML or Markdown.

use std::collections::BTreeSet;

use askama::Template;

use super::figures::{self, ordered};
use super::format::{arm_meaning, arm_title, percent};
use super::input::{EmbeddingMaps, ReportInput, SamplePhoto};
use super::markdown;
use super::measures;
use super::palette::{LIGHT, arm_colour, page_style};
use super::payload::payload;
use super::png::data_address;
use super::script;
use super::sprite::Sprite;
use super::story;
use super::svg::Figure;
use super::tables::{self, Table};
use crate::error::{Error, Result};

/// `report.html`.
#[derive(Template)]
#[template(path = "report.html")]
struct Html<'a> {
    page: &'a Page,
    page_style: String,
    highlight_style: String,
    script: &'static str,
    script_hash: String,
}

/// `report.md`.
#[derive(Template)]
#[template(path = "report.md")]
struct Text<'a> {
    page: &'a Page,
    recipe_fence: String,
    command_fence: String,
}

/// The whole story; a section without data is empty.
pub(crate) struct Page {
    pub(super) data: String,
    pub(super) synthetic: bool,
    pub(super) recipe_name: Option<String>,
    pub(super) seed: u64,
    pub(super) lead: String,
    pub(super) caveats: Vec<String>,
    pub(super) arms: Vec<(String, &'static str, usize)>,
    pub(super) arms_table: Table,
    pub(super) heads_table: Option<Table>,
    pub(super) embeddings_table: Option<Table>,
    pub(super) budget_table: Table,
    pub(super) classes_table: Option<Table>,
    pub(super) errors_table: Option<Table>,
    pub(super) measures: Vec<Table>,
    pub(super) accuracy: Vec<Figure>,
    pub(super) curves: Vec<Figure>,
    pub(super) maps: Vec<Figure>,
    pub(super) map_methods: String,
    pub(super) similarities: Vec<Figure>,
    pub(super) legend: Vec<(String, usize)>,
    pub(super) class_differences: Vec<Figure>,
    pub(super) confusions: Vec<Figure>,
    pub(super) confused: Vec<Figure>,
    pub(super) hardest: Vec<Figure>,
    pub(super) retrieval: Vec<Figure>,
    pub(super) reliability: Vec<Figure>,
    pub(super) photos: Vec<Photo>,
    pub(super) contact_sheet: Option<Figure>,
    pub(super) command: String,
    pub(super) recipe: String,
    pub(super) dataset: Vec<(String, String)>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) sources: Vec<(String, String)>,
    pub(super) payload: String,
    pub(super) sprite: Option<Sprite>,
}

/// A photograph with the answers of the arms.
pub(super) struct Photo {
    address: String,
    small: bool,
    index: u64,
    class: String,
    answers: Vec<Answer>,
}

struct Answer {
    arm: String,
    class: String,
    confidence: String,
    right: bool,
}

impl Page {
    pub(crate) fn new(input: &ReportInput) -> Result<Self> {
        let results = &input.results;
        let data = results.dataset.label();
        let arms = results.arms_in_order();
        let mut accuracy = Vec::new();
        if !arms.is_empty() {
            accuracy.push(figures::accuracies(results));
        }
        accuracy.extend(
            story::reference(results)
                .and_then(|reference| figures::differences(results, reference)),
        );
        let curves = figures::validation_curves(&input.curves, &data)
            .into_iter()
            .chain(
                input
                    .curves
                    .iter()
                    .filter(|curve| !curve.points.is_empty())
                    .map(|curve| figures::stage_curve(curve, &data)),
            );
        let maps = input.maps.iter().flat_map(|maps| {
            maps.maps
                .iter()
                .map(|map| figures::embedding_map(maps, map, &results.dataset.classes, &data))
        });
        let exhibits = Exhibits::new(input)?;
        let sprite = match &input.gallery {
            Some(gallery) => gallery
                .pictures
                .as_ref()
                .map(|pictures| Sprite::new(pictures, gallery.labels.len()))
                .transpose()?,
            None => None,
        };
        let mut similarities = Vec::new();
        for snapshots in &input.snapshots {
            similarities.extend(figures::similarities(snapshots, &data)?);
        }
        let mut confusions: Vec<Figure> = arms
            .iter()
            .filter_map(|(name, arm)| figures::confusion(name, arm, &results.dataset))
            .collect();
        if let Some((main, against)) = story::main_pair(results) {
            let ends = (&results.arms[main], &results.arms[against]);
            confusions.extend(figures::confusion_difference(
                (main, ends.0),
                (against, ends.1),
                &results.dataset,
            ));
        }
        let legend = match input.maps.first() {
            Some(maps) if !maps.maps.is_empty() => results
                .dataset
                .classes
                .iter()
                .enumerate()
                .map(|(class, name)| (name.clone(), class))
                .collect(),
            _ => Vec::new(),
        };
        let mut page = Page {
            synthetic: results.dataset.synthetic,
            recipe_name: results
                .recipe
                .get("name")
                .and_then(|name| name.as_str())
                .map(str::to_owned),
            seed: results.seed,
            lead: measures::lead(results).unwrap_or_else(|| story::lead(results)),
            caveats: story::caveats(results),
            arms: arms
                .iter()
                .enumerate()
                .map(|(position, (name, _))| {
                    (
                        arm_title(name),
                        arm_meaning(name),
                        arm_colour(name, position),
                    )
                })
                .collect(),
            arms_table: tables::arms(results),
            heads_table: tables::heads(results),
            embeddings_table: tables::embeddings(results),
            budget_table: tables::budget(results),
            classes_table: tables::classes(results),
            errors_table: tables::errors(results),
            measures: measures::tables(results),
            accuracy,
            curves: curves.collect(),
            maps: maps.collect(),
            map_methods: methods(&input.maps),
            similarities,
            legend,
            class_differences: figures::class_differences(results),
            confusions,
            confused: exhibits.confused,
            hardest: exhibits.hardest,
            retrieval: exhibits.retrieval,
            reliability: arms
                .iter()
                .filter_map(|(name, arm)| figures::reliability(name, arm, &data))
                .collect(),
            photos: input
                .samples
                .iter()
                .map(|photo| Photo::new(photo, input))
                .collect::<Result<_>>()?,
            contact_sheet: figures::contact_sheet(&input.samples, &results.dataset)?,
            command: results.command.clone(),
            recipe: recipe_text(input)?,
            dataset: tables::dataset(results),
            environment: tables::environment(results),
            sources: input.sources.clone(),
            payload: payload(input, sprite.as_ref())?,
            sprite,
            data,
        };
        page.name_figures_apart();
        Ok(page)
    }

    /// Two stages whose names differ only in punctuation must not share a file.
    fn name_figures_apart(&mut self) {
        let mut taken = BTreeSet::new();
        let all = [
            &mut self.accuracy,
            &mut self.curves,
            &mut self.maps,
            &mut self.similarities,
            &mut self.class_differences,
            &mut self.confusions,
            &mut self.confused,
            &mut self.hardest,
            &mut self.retrieval,
            &mut self.reliability,
        ];
        for figure in all.into_iter().flatten().chain(&mut self.contact_sheet) {
            let stem = figure.name.clone();
            let mut copy = 1;
            while !taken.insert(figure.name.clone()) {
                copy += 1;
                figure.name = format!("{stem}-{copy}");
            }
        }
    }

    pub(crate) fn html(&self) -> Result<String> {
        let page = Html {
            page: self,
            page_style: page_style(),
            highlight_style: highlight_style(self.legend.len()),
            script: script::text(),
            script_hash: script::hash(),
        };
        page.render().map_err(failed)
    }

    pub(crate) fn markdown(&self) -> Result<String> {
        let page = Text {
            page: self,
            recipe_fence: markdown::fence(&self.recipe),
            command_fence: markdown::fence(&self.command),
        };
        page.render().map_err(failed)
    }

    /// Every figure, in the order of the report.
    pub(crate) fn figures(&self) -> impl Iterator<Item = &Figure> {
        [
            &self.accuracy,
            &self.curves,
            &self.maps,
            &self.similarities,
            &self.class_differences,
            &self.confusions,
            &self.confused,
            &self.hardest,
            &self.retrieval,
            &self.reliability,
        ]
        .into_iter()
        .flatten()
        .chain(&self.contact_sheet)
    }
}

impl Photo {
    fn new(photo: &SamplePhoto, input: &ReportInput) -> Result<Self> {
        let class = |class: u32| {
            input
                .results
                .dataset
                .classes
                .get(class as usize)
                .cloned()
                .unwrap_or_default()
        };
        Ok(Photo {
            address: data_address(photo)?,
            small: photo.width.max(photo.height) <= 64,
            index: photo.index,
            class: class(photo.label),
            answers: ordered(photo)
                .into_iter()
                .map(|(arm, answer)| Answer {
                    arm: arm_title(arm),
                    class: class(answer.class),
                    confidence: percent(answer.confidence),
                    right: answer.class == photo.label,
                })
                .collect(),
        })
    }
}

/// Figures made from all test images: photographs, for the two arms that the report is about.
#[derive(Default)]
struct Exhibits {
    confused: Vec<Figure>,
    hardest: Vec<Figure>,
    retrieval: Vec<Figure>,
}

impl Exhibits {
    fn new(input: &ReportInput) -> Result<Self> {
        let mut exhibits = Exhibits::default();
        let Some(gallery) = &input.gallery else {
            return Ok(exhibits);
        };
        let results = &input.results;
        let (classes, data) = (&results.dataset.classes, results.dataset.label());
        let about =
            story::main_pair(results).map_or_else(Vec::new, |(arm, other)| vec![other, arm]);
        for arm in &gallery.arms {
            if !about.is_empty() && !about.contains(&arm.arm.as_str()) {
                continue;
            }
            if let Some(result) = results.arms.get(&arm.arm) {
                let confusion = &result.test.classification.confusion;
                exhibits.confused.extend(figures::confused_pairs(
                    arm, gallery, confusion, classes, &data,
                )?);
            }
            exhibits
                .hardest
                .extend(figures::hardest(arm, gallery, classes, &data)?);
            exhibits
                .retrieval
                .extend(figures::retrieval(arm, gallery, classes, &data)?);
        }
        Ok(exhibits)
    }
}

/// The methods of the maps in words.
fn methods(maps: &[EmbeddingMaps]) -> String {
    let told: Vec<String> = maps
        .iter()
        .map(|maps| match maps.method.as_str() {
            "PCA" => "PCA (the two directions of largest variance)".to_owned(),
            "t-SNE" => "t-SNE (neighbours stay neighbours; distances between groups mean little)"
                .to_owned(),
            other => other.to_owned(),
        })
        .collect();
    told.join(" or by ")
}

fn recipe_text(input: &ReportInput) -> Result<String> {
    if !input.recipe_text.trim().is_empty() {
        return Ok(input.recipe_text.trim().to_owned());
    }
    Ok(crate::json::to_json(&input.results.recipe)?
        .trim()
        .to_owned())
}

/// Pointing at a class in the legend (or reaching it with the keyboard) dims the others, without any script.
fn highlight_style(classes: usize) -> String {
    (0..classes)
        .map(|class| {
            format!(
                ".maps:has(.k{class}:hover) .dot:not(.c{class}),.maps:has(.k{class}:focus) .dot:not(.c{class})\
                 {{stroke-opacity:.05}}.maps:has(.k{class}:hover) .halo:not(.c{class}),\
                 .maps:has(.k{class}:focus) .halo:not(.c{class}){{opacity:.12}}.k{class} i{{background:var(--c{})}}",
                class % LIGHT.len()
            )
        })
        .collect()
}

pub(super) fn failed(error: askama::Error) -> Error {
    Error::Invalid(format!(
        "the report's template could not be filled: {error}"
    ))
}
