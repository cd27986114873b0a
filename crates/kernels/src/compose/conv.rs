//! Convolution as a gather of windows and one matrix product per group.

use candle_core::{Result, Tensor};

use crate::geometry::{ConvConfig, ConvShape};
use crate::linear::check_linear;

/// [`crate::conv2d`] composed of plain Candle operators.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, cfg: &ConvConfig) -> Result<Tensor> {
    let s = ConvShape::new(x, w, bias, cfg)?;
    let rows = s.n * s.ho * s.wo;
    let (cg, og) = (s.c / cfg.groups, s.o / cfg.groups);
    let taps = s.kh * s.kw;

    let windows = if s.is_pointwise() {
        x.reshape((rows, 1, s.c))?
    } else {
        gather_windows(x, &s)? // [N·H'·W', taps, C]
    };
    let mut parts = Vec::with_capacity(cfg.groups);
    for g in 0..cfg.groups {
        let columns = if cfg.groups == 1 {
            windows.clone()
        } else {
            windows.narrow(2, g * cg, cg)?
        };
        let weight = w.narrow(0, g * og, og)?.reshape((og, taps * cg))?;
        parts.push(columns.reshape((rows, taps * cg))?.matmul(&weight.t()?)?);
    }
    let y = match parts.as_slice() {
        [one] => one.clone(),
        many => Tensor::cat(many, 1)?,
    };
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape((s.n, s.ho, s.wo, s.o))
}

/// All windows, `[N·H'·W', taps, C]`, with zeros where a tap lies in the padding.
fn gather_windows(x: &Tensor, s: &ConvShape) -> Result<Tensor> {
    let ConvConfig {
        stride,
        padding,
        dilation,
        ..
    } = s.cfg;
    let padded = pad_pixels(x, padding)?;
    let pw = s.w + 2 * padding;
    let mut index = Vec::with_capacity(s.ho * s.wo * s.kh * s.kw);
    for i in 0..s.ho {
        for j in 0..s.wo {
            for r in 0..s.kh {
                for q in 0..s.kw {
                    index.push(
                        ((i * stride + r * dilation) * pw + j * stride + q * dilation) as u32,
                    );
                }
            }
        }
    }
    let count = index.len();
    let index = Tensor::from_vec(index, count, x.device())?;
    padded
        .reshape((s.n, (s.h + 2 * padding) * pw, s.c))?
        .index_select(&index, 1)?
        .reshape((s.n * s.ho * s.wo, s.kh * s.kw, s.c))
}

fn pad_pixels(x: &Tensor, padding: usize) -> Result<Tensor> {
    x.pad_with_zeros(1, padding, padding)?
        .pad_with_zeros(2, padding, padding)?
        .contiguous()
}

/// [`crate::linear`] composed of plain Candle operators.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check_linear(x, w, bias)?;
    let y = x.contiguous()?.matmul(&w.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}
