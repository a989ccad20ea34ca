//! A link of our own in systemd-resolved.
//!
//! Its resolver is us and its domain all names, so every name comes here but those that another link, a VPN's, has a nearer
//! domain for. No file is written and nobody is restarted: with the link the settings are gone, and a boot begins
//! without it. It has an address of its own because systemd-resolved asks no link without one; with it names are answered
//! when the machine has no other link at all.

use super::Machine;
use super::command::{must, run};
use super::facts::{LinkDns, links};
use std::io;
use std::thread::sleep;
use std::time::Duration;

/// The link; 15 characters are the kernel's limit.
pub(super) const LINK: &str = "truename0";
/// The other end, where the kernel has no dummy links.
const PEER: &str = "truename1";
/// Link-local (RFC 3927), so that nothing is ever routed there.
const ADDRESS: &str = "169.254.53.53/32";
/// Where we answer.
const SERVER: &str = "127.0.0.1";
/// Where systemd-resolved keeps what it was told of a link, by the link's number.
const SETTINGS: &str = "/run/systemd/resolve/netif";
/// How often systemd-resolved is told again while it has not yet heard of the link from the kernel.
const TRIES: u32 = 40;
/// Pause between two of them.
const PAUSE: Duration = Duration::from_millis(25);

/// Adds it; one that is there is made anew.
pub(super) fn add() -> io::Result<()> {
    remove()?;
    if !run("ip", &["link", "add", LINK, "type", "dummy"])?.ok {
        must("ip", &["link", "add", LINK, "type", "veth", "peer", "name", PEER])?;
        must("ip", &["link", "set", PEER, "up"])?;
    }
    must("ip", &["address", "add", ADDRESS, "dev", LINK])?;
    must("ip", &["link", "set", LINK, "up"])?;
    let mut tries = 1;
    while let Err(error) = must("resolvectl", &["dns", LINK, SERVER]) {
        if tries == TRIES {
            return Err(error);
        }
        tries += 1;
        sleep(PAUSE);
    }
    // Names that only this link knows are asked of it in the clear and believed: it is this machine.
    for (what, value) in [
        ("dnssec", "no"),
        ("dnsovertls", "no"),
        ("llmnr", "no"),
        ("mdns", "no"),
        ("default-route", "yes"),
        ("domain", "~."),
    ] {
        must("resolvectl", &[what, LINK, value])?;
    }
    // What it was told before is no longer what we would say.
    must("resolvectl", &["flush-caches"]).map(drop)
}

/// Removes it; systemd-resolved goes back to the other links by itself.
pub(super) fn remove() -> io::Result<()> {
    if !is_there() {
        return Ok(());
    }
    must("ip", &["link", "delete", LINK])?;
    // Best effort: it may be stopped, and then it has no cache.
    drop(run("resolvectl", &["flush-caches"]));
    Ok(())
}

/// Tells whether it is there.
pub(super) fn is_there() -> bool {
    nix::net::if_::if_nametoindex(LINK).is_ok()
}

/// Tells whether it is this machine's: its own systemd-resolved was told of it. A container on its host's network sees the links
/// of the host, and what their settings are stands in the host's /run.
pub(super) fn is_of(machine: &Machine) -> bool {
    let index = nix::net::if_::if_nametoindex(LINK);
    index.is_ok_and(|index| machine.at(SETTINGS).join(index.to_string()).exists())
}

/// Lists the other links that have domains of their own; none when systemd-resolved does not say.
pub(super) fn others() -> Vec<LinkDns> {
    run("resolvectl", &["domain"]).map(|said| links(&said.out, LINK)).unwrap_or_default()
}
