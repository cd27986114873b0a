//! Collapse: all embeddings in one point, the loss stuck at the value that it has there.

use crate::checkpoint::Position;

/// How near to its collapse value a loss counts as collapsed, as a share of that value.
const NEAR: f64 = 0.01;
/// A spread below this is collapse, whatever the loss.
const POINT: f64 = 0.01;

/// What a contrastive batch tells beside its loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Monitor {
    /// The loss when all embeddings coincide.
    pub collapse: f64,
    /// The least loss possible on this batch.
    pub floor: f64,
    /// 1 − |mean embedding|².
    pub spread: f64,
}

/// Counts steps in a row at the collapse value; the message, once, when `patience` is reached.
pub(crate) fn watch(
    position: &mut Position,
    loss: f64,
    monitor: &Monitor,
    patience: usize,
) -> Option<String> {
    // Where floor and collapse value nearly meet (one label in the batch), the loss tells nothing.
    let telling = monitor.collapse - monitor.floor > 4.0 * NEAR * monitor.collapse.abs();
    let at_value = telling && (loss - monitor.collapse).abs() < NEAR * monitor.collapse.abs();
    if !at_value && monitor.spread >= POINT {
        position.collapsed_steps = 0;
        position.collapse_named = false;
        return None;
    }
    position.collapsed_steps += 1;
    if position.collapsed_steps < patience || position.collapse_named {
        return None;
    }
    position.collapse_named = true;
    Some(format!(
        "collapse: for {patience} steps the loss ({loss:.4}) has sat at the value it has when all embeddings coincide ({:.4}); \
         the embeddings' spread is {:.3} (0 is one point). Try a lower learning rate or a longer warm-up, a higher temperature, \
         batch norm in the projection head, or a larger batch",
        monitor.collapse, monitor.spread
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collapse_is_named_once_and_again_after_recovery() {
        let mut position = Position::default();
        let monitor = Monitor {
            collapse: 5.5,
            floor: 3.0,
            spread: 0.2,
        };
        let mut said = |loss: f64| watch(&mut position, loss, &monitor, 3);
        assert!(said(5.52).is_none() && said(5.5).is_none());
        let message = said(5.49).unwrap();
        assert!(
            message.contains("collapse") && message.contains("learning rate"),
            "{message}"
        );
        assert!(said(5.5).is_none());
        assert!(said(4.0).is_none());
        assert!(said(5.5).is_none() && said(5.5).is_none() && said(5.5).is_some());
    }

    #[test]
    fn a_point_is_collapse_and_one_label_is_not() {
        let mut position = Position::default();
        let point = Monitor {
            collapse: 5.5,
            floor: 3.0,
            spread: 1e-4,
        };
        assert!(watch(&mut position, 4.0, &point, 1).is_some());
        let mut position = Position::default();
        let one_label = Monitor {
            collapse: 5.5,
            floor: 5.5,
            spread: 0.9,
        };
        assert!(watch(&mut position, 5.5, &one_label, 1).is_none());
    }
}
