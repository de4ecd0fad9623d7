//! Numbers with units, for people: sizes, times, counts.

use peft_plan::Interval;

/// A size, in units of 1000 as disks and stores count.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = count as f64;
    let mut unit = 0;
    // 999.95 kB would be shown as 1000.0 kB.
    while size >= if unit == 0 { 1000.0 } else { 999.95 } && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    match unit {
        0 if count == 1 => "1 byte".to_owned(),
        0 => format!("{count} bytes"),
        _ => format!("{size:.1} {}", UNITS[unit]),
    }
}

/// A length of time with its two largest units.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "unknown".to_owned();
    }
    if seconds < 9.95 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => with_rest(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => with_rest(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => with_rest(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

fn with_rest(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// An interval of time, such as `3-5 min`.
pub fn interval(eta: &Interval) -> String {
    let Interval { low, high, expected } = *eta;
    if !(low.is_finite() && high.is_finite()) {
        return duration(expected);
    }
    let (divisor, unit) = match high {
        h if h < 100.0 => (1.0, "s"),
        h if h < 6000.0 => (60.0, "min"),
        h if h < 172_800.0 => (3600.0, "h"),
        _ => (86_400.0, "d"),
    };
    let (low, high) = ((low.max(0.0) / divisor).floor(), (high / divisor).ceil());
    if low >= high { format!("{high} {unit}") } else { format!("{low}-{high} {unit}") }
}

/// How long ago `then` was; both in Unix seconds.
pub fn ago(then: i64, now: i64) -> String {
    let passed = now.saturating_sub(then);
    let (count, unit) = match passed {
        ..60 => return "just now".to_owned(),
        60..3600 => (passed / 60, "minute"),
        3600..86_400 => (passed / 3600, "hour"),
        _ => (passed / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// A count with spaces between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A measured number with four decimals, or a dash.
pub fn measured(number: Option<f64>) -> String {
    number.filter(|number| number.is_finite()).map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(999_999), "1.0 MB");
        assert_eq!(bytes(5_300_000_000), "5.3 GB");
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1 234 567");
    }

    #[test]
    fn times() {
        assert_eq!(duration(0.04), "0.0 s");
        assert_eq!(duration(59.4), "59 s");
        assert_eq!(duration(59.6), "1 min");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7260.0), "2 h 1 min");
        assert_eq!(duration(90_000.0), "1 d 1 h");
        assert_eq!(duration(f64::NAN), "unknown");
        assert_eq!(ago(100, 50), "just now");
        assert_eq!(ago(0, 61), "1 minute ago");
        assert_eq!(ago(0, 7200), "2 hours ago");
        assert_eq!(ago(0, 200_000), "2 days ago");
        assert_eq!(interval(&Interval { low: 170.0, expected: 200.0, high: 290.0 }), "2-5 min");
        assert_eq!(interval(&Interval { low: 0.0, expected: 0.0, high: 0.0 }), "0 s");
    }
}
