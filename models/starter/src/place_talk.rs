//! Conversations about places: known by heart, unknown, unnamed, or described in the question itself.

use crate::places::{Fact, Places};
use crate::rng::Rng;
use crate::wording::{Asked, as_typed, ask, capital};

/// A question and its answer.
pub(crate) type Turn = (String, String);

const TOPIC_ANSWER: &str = "What do you want to know?";

const TOPICS: &[&str] = &[
    "I have a question about {x}.",
    "Tell me about {x}.",
    "Do you know {x}?",
    "I want to go to {x}.",
    "What do you know about {x}?",
    "Can I ask something about {x}?",
];

const PLAIN_TOPICS: &[&str] = &[
    "I have a question.",
    "I have a question about the cafe.",
    "Can I ask something about your cafe?",
    "May I ask you something?",
    "I want to know something about this place.",
];

const TOLD_INTRODUCTIONS: &[&str] = &[
    "{x} is a cafe. ",
    "I know {x}. ",
    "This is about {x}. ",
    "Listen: ",
    "Here is what I know. ",
    "I have a cafe. ",
    "",
];

/// Questions about a place known by heart.
pub(crate) fn known(places: &Places, rng: &mut Rng) -> Vec<Turn> {
    let place = rng.pick(&places.known);
    let count = turn_count(rng);
    let mut turns = Vec::new();
    let mut open = announce(&place.name, &mut turns, rng);
    for _ in 0..count {
        let fact = rng.pick(&place.facts);
        let asked = asked(&place.name, &mut open, rng);
        turns.push((question(places, fact, asked, rng), places.told(fact)));
    }
    turns
}

/// Questions about a place nobody has heard of.
pub(crate) fn unknown(places: &Places, rng: &mut Rng) -> Vec<Turn> {
    let name = loop {
        let name = places.name(rng);
        if places.known.iter().all(|place| place.name != name) {
            break name;
        }
    };
    let count = turn_count(rng);
    let mut turns = Vec::new();
    let mut open = announce(&name, &mut turns, rng);
    for _ in 0..count {
        let asked = asked(&name, &mut open, rng);
        turns.push(sorry(places, asked, rng));
    }
    turns
}

/// Questions that do not say which place they are about.
pub(crate) fn unnamed(places: &Places, rng: &mut Rng) -> Vec<Turn> {
    let count = turn_count(rng);
    let mut turns = Vec::new();
    if rng.chance(8) {
        turns.push((rng.word(PLAIN_TOPICS).to_owned(), TOPIC_ANSWER.to_owned()));
    }
    for _ in 0..count {
        turns.push(sorry(places, Asked::Unnamed, rng));
    }
    turns
}

/// Facts told in the question, and a question on one of them, or on something that was not told.
pub(crate) fn told(places: &Places, rng: &mut Rng) -> Vec<Turn> {
    let name = places.name(rng);
    let mut facts: Vec<Fact> = Vec::new();
    let count = rng.range(1, 4);
    while facts.len() < count {
        let fact = draw(places, rng);
        if facts.iter().all(|other| other.intent != fact.intent || other.item != fact.item) {
            facts.push(fact);
        }
    }
    let introduction = capital(&rng.word(TOLD_INTRODUCTIONS).replace("{x}", &name));
    let told: Vec<String> = facts.iter().map(|fact| places.told(fact)).collect();
    let told = introduction + &told.join(" ");
    let (ask, answer) = if rng.chance(15) {
        let fact = draw(places, rng);
        if let Some(same) = facts.iter().find(|f| f.intent == fact.intent && f.item == fact.item) {
            (question(places, same, Asked::Unnamed, rng), places.told(same))
        } else {
            sorry_for(places, &fact, Asked::Unnamed, rng)
        }
    } else {
        let fact = rng.pick(&facts);
        (question(places, fact, Asked::Unnamed, rng), places.told(fact))
    };
    if rng.chance(30) {
        vec![(told, TOPIC_ANSWER.to_owned()), (ask, answer)]
    } else {
        vec![(format!("{told} {ask}"), answer)]
    }
}

fn turn_count(rng: &mut Rng) -> usize {
    1 + rng.weighted(&[86, 10, 4])
}

/// Sometimes the place is named in a turn of its own; then the questions need not name it again.
fn announce(name: &str, turns: &mut Vec<Turn>, rng: &mut Rng) -> bool {
    let announced = rng.chance(12);
    if announced {
        turns.push((rng.word(TOPICS).replace("{x}", name), TOPIC_ANSWER.to_owned()));
    }
    announced
}

/// Names the place unless it was named before in this conversation.
fn asked<'a>(name: &'a str, named: &mut bool, rng: &mut Rng) -> Asked<'a> {
    if *named && rng.chance(80) {
        Asked::Unnamed
    } else {
        *named = true;
        Asked::Named(name)
    }
}

fn question(places: &Places, fact: &Fact, asked: Asked, rng: &mut Rng) -> String {
    let template = rng.pick(&places.intents[fact.intent].asks);
    let plain = ask(template, asked, &fact.item, rng);
    // Something else said first: the question decides, not the strongest word.
    let full = if rng.chance(20) { format!("{} {plain}", places.preamble(rng)) } else { plain };
    as_typed(full, rng)
}

fn sorry(places: &Places, asked: Asked, rng: &mut Rng) -> Turn {
    let fact = draw(places, rng);
    sorry_for(places, &fact, asked, rng)
}

fn sorry_for(places: &Places, fact: &Fact, asked: Asked, rng: &mut Rng) -> Turn {
    let answer = places.unknown(fact.intent, &fact.item);
    (question(places, fact, asked, rng), answer)
}

/// Any fact; the menu is asked about most.
fn draw(places: &Places, rng: &mut Rng) -> Fact {
    let of_menu = ["price", "price", "price", "price", "recipe", "recipe", "itemday", "itemday"];
    let intent = if rng.chance(20) { places.intent(rng.word(&of_menu)) } else { None };
    let intent = intent.unwrap_or_else(|| rng.below(places.intents.len()));
    places.draw_fact(intent, rng)
}
