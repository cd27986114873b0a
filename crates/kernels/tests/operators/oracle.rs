//! Naive f64 loops, straight from the equations in the documentation.

use kernels::ConvConfig;

#[derive(Debug, Clone, Copy)]
pub struct Conv {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub cfg: ConvConfig,
}

impl Conv {
    pub fn output(&self) -> (usize, usize) {
        let len = |l: usize, k: usize| {
            (l + 2 * self.cfg.padding - self.cfg.dilation * (k - 1) - 1) / self.cfg.stride + 1
        };
        (len(self.h, self.kh), len(self.w, self.kw))
    }

    /// Calls `f(y index, x index, w index)` for every product of the convolution.
    fn products(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (ho, wo) = self.output();
        let (cg, og) = (self.c / self.cfg.groups, self.o / self.cfg.groups);
        let at = |i: usize, r: usize, len: usize| {
            (i * self.cfg.stride + r * self.cfg.dilation)
                .checked_sub(self.cfg.padding)
                .filter(|p| *p < len)
        };
        for n in 0..self.n {
            for i in 0..ho {
                for j in 0..wo {
                    for r in 0..self.kh {
                        for q in 0..self.kw {
                            let (Some(a), Some(b)) = (at(i, r, self.h), at(j, q, self.w)) else {
                                continue;
                            };
                            for o in 0..self.o {
                                for c in 0..cg {
                                    let y = ((n * ho + i) * wo + j) * self.o + o;
                                    let channel = o / og * cg + c;
                                    let x = ((n * self.h + a) * self.w + b) * self.c + channel;
                                    let w = ((o * self.kh + r) * self.kw + q) * cg + c;
                                    f(y, x, w);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    pub fn forward(&self, x: &[f64], w: &[f64], bias: &[f64]) -> Vec<f64> {
        let (ho, wo) = self.output();
        let mut y: Vec<f64> = bias
            .iter()
            .cycle()
            .take(self.n * ho * wo * self.o)
            .copied()
            .collect();
        self.products(|yi, xi, wi| y[yi] += x[xi] * w[wi]);
        y
    }

    /// Gradients of x, w and bias.
    pub fn backward(&self, x: &[f64], w: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; self.o]);
        self.products(|yi, xi, wi| {
            dx[xi] += dy[yi] * w[wi];
            dw[wi] += dy[yi] * x[xi];
        });
        for (i, g) in dy.iter().enumerate() {
            db[i % self.o] += g;
        }
        [dx, dw, db]
    }
}

pub struct Norm<'a> {
    pub x: &'a [f64],
    pub gamma: &'a [f64],
    pub beta: &'a [f64],
    pub residual: Option<&'a [f64]>,
    pub relu: bool,
    pub eps: f64,
    /// Given statistics, or the batch's own.
    pub fixed: Option<(&'a [f64], &'a [f64])>,
}

impl Norm<'_> {
    pub fn moments(&self) -> (Vec<f64>, Vec<f64>) {
        let c = self.gamma.len();
        let rows = (self.x.len() / c) as f64;
        let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
        for (i, x) in self.x.iter().enumerate() {
            mean[i % c] += x / rows;
        }
        for (i, x) in self.x.iter().enumerate() {
            var[i % c] += (x - mean[i % c]).powi(2) / rows;
        }
        (mean, var)
    }

    fn statistics(&self) -> (Vec<f64>, Vec<f64>) {
        match self.fixed {
            Some((mean, var)) => (mean.to_vec(), var.to_vec()),
            None => self.moments(),
        }
    }

    pub fn forward(&self) -> Vec<f64> {
        let c = self.gamma.len();
        let (mean, var) = self.statistics();
        let value = |(i, x): (usize, &f64)| {
            let j = i % c;
            let y = self.gamma[j] * (x - mean[j]) / (var[j] + self.eps).sqrt() + self.beta[j];
            let y = y + self.residual.map_or(0.0, |r| r[i]);
            if self.relu { y.max(0.0) } else { y }
        };
        self.x.iter().enumerate().map(value).collect()
    }

    /// Gradients of x, gamma, beta and residual: the chain rule through variance and mean, as in the paper.
    pub fn backward(&self, dy: &[f64]) -> [Vec<f64>; 4] {
        let c = self.gamma.len();
        let rows = (self.x.len() / c) as f64;
        let (mean, var) = self.statistics();
        let centred = |i: usize| self.x[i] - mean[i % c];
        let std = |j: usize| (var[j] + self.eps).sqrt();
        let mut g = dy.to_vec();
        for (g, y) in g.iter_mut().zip(self.forward()) {
            if self.relu && y <= 0.0 {
                *g = 0.0;
            }
        }
        let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
        let (mut dmean, mut dvar) = (vec![0.0; c], vec![0.0; c]);
        for (i, g) in g.iter().enumerate() {
            let j = i % c;
            dgamma[j] += g * centred(i) / std(j);
            dbeta[j] += g;
            dmean[j] -= g * self.gamma[j] / std(j);
            dvar[j] -= g * self.gamma[j] * centred(i) / (2.0 * std(j).powi(3));
        }
        let value = |i: usize| {
            let j = i % c;
            let own = g[i] * self.gamma[j] / std(j);
            match self.fixed {
                Some(_) => own,
                None => own + dvar[j] * 2.0 * centred(i) / rows + dmean[j] / rows,
            }
        };
        [(0..g.len()).map(value).collect(), dgamma, dbeta, g]
    }
}

/// Maxima and, for each, the index of the pixel that holds it first.
pub fn max_pool(
    dims: [usize; 4],
    x: &[f64],
    kernel: usize,
    stride: usize,
    padding: usize,
) -> (Vec<f64>, Vec<usize>) {
    let [n, h, w, c] = dims;
    let len = |l: usize| (l + 2 * padding - kernel) / stride + 1;
    let (mut values, mut from) = (Vec::new(), Vec::new());
    for image in 0..n {
        for i in 0..len(h) {
            for j in 0..len(w) {
                for k in 0..c {
                    let (mut best, mut at) = (f64::NEG_INFINITY, usize::MAX);
                    for r in 0..kernel {
                        for q in 0..kernel {
                            let (a, b) = (i * stride + r, j * stride + q);
                            if a < padding || b < padding || a - padding >= h || b - padding >= w {
                                continue;
                            }
                            let index = ((image * h + a - padding) * w + b - padding) * c + k;
                            if x[index] > best {
                                (best, at) = (x[index], index);
                            }
                        }
                    }
                    values.push(best);
                    from.push(at);
                }
            }
        }
    }
    (values, from)
}

/// Calls `f(y index, x index, share)` for every output and input of a bilinear resizing: a tent of one pixel's width
/// around the sampled position, which stays inside the image.
pub fn bilinear(
    dims: [usize; 4],
    height: usize,
    width: usize,
    mut f: impl FnMut(usize, usize, f64),
) {
    let [n, h, w, c] = dims;
    let share = |i: usize, to: usize, a: usize, from: usize| {
        let position = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let position = position.clamp(0.0, from as f64 - 1.0);
        (1.0 - (position - a as f64).abs()).max(0.0)
    };
    for image in 0..n {
        for i in 0..height {
            for j in 0..width {
                for a in 0..h {
                    for b in 0..w {
                        for k in 0..c {
                            let y = ((image * height + i) * width + j) * c + k;
                            let x = ((image * h + a) * w + b) * c + k;
                            f(y, x, share(i, height, a, h) * share(j, width, b, w));
                        }
                    }
                }
            }
        }
    }
}
