//! A route, and its published file layout.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::direction::Compass;
use super::geodesy::Geocode;
use super::milestone::Milestone;

/// A walk: where it starts, its segments from intersection to intersection, where it leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Where the walk begins.
    pub start: Geocode,
    /// Direction first faced, degrees; `None` draws one per episode.
    pub init_heading: Option<f64>,
    /// Straight pieces, in order.
    pub segments: Vec<Segment>,
    /// What the walk leads to.
    pub destination: Place,
    /// Names of the landmarks by waypoint, as the file has them; nothing depends on it.
    pub landmark_list: Vec<Value>,
}

/// One straight piece of a route.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// The waypoint at its end: an intersection, or the destination.
    pub end: Geocode,
    /// Direction walked, degrees.
    pub heading: f64,
    /// The word for it.
    pub compass: Compass,
    /// What is seen at the end, such as `Amber Bakery is on your right`.
    pub landmark: Option<String>,
}

/// A named place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// What it is called.
    pub name: String,
    /// Where it is.
    pub geocode: Geocode,
}

/// A route as files hold it. Published files carry more fields, which are not read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RouteRecord {
    start_place: StartRecord,
    dest_place: Place,
    /// 0 stands for a draw.
    init_heading: Value,
    milestone_info: String,
    route_results: ResultsRecord,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct StartRecord {
    relocated_geocode: Geocode,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ResultsRecord {
    geocode_list: Vec<Geocode>,
    #[serde(default)]
    landmark_list: Vec<Value>,
}

impl RouteRecord {
    /// The route of the record, or in words what is wrong with it.
    pub fn read(self) -> Result<Route, String> {
        let heading = self.init_heading.as_f64().filter(|heading| heading.is_finite());
        let heading = heading.ok_or_else(|| format!("init_heading is {}; it must be a number", self.init_heading))?;
        let milestones =
            Milestone::read_all(&self.milestone_info).map_err(|error| format!("milestone_info: {error}"))?;
        let waypoints = self.route_results.geocode_list;
        if waypoints.is_empty() || milestones.len() != waypoints.len() {
            return Err(format!(
                "{} blocks in milestone_info for {} waypoints in geocode_list; there must be one each, and at least one",
                milestones.len(),
                waypoints.len()
            ));
        }
        let segment = |(end, Milestone { heading, compass, landmark })| Segment { end, heading, compass, landmark };
        Ok(Route {
            start: self.start_place.relocated_geocode,
            init_heading: (heading != 0.0).then_some(heading),
            segments: waypoints.into_iter().zip(milestones).map(segment).collect(),
            destination: self.dest_place,
            landmark_list: self.route_results.landmark_list,
        })
    }

    /// The record of a route.
    pub fn write(route: &Route) -> Self {
        let milestone = |segment: &Segment| Milestone {
            heading: segment.heading,
            compass: segment.compass,
            landmark: segment.landmark.clone(),
        };
        let heading = route.init_heading.unwrap_or(0.0);
        RouteRecord {
            start_place: StartRecord { relocated_geocode: route.start },
            dest_place: route.destination.clone(),
            // Whole degrees are written as the published files write them, without a point.
            init_heading: if heading.fract() == 0.0 { Value::from(heading as i64) } else { Value::from(heading) },
            milestone_info: Milestone::write_all(route.segments.iter().map(milestone)),
            route_results: ResultsRecord {
                geocode_list: route.segments.iter().map(|segment| segment.end).collect(),
                landmark_list: route.landmark_list.clone(),
            },
        }
    }
}
