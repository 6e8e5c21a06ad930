//! `streamspace controller check`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::Url;
use streamspace_call_auth::{SignerLayer, SigningKey};
use streamspace_conformance::{Recipe, Target, Transport};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::{BoxError, Layer as _, ServiceExt as _};

use crate::command::suite::{RecipeArgs, SuiteArgs};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Where it serves: grpc://HOST:PORT or grpcs://HOST:PORT
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,

    /// Authority that its certificate comes from (PEM) [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Key to sign the calls with, for a controller that takes no others: call-signing.key in the data directory of an API
    /// server that it is registered with
    #[arg(long, value_name = "FILE", requires = "id")]
    signing_key: Option<PathBuf>,

    /// Id that the API server knows it by; signatures are for it alone
    #[arg(long, value_name = "ID", requires = "signing_key")]
    id: Option<String>,

    #[command(flatten)]
    recipe: RecipeArgs,

    /// Image that does not exist on the backend
    #[arg(long, value_name = "IMAGE")]
    missing_image: Option<String>,

    #[command(flatten)]
    suite: SuiteArgs,
}

/// Connects, runs the suite, and reports.
pub(super) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    // Another one may be installed already; either will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signer = match (&args.signing_key, &args.id) {
        (Some(file), Some(id)) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("--signing-key: {} cannot be read", file.display()))?;
            let key = SigningKey::from_pem(&text)
                .with_context(|| format!("--signing-key: {} is no such key", file.display()))?;
            Some(SignerLayer::new(Arc::new(key), id.as_str()))
        }
        _ => None,
    };
    let channel = channel(&args).await?;
    let transport = match signer {
        Some(signer) => Transport::new(signer.layer(channel)),
        None => Transport::new(channel.map_err(BoxError::from)),
    };
    let recipe = Recipe { missing_image: args.missing_image.clone(), ..args.recipe.plain() };
    args.suite.judge(Target { transport, recipe, fixture: None, process: None }).await
}

async fn channel(args: &CheckArgs) -> anyhow::Result<Channel> {
    let (uri, encrypted) = target(&args.endpoint)?;
    let mut endpoint = Endpoint::from_shared(uri)?.connect_timeout(CONNECT_LIMIT);
    if encrypted {
        let tls = match &args.ca {
            Some(file) => {
                let pem = std::fs::read(file)
                    .with_context(|| format!("--ca: {} cannot be read", file.display()))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
            None => {
                let roots = streamspace_tls::trusted_by_the_system()
                    .context("this system trusts no authority: give one with --ca")?;
                ClientTlsConfig::new().trust_anchors(roots.roots)
            }
        };
        endpoint = endpoint.tls_config(tls)?;
    } else if args.ca.is_some() {
        bail!("--ca is for grpcs:// only");
    }
    endpoint.connect().await.with_context(|| format!("nobody serves at {}", args.endpoint))
}

/// What to connect to, and whether it is encrypted.
fn target(endpoint: &str) -> anyhow::Result<(String, bool)> {
    let parsed = Url::parse(endpoint).ok();
    let authority = parsed.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?, url.port()?)));
    let Some((scheme @ ("grpc" | "grpcs"), host, port)) = authority else {
        bail!("`{endpoint}` is not of the form grpc://HOST:PORT or grpcs://HOST:PORT");
    };
    let encrypted = scheme == "grpcs";
    Ok((format!("{}://{host}:{port}", if encrypted { "https" } else { "http" }), encrypted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_what_a_controller_registers_with() {
        assert_eq!(target("grpc://127.0.0.1:1").unwrap(), ("http://127.0.0.1:1".to_owned(), false));
        assert_eq!(target("grpcs://[::1]:1").unwrap(), ("https://[::1]:1".to_owned(), true));
        for wrong in ["", "127.0.0.1:1", "http://a:1", "grpc://a", "grpc:///x"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
