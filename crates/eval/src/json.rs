//! JSON as a person wants to read it: objects over several lines, lists of numbers on one, matrices row by row.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::error::{Error, Result};

/// `value` as JSON text with a final newline.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(
            &mut bytes,
            Layout::default(),
        ))
        .map_err(|error| {
            Error::Invalid(format!("the results cannot be written as JSON: {error}"))
        })?;
    bytes.push(b'\n');
    String::from_utf8(bytes)
        .map_err(|error| Error::Invalid(format!("the results are not UTF-8: {error}")))
}

/// One entry per open list or object: did anything inside ask for a line of its own?
#[derive(Default)]
struct Layout {
    open: Vec<Open>,
}

#[derive(Clone, Copy)]
struct Open {
    list: bool,
    broken: bool,
}

impl Layout {
    fn new_line<W: ?Sized + Write>(&self, to: &mut W) -> io::Result<()> {
        to.write_all(b"\n")?;
        (0..self.open.len()).try_for_each(|_| to.write_all(b"  "))
    }

    /// Lists and objects inside a list go on lines of their own.
    fn enter<W: ?Sized + Write>(
        &mut self,
        to: &mut W,
        list: bool,
        bracket: &[u8],
    ) -> io::Result<()> {
        if self.open.last().is_some_and(|outer| outer.list) {
            self.new_line(to)?;
            if let Some(outer) = self.open.last_mut() {
                outer.broken = true;
            }
        }
        self.open.push(Open {
            list,
            broken: false,
        });
        to.write_all(bracket)
    }

    fn leave<W: ?Sized + Write>(&mut self, to: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.open.pop().is_some_and(|inner| inner.broken) {
            self.new_line(to)?;
        }
        to.write_all(bracket)
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.enter(to, true, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.leave(to, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b"," })
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.enter(to, false, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.leave(to, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        if let Some(object) = self.open.last_mut() {
            object.broken = true;
        }
        to.write_all(if first { b"" } else { b"," })?;
        self.new_line(to)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_on_a_line_matrices_by_row_objects_by_key() {
        let value = serde_json::json!({
            "a": [1, 2], "empty": [], "m": [[1, 0], [0, 2]], "none": {}, "o": {"x": [{"y": 1.5}, {"y": null}]}
        });
        let expected = "{\n  \"a\": [1,2],\n  \"empty\": [],\n  \"m\": [\n    [1,0],\n    [0,2]\n  ],\n  \"none\": {},\n  \
                        \"o\": {\n    \"x\": [\n      {\n        \"y\": 1.5\n      },\n      {\n        \"y\": null\n      }\n    ]\n  }\n}\n";
        let text = to_json(&value).unwrap();
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
