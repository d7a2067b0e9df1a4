//! Files of a checkpoint that are copied as they are: tokenizer, chat template, generation defaults.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// Contents of the files beside the weights, by file name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideFiles {
    files: BTreeMap<String, Vec<u8>>,
}

impl SideFiles {
    /// The names a checkpoint may carry beside `config.json` and its weights.
    pub const NAMES: [&str; 5] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
        "special_tokens_map.json",
    ];

    /// Reads those of [`SideFiles::NAMES`] that `folder` has.
    ///
    /// # Errors
    /// [`Error::Io`] when a file exists and cannot be read, or when `folder` is not a folder.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        std::fs::read_dir(folder).map_err(Error::io("open folder", folder))?;
        let mut files = SideFiles::default();
        for name in Self::NAMES {
            let path = folder.join(name);
            if path.exists() {
                files.insert(name, std::fs::read(&path).map_err(Error::io("read", &path))?)?;
            }
        }
        Ok(files)
    }

    /// Adds or replaces one file.
    ///
    /// # Errors
    /// [`Error::Argument`] when `name` is not in [`SideFiles::NAMES`].
    pub fn insert(&mut self, name: &str, contents: Vec<u8>) -> Result<()> {
        if !Self::NAMES.contains(&name) {
            return Err(Error::Argument {
                name: "name",
                value: name.to_owned(),
                reason: format!("a checkpoint's side files are {}", Self::NAMES.join(", ")),
            });
        }
        self.files.insert(name.to_owned(), contents);
        Ok(())
    }

    /// Contents of one file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Names and contents, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, contents)| (name.as_str(), contents.as_slice()))
    }
}
