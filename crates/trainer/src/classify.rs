//! Cross-entropy and accuracy of a classifier's logits.

use crate::{Error, Result};
use candle_core::{D, Tensor};

/// Mean cross-entropy with label smoothing, as PyTorch's `CrossEntropyLoss(label_smoothing=ε)`:
/// L = − mean_i Σ_c q_ic · log softmax_c(logits_i), q = (1 − ε) · onehot + ε / C.
///
/// `logits` `[N, C]`, one label per row.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], smoothing: f64) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    let mut target = vec![(smoothing / classes as f64) as f32; rows * classes]; // [N, C]
    if labels.len() != rows {
        let (shape, labels) = (logits.dims(), labels.len());
        return Err(unfit(format!(
            "cross-entropy of logits {shape:?} needs {rows} labels, got {labels}"
        )));
    }
    for (row, &label) in target.chunks_exact_mut(classes).zip(labels) {
        match row.get_mut(label as usize) {
            Some(q) => *q += (1.0 - smoothing) as f32,
            None => {
                return Err(unfit(format!(
                    "label {label} is not below the number of classes, {classes}"
                )));
            }
        }
    }
    let target = Tensor::from_vec(target, (rows, classes), logits.device())?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?; // [N, C]
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?; // [N, 1]
    let log_probability = shifted.broadcast_sub(&log_sum)?; // [N, C]
    Ok((target * log_probability)?
        .sum_all()?
        .affine(-1.0 / rows as f64, 0.0)?)
}

fn unfit(message: String) -> Error {
    Error::Unfit { message }
}

/// How many rows of `logits` `[N, C]` have their maximum at the label.
pub fn correct(logits: &Tensor, labels: &[u32]) -> Result<usize> {
    let best = logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()?; // [N]
    Ok(best.iter().zip(labels).filter(|(a, b)| a == b).count())
}

/// The share of rows of `logits` `[N, C]` that have their maximum at the label.
pub fn accuracy(logits: &Tensor, labels: &[u32]) -> Result<f64> {
    Ok(correct(logits, labels)? as f64 / labels.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// torch.nn.functional.cross_entropy([[1,2,3],[0.5,-1,0]], [2,0], label_smoothing=ε), torch 2.x.
    #[test]
    fn values_and_gradient_are_pytorchs() {
        let logits = Var::new(&[[1f32, 2.0, 3.0], [0.5, -1.0, 0.0]], &Device::Cpu).unwrap();
        for (smoothing, expected) in [(0.0, 0.5058683156967163), (0.1, 0.5892016291618347)] {
            let loss = cross_entropy(&logits, &[2, 0], smoothing).unwrap();
            assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - expected).abs() < 1e-6);
            let gradient = loss
                .backward()
                .unwrap()
                .get(&logits)
                .unwrap()
                .sum_all()
                .unwrap();
            assert!(gradient.to_scalar::<f32>().unwrap().abs() < 1e-6);
        }
        assert_eq!(accuracy(&logits, &[2, 1]).unwrap(), 0.5);
    }

    #[test]
    fn far_logits_stay_finite_and_wrong_labels_are_named() {
        let logits = Tensor::new(&[[1e4f32, -1e4]], &Device::Cpu).unwrap();
        assert_eq!(
            cross_entropy(&logits, &[1], 0.0)
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
            2e4
        );
        assert!(
            cross_entropy(&logits, &[2], 0.0)
                .unwrap_err()
                .to_string()
                .contains("label 2")
        );
        assert!(cross_entropy(&logits, &[], 0.0).is_err());
    }
}
