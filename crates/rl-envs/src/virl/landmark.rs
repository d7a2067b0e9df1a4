//! Invented names of landmarks: a first word and a kind of place. No word of a direction, an action or an intersection.

/// First words.
const FIRST: [&str; 20] = [
    "Amber", "Birch", "Cobalt", "Daisy", "Ember", "Falcon", "Ginger", "Harbor", "Indigo", "Juniper", "Kestrel",
    "Lantern", "Maple", "Nectar", "Olive", "Pebble", "Quartz", "Raven", "Saffron", "Thistle",
];

/// Kinds of places.
const KINDS: [&str; 10] =
    ["Bakery", "Books", "Cafe", "Cinema", "Florist", "Gallery", "Hotel", "Museum", "Pharmacy", "Theatre"];

/// How many names there are.
pub const NUM_LANDMARKS: u64 = (FIRST.len() * KINDS.len()) as u64;

/// Name `index` modulo their number.
pub fn landmark_name(index: u64) -> String {
    let index = (index % NUM_LANDMARKS) as usize;
    format!("{} {}", FIRST[index / KINDS.len()], KINDS[index % KINDS.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::virl::direction::{ActionSpace, Compass, Turn};

    #[test]
    fn names_are_distinct_and_mislead_nobody() {
        let names: HashSet<String> = (0..NUM_LANDMARKS).map(landmark_name).collect();
        assert_eq!(names.len(), 200);
        let spaces = [ActionSpace::Absolute, ActionSpace::Relative];
        let actions = spaces.into_iter().flat_map(ActionSpace::actions).map(|action| action.label());
        let words: Vec<&str> = Compass::ALL
            .map(Compass::label)
            .into_iter()
            .chain(Turn::ALL.map(Turn::label))
            .chain(actions)
            .chain(["intersection", "front", "behind", "landmark", "forward", "stop", "\"", "'", "{", "}", "\n"])
            .collect();
        for name in names {
            let lower = name.to_ascii_lowercase();
            assert!(!words.iter().any(|word| lower.contains(word)), "{name}");
        }
    }
}
