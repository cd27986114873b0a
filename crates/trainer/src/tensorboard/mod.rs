//! TensorBoard's event files, written by hand: scalars, histograms and images.
//!
//! A file is a sequence of records, `u64 length, u32 crc(length), bytes, u32 crc(bytes)`, little-endian; crc is the masked
//! CRC-32C. The bytes are a protobuf `Event { wall_time: 1 f64, step: 2 i64, file_version: 3 string, summary: 5 }`
//! with `Summary { value: 1 { tag: 1 string, simple_value: 2 f32 | image: 4 | histo: 5 } }`,
//! `Image { height: 1, width: 2, colorspace: 3, encoded_image_string: 4 }` and `HistogramProto { min: 1, max: 2, num: 3, sum: 4,
//! sum_squares: 5 f64; bucket_limit: 6, bucket: 7 packed f64 }`. The embedding projector reads files beside it ([`projector`]).

mod histogram;
pub(crate) mod projector;
mod wire;

pub use histogram::Histogram;

use self::wire::{double, doubles, field, int, masked_crc, varint};
use crate::Result;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes TensorBoard events.
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

    /// Writes a histogram of one step.
    pub fn histogram(&mut self, step: usize, tag: &str, histogram: &Histogram) -> Result<()> {
        let mut body = Vec::new();
        double(&mut body, 1, histogram.min);
        double(&mut body, 2, histogram.max);
        double(&mut body, 3, histogram.count as f64);
        double(&mut body, 4, histogram.sum);
        double(&mut body, 5, histogram.sum_of_squares);
        let buckets = histogram.buckets();
        doubles(&mut body, 6, buckets.iter().map(|(limit, _)| *limit));
        doubles(&mut body, 7, buckets.iter().map(|(_, count)| *count as f64));
        self.value(step, tag, 5, &body)
    }

    /// Writes an image of one step, as PNG bytes.
    pub fn image(
        &mut self,
        step: usize,
        tag: &str,
        (height, width): (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        let mut body = Vec::new();
        int(&mut body, 1, height as u64);
        int(&mut body, 2, width as u64);
        int(&mut body, 3, 3); // RGB
        field(&mut body, 4, png);
        self.value(step, tag, 4, &body)
    }

    /// A summary with one value, a message in the field `number`.
    fn value(&mut self, step: usize, tag: &str, number: u8, body: &[u8]) -> Result<()> {
        let mut value = Vec::new();
        field(&mut value, 1, tag.as_bytes());
        field(&mut value, number, body);
        let mut summary = Vec::new();
        field(&mut summary, 1, &value);
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

#[cfg(test)]
mod tests {
    use super::*;

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
