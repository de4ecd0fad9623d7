//! The filter `tojson` as chat templates expect it: Python's `json.dumps(ensure_ascii=False)`.

use super::python;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// How deep a value may nest.
const DEPTH_LIMIT: usize = 64;

struct Layout {
    item: String,
    key: String,
    indent: Option<String>,
    sort_keys: bool,
    ascii: bool,
}

/// `value | tojson(indent, separators, sort_keys, ensure_ascii)`.
#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
pub(crate) fn tojson(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        Some(value) => Some(value),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = match indent {
        Some(value) if value.is_none() || value.is_undefined() => None,
        Some(value) => match value.as_str() {
            Some(text) if text.len() <= 64 => Some(text.to_owned()),
            Some(_) => return Err(invalid("indent is too long")),
            None => match value.as_usize() {
                Some(width) if width <= 64 => Some(" ".repeat(width)),
                _ => return Err(invalid("indent must be a small number")),
            },
        },
        None => None,
    };
    let separators = kwargs.get::<Option<Vec<String>>>("separators")?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(invalid("separators must be a pair")),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let layout = Layout {
        item,
        key,
        indent,
        sort_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    write(&mut out, value, &layout, 0)?;
    Ok(Value::from(out))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn write(out: &mut String, value: &Value, layout: &Layout, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_LIMIT {
        return Err(invalid("the value nests too deeply for JSON"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&match f64::try_from(value.clone())? {
            x if x.is_nan() => "NaN".to_owned(),
            x if x.is_infinite() => if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
            x => python::float(x),
        }),
        ValueKind::String => string(out, value.as_str().unwrap_or(""), layout.ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.collect::<Vec<_>>();
            container(out, ['[', ']'], &items, layout, depth, |out, item| write(out, item, layout, depth + 1))?;
        }
        ValueKind::Map => {
            let mut keys = value.try_iter()?.collect::<Vec<_>>();
            if layout.sort_keys {
                keys.sort();
            }
            container(out, ['{', '}'], &keys, layout, depth, |out, key| {
                if let Some(text) = key.as_str() {
                    string(out, text, layout.ascii);
                } else {
                    out.push('"');
                    write(out, key, layout, depth + 1)?;
                    out.push('"');
                }
                out.push_str(&layout.key);
                write(out, &value.get_item(key)?, layout, depth + 1)
            })?;
        }
        _ => return Err(invalid("this value cannot be written as JSON")),
    }
    Ok(())
}

fn container(
    out: &mut String,
    [open, close]: [char; 2],
    items: &[Value],
    layout: &Layout,
    depth: usize,
    mut one: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    out.push(open);
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = &layout.indent
            && !items.is_empty()
        {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(&layout.item);
        }
        line(out, depth + 1);
        one(out, item)?;
    }
    line(out, depth);
    out.push(close);
    Ok(())
}

fn string(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{C}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ascii && !c.is_ascii()) => {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                out.extend(units.into_iter().map(|unit| format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
