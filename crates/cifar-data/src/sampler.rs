//! In which order the images of an epoch come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::{shuffle, stream};

/// In which order the images of an epoch come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Every image once, in an order drawn anew for each epoch.
    #[default]
    Shuffle,
    /// Batches of `batch_size / per_class` classes with `per_class` images each, no image twice in a batch. The classes of a
    /// batch are different ones as long as there are enough; each class deals its images out in turns, shuffled anew every
    /// time they run out. An epoch has as many batches as with [`Shuffle`](Self::Shuffle).
    ClassBalanced {
        /// Images of a class within a batch (M).
        per_class: usize,
    },
    /// Every image once, in the order given.
    Sequential,
}

impl Sampler {
    /// Checks that the sampler can fill batches of `batch_size` from images with `labels`.
    pub(crate) fn check(self, labels: &[u32], batch_size: usize) -> Result<()> {
        let Self::ClassBalanced { per_class } = self else {
            return Ok(());
        };
        if per_class == 0 || !batch_size.is_multiple_of(per_class) {
            return Err(Error::setting(
                "sampler.per_class",
                per_class,
                format!("it must be above zero and divide the batch size, {batch_size}"),
            ));
        }
        let mut sizes: BTreeMap<u32, usize> = BTreeMap::new();
        for &label in labels {
            *sizes.entry(label).or_default() += 1;
        }
        // Where there are more groups than classes, a class has several of a batch's groups.
        let most = (batch_size / per_class).div_ceil(sizes.len().max(1)) * per_class;
        match sizes.iter().find(|&(_, &size)| size < most) {
            Some((class, size)) => Err(Error::setting(
                "sampler.per_class",
                per_class,
                format!(
                    "class {class} has only {size} images, but a batch of {batch_size} takes up to {most} different ones of \
                     a class; make the batch smaller, or per_class"
                ),
            )),
            None => Ok(()),
        }
    }

    /// The positions (into `labels`) of all images of an epoch, batch after batch.
    pub(crate) fn order(
        self,
        labels: &[u32],
        batch_size: usize,
        seed: u64,
        purpose: &str,
        epoch: u64,
    ) -> Vec<usize> {
        let mut rng = stream(seed, &format!("{purpose}: order"), &[epoch]);
        match self {
            Self::Sequential => (0..labels.len()).collect(),
            Self::Shuffle => {
                let mut order: Vec<usize> = (0..labels.len()).collect();
                shuffle(&mut order, &mut rng);
                order
            }
            Self::ClassBalanced { per_class } => {
                let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
                for (position, &label) in labels.iter().enumerate() {
                    members.entry(label).or_default().push(position);
                }
                let members: Vec<Vec<usize>> = members.into_values().collect();
                let mut decks = vec![Vec::new(); members.len()];
                let mut order = Vec::with_capacity(labels.len().next_multiple_of(batch_size));
                while order.len() < labels.len() {
                    let start = order.len();
                    let mut classes = Vec::new();
                    for _ in 0..batch_size / per_class {
                        if classes.is_empty() {
                            classes = (0..members.len()).collect();
                            shuffle(&mut classes, &mut rng);
                        }
                        let Some(class) = classes.pop() else { break };
                        if decks[class].len() < per_class {
                            // What is left of the old deal stays on top of the new one. What this batch has or is about
                            // to get lies at the new one's bottom: too deep for this batch.
                            let rest = std::mem::take(&mut decks[class]);
                            let mut deal = members[class].clone();
                            shuffle(&mut deal, &mut rng);
                            let (mut deck, others): (Vec<_>, Vec<_>) =
                                deal.into_iter().partition(|card| {
                                    rest.contains(card) || order[start..].contains(card)
                                });
                            deck.extend(others);
                            deck.extend(rest);
                            decks[class] = deck;
                        }
                        let left = decks[class].len() - per_class;
                        order.extend(decks[class].drain(left..));
                    }
                }
                order
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::below;

    /// 26, 26 and 51 of three classes.
    fn labels() -> Vec<u32> {
        (0..103).map(|i| [2, 4, 9, 9][i % 4]).collect()
    }

    #[test]
    fn shuffle_is_a_permutation_and_changes_with_the_epoch() {
        let order = Sampler::Shuffle.order(&labels(), 8, 1, "train", 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..103).collect::<Vec<_>>());
        assert_eq!(order, Sampler::Shuffle.order(&labels(), 8, 1, "train", 0));
        assert_ne!(order, Sampler::Shuffle.order(&labels(), 8, 1, "train", 1));
        assert_ne!(order, Sampler::Shuffle.order(&labels(), 8, 1, "probe", 0));
    }

    #[test]
    fn balanced_batches_hold_m_different_images_per_class() {
        let labels = labels();
        let sampler = Sampler::ClassBalanced { per_class: 4 };
        sampler.check(&labels, 12).unwrap();
        let order = sampler.order(&labels, 12, 1, "train", 3);
        assert_eq!(order.len() % 12, 0);
        let mut seen = std::collections::BTreeSet::new();
        for batch in order.chunks(12) {
            let mut counts = BTreeMap::new();
            let different: std::collections::BTreeSet<_> = batch.iter().collect();
            assert_eq!(different.len(), 12);
            for &position in batch {
                *counts.entry(labels[position]).or_insert(0) += 1;
                seen.insert(position);
            }
            assert!(
                counts.len() == 3 && counts.values().all(|&count| count == 4),
                "{counts:?}"
            );
        }
        assert!(seen.len() > 60);
        // More class slots than classes: they repeat, evenly.
        for batch in sampler.order(&labels, 24, 1, "train", 0).chunks(24) {
            assert_eq!(
                batch
                    .iter()
                    .filter(|&&position| labels[position] == 9)
                    .count(),
                8
            );
        }
    }

    #[test]
    fn refuses_what_cannot_be_balanced() {
        let message = Sampler::ClassBalanced { per_class: 5 }
            .check(&labels(), 12)
            .unwrap_err()
            .to_string();
        assert!(message.contains("divide the batch size, 12"), "{message}");
        let message = Sampler::ClassBalanced { per_class: 4 }
            .check(&[0, 0, 0, 0, 1], 4)
            .unwrap_err()
            .to_string();
        assert!(message.contains("class 1 has only 1"), "{message}");
        // Two groups of four each, and seven images.
        let message = Sampler::ClassBalanced { per_class: 4 }
            .check(&[[0; 9], [1; 9]].concat()[..16], 16)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("class 1 has only 7 images, but a batch of 16 takes up to 8"),
            "{message}"
        );
    }

    /// Whatever is accepted deals no image twice in a batch, and every image of a class before any of them again.
    #[test]
    fn balanced_batches_of_any_shape_repeat_nothing_and_deal_in_turns() {
        let mut rng = stream(5, "sampler test", &[]);
        let mut accepted = 0;
        for seed in 0..2_000 {
            let (classes, per_class) = (1 + below(&mut rng, 5), 1 + below(&mut rng, 4));
            let groups = 1 + below(&mut rng, 12);
            let sizes: Vec<usize> = (0..classes).map(|_| 1 + below(&mut rng, 20)).collect();
            let mut labels: Vec<u32> = (0..)
                .zip(&sizes)
                .flat_map(|(class, &size)| vec![class; size])
                .collect();
            shuffle(&mut labels, &mut rng);
            let (sampler, batch_size) = (Sampler::ClassBalanced { per_class }, groups * per_class);
            let case = format!("batches of {batch_size}, {per_class} per class, of {sizes:?}");
            let most = groups.div_ceil(classes) * per_class;
            let possible = sizes.iter().all(|&size| size >= most);
            let checked = sampler.check(&labels, batch_size);
            assert_eq!(checked.is_ok(), possible, "{case}");
            if !possible {
                continue;
            }
            accepted += 1;
            let order = sampler.order(&labels, batch_size, seed, "train", 0);
            for batch in order.chunks(batch_size) {
                let different: std::collections::BTreeSet<_> = batch.iter().collect();
                assert_eq!(different.len(), batch_size, "{case}");
            }
            let mut dealt = vec![0; labels.len()];
            for position in order {
                dealt[position] += 1;
            }
            for class in 0..classes as u32 {
                let times: std::collections::BTreeSet<_> = (0..labels.len())
                    .filter(|&position| labels[position] == class)
                    .map(|position| dealt[position])
                    .collect();
                let spread = times.last().unwrap() - times.first().unwrap();
                assert!(spread <= 1, "{case}: {times:?}");
            }
        }
        assert!((400..1_600).contains(&accepted), "{accepted}");
    }
}
