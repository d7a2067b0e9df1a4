//! Hash of what a step read and computed, for the record and for `replay`.

use rl_track::MetricsRow;

/// Hexadecimal digits of a digest in the record.
const DIGITS: usize = 16;

/// Collects the bytes of a step: its inputs as they come, its measurements at the end.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    bytes: Vec<u8>,
}

impl Digest {
    /// Token ids that went through the model.
    pub fn ids(&mut self, ids: &[i64]) {
        self.bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }

    /// Numbers that came from the model or from the mathematics.
    pub fn numbers(&mut self, numbers: &[f32]) {
        self.bytes.extend(numbers.iter().flat_map(|number| number.to_bits().to_le_bytes()));
    }

    /// Writes the digest into the row: of everything collected and of the row's values, its timing left out.
    pub fn seal(mut self, row: &mut MetricsRow) {
        for (name, value) in &row.values {
            self.bytes.extend(name.as_bytes());
            self.bytes.extend(value.to_bits().to_le_bytes());
        }
        let mut digest = rl_track::hash::sha256_bytes(&self.bytes);
        digest.truncate(DIGITS);
        row.digest = Some(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_and_value_counts_and_the_clock_does_not() {
        let digest = |ids: &[i64], numbers: &[f32], loss: f64, seconds: f64| {
            let mut digest = Digest::default();
            digest.ids(ids);
            digest.numbers(numbers);
            let mut row = MetricsRow::new(1, "train").with("loss", loss).with_timing("seconds", seconds);
            digest.seal(&mut row);
            row.digest.unwrap()
        };
        let base = digest(&[1, 2], &[0.5], 1.0, 1.0);
        assert_eq!(base, digest(&[1, 2], &[0.5], 1.0, 2.0));
        for other in
            [digest(&[1, 3], &[0.5], 1.0, 1.0), digest(&[1, 2], &[0.25], 1.0, 1.0), digest(&[1, 2], &[0.5], 2.0, 1.0)]
        {
            assert_ne!(base, other);
        }
    }
}
