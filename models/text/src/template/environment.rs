//! The Jinja environment a chat template runs in, and what it may not do there (formats.md 4.3).
//!
//! A template comes with a model and is not trusted. It gets no files, a bounded number of
//! instructions, bounded recursion and bounded output; what it raises reaches the person.

use super::date::Date;
use super::tags::GENERATION_FILTER;
use super::{json, python};
use crate::markers::{GENERATION_END, GENERATION_START, is_python_space};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior};
use std::io;

/// Nested calls and loops.
const RECURSION_LIMIT: usize = 64;
/// The longest rendering.
const OUTPUT_LIMIT: usize = 4 << 20;
/// Instructions for a rendering of no messages, per message, and at most.
const FUEL_BASE: u64 = 200_000;
const FUEL_PER_MESSAGE: u64 = 10_000;
const FUEL_LIMIT: u64 = 10_000_000;
/// A value that is kept in a variable may nest this deep; deeper ones can only be built by loops
/// that nest on purpose.
const DEPTH_LIMIT: usize = 64;

/// Context variables of ours.
pub(crate) const DATE: &str = "peft_date";
pub(crate) const MARKS: &str = "peft_marks";
const NAME: &str = "chat";
/// The filter around every value that is kept in a variable.
pub(crate) const KEPT_FILTER: &str = "kept_value";

/// What a template said through `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Why a template gave no text.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The template refused the conversation.
    Raised(String),
    /// A limit was hit.
    Limit(&'static str),
    /// Everything else: syntax, types, unknown names.
    Broken(String),
}

/// An environment that holds `source`.
pub(crate) fn compile(source: String) -> Result<Environment<'static>, Failure> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| failure(&error, false))?;
    env.set_syntax(syntax);
    env.set_debug(false);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_recursion_limit(RECURSION_LIMIT);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(python::method);
    env.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&python::text(value)?).map_err(Error::from),
    });
    env.remove_global("debug");
    env.add_filter("tojson", json::tojson);
    env.add_filter("string", |value: &Value| python::text(value));
    env.add_filter("trim", trim);
    env.add_filter("indent", indent);
    env.add_filter("format", format);
    env.add_filter(GENERATION_FILTER, generation);
    env.add_filter(KEPT_FILTER, kept);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    env.add_function("strftime_now", |state: &State, format: String| {
        python::check_widths(&format)?;
        let date = state.lookup(DATE).and_then(|value| Date::parse(value.as_str()?));
        date.map(|date| date.strftime(&format))
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "no date was given"))
    });
    env.add_template_owned(NAME, source).map_err(|error| failure(&error, false))?;
    Ok(env)
}

/// `env` with fuel for a conversation of `messages` turns.
pub(crate) fn fuelled(env: &Environment<'static>, messages: usize) -> Environment<'static> {
    let mut env = env.clone();
    let fuel = (messages as u64).saturating_mul(FUEL_PER_MESSAGE).saturating_add(FUEL_BASE);
    env.set_fuel(Some(fuel.min(FUEL_LIMIT)));
    env
}

/// Runs the template of `env` over `context`.
pub(crate) fn run(env: &Environment<'static>, context: Value) -> Result<String, Failure> {
    let template = env.get_template(NAME).map_err(|e| failure(&e, false))?;
    let mut out = Bounded::default();
    match template.render_captured_to(context, &mut out) {
        Ok(_) => {}
        Err(error) => return Err(failure(&error, out.full)),
    }
    String::from_utf8(out.text).map_err(|_| Failure::Broken("the text is not UTF-8".to_owned()))
}

/// Output that refuses to grow beyond the limit.
#[derive(Default)]
struct Bounded {
    text: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > OUTPUT_LIMIT {
            self.full = true;
            return Err(io::Error::other("the output is too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failure(error: &Error, full: bool) -> Failure {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(at) = source {
        if let Some(Raised(message)) = at.downcast_ref() {
            return Failure::Raised(message.clone());
        }
        if let Some(error) = at.downcast_ref::<Error>() {
            if error.kind() == ErrorKind::OutOfFuel {
                return Failure::Limit("it takes too many steps");
            }
            if error.detail().is_some_and(|d| d.contains("recursion limit")) {
                return Failure::Limit("it calls itself too deeply");
            }
            if error.detail() == Some(TOO_LARGE) {
                return Failure::Limit("it builds values that are too large");
            }
        }
        source = at.source();
    }
    if full {
        return Failure::Limit("it writes more than 4 MB");
    }
    let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
    let detail = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    Failure::Broken(format!("{line}{detail}"))
}

const TOO_LARGE: &str = "the value is too large to keep";

/// Passes a value on that is small enough to be kept. Without this, a loop that doubles a string
/// or wraps a list into a list fills the memory or the stack within its fuel.
fn kept(value: Value) -> Result<Value, Error> {
    if fits(&value, 0) { Ok(value) } else { Err(Error::new(ErrorKind::InvalidOperation, TOO_LARGE)) }
}

fn fits(value: &Value, depth: usize) -> bool {
    use minijinja::value::ValueKind;
    match value.kind() {
        ValueKind::String => value.as_str().is_none_or(|text| text.len() <= OUTPUT_LIMIT),
        ValueKind::Seq => {
            depth < DEPTH_LIMIT && value.try_iter().is_ok_and(|mut items| items.all(|item| fits(&item, depth + 1)))
        }
        ValueKind::Map => {
            depth < DEPTH_LIMIT
                && value
                    .try_iter()
                    .is_ok_and(|mut keys| keys.all(|key| value.get_item(&key).is_ok_and(|item| fits(&item, depth + 1))))
        }
        _ => true,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a filter")]
fn trim(value: StringInput<'_>, chars: Option<String>) -> Value {
    let text = value.as_str();
    match chars {
        Some(chars) => text.trim_matches(|c| chars.contains(c)),
        None => text.trim_matches(is_python_space),
    }
    .into()
}

fn indent(
    value: StringInput<'_>,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let width = match width {
        Some(width) => Some(width),
        None => kwargs.get::<Option<Value>>("width")?,
    };
    let width = match width {
        None => Some(4),
        Some(width) => width.as_usize().filter(|width| *width <= 256),
    };
    let Some(width) = width else {
        return Err(Error::new(ErrorKind::InvalidOperation, "indent takes a small number"));
    };
    // The built-in filter reads `first` and `blank` from the same arguments.
    minijinja::filters::indent(value, Some(width), first, blank, kwargs)
}

fn format(state: &mut State, format: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    python::check_widths(format.as_str().unwrap_or(""))?;
    minijinja::filters::format(state, format, args)
}

fn generation(state: &State, body: String) -> String {
    if state.lookup(MARKS).is_some_and(|marks| marks.is_true()) {
        format!("{GENERATION_START}{body}{GENERATION_END}")
    } else {
        body
    }
}
