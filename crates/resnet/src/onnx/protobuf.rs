//! The wire format of protocol buffers, as much of it as a model needs: varints, 32-bit numbers, and fields that have a length.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// An integer (`int64`, `int32`, an enumeration); negative ones take ten bytes, as the format has it.
    #[must_use]
    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    /// Several integers, one after the other.
    #[must_use]
    pub(super) fn ints(self, field: u64, values: &[i64]) -> Self {
        values
            .iter()
            .fold(self, |message, &value| message.int(field, value))
    }

    /// A `float`.
    #[must_use]
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Bytes.
    #[must_use]
    pub(super) fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A string.
    #[must_use]
    pub(super) fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message inside this one.
    #[must_use]
    pub(super) fn message(self, field: u64, inner: &Self) -> Self {
        self.bytes(field, &inner.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's own documentation (protobuf.dev, Encoding).
    #[test]
    fn messages_are_those_of_the_documentation() {
        assert_eq!(Message::new().int(1, 150).into_bytes(), [0x08, 0x96, 0x01]);
        assert_eq!(
            Message::new().text(2, "testing").into_bytes(),
            b"\x12\x07testing"
        );
        let inner = Message::new().int(1, 150);
        assert_eq!(
            Message::new().message(3, &inner).into_bytes(),
            b"\x1a\x03\x08\x96\x01"
        );
        assert_eq!(
            Message::new().int(1, -2).into_bytes(),
            b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        );
        assert_eq!(
            Message::new().float(2, 1.0).ints(20, &[1, 2]).into_bytes(),
            b"\x15\0\0\x80\x3f\xa0\x01\x01\xa0\x01\x02"
        );
    }
}
