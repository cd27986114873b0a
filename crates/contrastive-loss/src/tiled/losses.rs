//! The losses, put together from row sums and attractions: the same values as the dense functions of the same names.

use std::sync::Arc;

use candle_core::Tensor;

use super::attraction::attraction;
use super::op::Sums;
use super::sides::{Mask, Sides, Terms};
use crate::pairs::{Pairs, lonely};
use crate::similarity::{check_temperature, embeddings};
use crate::{
    Denominator, NpairsConfig, NpairsTargets, NtXentConfig, PerAnchor, Result, Summation,
    SupConConfig, labels, logits,
};

/// [`supcon`](crate::supcon()) without a similarity matrix: z `[N, D]` as it is, labels `[N]` → one value per row.
///
/// L_out,i = LSE_{D_i}(s_i) − mean_{P(i)} s_ip and L_in,i = LSE_{D_i}(s_i) − LSE_{P(i)}(s_i) + ln |P(i)|, the same equations, policies
/// and gradients in O(N·D) memory.
///
/// # Errors
/// As [`supcon`](crate::supcon()).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{SupConConfig, normalize, supcon, tiled};
/// let z = Tensor::new(&[[1f32, 0.1], [1.0, -0.1], [-1.0, 0.2], [-1.0, 0.0]], &Device::Cpu)?;
/// let (z, labels) = (normalize(&z)?, Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?);
/// let config = SupConConfig { temperature: 0.5, ..Default::default() };
/// let dense = supcon(&z, &labels, &config)?.mean()?.to_scalar::<f32>()?;
/// let tiled = tiled::supcon(&z, &labels, &config)?.mean()?.to_scalar::<f32>()?;
/// assert!((dense - tiled).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn supcon(z: &Tensor, labels: &Tensor, config: &SupConConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    let sides = Sides::itself(pairs.groups_of_rows());
    supcon_over(&z, None, sides, config, &mut Sums::default())
}

/// [`nt_xent`](crate::nt_xent()) without a similarity matrix: z `[V·B, D]`, view-major, as it is → one value per row.
///
/// # Errors
/// As [`nt_xent`](crate::nt_xent()).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NtXentConfig, tiled};
/// let z = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = tiled::nt_xent(&z, 2, &NtXentConfig { temperature: 0.05 })?.mean()?;
/// assert!(loss.to_scalar::<f32>()? < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn nt_xent(z: &Tensor, views: usize, config: &NtXentConfig) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    crate::nt_xent::check_views(z.dim(0)?, views)?;
    let pairs = Pairs::from_views(z.dim(0)?, views);
    supcon_over(
        &z,
        None,
        Sides::itself(pairs.groups_of_rows()),
        &config.as_supcon(),
        &mut Sums::default(),
    )
}

/// [`npairs`](crate::npairs()) from embeddings, without a similarity matrix: z `[N, D]` as it is, s = z·zᵀ / τ, labels `[N]` → one
/// value per row.
///
/// L_i = LSE(s_i) − (s_ii + Σ_{p ∈ P(i)} s_ip) / n_i, n_i = |P(i)| + 1.
///
/// # Errors
/// If `z` is not a non-empty `[N, D]` float tensor, the labels do not fit it, or τ is not a positive finite number.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{NpairsConfig, tiled};
/// let z = Tensor::new(&[[1f32, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1, 1], &Device::Cpu)?;
/// let loss = tiled::npairs(&z, &labels, 1.0, &NpairsConfig::default())?.mean()?;
/// assert!((loss.to_scalar::<f32>()? - 1.253856).abs() < 1e-6);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub fn npairs(
    z: &Tensor,
    labels: &Tensor,
    temperature: f64,
    config: &NpairsConfig,
) -> Result<PerAnchor> {
    let z = embeddings(z, "embeddings")?;
    let pairs = Pairs::from_labels(labels::read(labels, z.dim(0)?)?);
    let sides = Sides::itself(pairs.groups_of_rows());
    npairs_over(&z, None, sides, temperature, config, &mut Sums::default())
}

/// SupCon of anchors against candidates (none: the anchors).
pub(crate) fn supcon_over(
    anchors: &Tensor,
    candidates: Option<&Tensor>,
    sides: Sides,
    config: &SupConConfig,
    sums: &mut Sums,
) -> Result<PerAnchor> {
    config.check()?;
    let sides = Arc::new(sides);
    let counts = sides.counts();
    let tau = config.temperature;
    let denominator = match config.denominator {
        Denominator::All => Mask::Others,
        Denominator::OnlyNegatives | Denominator::OnePositive => Mask::Different,
    };
    let one_positive = config.denominator == Denominator::OnePositive;
    let raw = match config.summation {
        _ if one_positive => {
            let terms = Terms::LogSumExp(vec![denominator]);
            let repulsion = sums.of(&sides, terms, tau, anchors, candidates)?; // [N, 1]
            one_positive_at_a_time(&repulsion, anchors, candidates, &sides, config, sums)?
        }
        Summation::Out => {
            let terms = Terms::LogSumExp(vec![denominator]);
            let repulsion = sums
                .of(&sides, terms, tau, anchors, candidates)?
                .squeeze(1)?; // [N]
            (repulsion - attraction(&sides, false, tau, anchors, candidates)?)?
        }
        Summation::In => {
            let terms = Terms::LogSumExp(vec![denominator, Mask::Same]);
            let both = sums.of(&sides, terms, tau, anchors, candidates)?; // [N, 2]
            let logs = logits::constant(logs_of_positives(&counts), counts.len(), anchors)?;
            ((both.narrow(1, 0, 1)? - both.narrow(1, 1, 1)?)?.squeeze(1)? + logs)?
        }
    };
    let raw = match config.scale.factor(tau) {
        1.0 => raw,
        factor => raw.affine(factor, 0.0)?,
    };
    let defined = counts
        .iter()
        .map(|&(positives, negatives)| config.defines(positives, negatives));
    let missing = match config.denominator {
        Denominator::OnlyNegatives => "no positive or no negative",
        _ => "no positive",
    };
    PerAnchor::new(
        &raw,
        defined.collect(),
        lonely(&counts),
        config.undefined_rows,
        missing,
    )
}

/// SupCon whose denominators hold one positive p and the negatives, of log-sum-exp ρ_i: with l_ip = s_ip − ρ_i,
///
/// L_out,i = mean_P softplus(−l_ip) and L_in,i = ln |P| − ln Σ_P σ(l_ip).
///
/// One more column carries ρ through the products: l_ip = (a_i/τ, −ρ_i)·(c_p, 1). There it is a constant, and its gradient comes from
/// the slopes that stand beside the sums, ∂L_out,i/∂ρ_i = mean_P σ(−l_ip) and ∂L_in,i/∂ρ_i = Σ_P σ(l_ip)σ(−l_ip) / Σ_P σ(l_ip): numbers of
/// row i alone, which ranks can exchange, where the products' backward pass would need every row's tiles. ρ `[N, 1]` → `[N]`; 0 in rows
/// without a negative, where each fraction is 1.
fn one_positive_at_a_time(
    repulsion: &Tensor,
    anchors: &Tensor,
    candidates: Option<&Tensor>,
    sides: &Arc<Sides>,
    config: &SupConConfig,
    sums: &mut Sums,
) -> Result<Tensor> {
    let counts = sides.counts();
    let one = |rows: &Tensor| rows.narrow(1, 0, 1)?.ones_like();
    let scaled = anchors.affine(1.0 / config.temperature, 0.0)?;
    let level = repulsion.detach(); // ρ
    let left = Tensor::cat(&[&scaled, &level.neg()?], 1)?; // [N, D + 1]
    let candidates = candidates.unwrap_or(anchors);
    let right = Tensor::cat(&[candidates, &one(candidates)?], 1)?; // [M, D + 1]
    let pair = Arc::new(sides.as_pair());
    let terms = match config.summation {
        Summation::Out => Terms::PositiveCosts,
        Summation::In => Terms::PositiveShares,
    };
    let both = sums.of(&pair, terms, 1.0, &left, Some(&right))?; // [N, 2]
    let sum = both.narrow(1, 0, 1)?.squeeze(1)?;
    let slope = both.narrow(1, 1, 1)?.squeeze(1)?.detach();
    let (value, slope) = match config.summation {
        Summation::Out => {
            let shares = counts.iter().map(|count| 1.0 / count.0.max(1) as f64);
            let shares = logits::constant(shares.collect(), counts.len(), anchors)?;
            ((sum * &shares)?, (slope * shares)?)
        }
        Summation::In => {
            let logs = logits::constant(logs_of_positives(&counts), counts.len(), anchors)?;
            let slope = (slope - sum.detach())?.exp()?;
            ((logs - sum)?, slope)
        }
    };
    let by_level = ((repulsion - level)?.squeeze(1)? * slope)?; // 0, with ρ's gradient
    let raw = (value + by_level)?;
    let repelled: Vec<u8> = counts.iter().map(|count| u8::from(count.1 > 0)).collect();
    let repelled = Tensor::from_vec(repelled, counts.len(), anchors.device())?;
    Ok(repelled.where_cond(&raw, &raw.zeros_like()?)?)
}

/// ln |P(i)|, 0 where P(i) is empty.
fn logs_of_positives(counts: &[(usize, usize)]) -> Vec<f64> {
    let log = |&(positives, _): &(usize, usize)| (positives.max(1) as f64).ln();
    counts.iter().map(log).collect()
}

/// npairs of anchors against candidates (none: the anchors).
pub(crate) fn npairs_over(
    anchors: &Tensor,
    candidates: Option<&Tensor>,
    sides: Sides,
    temperature: f64,
    config: &NpairsConfig,
    sums: &mut Sums,
) -> Result<PerAnchor> {
    check_temperature(temperature)?;
    let sides = Arc::new(sides);
    let counts = sides.counts();
    let terms = Terms::LogSumExp(vec![Mask::All]);
    let normaliser = sums
        .of(&sides, terms, temperature, anchors, candidates)?
        .squeeze(1)?; // [N]
    let raw = (normaliser - attraction(&sides, true, temperature, anchors, candidates)?)?;
    let raw = match config.targets {
        NpairsTargets::Normalized => raw,
        NpairsTargets::Boolean => {
            let sizes = counts.iter().map(|&(positives, _)| positives as f64 + 1.0);
            (&raw * logits::constant(sizes.collect(), counts.len(), &raw)?)?
        }
    };
    PerAnchor::new(
        &raw,
        vec![true; counts.len()],
        lonely(&counts),
        config.undefined_rows,
        "no label",
    )
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Rows of other ranks pass no gradient to tiles of their own: what a rank computes is its share, also where one positive stands in
    /// the denominator, whose row sums enter other row sums.
    #[test]
    fn one_positive_leaves_out_the_tiles_of_other_ranks() {
        let (n, d, own) = (700, 4, 520..640); // three blocks, the last one has the local rows
        let groups: Vec<u32> = (0..n as u32).map(|row| row % 5).collect();
        let values = (0..n * d).map(|k| (k as f32 * 0.73).sin());
        let z = Var::from_vec(values.collect::<Vec<_>>(), (n, d), &Device::Cpu).unwrap();
        for summation in [Summation::Out, Summation::In] {
            let config = SupConConfig {
                temperature: 0.5,
                summation,
                denominator: Denominator::OnePositive,
                ..SupConConfig::default()
            };
            let gradient = |sides: Sides, given: Option<&Tensor>| {
                let mut sums = Sums::given(given);
                let loss = supcon_over(&z, None, sides, &config, &mut sums).unwrap();
                let store = loss.mean().unwrap().backward().unwrap();
                let gradient = store.get(&z).unwrap().to_vec2::<f32>().unwrap();
                (gradient, sums.computed().unwrap())
            };
            let all = Sides::itself(groups.clone());
            let (whole, sums) = gradient(all.clone(), None);
            assert_eq!(sums.dims(), [n, 3]);
            let (local, _) = gradient(all.alive(own.clone()), Some(&sums));
            assert!(local[..512].iter().flatten().all(|&g| g == 0.0));
            assert_eq!(local[own.clone()], whole[own.clone()]);
        }
    }
}
