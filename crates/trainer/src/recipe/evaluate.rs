//! `[evaluate]`: how the arms are measured at their end.

use super::Recipe;
use super::check::{positive, require};
use crate::Result;
use cifar_data::Corruption;
use serde::{Deserialize, Deserializer, Serialize};

/// `[evaluate]`: how the arms are measured at their end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluate {
    /// Images per forward pass.
    pub batch_size: usize,
    /// Neighbours that vote in the weighted kNN.
    pub knn_k: usize,
    /// Temperature of the weighted kNN.
    pub knn_temperature: f64,
    /// Training images that the kNN searches at most; of a larger split, a class-balanced part.
    pub knn_bank: usize,
    /// Labelled images of each class for few-shot classification (nearest class mean in the features); numbers that the
    /// smallest class does not have are left out.
    pub shots: Vec<usize>,
    /// Photographs in the report's sample predictions.
    pub samples: usize,
    /// Also fit a linear probe to the optimum of its loss (L-BFGS) on every encoder, beside the one trained by `[probe]`.
    pub lbfgs: bool,
    /// The λ of `mean cross-entropy + λ/2·‖W‖²` that this probe chooses among, by the validation split.
    pub lbfgs_lambdas: Vec<f64>,
    /// Shares of the training labels for further such probes (`[0.01, 0.1]`), class-balanced.
    pub few_labels: Vec<f64>,
    /// Share of the labels that a further such probe is given wrong on purpose, in training and in validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_noise: Option<f64>,
    /// Common corruptions that the headline head is tested under: names, or `"all"`.
    #[serde(deserialize_with = "corruptions")]
    pub corruptions: Vec<Corruption>,
    /// Test images that are corrupted at most (the first ones), at five severities each.
    pub corruption_images: usize,
    /// Look for test images that repeat a training image, and also score without them.
    pub duplicates: bool,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self {
            batch_size: 256,
            knn_k: 200,
            knn_temperature: 0.07,
            knn_bank: 10_000,
            shots: vec![1, 5, 20],
            samples: 24,
            lbfgs: false,
            lbfgs_lambdas: vec![10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4],
            few_labels: Vec::new(),
            label_noise: None,
            corruptions: Vec::new(),
            corruption_images: 1000,
            duplicates: false,
        }
    }
}

/// A list of names, one name, or `"all"`.
fn corruptions<'de, D: Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<Corruption>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Several(Vec<String>),
    }
    let names = match Written::deserialize(from)? {
        Written::One(all) if all == "all" => return Ok(Corruption::ALL.to_vec()),
        Written::One(name) => vec![name],
        Written::Several(names) => names,
    };
    names
        .iter()
        .map(|name| name.parse().map_err(serde::de::Error::custom))
        .collect()
}

impl Evaluate {
    /// Whether any probe is fitted to its optimum.
    pub(crate) fn fits_probes(&self) -> bool {
        self.lbfgs || !self.few_labels.is_empty() || self.label_noise.is_some()
    }
}

impl Recipe {
    pub(super) fn check_evaluate(&self) -> Result<()> {
        let e = &self.evaluate;
        require(
            "evaluate.batch_size",
            e.batch_size,
            e.batch_size > 0,
            "use at least 1",
        )?;
        require(
            "evaluate.knn_k",
            e.knn_k,
            e.knn_k > 0,
            "use at least 1 neighbour",
        )?;
        require(
            "evaluate.knn_temperature",
            e.knn_temperature,
            positive(e.knn_temperature),
            "use a number above 0",
        )?;
        require(
            "evaluate.knn_bank",
            e.knn_bank,
            e.knn_bank > 0,
            "use at least 1 image",
        )?;
        let rising = e.shots.windows(2).all(|pair| pair[0] < pair[1]);
        require(
            "evaluate.shots",
            format!("{:?}", e.shots),
            rising && e.shots.first() != Some(&0),
            "use rising numbers of at least 1, such as [1, 5, 20], or [] for none",
        )?;
        let lambdas = format!("{:?}", e.lbfgs_lambdas);
        let ok =
            !e.lbfgs_lambdas.is_empty() && e.lbfgs_lambdas.iter().all(|&lambda| positive(lambda));
        require(
            "evaluate.lbfgs_lambdas",
            lambdas,
            ok,
            "use at least one number above 0, such as [1e-2, 1e-4]",
        )?;
        let shares = format!("{:?}", e.few_labels);
        let ok = e.few_labels.iter().all(|&share| share > 0.0 && share < 1.0);
        require(
            "evaluate.few_labels",
            shares,
            ok,
            "use shares above 0 and below 1, such as [0.01, 0.1]",
        )?;
        if let Some(noise) = e.label_noise {
            let ok = noise > 0.0 && noise < 1.0;
            require(
                "evaluate.label_noise",
                noise,
                ok,
                "use a share above 0 and below 1, or leave it out",
            )?;
        }
        for (field, on) in [
            ("evaluate.lbfgs", e.lbfgs),
            ("evaluate.few_labels", !e.few_labels.is_empty()),
            ("evaluate.label_noise", e.label_noise.is_some()),
        ] {
            let ok = !on || self.data.validation > 0;
            require(
                field,
                on,
                ok,
                "its regularisation is chosen on the validation split: set data.validation above 0",
            )?;
        }
        let mut names = e.corruptions.clone();
        names.sort();
        names.dedup();
        let listed = e
            .corruptions
            .iter()
            .map(|c| c.name())
            .collect::<Vec<_>>()
            .join(", ");
        require(
            "evaluate.corruptions",
            listed,
            names.len() == e.corruptions.len(),
            "name each corruption once",
        )?;
        require(
            "evaluate.corruption_images",
            e.corruption_images,
            e.corruption_images > 0,
            "use at least 1 image",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corruptions_are_all_one_or_several() {
        let mut recipe = Recipe::default();
        for (written, count) in [
            ("all", 15),
            ("fog", 1),
            ("[\"fog\", \"snow\"]", 2),
            ("[]", 0),
        ] {
            recipe.set("evaluate.corruptions", written).unwrap();
            assert_eq!(recipe.evaluate.corruptions.len(), count, "{written}");
            let again = Recipe::parse(&recipe.to_toml().unwrap()).unwrap();
            assert_eq!(again, recipe);
        }
        let text = recipe
            .set("evaluate.corruptions", "rain")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("rain") && text.contains("gaussian_noise"),
            "{text}"
        );
    }

    #[test]
    fn measurements_out_of_range_are_named() {
        for (field, value, says) in [
            ("evaluate.lbfgs_lambdas", "[]", "at least one"),
            ("evaluate.lbfgs_lambdas", "[0.0]", "above 0"),
            ("evaluate.few_labels", "[0.1, 1.0]", "below 1"),
            ("evaluate.shots", "[0, 1]", "at least 1"),
            ("evaluate.shots", "[5, 5]", "rising"),
            ("evaluate.label_noise", "0.0", "leave it out"),
            ("evaluate.corruptions", "[\"fog\", \"fog\"]", "once"),
            ("evaluate.corruption_images", "0", "at least 1"),
        ] {
            let mut recipe = Recipe::default();
            recipe.set(field, value).unwrap();
            let text = recipe.check().unwrap_err().to_string();
            assert!(text.contains(field) && text.contains(says), "{text}");
        }
        let mut recipe = Recipe::default();
        recipe.data.validation = 0;
        recipe.check().unwrap();
        recipe.evaluate.lbfgs = true;
        let text = recipe.check().unwrap_err().to_string();
        assert!(
            text.contains("evaluate.lbfgs") && text.contains("data.validation"),
            "{text}"
        );
    }
}
