//! `strftime_now` with a date that does not move: a template that prints today's date would make
//! a run irreproducible.

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    year: u32,
    month: u32,
    day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Date {
    /// Reads `2024-07-26`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let mut number = |digits: usize| {
            let part = parts.next()?;
            let plain = part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| part.parse::<u32>().ok()).flatten()
        };
        let date = Self { year: number(4)?, month: number(2)?, day: number(2)? };
        let valid = date.year >= 1 && (1..=12).contains(&date.month) && (1..=date.days()).contains(&date.day);
        valid.then_some(date)
    }

    fn is_leap(self) -> bool {
        self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400))
    }

    fn days(self) -> u32 {
        match self.month {
            2 if self.is_leap() => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Day of the year, from 1.
    fn ordinal(self) -> u32 {
        let before: u32 = (1..self.month).map(|month| Self { month, ..self }.days()).sum();
        before + self.day
    }

    /// Monday is 0.
    fn weekday(self) -> usize {
        let past = self.year - 1;
        // 1 January of year 1 was a Monday in the proleptic Gregorian calendar.
        let days = past * 365 + past / 4 - past / 100 + past / 400 + self.ordinal() - 1;
        (days % 7) as usize
    }

    /// What Python's `strftime` makes of `format` at midnight of this day, in the C locale.
    pub(crate) fn strftime(self, format: &str) -> String {
        let Self { year, month, day } = self;
        let month_name = MONTHS[month as usize - 1];
        let weekday = WEEKDAYS[self.weekday()];
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = chars.next();
            // `%-d` is `%d` without padding.
            let bare = code == Some('-');
            if bare {
                code = chars.next();
            }
            let number = |value: u32, width: usize| {
                if bare { value.to_string() } else { format!("{value:0width$}") }
            };
            let text = match code {
                Some('Y') => number(year, 4),
                Some('y') => number(year % 100, 2),
                Some('m') => number(month, 2),
                Some('d') => number(day, 2),
                Some('e') => format!("{day:2}"),
                Some('j') => number(self.ordinal(), 3),
                Some('B') => month_name.to_owned(),
                Some('b' | 'h') => month_name[..3].to_owned(),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('H' | 'M' | 'S') => number(0, 2),
                Some('I') => "12".to_owned(),
                Some('p') => "AM".to_owned(),
                Some('F') => format!("{year:04}-{month:02}-{day:02}"),
                Some('T') => "00:00:00".to_owned(),
                Some('D' | 'x') => format!("{month:02}/{day:02}/{:02}", year % 100),
                Some('%') | None => "%".to_owned(),
                Some(other) => format!("%{other}"),
            };
            out.push_str(&text);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_like_python() {
        let date = Date::parse("2024-07-26").expect("a date");
        assert_eq!(date.strftime("%d %b %Y"), "26 Jul 2024");
        assert_eq!(date.strftime("%A, %B %-d, %Y"), "Friday, July 26, 2024");
        assert_eq!(date.strftime("%Y-%m-%d %H:%M %j"), "2024-07-26 00:00 208");
        assert_eq!(date.strftime("100%% %"), "100% %");
        let leap = Date::parse("2000-02-29").expect("a date");
        assert_eq!(leap.strftime("%a %y"), "Tue 00");
    }

    #[test]
    fn refuses_days_that_do_not_exist() {
        for text in ["2023-02-29", "2024-13-01", "2024-1-1", "", "2024-01-00", "0000-01-01", "+024-01-01"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
