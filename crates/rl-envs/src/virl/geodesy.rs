//! Distances and bearings on a sphere of the Earth's mean radius. No ellipsoid: over a walk of a few hundred metres the
//! difference is below half a percent of the length, far inside every limit that is compared with it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Mean radius R1 of the Earth in metres (Moritz 1980, Geodetic Reference System 1980).
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A place on the Earth, written `[latitude, longitude]` in degrees, north and east positive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "[f64; 2]", into = "[f64; 2]")]
pub struct Geocode {
    latitude: f64,
    longitude: f64,
}

impl Geocode {
    /// The place at `latitude` and `longitude`, in degrees.
    ///
    /// # Errors
    /// [`Error::Geocode`] unless the latitude lies in `[-90, 90]` and the longitude in `[-180, 180]`.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            Ok(Geocode { latitude, longitude })
        } else {
            Err(Error::Geocode { latitude, longitude })
        }
    }

    /// Degrees north of the equator.
    pub fn latitude(self) -> f64 {
        self.latitude
    }

    /// Degrees east of Greenwich.
    pub fn longitude(self) -> f64 {
        self.longitude
    }

    /// Great-circle distance to `other` in metres, by the haversine formula
    /// `2 R asin sqrt(sin^2(dlat/2) + cos lat1 cos lat2 sin^2(dlon/2))`.
    pub fn distance(self, other: Geocode) -> f64 {
        let half_latitude = (other.latitude - self.latitude).to_radians() / 2.0;
        let half_longitude = (other.longitude - self.longitude).to_radians() / 2.0;
        let cosines = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let h = half_latitude.sin().powi(2) + cosines * half_longitude.sin().powi(2);
        2.0 * EARTH_RADIUS_M * h.min(1.0).sqrt().asin()
    }

    /// Initial bearing of the great circle to `other`, in degrees clockwise from north, `[0, 360)`; 0 for the same place.
    ///
    /// `atan2(sin dlon cos lat2, cos lat1 sin lat2 - sin lat1 cos lat2 cos dlon)`.
    pub fn bearing(self, other: Geocode) -> f64 {
        let (sin_1, cos_1) = self.latitude.to_radians().sin_cos();
        let (sin_2, cos_2) = other.latitude.to_radians().sin_cos();
        let (sin_d, cos_d) = (other.longitude - self.longitude).to_radians().sin_cos();
        full_circle((sin_d * cos_2).atan2(cos_1 * sin_2 - sin_1 * cos_2 * cos_d).to_degrees())
    }

    /// The place `fraction` of the way to `other`, latitude and longitude each in proportion. The published rail is laid
    /// so; over one street the great circle is less than a millimetre away.
    pub fn toward(self, other: Geocode, fraction: f64) -> Geocode {
        Geocode {
            latitude: self.latitude + (other.latitude - self.latitude) * fraction,
            longitude: self.longitude + (other.longitude - self.longitude) * fraction,
        }
    }

    /// The place `east` and `north` metres away on the tangent plane, for distances within a city; rounded to
    /// `1e-7` degrees (about a centimetre), which is how it is written to files.
    ///
    /// # Errors
    /// [`Error::Geocode`] when the result leaves the range of coordinates, as it may at a pole.
    pub fn offset(self, east: f64, north: f64) -> Result<Geocode> {
        let latitude = self.latitude + (north / EARTH_RADIUS_M).to_degrees();
        let parallel = EARTH_RADIUS_M * self.latitude.to_radians().cos();
        Geocode::new(round_7(latitude), round_7(self.longitude + (east / parallel).to_degrees()))
    }
}

impl TryFrom<[f64; 2]> for Geocode {
    type Error = Error;

    fn try_from([latitude, longitude]: [f64; 2]) -> Result<Self> {
        Geocode::new(latitude, longitude)
    }
}

impl From<Geocode> for [f64; 2] {
    fn from(place: Geocode) -> [f64; 2] {
        [place.latitude, place.longitude]
    }
}

/// `degrees` modulo a full circle, `[0, 360)`.
pub fn full_circle(degrees: f64) -> f64 {
    let wrapped = degrees.rem_euclid(360.0);
    // A tiny negative angle rounds up to the full circle itself.
    if wrapped < 360.0 { wrapped } else { 0.0 }
}

/// `degrees` as the shortest turn, `(-180, 180]`.
pub fn shortest_turn(degrees: f64) -> f64 {
    let wrapped = full_circle(degrees);
    if wrapped > 180.0 { wrapped - 360.0 } else { wrapped }
}

fn round_7(degrees: f64) -> f64 {
    (degrees * 1e7).round() / 1e7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_wrap() {
        for (degrees, full, short) in [
            (0.0, 0.0, 0.0),
            (-20.0, 340.0, -20.0),
            (380.0, 20.0, 20.0),
            (180.0, 180.0, 180.0),
            (-180.0, 180.0, 180.0),
            (10.0 - 350.0, 20.0, 20.0),
            (-1e-20, 0.0, 0.0),
        ] {
            assert_eq!(full_circle(degrees), full, "{degrees}");
            assert_eq!(shortest_turn(degrees), short, "{degrees}");
        }
    }

    #[test]
    fn coordinates_are_checked() {
        for (latitude, longitude) in [(90.1, 0.0), (0.0, -180.5), (f64::NAN, 0.0), (0.0, f64::INFINITY)] {
            assert!(matches!(Geocode::new(latitude, longitude), Err(Error::Geocode { .. })), "{latitude}, {longitude}");
        }
    }
}
