//! The API server that a controller belongs to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Url};
use streamspace_shell::registration::{ApiServer, JoinToken};

use super::exposure::Advertised;
use crate::client::is_local;
use crate::config::path_or_nothing;
use crate::targets::Named;

/// Which one, and how it is joined.
#[derive(Debug, Args)]
pub(super) struct MembershipArgs {
    /// API server to register with; from then on only its calls are taken. Without one anybody's are
    #[arg(long, value_name = "URL", env = "API_SERVER_URL")]
    api: Option<String>,

    /// File with the join token; read whenever it is needed
    #[arg(long, value_name = "FILE", env = "STREAMSPACE_JOIN_TOKEN_FILE", value_parser = path_or_nothing())]
    join_token_file: Option<PathBuf>,

    /// The join token itself; others on this machine can see it on the command line, but not in the environment
    #[arg(long, value_name = "TOKEN", env = "STREAMSPACE_JOIN_TOKEN", hide_env_values = true)]
    join_token: Option<String>,

    /// Where the API server reaches this controller: grpcs://HOST:PORT, or grpc:// without TLS
    /// [default: the address that is served on]
    #[arg(long, value_name = "ENDPOINT", requires = "api")]
    pub(super) advertise: Option<Advertised>,

    /// Authorities that the API server is known by (PEM) [default: those that this system trusts]
    #[arg(long, value_name = "FILE", requires = "api")]
    ca: Option<PathBuf>,

    /// Authorities that this controller's own certificate comes from (PEM), told to the API server
    /// [default: those that its system trusts]
    #[arg(long, value_name = "FILE", requires_all = ["api", "tls_cert"])]
    tls_ca: Option<PathBuf>,

    /// Label for placement; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "api")]
    labels: Vec<Named>,
}

/// An API server that will be joined.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) api: ApiServer,
    pub(super) join_token: JoinToken,
    pub(super) tls_ca: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl MembershipArgs {
    /// None = the controller is everybody's.
    pub(super) fn read(&self, insecure: bool) -> anyhow::Result<Option<Membership>> {
        let Some(url) = self.api.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let base = api_url(url, insecure)?;
        let join_token = match (&self.join_token_file, &self.join_token) {
            (Some(file), _) if !file.as_os_str().is_empty() => JoinToken::File(file.clone()),
            (_, Some(text)) if !text.is_empty() => JoinToken::Text(text.clone()),
            _ => bail!(
                "--api: a join token is needed (--join-token-file, or STREAMSPACE_JOIN_TOKEN); an administrator of the API \
                 server makes one"
            ),
        };
        let labels = self.labels.iter().map(|label| (label.name.clone(), label.target.clone())).collect();
        let tls_ca = self.tls_ca.as_ref().map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("--tls-ca: {} cannot be read", path.display()))
        });
        let api = ApiServer::new(self.http_client(&base)?, base);
        Ok(Some(Membership { api, join_token, tls_ca: tls_ca.transpose()?, labels }))
    }

    fn http_client(&self, base: &Url) -> anyhow::Result<reqwest::Client> {
        // Followed, a POST would become a GET, and the token would be left out.
        let mut http = reqwest::Client::builder().redirect(Policy::none());
        if is_local(base) {
            http = http.no_proxy();
        }
        if let Some(path) = &self.ca {
            let about = || format!("--ca: {}", path.display());
            let pem = std::fs::read(path).with_context(about)?;
            let certificates = Certificate::from_pem_bundle(&pem).with_context(about)?;
            if certificates.is_empty() {
                bail!("{}: the file has no certificate in PEM", about());
            }
            http = http.tls_certs_only(certificates);
        }
        http.build().context("--api: no client for it can be made")
    }
}

fn api_url(text: &str, insecure: bool) -> anyhow::Result<Url> {
    let url = Url::parse(text).map_err(|error| anyhow!("--api: `{text}`: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated, because of what stands in it.
        bail!("--api: the URL must have no user and no password in it");
    }
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if url.has_host() && (insecure || is_local(&url)) => Ok(url),
        "http" if url.has_host() => bail!(
            "--api {text}: whoever is on the way could say whose calls are taken, and so own the backend; beyond this machine \
             that needs https://, or --insecure"
        ),
        _ => bail!("--api: `{text}` is no http:// or https:// URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_say_whose_calls_are_taken_is_known() {
        for (text, insecure, good) in [
            ("http://127.0.0.1:8000", false, true),
            ("http://localhost:8000/base", false, true),
            ("https://desktops.example.org", false, true),
            ("http://desktops.example.org", false, false),
            ("http://desktops.example.org", true, true),
            ("ftp://127.0.0.1", true, false),
            ("127.0.0.1:8000", true, false),
            ("", true, false),
        ] {
            assert_eq!(api_url(text, insecure).is_ok(), good, "{text} {insecure}");
        }
        let error = api_url("https://me:geheim@a", true).unwrap_err().to_string();
        assert!(!error.contains("geheim"), "{error}");
    }
}
