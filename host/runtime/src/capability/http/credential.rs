//! What the host adds to a request so that the server knows it. The plugin never sees it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::request;
use crate::grants::SecretSource;
use crate::http_config::CredentialConfig;

/// What stands for the secret in a header's format.
const PLACEHOLDER: &str = "{secret}";

/// A credential. Its secret is read anew for every request, so that it can be replaced at any time.
pub(super) struct Credential {
    header: HeaderName,
    form: Form,
    secret: SecretSource,
}

enum Form {
    /// The secret between two texts.
    Around(String, String),
    /// The password of a user.
    Basic(String),
}

impl Credential {
    /// Checks everything but the secret itself. The error names the key.
    pub(super) fn new(config: &CredentialConfig) -> Result<Self, String> {
        let CredentialConfig { header, format, secret, basic, bearer } = config;
        let bearer_form = || Form::Around("Bearer ".to_owned(), String::new());
        match (header, secret, basic, bearer) {
            (Some(header), Some(secret), None, None) => Ok(Self {
                header: header_name(header)?,
                form: around(format.as_deref().unwrap_or(PLACEHOLDER))?,
                secret: secret.clone(),
            }),
            (Some(_), None, None, None) => Err("secret: it is missing beside `header`".to_owned()),
            _ if format.is_some() && header.is_none() => Err("format: it belongs to `header`".to_owned()),
            (None, Some(_), None, None) => Err("header: it is missing beside `secret`".to_owned()),
            (None, None, Some(basic), None) if basic.username.contains(':') => {
                Err("basic.username: it cannot have a colon (RFC 7617)".to_owned())
            }
            (None, None, Some(basic), None) => Ok(Self {
                header: AUTHORIZATION,
                form: Form::Basic(basic.username.clone()),
                secret: basic.password.clone(),
            }),
            (None, None, None, Some(token)) => {
                Ok(Self { header: AUTHORIZATION, form: bearer_form(), secret: token.clone() })
            }
            (None, None, None, None) => {
                Err("it needs `header` with `secret`, `basic` or `bearer`".to_owned())
            }
            _ => Err("it is one of `header` with `secret`, `basic` and `bearer`, not several".to_owned()),
        }
    }

    /// The header that is the host's.
    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Adds it. The error says what is wrong with the source, never what is in it.
    pub(super) async fn apply(&self, headers: &mut HeaderMap) -> Result<(), String> {
        let secret = self.secret.read().await?;
        let value = match &self.form {
            Form::Around(before, after) => format!("{before}{secret}{after}"),
            Form::Basic(user) => format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{secret}"))),
        };
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| "it has a character that no header can carry, like a line break".to_owned())?;
        value.set_sensitive(true);
        headers.insert(self.header.clone(), value);
        Ok(())
    }
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed =
        HeaderName::try_from(name).map_err(|_| format!("header: `{name}` is no name of a header"))?;
    match request::is_of_the_connection(&parsed) {
        true => Err(format!("header: `{name}` belongs to the connection")),
        false => Ok(parsed),
    }
}

fn around(format: &str) -> Result<Form, String> {
    match format.split_once(PLACEHOLDER) {
        Some((before, after)) if !after.contains(PLACEHOLDER) => {
            if HeaderValue::try_from(format).is_err() {
                return Err("format: it has a character that no header can carry".to_owned());
            }
            Ok(Form::Around(before.to_owned(), after.to_owned()))
        }
        _ => Err(format!("format: it has to have {PLACEHOLDER} in it, once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_config::BasicConfig;

    fn file(content: &str) -> (tempfile::NamedTempFile, SecretSource) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let source = SecretSource::File(file.path().to_owned());
        (file, source)
    }

    fn header(format: Option<&str>, secret: SecretSource) -> CredentialConfig {
        CredentialConfig {
            header: Some("X-Key".into()),
            format: format.map(Into::into),
            secret: Some(secret),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn each_form_gives_its_header() {
        let (_file, secret) = file("s3cret\n");
        let basic = BasicConfig { username: "u".into(), password: secret.clone() };
        for (config, name, value) in [
            (header(None, secret.clone()), "x-key", "s3cret"),
            (header(Some("T={secret};"), secret.clone()), "x-key", "T=s3cret;"),
            (
                CredentialConfig { bearer: Some(secret.clone()), ..Default::default() },
                "authorization",
                "Bearer s3cret",
            ),
            (
                CredentialConfig { basic: Some(basic), ..Default::default() },
                "authorization",
                "Basic dTpzM2NyZXQ=",
            ),
        ] {
            let mut headers = HeaderMap::new();
            Credential::new(&config).unwrap().apply(&mut headers).await.unwrap();
            assert_eq!(headers[name], value);
            assert!(!format!("{headers:?}").contains("s3cret"));
        }
    }

    #[test]
    fn mistakes_are_told_by_their_key() {
        let (_file, secret) = file("x");
        let with = |change: fn(&mut CredentialConfig)| {
            let mut config = header(None, secret.clone());
            change(&mut config);
            Credential::new(&config).err().unwrap()
        };
        for (message, key) in [
            (with(|c| c.header = Some("a b".into())), "header: "),
            (with(|c| c.header = Some("Host".into())), "header: "),
            (with(|c| c.header = None), "header: "),
            (with(|c| c.secret = None), "secret: "),
            (with(|c| c.format = Some("x".into())), "format: "),
            (with(|c| c.format = Some("{secret}{secret}".into())), "format: "),
            (with(|c| c.format = Some("{secret}\r\nX: y".into())), "format: "),
            (with(|c| c.bearer = c.secret.clone()), "it is one of"),
        ] {
            assert!(message.starts_with(key), "{message}");
        }
    }

    #[tokio::test]
    async fn a_secret_with_a_line_break_is_refused_without_being_told() {
        let (_file, secret) = file("s3cret\r\nX-Evil: 1");
        let message =
            Credential::new(&header(None, secret)).unwrap().apply(&mut HeaderMap::new()).await.unwrap_err();
        assert!(!message.contains("s3cret"), "{message}");
    }
}
