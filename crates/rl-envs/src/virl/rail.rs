//! The rail: the points of a walk with what is seen, said and right to do at each.

use std::fmt::Write;
use std::ops::Range;

use rl_core::random::RandomKey;

use super::config::VirlConfig;
use super::direction::{Action, ActionSpace, Turn};
use super::geodesy::Geocode;
use super::panorama::PanoramaMap;
use super::route::{Route, Segment};

/// Legs up to this length have no interpolated points, metres.
pub const SHORT_LEG_M: f64 = 5.0;
/// With relocation, interpolated points no farther than this from either end of the leg are left out, metres.
pub const CLEARANCE_M: f64 = 8.0;
/// What is observed where there is no landmark.
pub const NO_LANDMARK: &str = "No landmark is near";
/// What is observed at an intersection, besides the landmark.
pub const AT_INTERSECTION: &str = "You are at an intersection";

/// Every word of the instructions, for the hash of the wording.
pub(super) const WORDING: [&str; 9] =
    [NO_LANDMARK, AT_INTERSECTION, OPENER, OPENED_TURN, TURN, FACING, WALK_ON, DESTINATION, WHERE];

const OPENER: &str = "To begin, ";
const OPENED_TURN: &str = "turn ";
const TURN: &str = "Turn ";
const FACING: &str = " until you face ";
const WALK_ON: &str = "Walk on until the next intersection";
const DESTINATION: &str = "Walk on until your destination";
const WHERE: &str = ", where ";

/// One point of the rail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RailPoint {
    /// Where it is.
    pub geocode: Geocode,
    /// Direction faced on arrival, degrees; the first direction at the start.
    pub heading: f64,
    /// What to do, turns named by the compass.
    pub absolute_action: Action,
    /// What to do, turns named by the side.
    pub relative_action: Action,
    /// The segment whose landmark is seen; `None` away from waypoints.
    landmark: Option<usize>,
    /// Whether it is a waypoint: an intersection, or the destination.
    pub is_waypoint: bool,
    /// Number of the instruction to follow, from 1.
    pub instruction_idx: usize,
}

impl RailPoint {
    /// What to do, in the words of `space`.
    pub fn action(&self, space: ActionSpace) -> Action {
        match space {
            ActionSpace::Absolute => self.absolute_action,
            ActionSpace::Relative => self.relative_action,
        }
    }

    /// Whether the walk ends here.
    pub fn is_stop(&self) -> bool {
        self.absolute_action == Action::Stop
    }

    /// What is said of an intersection: nothing away from waypoints.
    pub fn intersection_observation(&self) -> &'static str {
        if self.is_waypoint { AT_INTERSECTION } else { "" }
    }

    /// Whether the observation speaks of an intersection: at every waypoint but the last, where the walk stops.
    pub fn observes_intersection(&self) -> bool {
        self.is_waypoint && !self.is_stop()
    }
}

/// The points of a walk and its instructions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rail {
    points: Vec<RailPoint>,
    /// The numbered list, one sentence per line.
    instructions: String,
    /// Where in `instructions` each sentence stands, without its number.
    sentences: Vec<Range<usize>>,
    /// What is seen at the end of each segment.
    landmarks: Vec<Option<String>>,
}

impl Rail {
    /// The rail of `route` under `config`. `key` decides which interpolated points are dropped, and the first direction where
    /// the route leaves it open; without `panoramas` every point is its own panorama.
    pub fn build(route: &Route, config: &VirlConfig, panoramas: Option<&PanoramaMap>, key: RandomKey) -> Self {
        let mut rail = Rail::default();
        rail.lay(route, config, panoramas, key);
        rail
    }

    /// [`Rail::build`] in place, so that buffers are reused.
    pub(super) fn lay(&mut self, route: &Route, config: &VirlConfig, panoramas: Option<&PanoramaMap>, key: RandomKey) {
        let init_heading = route.init_heading.unwrap_or_else(|| key.below(0, 360) as f64);
        self.write_instructions(route, config, init_heading);
        self.points.clear();
        let Some(first) = route.segments.first() else { return };
        let turns = |from: f64, segment: &Segment| {
            (Action::Face(segment.compass), Action::Turn(Turn::between(from, segment.heading, config.legacy_nowrap)))
        };
        let (absolute_action, relative_action) = turns(init_heading, first);
        self.points.push(RailPoint {
            geocode: route.start,
            heading: init_heading,
            absolute_action,
            relative_action,
            landmark: None,
            is_waypoint: false,
            instruction_idx: 1,
        });

        let num_sentences = 2 * route.segments.len();
        let mut from = route.start;
        let mut instruction_idx = 2;
        for (index, segment) in route.segments.iter().enumerate() {
            let is_long = SHORT_LEG_M < from.distance(segment.end);
            if is_long {
                let leg = Leg { from, to: segment.end, key, number: index as u64 };
                self.points.extend(leg.points(config, panoramas).map(|geocode| RailPoint {
                    geocode,
                    heading: segment.heading,
                    absolute_action: Action::Forward,
                    relative_action: Action::Forward,
                    landmark: None,
                    is_waypoint: false,
                    instruction_idx: instruction_idx.min(num_sentences),
                }));
            }
            // The pointer moves on with the leg, however short it is.
            instruction_idx += usize::from(is_long || !config.legacy_short_leg);
            let next = route.segments.get(index + 1);
            let (absolute_action, relative_action) =
                next.map_or((Action::Stop, Action::Stop), |next| turns(segment.heading, next));
            self.points.push(RailPoint {
                geocode: segment.end,
                heading: segment.heading,
                absolute_action,
                relative_action,
                landmark: Some(index),
                is_waypoint: true,
                // There is no sentence for stopping: it shares the last one.
                instruction_idx: instruction_idx.min(num_sentences),
            });
            instruction_idx += 1;
            from = segment.end;
        }
    }

    /// The points, from the start to the destination.
    pub fn points(&self) -> &[RailPoint] {
        &self.points
    }

    /// All instructions, numbered from 1, one per line.
    pub fn str_instruction(&self) -> &str {
        &self.instructions
    }

    /// Instruction `number`, counted from 1, without its number; empty if there is none.
    pub fn instruction(&self, number: usize) -> &str {
        let range = number.checked_sub(1).and_then(|index| self.sentences.get(index));
        range.and_then(|range| self.instructions.get(range.clone())).unwrap_or("")
    }

    /// Instructions: two for each segment.
    pub fn num_instructions(&self) -> usize {
        self.sentences.len()
    }

    /// What is seen at `point` besides intersections.
    pub fn landmark_observation(&self, point: &RailPoint) -> &str {
        let landmark = point.landmark.and_then(|segment| self.landmarks.get(segment)?.as_deref());
        landmark.unwrap_or(NO_LANDMARK)
    }

    /// Appends the text observation at `point`: `<landmark>; <intersection>`, the second part blank where the walk stops.
    pub fn push_observation(&self, text: &mut String, point: &RailPoint) {
        text.push_str(self.landmark_observation(point));
        text.push(';');
        if point.observes_intersection() {
            text.push(' ');
            text.push_str(AT_INTERSECTION);
        }
    }

    /// The text observation at `point`.
    pub fn observation(&self, point: &RailPoint) -> String {
        let mut text = String::new();
        self.push_observation(&mut text, point);
        text
    }

    fn write_instructions(&mut self, route: &Route, config: &VirlConfig, init_heading: f64) {
        let Rail { instructions: text, sentences, landmarks, .. } = self;
        text.clear();
        sentences.clear();
        landmarks.clear();
        let mut heading = init_heading;
        for (index, segment) in route.segments.iter().enumerate() {
            let begin = start_sentence(text, sentences.len() + 1);
            text.push_str(if index == 0 { OPENER } else { "" });
            text.push_str(if index == 0 { OPENED_TURN } else { TURN });
            text.push_str(Turn::between(heading, segment.heading, config.legacy_nowrap).label());
            text.push_str(FACING);
            text.push_str(segment.compass.label());
            text.push('.');
            sentences.push(begin..text.len());

            let begin = start_sentence(text, sentences.len() + 1);
            text.push_str(if index + 1 == route.segments.len() { DESTINATION } else { WALK_ON });
            if let Some(landmark) = &segment.landmark {
                text.push_str(WHERE);
                text.push_str(landmark);
            }
            text.push('.');
            sentences.push(begin..text.len());

            landmarks.push(segment.landmark.clone());
            heading = segment.heading;
        }
    }
}

/// Begins line `number`; gives the place where its sentence begins.
fn start_sentence(text: &mut String, number: usize) -> usize {
    if number > 1 {
        text.push('\n');
    }
    push_number(text, number);
    text.push_str(". ");
    text.len()
}

/// Appends `number` in decimals.
pub(super) fn push_number(text: &mut String, number: usize) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{number}");
}

/// A straight piece between two places of the rail.
struct Leg {
    from: Geocode,
    to: Geocode,
    key: RandomKey,
    number: u64,
}

impl Leg {
    /// Draws of one leg; no leg has so many points.
    const DRAWS: u64 = 128;

    /// The interpolated points that are kept, in order.
    fn points<'a>(
        &'a self,
        config: &'a VirlConfig,
        panoramas: Option<&'a PanoramaMap>,
    ) -> impl Iterator<Item = Geocode> + 'a {
        let pieces = config.straight_line_length;
        // Without relocation the last point is the waypoint itself.
        let last = if config.relocation || config.legacy_double_waypoint { pieces } else { pieces - 1 };
        (1..=last).filter_map(move |piece| {
            let draw = self.key.uniform((1 + self.number) * Self::DRAWS + u64::from(piece));
            if draw < config.drop_rate {
                return None;
            }
            let place = self.from.toward(self.to, f64::from(piece) / f64::from(pieces));
            if !config.relocation {
                return Some(place);
            }
            let place = panoramas.map_or(Some(place), |panoramas| panoramas.nearest(place))?;
            let is_clear = CLEARANCE_M < place.distance(self.from) && CLEARANCE_M < place.distance(self.to);
            is_clear.then_some(place)
        })
    }
}
