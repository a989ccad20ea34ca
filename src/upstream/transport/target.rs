//! Where a connection leads and what it needs: addresses, TLS rules.

use super::bootstrap;
use super::jobs::Fault;
use super::tls::{self, Roots};
use crate::config::{ProxyServer, UpstreamHost, UpstreamOptions, UpstreamTransport};
use crate::dns::Name;
use rustls::ClientConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// An encrypted connection with nothing pending is closed after this: it costs more to open than a plain one, and public
/// resolvers keep theirs for 10 s to 2 min.
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
    /// Made when first needed, and again after a failure when files are part of it: they may have been put right.
    tls: Mutex<Option<Arc<ClientConfig>>>,
    /// What its name led to, and until when that is believed.
    found: Mutex<Option<(Vec<IpAddr>, Instant)>>,
}

impl Target {
    pub(super) fn new(
        (host, port): (UpstreamHost, u16),
        transport: UpstreamTransport,
        path: Option<Arc<str>>,
        options: Arc<UpstreamOptions>,
        roots: Arc<Roots>,
    ) -> Self {
        Self { host, port, transport, path, options, roots, tls: Mutex::default(), found: Mutex::default() }
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
            UpstreamHost::Name(name) => Ok(with_port(self.find(name).await?, self.port)),
        }
    }

    /// Returns the addresses of a proxy; one that is known by name is looked for each time.
    pub(super) async fn proxy_addresses(&self, proxy: &ProxyServer) -> Result<Vec<SocketAddr>, Fault> {
        match &proxy.host {
            UpstreamHost::Address(..) => Ok(proxy.host.socket_address(proxy.port).into_iter().collect()),
            UpstreamHost::Name(name) => {
                let (found, _) = bootstrap::find(name, &self.options.bootstrap).await?;
                Ok(with_port(found, proxy.port))
            }
        }
    }

    /// Finds the server's name. What it led to before is used when nobody can be asked.
    async fn find(&self, name: &Name) -> Result<Vec<IpAddr>, Fault> {
        let slot = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot().clone();
        if let Some((addresses, until)) = &known
            && Instant::now() < *until
        {
            return Ok(addresses.clone());
        }
        match bootstrap::find(name, &self.options.bootstrap).await {
            Ok((addresses, kept)) => {
                *slot() = Some((addresses.clone(), Instant::now() + kept));
                Ok(addresses)
            }
            Err(fault) => known.map(|(addresses, _)| addresses).ok_or(fault),
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
        if let Some((_, until)) = &mut *self.found.lock().unwrap_or_else(PoisonError::into_inner) {
            *until = Instant::now();
        }
    }
}

fn with_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}
