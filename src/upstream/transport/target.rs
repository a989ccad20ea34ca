//! Where a connection leads and what it needs: addresses, TLS rules.

use super::bootstrap::Finder;
use super::jobs::Fault;
use super::tls::{self, Roots};
use crate::config::{ProxyServer, UpstreamHost, UpstreamOptions, UpstreamTransport};
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An encrypted connection with nothing pending is closed after this at the latest: it costs more to open than a plain one,
/// and public resolvers keep theirs for 10 s to 2 min.
pub(super) const ENCRYPTED_IDLE: Duration = Duration::from_secs(30);

/// Where a link leads, and what its connections need.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: UpstreamHost,
    pub(super) port: u16,
    pub(super) transport: UpstreamTransport,
    pub(super) path: Option<Arc<str>>,
    pub(super) options: Arc<UpstreamOptions>,
    roots: Arc<Roots>,
    finder: Arc<Finder>,
    /// Made when first needed, and again after a failure when files are part of it: they may have been put right.
    tls: Mutex<Option<Arc<ClientConfig>>>,
}

impl Target {
    pub(super) fn new(
        (host, port): (UpstreamHost, u16),
        transport: UpstreamTransport,
        path: Option<Arc<str>>,
        options: Arc<UpstreamOptions>,
        (roots, finder): (Arc<Roots>, Arc<Finder>),
    ) -> Self {
        Self { host, port, transport, path, options, roots, finder, tls: Mutex::default() }
    }

    /// Returns the name the server's certificate must be for, as it is written.
    pub(super) fn server_name(&self) -> String {
        let own = || match &self.host {
            UpstreamHost::Address(ip, _) => ip.to_string(),
            UpstreamHost::Name(name) => name.to_string(),
        };
        let name = self.options.server_name.clone().unwrap_or_else(own);
        name.trim_end_matches('.').to_owned()
    }

    /// Returns the addresses of the server.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Fault> {
        match &self.host {
            UpstreamHost::Address(..) => Ok(self.host.socket_address(self.port).into_iter().collect()),
            UpstreamHost::Name(name) => Ok(with_port(self.finder.addresses(name).await?, self.port)),
        }
    }

    /// Returns the addresses of a proxy; one that is known by name is looked for each time.
    pub(super) async fn proxy_addresses(&self, proxy: &ProxyServer) -> Result<Vec<SocketAddr>, Fault> {
        match &proxy.host {
            UpstreamHost::Address(..) => Ok(proxy.host.socket_address(proxy.port).into_iter().collect()),
            UpstreamHost::Name(name) => {
                let (found, _) = self.finder.find(name).await?;
                Ok(with_port(found, proxy.port))
            }
        }
    }

    fn alpn(&self) -> &'static [u8] {
        match self.transport {
            UpstreamTransport::Https => b"h2",
            UpstreamTransport::Quic => b"doq",
            UpstreamTransport::H3 => b"h3",
            UpstreamTransport::Udp | UpstreamTransport::Tcp | UpstreamTransport::Tls => b"dot",
        }
    }

    /// Returns the TLS rules, reading files on a thread that may wait.
    pub(super) async fn tls(&self) -> Result<Arc<ClientConfig>, Fault> {
        let slot = || self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = slot().clone() {
            return Ok(config);
        }
        let (roots, options, alpn) = (Arc::clone(&self.roots), Arc::clone(&self.options), self.alpn());
        let made = tokio::task::spawn_blocking(move || tls::client_config(&roots, &options, alpn));
        let made = Arc::new(made.await.map_err(|_| Fault::told("reading certificates was interrupted"))??);
        *slot() = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The connection did not open: reads files and looks for the name again for the next one.
    pub(super) fn forget(&self) {
        if self.options.ca_file.is_some() || self.options.client_certificate.is_some() {
            *self.tls.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.finder.forget();
    }

    /// It is being asked. Must be called inside a tokio runtime.
    pub(super) fn used(&self) {
        if let UpstreamHost::Name(name) = &self.host {
            self.finder.refresh_when_due(name);
        }
    }
}

fn with_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}
