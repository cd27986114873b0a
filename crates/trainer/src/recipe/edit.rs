//! Changing one field of a recipe by its dotted name, as `--set pretrain.temperature=0.1` does.

use super::Recipe;
use crate::{Error, Result};
use toml::{Table, Value};

/// Fields that belong to one kind of optimiser or schedule only: forgotten when the kind changes.
const OF_ONE_KIND: &[&str] = &[
    "momentum",
    "nesterov",
    "betas",
    "eps",
    "trust",
    "final_factor",
    "milestones",
    "gamma",
    "rise",
    "div",
    "final_div",
];

impl Recipe {
    /// Sets the field `path` (`"pretrain.optimizer.lr"`) to `value`, written as in TOML; quotes around words may
    /// be left out. Setting a `kind` forgets the fields of the former kind, setting a `loss` without a temperature the temperature. The value `none` clears an optional field.
    ///
    /// ```
    /// let mut recipe = trainer::Recipe::default();
    /// recipe.set("pretrain.loss", "npairs")?;
    /// recipe.set("pretrain.optimizer.lr", "0.5")?;
    /// assert_eq!(recipe.pretrain.optimizer.lr, 0.5);
    /// assert!(recipe.set("pretrain.temprature", "1").is_err());
    /// # Ok::<(), trainer::Error>(())
    /// ```
    pub fn set(&mut self, path: &str, value: &str) -> Result<()> {
        let refuse = |reason: String| Error::RecipeField {
            field: path.to_owned(),
            value: value.to_owned(),
            remedy: reason,
        };
        let mut table: Table = Table::try_from(&*self)
            .map_err(|e| refuse(format!("the recipe cannot be edited: {e}")))?;
        let keys: Vec<&str> = path.split('.').map(str::trim).collect();
        let Some((last, parents)) = keys
            .split_last()
            .filter(|_| keys.iter().all(|k| !k.is_empty()))
        else {
            return Err(refuse(
                "write SECTION.FIELD=VALUE, for example pretrain.temperature=0.1".to_owned(),
            ));
        };
        let mut known = &table;
        for key in parents {
            let sections = known.iter().filter(|(_, value)| value.is_table());
            let names: Vec<String> = sections.map(|(name, _)| name.clone()).collect();
            let inside = known;
            known = known.get(*key).and_then(Value::as_table).ok_or_else(|| {
                refuse(match (inside.contains_key(*key), names.as_slice()) {
                    (true, _) => format!("`{key}` is a field, not a section: write it alone"),
                    (false, []) => format!("there is no section `{key}` here"),
                    (false, names) => format!(
                        "there is no section `{key}`; there are: {}",
                        names.join(", ")
                    ),
                })
            })?;
        }
        let fields = known.get(*last).and_then(Value::as_table).cloned();
        if *last == "kind"
            && let Some(section) = section_mut(&mut table, parents)
        {
            let cycle = value.contains("one_cycle"); // rises by itself
            section.retain(|key, _| {
                let foreign = OF_ONE_KIND.contains(&key) || (cycle && key.starts_with("warmup_"));
                !foreign
            });
        }
        let text = value.trim();
        let candidates: Vec<Option<Value>> = match text {
            "none" | "" => vec![Some(Value::String(text.to_owned())), None],
            _ => parse_value(text)
                .into_iter()
                .chain([Value::String(text.to_owned())])
                .map(Some)
                .collect(),
        };
        let mut first_error = None;
        for candidate in candidates {
            let clears = candidate.is_none();
            if let Some(section) = section_mut(&mut table, parents) {
                match candidate {
                    Some(v) => section.insert((*last).to_owned(), v),
                    None => section.remove(*last),
                };
            }
            let text = toml::to_string(&table).map_err(|e| refuse(e.to_string()))?;
            match toml::from_str::<Self>(&text) {
                // A removed field that has a default is not cleared but reset: only optional fields may be cleared.
                Ok(mut recipe) if !clears || !has_field(&recipe, &keys) => {
                    // As with a `kind`: the former loss' temperature says nothing to one that has none.
                    if keys == ["pretrain", "loss"] && !recipe.pretrain.loss.has_temperature() {
                        recipe.pretrain.temperature = None;
                    }
                    *self = recipe;
                    return Ok(());
                }
                Ok(_) => {}
                Err(e) => {
                    first_error.get_or_insert_with(|| e.message().to_owned());
                }
            }
        }
        Err(refuse(match (first_error, fields) {
            (Some(error), Some(fields)) if error.contains("expected struct") => format!(
                "this is a section; set one of its fields: {}",
                fields.keys().cloned().collect::<Vec<_>>().join(", ")
            ),
            (Some(error), _) => in_words(&error),
            (None, _) => "the field takes no such value".to_owned(),
        }))
    }
}

/// What a field takes, where the reader of TOML names a type of the program's.
fn in_words(error: &str) -> String {
    let wanted = match error
        .rsplit_once("expected ")
        .map(|(_, wanted)| wanted.trim())
    {
        Some("usize" | "u64" | "u32") => "a whole number from 0 to 9223372036854775807",
        Some("f64" | "f32") => "a number, such as 0.1",
        Some("a boolean") => "true or false",
        Some("a sequence") => "a list, such as [0.5, 0.8]",
        _ => return error.to_owned(),
    };
    format!("use {wanted}")
}

fn section_mut<'a>(table: &'a mut Table, parents: &[&str]) -> Option<&'a mut Table> {
    parents.iter().try_fold(table, |section, key| {
        section.get_mut(*key).and_then(Value::as_table_mut)
    })
}

/// Whether the recipe, written out, has the field.
fn has_field(recipe: &Recipe, keys: &[&str]) -> bool {
    let Ok(table) = Table::try_from(recipe) else {
        return true;
    };
    let mut value = Value::Table(table);
    for key in keys {
        match value.as_table_mut().and_then(|t| t.remove(*key)) {
            Some(next) => value = next,
            None => return false,
        }
    }
    true
}

/// The value as TOML reads it, if it does.
fn parse_value(text: &str) -> Option<Value> {
    format!("x = {text}").parse::<Table>().ok()?.remove("x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_lists_reach_their_fields() {
        let mut recipe = Recipe::default();
        recipe.set("name", "mine").unwrap();
        recipe.set("seed", "7").unwrap();
        recipe.set("data.train_limit", "128").unwrap();
        recipe.set("pretrain.optimizer.kind", "adam").unwrap();
        recipe.set("pretrain.optimizer.lr", "1").unwrap();
        recipe.set("probe.schedule.kind", "step").unwrap();
        recipe
            .set("probe.schedule.milestones", "[0.5, 0.8]")
            .unwrap();
        recipe.set("arms.control", "true").unwrap();
        assert_eq!(
            (recipe.name.as_str(), recipe.seed, recipe.data.train_limit),
            ("mine", 7, Some(128))
        );
        assert_eq!(recipe.pretrain.optimizer.lr, 1.0);
        assert_eq!(recipe.probe.schedule.milestones, Some(vec![0.5, 0.8]));
        assert!(recipe.arms.control);
        recipe.set("data.train_limit", "none").unwrap();
        assert_eq!(recipe.data.train_limit, None);
    }

    #[test]
    fn a_changed_kind_forgets_the_fields_of_the_former() {
        let mut recipe = Recipe::default();
        recipe.set("pretrain.optimizer.momentum", "0.8").unwrap();
        recipe.set("pretrain.optimizer.kind", "adamw").unwrap();
        assert_eq!(recipe.pretrain.optimizer.momentum, None);
        recipe.check().unwrap();
    }

    #[test]
    fn a_refusal_says_what_the_field_takes_in_words() {
        for (field, value, says) in [
            ("pretrain.epochs", "-3", "use a whole number from 0 to"),
            ("pretrain.epochs", "abc", "use a whole number from 0 to"),
            (
                "pretrain.epochs",
                "99999999999999999999",
                "use a whole number from 0 to 9223372036854775807",
            ),
            ("seed", "1.5", "use a whole number"),
            ("model.width", "wide", "use a number"),
            ("arms.control", "maybe", "use true or false"),
            ("pretrain", "3", "a section; set one of its fields: "),
            ("pretrain.optimizer", "3", "lr"),
            ("foo.bar.baz", "3", "no section `foo`; there are: arms, "),
            ("seed.x", "3", "`seed` is a field"),
        ] {
            let text = Recipe::default().set(field, value).unwrap_err().to_string();
            assert!(text.contains(says), "{field}={value}: {text}");
            for inside in ["usize", "struct ", "string \""] {
                assert!(!text.contains(inside), "{field}={value}: {text}");
            }
        }
        let text = Recipe::default()
            .set("foo.bar", "3")
            .unwrap_err()
            .to_string();
        assert!(!text.contains("seed") && !text.contains("name,"), "{text}");
    }

    #[test]
    fn a_refusal_names_field_value_and_remedy_and_changes_nothing() {
        let mut recipe = Recipe::default();
        for (field, value) in [
            ("pretrain.temprature", "1"),
            ("pretrain.loss", "triplets"),
            ("epochs", "3"),
            ("nosuch.section.field", "3"),
            ("pretrain.epochs", "-3"),
            ("pretrain.epochs", "none"),
            ("pretrain.", "3"),
            ("", ""),
        ] {
            let error = recipe.set(field, value).unwrap_err().to_string();
            assert!(
                error.contains(field) && error.contains(value),
                "{field}={value}: {error}"
            );
            assert_eq!(recipe, Recipe::default());
        }
    }
}
