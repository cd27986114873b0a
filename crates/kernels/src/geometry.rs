//! Shapes of windowed operators: what a convolution or a pooling reads and writes, checked once.
//!
//! Along one axis of length `L`, a window of `k` taps, dilation `d`, stride `s` and padding `p` gives
//!
//! ```text
//! L' = ⌊(L + 2p − d·(k − 1) − 1) / s⌋ + 1,      tap r of output i reads input i·s − p + r·d
//! ```

use candle_core::{Result, Tensor, bail};

/// How the window of a convolution moves. [`Default`] is stride 1, no padding, no dilation, one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConvConfig {
    /// Distance between neighbouring windows, in pixels; at least 1.
    pub stride: usize,
    /// Rows and columns of zeros added on every side.
    pub padding: usize,
    /// Distance between neighbouring taps of a window, in pixels; at least 1.
    pub dilation: usize,
    /// Channel groups convolved independently; divides input and output channels.
    pub groups: usize,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: 0,
            dilation: 1,
            groups: 1,
        }
    }
}

/// One convolution's sizes: input `[n, h, w, c]`, weight `[o, kh, kw, c/groups]`, output `[n, ho, wo, o]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConvShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub ho: usize,
    pub wo: usize,
    pub cfg: ConvConfig,
}

impl ConvShape {
    /// Checks that input, weight and bias fit together.
    pub fn new(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, cfg: &ConvConfig) -> Result<Self> {
        let shape = Self::of(x.dims(), w.dims(), cfg)?;
        if let Some(bias) = bias
            && bias.dims() != [shape.o]
        {
            let o = shape.o;
            bail!("conv2d: the bias must be [{o}], got {:?}", bias.dims())
        }
        Ok(shape)
    }

    /// Checks that the dimensions of input and weight fit together.
    pub fn of(x: &[usize], w: &[usize], cfg: &ConvConfig) -> Result<Self> {
        let &[n, h, width, c] = x else {
            bail!(
                "conv2d: the input must be [N, H, W, C], got {x:?}; add the missing axes or permute"
            )
        };
        let &[o, kh, kw, cg] = w else {
            bail!(
                "conv2d: the weight must be [O, kh, kw, C/groups], got {w:?}; permute OIHW files with (0, 2, 3, 1)"
            )
        };
        let ConvConfig {
            stride,
            padding,
            dilation,
            groups,
        } = *cfg;
        if stride == 0 || dilation == 0 || groups == 0 {
            bail!("conv2d: stride, dilation and groups must be at least 1, got {cfg:?}")
        }
        if c % groups != 0 || o % groups != 0 {
            bail!("conv2d: groups {groups} must divide both channels, got {c} in and {o} out")
        }
        if cg != c / groups {
            bail!(
                "conv2d: input {x:?} in {groups} group(s) needs a weight [O, kh, kw, {}], got {w:?}",
                c / groups
            )
        }
        let (Some(ho), Some(wo)) = (
            output_len(h, kh, stride, padding, dilation),
            output_len(width, kw, stride, padding, dilation),
        ) else {
            bail!(
                "conv2d: a {kh}x{kw} window with dilation {dilation} does not fit the {h}x{width} input padded by \
                 {padding}; use a larger input or more padding"
            )
        };
        Ok(Self {
            n,
            h,
            w: width,
            c,
            o,
            kh,
            kw,
            ho,
            wo,
            cfg: *cfg,
        })
    }

    /// A 1×1 window over every pixel: one plain matrix product.
    pub fn is_pointwise(&self) -> bool {
        self.kh == 1
            && self.kw == 1
            && self.cfg.stride == 1
            && self.cfg.padding == 0
            && self.cfg.groups == 1
    }
}

/// A pooling's sizes: input `[n, h, w, c]`, output `[n, ho, wo, c]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolShape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
    pub ho: usize,
    pub wo: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl PoolShape {
    /// Checks the input and the window; padding is at most half the window, so every window meets a pixel.
    pub fn new(x: &[usize], kernel: usize, stride: usize, padding: usize) -> Result<Self> {
        let &[n, h, w, c] = x else {
            bail!(
                "max_pool2d: the input must be [N, H, W, C], got {x:?}; add the missing axes or permute"
            )
        };
        if kernel == 0 || stride == 0 {
            bail!(
                "max_pool2d: kernel and stride must be at least 1, got kernel {kernel}, stride {stride}"
            )
        }
        if padding > kernel / 2 {
            bail!(
                "max_pool2d: padding must be at most half the kernel, got padding {padding} for kernel {kernel}"
            )
        }
        let (Some(ho), Some(wo)) = (
            output_len(h, kernel, stride, padding, 1),
            output_len(w, kernel, stride, padding, 1),
        ) else {
            bail!(
                "max_pool2d: a {kernel}x{kernel} window does not fit the {h}x{w} input padded by {padding}"
            )
        };
        Ok(Self {
            n,
            h,
            w,
            c,
            ho,
            wo,
            kernel,
            stride,
            padding,
        })
    }
}

/// Outputs along one axis, or `None` where the window does not fit.
fn output_len(
    len: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Option<usize> {
    let span = dilation * kernel.checked_sub(1)? + 1;
    (len > 0)
        .then(|| (len + 2 * padding).checked_sub(span))
        .flatten()
        .map(|room| room / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::output_len;

    #[test]
    fn lengths_follow_the_formula() {
        assert_eq!(output_len(32, 7, 2, 3, 1), Some(16));
        assert_eq!(output_len(16, 3, 2, 1, 1), Some(8));
        assert_eq!(output_len(1, 3, 1, 1, 1), Some(1));
        assert_eq!(output_len(7, 3, 3, 0, 2), Some(1));
        assert_eq!(output_len(2, 3, 1, 0, 1), None);
        assert_eq!(output_len(0, 1, 1, 1, 1), None);
        assert_eq!(output_len(4, 0, 1, 0, 1), None);
    }
}
