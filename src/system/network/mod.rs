//! Notices that this machine's network has changed, and which network it is: rtnetlink(7), read by the task that waits.
//!
//! What the kernel says is new is a reason to look; what counts is by which links and routers our own packets go. A bridge
//! for containers, its addresses and routes change nothing of that. Nothing is sent, and on a network at rest nothing wakes
//! anybody, but for a few looks at a router whose hardware address has not shown yet.

mod message;
mod place;
mod way;
mod wire;

pub use message::NetworkEvent;
pub use way::Destination;

use crate::config::PlaceId;
use message::{Known, Noted, Prefix};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvfrom, socket,
};
use place::{Found, Places};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};
use way::Ways;

/// What comes so soon after the first is one change: a network that comes up says a dozen things.
const SETTLE: Duration = Duration::from_millis(30);
/// Changes are reported at most so often; doubles up to [`MAX_PAUSE`] while there is no end of them.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// See [`MIN_PAUSE`]: a report makes every server be connected to once more.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// After so long without a change, the next is reported soon.
const QUIET: Duration = MAX_PAUSE;
/// When the kernel is asked again for the ways there are that could not be asked, as when all file descriptors are in use.
const ASK_AGAIN: Duration = MAX_PAUSE;
/// When a router's hardware address is looked for again, the first time, and how often; the pause doubles. It shows as soon
/// as anything is sent.
const LOOK_AGAIN_FIRST: Duration = Duration::from_secs(1);
const LOOKS: u32 = 5;
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
    noted: Noted,
    destinations: Vec<Destination>,
    ways: Ways,
    places: Places,
    place: PlaceId,
    /// When it is looked for which network this is, and how often it was.
    look_again: Option<Instant>,
    looks: u32,
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
    /// Begins to watch the network of this process, on which packets of ours go to some destinations.
    ///
    /// # Errors
    /// When the kernel does not let us, for instance inside a sandbox.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(destinations: Vec<Destination>) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        #[expect(deprecated, reason = "its successor is unsafe; an `OwnedFd` keeps its descriptor, as that asks for")]
        let kernel = AsyncFd::with_interest(Kernel(fd), Interest::READABLE)?;
        // What changes from here on is in the socket, so nothing falls between.
        let mut network = Self {
            kernel,
            known: look().unwrap_or_default(),
            noted: Noted::default(),
            destinations,
            ways: Ways::default(),
            places: Places::default(),
            place: PlaceId::default(),
            look_again: None,
            looks: 0,
            due: None,
            reported: None,
            pause: MIN_PAUSE,
        };
        network.look();
        network.look_for_place(true);
        Ok(network)
    }

    /// Returns which network the machine is on; number 0 when nothing leads out of it.
    #[must_use]
    pub fn place(&self) -> PlaceId {
        self.place
    }

    /// Says where packets of ours go from here on.
    pub fn follow(&mut self, destinations: Vec<Destination>) {
        if destinations == self.destinations {
            return;
        }
        self.destinations = destinations;
        let before = self.look();
        if before.is_some_and(|before| before.out() != self.ways.out()) {
            // What the kernel has to say about that is not read yet, and would seem to change nothing.
            self.noted.add_way();
            self.decide(Instant::now());
        }
    }

    /// Waits until the network has changed, and a moment longer for what belongs to it; or until it shows that it is another
    /// one than it seemed. Cancel safe.
    pub async fn changed(&mut self) -> NetworkEvent {
        loop {
            let Some(due) = self.due else {
                let look_again = self.look_again;
                tokio::select! {
                    () = Self::read_next(&self.kernel) => {
                        // What is left is read before the report.
                        if !self.read() {
                            self.noted.lost += 1;
                        }
                        self.decide(Instant::now());
                    }
                    () = at(look_again) => {
                        if let Some(event) = self.look_again() {
                            return event;
                        }
                    }
                }
                continue;
            };
            sleep_until(due).await;
            let is_all = self.read();
            let now = Instant::now();
            self.due = None;
            let seemed = self.place;
            // What the kernel has said stays to be judged until it can be asked what that means.
            let Some(event) = self.judge() else {
                self.noted.lost += u32::from(!is_all);
                continue;
            };
            if event.concerns_us() {
                // Containers that come and go must not delay what concerns us.
                self.reported = Some(now);
            }
            if !is_all {
                self.noted.lost += 1;
                self.decide(now);
            }
            if event == (NetworkEvent { place: seemed, was: seemed, ..NetworkEvent::default() }) {
                continue;
            }
            return event;
        }
    }

    /// Looks at the ways there are and returns those there were. When the kernel cannot be asked they stay, and it is asked
    /// again later.
    fn look(&mut self) -> Option<Ways> {
        match Ways::look(&self.destinations) {
            Ok(ways) => Some(std::mem::replace(&mut self.ways, ways)),
            Err(error) => {
                tracing::warn!(%error, "the kernel cannot be asked for the ways to upstreams; it is asked again");
                self.due = Some(Instant::now() + ASK_AGAIN);
                None
            }
        }
    }

    /// Judges what the kernel has said by the ways our packets take from here on, and took until then.
    fn judge(&mut self) -> Option<NetworkEvent> {
        let before = self.look()?;
        let noted = std::mem::take(&mut self.noted);
        let is_used = |link| before.use_link(link) || self.ways.use_link(link);
        let is_ours = |to: &Prefix| way::all(&self.destinations).any(|destination| to.covers(destination.address));
        let event = noted.judged(is_used, is_ours, before.ways != self.ways.ways);
        // Behind a cable that was pulled out and put in again there may be anything.
        let may_have_moved = event.links > 0 || event.lost > 0;
        if !may_have_moved {
            self.places.show(&before.look_back());
        }
        let Found { was, place } = self.look_for_place(may_have_moved);
        let was = if event.concerns_us() { was } else { place };
        Some(NetworkEvent { was, place, ..event })
    }

    /// Decides which network this is by the ways that were just looked at.
    fn look_for_place(&mut self, may_have_moved: bool) -> Found {
        self.looks = 0;
        let found = self.places.find(&self.ways.seen, may_have_moved);
        self.place = found.place;
        self.plan_to_look_again();
        found
    }

    /// Looks whether the router's hardware address has shown; returns that this is another network, if it is.
    fn look_again(&mut self) -> Option<NetworkEvent> {
        let seemed = self.place;
        // Another way is for the kernel to tell.
        if let Ok(ways) = Ways::look(&self.destinations) {
            self.ways.seen = ways.seen;
        }
        self.place = self.places.find(&self.ways.seen, false).place;
        if !self.ways.seen.is_unsure() {
            tracing::debug!(network = self.place.0, "the hardware address of the router has shown");
        }
        self.plan_to_look_again();
        let event = NetworkEvent { place: self.place, was: self.place, ..NetworkEvent::default() };
        (self.place != seemed).then_some(event)
    }

    fn plan_to_look_again(&mut self) {
        let is_unsure = self.ways.seen.is_unsure();
        if is_unsure && self.looks >= LOOKS {
            self.places.settle();
        }
        let is_worth_it = is_unsure && self.looks < LOOKS;
        self.look_again = is_worth_it.then(|| Instant::now() + LOOK_AGAIN_FIRST * 2_u32.pow(self.looks));
        self.looks += 1;
    }

    /// Says when what has changed is reported.
    fn decide(&mut self, now: Instant) {
        if !self.noted.is_reason() {
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

    /// Waits until there are messages; what comes while they are read is told again. Cancel safe.
    async fn read_next(kernel: &AsyncFd<Kernel>) {
        match kernel.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes note of what is there; false when there was more than is read at once.
    fn read(&mut self) -> bool {
        let kernel = self.kernel.get_ref().as_raw_fd();
        self.read_by(|buffer| recvfrom::<NetlinkAddr>(kernel, buffer))
    }

    /// The same, of whatever is received.
    fn read_by(&mut self, mut receive: impl FnMut(&mut [u8]) -> nix::Result<(usize, Option<NetlinkAddr>)>) -> bool {
        let mut buffer = vec![0; RECEIVE_BYTES];
        for _ in 0..MAX_READ {
            match receive(&mut buffer) {
                // Only the kernel is believed.
                Ok((len, Some(from))) if from.pid() == 0 => {
                    self.known.note(buffer.get(..len).unwrap_or_default(), &mut self.noted);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    self.noted.lost += 1;
                    if let Some(known) = look() {
                        self.known = known;
                    }
                }
                Err(_) => return true,
            }
        }
        false
    }
}

/// Waits until then, for ever when there is no such time.
async fn at(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}

/// Looks at the links and addresses there are; nothing when the kernel cannot be asked. Routes are learnt as they change.
fn look() -> Option<Known> {
    let mut known = Known::default();
    for interface in nix::ifaddrs::getifaddrs().ok()? {
        let Ok(index) = nix::net::if_::if_nametoindex(interface.interface_name.as_str()) else { continue };
        known.set_link(index, u32::from_ne_bytes(interface.flags.bits().to_ne_bytes()));
        if let Some(address) = interface.address.as_ref().and_then(ip) {
            known.set_address(index, address);
        }
    }
    Some(known)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

#[cfg(test)]
mod tests;
