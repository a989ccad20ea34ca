//! Sockets inherited from the service manager (systemd's `LISTEN_FDS`, sd_listen_fds(3)).
//!
//! They make a restart lose nothing: the manager holds them while nobody reads, and what arrives waits in them. And
//! port 53 needs no privilege of ours.

use super::bind::Bound;
use crate::config;
use listenfd::ListenFd;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

/// Sockets taken over at the start; more are closed. An address listed once for each of 4 workers, UDP and TCP, times
/// 32 addresses.
const MAX_SOCKETS: usize = 256;

/// What is listened on when the configuration names no address: not beside inherited sockets, whose unit says where.
const DEFAULT_LISTEN: [SocketAddr; 2] =
    [SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53), SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 53)];

/// The listening sockets this process was given.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(super) sockets: Vec<Bound>,
    unix: InheritedUnix,
}

/// The listening Unix sockets among them, with the names the manager gave them.
#[derive(Debug, Default)]
pub struct InheritedUnix(Vec<(String, UnixListener)>);

impl InheritedUnix {
    /// Takes the one of a name.
    pub fn take(&mut self, name: &str) -> Option<UnixListener> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Lists the names of those that nobody has taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl Inherited {
    /// Takes the sockets that the environment speaks of. What is no listening internet socket is left out with a warning.
    #[must_use]
    pub fn take() -> Self {
        // One name for each descriptor (`FileDescriptorName=`), parted by colons.
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for at in 0..given.len() {
            if at >= MAX_SOCKETS {
                tracing::warn!(
                    given = given.len(),
                    taken = MAX_SOCKETS,
                    "too many inherited sockets; the rest is left"
                );
                break;
            }
            let name = names.next().unwrap_or_default();
            if let Ok(Some(unix)) = given.take_unix_listener(at) {
                inherited.unix.0.push((name.to_owned(), unix));
                continue;
            }
            let (udp, tcp) = (given.take_udp_socket(at), given.take_tcp_listener(at));
            match (udp, tcp) {
                (Ok(Some(udp)), _) => inherited.add(udp.local_addr(), |bound| bound.udp.push(udp)),
                (_, Ok(Some(tcp))) => inherited.add(tcp.local_addr(), |bound| bound.tcp.push(tcp)),
                _ => tracing::warn!(descriptor = at + 3, "inherited descriptor left: neither UDP nor listening TCP"),
            }
        }
        inherited.prepare();
        inherited
    }

    /// Takes the Unix sockets out.
    pub fn take_unix(&mut self) -> InheritedUnix {
        std::mem::take(&mut self.unix)
    }

    /// Returns the addresses that will be listened on under a configuration, as far as they are known before they are bound.
    #[must_use]
    pub fn addresses_under(&self, config: &config::Server) -> Vec<SocketAddr> {
        let given = self.sockets.iter().map(|bound| bound.actual);
        given.chain(self.missing(&config.listen)).collect()
    }

    /// Returns which of the configured addresses are still to be bound.
    pub(super) fn missing(&self, configured: &[SocketAddr]) -> Vec<SocketAddr> {
        let wanted = if self.sockets.is_empty() { configured } else { beside_inherited(configured) };
        let is_here = |address: &SocketAddr| self.sockets.iter().any(|bound| bound.actual == *address);
        wanted.iter().copied().filter(|address| !is_here(address)).collect()
    }

    fn add(&mut self, address: io::Result<SocketAddr>, put: impl FnOnce(&mut Bound)) {
        let actual = match address {
            // The kernel would pick the address that answers come from, and clients would not know it.
            Ok(address) if address.ip().is_unspecified() => {
                tracing::warn!(%address, "inherited wildcard socket left out; list each address in the socket unit");
                return;
            }
            Ok(address) => address,
            Err(error) => {
                tracing::warn!(%error, "inherited socket without an address left out");
                return;
            }
        };
        let at = self.sockets.iter().position(|bound| bound.actual == actual).unwrap_or_else(|| {
            self.sockets.push(Bound { configured: actual, actual, udp: Vec::new(), tcp: Vec::new() });
            self.sockets.len() - 1
        });
        put(&mut self.sockets[at]);
    }

    /// The manager hands sockets over in blocking mode, which would stop a worker.
    fn prepare(&mut self) {
        for bound in &mut self.sockets {
            let actual = bound.actual;
            let works = |result: io::Result<()>| {
                result
                    .inspect_err(|error| tracing::warn!(address = %actual, %error, "inherited socket left out"))
                    .is_ok()
            };
            bound.udp.retain(|udp: &UdpSocket| works(udp.set_nonblocking(true)));
            bound.tcp.retain(|tcp: &TcpListener| works(tcp.set_nonblocking(true)));
        }
    }
}

/// Returns the configured addresses that are wanted beside inherited sockets.
pub(super) fn beside_inherited(configured: &[SocketAddr]) -> &[SocketAddr] {
    if configured == DEFAULT_LISTEN { &[] } else { configured }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_text;

    #[test]
    fn the_default_addresses_are_those_of_the_configuration() {
        assert_eq!(load_text("test.toml", "").config.unwrap().server.listen, DEFAULT_LISTEN);
    }
}
