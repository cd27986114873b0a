//! Where a loss over normalised embeddings sits when they have collapsed, and how low it can go: the two ends of a monitor's
//! scale.

use crate::pairs::Pairs;
use crate::tiled::Sides;
use crate::{Bounds, Denominator, Loss, NpairsTargets, SupConConfig, UndefinedRows};

/// What the bounds depend on.
pub(crate) struct Crowd {
    /// |P(i)| and |N(i)| of every anchor.
    counts: Vec<(usize, usize)>,
    /// The smallest difference cos(negative) − cos(positive), on average.
    ///
    /// Where all C labels have as many rows, Σ_ij z_i·z_j ≥ 0 and Jensen's inequality give −1/(C − 1) − 1, which classes that
    /// each collapse to one corner of a regular simplex attain (Graf et al. 2021, "Dissecting Supervised Contrastive Learning",
    /// arXiv 2102.08817), if the dimension is at least C − 1: the bounds are minima then. Otherwise −2, from |cos| ≤ 1 alone.
    contrast: f64,
}

impl Crowd {
    /// A batch against itself.
    pub(crate) fn batch(pairs: &Pairs) -> Self {
        let balanced = (0..pairs.rows()).all(|row| pairs.group_size(row) == pairs.group_size(0));
        Self {
            counts: pairs.counts(),
            contrast: match balanced && pairs.groups() > 1 {
                true => -1.0 / (pairs.groups() - 1) as f64 - 1.0,
                false => -2.0,
            },
        }
    }

    /// Anchors against candidates.
    pub(crate) fn of(sides: &Sides) -> Self {
        Self {
            counts: sides.counts(),
            contrast: -2.0,
        }
    }

    /// npairs: with all embeddings equal ln N (times n_i for boolean targets), its mean; and ln( n_i + m_i exp(c/τ) ), m_i negatives, c
    /// the contrast, which it cannot go below.
    pub(crate) fn npairs(&self, targets: NpairsTargets, temperature: f64) -> Bounds {
        let mean = |value: &dyn Fn(f64, f64) -> f64| {
            let of = |&(positives, negatives): &(usize, usize)| {
                let (same, negatives) = (positives as f64 + 1.0, negatives as f64);
                let weight = match targets {
                    NpairsTargets::Normalized => 1.0,
                    NpairsTargets::Boolean => same,
                };
                weight * value(same, negatives).ln()
            };
            self.counts.iter().map(of).sum::<f64>() / self.counts.len().max(1) as f64
        };
        let contrast = (self.contrast / temperature).exp();
        Bounds {
            collapse: mean(&|same, negatives| same + negatives),
            floor: mean(&|same, negatives| same + negatives * contrast),
        }
    }

    /// SupCon, in and out: with all embeddings equal ln |D_i|, over the rows that count; and ln( |P ∩ D_i| + m_i exp(c/τ) ), m_i
    /// negatives, c the contrast, which it cannot go below.
    pub(crate) fn supcon(&self, config: &SupConConfig) -> Bounds {
        let contrast = self.contrast / config.temperature;
        Bounds {
            collapse: self.supcon_mean(config, |positives, negatives| match config.denominator {
                Denominator::All => (positives + negatives).ln(),
                Denominator::OnePositive => negatives.ln_1p(),
                Denominator::OnlyNegatives => negatives.ln(),
            }),
            floor: self.supcon_mean(config, |positives, negatives| match config.denominator {
                Denominator::All => (positives + negatives * contrast.exp()).ln(),
                Denominator::OnePositive => (negatives * contrast.exp()).ln_1p(),
                Denominator::OnlyNegatives => negatives.ln() + contrast,
            }),
        }
    }

    /// The mean over the rows that count of a function of (positives, negatives), scaled; 0 if no row counts.
    fn supcon_mean(&self, config: &SupConConfig, value: impl Fn(f64, f64) -> f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for &(positives, negatives) in &self.counts {
            if config.defines(positives, negatives) {
                sum += value(positives as f64, negatives as f64);
                count += 1;
            }
        }
        let divisor = if config.undefined_rows == UndefinedRows::CountAsZero {
            self.counts.len()
        } else {
            count
        };
        sum / divisor.max(1) as f64 * config.scale.factor(config.temperature)
    }
}

impl Loss {
    /// The mean of [`forward`](Self::forward) when all embeddings coincide: a run that stays here has collapsed.
    ///
    /// ln N for npairs, ln(N − 1) for SupCon and NT-Xent, N = V·B rows; over the negatives only, the mean of ln(N − n_i).
    /// 0 for an empty batch. Where it depends on the width or the number of classes, ask [`bounds`](Self::bounds): this one
    /// takes 1, and what the labels show.
    pub fn collapse_value(&self, labels: &[u32], views: usize) -> f64 {
        if let Some(bounds) = self.family_bounds(labels, views) {
            return bounds.collapse;
        }
        self.bounds_of(&Crowd::batch(&self.pairs(labels, views)))
            .collapse
    }

    /// A lower bound of the mean of [`forward`](Self::forward) for these labels: about ln n_i for npairs, ln(n_i − 1) for
    /// SupCon, n_i rows of i's label, plus what the negatives add at this temperature.
    ///
    /// The minimum itself if all labels have as many rows and the dimension is at least the number of labels less one. 0 for an empty batch.
    pub fn floor(&self, labels: &[u32], views: usize) -> f64 {
        if let Some(bounds) = self.family_bounds(labels, views) {
            return bounds.floor;
        }
        self.bounds_of(&Crowd::batch(&self.pairs(labels, views)))
            .floor
    }

    /// The bounds of npairs and the SupCon family.
    pub(crate) fn bounds_of(&self, crowd: &Crowd) -> Bounds {
        match self {
            Self::Npairs {
                targets,
                temperature,
            } => crowd.npairs(*targets, *temperature),
            _ => crowd.supcon(&self.as_supcon().unwrap_or_default()),
        }
    }

    /// How many of the V·B rows have no positive: no other row of their label, or of their sample for NT-Xent.
    pub fn without_positives(&self, labels: &[u32], views: usize) -> usize {
        self.pairs(labels, views).lonely().0
    }
}
