//! [`Loss`] in recipes: a name, or a table of a name and the options that its loss has.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    ArcFace, BarlowTwins, Circle, CosFace, Denominator, GeneralizedLifted, InfoNce,
    LiftedStructure, Loss, MaxMargin, MultiSimilarity, Nca, NormalizedSoftmax, NpairsTargets,
    Pairwise, Proxied, ProxyAnchor, ProxyNca, Scale, Sigmoid, SubCenterArcFace, SupConWeighted,
    Triplet, TwoViews, UndefinedRows, VicReg,
};

/// A loss as it is written: its name, and its options beside it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Table {
    Npairs(Npairs),
    SupconOut(SupCon),
    SupconIn(SupCon),
    NtXent(NtXent),
    SupconWeighted(SupConWeighted),
    MaxMargin(MaxMargin),
    Triplet(Triplet),
    LiftedStructure(LiftedStructure),
    GeneralizedLifted(GeneralizedLifted),
    MultiSimilarity(MultiSimilarity),
    Circle(Circle),
    Nca(Nca),
    InfoNce(InfoNce),
    Sigmoid(Sigmoid),
    BarlowTwins(BarlowTwins),
    #[serde(rename = "vicreg")]
    VicReg(VicReg),
    ProxyNca(ProxyNca),
    ProxyAnchor(ProxyAnchor),
    NormalizedSoftmax(NormalizedSoftmax),
    #[serde(rename = "cosface")]
    CosFace(CosFace),
    #[serde(rename = "arcface")]
    ArcFace(ArcFace),
    #[serde(rename = "subcenter_arcface")]
    SubCenterArcFace(SubCenterArcFace),
}

/// The options of npairs; what is left out is the source's.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Npairs {
    temperature: Option<f64>,
    targets: Option<NpairsTargets>,
}

/// The options of SupCon, out and in.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SupCon {
    temperature: Option<f64>,
    denominator: Option<Denominator>,
    undefined_rows: Option<UndefinedRows>,
    scale: Option<Scale>,
}

/// The options of NT-Xent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NtXent {
    temperature: Option<f64>,
}

impl Serialize for Loss {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Table::from(self).serialize(to)
    }
}

impl From<&Loss> for Table {
    fn from(loss: &Loss) -> Self {
        let supcon = |temperature: f64, denominator, scale, undefined_rows| SupCon {
            temperature: Some(temperature),
            denominator: Some(denominator),
            undefined_rows: Some(undefined_rows),
            scale: Some(scale),
        };
        match loss.clone() {
            Loss::Npairs {
                temperature,
                targets,
            } => Self::Npairs(Npairs {
                temperature: Some(temperature),
                targets: Some(targets),
            }),
            Loss::SupConOut {
                temperature,
                denominator,
                scale,
                undefined_rows,
            } => Self::SupconOut(supcon(temperature, denominator, scale, undefined_rows)),
            Loss::SupConIn {
                temperature,
                denominator,
                scale,
                undefined_rows,
            } => Self::SupconIn(supcon(temperature, denominator, scale, undefined_rows)),
            Loss::NtXent { temperature } => Self::NtXent(NtXent {
                temperature: Some(temperature),
            }),
            Loss::SupConWeighted(loss) => Self::SupconWeighted(loss),
            Loss::Pairwise(loss) => match loss {
                Pairwise::MaxMargin(loss) => Self::MaxMargin(loss),
                Pairwise::Triplet(loss) => Self::Triplet(loss),
                Pairwise::LiftedStructure(loss) => Self::LiftedStructure(loss),
                Pairwise::GeneralizedLifted(loss) => Self::GeneralizedLifted(loss),
                Pairwise::MultiSimilarity(loss) => Self::MultiSimilarity(loss),
                Pairwise::Circle(loss) => Self::Circle(loss),
                Pairwise::Nca(loss) => Self::Nca(loss),
            },
            Loss::TwoViews(loss) => match loss {
                TwoViews::InfoNce(loss) => Self::InfoNce(loss),
                TwoViews::Sigmoid(loss) => Self::Sigmoid(loss),
                TwoViews::BarlowTwins(loss) => Self::BarlowTwins(loss),
                TwoViews::VicReg(loss) => Self::VicReg(loss),
            },
            Loss::Proxied(loss) => match loss {
                Proxied::ProxyNca(loss) => Self::ProxyNca(loss),
                Proxied::ProxyAnchor(loss) => Self::ProxyAnchor(loss),
                Proxied::NormalizedSoftmax(loss) => Self::NormalizedSoftmax(loss),
                Proxied::CosFace(loss) => Self::CosFace(loss),
                Proxied::ArcFace(loss) => Self::ArcFace(loss),
                Proxied::SubCenterArcFace(loss) => Self::SubCenterArcFace(loss),
            },
        }
    }
}

impl From<Table> for Loss {
    fn from(table: Table) -> Self {
        match table {
            Table::Npairs(given) => {
                let mut loss = Self::npairs();
                if let Self::Npairs {
                    temperature,
                    targets,
                } = &mut loss
                {
                    set(temperature, given.temperature);
                    set(targets, given.targets);
                }
                loss
            }
            Table::SupconOut(given) => given.onto(Self::supcon_out()),
            Table::SupconIn(given) => given.onto(Self::supcon_in()),
            Table::NtXent(given) => match given.temperature {
                Some(temperature) => Self::nt_xent().with_temperature(temperature),
                None => Self::nt_xent(),
            },
            Table::SupconWeighted(loss) => loss.into(),
            Table::MaxMargin(loss) => loss.into(),
            Table::Triplet(loss) => loss.into(),
            Table::LiftedStructure(loss) => loss.into(),
            Table::GeneralizedLifted(loss) => loss.into(),
            Table::MultiSimilarity(loss) => loss.into(),
            Table::Circle(loss) => loss.into(),
            Table::Nca(loss) => loss.into(),
            Table::InfoNce(loss) => loss.into(),
            Table::Sigmoid(loss) => loss.into(),
            Table::BarlowTwins(loss) => loss.into(),
            Table::VicReg(loss) => loss.into(),
            Table::ProxyNca(loss) => loss.into(),
            Table::ProxyAnchor(loss) => loss.into(),
            Table::NormalizedSoftmax(loss) => loss.into(),
            Table::CosFace(loss) => loss.into(),
            Table::ArcFace(loss) => loss.into(),
            Table::SubCenterArcFace(loss) => loss.into(),
        }
    }
}

impl SupCon {
    fn onto(self, mut loss: Loss) -> Loss {
        if let Loss::SupConOut {
            temperature,
            denominator,
            scale,
            undefined_rows,
        }
        | Loss::SupConIn {
            temperature,
            denominator,
            scale,
            undefined_rows,
        } = &mut loss
        {
            set(temperature, self.temperature);
            set(denominator, self.denominator);
            set(scale, self.scale);
            set(undefined_rows, self.undefined_rows);
        }
        loss
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
                let names = Loss::names().join(", ");
                write!(
                    f,
                    "the name of a loss ({names}) or a table with `name` and options"
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Loss, E> {
                name.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Loss, A::Error> {
                let loss = Loss::from(Table::deserialize(MapAccessDeserializer::new(map))?);
                loss.check().map_err(A::Error::custom)?;
                Ok(loss)
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
        for name in Loss::names() {
            let loss: Loss = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!((loss.name(), &loss), (name, &name.parse().unwrap()));
            let changed = loss.with_temperature(0.3);
            let text = serde_json::to_string(&changed).unwrap();
            assert!(
                text.starts_with(&format!("{{\"name\":\"{name}\"")),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), changed);
            let bare = format!("{{\"name\": \"{name}\"}}");
            assert_eq!(
                serde_json::from_str::<Loss>(&bare).unwrap(),
                name.parse().unwrap()
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
        let text = r#"{"name": "triplet", "margin": 1, "mining": "semi_hard"}"#;
        let loss: Loss = serde_json::from_str(text).unwrap();
        let expected = Triplet {
            margin: 1.0,
            mining: crate::Mining::SemiHard,
            ..Triplet::default()
        };
        assert_eq!(loss, expected.into());
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            (r#""triplets""#, "unknown loss \"triplets\""),
            (r#"{"name": "triplets"}"#, "unknown variant `triplets`"),
            (
                r#"{"name": "npairs", "denominator": "all"}"#,
                "unknown field `denominator`",
            ),
            (
                r#"{"name": "nt_xent", "targets": "boolean"}"#,
                "unknown field `targets`",
            ),
            (
                r#"{"name": "npairs", "temperature": 0}"#,
                "temperature must be",
            ),
            (
                r#"{"name": "circle", "gamma": -1}"#,
                "the loss option `gamma` must be a finite number above 0, got -1",
            ),
            (r#"{"name": "npairs", "tau": 0.1}"#, "tau"),
            (r#"{"name": "triplet", "mining": "easy"}"#, "easy"),
            ("3", "the name of a loss"),
        ] {
            let message = serde_json::from_str::<Loss>(text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
