//! What is wrong with a schema, and where: unknown types, references that lead nowhere, parts that no answer can
//! meet or that no answer could ever finish.

use peft_plan::{Fault, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Nodes of a schema; more is not looked at.
const MOST_NODES: usize = 20_000;
/// Nesting of a schema.
const DEEPEST: usize = 64;

/// Keywords that hold one schema.
const ONE: [&str; 9] =
    ["additionalProperties", "additionalItems", "items", "not", "if", "then", "else", "contains", "propertyNames"];
/// Keywords that hold a list of schemas.
const LIST: [&str; 5] = ["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords that hold schemas by name.
const NAMED: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// PS-CFG-001 where `schema` is none, or none that an answer can meet. `compile` says what is wrong with a schema as
/// a whole, in words for a programmer.
pub(super) fn check(schema: &Value, compile: &dyn Fn(&Value) -> Result<(), String>) -> Result<()> {
    if !matches!(schema, Value::Object(_) | Value::Bool(true)) {
        let what = if *schema == Value::Bool(false) { "`false`, which no answer can meet" } else { "no JSON object" };
        return Err(Fault::new("PS-CFG-001", format!("The schema is {what}")));
    }
    let mut nodes = Vec::new();
    collect(schema, "#", 0, &mut nodes)?;
    for (place, node) in &nodes {
        if let Some(reference) = node.get("$ref") {
            resolve(schema, reference, place)?;
        }
    }
    check_finite(schema, &nodes)?;
    let Err(reason) = compile(schema) else { return Ok(()) };
    // The deepest part that is wrong by itself is the place to look at.
    let mut worst: (&str, String) = ("#", reason);
    let mut inside: Vec<&(String, &Map<String, Value>)> = nodes.iter().filter(|(place, _)| place != "#").collect();
    inside.sort_by_key(|(place, _)| std::cmp::Reverse(place.matches('/').count()));
    for (place, _) in inside.into_iter().take(200) {
        if let Err(reason) = compile(&part(schema, place)) {
            worst = (place, reason);
            break;
        }
    }
    let (place, reason) = worst;
    Err(refused(place, &plain(&reason)))
}

fn refused(place: &str, why: &str) -> Fault {
    Fault::new("PS-CFG-001", format!("The schema cannot be used, at `{place}`: {why}"))
}

/// What the library says, for people.
fn plain(reason: &str) -> String {
    let reason = reason.replace("Unsatisfiable schema: ", "no answer can meet it: ");
    let reason = match reason.find("oneOf constraints are not supported") {
        Some(_) => "alternatives of `oneOf` that an answer could meet two of at once; write `anyOf`".to_owned(),
        None => reason,
    };
    let reason = reason.replace("Unimplemented keys:", "these keywords are not supported:");
    let mut lines = reason.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("it is not understood").to_owned();
    first.chars().take(400).collect()
}

/// The part at `place` as a schema of its own, with everything it may refer to.
fn part(schema: &Value, place: &str) -> Value {
    let mut root = schema.clone();
    move_references(&mut root);
    let reference = format!("#/$defs/whole{}", &place[1..]);
    json!({"$ref": reference, "$defs": {"whole": root}})
}

fn move_references(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, inner) in object.iter_mut() {
                match inner {
                    Value::String(text) if key == "$ref" && text.starts_with('#') => {
                        *text = format!("#/$defs/whole{}", &text[1..]);
                    }
                    _ => move_references(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(move_references),
        _ => {}
    }
}

/// Every object that is a schema, with its place as a pointer.
fn collect<'a>(
    value: &'a Value,
    place: &str,
    depth: usize,
    nodes: &mut Vec<(String, &'a Map<String, Value>)>,
) -> Result<()> {
    let object = match value {
        Value::Object(object) => object,
        Value::Bool(_) => return Ok(()),
        other => return Err(refused(place, &format!("a schema is an object, `true` or `false`; this is {other}"))),
    };
    if depth > DEEPEST || nodes.len() >= MOST_NODES {
        return Err(refused(place, "it is too large or too deep"));
    }
    check_words(object, place)?;
    nodes.push((place.to_owned(), object));
    for (key, inner) in object {
        let here = format!("{place}/{}", key.replace('~', "~0").replace('/', "~1"));
        match inner {
            Value::Array(items) if LIST.contains(&key.as_str()) => {
                for (i, item) in items.iter().enumerate() {
                    collect(item, &format!("{here}/{i}"), depth + 1, nodes)?;
                }
            }
            Value::Object(named) if NAMED.contains(&key.as_str()) => {
                for (name, item) in named {
                    let name = name.replace('~', "~0").replace('/', "~1");
                    collect(item, &format!("{here}/{name}"), depth + 1, nodes)?;
                }
            }
            inner if ONE.contains(&key.as_str()) => collect(inner, &here, depth + 1, nodes)?,
            _ => {}
        }
    }
    Ok(())
}

/// Keywords whose values can only be mistakes, said before anything is compiled.
fn check_words(object: &Map<String, Value>, place: &str) -> Result<()> {
    const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
    let types = match object.get("type") {
        Some(Value::Array(types)) => types.iter().collect(),
        Some(one) => vec![one],
        None => Vec::new(),
    };
    if let Some(unknown) = types.iter().find(|t| !t.as_str().is_some_and(|t| TYPES.contains(&t))) {
        return Err(refused(place, &format!("there is no type {unknown}; types are {}", TYPES.join(", "))));
    }
    if object.get("enum").is_some_and(|values| values.as_array().is_none_or(Vec::is_empty)) {
        return Err(refused(place, "`enum` must list at least one value; no answer can meet it"));
    }
    for key in ["anyOf", "oneOf"] {
        if object.get(key).is_some_and(|parts| parts.as_array().is_none_or(Vec::is_empty)) {
            return Err(refused(place, &format!("`{key}` must list at least one schema; no answer can meet it")));
        }
    }
    let count = |key: &str| -> Result<Option<u64>> {
        match object.get(key) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(n) if n <= 1_000_000 => Ok(Some(n)),
                _ => Err(refused(place, &format!("`{key}` is {value}; it can be a whole number from 0 to 1000000"))),
            },
        }
    };
    for (low, high) in [("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")] {
        if let (Some(l), Some(h)) = (count(low)?, count(high)?)
            && l > h
        {
            return Err(refused(place, &format!("no answer can meet it: `{low}` {l} is more than `{high}` {h}")));
        }
    }
    let bound = |key: &str| -> Result<Option<f64>> {
        match object.get(key) {
            None | Some(Value::Bool(_)) => Ok(None),
            Some(value) => {
                value.as_f64().map(Some).ok_or_else(|| refused(place, &format!("`{key}` is {value}, no number")))
            }
        }
    };
    let low = bound("minimum")?.max_with(bound("exclusiveMinimum")?);
    let high = bound("maximum")?.min_with(bound("exclusiveMaximum")?);
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        return Err(refused(
            place,
            &format!("no answer can meet it: the minimum {low} is more than the maximum {high}"),
        ));
    }
    Ok(())
}

trait Bounds {
    fn max_with(self, other: Self) -> Self;
    fn min_with(self, other: Self) -> Self;
}

impl Bounds for Option<f64> {
    fn max_with(self, other: Self) -> Self {
        self.into_iter().chain(other).reduce(f64::max)
    }

    fn min_with(self, other: Self) -> Self {
        self.into_iter().chain(other).reduce(f64::min)
    }
}

/// What a reference leads to.
fn resolve<'a>(schema: &'a Value, reference: &Value, place: &str) -> Result<&'a Value> {
    let Some(text) = reference.as_str() else {
        return Err(refused(place, &format!("`$ref` is {reference}, no text")));
    };
    let target = match text.strip_prefix('#') {
        Some("" | "/") => Some(schema),
        Some(pointer) => schema.pointer(pointer),
        None => None,
    };
    target.ok_or_else(|| {
        let why =
            format!("`$ref` leads to `{text}`, which is not in the schema; references begin with #/ and stay in it");
        refused(place, &why)
    })
}

/// Refuse what would have to contain itself for ever. A part can be finished when everything it demands can be.
fn check_finite(schema: &Value, nodes: &[(String, &Map<String, Value>)]) -> Result<()> {
    let key = |node: &Map<String, Value>| std::ptr::from_ref(node) as usize;
    let mut finite: BTreeMap<usize, bool> = nodes.iter().map(|(_, node)| (key(node), false)).collect();
    loop {
        let mut changed = false;
        for (_, node) in nodes {
            if !finite[&key(node)] && can_end(schema, node, &finite) {
                finite.insert(key(node), true);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    // The deepest of them is the one to look at; those around it only demand it.
    let endless = nodes.iter().rfind(|(_, node)| !finite[&key(node)]);
    match endless {
        Some((place, _)) => {
            Err(refused(place, "no answer can meet it: what it demands would have to contain itself for ever"))
        }
        None => Ok(()),
    }
}

/// Whether everything that `node` demands is known to end.
fn can_end(schema: &Value, node: &Map<String, Value>, finite: &BTreeMap<usize, bool>) -> bool {
    let ends = |value: &Value| match value {
        Value::Object(object) => finite.get(&(std::ptr::from_ref(object) as usize)).copied().unwrap_or(true),
        _ => true,
    };
    if let Some(reference) = node.get("$ref")
        && !resolve(schema, reference, "#").is_ok_and(ends)
    {
        return false;
    }
    let list = |key: &str| node.get(key).and_then(Value::as_array);
    let all = list("allOf").is_none_or(|parts| parts.iter().all(ends));
    let some = ["anyOf", "oneOf"].iter().all(|key| list(key).is_none_or(|parts| parts.iter().any(ends)));
    if !all || !some {
        return false;
    }
    let types: Vec<&str> = match node.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    // Another type is a way out.
    types.iter().any(|t| match *t {
        "object" => {
            let properties = node.get("properties").and_then(Value::as_object);
            let demanded = list("required").into_iter().flatten().filter_map(Value::as_str);
            demanded.into_iter().all(|name| properties.and_then(|p| p.get(name)).is_none_or(ends))
        }
        "array" => {
            let least = node.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
            let prefix = list("prefixItems").map_or(&[][..], Vec::as_slice);
            prefix.iter().take(least).all(ends) && (least <= prefix.len() || node.get("items").is_none_or(ends))
        }
        _ => true,
    })
}
