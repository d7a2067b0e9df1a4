//! Where panoramas exist: the nearest known one to a point, within reach.

use std::collections::HashMap;

use serde_json::Value;

use super::geodesy::{EARTH_RADIUS_M, Geocode};

/// A point farther than this from every panorama has none, metres.
pub const REACH_M: f64 = 20.0;

/// Cells from pole to pole are this many degrees high: as many as [`REACH_M`], so that neighbours suffice.
const CELL: f64 = REACH_M / EARTH_RADIUS_M * (180.0 / std::f64::consts::PI);

/// Places of panoramas, indexed by cells of [`REACH_M`].
#[derive(Debug, Clone, Default)]
pub struct PanoramaMap {
    panoramas: Vec<(Geocode, String)>,
    cells: HashMap<(i64, i64), Vec<usize>>,
}

impl PanoramaMap {
    /// The map of `panoramas`, each with the name of its picture.
    pub fn new(panoramas: Vec<(Geocode, String)>) -> Self {
        let mut cells: HashMap<(i64, i64), Vec<usize>> = HashMap::new();
        for (index, (place, _)) in panoramas.iter().enumerate() {
            cells.entry(cell(*place)).or_default().push(index);
        }
        PanoramaMap { panoramas, cells }
    }

    /// Reads a JSON list of `[[latitude, longitude], name]`, or an object of `"latitude,longitude": name` (brackets around
    /// the two numbers allowed); names may be numbers.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let panoramas = match serde_json::from_str(text).map_err(|error| error.to_string())? {
            Value::Array(items) => items
                .into_iter()
                .enumerate()
                .map(|(index, item)| {
                    let item: Result<(Geocode, Value), _> = serde_json::from_value(item);
                    let (place, name) = item.map_err(|error| format!("entry {}: {error}", index + 1))?;
                    Ok((place, name_of(name)))
                })
                .collect(),
            Value::Object(items) => items.into_iter().map(|(key, name)| Ok((place_of(&key)?, name_of(name)))).collect(),
            _ => Err("must be a list of [[latitude, longitude], name] or an object".to_owned()),
        };
        panoramas.map(PanoramaMap::new)
    }

    /// The map as JSON: a list of `[[latitude, longitude], name]`.
    ///
    /// # Errors
    /// None that can occur with finite coordinates; they are passed on all the same.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.panoramas)
    }

    /// Places and names, in the order given.
    pub fn panoramas(&self) -> &[(Geocode, String)] {
        &self.panoramas
    }

    /// The panorama nearest to `place` and at most [`REACH_M`] away; of equals the first.
    pub fn nearest(&self, place: Geocode) -> Option<Geocode> {
        let (row, column) = cell(place);
        // Meridians close up towards the poles, so the same metres span more columns.
        let columns = (1.0 / place.latitude().to_radians().cos().max(1e-3)).ceil() as i64;
        let mut best: Option<(f64, usize)> = None;
        for row in row - 1..=row + 1 {
            for column in column - columns..=column + columns {
                for &index in self.cells.get(&(row, column)).map_or(&[][..], Vec::as_slice) {
                    let found = (place.distance(self.panoramas[index].0), index);
                    if found.0 <= REACH_M && best.is_none_or(|best| found < best) {
                        best = Some(found);
                    }
                }
            }
        }
        best.map(|(_, index)| self.panoramas[index].0)
    }
}

fn cell(place: Geocode) -> (i64, i64) {
    ((place.latitude() / CELL).floor() as i64, (place.longitude() / CELL).floor() as i64)
}

fn name_of(value: Value) -> String {
    match value {
        Value::String(name) => name,
        other => other.to_string(),
    }
}

fn place_of(key: &str) -> Result<Geocode, String> {
    let wrong = || format!("key {key:?}: write it as \"latitude,longitude\" in degrees");
    let (latitude, longitude) = key.trim_matches(['(', ')', '[', ']', ' ']).split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse().map_err(|_| wrong());
    Geocode::new(number(latitude)?, number(longitude)?).map_err(|error| error.to_string())
}
