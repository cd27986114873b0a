//! The update rules as tensor operations, for devices without a fused pass; the oracle of `fused` in tests.

use super::{Numbers, State};
use crate::{Error, OptimizerKind, Result};
use candle_core::{Tensor, Var};

pub(super) fn update(
    kind: OptimizerKind,
    var: &Var,
    gradient: &Tensor,
    states: &mut [State],
    n: &Numbers,
) -> Result<()> {
    let p = var.as_detached_tensor();
    let g = gradient.detach().affine(n.scale, 0.0)?;
    match states {
        [State::Device(momentum)] => {
            let g = (g + p.affine(n.decay, 0.0)?)?;
            let m = (momentum.affine(n.momentum, 0.0)? + &g)?;
            let direction = if n.nesterov {
                (g + m.affine(n.momentum, 0.0)?)?
            } else {
                m.clone()
            };
            *momentum = m;
            var.set(&(p - direction.affine(n.lr, 0.0)?)?)?;
        }
        [State::Device(mean), State::Device(square)] => {
            let (g, p) = if kind == OptimizerKind::Adamw {
                (g, p.affine(1.0 - n.lr * n.decay, 0.0)?)
            } else {
                ((g + p.affine(n.decay, 0.0)?)?, p)
            };
            let [b1, b2] = n.betas;
            let m = (mean.affine(b1, 0.0)? + g.affine(1.0 - b1, 0.0)?)?;
            let v = (square.affine(b2, 0.0)? + g.sqr()?.affine(1.0 - b2, 0.0)?)?;
            let denominator = v.sqrt()?.affine(1.0 / n.corrections[1].sqrt(), n.eps)?;
            let step = (&m / denominator)?.affine(n.lr / n.corrections[0], 0.0)?;
            (*mean, *square) = (m, v);
            var.set(&(p - step)?)?;
        }
        _ => {
            return Err(Error::OptimizerState(
                "its tensors lie on another device than the parameters".to_owned(),
            ));
        }
    }
    Ok(())
}
