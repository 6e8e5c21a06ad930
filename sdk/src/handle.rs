//! Handles: what one step of long work leaves for the next one.
//!
//! Between two steps the plugin may have been replaced, by a newer version or by an older one. So a handle begins with
//! the version of its form, and whoever does not know that version does without: every step looks at the backend first
//! and could have begun there. A handle is never a reason to fail.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorExt as _, Result};

/// Writes a handle: `<version>:<JSON>`. Whatever changes the form of the JSON needs a version of its own.
pub fn write<T: Serialize + ?Sized>(version: u32, step: &T) -> Result<Vec<u8>> {
    let json = serde_json::to_string(step)
        .map_err(|error| Error::internal(format!("the handle cannot be written: {error}")))?;
    Ok(format!("{version}:{json}").into_bytes())
}

/// Reads a handle of this version. None where there is none, or where somebody else wrote it: another version of the
/// plugin, or nobody that it knows.
pub fn read<T: DeserializeOwned>(version: u32, handle: Option<&[u8]>) -> Option<T> {
    let (found, json) = std::str::from_utf8(handle?).ok()?.split_once(':')?;
    if found != version.to_string() {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_by_the_version_that_wrote_it_and_by_no_other() {
        let handle = write(2, &("pull", 7)).unwrap();
        assert_eq!(handle, br#"2:["pull",7]"#);
        assert_eq!(read(2, Some(&handle)), Some(("pull".to_owned(), 7)));
        assert_eq!(read::<(String, u32)>(1, Some(&handle)), None);
        assert_eq!(read::<(String, u32)>(3, Some(&handle)), None);
    }

    #[test]
    fn what_is_no_handle_is_none() {
        assert_eq!(read::<u32>(1, None), None);
        for noise in [&b""[..], b"1", b":", b"1:", b"1:{", b"01:7", b"pull:3", b"\xff\xfe1:7", b"1:\"7\""] {
            assert_eq!(read::<u32>(1, Some(noise)), None, "{noise:?}");
        }
    }
}
