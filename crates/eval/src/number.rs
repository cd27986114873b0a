//! Floats in JSON: 15 significant digits, and `null` for what is not finite (JSON knows no NaN), which reads as NaN.
//!
//! Fifteen digits survive any reader's way of parsing, and rounding again on reading makes the trip exact: what was
//! read is written as the same text.
//!
//! `#[serde(with = "crate::number")]` for an `f64`, `crate::number::list` for a `Vec<f64>`,
//! `crate::number::optional` for an `Option<f64>` (where `null` reads as NaN and absence as `None`),
//! `crate::number::by_name` for a `BTreeMap<String, f64>`, `crate::number::lists_by_name` for one of lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    finite(*value).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.map_or(f64::NAN, rounded))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then(|| rounded(value))
}

/// The nearest number of 15 significant digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| finite(*value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(from)?;
        Ok(values
            .into_iter()
            .map(|value| value.map_or(f64::NAN, rounded))
            .collect())
    }
}

/// One number by itself, for what holds numbers at some depth.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Number(#[serde(with = "self")] f64);

pub(crate) mod by_name {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        values: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(values.iter().map(|(name, value)| (name, Number(*value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        let values = BTreeMap::<String, Number>::deserialize(from)?;
        Ok(values
            .into_iter()
            .map(|(name, Number(value))| (name, value))
            .collect())
    }
}

pub(crate) mod lists_by_name {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        lists: &BTreeMap<String, Vec<f64>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let numbers = |list: &Vec<f64>| list.iter().copied().map(Number).collect::<Vec<_>>();
        to.collect_map(lists.iter().map(|(name, list)| (name, numbers(list))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, Vec<f64>>, D::Error> {
        let lists = BTreeMap::<String, Vec<Number>>::deserialize(from)?;
        let plain = |list: Vec<Number>| list.into_iter().map(|Number(value)| value).collect();
        Ok(lists
            .into_iter()
            .map(|(name, list)| (name, plain(list)))
            .collect())
    }
}

pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        value.and_then(finite).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        super::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Holder(#[serde(with = "super")] f64);

    #[test]
    fn any_number_makes_the_trip_exactly_after_rounding() {
        let mut value = 0.123_456_789_012_345_68;
        for _ in 0..2000 {
            value = (value * 997.123_456_7) % 3.0;
            for value in [value, -value * 1e-9, value * 1e17] {
                let text = serde_json::to_string(&Holder(value)).unwrap();
                let read: Holder = serde_json::from_str(&text).unwrap();
                assert!((read.0 - value).abs() <= 1e-14 * value.abs());
                assert_eq!(read.0, rounded(value));
                assert_eq!(serde_json::to_string(&read).unwrap(), text);
            }
        }
    }

    #[test]
    fn simple_shares_stay_as_they_are() {
        for images in 0..=10_000u32 {
            let share = f64::from(images) / 10_000.0;
            assert_eq!(rounded(share), share);
        }
    }
}
