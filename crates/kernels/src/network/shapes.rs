//! What every layer of a network reads and writes, checked once before anything is computed.

use candle_core::{Result, bail};

use super::Step;
use crate::geometry::{ConvShape, PoolShape};

/// The sizes of every step.
#[derive(Debug, Clone)]
pub struct Shapes {
    pub steps: Vec<StepShape>,
    /// The slot whose mean is the result.
    pub output: usize,
}

#[derive(Debug, Clone, Copy)]
pub enum StepShape {
    Conv(ConvShape),
    Pool(PoolShape),
}

impl StepShape {
    /// `[N, H, W, C]` of what it gives.
    pub fn output(&self) -> [usize; 4] {
        match self {
            Self::Conv(s) => [s.n, s.ho, s.wo, s.o],
            Self::Pool(s) => [s.n, s.ho, s.wo, s.c],
        }
    }
}

impl Shapes {
    pub fn new(steps: &[Step], output: usize, x: &[usize]) -> Result<Self> {
        let Ok(input) = <[usize; 4]>::try_from(x) else {
            bail!("network: the input must be [N, H, W, C], got {x:?}")
        };
        let mut slots = vec![input];
        let mut shapes = Vec::with_capacity(steps.len());
        for (i, step) in steps.iter().enumerate() {
            let read = |slot: usize| match slots.get(slot) {
                Some(shape) if slot > 0 || i == 0 => Ok(shape),
                Some(_) => {
                    bail!("network: only the first layer may read the input, layer {i} does too")
                }
                None => bail!(
                    "network: layer {i} reads slot {slot}, which comes later or from another network"
                ),
            };
            let shape = match step {
                Step::ConvNorm {
                    input,
                    residual,
                    layer,
                } => {
                    let shape = ConvShape::of(read(*input)?, layer.weight.dims(), &layer.config)?;
                    for (name, vector) in [("gamma", &layer.gamma), ("beta", &layer.beta)] {
                        if vector.dims() != [shape.o] {
                            let o = shape.o;
                            bail!(
                                "network: layer {i} needs {name} of shape [{o}], got {:?}",
                                vector.dims()
                            )
                        }
                    }
                    if i == 0 && residual.is_some() {
                        bail!("network: the first layer has nothing to add")
                    }
                    let gives = StepShape::Conv(shape).output();
                    if let Some(residual) = residual
                        && *read(*residual)? != gives
                    {
                        let found = read(*residual)?;
                        bail!(
                            "network: layer {i} gives {gives:?} and cannot add a residual of {found:?}"
                        )
                    }
                    StepShape::Conv(shape)
                }
                Step::MaxPool { .. } if i == 0 => {
                    bail!("network: the first layer must be a convolution")
                }
                Step::MaxPool {
                    input,
                    kernel,
                    stride,
                    padding,
                } => StepShape::Pool(PoolShape::new(read(*input)?, *kernel, *stride, *padding)?),
            };
            slots.push(shape.output());
            shapes.push(shape);
        }
        match slots.get(output) {
            Some(_) if output > 0 => {}
            _ => bail!(
                "network: the output must be a slot of one of its {} layers",
                steps.len()
            ),
        }
        if slots[output].contains(&0) || input.contains(&0) {
            bail!("network: the input {x:?} is empty or shrinks to nothing")
        }
        Ok(Self {
            steps: shapes,
            output,
        })
    }

    /// `[N, H, W, C]` of the result before its mean.
    pub fn last(&self) -> [usize; 4] {
        self.steps[self.output - 1].output()
    }
}
