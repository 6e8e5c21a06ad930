//! Where a controller is served, and where others are told that it is.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::Args;
use reqwest::Url;
use tonic::transport::{Identity, ServerTlsConfig};

use crate::client::is_local;

/// Where, and to whom.
#[derive(Debug, Args)]
pub(super) struct ExposureArgs {
    /// Address and port to serve on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub(super) listen: SocketAddr,

    /// Certificate to serve TLS with (PEM), its own first, then those between it and its authority
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Serve or call beyond this machine although it is not safe: anybody without --api, unencrypted with it
    #[arg(long)]
    pub(super) insecure: bool,
}

impl ExposureArgs {
    /// Refuses what would hand the backend, or what is said of its sessions, to whoever is on the network.
    pub(super) fn check(&self, is_registered: bool) -> anyhow::Result<()> {
        let listen = self.listen;
        if listen.ip().is_loopback() || self.insecure {
            return Ok(());
        }
        if !is_registered {
            bail!(
                "--listen {listen}: whoever reaches this port owns the backend; only the loopback interface is served \
                 without --insecure"
            );
        }
        if self.tls_cert.is_none() {
            bail!(
                "--listen {listen}: calls would not be encrypted; beyond the loopback interface that needs --tls-cert and \
                 --tls-key, or --insecure"
            );
        }
        Ok(())
    }

    /// Refuses an address at which calls would go over the network unencrypted: no API server takes it either, unless its
    /// configuration allows that.
    pub(super) fn check_advertised(&self, given: Option<&Advertised>) -> anyhow::Result<()> {
        match given {
            Some(given) if given.is_exposed() && !self.insecure => bail!(
                "--advertise {given}: calls would not be encrypted on their way here; that needs grpcs://, or --insecure, and \
                 remote.allow_insecure_endpoints in the configuration of the API server"
            ),
            _ => Ok(()),
        }
    }

    /// What to serve TLS with.
    pub(super) fn tls(&self) -> anyhow::Result<Option<ServerTlsConfig>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let read = |flag: &str, path: &Path| {
            std::fs::read(path).with_context(|| format!("{flag}: {} cannot be read", path.display()))
        };
        let identity = Identity::from_pem(read("--tls-cert", certificate)?, read("--tls-key", key)?);
        Ok(Some(ServerTlsConfig::new().identity(identity)))
    }

    /// Where others find what is served on an address, unless somebody says otherwise.
    pub(super) fn advertised(
        &self,
        given: Option<&Advertised>,
        served: SocketAddr,
    ) -> anyhow::Result<String> {
        if let Some(given) = given {
            return Ok(given.to_string());
        }
        if served.ip().is_unspecified() {
            bail!(
                "--listen {}: it is served on all addresses; say by which one the API server reaches it: --advertise \
                 grpc://HOST:{}",
                self.listen,
                served.port()
            );
        }
        let scheme = if self.tls_cert.is_some() { "grpcs" } else { "grpc" };
        Ok(format!("{scheme}://{served}"))
    }
}

/// Where the API server reaches a controller: `grpc://host:port` or `grpcs://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised(String);

impl Advertised {
    /// Whether calls go there unencrypted, and beyond this machine.
    fn is_exposed(&self) -> bool {
        let url = Url::parse(&self.0).ok();
        url.is_none_or(|url| url.scheme() != "grpcs" && !is_local(&url))
    }
}

impl FromStr for Advertised {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not of the form grpc://host:port or grpcs://host:port");
        let url = Url::parse(text).map_err(|_| form())?;
        let authority = url.host_str().filter(|host| !host.is_empty()).zip(url.port());
        let (host, port) = authority.filter(|(_, port)| *port != 0).ok_or_else(form)?;
        let bare = format!("{}://{host}:{port}", url.scheme());
        match url.scheme() {
            // Nothing beside host and port.
            "grpc" | "grpcs" if text.trim_end_matches('/').eq_ignore_ascii_case(&bare) => Ok(Self(bare)),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Advertised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(listen: &str) -> ExposureArgs {
        ExposureArgs { listen: listen.parse().unwrap(), tls_cert: None, tls_key: None, insecure: false }
    }

    fn with_tls(listen: &str) -> ExposureArgs {
        ExposureArgs { tls_cert: Some("c".into()), tls_key: Some("k".into()), ..on(listen) }
    }

    #[test]
    fn an_address_has_a_host_and_a_port_and_nothing_else() {
        for text in ["grpc://a.example:50051", "grpcs://10.0.0.1:1", "grpc://[::1]:50051"] {
            assert_eq!(text.parse::<Advertised>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a:1",
            "http://a:1",
            "grpc://a",
            "grpc://:1",
            "grpc://a:0",
            "grpc://me@a:1",
            "grpc://a:1/x",
            "grpc://a:1?x=y",
        ] {
            assert!(text.parse::<Advertised>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_exposed_by_accident() {
        for (args, registered, served) in [
            (on("127.0.0.1:1"), false, true),
            (on("[::1]:1"), true, true),
            (on("10.0.0.1:1"), false, false),
            (on("0.0.0.0:1"), true, false),
            (with_tls("0.0.0.0:1"), true, true),
            // It encrypts, but still asks nobody who they are.
            (with_tls("0.0.0.0:1"), false, false),
            (ExposureArgs { insecure: true, ..on("0.0.0.0:1") }, false, true),
            (ExposureArgs { insecure: true, ..on("0.0.0.0:1") }, true, true),
        ] {
            assert_eq!(args.check(registered).is_ok(), served, "{args:?} {registered}");
        }
    }

    #[test]
    fn no_address_is_told_by_accident_at_which_calls_are_not_encrypted() {
        for (endpoint, exposed) in [
            ("grpc://127.0.0.1:1", false),
            ("grpc://[::1]:1", false),
            ("grpc://localhost:1", false),
            ("grpcs://10.0.0.1:1", false),
            ("grpc://10.0.0.1:1", true),
            ("grpc://localhost.example.org:1", true),
        ] {
            let given: Advertised = endpoint.parse().unwrap();
            assert_eq!(on("127.0.0.1:1").check_advertised(Some(&given)).is_err(), exposed, "{endpoint}");
            let insecure = ExposureArgs { insecure: true, ..on("127.0.0.1:1") };
            assert!(insecure.check_advertised(Some(&given)).is_ok(), "{endpoint}");
        }
        assert!(on("127.0.0.1:1").check_advertised(None).is_ok());
    }

    #[test]
    fn what_is_served_everywhere_has_no_address_of_its_own() {
        let at = |text: &str| text.parse().unwrap();
        let given: Advertised = "grpc://a:1".parse().unwrap();
        assert_eq!(on("127.0.0.1:0").advertised(None, at("127.0.0.1:7")).unwrap(), "grpc://127.0.0.1:7");
        assert_eq!(with_tls("[::1]:0").advertised(None, at("[::1]:7")).unwrap(), "grpcs://[::1]:7");
        assert_eq!(on("0.0.0.0:7").advertised(Some(&given), at("0.0.0.0:7")).unwrap(), "grpc://a:1");
        let error = on("0.0.0.0:0").advertised(None, at("0.0.0.0:7")).unwrap_err().to_string();
        assert!(error.contains("--advertise") && error.contains(":7"), "{error}");
    }
}
