//! [`Loss`] in recipes: a name, or a table of a name and the options that its loss has.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::loss::NAMES;
use crate::{Denominator, Error, Loss, NpairsTargets, Scale, UndefinedRows};

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    targets: Option<NpairsTargets>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    denominator: Option<Denominator>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undefined_rows: Option<UndefinedRows>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scale: Option<Scale>,
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut table = Table {
            name: self.name().into(),
            temperature: Some(self.temperature()),
            ..Table::default()
        };
        match *self {
            Self::Npairs { targets, .. } => table.targets = Some(targets),
            Self::SupConOut {
                denominator,
                scale,
                undefined_rows,
                ..
            }
            | Self::SupConIn {
                denominator,
                scale,
                undefined_rows,
                ..
            } => {
                table.denominator = Some(denominator);
                table.scale = Some(scale);
                table.undefined_rows = Some(undefined_rows);
            }
            Self::NtXent { .. } => {}
        }
        table.serialize(to)
    }
}

impl Table {
    fn into_loss(self) -> Result<Loss, String> {
        let mut loss: Loss = self
            .name
            .parse()
            .map_err(|error: Error| error.to_string())?;
        if let Some(temperature) = self.temperature {
            loss = loss.with_temperature(temperature);
        }
        let (is_npairs, is_supcon) = match &mut loss {
            Loss::Npairs { targets, .. } => {
                set(targets, self.targets);
                (true, false)
            }
            Loss::SupConOut {
                denominator,
                scale,
                undefined_rows,
                ..
            }
            | Loss::SupConIn {
                denominator,
                scale,
                undefined_rows,
                ..
            } => {
                set(denominator, self.denominator);
                set(scale, self.scale);
                set(undefined_rows, self.undefined_rows);
                (false, true)
            }
            Loss::NtXent { .. } => (false, false),
        };
        for (option, given, known) in [
            ("targets", self.targets.is_some(), is_npairs),
            ("denominator", self.denominator.is_some(), is_supcon),
            ("scale", self.scale.is_some(), is_supcon),
            ("undefined_rows", self.undefined_rows.is_some(), is_supcon),
        ] {
            if given && !known {
                return Err(format!(
                    "the loss \"{loss}\" has no option `{option}`; remove it"
                ));
            }
        }
        loss.check().map_err(|error| error.to_string())?;
        Ok(loss)
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

impl<'de> Deserialize<'de> for Loss {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Loss;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "the name of a loss ({}) or a table with `name` and options",
                    NAMES
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Loss, E> {
                name.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Loss, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?
                    .into_loss()
                    .map_err(A::Error::custom)
            }
        }
        from.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tables_read_back_what_was_written() {
        for loss in [
            Loss::npairs(),
            Loss::supcon_out(),
            Loss::supcon_in(),
            Loss::nt_xent(),
        ] {
            let name: Loss = serde_json::from_str(&format!("\"{loss}\"")).unwrap();
            assert_eq!(name, loss);
            let text = serde_json::to_string(&loss.clone().with_temperature(0.3)).unwrap();
            assert_eq!(
                serde_json::from_str::<Loss>(&text).unwrap(),
                loss.with_temperature(0.3)
            );
        }
        let text = r#"{"name": "supcon_in", "denominator": "one_positive", "scale": {"temperature_over": 0.07}}"#;
        let loss: Loss = serde_json::from_str(text).unwrap();
        assert!(matches!(
            loss,
            Loss::SupConIn {
                denominator: Denominator::OnePositive,
                scale: Scale::TemperatureOver(_),
                ..
            }
        ));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            (r#""triplet""#, "unknown loss \"triplet\""),
            (
                r#"{"name": "npairs", "denominator": "all"}"#,
                "no option `denominator`",
            ),
            (
                r#"{"name": "nt_xent", "targets": "boolean"}"#,
                "no option `targets`",
            ),
            (
                r#"{"name": "npairs", "temperature": 0}"#,
                "temperature must be",
            ),
            (r#"{"name": "npairs", "tau": 0.1}"#, "tau"),
            ("3", "the name of a loss"),
        ] {
            let message = serde_json::from_str::<Loss>(text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
