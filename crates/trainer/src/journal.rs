//! What a run writes as it goes: `metrics.jsonl` and a TensorBoard event file.
//!
//! A checkpoint remembers how long both files were ([`JournalPosition`]); a resumed run cuts them back to that length, so
//! that no line stands twice.

use crate::{Event, Histogram, Observer, Result, StageId, StepEvent, TensorBoard};
use fs_err::File;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Metrics of every step and epoch, one JSON object per line.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// TensorBoard finds files by the word `tfevents`.
pub(crate) const EVENTS: &str = "events.out.tfevents.0.run";

/// How long both files were at a moment when they were safely on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JournalPosition {
    /// Bytes of `metrics.jsonl`.
    pub metrics: u64,
    /// Bytes of the event file.
    pub events: u64,
}

/// The two files.
#[derive(Debug)]
pub struct Journal {
    metrics: BufWriter<File>,
    board: TensorBoard<BufWriter<File>>,
    trouble: Option<crate::Error>,
    /// When what was written last became visible to others.
    shown: Instant,
}

/// Whoever watches a run sees its metrics this late at most, while it goes on.
const SHOW_EVERY: Duration = Duration::from_millis(500);

impl Journal {
    /// Opens both files in `folder`, cut back to `position`.
    pub fn open(folder: &Path, position: JournalPosition) -> Result<Self> {
        let metrics = cut_back(&folder.join(METRICS), position.metrics)?;
        let events = cut_back(&folder.join(EVENTS), position.events)?;
        let board = if position.events == 0 {
            TensorBoard::new(events)?
        } else {
            TensorBoard::append(events)
        };
        Ok(Self {
            metrics,
            board,
            trouble: None,
            shown: Instant::now(),
        })
    }

    /// Brings both files to disk and tells how long they are. Reports a write that failed earlier.
    pub fn sync(&mut self) -> Result<JournalPosition> {
        if let Some(error) = self.trouble.take() {
            return Err(error);
        }
        Ok(JournalPosition {
            metrics: settle(&mut self.metrics)?,
            events: settle(self.board.get_mut())?,
        })
    }

    /// Writes histograms of a stage's step, each under its tag.
    pub(crate) fn histograms(
        &mut self,
        stage: StageId,
        step: usize,
        kind: &str,
        histograms: &[(String, Histogram)],
    ) -> Result<()> {
        for (name, histogram) in histograms {
            let tag = format!("{stage}/{kind}/{name}");
            self.board.histogram(step, &tag, histogram)?;
        }
        Ok(())
    }

    /// Writes a picture of a stage's step.
    pub(crate) fn image(
        &mut self,
        stage: StageId,
        step: usize,
        name: &str,
        size: (usize, usize),
        png: &[u8],
    ) -> Result<()> {
        self.board
            .image(step, &format!("{stage}/{name}"), size, png)
    }

    fn record(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Step(step) => {
                self.line(step_line(step))?;
                let mut scalars = vec![("loss", step.loss), ("lr", step.lr)];
                let optional = [
                    ("accuracy", step.accuracy),
                    ("spread", step.spread),
                    ("grad_norm", step.grad_norm),
                    ("collapse", step.collapse),
                    ("floor", step.floor),
                    ("lonely", step.lonely),
                    ("alignment", step.alignment),
                    ("uniformity", step.uniformity),
                    ("effective_rank", step.effective_rank),
                    ("contrastive_top1", step.contrastive_top1),
                ];
                scalars.extend(
                    optional
                        .iter()
                        .filter_map(|(tag, value)| Some((*tag, (*value)?))),
                );
                scalars.push(("images_per_second", step.images_per_second));
                self.scalars(&step.stage.to_string(), step.global_step, &scalars)
            }
            Event::EpochEnd {
                stage,
                epoch,
                global_step,
                loss,
                accuracy,
                validation_accuracy,
                validation_loss,
                seconds,
                ..
            } => {
                self.line(json!({
                    "event": "epoch", "stage": stage.to_string(), "epoch": epoch, "global_step": global_step, "loss": loss,
                    "accuracy": accuracy, "validation_accuracy": validation_accuracy,
                    "validation_loss": validation_loss, "seconds": seconds,
                }))?;
                let mut scalars = vec![("epoch/loss", *loss)];
                let optional = [
                    ("epoch/accuracy", *accuracy),
                    ("epoch/validation_accuracy", *validation_accuracy),
                    ("epoch/validation_loss", *validation_loss),
                ];
                scalars.extend(
                    optional
                        .iter()
                        .filter_map(|(tag, value)| Some((*tag, (*value)?))),
                );
                self.scalars(&stage.to_string(), *global_step, &scalars)
            }
            Event::StageFinished {
                stage,
                seconds,
                validation_accuracy,
                test_top1,
            } => self.line(json!({
                "event": "stage", "stage": stage.to_string(), "seconds": seconds,
                "validation_accuracy": validation_accuracy, "test_top1": test_top1,
            })),
            Event::Warning { stage, message } => self.line(json!({
                "event": "warning", "stage": stage.map(|s| s.to_string()), "message": message,
            })),
            _ => Ok(()),
        }
    }

    /// Hands what is buffered to the operating system now and then; to disk it goes with the checkpoints.
    fn show(&mut self) -> Result<()> {
        if self.shown.elapsed() >= SHOW_EVERY {
            self.metrics.flush()?;
            self.board.get_mut().flush()?;
            self.shown = Instant::now();
        }
        Ok(())
    }

    fn line(&mut self, value: Value) -> Result<()> {
        let mut text = value.to_string();
        text.push('\n');
        Ok(self.metrics.write_all(text.as_bytes())?)
    }

    fn scalars(&mut self, stage: &str, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let values: Vec<_> = values
            .iter()
            .map(|(tag, value)| (format!("{stage}/{tag}"), *value))
            .collect();
        self.board.scalars(step, &values)
    }
}

impl Observer for Journal {
    fn event(&mut self, event: &Event) {
        if let Err(error) = self.record(event).and_then(|()| self.show()) {
            self.trouble.get_or_insert(error);
        }
    }
}

fn step_line(step: &StepEvent) -> Value {
    let mut line = Map::new();
    line.insert("event".to_owned(), json!("step"));
    line.insert("stage".to_owned(), json!(step.stage.to_string()));
    line.insert("epoch".to_owned(), json!(step.epoch));
    line.insert("step".to_owned(), json!(step.step));
    line.insert("global_step".to_owned(), json!(step.global_step));
    line.insert(
        "images_per_second".to_owned(),
        json!((step.images_per_second * 10.0).round() / 10.0),
    );
    let numbers = [
        ("loss", Some(step.loss)),
        ("lr", Some(step.lr)),
        ("grad_norm", step.grad_norm),
        ("accuracy", step.accuracy),
        ("collapse", step.collapse),
        ("floor", step.floor),
        ("spread", step.spread),
        ("lonely", step.lonely),
        ("alignment", step.alignment),
        ("uniformity", step.uniformity),
        ("effective_rank", step.effective_rank),
        ("contrastive_top1", step.contrastive_top1),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            line.insert(name.to_owned(), json!(value));
        }
    }
    Value::Object(line)
}

/// Opens for appending, with everything after `length` cut off.
fn cut_back(path: &Path, length: u64) -> Result<BufWriter<File>> {
    let mut file = File::from_parts(
        fs_err::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path)?
            .into_file(),
        path,
    );
    let found = file.metadata()?.len();
    if found < length {
        return Err(crate::Error::Damaged {
            path: path.to_owned(),
            reason: format!("it holds {found} bytes, the last checkpoint has seen {length}"),
            remedy: "restore it, or start again in a new run folder".to_owned(),
        });
    }
    file.file().set_len(length)?;
    file.seek(SeekFrom::End(0))?;
    Ok(BufWriter::new(file))
}

fn settle(file: &mut BufWriter<File>) -> Result<u64> {
    file.flush()?;
    file.get_ref().sync_data()?;
    Ok(file.get_mut().stream_position()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arm, StageId, StageKind};

    fn warning(message: &str) -> Event {
        Event::Warning {
            stage: Some(StageId::new(Arm::Baseline, StageKind::Probe)),
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_reopened_journal_goes_on_where_the_checkpoint_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path(), JournalPosition::default()).unwrap();
        journal.event(&warning("kept"));
        let position = journal.sync().unwrap();
        journal.event(&warning("after the checkpoint"));
        drop(journal);
        let mut journal = Journal::open(folder.path(), position).unwrap();
        journal.event(&warning("again"));
        journal.sync().unwrap();
        let text = std::fs::read_to_string(folder.path().join(METRICS)).unwrap();
        let messages: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap()["message"].clone())
            .collect();
        assert_eq!(messages, ["kept", "again"]);
        std::fs::write(folder.path().join(METRICS), "").unwrap();
        assert!(
            Journal::open(folder.path(), position)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }
}
