//! The invented places of the small world, and the one form in which a fact about a place is told.
//!
//! Every answer is "The owner is Rosa." or "Sorry, I do not know the owner.": the subject phrase is
//! the same whether the fact is known or not. So the base has to work out, from any wording, *what* is
//! asked; a tuned model only has to learn the value behind the phrase. This is what makes few rows do.
//! The sample dataset's own facts are kept out of the corpus here: a value that the sample gives to a
//! subject is never drawn for it, and the sample cafe's name is never drawn at all.

use crate::lexicon::{self, Intent, Lists};
use crate::rng::Rng;
use crate::sample::{self, SampleFact};
use crate::wording::capital;

/// The seed of the places known by heart; it is not the seed of a corpus, all corpora share the places.
const WORLD_SEED: u64 = 20_240_601;
/// How many places the starter knows by heart.
const KNOWN_PLACES: usize = 16;
/// How many things of its menu are known of each place, by intent.
const MENU: [(&str, usize); 3] = [("price", 6), ("recipe", 2), ("itemday", 2)];

/// Something that is so at a place.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// Index into [`Places::intents`].
    pub(crate) intent: usize,
    /// The thing on the menu, or nothing.
    pub(crate) item: String,
    /// The answer's last words.
    pub(crate) value: String,
}

/// A place known by heart.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) facts: Vec<Fact>,
}

/// All that is known about places.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) intents: Vec<Intent>,
    pub(crate) known: Vec<Place>,
    /// What people say before they ask.
    preambles: Vec<String>,
    lists: Lists,
    reserved: Vec<SampleFact>,
}

impl Places {
    /// Reads the word lists and draws the places known by heart.
    pub(crate) fn new() -> Self {
        let mut intents = lexicon::intents(include_str!("../data/intents_times.txt"));
        intents.extend(lexicon::intents(include_str!("../data/intents_service.txt")));
        intents.extend(lexicon::intents(include_str!("../data/intents_menu.txt")));
        let mut places = Self {
            intents,
            known: Vec::new(),
            preambles: lexicon::lines(include_str!("../data/preambles.txt")),
            lists: lexicon::lists(include_str!("../data/values.txt")),
            reserved: sample::facts(),
        };
        let mut rng = Rng::new(WORLD_SEED, 1);
        while places.known.len() < KNOWN_PLACES {
            let name = places.plain_name(&mut rng);
            // Two known places share no word of their names: none can be taken for another.
            let mut words = name.split(' ').skip(1);
            if words.all(|word| places.known.iter().all(|place| !place.name.contains(word))) {
                let facts = places.draw_facts(&mut rng);
                places.known.push(Place { name, facts });
            }
        }
        places
    }

    /// The intent called `id`.
    pub(crate) fn intent(&self, id: &str) -> Option<usize> {
        self.intents.iter().position(|intent| intent.id == id)
    }

    fn draw_facts(&self, rng: &mut Rng) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (index, intent) in self.intents.iter().enumerate() {
            let of_menu = MENU.iter().find(|(id, _)| *id == intent.id);
            match (of_menu, intent.id.as_str()) {
                (Some(&(_, count)), _) => {
                    let first = facts.len();
                    while facts.len() < first + count {
                        let fact = self.draw_fact(index, rng);
                        if facts[first..].iter().all(|other: &Fact| other.item != fact.item) {
                            facts.push(fact);
                        }
                    }
                }
                // These change by the day, or answer themselves when the place is named.
                (None, "name" | "daily" | "popular") => {}
                (None, _) => facts.push(self.draw_fact(index, rng)),
            }
        }
        facts
    }

    /// A fact of the given intent that is not one of the sample dataset's.
    pub(crate) fn draw_fact(&self, intent: usize, rng: &mut Rng) -> Fact {
        let item = if self.takes_item(intent) { self.item(rng) } else { String::new() };
        let values = &self.intents[intent].values;
        let id = &self.intents[intent].id;
        loop {
            let value = self.value(values, rng);
            let reserved =
                self.reserved.iter().any(|fact| fact.intent == *id && fact.item == item && fact.value == value);
            if !reserved {
                return Fact { intent, item, value };
            }
        }
    }

    /// Whether questions of this intent are about a thing on the menu.
    pub(crate) fn takes_item(&self, intent: usize) -> bool {
        self.intents[intent].subject.contains("{item}")
    }

    /// Any thing a menu could hold; a few have a made-up word, which can only be copied.
    pub(crate) fn item(&self, rng: &mut Rng) -> String {
        let course = rng.pick(&self.lists["course"]);
        if rng.chance(6) {
            return format!("{} {course}", self.made_up(rng));
        }
        format!("{} {course}", rng.pick(&self.lists["flavor"]))
    }

    /// Any place's name but the sample cafe's.
    pub(crate) fn name(&self, rng: &mut Rng) -> String {
        if rng.chance(15) {
            let word = capital(&self.made_up(rng));
            return match rng.below(3) {
                0 => format!("Cafe {word}"),
                1 => format!("the {word} {}", rng.pick(&self.lists["place_second"])),
                _ => word,
            };
        }
        self.plain_name(rng)
    }

    fn plain_name(&self, rng: &mut Rng) -> String {
        loop {
            let name =
                format!("the {} {}", rng.pick(&self.lists["place_first"]), rng.pick(&self.lists["place_second"]));
            if !name.ends_with(sample::CAFE) {
                return name;
            }
        }
    }

    fn made_up(&self, rng: &mut Rng) -> String {
        let syllables = rng.range(2, 3);
        (0..syllables).map(|_| rng.pick(&self.lists["syllable"]).as_str()).collect()
    }

    fn value(&self, kind: &str, rng: &mut Rng) -> String {
        match kind {
            "dollars" => format!("{} dollars", rng.range(2, 20)),
            "seats" => rng.range(12, 98).to_string(),
            "tables" => rng.range(2, 19).to_string(),
            "phone" => rng.range(1000, 9999).to_string(),
            "bus" => rng.range(2, 99).to_string(),
            "year" => rng.range(1901, 2019).to_string(),
            "percent" => format!("{} percent", 5 * rng.range(1, 10)),
            "password" => format!("{}{}", rng.pick(&self.lists["password_word"]), rng.range(10, 99)),
            "address" => format!("{} {} Street", rng.range(1, 99), rng.pick(&self.lists["street"])),
            "dish" => self.item(rng),
            "place" => self.name(rng),
            "pair" => {
                let first = rng.pick(&self.lists["ingredient"]);
                loop {
                    let second = rng.pick(&self.lists["ingredient"]);
                    if first != second {
                        return format!("{first} and {second}");
                    }
                }
            }
            list => rng.pick(&self.lists[list]).clone(),
        }
    }

    /// A sentence that says something else.
    pub(crate) fn preamble(&self, rng: &mut Rng) -> &str {
        let said: &String = rng.pick(&self.preambles);
        said
    }

    /// `the price of the apple pie`.
    pub(crate) fn subject(&self, intent: usize, item: &str) -> String {
        self.intents[intent].subject.replace("{item}", item)
    }

    /// `The price of the apple pie is 4 dollars.`
    pub(crate) fn told(&self, fact: &Fact) -> String {
        let subject = capital(&self.subject(fact.intent, &fact.item));
        format!("{subject} {} {}.", self.intents[fact.intent].verb, fact.value)
    }

    /// `Sorry, I do not know the price of the apple pie.`
    pub(crate) fn unknown(&self, intent: usize, item: &str) -> String {
        format!("Sorry, I do not know {}.", self.subject(intent, item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_places_have_one_value_a_subject_and_different_names() {
        let places = Places::new();
        assert_eq!(places.known.len(), KNOWN_PLACES);
        for place in &places.known {
            let mut subjects: Vec<String> =
                place.facts.iter().map(|fact| places.subject(fact.intent, &fact.item)).collect();
            let all = subjects.len();
            assert!(all >= 40, "{} has {all} facts", place.name);
            subjects.sort();
            subjects.dedup();
            assert_eq!(subjects.len(), all, "{}", place.name);
            assert!(!place.name.contains(sample::CAFE));
        }
    }

    #[test]
    fn every_intent_has_values_and_enough_wordings() {
        let places = Places::new();
        let mut rng = Rng::new(3, 3);
        for (index, intent) in places.intents.iter().enumerate() {
            let forms: usize = intent
                .asks
                .iter()
                .map(|ask| {
                    ask.split('[')
                        .skip(1)
                        .map(|part| 1 + part.split(']').next().map_or(0, |c| c.matches('|').count()))
                        .product::<usize>()
                })
                .sum();
            assert!(forms >= 25, "{} has only {forms} wordings", intent.id);
            for _ in 0..50 {
                let told = places.told(&places.draw_fact(index, &mut rng));
                assert!(told.ends_with('.') && !told.contains(['{', '[']), "{told}");
            }
        }
    }
}
