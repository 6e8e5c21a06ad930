//! Small files of the operator: secrets, certificates, keys.

use std::io;
use std::path::Path;

use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// Bytes that such a file may have. A bundle of all authorities of the world has a quarter of a megabyte.
const MOST: u64 = 1 << 20;

/// Reads a file. It may lie on a file system that does not answer: whoever calls this has to limit the time.
pub(crate) async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = File::open(path).await?.take(MOST + 1).read_to_end(&mut content).await?;
    match read as u64 {
        read if read > MOST => {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MOST} bytes")))
        }
        _ => Ok(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_without_an_end_is_refused() {
        assert_eq!(read(Path::new("/dev/zero")).await.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "open sesame").unwrap();
        assert_eq!(read(file.path()).await.unwrap(), b"open sesame");
    }
}
