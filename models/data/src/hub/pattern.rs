//! Patterns of file names, as dataset cards write them: `data/train-*`, `**/*.csv`, `part-[0-9]*.{json,jsonl}`.

use regex::Regex;

/// The pattern as an expression over whole names; `None` where it is none.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    let pattern = pattern.trim_start_matches("./");
    let mut text = String::from("^");
    let mut rest = pattern.chars().peekable();
    let mut braces = 0;
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                // `**/` may also stand for no folder at all.
                if rest.peek() == Some(&'/') {
                    rest.next();
                    text.push_str("(?:.*/)?");
                } else {
                    text.push_str(".*");
                }
            }
            '*' => text.push_str("[^/]*"),
            '?' => text.push_str("[^/]"),
            '[' => {
                let class: String = rest.by_ref().take_while(|c| *c != ']').collect();
                let inside = class.strip_prefix('!').map_or_else(|| class.clone(), |rest| format!("^{rest}"));
                text.push('[');
                text.push_str(&inside.replace('\\', "\\\\").replace('[', "\\["));
                text.push(']');
            }
            '{' => {
                braces += 1;
                text.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                text.push(')');
            }
            ',' if braces > 0 => text.push('|'),
            c => text.push_str(&regex::escape(&c.to_string())),
        }
    }
    text.push('$');
    Regex::new(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_and_stars_stop_at_folders() {
        for (pattern, name, fits) in [
            ("data/train-*", "data/train-00000-of-00002.parquet", true),
            ("data/train-*", "other/data/train-0.parquet", false),
            ("*.csv", "a/b.csv", false),
            ("**/*.csv", "a/b.csv", true),
            ("**/*.csv", "b.csv", true),
            ("**", "a/b/c.json", true),
            ("part-[0-9].{json,jsonl}", "part-7.jsonl", true),
            ("part-[!0-9].json", "part-7.json", false),
            ("a.b", "axb", false),
            ("./x.csv", "x.csv", true),
            ("é?.csv", "éa.csv", true),
        ] {
            assert_eq!(compile(pattern).expect(pattern).is_match(name), fits, "{pattern} {name}");
        }
        assert!(compile("[").is_none_or(|expression| !expression.is_match("x")));
    }
}
