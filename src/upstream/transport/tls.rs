//! TLS to one server: whom we believe, what we show, and what is said when a certificate is not good.
//!
//! Certificates are always checked: chain, dates and name; pins, where there are any, come on top. The system's roots and
//! the bundled ones are read when the first encrypted server is asked: 150 roots are memory that a program without any
//! need not have.

use super::dates::{Dates, Side, WrongClock, moment};
use super::jobs::Fault;
use crate::clock::{self, Clock, Tick};
use crate::config::{ClientCertificate, UpstreamOptions};
use data_encoding::BASE64;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, VerifierBuilderError, WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, ConfigBuilder};
use rustls::{DigitallySignedStruct, OtherError, RootCertStore};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Sessions kept for taking up again, for each server: one connection at a time needs one, and servers give two or more.
/// rustls keeps eight of a server, or none.
const MAX_SESSIONS: usize = 8;
/// Names of a wrong certificate that are told.
const MAX_NAMES_TOLD: usize = 4;
/// Octets of one of them.
const MAX_NAME_BYTES: usize = 80;

/// The roots everybody is held against, read once.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Roots {
    store: OnceLock<Arc<RootCertStore>>,
    /// What the certificates held against them say about the clock.
    pub(super) dates: Arc<Dates>,
}

impl Roots {
    pub(super) fn new(clock: Clock) -> Self {
        Self { store: OnceLock::new(), dates: Arc::new(Dates::new(clock)) }
    }

    /// Returns the roots of the system and the bundled ones. Reads files the first time.
    pub(super) fn get(&self) -> Arc<RootCertStore> {
        Arc::clone(self.store.get_or_init(|| {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            let system = rustls_native_certs::load_native_certs();
            if let Some(error) = system.errors.first() {
                tracing::debug!(%error, "the system's certificates could not be read as a whole");
            }
            // Both lists hold mostly the same: a root twice is memory and time for nothing.
            for certificate in system.certs {
                let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) else { continue };
                let known = roots.roots.iter().any(|root| {
                    root.subject == anchor.subject && root.subject_public_key_info == anchor.subject_public_key_info
                });
                if !known {
                    roots.roots.push(anchor.to_owned());
                }
            }
            Arc::new(roots)
        }))
    }
}

/// Returns the name a server's certificate must be for.
pub(super) fn server_name(name: String) -> Result<ServerName<'static>, Fault> {
    let wrong = Fault::told(format!("`{name}` cannot be the name of a certificate"));
    ServerName::try_from(name).map_err(|_| wrong)
}

/// Makes the rules for connections to one server. Reads files: not for a thread that must not wait.
pub(super) fn client_config(roots: &Roots, options: &UpstreamOptions, alpn: &[u8]) -> Result<ClientConfig, Fault> {
    let mut store = roots.get();
    if let Some(path) = &options.ca_file {
        let own = Arc::make_mut(&mut store);
        for certificate in certificates(path)? {
            own.add(certificate).map_err(|error| Fault::told(format!("{}: {error}", path.display())))?;
        }
    }
    let verifier = Verifier::new(store, options.pins.clone(), Arc::clone(&roots.dates))?;
    let builder = rules(Arc::new(verifier)).map_err(|error| Fault::told(error.to_string()))?;
    let mut config = match &options.client_certificate {
        None => builder.with_no_client_auth(),
        Some(ours) => {
            let (chain, key) = identity(ours)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let (certificate, key) = (ours.certificate.display(), ours.key.display());
                Fault::told(format!("{certificate} with {key}: {error}"))
            })?
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_sni = options.sni;
    config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
    Ok(config)
}

/// Begins the rules of a connection: TLS 1.2 and 1.3, certificates checked by `verifier` against the wall clock.
pub(super) fn rules(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(WallTime));
    Ok(builder.with_safe_default_protocol_versions()?.dangerous().with_custom_certificate_verifier(verifier))
}

/// Makes the usual check of certificates, held against these roots.
pub(super) fn usual_check(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(roots, provider()).build()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes a connection one over TLS. The error is one that [`fault`] can put into words.
pub(super) async fn shake_hands(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(config).connect(name, stream).await
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let told = |error: &dyn fmt::Display| Fault::told(format!("{}: {error}", path.display()));
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| told(&error))?.collect();
    let found = found.map_err(|error| told(&error))?;
    if found.is_empty() { Err(told(&"no certificate in it")) } else { Ok(found) }
}

fn identity(ours: &ClientCertificate) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let key = PrivateKeyDer::from_pem_file(&ours.key)
        .map_err(|error| Fault::told(format!("{}: {error}", ours.key.display())))?;
    Ok((certificates(&ours.certificate)?, key))
}

/// The wall clock, which certificates are dated by.
#[derive(Debug)]
struct WallTime;

impl TimeProvider for WallTime {
    fn current_time(&self) -> Option<UnixTime> {
        clock::wall().duration_since(UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// What a server's certificate says, which counts when its key has signed the handshake: certificates are public, so that
/// anybody on the path can show one.
struct Shown {
    /// The hash of the server's own certificate.
    digest: [u8; 32],
    name: String,
    /// What is wrong when the dates are, and nothing else, and when this was found.
    misfit: Option<(WrongClock, Tick, rustls::Error)>,
}

thread_local! {
    /// What was shown in the handshake this thread is at: rustls checks the signature right behind the certificate, on the
    /// same thread. If ever it does not, no certificate is found here, and none is believed.
    static SHOWN: Cell<Option<Shown>> = const { Cell::new(None) };
}

fn digest(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().expect("a SHA-256 hash has 32 octets")
}

fn refusal(text: String) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Told(text)))))
}

/// The usual check, then the pins; what fails is told in words that name the server's certificate.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    pins: Vec<[u8; 32]>,
    dates: Arc<Dates>,
}

impl Verifier {
    fn new(roots: Arc<RootCertStore>, pins: Vec<[u8; 32]>, dates: Arc<Dates>) -> Result<Self, Fault> {
        let usual =
            usual_check(roots).map_err(|error| Fault::told(format!("no roots to check certificates with: {error}")))?;
        Ok(Self { usual, pins, dates })
    }

    /// Checks the key of the server's own certificate. Those above it are sent by the server as well, needed or not, so
    /// that a pin on one of them would prove nothing.
    fn check_pin(&self, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), String> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let key = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
        if self.pins.iter().any(|pin| pin == digest.as_ref()) {
            return Ok(());
        }
        let (found, count) = (BASE64.encode(digest.as_ref()), self.pins.len());
        let name = name.to_str();
        Err(format!("certificate for {name} has the wrong pin: its key has {found}, none of the {count} in `pins`"))
    }

    /// Takes what the certificate said for true when its key has signed; one that does not fit the clock ends here.
    fn conclude(
        &self,
        certificate: &CertificateDer<'_>,
        signed: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let shown = SHOWN.take().filter(|shown| shown.digest == digest(certificate));
        let signed = signed?;
        let Some(Shown { name, misfit, .. }) = shown else {
            return Err(refusal("the certificate was not checked before its signature".to_owned()));
        };
        let Some((wrong, found, error)) = misfit else {
            self.dates.fit(&name);
            return Ok(signed);
        };
        self.dates.misfit(&name, wrong, found);
        Err(error)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Nothing of a handshake that broke off counts in this one.
        SHOWN.set(None);
        let check = |now| {
            let checked = self.usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
            self.check_pin(end_entity, server_name).map_err(refusal)?;
            Ok(checked)
        };
        let show = |misfit| {
            let name = server_name.to_str().into_owned();
            SHOWN.set(Some(Shown { digest: digest(end_entity), name, misfit }));
        };
        let error = match check(now) {
            Ok(checked) => {
                show(None);
                return Ok(checked);
            }
            Err(error) => error,
        };
        let dated = misdated(&error);
        // The pin has words of its own.
        let error = if is_told(&error) { error } else { refusal(explain(&error, end_entity, server_name)) };
        // At a time within its dates everything must be right: anybody can make a certificate with any dates.
        let Some((side, date, Ok(checked))) = dated.map(|(side, date)| (side, date, check(date))) else {
            return Err(error);
        };
        // Whether the server has the key is seen at the signature, where the handshake ends in any case.
        let [certificate, ours] = [date, now].map(|time| moment(time.as_secs()));
        show(Some((WrongClock { ours, certificate, side }, self.dates.now(), error)));
        Ok(checked)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.conclude(cert, self.usual.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.conclude(cert, self.usual.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// The words of a failed check, carried through rustls.
#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

fn is_told(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) if inner.is::<Told>())
}

/// Returns on which side of a certificate's dates the clock is, and the nearest of them, when that is what is wrong.
fn misdated(error: &rustls::Error) -> Option<(Side, UnixTime)> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not about dates")]
    match error {
        CertificateError::NotValidYetContext { not_before, .. } => Some((Side::Early, *not_before)),
        CertificateError::ExpiredContext { not_after, .. } => Some((Side::Late, *not_after)),
        _ => None,
    }
}

/// Says which check failed, and for which name.
fn explain(error: &rustls::Error, certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> String {
    let name = name.to_str();
    let rustls::Error::InvalidCertificate(error) = error else {
        return format!("certificate for {name}: {error}");
    };
    let parsed = webpki::EndEntityCert::try_from(certificate).ok();
    let is_self_signed = parsed.as_ref().is_some_and(|parsed| parsed.issuer() == parsed.subject());
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is told as rustls tells it")]
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("certificate for {name} expired {}; the clock here says {}", date(*not_after), date(*time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let (from, now) = (date(*not_before), date(*time));
            format!("certificate for {name} is not valid before {from}; the clock here says {now}")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!("certificate is not for {name} but for {}", names(presented))
        }
        CertificateError::UnknownIssuer | CertificateError::Other(_) if is_self_signed => {
            format!("certificate for {name} is self-signed; `ca_file` can name it when it is right")
        }
        CertificateError::UnknownIssuer => {
            format!(
                "certificate for {name} is signed by nobody known here; `ca_file` can name who signs in this network"
            )
        }
        other => format!("certificate for {name}: {other}"),
    }
}

fn date(time: UnixTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs())).to_string()
}

/// Lists the names of a certificate, which rustls writes as `DnsName("...")`; what cannot be shown is left out.
pub(super) fn names(presented: &[String]) -> String {
    let one = |name: &String| -> String {
        let bare = name.split_once('(').map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'));
        bare.chars().filter(|c| c.is_ascii_graphic() && *c != '"').take(MAX_NAME_BYTES).collect()
    };
    let told: Vec<String> = presented.iter().take(MAX_NAMES_TOLD).map(one).collect();
    match (told.is_empty(), presented.len() > MAX_NAMES_TOLD) {
        (true, _) => "no name at all".to_owned(),
        (_, true) => format!("{} and {} more", told.join(", "), presented.len() - MAX_NAMES_TOLD),
        _ => told.join(", "),
    }
}

/// Says why a handshake with a server failed.
pub(super) fn fault(error: io::Error, name: &str) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => Fault::told(told(error, name)),
        None => error.into(),
    }
}

fn told(error: &rustls::Error, name: &str) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is told as rustls tells it")]
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.to_string(),
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            format!("{name} speaks TLS but not this protocol (ALPN)")
        }
        other => format!("TLS: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_roots_are_believed_and_each_is_there_once() {
        let roots = Roots::default().get();
        assert!(webpki_roots::TLS_SERVER_ROOTS.len() > 100, "those of the public internet");
        for bundled in webpki_roots::TLS_SERVER_ROOTS {
            let is_it = |root: &&rustls::pki_types::TrustAnchor<'_>| {
                root.subject == bundled.subject && root.subject_public_key_info == bundled.subject_public_key_info
            };
            assert_eq!(roots.roots.iter().filter(is_it).count(), 1, "{:?}", bundled.subject);
        }
    }
}
