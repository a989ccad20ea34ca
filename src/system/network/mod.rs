//! Notices that this machine's network has changed: rtnetlink(7), read by the task that waits. Nothing is sent and nothing is
//! asked periodically; on a network at rest nothing wakes anybody.

mod message;

pub use message::NetworkEvent;

use message::Known;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvfrom, socket,
};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// What comes so soon after the first is one change: a network that comes up says a dozen things.
const SETTLE: Duration = Duration::from_millis(30);
/// Changes are reported at most so often; doubles up to [`MAX_PAUSE`] while there is no end of them.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// See [`MIN_PAUSE`]: a report makes every server be connected to once more.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// After so long without a change, the next is reported soon.
const QUIET: Duration = MAX_PAUSE;
/// Datagrams read before a report; the others wait in the kernel's buffer, which says when it is full.
const MAX_READ: usize = 512;
/// Octets of one of them; a page for each, and more for links of many parts.
const RECEIVE_BYTES: usize = 32 * 1024;
/// RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE and the bit of RTNLGRP_IPV6_RULE
/// (linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18;

/// A watch over links, addresses, routes and rules.
#[derive(Debug)]
pub struct Network {
    kernel: AsyncFd<Kernel>,
    known: Known,
    /// What has changed and is not reported yet.
    event: NetworkEvent,
    /// When that is reported.
    due: Option<Instant>,
    reported: Option<Instant>,
    pause: Duration,
}

/// The socket, as tokio wants a file descriptor.
#[derive(Debug)]
struct Kernel(OwnedFd);

impl AsRawFd for Kernel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Network {
    /// Begins to watch the network of this process.
    ///
    /// # Errors
    /// When the kernel does not let us, for instance inside a sandbox.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` keeps its descriptor, as that asks for")]
        let kernel = AsyncFd::with_interest(Kernel(fd), Interest::READABLE)?;
        let event = NetworkEvent::default();
        // What changes from here on is in the socket, so nothing falls between.
        Ok(Self { kernel, known: look(), event, due: None, reported: None, pause: MIN_PAUSE })
    }

    /// Waits until the network has changed, and a moment longer for what belongs to it. Cancel safe.
    pub async fn changed(&mut self) -> NetworkEvent {
        loop {
            let Some(due) = self.due else {
                self.read_next().await;
                self.decide(Instant::now());
                continue;
            };
            tokio::time::sleep_until(due).await;
            let is_all = self.read();
            let now = Instant::now();
            (self.due, self.reported) = (None, Some(now));
            let event = std::mem::take(&mut self.event);
            if !is_all {
                self.event.lost += 1;
                self.decide(now);
            }
            return event;
        }
    }

    /// Says when what has changed is reported.
    fn decide(&mut self, now: Instant) {
        if !self.event.is_some() {
            return;
        }
        let earliest = self.reported.map(|reported| {
            let is_quiet = now.saturating_duration_since(reported) >= QUIET;
            self.pause = if is_quiet { MIN_PAUSE } else { (self.pause * 2).min(MAX_PAUSE) };
            reported + self.pause
        });
        let settled = now + SETTLE;
        self.due = Some(earliest.map_or(settled, |earliest| settled.max(earliest)));
    }

    /// Waits for the next messages and takes note of them. Cancel safe.
    async fn read_next(&mut self) {
        match self.kernel.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime ends.
            Err(_) => return std::future::pending().await,
        }
        // Readiness was cleared before, so what comes while this reads is told again. What is left is read before the report.
        if !self.read() {
            self.event.lost += 1;
        }
    }

    /// Takes note of what is there; false when there was more than is read at once.
    fn read(&mut self) -> bool {
        let mut buffer = vec![0; RECEIVE_BYTES];
        for _ in 0..MAX_READ {
            match recvfrom::<NetlinkAddr>(self.kernel.get_ref().as_raw_fd(), &mut buffer) {
                // Only the kernel is believed.
                Ok((len, Some(from))) if from.pid() == 0 => {
                    self.known.note(buffer.get(..len).unwrap_or_default(), &mut self.event);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    self.event.lost += 1;
                    self.known = look();
                }
                Err(_) => return true,
            }
        }
        false
    }
}

/// Looks at the links and addresses there are. Routes are learnt as they change.
fn look() -> Known {
    let mut known = Known::default();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Ok(index) = nix::net::if_::if_nametoindex(interface.interface_name.as_str()) else { continue };
        known.set_link(index, u32::from_ne_bytes(interface.flags.bits().to_ne_bytes()));
        if let Some(address) = interface.address.as_ref().and_then(ip) {
            known.set_address(index, address);
        }
    }
    known
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}
