//! The model card: metadata for the Hub in YAML between `---`, then what a reader must know, every figure from the run's results.

use super::{CONFIGURATION, ExportOptions, ONNX, WEIGHTS};
use crate::recipe::HeadKind;
use crate::trained::TrainedArm;
use crate::{Arm, Result, TransferMode, plan};
use eval::{ArmResult, wilson_interval};
use resnet::{Init, Stem};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Data sets that the Hub knows, by how their names begin.
const HUB_DATASETS: [(&str, &str); 2] = [
    ("CIFAR-100", "uoft-cs/cifar100"),
    ("CIFAR-10", "uoft-cs/cifar10"),
];

/// The text of `README.md`.
pub(super) fn card(
    arm: &TrainedArm,
    results: &BTreeMap<Arm, ArmResult>,
    options: &ExportOptions,
) -> Result<String> {
    let own = results
        .get(&arm.arm())
        .ok_or_else(|| crate::Error::Damaged {
            path: arm.folder.result(arm.arm()),
            reason: "the file is missing, though the evaluation is recorded as done".to_owned(),
            remedy: "put it back, or evaluate again in a new run folder".to_owned(),
        })?;
    let mut text = metadata(arm, own, options);
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "{}{}{}{}",
        introduction(arm),
        figures(arm, results),
        usage(arm, options),
        limits(arm)
    );
    Ok(text)
}

/// The YAML block. Strings are quoted as in JSON, which YAML reads.
fn metadata(arm: &TrainedArm, own: &ArmResult, options: &ExportOptions) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let data = arm.dataset();
    let network = arm.encoder.net.config();
    let mut lines = vec!["---".to_owned()];
    match &options.license {
        Some(license) => lines.push(format!("license: {}", quote(license))),
        None => lines.extend(["license: other", "license_name: unspecified"].map(str::to_owned)),
    }
    if arm.is_standard() && arm.head_kind() == HeadKind::Linear {
        lines.push("library_name: timm".to_owned());
    }
    lines.push("pipeline_tag: image-classification".to_owned());
    lines.push("tags:".to_owned());
    let mut tags = vec![
        "image-classification",
        "image-feature-extraction",
        "resnet",
        network.arch.name(),
        "safetensors",
        "onnx",
    ];
    if arm.arm() != Arm::Baseline && arm.arm() != Arm::Control {
        tags.push("contrastive-learning");
        tags.push(arm.recipe().pretrain.loss.name());
    }
    lines.extend(tags.into_iter().map(|tag| format!("- {}", quote(tag))));
    let hub = HUB_DATASETS
        .into_iter()
        .find(|(start, _)| data.name.starts_with(start))
        .map(|(_, id)| id);
    if let Some(id) = hub {
        lines.push("datasets:".to_owned());
        lines.push(format!("- {id}"));
    }
    lines.push("metrics:".to_owned());
    lines.push("- accuracy".to_owned());
    lines.push("model-index:".to_owned());
    lines.push(format!("- name: {}", quote(&name(arm))));
    lines.push("  results:".to_owned());
    lines.push("  - task:".to_owned());
    lines.push("      type: image-classification".to_owned());
    lines.push("    dataset:".to_owned());
    lines.push(format!("      name: {}", quote(&data.name)));
    lines.push(format!(
        "      type: {}",
        quote(hub.unwrap_or(if data.synthetic {
            "synthetic"
        } else {
            "imagefolder"
        }))
    ));
    lines.push("      split: test".to_owned());
    lines.push("    metrics:".to_owned());
    let test = &own.test;
    let metrics = [
        ("accuracy", "top-1 accuracy", Some(test.classification.top1)),
        (
            "accuracy",
            "top-1 accuracy of nearest neighbours",
            test.embedding.knn_top1,
        ),
    ];
    for (kind, name, value) in metrics {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            lines.push(format!("    - type: {kind}"));
            lines.push(format!("      name: {name}"));
            lines.push(format!("      value: {value:.4}"));
        }
    }
    lines.push("---".to_owned());
    lines.join("\n") + "\n"
}

fn name(arm: &TrainedArm) -> String {
    format!(
        "{} {} ({})",
        arm.encoder.net.config().arch.name(),
        arm.arm(),
        arm.dataset().name
    )
}

fn introduction(arm: &TrainedArm) -> String {
    let data = arm.dataset();
    let recipe = arm.recipe();
    let network = arm.encoder.net.config();
    let loss = recipe.pretrain.loss.name();
    let how = match arm.arm() {
        Arm::Baseline => "encoder and classifier trained together with cross-entropy".to_owned(),
        Arm::Contrastive => format!(
            "the encoder trained with a contrastive loss (`{loss}`), then frozen; the classifier trained on its features"
        ),
        Arm::Control => {
            "the encoder trained with cross-entropy, then frozen; a new classifier trained on its features".to_owned()
        }
        Arm::Finetuned => format!(
            "the encoder trained with a contrastive loss (`{loss}`), then everything trained with cross-entropy"
        ),
        transfer => {
            let then = match plan::transfer_mode(recipe, transfer) {
                Some(TransferMode::Contrastive) => format!(
                    "the encoder trained on with a contrastive loss (`{loss}`), then frozen; the classifier trained on its features"
                ),
                Some(TransferMode::Finetune) => {
                    "a classifier trained on the frozen encoder, then everything trained on".to_owned()
                }
                Some(TransferMode::Frozen) | None => {
                    "the encoder frozen, the classifier trained on its features".to_owned()
                }
            };
            let weights = match &recipe.transfer.init {
                Init::File(path) => {
                    let name = path.file_name().unwrap_or(path.as_os_str());
                    name.to_string_lossy().into_owned()
                }
                other => other.to_string(),
            };
            format!("begun with the weights `{weights}`; {then}")
        }
    };
    let stem = match network.stem {
        Stem::ImageNet => "ImageNet stem (7×7, stride 2, max-pool)",
        Stem::Cifar => "CIFAR stem (3×3, stride 1)",
    };
    let warning = match data.synthetic {
        true => {
            "\n**SYNTHETIC data**: the images are drawn by a program; these figures say nothing about photographs.\n"
        }
        false => "",
    };
    let notes = match data.notes.is_empty() {
        true => String::new(),
        false => format!("\n{}\n", data.notes.join(" ")),
    };
    format!(
        "\n# {}\n{warning}\nArm `{}` of a comparison of contrastive and supervised training: {how}. Network: {}, {stem}, width {}, \
         {}×{} images, {} classes. Data: {} ({} training images). Recipe `{}`, seed {}.\n{notes}",
        name(arm),
        arm.arm(),
        network.arch.name(),
        network.width,
        data.height,
        data.width,
        data.classes.len(),
        data.name,
        arm.record.train_images,
        recipe.name,
        recipe.seed
    )
}

fn figures(arm: &TrainedArm, results: &BTreeMap<Arm, ArmResult>) -> String {
    let percent = |value: Option<f64>| match value.filter(|v| v.is_finite()) {
        Some(value) => format!("{:.2} %", 100.0 * value),
        None => "–".to_owned(),
    };
    let mut text = "\n## Results\n\nOn the test split, which nothing that was chosen has seen. The interval is Wilson's, 95 %: it covers the choice of \
                    test images, not the choice of seed.\n\n| arm | head | top-1 | interval | k-nearest neighbours | epochs |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (each, result) in results {
        let top1 = result.test.classification.top1;
        let interval = wilson_interval(top1, result.test.images()).map_or_else(
            || "–".to_owned(),
            |(low, high)| format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high),
        );
        let strong = if *each == arm.arm() { "**" } else { "" };
        let _ = writeln!(
            text,
            "| {strong}{each}{strong} | {} | {strong}{}{strong} | {interval} | {} | {} |",
            result.headline,
            percent(Some(top1)),
            percent(result.test.embedding.knn_top1),
            result.train.encoder_epochs()
        );
    }
    let _ = writeln!(
        text,
        "\nMade by `{}` on {} ({}), {}.",
        eval::public_command(&arm.record.command).replace('`', "'"),
        arm.record.environment.cpu,
        arm.record.environment.device,
        arm.record.environment.os
    );
    text
}

fn usage(arm: &TrainedArm, options: &ExportOptions) -> String {
    let data = arm.dataset();
    let normalization = arm.record.normalization;
    let list = |values: [f32; 3]| values.map(|v| format!("{v:.6}")).join(", ");
    let (height, width) = (data.height, data.width);
    let classes: Vec<String> = data.classes.iter().map(|c| format!("`{c}`")).collect();
    let outputs = match options.with_head {
        true => "features, logits = session.run([\"features\", \"logits\"], {\"images\": images})",
        false => "features, = session.run([\"features\"], {\"images\": images})",
    };
    let mut text = format!(
        "\n## Use\n\nPhotographs are brought to {height}×{width} (largest centred part of that shape, bilinear with antialiasing), scaled to 0…1 and \
         normalised: mean [{}], standard deviation [{}], RGB. Classes, in order: {}.\n\n```python\nimport numpy, onnxruntime\n\n\
         session = onnxruntime.InferenceSession(\"{ONNX}\")\nimages = numpy.zeros((1, 3, {height}, {width}), numpy.float32)  # normalised\n{outputs}\n```\n",
        list(normalization.mean),
        list(normalization.std),
        classes.join(", ")
    );
    if arm.is_standard() && arm.head_kind() == HeadKind::Linear {
        let _ = write!(
            text,
            "\n```python\nimport timm, safetensors.torch\n\nmodel = timm.create_model(\"{}\", num_classes={})\n\
             model.load_state_dict(safetensors.torch.load_file(\"{WEIGHTS}\"))\nmodel.eval()\n```\n",
            arm.encoder.net.config().arch.name(),
            data.classes.len()
        );
    } else {
        let _ = write!(
            text,
            "\n`{WEIGHTS}` has torchvision's names; `{CONFIGURATION}` says how the network differs from the published one of its name.\n"
        );
    }
    text
}

fn limits(arm: &TrainedArm) -> String {
    format!(
        "\n## Limits\n\nThe model knows the {} classes of its training data and names one of them whatever it is shown. It has not been tested on \
         other data, nor for fairness or safety; nothing should be decided by it alone.\n",
        arm.dataset().classes.len()
    )
}
