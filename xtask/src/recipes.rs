//! Recipes: those that come with the program, files of the user's, and which one is meant when
//! none is named.

use std::path::Path;

use anyhow::Result;
use cifar_data::{DatasetInfo, DatasetName};
use trainer::{CheckedRecipe, Recipe};

use crate::{cli::Common, exit::bad_input, progress::Screen, text};

/// Minutes that the default recipe of a GPU is scaled to.
pub const GPU_BUDGET_MINUTES: f64 = 30.0;

/// The recipes inside the binary: name and text.
pub const EMBEDDED: [(&str, &str); 8] = [
    ("smoke", include_str!("../../assets/recipes/smoke.toml")),
    ("quick", include_str!("../../assets/recipes/quick.toml")),
    ("hour", include_str!("../../assets/recipes/hour.toml")),
    ("keras", include_str!("../../assets/recipes/keras.toml")),
    ("supcon", include_str!("../../assets/recipes/supcon.toml")),
    ("simclr", include_str!("../../assets/recipes/simclr.toml")),
    (
        "transfer",
        include_str!("../../assets/recipes/transfer.toml"),
    ),
    ("losses", include_str!("../../assets/recipes/losses.toml")),
];

/// The recipe that `--recipe` names: an embedded one, else a file.
pub fn load(wanted: &str) -> Result<Recipe> {
    if let Some((_, text)) = EMBEDDED.iter().find(|(name, _)| *name == wanted) {
        return Recipe::parse(text).map_err(|error| refuse(wanted, &error));
    }
    let path = Path::new(wanted);
    let looks_like_file =
        path.components().count() > 1 || path.extension().is_some() || path.is_file();
    if !looks_like_file {
        let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
        return Err(bad_input(format!(
            "--recipe {wanted}: there is no recipe of that name; use one of {} or the path of a TOML file",
            known.join(", ")
        )));
    }
    let text = fs_err::read_to_string(path).map_err(|error| {
        bad_input(format!(
            "--recipe {wanted}: {}; give a recipe's name or the path of a readable TOML file",
            crate::exit::io_reason(&error)
        ))
    })?;
    let mut recipe = Recipe::parse(&text).map_err(|error| refuse(wanted, &error))?;
    if recipe.name == Recipe::default().name
        && let Some(stem) = path.file_stem()
    {
        recipe.name = stem.to_string_lossy().into_owned();
    }
    Ok(recipe)
}

/// The recipe for a machine and its data when the user names none, and why.
pub fn default_for(synthetic: bool, gpu: bool) -> Result<(Recipe, &'static str)> {
    if synthetic {
        return Ok((load("smoke")?, "embedded data"));
    }
    if !gpu {
        return Ok((load("quick")?, "real data on a CPU"));
    }
    let mut recipe = load("supcon")?;
    recipe.budget_minutes = Some(GPU_BUDGET_MINUTES);
    Ok((recipe, "real data on a GPU, scaled to half an hour"))
}

/// Applies `--set`, `--seed`, `--dataset`, `--budget` and `--init`, in this order.
pub fn apply(recipe: &mut Recipe, flags: &Common) -> Result<()> {
    for (key, value) in &flags.set {
        recipe
            .set(key, value)
            .map_err(|error| bad_input(format!("--set {key}={value}: {error}")))?;
    }
    if let Some(seed) = flags.seed {
        recipe.seed = seed;
    }
    if let Some(dataset) = flags.dataset {
        recipe.data.dataset = dataset;
    }
    if let Some(precision) = flags.precision {
        recipe.model.precision = precision.into();
    }
    if flags.budget.is_some() {
        recipe.budget = flags.budget;
    }
    if let Some(init) = &flags.init {
        let arms = &recipe.arms;
        if arms.transfer || arms.transfer_frozen || arms.transfer_contrastive {
            recipe.transfer.init.clone_from(init);
        } else {
            recipe.model.init.clone_from(init);
        }
    }
    if let Some(folder) = &flags.data_dir
        && flags.dataset == Some(DatasetName::Synthetic)
    {
        return Err(bad_input(format!(
            "--data-dir {} has no meaning with --dataset synthetic, which is embedded; leave one of the two out",
            folder.display()
        )));
    }
    if flags.data_dir.is_some() && recipe.data.dataset == DatasetName::Synthetic {
        return Err(bad_input(format!(
            "--data-dir has no meaning with the embedded data set that recipe `{}` asks for; add --dataset auto, or leave it out",
            recipe.name
        )));
    }
    Ok(())
}

/// Lowers what a recipe that comes with the program asks of CIFAR's 50,000 images to what the user's own have: the validation split to
/// a tenth of them, batches to a quarter of what is left. What the user set stays as it is, and what is lowered is said.
pub fn fit(recipe: &mut Recipe, flags: &Common, data: &DatasetInfo, screen: &Screen) {
    let embedded = |name: &String| EMBEDDED.iter().any(|(known, _)| known == name);
    if !data.user_images || !flags.recipe.as_ref().is_none_or(embedded) {
        return;
    }
    let mut lowered = Vec::new();
    let mut lower = |field: &str, value: &mut usize, most: usize| {
        if *value > most && !flags.set.iter().any(|(key, _)| key == field) {
            lowered.push(format!("{field} {} → {most}", *value));
            *value = most;
        }
    };
    let images = data.train_len;
    lower("data.validation", &mut recipe.data.validation, images / 10);
    let left = images.saturating_sub(recipe.data.validation);
    let left = recipe
        .data
        .train_limit
        .map_or(left, |limit| limit.min(left));
    for (field, size) in [
        ("supervised.batch_size", &mut recipe.supervised.batch_size),
        ("pretrain.batch_size", &mut recipe.pretrain.batch_size),
        ("probe.batch_size", &mut recipe.probe.batch_size),
        ("head.batch_size", &mut recipe.head.batch_size),
        ("finetune.batch_size", &mut recipe.finetune.batch_size),
    ] {
        lower(field, size, (left / 4).max(2));
    }
    if !lowered.is_empty() {
        let text = format!(
            "recipe {}: fitted to {images} training images: {}",
            recipe.name,
            lowered.join(", ")
        );
        for line in text::wrap(&text, 80) {
            screen.note(line);
        }
    }
}

/// Checks all ranges; the sentence names the field, its value and the remedy.
pub fn check(recipe: &Recipe) -> Result<CheckedRecipe> {
    recipe
        .check()
        .map_err(|error| bad_input(format!("recipe `{}`: {error}", recipe.name)))
}

/// A recipe's name as part of a folder's name.
pub fn folder_name(recipe: &Recipe) -> String {
    let name: String = recipe
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    format!(
        "{}-seed{}",
        name.trim_start_matches(['.', '-']),
        recipe.seed
    )
}

/// One sentence for a recipe that cannot be read; TOML's picture of the line is left out.
fn refuse(wanted: &str, error: &trainer::Error) -> anyhow::Error {
    let text = error.to_string();
    let kept: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect();
    bad_input(format!("--recipe {wanted}: {}", kept.join(": ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_recipe_is_valid_named_and_headed() {
        for (name, text) in EMBEDDED {
            let recipe = load(name).unwrap();
            check(&recipe).unwrap();
            assert_eq!(recipe.name, name);
            for word in ["# Command: ", "# Cost: ", "# Accuracy: "] {
                let line = text.lines().find(|line| line.starts_with(word));
                let line = line.unwrap_or_else(|| panic!("{name} lacks `{word}`"));
                if word == "# Command: " {
                    assert!(line.contains("cargo xtask"), "{line}");
                }
                if word == "# Accuracy: " {
                    let honest = ["measured here", "published elsewhere"];
                    assert!(honest.iter().any(|h| line.contains(h)), "{name}: {line}");
                }
            }
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let text = load("smok").unwrap_err().to_string();
        for (name, _) in EMBEDDED {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn defaults_follow_data_and_device() {
        assert_eq!(default_for(true, true).unwrap().0.name, "smoke");
        assert_eq!(default_for(false, false).unwrap().0.name, "quick");
        let (gpu, _) = default_for(false, true).unwrap();
        assert_eq!(
            (gpu.name.as_str(), gpu.budget_minutes),
            ("supcon", Some(30.0))
        );
    }

    #[test]
    fn folder_names_stay_inside_their_folder() {
        let recipe = Recipe {
            name: "../a b".into(),
            seed: 3,
            ..Recipe::default()
        };
        assert_eq!(folder_name(&recipe), "a-b-seed3");
        assert!(!folder_name(&recipe).contains('/'));
    }

    #[test]
    fn first_weights_go_to_the_arm_that_is_on() {
        let flags = Common {
            init: Some("hub:a/b".parse().unwrap()),
            ..Common::default()
        };
        let (mut quick, mut transfer) = (load("quick").unwrap(), load("transfer").unwrap());
        apply(&mut quick, &flags).unwrap();
        apply(&mut transfer, &flags).unwrap();
        let texts = |recipe: &Recipe| {
            (
                recipe.model.init.to_string(),
                recipe.transfer.init.to_string(),
            )
        };
        let default = Recipe::default().transfer.init.to_string();
        assert_eq!(texts(&quick), ("hub:a/b".into(), default));
        assert_eq!(texts(&transfer), ("random".into(), "hub:a/b".into()));
    }

    #[test]
    fn flags_override_and_contradictions_are_named() {
        let mut recipe = load("quick").unwrap();
        let mut flags = Common {
            seed: Some(9),
            set: vec![("pretrain.temperature".into(), "0.2".into())],
            ..Common::default()
        };
        apply(&mut recipe, &flags).unwrap();
        assert_eq!((recipe.seed, recipe.pretrain.temperature), (9, Some(0.2)));
        flags.set = vec![("pretrain.temprature".into(), "0.2".into())];
        let text = apply(&mut recipe, &flags).unwrap_err().to_string();
        assert!(text.contains("--set pretrain.temprature=0.2"), "{text}");
        let mut smoke = load("smoke").unwrap();
        let flags = Common {
            data_dir: Some("somewhere".into()),
            ..Common::default()
        };
        let text = apply(&mut smoke, &flags).unwrap_err().to_string();
        assert!(
            text.contains("--data-dir") && text.contains("--dataset auto"),
            "{text}"
        );
    }
}
