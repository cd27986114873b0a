//! Writes a freshly initialised network as a `.safetensors` file, which PyTorch loads strictly
//! (`scripts/load_in_pytorch.py`).
//!
//! ```text
//! cargo run --release -p resnet --example new_weights -- resnet50 imagenet resnet50.safetensors
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resnet::{Classifier, ClassifierConfig, Parameters, ResNet, ResNetConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [arch, stem, path] = words.as_slice() else {
        return Err("usage: new_weights ARCH STEM FILE".into());
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    // Encoder and classifier under one roof, as in torchvision's files.
    let mut params = Parameters::new(&Device::Cpu);
    let config = ResNetConfig::new(arch.parse()?, stem.parse()?);
    let encoder = ResNet::new(&config, &mut params, &mut rng)?;
    let classes = ClassifierConfig::Linear { classes: 1000 };
    Classifier::new(&classes, encoder.feature_dim(), &mut params, &mut rng)?;
    params.save(
        Path::new(path),
        &BTreeMap::from([("format".into(), "pt".into())]),
    )?;
    println!(
        "{path}: {} values in {} tensors",
        params.count(),
        params.len()
    );
    Ok(())
}
