//! Words for directions: the compass, where something stands relative to the walker, and turns. And the actions.

use super::geodesy::{full_circle, shortest_turn};

/// Width of one of eight bins, degrees.
const BIN: f64 = 45.0;
/// Turns beyond this many degrees are not slight.
const SLIGHT: f64 = 45.0;

/// One of eight points of the compass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compass {
    /// 0 degrees.
    North,
    /// 45 degrees.
    Northeast,
    /// 90 degrees.
    East,
    /// 135 degrees.
    Southeast,
    /// 180 degrees.
    South,
    /// 225 degrees.
    Southwest,
    /// 270 degrees.
    West,
    /// 315 degrees.
    Northwest,
}

impl Compass {
    /// All eight, clockwise from north.
    pub const ALL: [Compass; 8] = [
        Compass::North,
        Compass::Northeast,
        Compass::East,
        Compass::Southeast,
        Compass::South,
        Compass::Southwest,
        Compass::West,
        Compass::Northwest,
    ];

    /// The nearest point to `heading`; halfway between two, the one that comes first clockwise from north.
    pub fn nearest(heading: f64) -> Self {
        Self::ALL[nearest_bin(heading)]
    }

    /// The word.
    pub fn label(self) -> &'static str {
        match self {
            Compass::North => "north",
            Compass::Northeast => "northeast",
            Compass::East => "east",
            Compass::Southeast => "southeast",
            Compass::South => "south",
            Compass::Southwest => "southwest",
            Compass::West => "west",
            Compass::Northwest => "northwest",
        }
    }

    /// The heading of the word, degrees.
    pub fn degrees(self) -> f64 {
        BIN * f64::from(self as u8)
    }

    /// The compass word in `text`, in either case; `None` if there is none. Compound words are looked for first, because each
    /// holds two simple ones.
    pub fn find(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let compounds = Self::ALL.into_iter().skip(1).step_by(2);
        compounds.chain(Self::ALL.into_iter().step_by(2)).find(|word| text.contains(word.label()))
    }
}

/// Where something stands, seen by a walker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Relation(usize);

impl Relation {
    const LABELS: [&'static str; 8] =
        ["front", "right front", "right", "right behind", "behind", "left behind", "left", "left front"];

    /// Where something at `bearing` is for a walker who faces `heading`, degrees; nearest of eight, as for
    /// [`Compass::nearest`].
    pub fn nearest(heading: f64, bearing: f64) -> Self {
        Relation(nearest_bin(bearing - heading))
    }

    /// The words.
    pub fn label(self) -> &'static str {
        Self::LABELS[self.0 % 8]
    }
}

/// The nearest multiple of 45 degrees, 0 to 7, by circular difference; the lower of two that are equally near.
fn nearest_bin(degrees: f64) -> usize {
    let degrees = full_circle(degrees);
    let difference = |bin: usize| shortest_turn(degrees - BIN * bin as f64).abs();
    (1..8).fold(0, |best, bin| if difference(bin) < difference(best) { bin } else { best })
}

/// How far to turn, as an instruction says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    /// More than 45 degrees to the left.
    Left,
    /// More than 45 degrees to the right.
    Right,
    /// 0 to 45 degrees to the left; straight on counts here.
    SlightlyLeft,
    /// At most 45 degrees to the right.
    SlightlyRight,
}

impl Turn {
    /// All four.
    pub const ALL: [Turn; 4] = [Turn::Left, Turn::Right, Turn::SlightlyLeft, Turn::SlightlyRight];

    /// The turn from heading `from` to heading `to`, degrees.
    ///
    /// `legacy_nowrap` takes the plain difference, as published: 350 to 10 degrees is then a turn to the left.
    pub fn between(from: f64, to: f64, legacy_nowrap: bool) -> Self {
        let degrees = if legacy_nowrap { to - from } else { shortest_turn(to - from) };
        if degrees < -SLIGHT {
            Turn::Left
        } else if degrees <= 0.0 {
            Turn::SlightlyLeft
        } else if degrees <= SLIGHT {
            Turn::SlightlyRight
        } else {
            Turn::Right
        }
    }

    /// The words.
    pub fn label(self) -> &'static str {
        match self {
            Turn::Left => "left",
            Turn::Right => "right",
            Turn::SlightlyLeft => "slightly left",
            Turn::SlightlyRight => "slightly right",
        }
    }
}

/// How turns are named: the rule that is shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionSpace {
    /// By the compass point faced afterwards.
    Absolute,
    /// By the side turned to.
    Relative,
}

impl ActionSpace {
    /// Every action of the space.
    pub fn actions(self) -> impl Iterator<Item = Action> {
        let absolute = (self == ActionSpace::Absolute).then(|| Compass::ALL.map(Action::Face));
        let relative = (self == ActionSpace::Relative).then(|| Turn::ALL.map(Action::Turn));
        let turns = absolute.into_iter().flatten().chain(relative.into_iter().flatten());
        [Action::Forward].into_iter().chain(turns).chain([Action::Stop])
    }
}

/// What can be done at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// On to the next point.
    Forward,
    /// Turn to a compass point.
    Face(Compass),
    /// Turn to a side.
    Turn(Turn),
    /// The walk is over.
    Stop,
}

impl Action {
    /// The action as it is written.
    pub fn label(self) -> &'static str {
        match self {
            Action::Forward => "forward()",
            Action::Face(Compass::North) => "turn_direction(north)",
            Action::Face(Compass::Northeast) => "turn_direction(northeast)",
            Action::Face(Compass::East) => "turn_direction(east)",
            Action::Face(Compass::Southeast) => "turn_direction(southeast)",
            Action::Face(Compass::South) => "turn_direction(south)",
            Action::Face(Compass::Southwest) => "turn_direction(southwest)",
            Action::Face(Compass::West) => "turn_direction(west)",
            Action::Face(Compass::Northwest) => "turn_direction(northwest)",
            Action::Turn(Turn::Left) => "turn_direction(left)",
            Action::Turn(Turn::Right) => "turn_direction(right)",
            Action::Turn(Turn::SlightlyLeft) => "turn_direction(slightly left)",
            Action::Turn(Turn::SlightlyRight) => "turn_direction(slightly right)",
            Action::Stop => "stop()",
        }
    }

    /// Class of the action: `forward`, `turn` or `stop`.
    pub fn kind(self) -> &'static str {
        match self {
            Action::Forward => "forward",
            Action::Face(_) | Action::Turn(_) => "turn",
            Action::Stop => "stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compass_bins_are_45_degrees_wide() {
        for (heading, word) in [
            (0.0, "north"),
            (22.5, "north"),
            (22.6, "northeast"),
            (67.5, "northeast"),
            (67.6, "east"),
            (135.0, "southeast"),
            (180.0, "south"),
            (225.0, "southwest"),
            (292.4, "west"),
            (292.6, "northwest"),
            (337.4, "northwest"),
            (337.5, "north"),
            (359.9, "north"),
            (-90.0, "west"),
            (720.0 + 91.0, "east"),
        ] {
            assert_eq!(Compass::nearest(heading).label(), word, "{heading}");
        }
        for word in Compass::ALL {
            assert_eq!(Compass::nearest(word.degrees()), word);
        }
    }

    #[test]
    fn compound_words_are_found_first() {
        assert_eq!(Compass::find("31 (Northeast)"), Some(Compass::Northeast));
        assert_eq!(Compass::find("go southwest"), Some(Compass::Southwest));
        assert_eq!(Compass::find("90 (east)"), Some(Compass::East));
        assert_eq!(Compass::find("17"), None);
        for word in Compass::ALL {
            assert_eq!(Compass::find(word.label()), Some(word));
        }
    }

    #[test]
    fn relations_are_seen_from_the_walker() {
        for (heading, bearing, words) in [
            (0.0, 0.0, "front"),
            (90.0, 90.0 + 44.0, "right front"),
            (350.0, 80.0, "right"),
            (10.0, 145.0, "right behind"),
            (200.0, 20.0, "behind"),
            (0.0, 225.0, "left behind"),
            (30.0, 300.0, "left"),
            (5.0, 320.0, "left front"),
        ] {
            assert_eq!(Relation::nearest(heading, bearing).label(), words, "{heading} {bearing}");
        }
    }

    #[test]
    fn turns_by_their_angle() {
        for (from, to, wrapped, plain) in [
            (0.0, 90.0, Turn::Right, Turn::Right),
            (0.0, 45.0, Turn::SlightlyRight, Turn::SlightlyRight),
            (0.0, 46.0, Turn::Right, Turn::Right),
            (90.0, 90.0, Turn::SlightlyLeft, Turn::SlightlyLeft),
            (90.0, 45.0, Turn::SlightlyLeft, Turn::SlightlyLeft),
            (90.0, 44.0, Turn::Left, Turn::Left),
            (350.0, 10.0, Turn::SlightlyRight, Turn::Left),
            (10.0, 350.0, Turn::SlightlyLeft, Turn::Right),
            (300.0, 20.0, Turn::Right, Turn::Left),
            (0.0, 180.0, Turn::Right, Turn::Right),
            (180.0, 0.0, Turn::Right, Turn::Left),
        ] {
            assert_eq!(Turn::between(from, to, false), wrapped, "{from} to {to}");
            assert_eq!(Turn::between(from, to, true), plain, "{from} to {to}, not wrapped");
        }
    }

    #[test]
    fn the_spaces_have_ten_and_six_actions() {
        let labels = |space: ActionSpace| space.actions().map(Action::label).collect::<Vec<_>>();
        assert_eq!(labels(ActionSpace::Absolute).len(), 10);
        assert_eq!(
            labels(ActionSpace::Relative),
            [
                "forward()",
                "turn_direction(left)",
                "turn_direction(right)",
                "turn_direction(slightly left)",
                "turn_direction(slightly right)",
                "stop()"
            ]
        );
        for (action, word) in ActionSpace::Absolute.actions().skip(1).zip(Compass::ALL) {
            assert_eq!(action.label(), format!("turn_direction({})", word.label()));
        }
    }
}
