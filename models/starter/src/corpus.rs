//! The documents the starter model is trained on: short conversations about a small world.
//!
//! Document `i` of a seed depends on the seed and on `i` alone, so any part of a corpus can be made
//! again without the rest. A conversation that would ask one of the held-out questions word for word
//! is drawn again: the starter never sees them.

use std::collections::BTreeSet;

use crate::numbers;
use crate::place_talk::{self, Turn};
use crate::places::Places;
use crate::rng::Rng;
use crate::sample;
use crate::wording::{as_typed, words};
use crate::world_talk::World;

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// A system message, which few conversations have.
    pub system: Option<String>,
    /// What the user says and what the assistant answers, in turn.
    pub turns: Vec<(String, String)>,
}

/// What a conversation can be about, and its share in 100.
const KINDS: [(Kind, usize); 12] = [
    (Kind::Known, 11),
    (Kind::Unknown, 12),
    (Kind::Unnamed, 18),
    (Kind::Told, 8),
    (Kind::Thing, 11),
    (Kind::Animal, 8),
    (Kind::Number, 13),
    (Kind::Opposite, 4),
    (Kind::Fact, 7),
    (Kind::SmallTalk, 3),
    (Kind::Story, 2),
    (Kind::Beyond, 3),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Known,
    Unknown,
    Unnamed,
    Told,
    Thing,
    Animal,
    Number,
    Opposite,
    Fact,
    SmallTalk,
    Story,
    Beyond,
}

const SYSTEMS: &[&str] = &[
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "Answer in one short sentence.",
    "You help people with their questions.",
    "You are the assistant of a cafe.",
];

/// Everything documents are made from.
struct Source {
    places: Places,
    world: World,
    held_out: BTreeSet<Vec<String>>,
}

/// The first `n` documents of the corpus of `seed`.
pub fn corpus(seed: u64, n: usize) -> impl Iterator<Item = Document> {
    let source = Source {
        places: Places::new(),
        world: World::new(),
        held_out: sample::held_out().iter().map(|question| words(&question.prompt)).collect(),
    };
    (0..n as u64).map(move |index| source.document(seed, index))
}

impl Source {
    fn document(&self, seed: u64, index: u64) -> Document {
        let mut rng = Rng::new(seed, index + 2);
        loop {
            let document = self.draw(&mut rng);
            if document.turns.iter().all(|(ask, _)| !self.held_out.contains(&words(ask))) {
                return document;
            }
        }
    }

    fn draw(&self, rng: &mut Rng) -> Document {
        let system = rng.chance(4).then(|| rng.word(SYSTEMS).to_owned());
        let kind = KINDS[rng.weighted(&KINDS.map(|(_, share)| share))].0;
        let turns = match kind {
            Kind::Known => place_talk::known(&self.places, rng),
            Kind::Unknown => place_talk::unknown(&self.places, rng),
            Kind::Unnamed => place_talk::unnamed(&self.places, rng),
            Kind::Told => place_talk::told(&self.places, rng),
            of_the_world => {
                let count = 1 + rng.weighted(&[85, 10, 5]);
                (0..count).map(|_| self.world_turn(of_the_world, rng)).collect()
            }
        };
        Document { system, turns }
    }

    fn world_turn(&self, kind: Kind, rng: &mut Rng) -> Turn {
        let (ask, answer) = match kind {
            Kind::Thing => self.world.thing(rng),
            Kind::Animal => self.world.animal(rng),
            Kind::Number => numbers::talk(rng),
            Kind::Opposite => self.world.opposite(rng),
            Kind::SmallTalk => return self.world.small_talk(rng),
            Kind::Story => self.world.story(rng),
            Kind::Beyond => self.world.beyond(rng),
            _ => self.world.fact(rng),
        };
        (as_typed(ask, rng), answer)
    }
}
