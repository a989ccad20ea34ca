//! The control sockets of a daemon: which are taken over, which are made, and what is said when there are none.

use super::inside::Inside;
use crate::config;
use crate::control::{self, Door, Doors, Socket, place};
use crate::listen::InheritedUnix;
use crate::stats::Stats;
use std::net::TcpListener;
use std::sync::Arc;

/// Opens the sockets and serves them. Whatever is in the way is said, and the DNS side goes on without them.
pub(super) fn start(
    config: &config::Stats,
    inherited: InheritedUnix,
    stats: &Arc<Stats>,
    inside: impl FnOnce() -> Inside,
) -> Option<control::Running> {
    let doors = open(config, inherited);
    if doors.sockets.is_empty() && doors.tcp.is_none() {
        return None;
    }
    let (made, tcp) = (doors.paths(), doors.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok()));
    let started = control::start(Arc::new(inside()), Arc::clone(stats), doors);
    let running = started.inspect_err(|error| tracing::warn!(%error, "the control sockets cannot be served")).ok()?;
    for path in made {
        tracing::info!(path = %path.display(), "control socket");
    }
    if let Some(address) = tcp {
        tracing::info!(%address, "metrics");
    }
    Some(running)
}

fn open(config: &config::Stats, mut inherited: InheritedUnix) -> Doors {
    let mut doors = Doors::default();
    for (door, place, key) in
        [(Door::Stats, &config.socket, "stats.socket"), (Door::Control, &config.control, "stats.control")]
    {
        let socket = match inherited.take(door.descriptor_name()) {
            Some(listener) => Socket::inherited(listener).map_err(|error| Some(error.to_string())),
            None => Socket::make(&place::wanted(place, door), door).map_err(|error| error.map(|why| why.to_string())),
        };
        match socket {
            Ok(socket) => doors.sockets.push((door, socket)),
            Err(Some(error)) => {
                let hint = format!("[stats] says where sockets are made ({key}); \"off\" makes none");
                tracing::warn!(error, hint, "no control socket; commands that look inside will not work");
            }
            // Turned off.
            Err(None) => {}
        }
    }
    for name in inherited.names() {
        tracing::warn!(name, "inherited Unix socket left: FileDescriptorName= is neither stats nor control");
    }
    if let Some(address) = config.prometheus_listen {
        let bound = TcpListener::bind(address).and_then(|tcp| tcp.set_nonblocking(true).map(|()| tcp));
        match bound {
            Ok(tcp) => doors.tcp = Some(tcp),
            Err(error) => tracing::warn!(%address, %error, "Prometheus cannot be listened for"),
        }
    }
    doors
}
