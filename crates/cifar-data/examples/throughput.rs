//! Images per second of an augmentation policy, on one thread and through the loader.
//!
//!     cargo run --release -p cifar-data --example throughput -- supcon 2

use std::sync::Arc;
use std::time::Instant;

use cifar_data::{
    Augmenter, DatasetName, Loader, LoaderConfig, Normalization, Policy, Sample, SourceOptions,
    Workspace, open, stream,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let policy: Policy = arguments.next().as_deref().unwrap_or("supcon").parse()?;
    let views: usize = arguments.next().as_deref().unwrap_or("2").parse()?;
    let options = SourceOptions {
        dataset: DatasetName::Synthetic,
        ..SourceOptions::default()
    };
    let images = Arc::new(open(&options, &mut ())?.train()?);
    let indices = Arc::new((0..images.len()).collect::<Vec<_>>());
    let normalization = Normalization::fit(&images, &indices)?;

    let augmenter = Augmenter::new(
        policy.augmentation(),
        images.height,
        images.width,
        &normalization,
        0,
    )?;
    let (mut work, mut out) = (Workspace::default(), vec![0.0; images.image_len()]);
    let mut rng = stream(0, "throughput", &[]);
    let mut best = 0f64;
    for _ in 0..5 {
        let started = Instant::now();
        for &index in indices.iter() {
            augmenter.apply(
                images.image(index),
                &mut out,
                Sample {
                    index,
                    ..Sample::default()
                },
                &mut rng,
                &mut work,
            );
            std::hint::black_box(&out);
        }
        best = best.max(images.len() as f64 / started.elapsed().as_secs_f64());
    }
    println!("{policy}: {best:.0} views/s on one thread (best of 5)");

    let config = LoaderConfig {
        batch_size: 200,
        views,
        policy,
        normalization,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(images, indices, config)?;
    let started = Instant::now();
    let mut count = 0;
    for epoch in 0..5 {
        for batch in loader.epoch(epoch, 0) {
            count += batch?.labels.len();
        }
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{policy}: {rate:.0} images/s with {views} views through the loader on all cores");
    Ok(())
}
