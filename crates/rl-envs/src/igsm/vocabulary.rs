//! Names of things: systems of four categories, categories of sub-categories, sub-categories of items.
//!
//! The files list categories from the largest container to the smallest thing; here layer 0 is the smallest. Names are
//! runs of capitalised words, which keeps them apart from the sentences around them; the checks are made on loading.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::config::VocabularyKind;
use super::parameter::{MAX_LAYERS, MAX_WIDTH};
use crate::error::{Error, Result};

const STANDARD: &str = include_str!("vocabulary.json");
const DEBUG: &str = include_str!("vocabulary_debug.json");
/// Words that sentences are made of; no name contains one, in either case.
const GRAMMAR_WORDS: [&str; 52] = [
    "the",
    "count",
    "of",
    "one",
    "in",
    "is",
    "are",
    "plus",
    "multiplied",
    "by",
    "total",
    "and",
    "gap",
    "minus",
    "what",
    "we",
    "look",
    "for",
    "so",
    "as",
    "stated",
    "it",
    "given",
    "that",
    "next",
    "now",
    "turn",
    "to",
    "take",
    "call",
    "write",
    "let",
    "stand",
    "be",
    "already",
    "called",
    "text",
    "adds",
    "since",
    "unknown",
    "far",
    "has",
    "wait",
    "this",
    "needs",
    "first",
    "without",
    "there",
    "no",
    "way",
    "get",
    "yet",
];

/// A name's place in the vocabulary: what a word means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thing {
    /// One item.
    Item {
        /// System.
        system: u8,
        /// Layer, 0 for the smallest things.
        layer: u8,
        /// Sub-category of that layer.
        subcategory: u8,
        /// Item of the sub-category.
        item: u8,
    },
    /// All items of a layer.
    Category {
        /// System.
        system: u8,
        /// Layer, 0 for the smallest things.
        layer: u8,
    },
}

impl Thing {
    /// Its system.
    pub fn system(self) -> u8 {
        match self {
            Thing::Item { system, .. } | Thing::Category { system, .. } => system,
        }
    }

    /// Its layer, 0 for the smallest things.
    pub fn layer(self) -> u8 {
        match self {
            Thing::Item { layer, .. } | Thing::Category { layer, .. } => layer,
        }
    }

    /// Whether it is a whole category.
    pub fn is_category(self) -> bool {
        matches!(self, Thing::Category { .. })
    }
}

/// A checked vocabulary.
#[derive(Debug)]
pub struct Vocabulary {
    systems: Vec<SystemData>,
    things: HashMap<String, Thing>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct VocabularyData {
    systems: Vec<SystemData>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SystemData {
    name: String,
    categories: Vec<CategoryData>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct CategoryData {
    name: String,
    /// "the NAME count of one ", made once because every sentence needs it.
    #[serde(skip)]
    counted: String,
    subcategories: Vec<SubcategoryData>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SubcategoryData {
    name: String,
    items: Vec<String>,
    /// As [`CategoryData::counted`], per item.
    #[serde(skip)]
    counted: Vec<String>,
}

impl Vocabulary {
    /// The built-in vocabulary of `kind`, read once.
    ///
    /// # Errors
    /// As for [`Vocabulary::from_json`].
    pub fn builtin(kind: VocabularyKind) -> Result<Arc<Self>> {
        static STANDARD_READ: OnceLock<Result<Arc<Vocabulary>>> = OnceLock::new();
        static DEBUG_READ: OnceLock<Result<Arc<Vocabulary>>> = OnceLock::new();
        let (read, text) = match kind {
            VocabularyKind::Standard => (&STANDARD_READ, STANDARD),
            VocabularyKind::Debug => (&DEBUG_READ, DEBUG),
        };
        read.get_or_init(|| Vocabulary::from_json(text).map(Arc::new)).clone()
    }

    /// Reads `{"systems": [{"name", "categories": [{"name", "subcategories": [{"name", "items": [..]}]}]}]}`, categories
    /// from the largest container to the smallest thing.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] naming the rule and the name that breaks it: 4 categories per system; 4 to 255 items per
    /// sub-category; names of capitalised words of two or more ASCII letters, none of them a word of the sentences;
    /// names unique over all systems; no item that begins or ends with another item of its system.
    pub fn from_json(text: &str) -> Result<Self> {
        let data: VocabularyData = serde_json::from_str(text).map_err(|error| Error::Vocabulary {
            rule: "the file must have the documented form",
            name: error.to_string(),
        })?;
        let mut systems = data.systems;
        for system in &mut systems {
            system.categories.reverse();
        }
        check_sizes(&systems)?;
        let things = index_names(&systems)?;
        for system in &mut systems {
            check_overlap(system)?;
            for category in &mut system.categories {
                category.counted = counted(&category.name);
                for subcategory in &mut category.subcategories {
                    subcategory.counted = subcategory.items.iter().map(|item| counted(item)).collect();
                }
            }
        }
        Ok(Vocabulary { systems, things })
    }

    /// Number of systems.
    pub fn num_systems(&self) -> usize {
        self.systems.len()
    }

    /// Name of `system`, which no text shows.
    pub fn system_name(&self, system: usize) -> &str {
        self.systems.get(system).map_or("", |system| &system.name)
    }

    /// Number of sub-categories of `layer` of `system`.
    pub fn num_subcategories(&self, system: usize, layer: usize) -> usize {
        self.category(system, layer).map_or(0, |category| category.subcategories.len())
    }

    /// Items of a sub-category.
    pub fn items(&self, system: usize, layer: usize, subcategory: usize) -> &[String] {
        let category = self.category(system, layer);
        category.and_then(|category| category.subcategories.get(subcategory)).map_or(&[], |found| &found.items)
    }

    /// Name of the category of `layer`.
    pub fn category_name(&self, system: usize, layer: usize) -> &str {
        self.category(system, layer).map_or("", |category| &category.name)
    }

    /// What `name` means, if anything.
    pub fn thing(&self, name: &str) -> Option<Thing> {
        self.things.get(name).copied()
    }

    /// The name of `thing`; empty for a thing of another vocabulary.
    pub fn name(&self, thing: Thing) -> &str {
        match thing {
            Thing::Category { system, layer } => self.category_name(system.into(), layer.into()),
            Thing::Item { system, layer, subcategory, item } => {
                let items = self.items(system.into(), layer.into(), subcategory.into());
                items.get(usize::from(item)).map_or("", |name| name)
            }
        }
    }

    /// "the NAME count of one ", the beginning of what a quantity of `thing` is called.
    pub(super) fn counted(&self, thing: Thing) -> &str {
        match thing {
            Thing::Category { system, layer } => {
                self.category(system.into(), layer.into()).map_or("", |category| &category.counted)
            }
            Thing::Item { system, layer, subcategory, item } => {
                let category = self.category(system.into(), layer.into());
                let subcategory = category.and_then(|category| category.subcategories.get(usize::from(subcategory)));
                subcategory.and_then(|found| found.counted.get(usize::from(item))).map_or("", |counted| counted)
            }
        }
    }

    /// Number of items of all systems.
    pub fn num_items(&self) -> usize {
        self.things.values().filter(|thing| !thing.is_category()).count()
    }

    fn category(&self, system: usize, layer: usize) -> Option<&CategoryData> {
        self.systems.get(system)?.categories.get(layer)
    }
}

fn counted(name: &str) -> String {
    format!("the {name} count of one ")
}

fn broken<T>(rule: &'static str, name: &str) -> Result<T> {
    Err(Error::Vocabulary { rule, name: name.to_string() })
}

fn check_sizes(systems: &[SystemData]) -> Result<()> {
    let fits = |count: usize, least: usize| (least..=usize::from(u8::MAX)).contains(&count);
    if !fits(systems.len(), 1) {
        return broken("there must be 1 to 255 systems", &systems.len().to_string());
    }
    for system in systems {
        if system.categories.len() != MAX_LAYERS {
            return broken("a system must have exactly 4 categories", &system.name);
        }
        for category in &system.categories {
            if !fits(category.subcategories.len(), 1) {
                return broken("a category must have 1 to 255 sub-categories", &category.name);
            }
            for subcategory in &category.subcategories {
                if !fits(subcategory.items.len(), MAX_WIDTH) {
                    return broken("a sub-category must have 4 to 255 items", &subcategory.name);
                }
            }
        }
    }
    Ok(())
}

fn index_names(systems: &[SystemData]) -> Result<HashMap<String, Thing>> {
    let mut things = HashMap::new();
    let mut add = |name: &str, thing| {
        check_name(name)?;
        match things.insert(name.to_string(), thing) {
            Some(_) => broken("a name must stand once in the whole vocabulary", name),
            None => Ok(()),
        }
    };
    // The counts were checked, so indices fit a byte.
    for (system, data) in systems.iter().enumerate() {
        let system = system as u8;
        for (layer, category) in data.categories.iter().enumerate() {
            let layer = layer as u8;
            add(&category.name, Thing::Category { system, layer })?;
            for (subcategory, data) in category.subcategories.iter().enumerate() {
                for (item, name) in data.items.iter().enumerate() {
                    let (subcategory, item) = (subcategory as u8, item as u8);
                    add(name, Thing::Item { system, layer, subcategory, item })?;
                }
            }
        }
    }
    Ok(things)
}

fn check_name(name: &str) -> Result<()> {
    for word in name.split(' ') {
        let mut letters = word.chars();
        let capital = letters.next().is_some_and(|first| first.is_ascii_uppercase());
        if !capital || word.len() < 2 || !letters.all(|letter| letter.is_ascii_lowercase()) {
            return broken("a name must be capitalised words of two or more letters, with single blanks between", name);
        }
        if GRAMMAR_WORDS.contains(&word.to_ascii_lowercase().as_str()) {
            return broken("a name must not contain a word of the sentences", name);
        }
    }
    Ok(())
}

fn check_overlap(system: &SystemData) -> Result<()> {
    let categories = system.categories.iter();
    let items: Vec<&str> = categories
        .flat_map(|category| &category.subcategories)
        .flat_map(|subcategory| subcategory.items.iter().map(String::as_str))
        .collect();
    for long in &items {
        if items.iter().any(|short| short != long && (long.starts_with(short) || long.ends_with(short))) {
            return broken("an item must not begin or end with another item of its system", long);
        }
    }
    Ok(())
}
