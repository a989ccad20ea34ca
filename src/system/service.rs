//! What the service manager is told: that we are ready, read the configuration again, live, stop (sd_notify(3)).
//!
//! Without one (`NOTIFY_SOCKET` is not set) nothing is sent and nothing fails.

use sd_notify::NotifyState;
use std::time::Duration;

/// The longest status text; it is one line of `systemctl status`.
const MAX_STATUS_CHARS: usize = 200;

/// Serving. `status` is the line that `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&shown(status))]);
}

/// The configuration is being read again; [`ready`] must follow, whatever came of it.
pub fn reloading() {
    // One datagram: with `Type=notify-reload` the manager waits for both together.
    let now = NotifyState::monotonic_usec_now();
    let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading).chain(now.ok()).collect();
    tell(&states);
}

/// No more is accepted; what is in work is being finished.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("Finishing what is in work")]);
}

/// Queries are answered: the watchdog may wait for the next such word.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Returns the time after which the manager takes silence for a hang; none when it does not watch this process.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told how we are");
    }
}

/// One line, without what would move a cursor.
fn shown(status: &str) -> String {
    status.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_STATUS_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_bounded_line() {
        assert_eq!(shown("a\nREADY=0\u{1b}[1m"), "a READY=0 [1m");
        assert_eq!(shown(&"x".repeat(500)).len(), MAX_STATUS_CHARS);
    }
}
