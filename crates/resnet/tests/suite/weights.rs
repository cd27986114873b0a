//! Weight files: what loads, what is refused, and how that is said.

use crate::formula;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resnet::{
    Arch, Classifier, ClassifierConfig, LoadOptions, Mode, Parameters, ResNet, ResNetConfig, Stem,
    read_safetensors, write_safetensors,
};

type Tensors = BTreeMap<String, Tensor>;

fn build(arch: Arch, stem: Stem, seed: u64) -> (ResNet, Parameters) {
    let config = ResNetConfig {
        width: 0.125,
        ..ResNetConfig::new(arch, stem)
    };
    let mut params = Parameters::new(&Device::Cpu);
    let net = ResNet::new(&config, &mut params, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
    (net, params)
}

/// A whole classifier in timm's naming (which is torchvision's), with weights from the formula.
fn timm_file(params: &Parameters, features: usize) -> Tensors {
    let mut tensors = formula::tensors_like(&params.to_tensors().unwrap());
    tensors.insert(
        "fc.weight".into(),
        formula::tensor("fc.weight", &[10, features]),
    );
    tensors.insert("fc.bias".into(), formula::tensor("fc.bias", &[10]));
    tensors
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn assert_same(a: &Tensors, b: &Tensors) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, tensor) in a {
        assert_eq!(tensor.dims(), b[name].dims(), "{name}");
        assert_eq!(values(tensor), values(&b[name]), "{name}");
    }
}

#[test]
fn what_is_saved_loads_bit_for_bit_and_files_are_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    let meta: BTreeMap<_, _> = [("quote \"", "é\n"), ("a", "1"), ("z", "2")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    for arch in Arch::ALL {
        let (net, params) = build(arch, Stem::Cifar, 1);
        net.forward(&formula::images("images", 4, 8), Mode::Train)
            .unwrap();
        params.save(&first, &meta).unwrap();
        params.save(&second, &meta).unwrap();
        assert_eq!(
            std::fs::read(&first).unwrap(),
            std::fs::read(&second).unwrap()
        );
        let (_, other) = build(arch, Stem::Cifar, 2);
        let report = other.load(&first, &LoadOptions::default()).unwrap();
        assert_eq!(report.loaded, other.len());
        assert_same(&params.to_tensors().unwrap(), &other.to_tensors().unwrap());
        assert_eq!(read_safetensors(&first).unwrap().metadata, meta);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "temporary files remain");
}

#[test]
fn files_hold_pytorchs_layout() {
    let (_, params) = build(Arch::ResNet18, Stem::ImageNet, 1);
    let memory = params.get("conv1.weight").unwrap(); // [8, 7, 7, 3]
    let file = &params.to_tensors().unwrap()["conv1.weight"];
    assert_eq!(file.dims(), [8, 3, 7, 7]);
    let memory = memory.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let file = file.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (o, i, y, x) = (5, 2, 3, 6);
    assert_eq!(
        file[((o * 3 + i) * 7 + y) * 7 + x],
        memory[((o * 7 + y) * 7 + x) * 3 + i]
    );
    // 1×1 kernels are contiguous either way: still a copy, not a view of the variable.
    let one = &params.to_tensors().unwrap()["layer2.0.downsample.0.weight"];
    let before = values(one);
    let var = params.get("layer2.0.downsample.0.weight").unwrap();
    var.set(&var.zeros_like().unwrap()).unwrap();
    assert_eq!(values(one), before);
}

#[test]
fn a_timm_file_feeds_encoder_and_head() {
    let (net, params) = build(Arch::ResNet50, Stem::ImageNet, 1);
    let mut tensors = timm_file(&params, net.feature_dim());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // Files differ in what they keep: half precision, no count of batches.
    let half = tensors["bn1.weight"].to_dtype(DType::F64).unwrap();
    tensors.insert("bn1.weight".into(), half);
    tensors.retain(|name, _| !name.ends_with("num_batches_tracked"));
    write_safetensors(&path, &tensors, &BTreeMap::new()).unwrap();

    let report = params.load(&path, &LoadOptions::encoder()).unwrap();
    assert_eq!(report.ignored, ["fc.bias", "fc.weight"]);
    assert_eq!(report.kept.len(), 53);
    assert_eq!(report.loaded, params.len() - 53);
    let loaded = params.to_tensors().unwrap();
    for (name, tensor) in &tensors {
        if !name.starts_with("fc.") {
            assert_eq!(values(tensor), values(&loaded[name]), "{name}");
        }
    }

    let mut head = Parameters::new(&Device::Cpu);
    let config = ClassifierConfig::Linear { classes: 10 };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    Classifier::new(&config, net.feature_dim(), &mut head, &mut rng).unwrap();
    let report = head.load(&path, &LoadOptions::head()).unwrap();
    assert_eq!(report.loaded, 2);
    assert_eq!(
        values(head.get("fc.bias").unwrap()),
        values(&tensors["fc.bias"])
    );

    // Without being told to, nothing is left aside.
    let message = params
        .load(&path, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("2 unexpected (fc.bias, fc.weight)"),
        "{message}"
    );
    assert!(message.contains("model.safetensors"), "{message}");
}

#[test]
fn every_float_type_is_converted() {
    let mut params = Parameters::new(&Device::Cpu);
    let config = ClassifierConfig::Linear { classes: 2 };
    Classifier::new(&config, 3, &mut params, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    let want: Vec<f64> = vec![0.5, -1.25, 3.0, 0.0, 2.0, -8.0];
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        let t = |v: &[f64], shape: &[usize]| {
            Tensor::from_slice(v, shape, &Device::Cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        };
        let tensors: Tensors = [
            ("fc.weight".into(), t(&want, &[2, 3])),
            ("fc.bias".into(), t(&[1.0, 2.0], &[2])),
        ]
        .into();
        params
            .load_tensors(&tensors, &LoadOptions::default())
            .unwrap();
        assert_eq!(values(params.get("fc.weight").unwrap()), want, "{dtype:?}");
    }
}

#[test]
fn imagenet_weights_into_a_cifar_stem_are_an_error_or_a_named_choice() {
    let (imagenet, source) = build(Arch::ResNet18, Stem::ImageNet, 1);
    let tensors = timm_file(&source, imagenet.feature_dim());
    let (_, params) = build(Arch::ResNet18, Stem::Cifar, 2);
    let before = params.to_tensors().unwrap();
    let message = params
        .load_tensors(&tensors, &LoadOptions::encoder())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("conv1.weight: file [8, 3, 7, 7], model [8, 3, 3, 3]"),
        "{message}"
    );
    assert!(
        message.contains("7×7") && message.contains("keeping_stem"),
        "{message}"
    );
    assert_same(&before, &params.to_tensors().unwrap());

    let report = params
        .load_tensors(&tensors, &LoadOptions::encoder().keeping_stem())
        .unwrap();
    assert_eq!(report.kept, ["conv1.weight"]);
    let after = params.to_tensors().unwrap();
    assert_eq!(
        values(&after["conv1.weight"]),
        values(&before["conv1.weight"])
    );
    assert_eq!(values(&after["bn1.weight"]), values(&tensors["bn1.weight"]));
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let (_, params) = build(Arch::ResNet18, Stem::Cifar, 1);
    let before = params.to_tensors().unwrap();
    let refuse = |tensors: &Tensors, parts: &[&str]| {
        let message = params
            .load_tensors(tensors, &LoadOptions::default())
            .unwrap_err()
            .to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} in {message}");
        }
        assert_same(&before, &params.to_tensors().unwrap());
    };
    let mut missing = before.clone();
    missing.retain(|name, _| !name.starts_with("layer1.0"));
    refuse(
        &missing,
        &[
            "10 missing (layer1.0.bn1.bias, layer1.0.bn1.running_mean, ",
            ", …)",
            "architecture",
        ],
    );
    let mut wider = before.clone();
    wider.insert("bn1.bias".into(), formula::tensor("bn1.bias", &[16]));
    refuse(
        &wider,
        &["1 mis-shaped (bn1.bias: file [16], model [8])", "width"],
    );
    let prefixed: Tensors = before
        .iter()
        .map(|(n, t)| (format!("module.{n}"), t.clone()))
        .collect();
    refuse(&prefixed, &["\"module.\"", "strip_prefix"]);
    let options = LoadOptions {
        strip_prefix: Some("module.".into()),
        ..LoadOptions::default()
    };
    assert_eq!(
        params.load_tensors(&prefixed, &options).unwrap().loaded,
        params.len()
    );
    let (_, v2) = build(Arch::ResNet50V2, Stem::Cifar, 1);
    refuse(
        &v2.to_tensors().unwrap(),
        &["missing", "unexpected (conv1_conv.bias, ", "resnet50v2"],
    );
}

fn refused(path: &Path, bytes: &[u8]) -> String {
    std::fs::write(path, bytes).unwrap();
    let (_, params) = build(Arch::ResNet18, Stem::Cifar, 1);
    let before = params.to_tensors().unwrap();
    let message = params
        .load(path, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert_same(&before, &params.to_tensors().unwrap());
    assert!(message.contains("hostile.safetensors: "), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn hostile_files_get_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    let (_, params) = build(Arch::ResNet18, Stem::Cifar, 1);
    params.save(&path, &BTreeMap::new()).unwrap();
    let good = std::fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 9, 100, good.len() / 2, good.len() - 1] {
        let message = refused(&path, &good[..length]);
        assert!(
            message.contains("truncated") || message.contains("damaged"),
            "{length}: {message}"
        );
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(refused(&path, &longer).contains("damaged"));
    let framed = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    for header in [
        "not json",
        "[]",
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
    ] {
        let message = refused(&path, &framed(header, 8));
        assert!(message.contains("damaged"), "{header}: {message}");
    }
    let complex = r#"{"a":{"dtype":"C64","shape":[1],"data_offsets":[0,8]}}"#;
    assert!(refused(&path, &framed(complex, 8)).contains("element type C64"));
    for huge in [u64::MAX, 1 << 40, good.len() as u64] {
        let mut bytes = huge.to_le_bytes().to_vec();
        bytes.extend(&good[8..]);
        assert!(
            refused(&path, &bytes).contains("announces a header"),
            "{huge}"
        );
    }
    assert!(refused(&path, b"PK\x03\x04 and more").contains("convert it"));
    assert!(refused(&path, b"\x89HDF\r\n\x1a\n and more").contains("HDF5"));
    assert!(refused(&path, b"version https://git-lfs.github.com/spec/v1").contains("LFS"));
    assert!(refused(&path, b"<!DOCTYPE html><html>").contains("HTML"));
}

#[test]
fn absent_files_and_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, params) = build(Arch::ResNet18, Stem::Cifar, 1);
    let absent = folder.path().join("absent.safetensors");
    let message = params
        .load(&absent, &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("absent.safetensors: cannot read"),
        "{message}"
    );
    let message = params
        .load(folder.path(), &LoadOptions::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("not a file"), "{message}");
    let nowhere = folder.path().join("no/such/folder/w.safetensors");
    let message = params
        .save(&nowhere, &BTreeMap::new())
        .unwrap_err()
        .to_string();
    assert!(message.contains("cannot write"), "{message}");
}
