//! What a file of rows is, by its name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// How rows are written in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line: `.jsonl`, `.ndjson`.
    JsonLines,
    /// `.json`: an array of objects, or JSON Lines under that name.
    Json,
}

/// How a text file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

/// The endings that are read, for messages.
pub(super) const ENDINGS: &str = ".parquet, .jsonl, .ndjson or .json; the last three also with .gz or .zst";

impl Format {
    /// Format and packing of a file by its name; none where it is not a file of rows. Parquet packs its own pages.
    pub fn of(path: &Path) -> Option<(Format, Compression)> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let packed = [(".gz", Compression::Gzip), (".zst", Compression::Zstd)];
        let (name, compression) = packed
            .into_iter()
            .find_map(|(ending, compression)| Some((name.strip_suffix(ending)?, compression)))
            .unwrap_or((&name, Compression::None));
        let format = match name.rsplit_once('.')?.1 {
            "parquet" if compression == Compression::None => Format::Parquet,
            "jsonl" | "ndjson" => Format::JsonLines,
            "json" => Format::Json,
            _ => return None,
        };
        Some((format, compression))
    }
}

/// Opens a text file, unpacked as its name says.
pub(crate) fn open_text(path: &Path) -> Result<Box<dyn Read + Send>> {
    let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
    match Format::of(path).map_or(Compression::None, |(_, compression)| compression) {
        Compression::None => Ok(Box::new(file)),
        packed => unpack(path, file, packed),
    }
}

#[cfg(feature = "compression")]
fn unpack(path: &Path, file: File, compression: Compression) -> Result<Box<dyn Read + Send>> {
    match compression {
        // A gzip file may be several, one after another; so it is where logs were appended.
        Compression::Gzip => Ok(Box::new(flate2::read::MultiGzDecoder::new(file))),
        _ => {
            let decoder =
                zstd::stream::read::Decoder::new(file).map_err(|source| Error::file("unpack", path, source))?;
            Ok(Box::new(decoder))
        }
    }
}

#[cfg(not(feature = "compression"))]
fn unpack(path: &Path, _file: File, _compression: Compression) -> Result<Box<dyn Read + Send>> {
    Err(Error::FeatureOff { path: path.to_path_buf(), feature: "compression" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_format() {
        for (name, expected) in [
            ("a/b.parquet", Some((Format::Parquet, Compression::None))),
            ("B.JSONL", Some((Format::JsonLines, Compression::None))),
            ("b.v2.jsonl.gz", Some((Format::JsonLines, Compression::Gzip))),
            ("b.json.zst", Some((Format::Json, Compression::Zstd))),
            ("b.ndjson", Some((Format::JsonLines, Compression::None))),
            ("b.parquet.gz", None),
            ("b.csv", None),
            ("jsonl", None),
            (".gz", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), expected, "{name}");
        }
    }
}
