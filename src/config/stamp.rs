//! Whether the files of a configuration are still those that were read.

use super::Sources;
use std::os::unix::fs::MetadataExt;

/// What tells a file from the one that takes its place: device, inode, size, and the time of the last change in
/// nanoseconds. None where there is no file.
type Mark = Option<(u64, u64, u64, i64, i64)>;

/// The files that a configuration and its secrets are read from, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    config: Mark,
    env_file: Mark,
}

impl Stamp {
    /// To be taken before the files are read: what is written later is noticed then.
    pub fn of(sources: &Sources) -> Stamp {
        let mark = |path: &Option<std::path::PathBuf>| {
            let about = std::fs::metadata(path.as_deref()?).ok()?;
            Some((about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
        };
        Stamp { config: mark(&sources.config), env_file: mark(&sources.env_file) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_in_its_place_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gateway.toml");
        let sources = Sources { config: Some(path.clone()), ..Sources::default() };
        let none = Stamp::of(&sources);
        std::fs::write(&path, "a = 1").unwrap();
        let first = Stamp::of(&sources);
        assert_ne!(first, none);
        assert_eq!(first, Stamp::of(&sources));
        let other = dir.path().join("new");
        std::fs::write(&other, "b = 1").unwrap();
        std::fs::rename(other, &path).unwrap();
        assert_ne!(first, Stamp::of(&sources));
    }
}
