//! Large batches on a small machine: a batch is embedded chunk by chunk, its contrastive loss is that of the whole batch.
//!
//! 1. Every chunk goes through the networks without a graph; only its embeddings are kept.
//! 2. The loss of the whole batch gives its exact ∂L/∂z, on tiles of the similarity matrix.
//! 3. Every chunk goes through the networks again, with a graph, and Σ z · ∂L/∂z (the latter a constant) is back-propagated: by the
//!    chain rule the parameters receive ∂L/∂θ, chunk by chunk.
//!
//! The sum over chunks equals the gradient of one piece up to rounding, with one difference that is no rounding: **batch norm sees
//! a chunk at a time**, as it sees the share of a GPU in data-parallel training. Both passes see the same pixels and the same
//! statistics; the running statistics move in the second pass only, once for each chunk.
//!
//! Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache, arXiv
//! 2101.06983).

use std::ops::Range;

use candle_core::{Tensor, Var};

use crate::feed::Batch;
use crate::optimizer::Trainable;
use crate::{Gradients, Result};

/// The loss of a whole batch and what follows from it.
pub(crate) struct Whole<T> {
    /// What the loss said beside its value.
    pub said: T,
    /// Embeddings of the batch `[V·B, E]`, view-major.
    pub z: Tensor,
    /// ∂L/∂θ, one part.
    pub gradients: Gradients,
}

/// Embeds `batch` in chunks of at most `chunk` images and back-propagates `loss` of all embeddings.
///
/// `embed` maps rows `[V·b, …]` of one chunk to embeddings `[V·b, E]`; it is told whether a graph is wanted. `loss` gives a scalar and
/// whatever else it has to say.
pub(crate) fn whole_batch<T>(
    batch: &Batch,
    chunk: usize,
    parameters: &[Trainable],
    embed: impl Fn(&Tensor, bool) -> Result<Tensor>,
    loss: impl FnOnce(&Tensor) -> Result<(Tensor, T)>,
) -> Result<Whole<T>> {
    let images = batch.labels.len();
    let chunks = batch.cuts(images.div_ceil(chunk.max(1)));
    let mut parts = Vec::with_capacity(chunks.len());
    for range in &chunks {
        let z = embed(&batch.part(range.clone())?.input, false)?;
        parts.push(by_view(&z, batch.views)?); // [V, b, E]
    }
    let z = Tensor::cat(&parts, 1)?.flatten(0, 1)?; // [V·B, E]
    drop(parts);
    let z = Var::from_tensor(&z)?;
    let (value, said) = loss(&z)?;
    let mut store = value.backward()?;
    let mut gradients = Gradients::new();
    gradients.take(&mut store, parameters)?; // those of the loss' own parameters
    if let Some(slope) = store.remove(&z) {
        let slope = by_view(&slope, batch.views)?; // [V, B, E]
        for range in &chunks {
            let z = embed(&batch.part(range.clone())?.input, true)?; // [V·b, E]
            let slope = part_of(&slope, range)?; // [V·b, E]
            gradients.add(&(z * slope)?.sum_all()?, parameters)?;
        }
    }
    gradients.count_as_one();
    Ok(Whole {
        said,
        z: z.as_detached_tensor(),
        gradients,
    })
}

/// `[V·b, E]` → `[V, b, E]`.
fn by_view(rows: &Tensor, views: usize) -> Result<Tensor> {
    let (count, width) = rows.dims2()?;
    Ok(rows.reshape((views, count / views, width))?)
}

/// The rows of some images: `[V, B, E]` → `[V·b, E]`.
fn part_of(rows: &Tensor, images: &Range<usize>) -> Result<Tensor> {
    let part = rows.narrow(1, images.start, images.len())?;
    Ok(part.contiguous()?.flatten(0, 1)?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use candle_core::Device;
    use resnet::{Arch, Mode, Parameters};

    use super::*;
    use crate::model::{Contrastive, Encoder};
    use crate::recipe::{Model, Recipe};
    use crate::step::Place;
    use crate::{Arm, StageId, StageKind, training_thread};

    fn recipe(loss: &str, chunk: Option<usize>) -> Recipe {
        let mut recipe = Recipe {
            model: Model {
                arch: Arch::ResNet18,
                width: 0.125,
                ..Model::default()
            },
            ..Recipe::default()
        };
        recipe.pretrain.loss = loss.parse().unwrap();
        recipe.pretrain.chunk = chunk;
        recipe.pretrain.projection.dim = 16;
        recipe.pretrain.projection.batch_norm = true;
        recipe
    }

    fn model(recipe: &Recipe) -> Contrastive {
        let encoder = Encoder::new(&recipe.model, recipe.seed, &Device::Cpu).unwrap();
        Contrastive::new(recipe, encoder, 10, &Device::Cpu).unwrap()
    }

    /// At a step where the monitor takes no closer look.
    fn place() -> Place {
        Place {
            seed: 0,
            stage: StageId {
                arm: Arm::Contrastive,
                kind: StageKind::Pretrain,
            },
            epoch: 0,
            step: 1,
            part: 0,
        }
    }

    fn batch(images: usize, views: usize, side: usize) -> Batch {
        let count = views * images * side * side * 3;
        let pixels = (0..count).map(|k| ((k as f32) * 0.37 + (k / 97) as f32).sin());
        let input = Tensor::from_vec(
            pixels.collect(),
            (views * images, side, side, 3),
            &Device::Cpu,
        );
        Batch {
            input: input.unwrap(),
            labels: (0..images as u32).map(|i| i % 5).collect(),
            views,
        }
    }

    fn largest_difference(a: &Gradients, b: &Gradients) -> f64 {
        let (mut worst, mut size) = (0f64, 0f64);
        for (a, b) in a.sums().iter().zip(b.sums()) {
            let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
            let largest = |t: Tensor| {
                f64::from(
                    t.abs()
                        .unwrap()
                        .max_all()
                        .unwrap()
                        .to_scalar::<f32>()
                        .unwrap(),
                )
            };
            worst = worst.max(largest((a - b).unwrap()));
            size = size.max(largest(b.clone()));
        }
        worst / size
    }

    fn buffers(parameters: &Parameters) -> Vec<Vec<f32>> {
        let names = ["bn1.running_mean", "layer4.1.bn2.running_var"];
        let read = |name: &&str| parameters.get(name).unwrap().to_vec1::<f32>().unwrap();
        names.iter().map(read).collect()
    }

    /// The graph of all chunks kept together: one piece, batch norm by chunks.
    #[test]
    fn chunks_give_the_gradient_of_one_piece() {
        training_thread(|| {
            for (loss, views, chunk) in [
                ("supcon_out", 1, 8),
                ("npairs", 2, 5),
                ("nt_xent", 2, 7),
                ("supcon_in", 1, 13),
            ] {
                let recipe = recipe(loss, Some(chunk));
                let batch = batch(24, views, 16);
                let chunked = model(&recipe);
                let got = chunked.forward(&batch, &place())?;

                let one = model(&recipe);
                let mut parts = Vec::new();
                for range in batch.cuts(24usize.div_ceil(chunk)) {
                    let z = one.embed(&batch.part(range)?.input, Mode::Train)?;
                    parts.push(by_view(&z, views)?);
                }
                let z = Tensor::cat(&parts, 1)?.flatten(0, 1)?;
                let value = one.loss.forward(&z, &batch.labels, views)?.mean()?;
                let mut expected = Gradients::new();
                expected.add(&value, &Trainable::of(&one.groups()))?;

                let off = largest_difference(&got.gradients.unwrap(), &expected);
                assert!(off < 2e-5, "{loss}: off by {off:e}");
                let (a, b) = (got.loss.to_scalar::<f32>()?, value.to_scalar::<f32>()?);
                assert!((a - b).abs() < 1e-6 * b.abs(), "{loss}: {a} {b}");
                // The statistics have moved as often, by the same batches.
                assert_eq!(
                    buffers(&chunked.encoder.parameters),
                    buffers(&one.encoder.parameters)
                );
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_first_pass_leaves_no_graph_and_no_trace() {
        training_thread(|| {
            let model = model(&recipe("npairs", None));
            let batch = batch(6, 1, 16);
            let before = buffers(&model.encoder.parameters);
            let rehearsed = model.embed(&batch.input, Mode::Rehearse)?;
            assert!(!rehearsed.track_op());
            assert_eq!(buffers(&model.encoder.parameters), before);
            let trained = model.embed(&batch.input, Mode::Train)?;
            assert_eq!(rehearsed.to_vec2::<f32>()?, trained.to_vec2::<f32>()?);
            assert_ne!(buffers(&model.encoder.parameters), before);
            Ok(())
        })
        .unwrap();
    }

    /// A line of `/proc/self/status`, in MB.
    fn memory(field: &str) -> Option<f64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1e3)
    }

    /// Peak memory above the images of some steps, in a process of its own whose allocator gives large blocks back at once: what is
    /// held, not what an allocator keeps.
    #[test]
    fn a_batch_of_4096_trains_in_the_memory_of_256() {
        const INNER: &str = "TRAINER_CHUNK_MEMORY";
        const NAME: &str = "chunked::tests::a_batch_of_4096_trains_in_the_memory_of_256";
        if memory("VmHWM:").is_none() {
            return; // only Linux tells
        }
        if let Ok(task) = std::env::var(INNER) {
            let images: usize = task.parse().unwrap();
            training_thread(|| {
                let batch = batch(images, 1, 32);
                let mut recipe = recipe("supcon_out", (images > 256).then_some(256));
                recipe.model.width = 0.25;
                let model = model(&recipe);
                let parameters = Trainable::of(&model.groups());
                let before = memory("VmRSS:").unwrap();
                // Again and again: later forward passes find every thread's scratch space there, as the chunks of a batch do.
                for _ in 0..6 {
                    let out = model.forward(&batch, &place())?;
                    let gradients = match out.gradients {
                        Some(gradients) => gradients,
                        None => {
                            let mut gradients = Gradients::new();
                            gradients.add(&out.loss, &parameters)?;
                            gradients
                        }
                    };
                    assert!(gradients.norm()? > 0.0);
                }
                let cells: usize = parameters.iter().map(|p| p.var.elem_count()).sum();
                let peak = memory("VmHWM:").unwrap() - before;
                println!("peak {peak:.2} {:.2} MB", 4.0 * cells as f64 / 1e6);
                Ok(())
            })
            .unwrap();
            return;
        }
        let measured = |images: usize| -> [f64; 2] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env(INNER, images.to_string())
                .env("MALLOC_ARENA_MAX", "1")
                .env("MALLOC_MMAP_THRESHOLD_", "65536")
                .env("MALLOC_MMAP_MAX_", "1000000")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let start = text.find("peak ").unwrap_or_else(|| panic!("{output:?}"));
            let mut words = text[start + 5..].split(' ');
            [(); 2].map(|()| words.next().unwrap().parse().unwrap())
        };
        let ([small, gradients], [large, _]) = (measured(256), measured(4096));
        // In one piece it would be sixteen times as much. What a large batch adds to a chunk's activations and gradients: the sums of
        // the chunks before, and the embeddings, as they are and in unit rows, with the gradients of both (4096 × 16 each). 2 MB are
        // left for the small blocks of the heap.
        let embeddings = 4.0 * (4096.0 * 16.0 * 4.0) / 1e6;
        let allowed = small + gradients + embeddings + 2.0;
        assert!(
            large < allowed,
            "4096 images took {large} MB, 256 take {small} MB: at most {allowed:.1} MB"
        );
        assert!(
            allowed < 1.2 * small,
            "the bound says nothing: {allowed} {small}"
        );
    }
}
