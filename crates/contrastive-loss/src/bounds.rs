//! Where a loss over normalised embeddings sits when they have collapsed, and how low it can go: the two ends of a monitor's
//! scale.

use crate::pairs::Pairs;
use crate::{Denominator, NpairsTargets, SupConConfig, UndefinedRows};

/// npairs with all embeddings equal: ln N (times n_i for boolean targets), its mean.
pub(crate) fn npairs_collapse(pairs: &Pairs, targets: NpairsTargets) -> f64 {
    let log = (pairs.rows() as f64).ln();
    mean_over_rows(pairs, |row| weight(pairs, row, targets) * log)
}

/// A lower bound of npairs: ln( n_i + m_i exp(c_i/τ) ), m_i negatives; c is [`contrast`].
pub(crate) fn npairs_floor(pairs: &Pairs, targets: NpairsTargets, temperature: f64) -> f64 {
    let contrast = contrast(pairs);
    mean_over_rows(pairs, |row| {
        let (same, negatives) = (pairs.group_size(row) as f64, pairs.negatives(row) as f64);
        weight(pairs, row, targets) * (same + negatives * (contrast / temperature).exp()).ln()
    })
}

/// SupCon with all embeddings equal: ln |D_i|, over the rows that count.
pub(crate) fn supcon_collapse(pairs: &Pairs, config: &SupConConfig) -> f64 {
    supcon_mean(pairs, config, |positives, negatives| {
        match config.denominator {
            Denominator::All => (positives + negatives).ln(),
            Denominator::OnePositive => negatives.ln_1p(),
            Denominator::OnlyNegatives => negatives.ln(),
        }
    })
}

/// A lower bound of SupCon, in and out: ln( |P ∩ D_i| + m_i exp(c/τ) ), m_i negatives; c is [`contrast`].
pub(crate) fn supcon_floor(pairs: &Pairs, config: &SupConConfig) -> f64 {
    let contrast = contrast(pairs) / config.temperature;
    supcon_mean(pairs, config, |positives, negatives| {
        match config.denominator {
            Denominator::All => (positives + negatives * contrast.exp()).ln(),
            Denominator::OnePositive => (negatives * contrast.exp()).ln_1p(),
            Denominator::OnlyNegatives => negatives.ln() + contrast,
        }
    })
}

/// The smallest difference cos(negative) − cos(positive), on average.
///
/// Where all C labels have as many rows, Σ_ij z_i·z_j ≥ 0 and Jensen's inequality give −1/(C − 1) − 1, which classes that
/// each collapse to one corner of a regular simplex attain (Graf et al. 2021, "Dissecting Supervised Contrastive Learning",
/// theorem 2), if the dimension is at least C − 1: the bounds are minima then. Otherwise −2, from |cos| ≤ 1 alone.
fn contrast(pairs: &Pairs) -> f64 {
    let balanced = (0..pairs.rows()).all(|row| pairs.group_size(row) == pairs.group_size(0));
    if balanced && pairs.groups() > 1 {
        -1.0 / (pairs.groups() - 1) as f64 - 1.0
    } else {
        -2.0
    }
}

fn weight(pairs: &Pairs, row: usize, targets: NpairsTargets) -> f64 {
    match targets {
        NpairsTargets::Normalized => 1.0,
        NpairsTargets::Boolean => pairs.group_size(row) as f64,
    }
}

fn mean_over_rows(pairs: &Pairs, value: impl Fn(usize) -> f64) -> f64 {
    (0..pairs.rows()).map(value).sum::<f64>() / pairs.rows().max(1) as f64
}

/// The mean over the rows that count of a function of (positives, negatives), scaled; 0 if no row counts.
fn supcon_mean(pairs: &Pairs, config: &SupConConfig, value: impl Fn(f64, f64) -> f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for row in 0..pairs.rows() {
        if config.defines(pairs.positives(row), pairs.negatives(row)) {
            sum += value(pairs.positives(row) as f64, pairs.negatives(row) as f64);
            count += 1;
        }
    }
    let divisor = if config.undefined_rows == UndefinedRows::CountAsZero {
        pairs.rows()
    } else {
        count
    };
    sum / divisor.max(1) as f64 * config.scale.factor(config.temperature)
}
