//! export: the four files, and that onnxruntime computes from them what the program does.

use std::{fs, path::Path};

use candle_core::{DType, Device, Tensor};
use cifar_data::{DatasetName, SourceOptions};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use resnet::{
    Arch, Classifier, ClassifierConfig, LoadOptions, Mode, OnnxOptions, Parameters, ResNet,
    ResNetConfig, Stem,
};
use serde_json::{Value, json};
use trainer::{Arm, TrainedArm};

use crate::{python, support::World};

/// Writes f32 values for Python.
fn tensor(folder: &Path, name: &str, values: &[f32], shape: &[usize]) -> Value {
    let file = folder.join(format!("{name}.f32"));
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    fs::write(&file, bytes).expect("a file");
    json!({"file": file, "shape": shape})
}

/// Asks onnxruntime; prints how far it is from the program.
fn ask(name: &str, folder: &Path, case: &Value) {
    let Some(command) = python::with(name, &["onnxruntime", "numpy"]) else {
        return;
    };
    let path = folder.join("case.json");
    fs::write(&path, case.to_string()).expect("a file");
    let printed = python::script(command, "onnx_check.py", &[&path]);
    eprintln!("{name}: {}", printed.trim());
}

#[test]
fn an_exported_arm_is_loaded_by_others() {
    let world = World::new();
    world.tiny("run-all", "run", &["--set=headline=mlp"]).ok();
    for arm in ["baseline", "contrastive"] {
        let to = format!("out-{arm}");
        let line = [
            "export",
            "--run-dir=run",
            "--arm",
            arm,
            "--to",
            &to,
            "--with-head",
            "--license=mit",
        ];
        let outcome = world.run(&line);
        outcome.ok();
        assert_eq!(outcome.stdout.lines().count(), 4);
        // Once more over the first: the same bytes.
        let before = fs::read(world.path(&to).join("model.onnx")).expect("a model");
        world.run(&line).ok();
        assert!(before == fs::read(world.path(&to).join("model.onnx")).expect("a model"));

        let folder = world.path(&to);
        let config: Value =
            serde_json::from_slice(&fs::read(folder.join("config.json")).expect("a file"))
                .expect("JSON");
        assert_eq!(config["architecture"], "resnet18");
        assert_eq!(config["num_classes"], 10);
        assert_eq!(config["pretrained_cfg"]["input_size"], json!([3, 32, 32]));
        check_card(
            &world,
            arm,
            &fs::read_to_string(folder.join("README.md")).expect("a card"),
        );

        // The weights are those of the run, under torchvision's names; the head lies beside the encoder.
        let weights = resnet::read_safetensors(&folder.join("model.safetensors")).expect("weights");
        assert_eq!(weights.metadata["format"], "pt");
        let conv = &weights.tensors["layer2.0.conv1.weight"];
        assert_eq!(conv.dims(), [16, 8, 3, 3], "[O, I, kh, kw]");
        let last = if arm == "baseline" {
            "fc.weight"
        } else {
            "fc.4.weight"
        };
        assert_eq!(weights.tensors[last].dims()[0], 10);

        let opened = TrainedArm::open(
            world.path("run"),
            arm.parse::<Arm>().expect("an arm"),
            &Device::Cpu,
        )
        .expect("a finished arm");
        let options = SourceOptions {
            dataset: DatasetName::Synthetic,
            ..SourceOptions::default()
        };
        let test = cifar_data::open(&options, &mut ())
            .and_then(|data| data.test())
            .expect("test images");
        let images = test.subset(&[3, 1, 4, 15, 9]);
        let normalization = opened.normalization();
        let pixels = Tensor::from_slice(&images.pixels, (5, 32, 32, 3), &Device::Cpu)
            .and_then(|x| x.to_dtype(DType::F32)? / 255.0)
            .and_then(|x| x.broadcast_sub(&Tensor::new(&normalization.mean, &Device::Cpu)?))
            .and_then(|x| x.broadcast_div(&Tensor::new(&normalization.std, &Device::Cpu)?))
            .expect("normalised images");
        let features = opened.embed(&images).expect("features");
        let predictions = opened.predict(&images).expect("predictions");
        let probabilities: Vec<f32> = predictions
            .into_iter()
            .flat_map(|p| p.probabilities)
            .collect();
        let case = json!({
            "model": folder.join("model.onnx"),
            "images": planes(&folder, &pixels),
            "expected": {
                "features": tensor(world.path(".").as_path(), "features", &features.values, &[5, features.dim]),
                "logits": tensor(world.path(".").as_path(), "probabilities", &probabilities, &[5, 10]),
            },
            "softmax": ["logits"],
            // Sums of a few hundred f32 products in another order; 2e-6 was the most here.
            "tolerance": 2e-5,
        });
        ask(&format!("export of {arm}"), &world.path("."), &case);
    }
}

/// Images `[N, H, W, 3]` as Python takes them, `[N, 3, H, W]`, in a file beside `folder`.
fn planes(folder: &Path, images: &Tensor) -> Value {
    let planes = images
        .permute((0, 3, 1, 2))
        .and_then(|x| x.contiguous())
        .expect("planes");
    let values = planes
        .flatten_all()
        .and_then(|x| x.to_vec1::<f32>())
        .expect("values");
    tensor(
        folder.parent().expect("a parent"),
        "images",
        &values,
        planes.dims(),
    )
}

fn check_card(world: &World, arm: &str, card: &str) {
    let mut parts = card.splitn(3, "---\n");
    assert_eq!(parts.next(), Some(""));
    let metadata = parts.next().expect("metadata");
    let body = parts.next().expect("a body");
    for line in [
        "license: \"mit\"",
        "pipeline_tag: image-classification",
        "- accuracy",
        "model-index:",
    ] {
        assert!(metadata.lines().any(|l| l == line), "{line} in {metadata}");
    }
    // The figures are those of results.json.
    let top1 = world.results("run")["arms"][arm]["test"]["top1"]
        .as_f64()
        .expect("a figure");
    assert!(
        metadata.contains(&format!("value: {top1:.4}")),
        "{metadata}"
    );
    assert!(
        body.contains(&format!("**{:.2} %**", 100.0 * top1)),
        "{body}"
    );
    assert!(
        body.contains("SYNTHETIC") && body.contains("Recipe `smoke`"),
        "{body}"
    );
    assert!(
        !metadata.contains("timm"),
        "an eighth of the width is not timm's network"
    );
}

#[test]
fn nobodys_files_are_overwritten() {
    let world = World::new();
    world
        .tiny(
            "run-all",
            "run",
            &["--set=arms.control=false", "--set=arms.finetuned=false"],
        )
        .ok();
    world.write("mine/README.md", "precious");
    world
        .run(&["export", "--run-dir=run", "--to=mine"])
        .refused(&["mine", "README.md"]);
    assert_eq!(
        fs::read_to_string(world.path("mine/README.md")).expect("a file"),
        "precious"
    );
    world
        .run(&["export", "--run-dir=run", "--arm=control", "--to=out"])
        .refused(&["control", "baseline, contrastive"]);
    assert!(!world.path("out").exists());
    world.run(&["export", "--run-dir=run"]).refused(&["--to"]);
}

/// Every kind of network, with weights and statistics that no layer can get right by chance.
#[test]
fn every_architecture_computes_the_same_in_onnxruntime() {
    let world = World::new();
    let folder = world.path("onnx");
    fs::create_dir_all(&folder).expect("a folder");
    let cases = [
        (Arch::ResNet18, Stem::Cifar, None, (32, 32)),
        (Arch::ResNet34, Stem::ImageNet, Some(48), (20, 24)),
        (Arch::ResNet50, Stem::ImageNet, None, (33, 47)),
        (Arch::ResNet50V2, Stem::ImageNet, None, (64, 64)),
        (Arch::ResNet50V2, Stem::Cifar, None, (17, 16)),
    ];
    for (arch, stem, upsample, size) in cases {
        let config = ResNetConfig {
            width: 0.125,
            upsample,
            ..ResNetConfig::new(arch, stem)
        };
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut parameters = Parameters::new(&Device::Cpu);
        let encoder = ResNet::new(&config, &mut parameters, &mut rng).expect("a network");
        let mut head_parameters = Parameters::new(&Device::Cpu);
        let head = ClassifierConfig::Linear { classes: 3 };
        let head = Classifier::new(&head, encoder.feature_dim(), &mut head_parameters, &mut rng)
            .expect("a head");
        shake(&parameters, &mut rng);
        let (height, width) = size;
        let images = resnet::normal(&[3, height, width, 3], 1.0, &mut rng).expect("images");
        let features = encoder.forward(&images, Mode::Frozen).expect("features");
        let logits = head
            .forward(&features, Mode::Frozen, &mut rng)
            .expect("logits");
        let options = OnnxOptions {
            size,
            head: Some(&head_parameters),
            ..OnnxOptions::default()
        };
        let model = folder.join("model.onnx");
        fs::write(
            &model,
            resnet::to_onnx(&config, &parameters, &options).expect("a model"),
        )
        .expect("a file");
        let flat = |x: &Tensor| {
            x.flatten_all()
                .and_then(|x| x.to_vec1::<f32>())
                .expect("values")
        };
        let case = json!({
            "model": model,
            "images": planes(&model, &images),
            "expected": {
                "features": tensor(&folder, "features", &flat(&features), features.dims()),
                "logits": tensor(&folder, "logits", &flat(&logits), logits.dims()),
            },
            // Fifty layers of f32 sums in another order; 2e-6 was the most here.
            "tolerance": 2e-5,
        });
        ask(
            &format!("{arch} with {stem} stem at {height}×{width}"),
            &folder,
            &case,
        );
    }
}

/// Scales, shifts and statistics as after training: none of them 0 or 1.
fn shake(parameters: &Parameters, rng: &mut ChaCha8Rng) {
    let mut tensors = parameters.to_tensors().expect("tensors");
    for (name, value) in &mut tensors {
        let noise =
            |std: f64, rng: &mut ChaCha8Rng| resnet::normal(value.dims(), std, rng).expect("noise");
        let changed = match name.rsplit('.').next() {
            Some("running_var") => noise(0.3, rng).exp().expect("positive"),
            Some("running_mean" | "bias") => noise(0.2, rng),
            Some("weight") if value.rank() == 1 => (noise(0.1, rng) + 0.9).expect("scales"),
            _ => continue,
        };
        *value = changed;
    }
    parameters
        .load_tensors(&tensors, &LoadOptions::default())
        .expect("they fit");
}
