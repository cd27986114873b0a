//! An ONNX graph: nodes in running order, tensors by name, one input and some outputs.

use candle_core::{DType, Tensor};

use super::protobuf::Message;
use crate::Result;

/// ONNX's numbers of element types.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// An attribute of a node.
pub(super) enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

/// One side of a tensor's shape.
pub(super) enum Side {
    /// Known.
    Is(usize),
    /// Any number, under a name.
    Any(&'static str),
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct Graph {
    message: Message,
    values: usize,
}

impl Graph {
    pub(super) fn new(name: &str) -> Self {
        Self {
            message: Message::new().text(2, name),
            values: 0,
        }
    }

    /// Appends a node with one output and returns the output's name.
    pub(super) fn node(
        &mut self,
        kind: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) -> String {
        self.values += 1;
        let output = format!("{}_{}", kind.to_lowercase(), self.values);
        self.node_to(&output, kind, inputs, attributes);
        output
    }

    /// Appends a node whose output has this name.
    pub(super) fn node_to(
        &mut self,
        output: &str,
        kind: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute<'_>)],
    ) {
        let mut node = Message::new();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, output).text(3, output).text(4, kind);
        for (name, value) in attributes {
            let attribute = Message::new().text(1, name);
            let attribute = match value {
                Attribute::Float(value) => attribute.float(2, *value).int(20, 1),
                Attribute::Int(value) => attribute.int(3, *value).int(20, 2),
                Attribute::Text(value) => attribute.text(4, value).int(20, 3),
                Attribute::Ints(values) => attribute.ints(8, values).int(20, 7),
            };
            node = node.message(5, &attribute);
        }
        self.message = std::mem::take(&mut self.message).message(1, &node);
    }

    /// Adds a tensor of f32 under its name.
    pub(super) fn tensor(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let dims: Vec<i64> = value.dims().iter().map(|&side| side as i64).collect();
        let flat = value
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let raw: Vec<u8> = flat.into_iter().flat_map(f32::to_le_bytes).collect();
        self.initializer(name, &dims, FLOAT, &raw);
        Ok(())
    }

    /// Adds a list of integers under its name.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.initializer(name, &[values.len() as i64], INT64, &raw);
    }

    fn initializer(&mut self, name: &str, dims: &[i64], kind: i64, raw: &[u8]) {
        let tensor = Message::new()
            .ints(1, dims)
            .int(2, kind)
            .text(8, name)
            .bytes(9, raw);
        self.message = std::mem::take(&mut self.message).message(5, &tensor);
    }

    /// Declares the input.
    pub(super) fn input(&mut self, name: &str, shape: &[Side]) {
        self.message = std::mem::take(&mut self.message).message(11, &value_info(name, shape));
    }

    /// Declares an output.
    pub(super) fn output(&mut self, name: &str, shape: &[Side]) {
        self.message = std::mem::take(&mut self.message).message(12, &value_info(name, shape));
    }

    pub(super) fn into_message(self) -> Message {
        self.message
    }
}

fn value_info(name: &str, shape: &[Side]) -> Message {
    let mut sides = Message::new();
    for side in shape {
        let side = match side {
            Side::Is(length) => Message::new().int(1, *length as i64),
            Side::Any(name) => Message::new().text(2, name),
        };
        sides = sides.message(1, &side);
    }
    let tensor = Message::new().int(1, FLOAT).message(2, &sides);
    Message::new()
        .text(1, name)
        .message(2, &Message::new().message(1, &tensor))
}
