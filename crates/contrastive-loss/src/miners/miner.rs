//! [`Miner`]: a miner as one value, which a recipe can hold, and what it gives.

use std::fmt;
use std::str::FromStr;

use candle_core::Tensor;

use super::distance_weighted::distance_weighted_among;
use super::hard::hard_among;
use super::host;
use super::margin::triplets_among;
use super::multi_similarity::multi_similarity_among;
use crate::terms::check_range;
use crate::{DistanceWeighted, Error, Measure, PairSet, Result, TripletKind, Triplets};

/// A miner with its options, over normalised rows. `FromStr` takes a name and gives the source's options; with the feature `serde` it
/// is a name, or a table `{ name = "…", … }`.
#[derive(Clone, Debug, PartialEq)]
pub enum Miner {
    /// `hard`: [`mine_hard`](crate::mine_hard).
    Hard,
    /// `semi_hard`: [`mine_triplets`](crate::mine_triplets) of [`TripletKind::SemiHard`].
    SemiHard {
        /// m; 0.2 in FaceNet.
        margin: f64,
    },
    /// `distance_weighted`: [`mine_distance_weighted`](crate::mine_distance_weighted), which draws.
    DistanceWeighted(DistanceWeighted),
    /// `multi_similarity`: [`mine_multi_similarity`](crate::mine_multi_similarity).
    MultiSimilarity {
        /// ε; 0.1 in the paper.
        epsilon: f64,
    },
}

/// What a miner picked out of the pairs of N anchors and M references.
#[derive(Clone, Debug, PartialEq)]
pub enum Mined {
    /// Pairs.
    Pairs(PairSet),
    /// Triplets, by the numbers of anchor and references, out of `rows` anchors and `columns` references.
    Triplets {
        /// The triplets.
        triplets: Triplets,
        /// N.
        rows: usize,
        /// M.
        columns: usize,
    },
}

impl Miner {
    /// The names of all miners.
    pub const NAMES: [&'static str; 4] =
        ["hard", "semi_hard", "distance_weighted", "multi_similarity"];

    /// The name that `FromStr` takes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::SemiHard { .. } => "semi_hard",
            Self::DistanceWeighted(_) => "distance_weighted",
            Self::MultiSimilarity { .. } => "multi_similarity",
        }
    }

    /// Checks the options.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Hard => Ok(()),
            Self::SemiHard { margin } => check_range("margin", *margin, 0.0, f64::MAX),
            Self::DistanceWeighted(options) => options.check(),
            Self::MultiSimilarity { epsilon } => check_range("epsilon", *epsilon, 0.0, f64::MAX),
        }
    }

    /// Picks out of `pairs` of anchors z `[N, D]` with references `[M, D]` (the anchors themselves, or with a memory's rows behind
    /// them), all **normalised**. `uniform` gives numbers in \[0, 1); only the distance-weighted miner draws.
    ///
    /// # Errors
    /// If shapes do not fit, or an option is out of its range.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use contrastive_loss::{Mined, Miner, PairSet};
    /// let z = Tensor::new(&[[1f32, 0.0], [0.8, 0.6], [0.0, 1.0]], &Device::Cpu)?;
    /// let pairs = PairSet::from_labels(&Tensor::new(&[0u32, 0, 1], &Device::Cpu)?)?;
    /// let mined = "hard".parse::<Miner>()?.mine(&z, &z, &pairs, &mut || 0.5)?;
    /// let Mined::Triplets { triplets, .. } = mined else { unreachable!() };
    /// assert_eq!(triplets, [(0, 1, 2), (1, 0, 2)]);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    pub fn mine(
        &self,
        z: &Tensor,
        references: &Tensor,
        pairs: &PairSet,
        uniform: &mut dyn FnMut() -> f64,
    ) -> Result<Mined> {
        self.check()?;
        let measure = match self {
            Self::MultiSimilarity { .. } => Measure::Dot,
            _ => Measure::Euclidean,
        };
        let matrix = measure.matrix(&z.detach(), &references.detach())?;
        pairs.check_matrix(&matrix)?;
        let matrix = host(&matrix)?;
        let triplets = match self {
            Self::Hard => hard_among(&matrix, pairs),
            Self::SemiHard { margin } => {
                triplets_among(&matrix, pairs, *margin, TripletKind::SemiHard)
            }
            Self::DistanceWeighted(options) => {
                distance_weighted_among(&matrix, pairs, z.dim(1)?, options, uniform)?
            }
            Self::MultiSimilarity { epsilon } => {
                return Ok(Mined::Pairs(multi_similarity_among(
                    &matrix, pairs, *epsilon,
                )?));
            }
        };
        Ok(Mined::Triplets {
            triplets,
            rows: pairs.rows(),
            columns: pairs.columns(),
        })
    }
}

impl Mined {
    /// The pairs: of triplets, each (anchor, positive) and each (anchor, negative) once.
    ///
    /// # Errors
    /// If a triplet's numbers are out of range.
    pub fn pairs(&self) -> Result<PairSet> {
        match self {
            Self::Pairs(pairs) => Ok(pairs.clone()),
            Self::Triplets {
                triplets,
                rows,
                columns,
            } => {
                let positives: Vec<_> = triplets.iter().map(|&(a, p, _)| (a, p)).collect();
                let negatives: Vec<_> = triplets.iter().map(|&(a, _, n)| (a, n)).collect();
                PairSet::from_pairs(*rows, *columns, &positives, &negatives)
            }
        }
    }
}

impl FromStr for Miner {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "hard" => Ok(Self::Hard),
            "semi_hard" => Ok(Self::SemiHard { margin: 0.2 }),
            "distance_weighted" => Ok(Self::DistanceWeighted(DistanceWeighted::default())),
            "multi_similarity" => Ok(Self::MultiSimilarity { epsilon: 0.1 }),
            got => Err(Error::Name {
                what: "miner",
                got: got.to_owned(),
                expected: Self::NAMES.join(", "),
            }),
        }
    }
}

impl fmt::Display for Miner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
