//! `config.json`: architecture, classes and preprocessing in timm's terms, and what timm has no word for under its own.

use crate::trained::TrainedArm;
use serde_json::{Value, json};

/// The configuration. `pretrained_cfg` holds timm's fields; `encoder` is this project's own description, from which the network can be
/// built again (`resnet::ResNetConfig`).
pub(super) fn config(arm: &TrainedArm) -> Value {
    let data = arm.dataset();
    let network = arm.encoder.net.config();
    let normalization = arm.record.normalization;
    json!({
        "architecture": network.arch.name(),
        "num_classes": data.classes.len(),
        "num_features": arm.encoder.net.feature_dim(),
        "global_pool": "avg",
        "label_names": data.classes,
        "pretrained_cfg": {
            "tag": format!("{}_{}", arm.recipe().name, arm.arm()),
            "input_size": [3, data.height, data.width],
            "fixed_input_size": false,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": normalization.mean,
            "std": normalization.std,
            "num_classes": data.classes.len(),
            "first_conv": if network.arch == resnet::Arch::ResNet50V2 { "conv1_conv" } else { "conv1" },
            "classifier": match arm.head_kind() {
                crate::HeadKind::Linear => json!("fc"),
                crate::HeadKind::Mlp => json!(["fc.1", "fc.4"]),
            },
        },
        "encoder": network,
        "head": arm.head_kind().name(),
    })
}
