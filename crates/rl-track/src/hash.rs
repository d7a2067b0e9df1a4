//! SHA-256 of files and folders, as lower-case hexadecimal.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// SHA-256 of bytes in memory.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file's content, read in pieces.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

/// SHA-256 of a folder: of the lines `<sha256>  ./<relative path>` of all its files, sorted by path bytes.
///
/// The same number comes from a shell in that folder:
/// `find -L . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum`. Links are followed, since model
/// caches keep their files behind links; a link back to a folder above it is an error. Empty folders leave no trace.
pub fn sha256_folder(path: &Path) -> Result<String> {
    Ok(sha256_list(&sha256_files(path)?))
}

/// SHA-256 of every file below a folder by its path there, `./NAME`, sorted by path bytes. Links are followed.
pub fn sha256_files(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut above = Vec::new();
    collect_files(folder, String::from("."), &mut above, &mut files)?;
    files.sort();
    files.into_iter().map(|(name, file)| Ok((name, sha256_file(&file)?))).collect()
}

/// The [`sha256_folder`] of a folder whose [`sha256_files`] are known.
pub fn sha256_list(files: &[(String, String)]) -> String {
    let lines: String = files.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    sha256_bytes(lines.as_bytes())
}

/// [`sha256_folder`] of a folder, [`sha256_file`] of anything else.
pub fn sha256_path(path: &Path) -> Result<String> {
    if path.is_dir() { sha256_folder(path) } else { sha256_file(path) }
}

fn collect_files(
    folder: &Path,
    name: String,
    above: &mut Vec<PathBuf>,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<()> {
    let real = folder.canonicalize().map_err(Error::io("read", folder))?;
    if above.contains(&real) {
        return Err(Error::Cycle { path: folder.to_path_buf() });
    }
    above.push(real);
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let entry_name = format!("{name}/{file_name}");
        if fs::metadata(&path).map_err(Error::io("read", &path))?.is_dir() {
            collect_files(&path, entry_name, above, files)?;
        } else {
            files.push((entry_name, path));
        }
    }
    above.pop();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_match_the_standard_vector() {
        // FIPS 180-2, appendix B.1
        assert_eq!(sha256_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn folders_match_the_shell_command_of_the_docs() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/two"), "two").unwrap();
        fs::write(folder.path().join("a.txt"), "one").unwrap();
        fs::write(folder.path().join("b.txt"), "three").unwrap();
        let expected = "79e89029124057d55b528df1afc2d6e37fdaf145a813a916ff218a840f2d8cc8";
        assert_eq!(sha256_path(folder.path()).unwrap(), expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_folder_above_is_an_error_and_a_file_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "x").unwrap();
        let plain = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path().join("a"), plain.path().join("a")).unwrap();
        assert_eq!(sha256_folder(plain.path()).unwrap(), sha256_folder(folder.path()).unwrap());
        std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
        assert!(matches!(sha256_folder(folder.path()), Err(Error::Cycle { .. })));
    }
}
