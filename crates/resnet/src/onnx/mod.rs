//! A network as an ONNX model (opset 18), for runtimes that know nothing of this crate.
//!
//! The input is `images` `[batch, 3, height, width]`, f32, RGB, normalised, channels first as in PyTorch; the outputs are `features`
//! `[batch, D]` and, with a head, `logits` `[batch, classes]`. The batch is dynamic, the size of an image fixed. Batch norm stays a node
//! of its own with the running statistics: runtimes fold it, and the tensors keep their names.
//!
//! The file is written without a protobuf library: a model is six kinds of message, which [`protobuf`] and [`graph`] write in a
//! hundred lines; a generated one would bring a procedural macro and two crates.

mod graph;
mod protobuf;

use std::collections::BTreeMap;

use candle_core::Tensor;

use self::graph::{
    Attribute::{Float, Int, Ints, Text},
    Graph,
    Side::{Any, Is},
};
use self::protobuf::Message;
use crate::{Arch, Error, Parameters, ResNetConfig, Result, Stem};

/// The version of ONNX's operators.
const OPSET: i64 = 18;
/// The version of ONNX's file format: the one that opset 18 came with.
const IR_VERSION: i64 = 8;

/// What an ONNX model is made of beside the encoder's parameters.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions<'a> {
    /// Rows and columns of an image.
    pub size: (usize, usize),
    /// A classifier head's parameters; with them, there are `logits`.
    pub head: Option<&'a Parameters>,
    /// Notes that stay with the model: its `metadata_props`.
    pub metadata: BTreeMap<String, String>,
}

/// The bytes of an ONNX model of this encoder.
///
/// # Errors
/// If a parameter of the configuration's network is missing, or a size is 0.
///
/// ```
/// use candle_core::Device;
/// use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
/// use resnet::{Arch, OnnxOptions, Parameters, ResNet, ResNetConfig, Stem};
///
/// let config = ResNetConfig { width: 0.125, ..ResNetConfig::new(Arch::ResNet18, Stem::Cifar) };
/// let mut parameters = Parameters::new(&Device::Cpu);
/// ResNet::new(&config, &mut parameters, &mut ChaCha8Rng::seed_from_u64(0))?;
/// let options = OnnxOptions { size: (32, 32), ..OnnxOptions::default() };
/// let bytes = resnet::to_onnx(&config, &parameters, &options)?;
/// assert!(bytes.len() > 4 * parameters.count());
/// # Ok::<(), resnet::Error>(())
/// ```
pub fn to_onnx(
    config: &ResNetConfig,
    encoder: &Parameters,
    options: &OnnxOptions<'_>,
) -> Result<Vec<u8>> {
    let (height, width) = options.size;
    if height == 0 || width == 0 {
        let size = format!("{height}×{width}");
        return Err(Error::config("size", size, "an image needs pixels"));
    }
    let mut writer = Writer {
        graph: Graph::new(config.arch.name()),
        tensors: encoder.to_tensors()?,
        epsilon: match config.arch {
            Arch::ResNet50V2 => 1.001e-5,
            _ => 1e-5,
        },
    };
    let graph = &mut writer.graph;
    graph.input("images", &[Any("batch"), Is(3), Is(height), Is(width)]);
    let mut h = "images".to_owned();
    if let Some(side) = config.upsample {
        graph.integers("upsample.sizes", &[side as i64; 2]);
        let attributes = [
            ("axes", Ints(&[2, 3])),
            ("mode", Text("linear")),
            ("coordinate_transformation_mode", Text("half_pixel")),
        ];
        h = graph.node("Resize", &[&h, "", "", "upsample.sizes"], &attributes);
    }
    let (h, dim) = match config.arch {
        Arch::ResNet50V2 => writer.keras(config, h)?,
        _ => writer.torch(config, h)?,
    };
    let graph = &mut writer.graph;
    let pooled = graph.node("GlobalAveragePool", &[&h], &[]);
    graph.node_to("features", "Flatten", &[&pooled], &[("axis", Int(1))]);
    graph.output("features", &[Any("batch"), Is(dim)]);
    if let Some(head) = options.head {
        writer.tensors = head.to_tensors()?;
        let classes = writer.head()?;
        writer.graph.output("logits", &[Any("batch"), Is(classes)]);
    }
    let mut model = Message::new()
        .int(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &writer.graph.into_message())
        .message(8, &Message::new().text(1, "").int(2, OPSET));
    for (key, value) in &options.metadata {
        model = model.message(14, &Message::new().text(1, key).text(2, value));
    }
    Ok(model.into_bytes())
}

/// Writes layers by the names of their parameters.
struct Writer {
    graph: Graph,
    /// In file layout: convolutions `[O, I, kh, kw]`, as ONNX has them.
    tensors: BTreeMap<String, Tensor>,
    epsilon: f32,
}

impl Writer {
    /// torchvision's network up to the last block: its output and the number of channels.
    fn torch(&mut self, config: &ResNetConfig, x: String) -> Result<(String, usize)> {
        let stride = if config.stem == Stem::ImageNet { 2 } else { 1 };
        let mut h = self.conv("conv1", &x, stride)?;
        h = self.norm("bn1", &h)?;
        h = self.relu(&h);
        if config.stem == Stem::ImageNet {
            h = self.max_pool(&h, 3, 2, 1);
        }
        let layers = if config.arch.expansion() > 1 { 3 } else { 2 };
        // The 3×3 convolution strides: the first of a basic block, the second of a bottleneck.
        let strided = layers - 1;
        for (stage, depth) in config.arch.depths().into_iter().enumerate() {
            for index in 0..depth {
                let name = format!("layer{}.{index}", stage + 1);
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let shortcut = match self.has(&format!("{name}.downsample.0")) {
                    true => {
                        let y = self.conv(&format!("{name}.downsample.0"), &h, stride)?;
                        self.norm(&format!("{name}.downsample.1"), &y)?
                    }
                    false => h.clone(),
                };
                for layer in 1..=layers {
                    let stride = if layer == strided { stride } else { 1 };
                    h = self.conv(&format!("{name}.conv{layer}"), &h, stride)?;
                    h = self.norm(&format!("{name}.bn{layer}"), &h)?;
                    if layer == layers {
                        h = self.graph.node("Add", &[&h, &shortcut], &[]);
                    }
                    h = self.relu(&h);
                }
            }
        }
        Ok((h, config.channels(512) * config.arch.expansion()))
    }

    /// Keras' ResNet50V2 up to its last activation.
    fn keras(&mut self, config: &ResNetConfig, x: String) -> Result<(String, usize)> {
        let stride = if config.stem == Stem::ImageNet { 2 } else { 1 };
        let mut h = self.conv("conv1_conv", &x, stride)?;
        if config.stem == Stem::ImageNet {
            // Padded with zeros, which matter where activations are negative.
            self.graph.integers("pool1.pads", &[0, 0, 1, 1, 0, 0, 1, 1]);
            h = self.graph.node("Pad", &[&h, "pool1.pads"], &[]);
            h = self.max_pool(&h, 3, 2, 0);
        }
        for (stage, depth) in config.arch.depths().into_iter().enumerate() {
            for index in 0..depth {
                let name = format!("conv{}_block{}", stage + 2, index + 1);
                let stride = if stage < 3 && index + 1 == depth {
                    2
                } else {
                    1
                };
                let p = self.norm(&format!("{name}_preact_bn"), &h)?;
                let p = self.relu(&p);
                let shortcut = match self.has(&format!("{name}_0_conv")) {
                    true => self.conv(&format!("{name}_0_conv"), &p, stride)?,
                    false if stride > 1 => self.max_pool(&h, 1, stride, 0),
                    false => h.clone(),
                };
                let mut y = p;
                for (layer, stride) in [(1, 1), (2, stride)] {
                    y = self.conv(&format!("{name}_{layer}_conv"), &y, stride)?;
                    y = self.norm(&format!("{name}_{layer}_bn"), &y)?;
                    y = self.relu(&y);
                }
                y = self.conv(&format!("{name}_3_conv"), &y, 1)?;
                h = self.graph.node("Add", &[&shortcut, &y], &[]);
            }
        }
        let h = self.norm("post_bn", &h)?;
        Ok((
            self.relu(&h),
            config.channels(512) * config.arch.expansion(),
        ))
    }

    /// `features` to `logits`: `fc`, or `fc.1`, ReLU, `fc.4` (dropout does nothing outside of training).
    fn head(&mut self) -> Result<usize> {
        let (last, input) = match self.has("fc.1") {
            true => {
                let hidden = self.linear("fc.1", "features", None)?;
                ("fc.4", self.relu(&hidden))
            }
            false => ("fc", "features".to_owned()),
        };
        let classes = self.get(&format!("{last}.bias"))?.elem_count();
        self.linear(last, &input, Some("logits"))?;
        Ok(classes)
    }

    fn has(&self, layer: &str) -> bool {
        self.tensors.contains_key(&format!("{layer}.weight"))
    }

    fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::Parameter {
            name: name.to_owned(),
            problem: "missing: the parameters are not those of the configuration's network"
                .to_owned(),
        })
    }

    /// Puts a parameter into the graph and returns its name.
    fn parameter(&mut self, name: String) -> Result<String> {
        let value = self.get(&name)?.clone();
        self.graph.tensor(&name, &value)?;
        Ok(name)
    }

    fn conv(&mut self, name: &str, x: &str, stride: usize) -> Result<String> {
        let weight = self.parameter(format!("{name}.weight"))?;
        let kernel = self.get(&weight)?.dims()[2] as i64;
        let mut inputs = vec![x.to_owned(), weight];
        if self.tensors.contains_key(&format!("{name}.bias")) {
            inputs.push(self.parameter(format!("{name}.bias"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = [
            ("kernel_shape", Ints(&[kernel; 2])),
            ("strides", Ints(&[stride as i64; 2])),
            ("pads", Ints(&[kernel / 2; 4])),
        ];
        Ok(self.graph.node("Conv", &inputs, &attributes))
    }

    fn norm(&mut self, name: &str, x: &str) -> Result<String> {
        let mut inputs = vec![x.to_owned()];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.parameter(format!("{name}.{part}"))?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes = [("epsilon", Float(self.epsilon))];
        Ok(self.graph.node("BatchNormalization", &inputs, &attributes))
    }

    fn relu(&mut self, x: &str) -> String {
        self.graph.node("Relu", &[x], &[])
    }

    fn max_pool(&mut self, x: &str, kernel: i64, stride: usize, pad: i64) -> String {
        let attributes = [
            ("kernel_shape", Ints(&[kernel; 2])),
            ("strides", Ints(&[stride as i64; 2])),
            ("pads", Ints(&[pad; 4])),
        ];
        self.graph.node("MaxPool", &[x], &attributes)
    }

    fn linear(&mut self, name: &str, x: &str, output: Option<&str>) -> Result<String> {
        let weight = self.parameter(format!("{name}.weight"))?;
        let bias = self.parameter(format!("{name}.bias"))?;
        let (inputs, attributes) = ([x, &weight, &bias], [("transB", Int(1))]);
        Ok(match output {
            Some(output) => {
                self.graph.node_to(output, "Gemm", &inputs, &attributes);
                output.to_owned()
            }
            None => self.graph.node("Gemm", &inputs, &attributes),
        })
    }
}
