//! The text between two waypoints as route files carry it: brace-delimited blocks with one `key: value` per line.
//!
//! Reading is tolerant about form (quotes, commas, blanks, text around the blocks, an outer pair of braces) and never about
//! content: a block without a heading is an error.

use super::direction::Compass;

const HEADING: &str = "to_next_intersection_heading";
const LANDMARKS: &str = "landmarks";

/// One block: the heading of a segment and what is seen at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Milestone {
    /// Heading of the segment, degrees clockwise from north.
    pub heading: f64,
    /// The compass word written beside it, or else the nearest.
    pub compass: Compass,
    /// What is seen at the end, such as `Amber Bakery is on your right`.
    pub landmark: Option<String>,
}

impl Milestone {
    /// Reads all blocks of `text`.
    ///
    /// # Errors
    /// What is wrong with which block, in words.
    pub fn read_all(text: &str) -> Result<Vec<Milestone>, String> {
        blocks(text)
            .enumerate()
            .map(|(index, block)| read(block).map_err(|e| format!("block {}: {e}", index + 1)))
            .collect()
    }

    /// Writes `milestones` in the layout of the published files.
    pub fn write_all(milestones: impl Iterator<Item = Milestone>) -> String {
        let mut text = String::new();
        for Milestone { heading, compass, landmark } in milestones {
            text.push_str(&format!("{{\n\"{HEADING}\": \"{heading} ({})\",\n", compass.label()));
            if let Some(landmark) = landmark {
                text.push_str(&format!("\"{LANDMARKS}\": \"{landmark}\",\n"));
            }
            text.push_str("}\n");
        }
        text
    }
}

/// What stands between each innermost pair of braces.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let closed = text.split_inclusive('}').filter_map(|part| part.strip_suffix('}'));
    closed.filter_map(|part| part.rfind('{').map(|open| &part[open + 1..]))
}

fn read(block: &str) -> Result<Milestone, String> {
    let value_of = |wanted: &str| {
        block.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (bare(key) == wanted).then(|| bare(value)).filter(|value| !value.is_empty())
        })
    };
    let written = value_of(HEADING).ok_or_else(|| format!("no `{HEADING}`"))?;
    let word = Compass::find(written);
    let number = written.split([' ', '(', '°']).next().unwrap_or(written);
    let heading = match (number.parse::<f64>(), word) {
        (Ok(heading), _) if heading.is_finite() => heading,
        (Ok(_), _) => return Err(format!("`{HEADING}` is {written:?}; it must be finite")),
        (Err(_), Some(word)) => word.degrees(),
        (Err(_), None) => {
            return Err(format!("`{HEADING}` is {written:?}; write it as \"<degrees> (<compass word>)\""));
        }
    };
    let compass = word.unwrap_or_else(|| Compass::nearest(heading));
    Ok(Milestone { heading, compass, landmark: value_of(LANDMARKS).map(str::to_owned) })
}

/// Without the blanks, quotes and commas around it.
fn bare(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ','))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milestone(heading: f64, compass: Compass, landmark: Option<&str>) -> Milestone {
        Milestone { heading, compass, landmark: landmark.map(str::to_owned) }
    }

    #[test]
    fn blocks_are_read_in_any_dress() {
        let expected = [
            milestone(29.0, Compass::Northeast, Some("Amber Bakery is on your right")),
            milestone(118.5, Compass::Southeast, None),
        ];
        for text in [
            "{\n\"to_next_intersection_heading\": \"29 (northeast)\",\n\"landmarks\": \"Amber Bakery is on your right\"\n}\n\
             {\n\"to_next_intersection_heading\": \"118.5 (southeast)\",\n}",
            "1. {to_next_intersection_heading: 29 (northeast)\nlandmarks: Amber Bakery is on your right,}, \
             2. {to_next_intersection_heading: 118.5 (Southeast)\nlandmarks: \"\",\nother: x}",
            "[ {{'to_next_intersection_heading' : '29 (northeast)',\n  'landmarks':'Amber Bakery is on your right',\n},\n\
             {'to_next_intersection_heading': 118.5,\n}} ]",
        ] {
            assert_eq!(Milestone::read_all(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_heading_is_needed() {
        for (text, message) in [
            ("{landmarks: x}", "block 1: no `to_next_intersection_heading`"),
            ("{to_next_intersection_heading: 1}{to_next_intersection_heading: soon}", "block 2: `to_next"),
            ("{to_next_intersection_heading: NaN}", "must be finite"),
        ] {
            let error = Milestone::read_all(text).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
        assert_eq!(Milestone::read_all("no block } here {").unwrap(), []);
        assert_eq!(Milestone::read_all("{to_next_intersection_heading: west}").unwrap()[0].heading, 270.0);
    }

    #[test]
    fn written_blocks_are_read_back() {
        let milestones = [
            milestone(0.0, Compass::North, Some("Birch Cafe is on your left front")),
            milestone(301.0, Compass::Northwest, None),
        ];
        let text = Milestone::write_all(milestones.iter().cloned());
        assert_eq!(Milestone::read_all(&text).unwrap(), milestones);
    }
}
