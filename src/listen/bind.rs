//! Sockets bound here: each address by itself, UDP and TCP, one socket of each per worker.
//!
//! A wildcard socket would answer from whatever address the kernel picks, so none is used. The workers' sockets
//! share their port by SO_REUSEPORT, which would also let a second daemon of the same user in: it would silently
//! take half of the questions. So each port is first bound without it, which fails when anybody has it.

use crate::dns::Transport;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// Socket buffers asked for: a burst of 4096 misses (the default `max_in_flight`) at the kernel's 768 octets for a
/// small datagram fits with room to spare. What the kernel grants is logged.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// Connections the kernel keeps until they are accepted; the kernel's own cap (somaxconn) is 4096.
const TCP_BACKLOG: i32 = 1024;
/// Ports tried until one is free for both protocols, when port 0 was asked for.
const MAX_PORT_TRIES: usize = 32;
/// Ports below need a privilege (ip_unprivileged_port_start).
const FIRST_FREE_PORT: u16 = 1024;

/// Finds who holds an address, for messages: a text such as `dnsmasq (pid 812)`.
pub type Holder<'a> = &'a dyn Fn(SocketAddr, Transport) -> Option<String>;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// For which protocol.
    pub protocol: Transport,
    /// What the kernel said.
    pub source: io::Error,
    /// Who has it, when that could be found.
    pub holder: Option<String>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {} ({}): ", self.address, self.protocol)?;
        let kind = self.source.kind();
        if kind == io::ErrorKind::AddrInUse {
            f.write_str("the port is in use")?;
        } else if kind == io::ErrorKind::PermissionDenied {
            f.write_str("not permitted")?;
        } else if kind == io::ErrorKind::AddrNotAvailable {
            f.write_str("no interface of this machine has the address")?;
        } else {
            write!(f, "{}", self.source)?;
        }
        match &self.holder {
            Some(holder) => write!(f, ", held by {holder}"),
            None => Ok(()),
        }
    }
}

impl BindError {
    /// Returns what the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        let kind = self.source.kind();
        if kind == io::ErrorKind::AddrInUse {
            Some("stop that program, or listen on another address such as 127.0.0.1:5300")
        } else if kind == io::ErrorKind::PermissionDenied && self.address.port() < FIRST_FREE_PORT {
            Some(
                "ports below 1024 need a privilege: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, \
                 `setcap cap_net_bind_service=+ep` on the program, or sysctl net.ipv4.ip_unprivileged_port_start=53; \
                 any user may listen on a port such as 5300",
            )
        } else if kind == io::ErrorKind::AddrNotAvailable {
            Some("`ip address` lists the addresses there are")
        } else {
            None
        }
    }

    /// Tells whether it is about `::1` on a machine without IPv6, where the default configuration must still work.
    pub(super) fn is_missing_ipv6_loopback(&self) -> bool {
        let missing = [nix::libc::EADDRNOTAVAIL, nix::libc::EAFNOSUPPORT].map(Some);
        self.address.ip() == IpAddr::V6(Ipv6Addr::LOCALHOST) && missing.contains(&self.source.raw_os_error())
    }
}

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Bound {
    /// The address as configured.
    pub(super) configured: SocketAddr,
    /// The address with the port chosen.
    pub(super) actual: SocketAddr,
    /// One per worker when bound here; as many as the service manager made when inherited.
    pub(super) udp: Vec<UdpSocket>,
    /// The same for TCP.
    pub(super) tcp: Vec<TcpListener>,
}

/// Binds all addresses for all workers, or none.
pub(super) fn bind_all(addresses: &[SocketAddr], workers: usize, holder: Holder<'_>) -> Result<Vec<Bound>, BindError> {
    let mut bound = Vec::with_capacity(addresses.len());
    let mut missing = None;
    for &address in addresses {
        match bind(address, workers, holder) {
            Ok(sockets) => bound.push(sockets),
            Err(error) if error.is_missing_ipv6_loopback() => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if bound.is_empty() => Err(error),
        Some(error) => {
            tracing::warn!(address = %error.address, "address left out: this machine has no IPv6");
            Ok(bound)
        }
        None => Ok(bound),
    }
}

/// Binds what can be bound, beside sockets that were inherited: those serve in any case.
pub(super) fn bind_possible(addresses: &[SocketAddr], workers: usize, holder: Holder<'_>) -> Vec<Bound> {
    let bound = addresses.iter().map(|&address| bind(address, workers, holder));
    let left_out = |error: BindError| {
        tracing::warn!(%error, hint = error.hint(), "address left out; the inherited sockets are served");
    };
    bound.filter_map(|bound| bound.map_err(left_out).ok()).collect()
}

fn bind(configured: SocketAddr, workers: usize, holder: Holder<'_>) -> Result<Bound, BindError> {
    let fail = |protocol, source: io::Error| {
        let taken = source.kind() == io::ErrorKind::AddrInUse;
        let holder = taken.then(|| holder(configured, protocol)).flatten();
        BindError { address: configured, protocol, source, holder }
    };
    let actual = probe(configured).map_err(|(protocol, error)| fail(protocol, error))?;
    let (mut udp, mut tcp) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
    for _ in 0..workers {
        udp.push(open_udp(actual).map_err(|error| fail(Transport::Udp, error))?);
        tcp.push(open_tcp(actual).map_err(|error| fail(Transport::Tcp, error))?);
    }
    if let Some(udp) = udp.first() {
        // getsockopt gives twice what was set: the kernel counts its own bookkeeping (socket(7)).
        let granted = socket2::SockRef::from(udp).recv_buffer_size().unwrap_or(0) / 2;
        tracing::debug!(address = %actual, asked_bytes = SOCKET_BUFFER_BYTES, granted_bytes = granted, "receive buffer");
    }
    Ok(Bound { configured, actual, udp, tcp })
}

/// Binds without SO_REUSEPORT and closes again; returns the address, with a port free for both protocols when the
/// configured one is 0.
fn probe(configured: SocketAddr) -> Result<SocketAddr, (Transport, io::Error)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = open(configured, Transport::Udp, Sharing::Exclusive).map_err(|error| (Transport::Udp, error))?;
        let actual = local_address(&udp).map_err(|error| (Transport::Udp, error))?;
        match open(actual, Transport::Tcp, Sharing::Exclusive).and_then(|tcp| tcp.listen(1)) {
            Ok(()) => return Ok(actual),
            Err(error)
                if configured.port() == 0 && error.kind() == io::ErrorKind::AddrInUse && tries < MAX_PORT_TRIES => {}
            Err(error) => return Err((Transport::Tcp, error)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Exclusive,
    AmongWorkers,
}

fn open(address: SocketAddr, protocol: Transport, sharing: Sharing) -> io::Result<Socket> {
    let (kind, number) = match protocol {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(number))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Transport::Tcp {
        // For connections of the last run that linger in TIME_WAIT; a listening socket still excludes another.
        socket.set_reuse_address(true)?;
    }
    if sharing == Sharing::AmongWorkers {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(address, Transport::Udp, Sharing::AmongWorkers)?;
    // The forced forms go beyond net.core.rmem_max and need CAP_NET_ADMIN; the plain ones give what is allowed.
    if setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    }
    if setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    }
    Ok(socket.into())
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, Transport::Tcp, Sharing::AmongWorkers)?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a socket without an internet address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_workers_and_both_protocols_share_the_port_chosen() {
        let bound = bind(ANY_PORT, 3, &|_, _| None).unwrap();
        assert_eq!((bound.udp.len(), bound.tcp.len()), (3, 3));
        for (udp, tcp) in bound.udp.iter().zip(&bound.tcp) {
            assert_eq!((udp.local_addr().unwrap(), tcp.local_addr().unwrap()), (bound.actual, bound.actual));
        }
    }

    #[test]
    fn so_many_connections_wait_to_be_accepted_and_the_next_one_is_left_to_try_again() {
        let bound = bind(ANY_PORT, 1, &|_, _| None).unwrap();
        let in_time = std::time::Duration::from_secs(5);
        // One whose client has closed it waits all the same; Linux keeps one more than it was told.
        for n in 0..=TCP_BACKLOG {
            std::net::TcpStream::connect_timeout(&bound.actual, in_time).unwrap_or_else(|error| panic!("{n}: {error}"));
        }
        let soon = std::time::Duration::from_millis(500);
        let refused = std::net::TcpStream::connect_timeout(&bound.actual, soon).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        bound.tcp[0].accept().unwrap();
        std::net::TcpStream::connect_timeout(&bound.actual, in_time).unwrap();
    }

    #[test]
    fn a_port_in_use_is_an_error_even_when_its_holder_would_share_it() {
        let first = bind(ANY_PORT, 1, &|_, _| None).unwrap();
        let error = bind(first.actual, 1, &|_, _| Some("dnsmasq (pid 812)".into())).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            format!("cannot listen on {} (udp): the port is in use, held by dnsmasq (pid 812)", first.actual)
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_port_taken_for_tcp_only_is_an_error_too() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(tcp.local_addr().unwrap(), 1, &|_, _| None).unwrap_err();
        assert_eq!((error.protocol, error.source.kind()), (Transport::Tcp, io::ErrorKind::AddrInUse));
    }

    #[test]
    fn an_address_of_no_interface_is_an_error_with_a_hint() {
        let error = bind("192.0.2.1:0".parse().unwrap(), 1, &|_, _| None).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrNotAvailable);
        assert!(error.to_string().contains("no interface"));
    }

    #[test]
    fn a_low_port_without_the_privilege_is_explained() {
        let denied = BindError {
            address: "127.0.0.1:53".parse().unwrap(),
            protocol: Transport::Udp,
            source: io::Error::from(io::ErrorKind::PermissionDenied),
            holder: None,
        };
        assert!(denied.hint().unwrap().contains("CAP_NET_BIND_SERVICE"));
    }
}
