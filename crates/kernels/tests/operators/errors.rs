//! Wrong shapes are refused with the operator's name, what was expected and what came.

use candle_core::{DType, Device, Result, Tensor};
use kernels::{
    Activation, ConvConfig, batch_norm_eval, batch_norm_train, conv2d, dropout, global_avg_pool,
    linear, max_pool2d, pad_zeros, upsample_bilinear,
};

use crate::support::generator;

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("zeros")
}

#[track_caller]
fn refused<T>(result: Result<T>, parts: &[&str]) {
    let message = match result {
        Ok(_) => panic!("accepted"),
        Err(e) => e.to_string(),
    };
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn convolutions() {
    let cfg = ConvConfig::default();
    let conv = |x: &[usize], w: &[usize], cfg: &ConvConfig| conv2d(&zeros(x), &zeros(w), None, cfg);
    refused(
        conv(&[4, 4, 3], &[8, 1, 1, 3], &cfg),
        &["conv2d", "[N, H, W, C]", "[4, 4, 3]"],
    );
    refused(conv(&[1, 4, 4, 3], &[8, 3], &cfg), &["weight", "[8, 3]"]);
    refused(
        conv(&[1, 4, 4, 3], &[8, 3, 3, 4], &cfg),
        &["[O, kh, kw, 3]", "[8, 3, 3, 4]"],
    );
    refused(conv(&[1, 2, 2, 3], &[8, 3, 3, 3], &cfg), &["3x3", "2x2"]);
    let groups = ConvConfig { groups: 2, ..cfg };
    refused(conv(&[1, 4, 4, 3], &[8, 3, 3, 3], &groups), &["groups 2"]);
    let still = ConvConfig { stride: 0, ..cfg };
    refused(conv(&[1, 4, 4, 3], &[8, 3, 3, 3], &still), &["stride"]);
    let (x, w) = (zeros(&[1, 4, 4, 3]), zeros(&[8, 3, 3, 3]));
    refused(
        conv2d(&x, &w, Some(&zeros(&[7])), &cfg),
        &["bias", "[8]", "[7]"],
    );
    refused(
        linear(&zeros(&[2, 3]), &zeros(&[4, 5]), None),
        &["linear", "[2, 3]", "[4, 5]"],
    );
    refused(
        linear(&zeros(&[2, 3, 1]), &zeros(&[4, 5]), None),
        &["linear", "[2, 3, 1]"],
    );
    refused(
        linear(&zeros(&[2, 3]), &zeros(&[4, 3]), Some(&zeros(&[3]))),
        &["bias", "[4]"],
    );
}

#[test]
fn norms() {
    let (x, c) = (zeros(&[2, 3, 3, 4]), zeros(&[4]));
    let act = Activation::Relu;
    refused(
        batch_norm_train(&x, &zeros(&[3]), &c, None, act, 1e-5),
        &["gamma", "[4]", "[3]"],
    );
    refused(batch_norm_train(&c, &c, &c, None, act, 1e-5), &["rank 2"]);
    refused(
        batch_norm_train(&zeros(&[0, 4]), &c, &c, None, act, 1e-5),
        &["not empty"],
    );
    let r = zeros(&[2, 3, 3, 5]);
    refused(
        batch_norm_train(&x, &c, &c, Some(&r), act, 1e-5),
        &["residual", "[2, 3, 3, 5]"],
    );
    let v = zeros(&[5]);
    refused(
        batch_norm_eval(&x, &c, &c, &c, &v, None, act, 1e-5),
        &["var", "[5]"],
    );
}

#[test]
fn pools_and_the_rest() {
    let x = zeros(&[1, 4, 4, 2]);
    refused(
        max_pool2d(&zeros(&[4, 4]), 3, 2, 1),
        &["max_pool2d", "[4, 4]"],
    );
    refused(max_pool2d(&x, 3, 2, 2), &["padding 2", "kernel 3"]);
    refused(max_pool2d(&x, 5, 1, 0), &["5x5", "4x4"]);
    refused(max_pool2d(&x, 3, 0, 1), &["stride 0"]);
    refused(
        global_avg_pool(&zeros(&[2, 3])),
        &["global_avg_pool", "[2, 3]"],
    );
    refused(upsample_bilinear(&x, 0, 4), &["at least 1"]);
    refused(pad_zeros(&zeros(&[2]), 1), &["pad_zeros"]);
    refused(dropout(&x, 1.0, &mut generator(0)), &["[0, 1)", "1"]);
    refused(dropout(&x, f64::NAN, &mut generator(0)), &["NaN"]);
}
