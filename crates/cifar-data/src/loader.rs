//! Batches, made ahead of the step that consumes them.
//!
//! A batch is a pure function of (seed, purpose, epoch, step): the order of an epoch comes from one stream, and every image
//! of every view from a stream of its own. Threads only decide who computes it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::augment::{Augmentation, Augmenter, Policy, Sample, Workspace};
use crate::error::{Error, Result, panic_message};
use crate::images::Images;
use crate::normalization::Normalization;
use crate::random::stream;
use crate::sampler::Sampler;

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images in a batch, B.
    pub batch_size: usize,
    /// Differently augmented views of each image, V.
    pub views: usize,
    /// What is done to an image.
    pub policy: Policy,
    /// Stands in for the policy's augmentation.
    pub augmentation: Option<Augmentation>,
    /// Fitted on the training images.
    pub normalization: Normalization,
    /// The order within an epoch.
    pub sampler: Sampler,
    /// The run's seed.
    pub seed: u64,
    /// What the batches are for; another purpose has other random numbers.
    pub purpose: String,
    /// Leave out the last batch of an epoch if it is not full.
    pub drop_last: bool,
    /// Batches made ahead, at least 1.
    pub prefetch: usize,
    /// Background threads; 0 is one per core.
    pub threads: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch_size: 256,
            views: 1,
            policy: Policy::None,
            augmentation: None,
            normalization: Normalization::IDENTITY,
            sampler: Sampler::Shuffle,
            seed: 0,
            purpose: "train".to_owned(),
            drop_last: true,
            prefetch: 4,
            threads: 0,
        }
    }
}

/// A batch of augmented images.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[V·B, H, W, 3]`, normalised; all of view 0, then all of view 1, …
    pub pixels: Vec<f32>,
    /// `[B]`.
    pub labels: Vec<u32>,
    /// `[B]`: where the images stand in the [`Images`] given to the loader.
    pub indices: Vec<u32>,
    /// V.
    pub views: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
}

/// Makes the batches of epochs.
#[derive(Clone, Debug)]
pub struct Loader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    images: Arc<Images>,
    indices: Arc<Vec<usize>>,
    labels: Vec<u32>,
    config: LoaderConfig,
    augmenter: Augmenter,
}

impl Loader {
    /// A loader over the images at `indices`.
    ///
    /// # Errors
    /// If a setting is out of range or does not fit the images; the message names it.
    pub fn new(
        images: Arc<Images>,
        indices: Arc<Vec<usize>>,
        config: LoaderConfig,
    ) -> Result<Self> {
        images.check()?;
        images.check_indices(&indices)?;
        for (field, value) in [
            ("batch_size", config.batch_size),
            ("views", config.views),
            ("prefetch", config.prefetch),
        ] {
            if value == 0 {
                return Err(Error::setting(field, 0, "it must be at least 1"));
            }
        }
        let least = if config.drop_last {
            config.batch_size
        } else {
            1
        };
        if indices.len() < least {
            return Err(Error::setting(
                "batch_size",
                config.batch_size,
                format!("{} images do not fill a batch", indices.len()),
            ));
        }
        let labels: Vec<u32> = indices.iter().map(|&index| images.labels[index]).collect();
        config.sampler.check(&labels, config.batch_size)?;
        let augmenter = Augmenter::new(
            config
                .augmentation
                .unwrap_or_else(|| config.policy.augmentation()),
            images.height,
            images.width,
            &config.normalization,
            config.seed,
        )?;
        Ok(Self {
            shared: Arc::new(Shared {
                images,
                indices,
                labels,
                config,
                augmenter,
            }),
        })
    }

    /// Batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.shared.steps()
    }

    /// What the loader was made with.
    pub fn config(&self) -> &LoaderConfig {
        &self.shared.config
    }

    /// The batches of `epoch` from `first_step` on, made by background threads that stop when the iterator is dropped.
    pub fn epoch(&self, epoch: usize, first_step: usize) -> EpochIter {
        EpochIter::start(Arc::clone(&self.shared), epoch, first_step)
    }
}

impl Shared {
    fn steps(&self) -> usize {
        let (images, batch) = (self.indices.len(), self.config.batch_size);
        if self.config.drop_last {
            images / batch
        } else {
            images.div_ceil(batch)
        }
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        let LoaderConfig {
            sampler,
            batch_size,
            seed,
            purpose,
            ..
        } = &self.config;
        sampler.order(&self.labels, *batch_size, *seed, purpose, epoch as u64)
    }

    fn batch(&self, order: &[usize], epoch: usize, step: usize, work: &mut Workspace) -> Batch {
        let config = &self.config;
        let start = step * config.batch_size;
        let picked = &order[start..(start + config.batch_size).min(order.len())];
        let size = self.images.image_len();
        let mut rng = stream(
            config.seed,
            &format!("{}: augment", config.purpose),
            &[epoch as u64, step as u64],
        );
        let mut pixels = vec![0.0; config.views * picked.len() * size];
        for (slot, out) in pixels.chunks_exact_mut(size).enumerate() {
            let (view, place) = (slot / picked.len(), slot % picked.len());
            let index = self.indices[picked[place]];
            // A ChaCha stream per image and view.
            rng.set_stream((place * config.views + view) as u64);
            rng.set_word_pos(0);
            self.augmenter.apply(
                self.images.image(index),
                out,
                Sample { index, epoch, view },
                &mut rng,
                work,
            );
        }
        Batch {
            pixels,
            labels: picked
                .iter()
                .map(|&position| self.labels[position])
                .collect(),
            indices: picked
                .iter()
                .map(|&position| self.indices[position] as u32)
                .collect(),
            views: config.views,
            height: self.images.height,
            width: self.images.width,
        }
    }
}

/// The batches of one epoch, in order. After an error there are no more.
#[derive(Debug)]
pub struct EpochIter {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
    end: usize,
}

/// What the threads and the consumer share.
#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The step the next free thread takes.
    claim: usize,
    /// The step the consumer waits for.
    wanted: usize,
    ready: BTreeMap<usize, Result<Batch>>,
    stop: bool,
}

impl Queue {
    /// No thread panics while it holds the lock, so a poisoned one is still sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl EpochIter {
    fn start(shared: Arc<Shared>, epoch: usize, first_step: usize) -> Self {
        let end = shared.steps();
        let queue = Arc::new(Queue {
            state: Mutex::new(State {
                claim: first_step,
                wanted: first_step,
                ready: BTreeMap::new(),
                stop: false,
            }),
            changed: Condvar::new(),
        });
        let mut iter = Self {
            queue,
            threads: Vec::new(),
            end,
        };
        if first_step >= end {
            return iter;
        }
        let order: Arc<Vec<usize>> = Arc::new(shared.order(epoch));
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let wanted = if shared.config.threads == 0 {
            cores()
        } else {
            shared.config.threads
        };
        for number in 0..wanted.min(shared.config.prefetch).min(end - first_step) {
            let (queue, shared, order) = (
                Arc::clone(&iter.queue),
                Arc::clone(&shared),
                Arc::clone(&order),
            );
            let thread = thread::Builder::new()
                .name(format!("loader {number}"))
                .spawn(move || work(&queue, &shared, &order, epoch, end));
            match thread {
                Ok(thread) => iter.threads.push(thread),
                // With at least one thread the epoch goes on, only slower.
                Err(error) if iter.threads.is_empty() => {
                    iter.queue
                        .lock()
                        .ready
                        .insert(first_step, Err(error.into()));
                }
                Err(_) => break,
            }
        }
        iter
    }
}

fn work(queue: &Queue, shared: &Shared, order: &[usize], epoch: usize, end: usize) {
    let mut scratch = Workspace::default();
    loop {
        let mut state = queue.lock();
        while !state.stop
            && state.claim < end
            && state.claim >= state.wanted + shared.config.prefetch
        {
            state = queue.wait(state);
        }
        if state.stop || state.claim >= end {
            return;
        }
        let step = state.claim;
        state.claim += 1;
        drop(state);
        let batch = catch_unwind(AssertUnwindSafe(|| {
            shared.batch(order, epoch, step, &mut scratch)
        }))
        .map_err(|panic| Error::Panic {
            epoch,
            step,
            message: panic_message(panic),
        });
        queue.lock().ready.insert(step, batch);
        queue.changed.notify_all();
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut state = self.queue.lock();
        if state.wanted >= self.end || state.stop {
            return None;
        }
        loop {
            let step = state.wanted;
            if let Some(batch) = state.ready.remove(&step) {
                state.wanted += 1;
                state.stop = batch.is_err();
                self.queue.changed.notify_all();
                return Some(batch);
            }
            state = self.queue.wait(state);
        }
    }
}

impl Drop for EpochIter {
    fn drop(&mut self) {
        self.queue.lock().stop = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A loader thread catches its panics, so there is nothing to learn from the result.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_thread_becomes_an_error_in_its_place_and_ends_the_epoch() {
        let images = Arc::new(Images {
            height: 1,
            width: 1,
            pixels: vec![7; 12],
            labels: vec![0; 4],
        });
        let config = LoaderConfig {
            batch_size: 1,
            sampler: Sampler::Sequential,
            threads: 3,
            ..LoaderConfig::default()
        };
        let good = Loader::new(images, Arc::new(vec![0, 1, 2, 3]), config).unwrap();
        // Past the checks of `new`: image 9 is not there.
        let shared = Arc::try_unwrap(good.shared).unwrap();
        let bad = Loader {
            shared: Arc::new(Shared {
                indices: Arc::new(vec![0, 1, 9, 3]),
                ..shared
            }),
        };
        let mut epoch = bad.epoch(6, 0);
        assert!(epoch.next().unwrap().is_ok() && epoch.next().unwrap().is_ok());
        let message = epoch.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("batch 2 of epoch 6"), "{message}");
        assert!(epoch.next().is_none());
    }
}
