//! Routes through synthetic cities, so that the task runs without any map data. A route is a function of the config and its
//! number.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::city::{City, Intersection, SIDE};
use super::direction::{Compass, Relation};
use super::geodesy::Geocode;
use super::landmark::{NUM_LANDMARKS, landmark_name};
use super::route::{Place, Route, Segment};
use crate::error::{Result, ensure};

/// Most segments of a route; the instruction list has two sentences for each.
pub const MAX_SEGMENTS: u64 = 32;
/// Share of waypoints with a landmark; the destination always has one.
pub const LANDMARK_SHARE: f64 = 0.7;
/// Distance from the start to the first waypoint, metres.
const FIRST_LEG_M: [f64; 2] = [20.0, 60.0];
/// Distance of a landmark from its waypoint, metres.
const LANDMARK_M: [f64; 2] = [10.0, 20.0];

/// Which routes through which city.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Number of the city; its grid is turned by 0, 29 or 45 degrees, round and round.
    pub city: u64,
    /// Number of the first route; sets of the same city with other numbers share no route.
    pub first_route: u64,
    /// Routes.
    pub num_routes: u64,
    /// Fewest segments of a route.
    pub min_segments: u64,
    /// Most segments of a route.
    pub max_segments: u64,
}

impl SyntheticConfig {
    /// 1000 routes of 2 to 6 segments: the size of the published training set.
    pub const TRAINING: SyntheticConfig =
        SyntheticConfig { city: 0, first_route: 0, num_routes: 1000, min_segments: 2, max_segments: 6 };

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        ensure(0 < self.num_routes, "routes.num_routes", self.num_routes, "must be positive")?;
        let end = self.first_route.checked_add(self.num_routes);
        ensure(end.is_some(), "routes.first_route", self.first_route, "first_route + num_routes must fit 64 bits")?;
        ensure(0 < self.min_segments, "routes.min_segments", self.min_segments, "must be positive")?;
        ensure(
            (self.min_segments..=MAX_SEGMENTS).contains(&self.max_segments),
            "routes.max_segments",
            self.max_segments,
            format!("must be {} (min_segments) to {MAX_SEGMENTS}", self.min_segments),
        )
    }
}

/// Makes the routes of one city.
#[derive(Debug, Clone)]
pub struct Synthetic {
    config: SyntheticConfig,
    city: City,
    key: RandomKey,
}

impl Synthetic {
    /// The routes of `config`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] as for [`SyntheticConfig::validate`].
    pub fn new(config: &SyntheticConfig) -> Result<Self> {
        config.validate()?;
        let key = RandomKey::new(config.city, "virl/route");
        Ok(Synthetic { config: config.clone(), city: City::new(config.city)?, key })
    }

    /// Routes.
    pub fn num_routes(&self) -> u64 {
        self.config.num_routes
    }

    /// Route `number` of the set, counted from 0 and modulo their number: a walk over the grid that never turns back at once.
    ///
    /// # Errors
    /// None for a city of coordinates.
    pub fn route(&self, number: u64) -> Result<Route> {
        let SyntheticConfig { first_route, num_routes, min_segments, max_segments, .. } = self.config;
        let key = self.key.at(first_route + number % num_routes);
        let num_segments = min_segments + key.below(0, max_segments - min_segments + 1);
        let draw = |position| key.below(position, SIDE as u64) as usize;
        let mut at = Intersection { column: draw(1), row: draw(2) };
        let mut way = (0, 0);
        let mut segments = Vec::with_capacity(num_segments as usize);
        let mut landmark_list = Vec::with_capacity(num_segments as usize);
        let mut used = Vec::with_capacity(num_segments as usize);
        let mut ways = Vec::with_capacity(8);
        let mut start = None;
        let mut place = self.city.place(self.city.metres(at))?;
        let mut destination = Place { name: String::new(), geocode: place };
        for segment in 0..num_segments {
            let key = key.at(segment);
            ways.clear();
            ways.extend(self.city.ways(at).filter(|&(next, _)| next != (-way.0, -way.1)));
            let Some(&(next_way, next)) = ways.get(key.below(0, ways.len() as u64) as usize) else { break };
            let (begin, end) = (self.city.metres(at), self.city.metres(next));
            (way, at) = (next_way, next);
            let end_place = self.city.place(end)?;
            // The walk begins on the street that leads to the first waypoint.
            if segment == 0 {
                place = self.city.place(back_from(end, begin, between(FIRST_LEG_M, key.uniform(1))))?;
                start = Some(place);
            }
            let heading = place.bearing(end_place).round() % 360.0;
            let is_last = segment + 1 == num_segments;
            let landmark = if is_last || key.uniform(2) < LANDMARK_SHARE {
                let mut name = key.below(3, NUM_LANDMARKS);
                while used.contains(&name) {
                    name = (name + 1) % NUM_LANDMARKS;
                }
                used.push(name);
                Some(self.landmark(&key, landmark_name(name), end, heading)?)
            } else {
                None
            };
            landmark_list.push(landmark.as_ref().map_or(Value::Null, |(place, _)| place.name.clone().into()));
            let phrase = landmark.map(|(place, phrase)| {
                destination = place;
                phrase
            });
            segments.push(Segment { end: end_place, heading, compass: Compass::nearest(heading), landmark: phrase });
            place = end_place;
        }
        Ok(Route {
            start: start.unwrap_or(place),
            // 0 would stand for a draw.
            init_heading: Some((1 + key.below(3, 359)) as f64),
            segments,
            destination,
            landmark_list,
        })
    }

    /// A landmark beside the waypoint at `end` metres, and how a walker with `heading` sees it.
    fn landmark(&self, key: &RandomKey, name: String, end: (f64, f64), heading: f64) -> Result<(Place, String)> {
        let (distance, bearing) = (between(LANDMARK_M, key.uniform(4)), 360.0 * key.uniform(5));
        let (sin, cos) = bearing.to_radians().sin_cos();
        let geocode: Geocode = self.city.place((end.0 + distance * sin, end.1 + distance * cos))?;
        let phrase = format!("{name} is on your {}", Relation::nearest(heading, bearing).label());
        Ok((Place { name, geocode }, phrase))
    }
}

/// The point `distance` before `end` on the way there from `begin`, metres.
fn back_from(end: (f64, f64), begin: (f64, f64), distance: f64) -> (f64, f64) {
    let (east, north) = (end.0 - begin.0, end.1 - begin.1);
    let share = distance / east.hypot(north);
    (end.0 - share * east, end.1 - share * north)
}

fn between([low, high]: [f64; 2], uniform: f64) -> f64 {
    low + (high - low) * uniform
}
