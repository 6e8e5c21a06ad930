//! Certificates under an authority of the operator's own.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// An authority, and what it has issued for one address, as files in PEM.
pub struct Certificates(TempDir);

impl Certificates {
    /// New ones for a machine with this address.
    pub fn of(address: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([address.to_owned()]).unwrap();
        let own = params.signed_by(&key, &authority).unwrap();
        let made = Self(tempfile::tempdir().unwrap());
        for (name, text) in
            [("ca.pem", authority.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())]
        {
            std::fs::write(made.path(name), text).unwrap();
        }
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The file with the authority.
    pub fn ca(&self) -> String {
        self.text("ca.pem")
    }

    /// The file with the machine's certificate.
    pub fn certificate(&self) -> String {
        self.text("own.pem")
    }

    /// The file with its key.
    pub fn key(&self) -> String {
        self.text("own.key")
    }
}
