//! Triplet losses: batch-all and batch-hard, Hermans et al. 2017 (arXiv 1703.07737); semi-hard, Schroff et al. 2015
//! (FaceNet, arXiv 1503.03832), equation 4, as TensorFlow Addons chooses it.

use candle_core::Tensor;

use super::{Average, both, per_anchor};
use crate::terms::{check_range, hinge, softplus, softplus_of};
use crate::{Bounds, Error, Measure, PairLoss, PairSet, PerAnchor, Result, UndefinedRows};

/// Which triplets of a batch are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Mining {
    /// Every positive with every negative; the mean is over the triplets that [`Average`] names.
    #[default]
    All,
    /// Each anchor's farthest positive with its nearest negative; the mean is over the anchors.
    Hard,
    /// Every positive with the nearest negative beyond it, or, where there is none, with the farthest negative, as
    /// TensorFlow Addons' `triplet_semihard_loss`; the mean is over the positives.
    SemiHard,
}

/// Triplets by number: (anchor, positive, negative).
pub type Triplets = Vec<(usize, usize, usize)>;

/// \[m + d_ap − d_an\]₊ (or ln(1 + exp(d_ap − d_an)), the soft margin) over triplets, d Euclidean distances.
///
/// Row i's value is the sum over its triplets; [`PerAnchor::mean`] divides by what [`Mining`] says. Rows without a positive
/// or without a negative have no triplet and are undefined. Collapse value over normalised rows: m (soft: ln 2). Floor:
/// \[m − 2\]₊ (soft: ln(1 + e⁻²)).
///
/// Source: Schroff et al. 2015 (arXiv 1503.03832), equation 3, whose distances are squared; here as in Hermans et al. 2017 (arXiv
/// 1703.07737) they are not, and the choice of triplets is that of its authors' code (triplet-reid, `loss.py`, `batch_all` and `batch_hard`)
/// and of TensorFlow Addons (`losses/triplet.py`, `triplet_semihard_loss`).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use contrastive_loss::{Mining, PairLoss, Triplet};
/// let z = Tensor::new(&[[0f32], [1.0], [1.5]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 0, 1], &Device::Cpu)?;
/// let loss = Triplet { margin: 1.0, mining: Mining::Hard, ..Triplet::default() };
/// // Anchor 0: 1 + 1 − 1.5; anchor 1: 1 + 1 − 0.5.
/// assert_eq!(loss.forward(&z, &labels)?.mean()?.to_scalar::<f32>()?, 1.0);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Triplet {
    /// m, not used with the soft margin; 0.2 in FaceNet.
    pub margin: f64,
    /// The soft margin of Hermans et al. instead of the hinge.
    pub soft: bool,
    /// Which triplets are looked at.
    pub mining: Mining,
    /// What the sum over all triplets is divided by; without meaning for the other minings.
    pub average: Average,
    /// What becomes of rows without a triplet. Where the mean is over triplets or positives, they have no term to count.
    pub undefined_rows: UndefinedRows,
}

impl Default for Triplet {
    fn default() -> Self {
        Self {
            margin: 0.2,
            soft: false,
            mining: Mining::All,
            average: Average::Active,
            undefined_rows: UndefinedRows::Skip,
        }
    }
}

impl Triplet {
    /// The loss over triplets that a miner chose: distances `[N, M]`, triplets → one value per anchor.
    ///
    /// # Errors
    /// If a number is out of range, or an option is.
    pub fn over_triplets(&self, distances: &Tensor, triplets: &Triplets) -> Result<PerAnchor> {
        self.check()?;
        let (rows, columns) = distances.dims2()?;
        for &(anchor, positive, negative) in triplets {
            if anchor >= rows || positive.max(negative) >= columns {
                return Err(Error::Pair {
                    pair: (anchor, positive.max(negative)),
                    rows,
                    columns,
                    need: "a triplet's numbers must lie within the matrix",
                });
            }
        }
        let (raw, active) = self.sums(distances, triplets)?;
        let mut defined = vec![false; rows];
        for &(anchor, ..) in triplets {
            defined[anchor] = true;
        }
        let without = defined.iter().filter(|&&row| !row).count();
        let lonely = (without, without);
        let mut loss = PerAnchor::new(&raw, defined, lonely, self.undefined_rows, "no triplet")?;
        loss.divisor = match self.average {
            Average::Active => active,
            Average::All => triplets.len(),
        };
        Ok(loss)
    }

    /// The sum over each anchor's triplets `[N]`, and how many of them are above 0.
    fn sums(&self, distances: &Tensor, triplets: &Triplets) -> Result<(Tensor, usize)> {
        let (columns, device) = (distances.dim(1)?, distances.device());
        // A part of the graph, so that a batch without triplets has a gradient: 0. (Candle's graph ends at `affine` by 0.)
        let column = distances.narrow(1, 0, 1)?.squeeze(1)?;
        let zeros = (&column * column.zeros_like()?)?;
        if triplets.is_empty() {
            return Ok((zeros, 0));
        }
        let flat = distances.contiguous()?.flatten_all()?; // [N·M]
        let index = |numbers: Vec<u32>| Tensor::from_vec(numbers, triplets.len(), device);
        let entry = |row: usize, column: usize| (row * columns + column) as u32;
        let positives = index(triplets.iter().map(|&(a, p, _)| entry(a, p)).collect())?;
        let negatives = index(triplets.iter().map(|&(a, _, n)| entry(a, n)).collect())?;
        let anchors = index(triplets.iter().map(|&(a, ..)| a as u32).collect())?;
        let gap = (flat.index_select(&positives, 0)? - flat.index_select(&negatives, 0)?)?; // [T]
        let terms = if self.soft {
            softplus(&gap)?
        } else {
            hinge(&gap.affine(1.0, self.margin)?)?
        };
        let active = crate::terms::count_nonzero(&terms)?;
        Ok((zeros.index_add(&anchors, &terms, 0)?, active))
    }

    /// The triplets of [`Mining`], and how many there are before those at 0 are dropped.
    fn choose(&self, distances: &Tensor, pairs: &PairSet) -> Result<(Triplets, usize)> {
        let d = crate::miners::host(distances)?;
        let mut triplets = Triplets::new();
        let mut all = 0;
        for (a, row) in d.iter().enumerate() {
            let positives: Vec<usize> = pairs.positives_of(a).collect();
            let negatives: Vec<usize> = pairs.negatives_of(a).collect();
            if positives.is_empty() || negatives.is_empty() {
                continue;
            }
            match self.mining {
                Mining::All => {
                    all += positives.len() * negatives.len();
                    // A satisfied triplet has neither value nor gradient: leaving it out saves its memory.
                    for &p in &positives {
                        let limit = row[p] + self.margin;
                        let near = |&&n: &&usize| self.soft || row[n] <= limit;
                        triplets.extend(negatives.iter().filter(near).map(|&n| (a, p, n)));
                    }
                }
                Mining::Hard => {
                    triplets.extend(crate::miners::hardest(a, row, &positives, &negatives))
                }
                Mining::SemiHard => {
                    all += positives.len();
                    triplets.extend(
                        positives
                            .iter()
                            .filter_map(|&p| Some((a, p, semi_hard(row, row[p], &negatives)?))),
                    );
                }
            }
        }
        Ok((triplets, all))
    }
}

/// The nearest negative beyond `limit`; where there is none, the farthest negative.
fn semi_hard(row: &[f64], limit: f64, negatives: &[usize]) -> Option<usize> {
    let by_distance = |x: &usize, y: &usize| row[*x].total_cmp(&row[*y]);
    let beyond = negatives.iter().copied().filter(|&n| row[n] > limit);
    beyond
        .min_by(by_distance)
        .or_else(|| negatives.iter().copied().max_by(by_distance))
}

impl PairLoss for Triplet {
    fn measure(&self) -> Measure {
        Measure::Euclidean
    }

    fn check(&self) -> Result<()> {
        check_range("margin", self.margin, 0.0, f64::MAX)
    }

    fn over(&self, matrix: &Tensor, pairs: &PairSet) -> Result<PerAnchor> {
        self.check()?;
        pairs.check_matrix(matrix)?;
        let (triplets, all) = self.choose(matrix, pairs)?;
        let (raw, active) = self.sums(matrix, &triplets)?;
        let missing = "no positive or no negative";
        let mut loss = per_anchor(&raw, pairs, both, self.undefined_rows, missing)?;
        loss.divisor = match (self.mining, self.average) {
            (Mining::Hard, _) => loss.divisor,
            (Mining::All, Average::Active) => active,
            (Mining::All, Average::All) | (Mining::SemiHard, _) => all,
        };
        Ok(loss)
    }

    fn bounds(&self, pairs: &PairSet) -> Bounds {
        let counts = pairs.counts();
        let kept = counts.iter().filter(|&&(p, n)| both(p, n)).count();
        let share = match (self.mining, self.undefined_rows) {
            _ if kept == 0 => 0.0,
            (Mining::Hard, UndefinedRows::CountAsZero) => kept as f64 / counts.len() as f64,
            _ => 1.0,
        };
        let at = |gap: f64| match self.soft {
            true => softplus_of(gap) * share,
            false => (self.margin + gap).max(0.0) * share,
        };
        Bounds {
            collapse: at(0.0),
            floor: at(-2.0),
        }
    }
}
