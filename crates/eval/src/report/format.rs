//! Numbers as a person reads them. What is not a finite number is a dash.

/// What stands where there is no number.
pub(crate) const NONE: &str = "–";

/// `0.5231` → `52.31 %`.
pub(crate) fn percent(share: f64) -> String {
    with_unit(share, |share| format!("{:.2}\u{a0}%", 100.0 * share))
}

/// `0.052` → `+5.20`, in percentage points, with a true minus sign.
pub(crate) fn points(difference: f64) -> String {
    with_unit(difference, |difference| signed(100.0 * difference, 2))
}

/// `(0.041, 0.063)` → `+4.10 to +6.30`.
pub(crate) fn points_range(low: f64, high: f64) -> String {
    format!("{} to {}", points(low), points(high))
}

/// A signed number with a true minus sign; what rounds to zero has no sign.
pub(crate) fn signed(value: f64, decimals: usize) -> String {
    let digits = format!("{:.decimals$}", value.abs());
    let zero = digits.bytes().all(|byte| byte == b'0' || byte == b'.');
    let sign = if zero {
        ""
    } else if value < 0.0 {
        "−"
    } else {
        "+"
    };
    format!("{sign}{digits}")
}

/// A plain number, three decimals.
pub(crate) fn decimal(value: f64) -> String {
    with_unit(value, |value| format!("{value:.3}").replace('-', "−"))
}

/// [`decimal`] of a number that may not have been computed.
pub(crate) fn optional(value: Option<f64>, show: fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), show)
}

/// `50000` → `50,000`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1_234_000_000` → `1.23 × 10⁹`; below a million as [`count`].
pub(crate) fn scientific(value: u64) -> String {
    if value < 1_000_000 {
        return count(value);
    }
    let text = format!("{:.2e}", value as f64);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised: String = exponent
        .chars()
        .map(|digit| {
            digit.to_digit(10).map_or('⁻', |digit| {
                ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize]
            })
        })
        .collect();
    format!("{mantissa}\u{a0}×\u{a0}10{raised}")
}

/// `754.2` → `12 min 34 s`.
pub(crate) fn duration(seconds: f64) -> String {
    with_unit(seconds, |seconds| {
        let whole = seconds.round().max(0.0) as u64;
        match whole {
            0..60 => format!("{seconds:.1}\u{a0}s"),
            60..3600 => format!("{}\u{a0}min {:02}\u{a0}s", whole / 60, whole % 60),
            _ => format!("{}\u{a0}h {:02}\u{a0}min", whole / 3600, whole % 3600 / 60),
        }
    })
}

/// `7200.0` → `7.20 kJ`; from a tenth of a kilowatt-hour on in those.
pub(crate) fn energy(joules: f64) -> String {
    with_unit(joules, |joules| match joules {
        ..1e3 => format!("{joules:.1}\u{a0}J"),
        ..3.6e5 => format!("{:.2}\u{a0}kJ", joules / 1e3),
        _ => format!("{:.2}\u{a0}kWh", joules / 3.6e6),
    })
}

/// Images per second; nothing where no images were seen.
pub(crate) fn rate(value: f64) -> String {
    let value = if value == 0.0 { f64::NAN } else { value };
    with_unit(value, |value| {
        if value < 100.0 {
            format!("{value:.1}")
        } else {
            count(value.round() as u64)
        }
    })
}

/// The name of an arm as a heading.
pub(crate) fn arm_title(name: &str) -> String {
    match name {
        "baseline" => "Baseline".to_owned(),
        "contrastive" => "Contrastive".to_owned(),
        "control" => "Control".to_owned(),
        "finetuned" => "Fine-tuned".to_owned(),
        "transfer" => "Transfer".to_owned(),
        "transfer-frozen" => "Transfer, frozen".to_owned(),
        "transfer-contrastive" => "Transfer, contrastive".to_owned(),
        other => other.to_owned(),
    }
}

/// What an arm is, in a few words.
pub(crate) fn arm_meaning(name: &str) -> &'static str {
    match name {
        "baseline" => "encoder and head trained as one with cross-entropy",
        "contrastive" => "encoder trained with a contrastive loss, frozen; then a head",
        "control" => "the cross-entropy encoder, frozen; then a head, as the contrastive arm",
        "finetuned" => "the contrastive encoder, then everything trained with cross-entropy",
        "transfer" => "an encoder with weights from elsewhere",
        "transfer-frozen" => "an encoder with weights from elsewhere, frozen; then a head",
        "transfer-contrastive" => {
            "weights from elsewhere, trained on with a contrastive loss, frozen; then a head"
        }
        _ => "",
    }
}

/// At most `room` characters, with an ellipsis where something was cut.
pub(crate) fn shorten(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

fn with_unit(value: f64, show: impl FnOnce(f64) -> String) -> String {
    if value.is_finite() {
        show(value)
    } else {
        NONE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(0.52314), "52.31\u{a0}%");
        assert_eq!(points(0.052), "+5.20");
        assert_eq!(points(-0.052), "−5.20");
        assert_eq!(points(-0.00001), "0.00");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(scientific(1_234_000_000), "1.23\u{a0}×\u{a0}10⁹");
        assert_eq!(scientific(u64::MAX), "1.84\u{a0}×\u{a0}10¹⁹");
        assert_eq!(duration(754.2), "12\u{a0}min 34\u{a0}s");
        assert_eq!(duration(59.7), "1\u{a0}min 00\u{a0}s");
        assert_eq!(duration(3725.0), "1\u{a0}h 02\u{a0}min");
        assert_eq!(shorten("photograph", 6), "photo…");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for text in [
                percent(value),
                points(value),
                decimal(value),
                duration(value),
                rate(value),
            ] {
                assert_eq!(text, NONE);
            }
        }
        assert_eq!(optional(None, percent), NONE);
    }
}
