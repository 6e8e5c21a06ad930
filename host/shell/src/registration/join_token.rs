//! What lets a controller in.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A join token, or where it stands. A file is read whenever the token is needed: it can be replaced at any time.
#[derive(Clone)]
pub enum JoinToken {
    /// The token itself.
    Text(String),
    /// A file with it.
    File(PathBuf),
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
pub enum JoinTokenError {
    /// The file cannot be read.
    #[error("the join token cannot be read: {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is of no use. What stands there instead is sent nowhere.
    #[error("the join token is no token: it is empty, or has characters that none has")]
    NoToken,
}

impl JoinToken {
    /// The token as it is now.
    pub async fn read(&self) -> Result<String, JoinTokenError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|source| JoinTokenError::File { path: path.clone(), source })?,
        };
        let token = text.trim();
        match !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic()) {
            true => Ok(token.to_owned()),
            false => Err(JoinTokenError::NoToken),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("JoinToken"),
            Self::File(path) => write!(f, "JoinToken({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_one_word_and_is_not_shown() {
        let token = JoinToken::Text(" ssj_1\n".to_owned());
        assert_eq!(token.read().await.unwrap(), "ssj_1");
        assert!(!format!("{token:?}").contains("ssj_1"));
        for text in ["", " \n", "two words", "gehe\u{7f}im"] {
            let error = JoinToken::Text(text.to_owned()).read().await.unwrap_err();
            assert!(matches!(error, JoinTokenError::NoToken), "{text:?}");
        }
        let missing = JoinToken::File("/no/such/file".into()).read().await.unwrap_err().to_string();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }
}
