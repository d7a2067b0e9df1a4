//! The head of a safetensors file: which tensor lies where. Every number in it is checked before it is used.
//!
//! Format: eight bytes with the length of a JSON object, the object, then the data without gaps
//! (<https://huggingface.co/docs/safetensors/index#format>). The `safetensors` crate reads the same, but keeps the last
//! of two entries with one name and adds unchecked sizes, so a hostile file could end the program.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Type, shape and place of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<i64>,
    /// Bytes of the file.
    pub(crate) range: Range<usize>,
}

/// libtorch's own limit.
const MAX_DIMENSIONS: usize = 64;
const LENGTH_BYTES: usize = 8;
const METADATA_KEY: &str = "__metadata__";

/// The tensors of a file by name; the error says what is wrong with the file.
///
/// The data of all tensors together is exactly what follows the head, so whoever copies each tensor once copies no more
/// than the file.
pub(crate) fn parse(file: &[u8]) -> Result<BTreeMap<String, Place>, String> {
    let (length, rest) = file.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| {
        format!("it has {} bytes, and the length of its header alone takes {LENGTH_BYTES}", file.len())
    })?;
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let header = header.ok_or_else(|| format!("its header should have {length} bytes, and {} follow", rest.len()))?;
    let data_start = LENGTH_BYTES + header.len();
    let data_len = rest.len() - header.len();
    let Header(entries) = serde_json::from_slice(header).map_err(|error| format!("its header: {error}"))?;

    let mut places = BTreeMap::new();
    for (name, entry) in entries {
        let place = entry.place(data_start, data_len).map_err(|reason| format!("tensor `{name}` {reason}"))?;
        places.insert(name, place);
    }
    let mut in_order: Vec<(&String, &Place)> = places.iter().collect();
    in_order.sort_by_key(|(_, place)| (place.range.start, place.range.end));
    let mut end = data_start;
    for (name, place) in in_order {
        if place.range.start != end {
            let (found, wanted) = (place.range.start - data_start, end - data_start);
            return Err(format!("tensor `{name}` begins at {found}, and the one before it ends at {wanted}"));
        }
        end = place.range.end;
    }
    if end != file.len() {
        return Err(format!("{} bytes after the last tensor belong to none", file.len() - end));
    }
    Ok(places)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn place(self, data_start: usize, data_len: usize) -> Result<Place, String> {
        let (begin, end) = self.data_offsets;
        if end < begin || (data_len as u64) < end {
            return Err(format!("lies at {begin}..{end} of {data_len} bytes of data"));
        }
        if MAX_DIMENSIONS < self.shape.len() {
            return Err(format!("has {} dimensions, at most {MAX_DIMENSIONS} can be used", self.shape.len()));
        }
        let too_large = || "has a shape whose size does not fit in 63 bits".to_owned();
        let shape: Vec<i64> =
            self.shape.iter().map(|&d| i64::try_from(d)).collect::<Result<_, _>>().map_err(|_| too_large())?;
        // libtorch multiplies all sizes but zeros into strides, so this product must fit even for an empty tensor.
        let stride = shape.iter().try_fold(1i64, |product, &d| product.checked_mul(d.max(1))).ok_or_else(too_large)?;
        let elements = if shape.contains(&0) { 0 } else { stride as u128 };
        let bits = elements * self.dtype.bitsize() as u128;
        if bits != u128::from(end - begin) * 8 {
            return Err(format!("of shape {shape:?} and type {} does not take {} bytes", self.dtype, end - begin));
        }
        Ok(Place { dtype: self.dtype, shape, range: data_start + begin as usize..data_start + end as usize })
    }
}

/// The entries of the header; a name given twice is an error.
struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA_KEY {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let entry = map.next_value()?;
                    if entries.contains_key(&name) {
                        return Err(A::Error::custom(format!("tensor `{name}` is listed twice")));
                    }
                    entries.insert(name, entry);
                }
                Ok(Header(entries))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
