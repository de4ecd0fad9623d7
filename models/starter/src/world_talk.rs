//! Conversations about the small world: things, animals, opposites, plain facts, greetings, stories.

use crate::lexicon::{self, Exchange, Lists};
use crate::place_talk::Turn;
use crate::rng::Rng;
use crate::wording::{capital, choose};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const SEASONS: [&str; 4] = ["spring", "summer", "autumn", "winter"];

struct Thing {
    /// With its article.
    name: String,
    kind: String,
    color: String,
    place: String,
    deed: String,
}

struct Animal {
    name: String,
    sound: String,
    young: String,
    legs: usize,
    food: String,
    home: String,
    flies: bool,
    swims: bool,
}

/// The words of the small world apart from its places.
pub(crate) struct World {
    things: Vec<Thing>,
    animals: Vec<Animal>,
    opposites: Vec<(String, String)>,
    facts: Vec<Exchange>,
    small_talk: Vec<Exchange>,
    beyond: Vec<String>,
    stories: Lists,
}

impl World {
    /// Reads the word lists.
    pub(crate) fn new() -> Self {
        let things = lexicon::table(include_str!("../data/things.txt"))
            .into_iter()
            .filter_map(|row| {
                let [name, kind, color, place, deed] = <[String; 5]>::try_from(row).ok()?;
                Some(Thing { name, kind, color, place, deed })
            })
            .collect();
        let animals = lexicon::table(include_str!("../data/animals.txt"))
            .into_iter()
            .filter_map(|row| {
                let [name, sound, young, legs, food, home, flies, swims] = <[String; 8]>::try_from(row).ok()?;
                Some(Animal {
                    name,
                    sound,
                    young,
                    legs: legs.parse().ok()?,
                    food,
                    home,
                    flies: flies == "yes",
                    swims: swims == "yes",
                })
            })
            .collect();
        let opposites = lexicon::table(include_str!("../data/opposites.txt"))
            .into_iter()
            .filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone())))
            .collect();
        Self {
            things,
            animals,
            opposites,
            facts: lexicon::exchanges(include_str!("../data/facts.txt")),
            small_talk: lexicon::exchanges(include_str!("../data/small_talk.txt")),
            beyond: lexicon::lines(include_str!("../data/beyond.txt")),
            stories: lexicon::lists(include_str!("../data/stories.txt")),
        }
    }

    /// A question about a thing.
    pub(crate) fn thing(&self, rng: &mut Rng) -> Turn {
        let thing = rng.pick(&self.things);
        let Thing { name, kind, color, place, deed } = thing;
        let bare = bare(name);
        let name_up = capital(name);
        let (forms, answer) = match rng.weighted(&[22, 18, 18, 14, 10, 12, 6]) {
            0 => (
                format!(
                    "What [color|colour] is {name}?/[Which|What] [color|colour] does {name} have?/What is the [color|colour] of {name}?/[Tell me|Do you know] the [color|colour] of {name}./What [color|colour] [is|has] the {bare}?/How does {name} look? What [color|colour] is it?"
                ),
                format!("{name_up} is {color}."),
            ),
            1 => (
                format!(
                    "What is {name}?/What kind of thing is {name}?/[Tell me|Do you know] what {name} is./What do you call {name}, a tool or a toy?/Can you tell me what {name} is?"
                ),
                format!("{name_up} is {}.", with_article(kind)),
            ),
            2 => (
                format!(
                    "Where can [you|I|we] find {name}?/Where is {name}?/Where do [you|I|we] find {name}?/Where should I look for {name}?/Where do people [keep|have|see] {name}?/I am looking for {name}. Where can it be?"
                ),
                format!("You can find {name} {place}."),
            ),
            3 => (
                format!(
                    "What can [you|I|we] do with {name}?/What is {name} for?/What do [you|people|we] do with {name}?/What is {name} [good|used] for?/Why do people need {name}?/How do [you|people|we] use {name}?"
                ),
                format!("With {name}, you can {deed}."),
            ),
            4 => (
                format!(
                    "Is {name} {color}?/Is the [color|colour] of {name} {color}?/Is it true that {name} is {color}?"
                ),
                format!("Yes, {name} is {color}."),
            ),
            5 => {
                let other = &rng.pick(&self.things).color;
                if other == color {
                    (format!("Is {name} {color}?"), format!("Yes, {name} is {color}."))
                } else {
                    (
                        format!(
                            "Is {name} {other}?/Is the [color|colour] of {name} {other}?/Is it true that {name} is {other}?"
                        ),
                        format!("No, {name} is {color}."),
                    )
                }
            }
            _ => {
                let other = &rng.pick(&self.things).kind;
                let yes = if other == kind { "Yes" } else { "No" };
                (
                    format!("Is {name} {0}?/Is it true that {name} is {0}?", with_article(other)),
                    format!("{yes}, {name} is {}.", with_article(kind)),
                )
            }
        };
        one_of(&forms, answer, rng)
    }

    /// A question about an animal.
    pub(crate) fn animal(&self, rng: &mut Rng) -> Turn {
        let animal = rng.pick(&self.animals);
        let Animal { name, sound, young, legs, food, home, flies, swims } = animal;
        let a = with_article(name);
        let a_up = capital(&a);
        let (forms, answer) = match rng.weighted(&[16, 16, 14, 14, 14, 8, 8, 8]) {
            0 => (
                format!(
                    "What does {a} say?/What sound does {a} make?/What [sound|noise] does the {name} make?/How does {a} sound?/What noise does {a} make?/What do you hear from {a}?/[Tell me|Do you know] what {a} says."
                ),
                format!("{a_up} says {sound}."),
            ),
            1 => (
                format!(
                    "What is a young {name} called?/What do you call a young {name}?/What is the young of {a}?/What is a baby {name}?/What do you call a baby {name}?/What is the name of a young {name}?/How do you call the child of {a}?"
                ),
                format!("A young {name} is called {}.", with_article(young)),
            ),
            2 => (
                format!(
                    "How many legs does {a} have?/How many legs has {a}?/Count the legs of {a}./On how many legs does {a} walk?/How many feet does {a} have?/[Tell me|Do you know] how many legs {a} has."
                ),
                format!("{a_up} has {legs} legs."),
            ),
            3 => (
                format!(
                    "What does {a} eat?/What do you feed {a}?/What does {a} like to eat?/What food does {a} need?/What is the food of {a}?/What should I give {a} to eat?/[Tell me|Do you know] what {a} eats."
                ),
                format!("{a_up} eats {food}."),
            ),
            4 => (
                format!(
                    "Where does {a} live?/Where is the home of {a}?/Where can [you|I|we] find {a}?/Where do you see {a}?/In what place does {a} live?/Where does {a} sleep?/[Tell me|Do you know] where {a} lives."
                ),
                format!("{a_up} lives {home}."),
            ),
            5 => (
                format!("Can {a} fly?/Does {a} fly?/Is {a} able to fly?/Can the {name} fly?"),
                if *flies { format!("Yes, {a} can fly.") } else { format!("No, {a} can not fly.") },
            ),
            6 => (
                format!("Can {a} swim?/Does {a} swim?/Is {a} able to swim?/Can the {name} swim?"),
                if *swims { format!("Yes, {a} can swim.") } else { format!("No, {a} can not swim.") },
            ),
            _ => (
                format!("What is {a}?/Is {a} an animal?/What kind of thing is {a}?/What kind of being is {a}?"),
                format!("{a_up} is an animal."),
            ),
        };
        // "Is it an animal?" wants a yes.
        let (ask, answer) = one_of(&forms, answer, rng);
        if ask.ends_with("an animal?") {
            return (ask, format!("Yes, {a} is an animal."));
        }
        (ask, answer)
    }

    /// A question about an opposite.
    pub(crate) fn opposite(&self, rng: &mut Rng) -> Turn {
        let (left, right) = rng.pick(&self.opposites);
        let (word, other) = if rng.chance(50) { (left, right) } else { (right, left) };
        one_of(
            &format!(
                "What is the opposite of {word}?/The opposite of {word}?/[Tell me|Give me|Say|Name] the opposite of {word}./Which word is the opposite of {word}?/What is the other side of {word}?/What word means not {word}?/What is not {word}?/Do you know the opposite of {word}?/If it is not {word}, what is it?"
            ),
            format!("The opposite of {word} is {other}."),
            rng,
        )
    }

    /// A plain fact, or what comes after what.
    pub(crate) fn fact(&self, rng: &mut Rng) -> Turn {
        if rng.chance(30) {
            return match rng.weighted(&[50, 35, 15]) {
                0 => order("day", &DAYS, rng),
                1 => order("month", &MONTHS, rng),
                _ => order("season", &SEASONS, rng),
            };
        }
        exchange(&self.facts, rng)
    }

    /// A greeting or small talk.
    pub(crate) fn small_talk(&self, rng: &mut Rng) -> Turn {
        exchange(&self.small_talk, rng)
    }

    /// A question from beyond the small world.
    pub(crate) fn beyond(&self, rng: &mut Rng) -> Turn {
        let template: &String = rng.pick(&self.beyond);
        let ask = choose(template, rng).replace(" ?", "?");
        (ask, "Sorry, I do not know that.".to_owned())
    }

    /// A short story on request.
    pub(crate) fn story(&self, rng: &mut Rng) -> Turn {
        let part = |list: &str, rng: &mut Rng| rng.pick(&self.stories[list]).clone();
        let hero = part("hero", rng);
        let name = rng.word(&["Max", "Lucy", "Ben", "Mila", "Oscar", "Ella", "Sam", "Nina"]);
        let ask =
            if rng.chance(70) { part("ask", rng).replace("{a}", &with_article(&hero)) } else { part("open_ask", rng) };
        let start = choose("[One day|One morning|One evening|Once upon a time]", rng);
        let mood = with_article(&part("mood", rng));
        let story = format!(
            "{start}, {mood} {hero} named {name} went to {}. There {name} found {}. {}",
            part("place", rng),
            part("find", rng),
            part("end", rng).replace("{Name}", name),
        );
        (ask, story)
    }
}

fn exchange(exchanges: &[Exchange], rng: &mut Rng) -> Turn {
    let Exchange { asks, answer } = rng.pick(exchanges);
    let ask: &String = rng.pick(asks);
    (choose(ask, rng), answer.clone())
}

fn order(unit: &str, names: &[&str], rng: &mut Rng) -> Turn {
    let at = rng.below(names.len());
    let (this, next) = (names[at], names[(at + 1) % names.len()]);
    if rng.chance(50) {
        one_of(
            &format!(
                "[What|Which] {unit} comes after {this}?/[What|Which] {unit} is after {this}?/[What|Which] {unit} follows {this}?/What comes after {this}?/What is the next {unit} after {this}?/Today is {this}. What comes next?"
            ),
            format!("{} comes after {this}.", capital(next)),
            rng,
        )
    } else {
        one_of(
            &format!(
                "[What|Which] {unit} comes before {next}?/[What|Which] {unit} is before {next}?/What comes before {next}?/What is the {unit} before {next}?"
            ),
            format!("{} comes before {next}.", capital(this)),
            rng,
        )
    }
}

fn one_of(forms: &str, answer: String, rng: &mut Rng) -> Turn {
    let forms: Vec<&str> = forms.split('/').collect();
    (choose(rng.word(&forms), rng), answer)
}

/// `a spoon` without its article.
fn bare(name: &str) -> &str {
    name.strip_prefix("a ").or_else(|| name.strip_prefix("an ")).unwrap_or(name)
}

fn with_article(word: &str) -> String {
    let article = if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    // What cannot be counted has none.
    if matches!(word, "food" | "furniture" | "weather" | "music") {
        return word.to_owned();
    }
    format!("{article} {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_tables_is_read_and_every_word_has_one_opposite() {
        let world = World::new();
        let rows = |text: &str| lexicon::lines(text).len();
        assert_eq!(world.things.len(), rows(include_str!("../data/things.txt")));
        assert_eq!(world.animals.len(), rows(include_str!("../data/animals.txt")));
        assert_eq!(world.facts.len(), rows(include_str!("../data/facts.txt")));
        assert_eq!(world.small_talk.len(), rows(include_str!("../data/small_talk.txt")));
        let pairs = &world.opposites;
        let mut words: Vec<&String> = pairs.iter().flat_map(|(left, right)| [left, right]).collect();
        words.sort();
        let all = words.len();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn questions_and_answers_are_whole_sentences() {
        let world = World::new();
        let mut rng = Rng::new(4, 4);
        for _ in 0..500 {
            for (ask, answer) in [
                world.thing(&mut rng),
                world.animal(&mut rng),
                world.opposite(&mut rng),
                world.fact(&mut rng),
                world.small_talk(&mut rng),
                world.story(&mut rng),
                world.beyond(&mut rng),
            ] {
                assert!(!ask.contains(['[', '|', '/', '{']), "{ask}");
                assert!(!answer.contains(['[', '|', '/', '{']), "{answer}");
                assert!(answer.ends_with(['.', '!', '?']), "{answer}");
                assert!(answer.starts_with(|c: char| c.is_uppercase()), "{answer}");
            }
        }
    }

    #[test]
    fn a_question_whether_it_is_an_animal_is_answered_with_yes() {
        let world = World::new();
        let mut rng = Rng::new(4, 5);
        for _ in 0..2_000 {
            let (ask, answer) = world.animal(&mut rng);
            if ask.starts_with("Is ") && ask.ends_with("an animal?") {
                assert!(answer.starts_with("Yes, "), "{ask} {answer}");
            }
        }
    }
}
