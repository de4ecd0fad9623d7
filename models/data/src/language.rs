//! In which language a text is, from its letters and its commonest words. A guess, for counting.

/// Characters that are looked at.
const LOOKED_AT: usize = 400;

/// Words of one language that are rare in the others.
const WORDS: &[(&str, &[&str])] = &[
    (
        "en",
        &["the", "and", "of", "to", "is", "that", "with", "what", "are", "this", "for", "how", "you", "was", "which"],
    ),
    (
        "de",
        &["der", "die", "und", "das", "ist", "nicht", "ein", "eine", "mit", "wie", "auf", "für", "sie", "zu", "wird"],
    ),
    ("fr", &["le", "les", "et", "des", "est", "une", "dans", "pour", "que", "qui", "du", "pas", "avec", "sur", "vous"]),
    ("es", &["el", "los", "y", "las", "es", "una", "por", "que", "con", "para", "del", "como", "qué", "se", "más"]),
    ("it", &["il", "che", "di", "è", "una", "per", "non", "con", "del", "della", "sono", "gli", "nel", "come", "più"]),
    ("pt", &["o", "os", "e", "uma", "para", "não", "com", "que", "do", "da", "em", "você", "é", "como", "mais"]),
    (
        "nl",
        &["de", "het", "een", "en", "van", "niet", "dat", "zijn", "voor", "met", "wat", "hoe", "je", "ook", "worden"],
    ),
    ("pl", &["i", "w", "nie", "na", "się", "jest", "że", "do", "jak", "co", "dla", "czy", "są", "to", "przez"]),
    ("sv", &["och", "det", "att", "är", "en", "som", "på", "inte", "för", "med", "av", "ett", "till", "hur", "jag"]),
    (
        "tr",
        &[
            "ve", "bir", "bu", "için", "ile", "olarak", "çok", "ne", "nasıl", "daha", "olan", "değil", "gibi", "da",
            "mi",
        ],
    ),
];

/// The language of `text`, where there is enough of it to tell.
pub(crate) fn of(text: &str) -> Option<&'static str> {
    const NAMES: [&str; 10] = ["latin", "ru", "zh", "ja", "ko", "ar", "he", "el", "hi", "th"];
    let mut scripts = [0_usize; NAMES.len()];
    let end = text.char_indices().nth(LOOKED_AT).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    if text.is_ascii() {
        scripts[0] = text.bytes().filter(u8::is_ascii_alphabetic).count();
    } else {
        for c in text.chars().filter(|c| c.is_alphabetic()) {
            let script = match u32::from(c) {
                0x400..=0x52F => 1,
                0x3040..=0x30FF => 3,
                0x4E00..=0x9FFF | 0x3400..=0x4DBF => 2,
                0xAC00..=0xD7AF | 0x1100..=0x11FF => 4,
                0x600..=0x6FF | 0x750..=0x77F => 5,
                0x590..=0x5FF => 6,
                0x370..=0x3FF => 7,
                0x900..=0x97F => 8,
                0xE00..=0xE7F => 9,
                _ => 0,
            };
            scripts[script] += 1;
        }
    }
    // Japanese is written in both, and its own letters tell.
    if scripts[3] * 10 > scripts[2] {
        scripts[3] += std::mem::take(&mut scripts[2]);
    }
    let (script, count) = scripts.iter().enumerate().max_by_key(|(_, count)| **count)?;
    match (script, *count) {
        (_, ..8) if script == 0 => None,
        (_, ..4) => None,
        (0, _) => latin(text),
        _ => Some(NAMES[script]),
    }
}

/// The language whose words are most frequent, if they are.
fn latin(text: &str) -> Option<&'static str> {
    let mut hits = [0_usize; WORDS.len()];
    for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty() && word.len() <= 8) {
        let lower = word.to_lowercase();
        for (count, (_, words)) in hits.iter_mut().zip(WORDS) {
            *count += usize::from(words.contains(&lower.as_str()));
        }
    }
    let (best, count) = hits.iter().enumerate().max_by_key(|(at, count)| (**count, std::cmp::Reverse(*at)))?;
    let second = hits.iter().enumerate().filter(|(at, _)| *at != best).map(|(_, count)| *count).max().unwrap_or(0);
    (*count >= 2 && *count > second).then_some(WORDS[best].0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        for (text, language) in [
            ("What is the capital of France and how far is it?", Some("en")),
            ("Wie heißt die Hauptstadt und ist sie nicht weit?", Some("de")),
            ("Quelle est la capitale et les villes qui sont dans une région ?", Some("fr")),
            ("¿Cuál es la capital y qué ciudades son las más grandes del país?", Some("es")),
            ("Столица Франции Париж", Some("ru")),
            ("今天天气很好，我们去公园散步吧", Some("zh")),
            ("日本語の文章もあります", Some("ja")),
            ("대한민국의 수도는 서울입니다", Some("ko")),
            ("x = f(y) + 12", None),
            ("", None),
        ] {
            assert_eq!(of(text), language, "{text}");
        }
    }
}
