//! What the operator's configuration says of an endpoint that is reached by HTTP.

use std::path::PathBuf;

use serde::Deserialize;

use crate::grants::SecretSource;

/// A server, and how the host talks to it for the plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// `https://host:port/base`, `http://host:port/base` or `unix:///path/to.sock`. Plugins see paths below it.
    pub url: String,
    /// How the server is known, and how the host shows itself. None = the authorities that this system trusts.
    pub tls: Option<TlsConfig>,
    /// What the host adds to every request.
    pub credential: Option<CredentialConfig>,
    /// Whether cookies are kept between calls, out of the plugin's sight.
    pub cookies: bool,
    /// `http://host:port` of a proxy that takes CONNECT. None = no proxy, whatever the environment says.
    pub proxy: Option<String>,
    /// Routes (`GET /api/*`) that the plugin may use of those that its manifest asks for. None = all of these.
    pub allow: Option<Vec<String>>,
    /// Whether plain `http://` may leave this machine.
    pub insecure: bool,
    /// Whether HTTP/2 is offered to the server. It has no reason phrases.
    pub http2: bool,
}

impl HttpConfig {
    /// A server, and nothing but its address.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }
}

/// TLS to a server.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the server's certificate in hexadecimal, colons optional. Without `ca` it alone decides, whatever
    /// the certificate says of names and dates.
    pub sha256: Option<String>,
    /// PEM file with the certificate (and its chain) that the host shows.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
    /// Name that the certificate has to be for, where it is not the URL's.
    pub server_name: Option<String>,
}

/// What the host adds to every request: exactly one of a header, basic or bearer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialConfig {
    /// Name of a header.
    pub header: Option<String>,
    /// The header's value, with `{secret}` in it. None = the secret alone.
    pub format: Option<String>,
    /// The secret of the header.
    pub secret: Option<SecretSource>,
    /// Basic authentication.
    pub basic: Option<BasicConfig>,
    /// A bearer token.
    pub bearer: Option<SecretSource>,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct BasicConfig {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretSource,
}
