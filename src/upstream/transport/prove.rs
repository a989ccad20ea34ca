//! Proving an address: a TLS handshake with it under a name, to see whose certificate is there. Nothing is sent over it.
//!
//! Who is believed is decided apart from upstreams' own certificates: the bundled roots are those of the public internet; one
//! that this machine has besides was added by whoever runs it, and what it signs proves nothing to the public.

use super::tls::{self, Roots, names};
use crate::dns::foreign::is_hostile;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection and its handshake may take: two round trips, to the other side of the world and over satellites.
const MAX_TIME: Duration = Duration::from_millis(1200);
/// Characters told of what was shown; certificates are other people's text.
const MAX_TOLD_CHARS: usize = 160;

/// What an address has shown for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A certificate of the name that a public root signs.
    Valid,
    /// A good certificate of another name.
    OtherName,
    /// A certificate that no root signs, or one without its key.
    Untrusted,
    /// A certificate of the name that a root signs which was added on this machine.
    LocalRoot,
    /// Nothing that says anything: no connection, no handshake in time, dates that do not fit.
    Nothing,
}

/// What came of trying to prove an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// What it has shown.
    pub shown: Shown,
    /// The same for people, on one line.
    pub told: String,
}

impl Proven {
    fn nothing(told: &str) -> Self {
        Self { shown: Shown::Nothing, told: told.to_owned() }
    }
}

/// Whom proofs believe.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Believed(OnceLock<Option<Checks>>);

/// Checks with the public roots alone, and with those of this machine as well.
#[derive(Debug, Clone)]
struct Checks {
    public: Arc<WebPkiServerVerifier>,
    all: Arc<WebPkiServerVerifier>,
}

impl Believed {
    /// Reads the roots; `more` are to count as public and as added here. Reads files the first time.
    fn get(&self, roots: &Roots, more: &[Vec<CertificateDer<'static>>; 2]) -> Option<Checks> {
        let make = || {
            let bundled = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            let mut all = RootCertStore { roots: roots.get().roots.clone() };
            let mut public = bundled;
            for certificate in &more[0] {
                public.add(certificate.clone()).ok()?;
            }
            for certificate in more.iter().flatten() {
                all.add(certificate.clone()).ok()?;
            }
            let check = |roots| tls::usual_check(Arc::new(roots)).ok();
            Some(Checks { public: check(public)?, all: check(all)? })
        };
        self.0.get_or_init(make).clone()
    }
}

/// Tries to prove that the server at `to` is that of `name`.
pub(in crate::upstream) async fn prove(
    (roots, believed): (Arc<Roots>, Arc<Believed>),
    more: Arc<[Vec<CertificateDer<'static>>; 2]>,
    to: SocketAddr,
    name: ServerName<'static>,
) -> Proven {
    let read = tokio::task::spawn_blocking(move || believed.get(&roots, &more));
    let Ok(Some(believed)) = read.await else {
        return Proven::nothing("there are no roots to check certificates with");
    };
    let looker = Arc::new(Looker { believed, by_local: AtomicBool::new(false) });
    match timeout(MAX_TIME, shake_hands(Arc::clone(&looker), to, name)).await {
        Err(_) => Proven::nothing(&format!("no handshake within {} ms", MAX_TIME.as_millis())),
        Ok(Ok(())) if looker.by_local.load(Ordering::Relaxed) => Proven {
            shown: Shown::LocalRoot,
            told: "a certificate of the name, signed by a root that was added on this machine".to_owned(),
        },
        Ok(Ok(())) => Proven { shown: Shown::Valid, told: "a certificate of the name".to_owned() },
        Ok(Err(error)) => failed(&error),
    }
}

async fn shake_hands(looker: Arc<Looker>, to: SocketAddr, name: ServerName<'static>) -> io::Result<()> {
    let config = tls::rules(looker).map_err(io::Error::other)?.with_no_client_auth();
    let stream = TcpStream::connect(to).await?;
    let mut stream = tls::shake_hands(Arc::new(config), name, stream).await?;
    // Told that nothing follows; whether the server hears it does not matter.
    let _told = stream.shutdown().await;
    Ok(())
}

/// Says what a handshake that did not end well has shown.
fn failed(error: &io::Error) -> Proven {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(error) = inner else { return Proven::nothing(&io::Error::from(error.kind()).to_string()) };
    let rustls::Error::InvalidCertificate(wrong) = error else {
        return Proven::nothing(&told(&format!("TLS: {error}")));
    };
    let of = |shown, text: String| Proven { shown, told: told(&text) };
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other failure is one of the chain")]
    match wrong {
        CertificateError::NotValidForNameContext { presented, .. } => {
            of(Shown::OtherName, format!("a certificate of {}", names(presented)))
        }
        CertificateError::NotValidForName => of(Shown::OtherName, "a certificate of another name".to_owned()),
        // The clock may be wrong, or the site neglected; whoever has the key could as well show a newer one.
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            of(Shown::Nothing, format!("a certificate with wrong dates: {wrong}"))
        }
        CertificateError::BadSignature => of(Shown::Untrusted, "a certificate whose key it does not have".to_owned()),
        CertificateError::UnknownIssuer => of(Shown::Untrusted, "a certificate that no root signs".to_owned()),
        other => of(Shown::Untrusted, format!("a certificate that does not hold: {other}")),
    }
}

fn told(text: &str) -> String {
    text.chars().filter(|c| !is_hostile(*c)).take(MAX_TOLD_CHARS).collect()
}

/// Checks a certificate by the public roots, then by all, and remembers which of them it took.
#[derive(Debug)]
struct Looker {
    believed: Checks,
    by_local: AtomicBool,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let by = |roots: &WebPkiServerVerifier| {
            roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        let public = by(&self.believed.public);
        let Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) = public else { return public };
        let checked = by(&self.believed.all)?;
        self.by_local.store(true, Ordering::Relaxed);
        Ok(checked)
    }

    // That the server has the key is checked too: certificates are public, so that anybody can show one.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.believed.public.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.believed.public.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.believed.public.supported_verify_schemes()
    }
}

/// Returns the name as TLS says it; nothing for one that no public server can have a certificate of.
pub(in crate::upstream) fn tls_name(text: &str) -> Option<ServerName<'static>> {
    let text = text.trim_end_matches('.');
    let is_host =
        |label: &str| !label.starts_with('_') && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_meaningful = text.contains('.') && text.split('.').all(is_host);
    let name = ServerName::try_from(text.to_owned()).ok()?;
    (is_meaningful && matches!(name, ServerName::DnsName(_))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_says_is_told_in_one_short_line() {
        let presented = vec![format!("DnsName(\"{}\n.example\")", "x".repeat(300)); 9];
        let wrong = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("www.example.org").unwrap(),
            presented,
        };
        let proven = failed(&io::Error::other(rustls::Error::InvalidCertificate(wrong)));
        assert_eq!((proven.shown, proven.told.chars().count()), (Shown::OtherName, MAX_TOLD_CHARS));
        assert!(!proven.told.contains('\n'), "{}", proven.told);
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(failed(&io::Error::other(expired)).shown, Shown::Nothing);
        let stolen = rustls::Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(failed(&io::Error::other(stolen)).shown, Shown::Untrusted);
        assert_eq!(failed(&io::ErrorKind::ConnectionReset.into()).told, "connection reset");
    }

    #[test]
    fn only_names_of_hosts_are_proved() {
        for host in ["www.example.org.", "xn--bcher-kva.example", "a_b.example.org"] {
            assert!(tls_name(host).is_some(), "{host}");
        }
        for other in
            [".", "localhost.", "_443._tcp.example.org.", "*.example.org.", "192.0.2.1", "a\\000b.example.org."]
        {
            assert!(tls_name(other).is_none(), "{other}");
        }
    }
}
