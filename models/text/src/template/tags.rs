//! The tags of a template's source, read far enough to rewrite two of them.
//!
//! minijinja does not know `{% generation %}`, which transformers adds to mark what the model says.
//! It becomes a filter block, which keeps the white-space rules of block tags. And what
//! `{% set %}` keeps goes through a filter that refuses values no chat needs: a loop that doubles a
//! string would otherwise fill the memory within its fuel.

use super::environment::KEPT_FILTER;

/// The name of the filter that stands for a generation block.
pub(crate) const GENERATION_FILTER: &str = "generation_block";

/// `source` as minijinja takes it.
pub(crate) fn rewritten(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut raw = false;
    let mut rest = source;
    while let Some(at) = rest.find('{') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let len = match tag.as_bytes().get(1) {
            Some(b'#') if !raw => tag.find("#}").map_or(tag.len(), |end| end + 2),
            Some(b'{') if !raw => closing(tag, "}}"),
            Some(b'%') => closing(tag, "%}"),
            _ => 1,
        };
        let whole = &tag[..len];
        let inside = whole.strip_prefix("{%").and_then(|t| t.strip_suffix("%}"));
        let name = inside.map(|inside| inside.trim_matches(['-', '+']).trim());
        match name {
            Some("raw") => raw = true,
            Some("endraw") => raw = false,
            _ => {}
        }
        let replacement = match name {
            Some("generation") if !raw => Some(format!("filter {GENERATION_FILTER}")),
            Some("endgeneration") if !raw => Some("endfilter".to_owned()),
            Some(name) if !raw => with_kept_value(name),
            _ => None,
        };
        match (replacement, inside, name) {
            (Some(replacement), Some(inside), Some(name)) => {
                out.push_str("{%");
                out.push_str(&inside.replace(name, &replacement));
                out.push_str("%}");
            }
            _ => out.push_str(whole),
        }
        rest = &tag[len..];
    }
    out.push_str(rest);
    out
}

/// `set target = expression` with the filter around the expression; `None` for every other tag.
fn with_kept_value(tag: &str) -> Option<String> {
    let assignment = tag.strip_prefix("set")?;
    if !assignment.starts_with(char::is_whitespace) {
        return None;
    }
    // The target of an assignment holds no `=`; the tag of a block assignment may, in a filter.
    let (target, expression) = assignment.split_once('=')?;
    let plain = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
    target.chars().all(plain).then(|| format!("set{target}= ({expression}) | {KEPT_FILTER}"))
}

/// The length of the tag at the start of `tag`, which ends with `end` outside of string literals.
fn closing(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if tag[at..].starts_with(end) => return at + end.len(),
            _ => {}
        }
    }
    tag.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_a_filter_and_keep_their_dashes() {
        let source = "{%- generation -%}{{ '%}' }}{%endgeneration%}{# {% generation %} #}";
        assert_eq!(rewritten(source), "{%- filter generation_block -%}{{ '%}' }}{%endfilter%}{# {% generation %} #}");
    }

    #[test]
    fn other_sources_stay_as_they_are() {
        for source in [
            "{{ 'generation' }}{% if generation %}x{% endif %}",
            "{% raw %}{% generation %}{% endraw %}",
            "{",
            "{% never closed",
            "{{ \"a\\\"}}\" }} ünï {",
        ] {
            assert_eq!(rewritten(source), source);
        }
    }

    #[test]
    fn kept_values_go_through_the_filter() {
        for (source, expected) in [
            ("{%- set ns.x = a == b -%}", "{%- set ns.x = ( a == b) | kept_value -%}"),
            ("{% set a, b = 1, 2 %}", "{% set a, b = ( 1, 2) | kept_value %}"),
            ("{% set x %}y{% endset %}", "{% set x %}y{% endset %}"),
            ("{% set x | replace('=', '') %}", "{% set x | replace('=', '') %}"),
            ("{% settle = 1 %}", "{% settle = 1 %}"),
        ] {
            assert_eq!(rewritten(source), expected);
        }
    }
}
