//! The update rules on the CPU: one pass over parameter, gradient and state, in place.

use super::{Numbers, State, composed};
use crate::cells::{update1, update2};
use crate::{OptimizerKind, Result};
use candle_core::{Tensor, Var};

pub(super) fn update(
    kind: OptimizerKind,
    var: &Var,
    gradient: &Tensor,
    states: &mut [State],
    n: &Numbers,
) -> Result<()> {
    let (lr, scale, decay, momentum) = (
        n.lr as f32,
        n.scale as f32,
        n.decay as f32,
        n.momentum as f32,
    );
    match states {
        [State::Host(state)] if n.nesterov => update1(var, gradient, state, |p, g, m| {
            let g = g * scale + decay * *p;
            *m = momentum * *m + g;
            *p -= lr * (g + momentum * *m);
        }),
        [State::Host(state)] => update1(var, gradient, state, |p, g, m| {
            *m = momentum * *m + (g * scale + decay * *p);
            *p -= lr * *m;
        }),
        [State::Host(mean), State::Host(square)] => {
            let [b1, b2] = n.betas.map(|b| b as f32);
            let [c1, c2] = n.betas.map(|b| (1.0 - b) as f32);
            let step = (n.lr / n.corrections[0]) as f32;
            let root = n.corrections[1].sqrt() as f32;
            let eps = n.eps as f32;
            let decoupled = kind == OptimizerKind::Adamw;
            let shrink = if decoupled {
                (1.0 - n.lr * n.decay) as f32
            } else {
                1.0
            };
            let decay = if decoupled { 0.0 } else { decay };
            update2(var, gradient, (mean, square), |p, g, m, v| {
                let g = g * scale + decay * *p;
                *m = b1 * *m + c1 * g;
                *v = b2 * *v + c2 * g * g;
                *p = *p * shrink - step * *m / (v.sqrt() / root + eps);
            })
        }
        states => composed::update(kind, var, gradient, states, n),
    }
}
