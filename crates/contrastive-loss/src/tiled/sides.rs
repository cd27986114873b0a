//! Who is compared with whom: anchors, candidates, their groups, and which sums of a row are wanted.

use std::ops::Range;

/// Which candidates a row's sum runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All of them, the anchor itself included.
    All,
    /// All but the anchor itself, S_i.
    Others,
    /// Those of the anchor's group but the anchor itself, P(i).
    Same,
    /// Those of other groups: the negatives.
    Different,
}

/// What is summed over a row's candidates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Terms {
    /// A log-sum-exp for each mask.
    LogSumExp(Vec<Mask>),
    /// Σ_j softplus(−y_ij s_ij), y = 1 within a group and −1 across, over all candidates but the anchor itself.
    PairCosts,
    /// Σ_{p ∈ P(i)} softplus(−s_ip); beside it Σ_{p ∈ P(i)} σ(−s_ip), which is what the sum grows by where all s_ip fall by a little.
    PositiveCosts,
    /// ln Σ_{p ∈ P(i)} σ(s_ip), 0 where P(i) is empty; beside it ln Σ_{p ∈ P(i)} σ(s_ip) σ(−s_ip), by which the sum of shares falls likewise.
    PositiveShares,
}

impl Terms {
    /// K: how many sums a row has. Those that stand beside another are its slopes, and pass no gradient themselves.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::LogSumExp(masks) => masks.len(),
            Self::PairCosts => 1,
            Self::PositiveCosts | Self::PositiveShares => 2,
        }
    }
}

/// The rows of a similarity matrix that is never formed, and its columns.
#[derive(Clone, Debug)]
pub(crate) struct Sides {
    /// The group of each anchor.
    pub(crate) anchors: Vec<u32>,
    /// The group of each candidate; none where the anchors are the candidates.
    pub(crate) candidates: Option<Vec<u32>>,
    /// Anchor i is candidate i + `own`; none where no anchor is among the candidates.
    pub(crate) own: Option<usize>,
    /// The anchors whose gradient is wanted.
    pub(crate) live: Range<usize>,
    /// The candidates whose gradient is wanted; the anchors' where they are the candidates.
    pub(crate) live_columns: Range<usize>,
}

impl Sides {
    /// A batch against itself.
    pub(crate) fn itself(groups: Vec<u32>) -> Self {
        let live = 0..groups.len();
        Self {
            anchors: groups,
            candidates: None,
            own: Some(0),
            live_columns: live.clone(),
            live,
        }
    }

    /// Anchors against candidates; where `own` is given, anchor i is candidate i + `own`.
    pub(crate) fn pair(anchors: Vec<u32>, candidates: Vec<u32>, own: Option<usize>) -> Self {
        Self {
            live: 0..anchors.len(),
            live_columns: 0..candidates.len(),
            anchors,
            candidates: Some(candidates),
            own,
        }
    }

    /// The same with gradients for `own` alone, as anchors and as candidates.
    pub(crate) fn alive(mut self, own: Range<usize>) -> Self {
        self.live = own.clone();
        self.live_columns = own;
        self
    }

    /// The same anchors and candidates as a matrix that is not symmetric.
    pub(crate) fn as_pair(&self) -> Self {
        Self {
            candidates: Some(self.columns().to_vec()),
            ..self.clone()
        }
    }

    /// The groups of the columns.
    pub(crate) fn columns(&self) -> &[u32] {
        self.candidates.as_deref().unwrap_or(&self.anchors)
    }

    /// Whether the matrix is symmetric.
    pub(crate) fn symmetric(&self) -> bool {
        self.candidates.is_none()
    }

    /// How many groups there are at most: one more than the largest number.
    pub(crate) fn groups(&self) -> usize {
        let all = self.anchors.iter().chain(self.columns());
        all.max().map_or(0, |&largest| largest as usize + 1)
    }

    /// |P(i)| of each anchor, and how many candidates of other groups it has.
    pub(crate) fn counts(&self) -> Vec<(usize, usize)> {
        let mut sizes = vec![0usize; self.groups()];
        for &group in self.columns() {
            sizes[group as usize] += 1;
        }
        let columns = self.columns().len();
        let own = usize::from(self.own.is_some());
        let count = |&group: &u32| {
            let size = sizes[group as usize];
            (size - own, columns - size)
        };
        self.anchors.iter().map(count).collect()
    }
}
