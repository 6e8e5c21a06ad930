//! The administrator's token: a file that only the owner of the server can read; the store knows its hash.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use uuid::Uuid;

use crate::ControlError;
use crate::domain::sha256_hex;
use crate::store::Store;

/// The file in the data folder, and what the token's name in the store begins with.
pub(crate) const FILE_NAME: &str = "admin.token";

/// Makes sure that the file holds a token which the store knows. Of several servers each has a file of its own, and so a
/// token: the instance tells them apart.
pub(crate) async fn ensure(store: &dyn Store, data_dir: &Path, instance: &str) -> Result<(), ControlError> {
    let path = data_dir.join(FILE_NAME);
    match fs::read_to_string(&path) {
        Ok(text) => {
            fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(ControlError::file(&path))?;
            if store.token_owner(&sha256_hex(text.trim())).await?.is_some() {
                return Ok(());
            }
            tracing::warn!(file = %path.display(), "the token in the file does not work here; making a fresh one");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::info!(file = %path.display(), "there is no administrator's token; making one");
        }
        Err(error) => return Err(ControlError::File { path, source: error }),
    }

    let token = hex::encode(rand::random::<[u8; 32]>());
    // The store first: a file must never hold a token that does not work.
    let name = match store.is_shared() {
        true => format!("{FILE_NAME} of {instance}"),
        false => FILE_NAME.to_owned(),
    };
    store.replace_admin_token(&name, &sha256_hex(&token)).await?;
    write_private(data_dir, &path, &token).map_err(ControlError::file(&path))
}

/// Writes a file in one step. Its mode is right from its first moment on, under either name.
fn write_private(folder: &Path, path: &Path, content: &str) -> io::Result<()> {
    let temporary = folder.join(format!(".{FILE_NAME}.{}", Uuid::new_v4().simple()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            writeln!(file, "{content}")?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
