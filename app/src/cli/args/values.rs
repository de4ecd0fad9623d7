//! Values of options that have limits; what is outside is wrong usage.

use peft_kernels::cpu::Path;

/// Threads: 1 to 1024.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    whole(text, 1, 1024)
}

/// An address of this machine, or `localhost`.
pub(super) fn address(text: &str) -> Result<std::net::IpAddr, String> {
    let text = if text.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { text.trim_matches(['[', ']']) };
    text.parse().map_err(|_| "an address such as 127.0.0.1 or localhost was expected".to_owned())
}

/// A device: `auto`, `cpu`, `cpu:KERNELS`, `cuda` or `cuda:N`. Whether it can be used is asked when it is.
pub(super) fn backend(text: &str) -> Result<String, String> {
    let card = text.strip_prefix("cuda:").map(str::parse::<u16>);
    let kernels = text.strip_prefix("cpu:").map(Path::from_name);
    if matches!(text, "auto" | "cpu" | "cuda") || matches!(card, Some(Ok(_))) || matches!(kernels, Some(Some(_))) {
        return Ok(text.to_owned());
    }
    let kernels = Path::all().map(Path::name).collect::<Vec<_>>().join(", ");
    Err(format!("auto, cpu, cuda or cuda:N was expected, or cpu:KERNELS with one of {kernels}"))
}

/// What is tried of a graphics card.
pub(super) fn risk(text: &str) -> Result<peft_models::engine::Risk, String> {
    let found = peft_models::engine::Risk::ALL.into_iter().find(|risk| risk.name() == text);
    found.ok_or_else(|| "graphs, wgmma or library was expected".to_owned())
}

/// A count of at least 1.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    whole(text, 1, 1 << 31)
}

/// A count, 0 included.
pub(super) fn count(text: &str) -> Result<usize, String> {
    whole(text, 0, 1 << 31)
}

/// A length of text and its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// How many.
    pub count: usize,
    /// Tokens of a model, and not characters.
    pub in_tokens: bool,
}

/// `1500`, `1500c` (characters) or `400t` (tokens).
pub(super) fn length(text: &str) -> Result<Length, String> {
    let in_tokens = text.ends_with('t');
    let count = positive(text.trim_end_matches(['t', 'c']))?;
    Ok(Length { count, in_tokens })
}

/// A share: 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=1.0).contains(&number), "a number from 0 to 1 was expected")
}

/// Any number.
pub(super) fn finite(text: &str) -> Result<f64, String> {
    number(text, |_| true, "a number was expected")
}

fn whole(text: &str, low: usize, high: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (low..=high).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {low} to {high} was expected")),
    }
}

/// A number above 0.
pub(super) fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0, "a number above 0 was expected, such as 2e-4")
}

/// A number of at least 0.
pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0, "a number of at least 0 was expected")
}

/// A price of electricity.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=1e6).contains(&number), "a price was expected, such as 0.30")
}

/// The code of a currency.
pub(super) fn currency(text: &str) -> Result<String, String> {
    let code = text.to_uppercase();
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_code { Ok(code) } else { Err("the three letters of a currency were expected, such as EUR".to_owned()) }
}

/// A share that is held out: 0 to 0.5.
pub(super) fn held_out_share(text: &str) -> Result<f64, String> {
    number(text, |number| (0.0..=0.5).contains(&number), "a number from 0 to 0.5 was expected, such as 0.1")
}

/// A probability above 0.
pub(super) fn probability(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number <= 1.0, "a number above 0 and up to 1 was expected")
}

fn number(text: &str, is_allowed: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && is_allowed(*number))
        .ok_or_else(|| expected.to_owned())
}

/// A size in bytes: `5GB`, `500 MB`, `2GiB`, or a plain number.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("b", 1),
        ("", 1),
    ];
    let expected = || "a size was expected, such as 5GB or 500MB".to_owned();
    let lower = text.trim().to_lowercase();
    let (digits, unit) =
        UNITS.iter().find_map(|(name, unit)| Some((lower.strip_suffix(name)?, *unit))).ok_or_else(expected)?;
    let size = digits.trim().parse::<f64>().map_err(|_| expected())? * unit as f64;
    if (1.0..1e18).contains(&size) { Ok(size as u64) } else { Err(expected()) }
}

/// `key=value`, for `--set`; whether the key is known is asked later.
pub(super) fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("key=value was expected, such as training.epochs=2".to_owned()),
    }
}

/// `part=column`, for `--columns`.
pub(super) fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((part, name)) if !part.trim().is_empty() && !name.is_empty() => {
            Ok((part.trim().to_owned(), name.to_owned()))
        }
        _ => Err("part=column was expected, such as user=question".to_owned()),
    }
}

/// A defect of a row that `data score` knows. Copies are found by an option of their own.
pub(super) fn defect() -> clap::builder::PossibleValuesParser {
    let names = peft_data::REASONS.iter().map(|(code, _)| *code).filter(|code| !code.ends_with("copy"));
    clap::builder::PossibleValuesParser::new(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_the_usual_spellings() {
        let cases =
            [("5GB", 5_000_000_000), ("500 mb", 500_000_000), ("2GiB", 2 << 30), ("1.5kb", 1500), ("7", 7), ("7B", 7)];
        for (text, size) in cases {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "0", "-1GB", "nan", "inf", "GB", "5 parsecs", "1e30GB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn devices_have_five_spellings() {
        for text in ["auto", "cpu", "cpu:avx2", "cpu:portable", "cuda", "cuda:3"] {
            assert_eq!(backend(text).as_deref(), Ok(text));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU ", "cpu:", "cpu:sse9"] {
            assert!(backend(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_outside_their_limits_are_refused() {
        assert_eq!(threads("8"), Ok(8));
        assert!(threads("-1").is_err() && threads("0").is_err() && threads("many").is_err());
        assert!(above_zero("inf").is_err() && above_zero("0").is_err());
        assert!(held_out_share("0.51").is_err() && probability("0").is_err());
        assert_eq!(probability("1"), Ok(1.0));
        assert_eq!(column("user=a=b"), Ok(("user".to_owned(), "a=b".to_owned())));
        assert!(column("user").is_err() && assignment("=1").is_err());
    }
}
