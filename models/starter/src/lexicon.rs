//! The word lists and question templates of `data/`, read once.
//!
//! All of them are text files in one of three shapes: sections of values (`== name`), tables with
//! ` | ` between the columns, and lines of wordings with one answer (`a / b => answer`).

use std::collections::BTreeMap;

/// Lists of values by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

/// Wordings of one question and its one answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) asks: Vec<String>,
    pub(crate) answer: String,
}

/// Something people ask a cafe about.
#[derive(Debug)]
pub(crate) struct Intent {
    /// Short name, as in `facts.json`.
    pub(crate) id: String,
    /// What is asked: `the price of the {item}`.
    pub(crate) subject: String,
    /// The verb between the subject and the value.
    pub(crate) verb: String,
    /// Which values answer it.
    pub(crate) values: String,
    /// Question templates.
    pub(crate) asks: Vec<String>,
}

/// The sections of a list file; entries stand on lines of their own or between ` / `.
pub(crate) fn lists(text: &str) -> Lists {
    let mut lists = Lists::new();
    for (header, lines) in sections(text) {
        let entries = lines.iter().flat_map(|line| line.split(" / ")).map(|entry| entry.trim().to_owned()).collect();
        lists.insert(header.to_owned(), entries);
    }
    lists
}

/// The rows of a table file.
pub(crate) fn table(text: &str) -> Vec<Vec<String>> {
    content_lines(text).map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The lines of a file of sentences.
pub(crate) fn lines(text: &str) -> Vec<String> {
    content_lines(text).map(str::to_owned).collect()
}

/// The lines of a file of wordings.
pub(crate) fn exchanges(text: &str) -> Vec<Exchange> {
    content_lines(text)
        .filter_map(|line| line.split_once("=>"))
        .map(|(asks, answer)| Exchange {
            asks: asks.split(" / ").map(|ask| ask.trim().to_owned()).collect(),
            answer: answer.trim().to_owned(),
        })
        .collect()
}

/// The intents of a template file.
pub(crate) fn intents(text: &str) -> Vec<Intent> {
    sections(text)
        .into_iter()
        .filter_map(|(header, lines)| {
            let [id, subject, verb, values] = header.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
                return None;
            };
            Some(Intent {
                id: id.to_owned(),
                subject: subject.to_owned(),
                verb: verb.to_owned(),
                values: values.to_owned(),
                asks: lines.into_iter().map(str::to_owned).collect(),
            })
        })
        .collect()
}

fn content_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in content_lines(text) {
        if let Some(header) = line.strip_prefix("==") {
            sections.push((header.trim(), Vec::new()));
        } else if let Some((_, lines)) = sections.last_mut() {
            lines.push(line);
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_shapes() {
        let text = "# note\n\n== day\nMonday / Tuesday\nFriday\n== name\nRosa\n";
        let lists = lists(text);
        assert_eq!(lists["day"], ["Monday", "Tuesday", "Friday"]);
        assert_eq!(lists["name"], ["Rosa"]);
        assert_eq!(table("a | b\n# no\nc|d"), [["a", "b"], ["c", "d"]]);
        let lines = exchanges("Hi / Hello => Good day!");
        assert_eq!((lines[0].asks.len(), lines[0].answer.as_str()), (2, "Good day!"));
        let intents = intents("== open | the opening time | is | morning\nWhen {do} open?\n");
        assert_eq!((intents[0].id.as_str(), intents[0].asks.len()), ("open", 1));
    }
}
