//! TensorBoard's event files: scalars only, written by hand.
//!
//! A file is a sequence of records, `u64 length, u32 crc(length), bytes, u32 crc(bytes)`, little-endian; crc is the masked
//! CRC-32C. The bytes are a protobuf `Event { wall_time: 1 f64, step: 2 i64, file_version: 3 string, summary: 5 }`
//! with `Summary { value: 1 { tag: 1 string, simple_value: 2 f32 } }`.

use crate::Result;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes scalars as TensorBoard events.
#[derive(Debug)]
pub struct TensorBoard<W> {
    out: W,
}

impl<W: Write> TensorBoard<W> {
    /// A new file: its first record names the format's version.
    pub fn new(out: W) -> Result<Self> {
        let mut writer = Self { out };
        let mut event = Vec::new();
        field(&mut event, 3, b"brain.Event:2");
        writer.record(0, event)?;
        Ok(writer)
    }

    /// Goes on at the end of a file that [`new`](Self::new) began.
    pub fn append(out: W) -> Self {
        Self { out }
    }

    /// Writes scalars of one step, each under its tag.
    pub fn scalars(&mut self, step: usize, values: &[(String, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut scalar = Vec::new();
            field(&mut scalar, 1, tag.as_bytes());
            scalar.push(2 << 3 | 5); // field 2, four bytes
            scalar.extend_from_slice(&(*value as f32).to_le_bytes());
            field(&mut summary, 1, &scalar);
        }
        let mut event = Vec::new();
        field(&mut event, 5, &summary);
        self.record(step, event)
    }

    /// The file itself.
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn record(&mut self, step: usize, body: Vec<u8>) -> Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64();
        let mut event = vec![1 << 3 | 1]; // field 1, eight bytes
        event.extend_from_slice(&now.to_le_bytes());
        event.push(2 << 3); // field 2, varint
        varint(&mut event, step as u64);
        event.extend_from_slice(&body);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend_from_slice(&masked_crc(&length).to_le_bytes());
        record.extend_from_slice(&event);
        record.extend_from_slice(&masked_crc(&event).to_le_bytes());
        Ok(self.out.write_all(&record)?)
    }
}

/// A length-delimited protobuf field.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit from a table made at compile time.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ 0x82f6_3b78
                } else {
                    crc >> 1
                };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| {
        crc >> 8 ^ TABLE[(crc as u8 ^ byte) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    /// Reads records back, checking lengths and checksums.
    fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            assert_eq!(masked_crc(&bytes[..8]).to_le_bytes(), bytes[8..12]);
            let body = &bytes[12..12 + length];
            assert_eq!(
                masked_crc(body).to_le_bytes(),
                bytes[12 + length..16 + length]
            );
            records.push(body.to_vec());
            bytes = &bytes[16 + length..];
        }
        records
    }

    #[test]
    fn records_decode_to_what_was_written() {
        let mut board = TensorBoard::new(Vec::new()).unwrap();
        board
            .scalars(300, &[("loss".to_owned(), 0.5), ("lr".to_owned(), 0.1)])
            .unwrap();
        let records = records(board.get_mut());
        assert_eq!(records.len(), 2);
        assert_eq!(&records[0][9..], b"\x10\x00\x1a\x0dbrain.Event:2");
        let mut expected = b"\x10\xac\x02\x2a\x17\x0a\x0b\x0a\x04loss\x15".to_vec();
        expected.extend_from_slice(&0.5f32.to_le_bytes());
        expected.extend_from_slice(b"\x0a\x09\x0a\x02lr\x15");
        expected.extend_from_slice(&0.1f32.to_le_bytes());
        expected[4] = (expected.len() - 5) as u8;
        assert_eq!(&records[1][9..], expected);
    }
}
