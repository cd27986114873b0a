//! [`Miner`] in recipes: a name, or a table of a name and the options that its miner has.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{DistanceWeighted, Miner};

/// A miner as it is written: its name, and its options beside it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
enum Table {
    Hard(NoOptions),
    SemiHard(SemiHard),
    DistanceWeighted(DistanceWeighted),
    MultiSimilarity(MultiSimilarity),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoOptions {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SemiHard {
    #[serde(default = "face_net")]
    margin: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MultiSimilarity {
    #[serde(default = "wang")]
    epsilon: f64,
}

fn face_net() -> f64 {
    0.2
}

fn wang() -> f64 {
    0.1
}

impl Serialize for Miner {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let table = match self.clone() {
            Self::Hard => Table::Hard(NoOptions {}),
            Self::SemiHard { margin } => Table::SemiHard(SemiHard { margin }),
            Self::DistanceWeighted(options) => Table::DistanceWeighted(options),
            Self::MultiSimilarity { epsilon } => {
                Table::MultiSimilarity(MultiSimilarity { epsilon })
            }
        };
        table.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Miner {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Miner;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let names = Miner::NAMES.join(", ");
                write!(
                    f,
                    "the name of a miner ({names}) or a table with `name` and options"
                )
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Miner, E> {
                name.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Miner, A::Error> {
                let miner = match Table::deserialize(MapAccessDeserializer::new(map))? {
                    Table::Hard(_) => Miner::Hard,
                    Table::SemiHard(SemiHard { margin }) => Miner::SemiHard { margin },
                    Table::DistanceWeighted(options) => Miner::DistanceWeighted(options),
                    Table::MultiSimilarity(MultiSimilarity { epsilon }) => {
                        Miner::MultiSimilarity { epsilon }
                    }
                };
                miner.check().map_err(A::Error::custom)?;
                Ok(miner)
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
        for name in Miner::NAMES {
            let miner: Miner = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!((miner.name(), &miner), (name, &name.parse().unwrap()));
            let text = serde_json::to_string(&miner).unwrap();
            assert_eq!(serde_json::from_str::<Miner>(&text).unwrap(), miner);
            let bare = format!("{{\"name\": \"{name}\"}}");
            assert_eq!(serde_json::from_str::<Miner>(&bare).unwrap(), miner);
        }
        for (text, word) in [
            (r#""easy""#, "unknown miner \"easy\""),
            (r#"{"name": "hard", "margin": 1}"#, "margin"),
            (r#"{"name": "semi_hard", "margin": -1}"#, "`margin` must be"),
            (r#"{"name": "distance_weighted", "cutoff": 3}"#, "cutoff"),
            (r#"{"name": "multi_similarity", "eps": 3}"#, "eps"),
            ("3", "the name of a miner"),
        ] {
            let message = serde_json::from_str::<Miner>(text).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }
}
