//! Days and hours as exports write them, as seconds in the clock of the export.

/// Seconds of a day of the usual calendar, at this time of day.
pub(super) fn seconds(year: i64, month: i64, day: i64, time: (i64, i64, i64)) -> Option<i64> {
    let (hour, minute, second) = time;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && (0..24).contains(&hour);
    if !fits || !(0..60).contains(&minute) || !(0..=60).contains(&second) || !(1900..3000).contains(&year) {
        return None;
    }
    // Years begin in March, so that a leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// `2024-03-01T12:30:05.123+00:00`, without what follows the seconds.
pub(super) fn of_iso(text: &str) -> Option<i64> {
    let numbers: Vec<i64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .take(6)
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    match numbers[..] {
        [year, month, day, hour, minute, second] => seconds(year, month, day, (hour, minute, second)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(seconds(1970, 1, 1, (0, 0, 0)), Some(0));
        assert_eq!(of_iso("2024-02-29T12:30:05.123+00:00"), Some(1_709_209_805));
        assert_eq!(of_iso("2000-03-01 00:00:00"), Some(951_868_800));
        for bad in ["", "yesterday", "2024-13-01T00:00:00", "2024-01-01", "99999999999999999999-1-1-1-1-1"] {
            assert_eq!(of_iso(bad), None, "{bad}");
        }
    }
}
