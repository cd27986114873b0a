//! Batches: the same bits for any number of threads and from any step; errors, panics and early ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cifar_data::{
    Batch, Images, Loader, LoaderConfig, Normalization, Policy, Sampler, SourceOptions,
    SyntheticOptions,
};

fn images() -> Arc<Images> {
    let options = SourceOptions {
        dataset: cifar_data::DatasetName::Synthetic,
        synthetic: SyntheticOptions {
            train: 230,
            test: 10,
            seed: 0,
        },
        ..SourceOptions::default()
    };
    Arc::new(
        cifar_data::open(&options, &mut ())
            .unwrap()
            .train()
            .unwrap(),
    )
}

fn loader(
    images: &Arc<Images>,
    change: impl FnOnce(&mut LoaderConfig),
) -> cifar_data::Result<Loader> {
    let indices = Arc::new(
        (0..images.len())
            .filter(|index| index % 7 != 0)
            .collect::<Vec<_>>(),
    );
    let mut config = LoaderConfig {
        batch_size: 20,
        views: 2,
        policy: Policy::SupCon,
        normalization: Normalization::fit(images, &indices)?,
        seed: 3,
        ..LoaderConfig::default()
    };
    change(&mut config);
    Loader::new(Arc::clone(images), indices, config)
}

fn all(loader: &Loader, epoch: usize, first: usize) -> Vec<Batch> {
    loader
        .epoch(epoch, first)
        .collect::<cifar_data::Result<_>>()
        .unwrap()
}

#[test]
fn the_same_bits_for_any_threads_prefetch_and_first_step() {
    let images = images();
    for sampler in [
        Sampler::Shuffle,
        Sampler::ClassBalanced { per_class: 4 },
        Sampler::Sequential,
    ] {
        for drop_last in [true, false] {
            let make = |threads, prefetch| {
                loader(&images, |config| {
                    (config.sampler, config.drop_last) = (sampler, drop_last);
                    (config.threads, config.prefetch) = (threads, prefetch);
                })
                .unwrap()
            };
            let one = make(1, 1);
            let expected = all(&one, 4, 0);
            assert_eq!(expected.len(), one.steps_per_epoch());
            for (threads, prefetch) in [(2, 2), (5, 3), (8, 16), (0, 4)] {
                assert!(
                    all(&make(threads, prefetch), 4, 0) == expected,
                    "{threads} threads, {prefetch} ahead"
                );
            }
            for first in [1, 5, expected.len() - 1, expected.len(), 99] {
                assert!(all(&make(3, 2), 4, first) == expected[first.min(expected.len())..]);
            }
            assert!(all(&one, 5, 0) != expected);
        }
    }
}

#[test]
fn batches_say_what_they_hold() {
    let images = images();
    let loader = loader(&images, |config| config.drop_last = false).unwrap();
    let batches = all(&loader, 0, 0);
    assert_eq!(batches.len(), 197usize.div_ceil(20));
    let mut seen = Vec::new();
    for batch in &batches {
        let count = batch.labels.len();
        assert_eq!(
            (batch.views, batch.height, batch.width, batch.indices.len()),
            (2, 32, 32, count)
        );
        assert_eq!(batch.pixels.len(), 2 * count * 32 * 32 * 3);
        let (first, second) = batch.pixels.split_at(batch.pixels.len() / 2);
        assert!(first != second, "views differ");
        for (&index, &label) in batch.indices.iter().zip(&batch.labels) {
            assert_eq!(images.labels[index as usize], label);
            seen.push(index);
        }
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        (0..230).filter(|index| index % 7 != 0).collect::<Vec<_>>()
    );
}

#[test]
fn without_augmentation_views_are_view_major_and_exact() {
    let images = images();
    let loader = loader(&images, |config| {
        config.policy = Policy::None;
        config.sampler = Sampler::Sequential;
        config.normalization = Normalization::IDENTITY;
    })
    .unwrap();
    let batch = loader.epoch(0, 1).next().unwrap().unwrap();
    for (slot, pixels) in batch.pixels.chunks_exact(3072).enumerate() {
        let image = images.image(batch.indices[slot % 20] as usize);
        assert!(
            pixels
                .iter()
                .zip(image)
                .all(|(got, &value)| *got == f32::from(value) / 255.0)
        );
    }
}

#[test]
fn dropping_the_iterator_stops_the_threads() {
    let images = images();
    let loader = loader(&images, |config| config.threads = 4).unwrap();
    for taken in [0, 1, 3] {
        let mut epoch = loader.epoch(0, 0);
        for _ in 0..taken {
            epoch.next().unwrap().unwrap();
        }
        let started = Instant::now();
        drop(epoch);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    // The threads hold the images; with them gone, this is the only owner left.
    drop(loader);
    assert_eq!(Arc::strong_count(&images), 1);
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let images = images();
    let message = |change: fn(&mut LoaderConfig)| loader(&images, change).unwrap_err().to_string();
    for (message, expected) in [
        (message(|c| c.batch_size = 0), "batch_size = 0"),
        (message(|c| c.views = 0), "views = 0"),
        (message(|c| c.prefetch = 0), "prefetch = 0"),
        (
            message(|c| c.batch_size = 198),
            "197 images do not fill a batch",
        ),
        (
            message(|c| c.sampler = Sampler::ClassBalanced { per_class: 3 }),
            "sampler.per_class = 3",
        ),
        (message(|c| c.normalization.std[1] = 0.0), "normalization"),
    ] {
        assert!(message.contains(expected), "{message}");
    }
    let beyond = Loader::new(
        Arc::clone(&images),
        Arc::new(vec![230]),
        LoaderConfig {
            batch_size: 1,
            ..LoaderConfig::default()
        },
    );
    assert!(beyond.unwrap_err().to_string().contains("indices = 230"));
}
