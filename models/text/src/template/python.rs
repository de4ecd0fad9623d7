//! Values printed, and methods named, as a template written for Python's Jinja expects.

use crate::markers::is_python_space;
use minijinja::value::{Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

/// How deep a value may nest when it is printed.
const DEPTH_LIMIT: usize = 64;

/// `repr(x)` of a finite float.
pub(crate) fn float(x: f64) -> String {
    // Rust and Python both print the shortest digits that read back; they differ in when the
    // exponent form begins and in how it looks.
    let exponent = if x == 0.0 { 0 } else { x.abs().log10().floor() as i32 };
    if (-4..16).contains(&exponent) {
        return format!("{x:?}");
    }
    let text = format!("{x:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, number) = match exponent.strip_prefix('-') {
        Some(number) => ('-', number),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{number:0>2}")
}

/// `str(value)`.
pub(crate) fn text(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    match value.as_str() {
        Some(text) => out.push_str(text),
        None => write(&mut out, value, 0)?,
    }
    Ok(out)
}

fn write(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_LIMIT {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value nests too deeply to be printed"));
    }
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => match f64::try_from(value.clone())? {
            x if x.is_nan() => out.push_str("nan"),
            x if x.is_infinite() => out.push_str(if x > 0.0 { "inf" } else { "-inf" }),
            x => out.push_str(&float(x)),
        },
        ValueKind::String => quoted(out, value.as_str().unwrap_or("")),
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                count += 1;
                write(out, &item, depth + 1)?;
            }
            if tuple && count == 1 {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (at, key) in value.try_iter()?.enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write(out, &key, depth + 1)?;
                out.push_str(": ");
                write(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// `repr` of a string.
fn quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => {
                let escape = match c as u32 {
                    code @ ..0x100 => format!("\\x{code:02x}"),
                    code @ ..0x1_0000 => format!("\\u{code:04x}"),
                    code => format!("\\U{code:08x}"),
                };
                out.push_str(&escape);
            }
        }
    }
    out.push(quote);
}

/// Whether `repr` shows a character as it is: not those that only steer or separate.
fn is_printable(c: char) -> bool {
    let steers = matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{E000}'..='\u{F8FF}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}');
    c == ' ' || !(steers || c.is_control() || c.is_whitespace())
}

/// Methods of Python's types that minijinja's own list lacks or answers differently.
pub(crate) fn method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        match (method, args) {
            ("strip", []) => return Ok(text.trim_matches(is_python_space).into()),
            ("lstrip", []) => return Ok(text.trim_start_matches(is_python_space).into()),
            ("rstrip", []) => return Ok(text.trim_end_matches(is_python_space).into()),
            ("removeprefix", _) => {
                let (prefix,): (&str,) = from_args(args)?;
                return Ok(text.strip_prefix(prefix).unwrap_or(text).into());
            }
            ("removesuffix", _) => {
                let (suffix,): (&str,) = from_args(args)?;
                return Ok(text.strip_suffix(suffix).unwrap_or(text).into());
            }
            ("rsplit", _) => {
                let (separator, limit): (&str, Option<i64>) = from_args(args)?;
                return split_from_right(text, separator, limit);
            }
            ("partition", _) => {
                let (separator,): (&str,) = from_args(args)?;
                let (before, found, after) = match text.split_once(separator) {
                    Some((before, after)) => (before, separator, after),
                    None => (text, "", ""),
                };
                return Ok([before, found, after].into_iter().collect());
            }
            ("format", _) => check_widths(text)?,
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn split_from_right(text: &str, separator: &str, limit: Option<i64>) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let mut parts: Vec<&str> = match limit.map(usize::try_from) {
        Some(Ok(limit)) => text.rsplitn(limit + 1, separator).collect(),
        _ => text.rsplit(separator).collect(),
    };
    parts.reverse();
    Ok(parts.into_iter().collect())
}

/// Refuses field widths that would only fill memory.
pub(crate) fn check_widths(format: &str) -> Result<(), Error> {
    let longest = format.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
    if longest > Some(4) {
        return Err(Error::new(ErrorKind::InvalidOperation, "a field of the format is too wide"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (x, expected) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (-2.5e-7, "-2.5e-07"),
            (0.0, "0.0"),
        ] {
            assert_eq!(float(x), expected);
        }
    }

    #[test]
    fn containers_print_as_in_python() {
        let value = Value::from(vec![
            Value::from("it's"),
            Value::from(true),
            Value::from(()),
            Value::from_pairs([("a", Value::from("b\n"))]),
        ]);
        assert_eq!(text(&value).expect("it prints"), r#"["it's", True, None, {'a': 'b\n'}]"#);
    }
}
