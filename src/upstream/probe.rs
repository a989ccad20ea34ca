//! Asking one server over one rung, some times in a row, to see how well that goes. Called by hand only.
//!
//! The plan, the ladder and what is known about servers have no part in it: each query goes out once, over this rung, and
//! is answered or lost.

use super::Inner;
use super::finding::{self, Asked, ask_once};
use super::reply::{Worth, weigh};
use super::servers::{Server, ServerInfo};
use super::transport::Ways;
use crate::config::{Rung, Upstream, UpstreamTransport};
use crate::dns::QuestionKey;
use crate::dns::wire::Message;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a reply is waited for over a connection that is open, or in a datagram. Resolvers have the answer at hand.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// The same for the first one, which may have to find the server's name and open a connection.
const OPENED_WITHIN: Duration = Duration::from_secs(6);
/// So many lost from the start are enough to say that nothing comes.
const HOPELESS_AFTER: u32 = 2;

/// What came of asking a server over a rung.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// Queries sent: fewer than wished for when nothing came back.
    pub sent: u32,
    /// How long each reply took, from its query.
    pub times: Vec<Duration>,
    /// What it took to find the server and open a connection; nothing for datagrams.
    pub opening: Option<Duration>,
    /// Connections that were opened.
    pub connections: u64,
    /// What went wrong last, or what the replies said in place of an answer.
    pub remark: Option<String>,
    /// The rung cannot be gone: it is below the floor, or not in this build.
    pub unusable: bool,
    /// The last reply: id 0, the question in lower case.
    pub reply: Option<Vec<u8>>,
}

impl Probed {
    /// Tells whether replies came.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.times.is_empty()
    }
}

/// What is to be asked, and where.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The place of the server's group in the configuration.
    pub group: usize,
    /// The server.
    pub server: &'a Upstream,
    /// One of its rungs.
    pub rung: &'a Rung,
    /// The question; one that every resolver has the answer to at hand measures the way there.
    pub question: &'a QuestionKey,
    /// How often, one after the other.
    pub count: u32,
}

/// See [`super::Upstreams::probe`].
pub(super) async fn probe(inner: &Arc<Inner>, probe: Probe<'_>) -> Probed {
    let Probe { group, server, rung, question, count } = probe;
    let only = Upstream { rungs: vec![rung.clone()], ..server.clone() };
    let Some(ways) = Ways::new(&only) else { return Probed { unusable: true, ..Probed::default() } };
    let address = ways.address(rung.transport);
    let info = ServerInfo {
        label: server.label.as_str().into(),
        address,
        transport: rung.transport,
        private: server.host.ip().is_some_and(crate::dns::address::is_private),
        operator: "".into(),
    };
    let server = Server::unknown(info, ways, inner.groups.here().place());
    let members = inner.groups.members_at(group);
    // What is said about its name holds here too; nothing is said of one that the configuration does not have.
    if let Some(known) = members.iter().find(|known| known.info.label == server.info.label) {
        server.has_private_name.store(known.has_private_name.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    let server = Arc::new(server);
    finding::tell(inner, group, &server);
    let mut probed = Probed::default();
    while probed.sent < count && (probed.is_up() || probed.sent < HOPELESS_AFTER) {
        let patience = if probed.is_up() { LOST_AFTER } else { OPENED_WITHIN };
        let start = Instant::now();
        probed.sent += 1;
        match timeout(patience, ask_once(inner, (address, &server.ways), rung.transport, question)).await {
            Ok(Ok(Asked { reply, took })) => {
                let elapsed = start.elapsed();
                let took = took.unwrap_or(elapsed).min(elapsed);
                if !probed.is_up() && rung.transport != UpstreamTransport::Udp {
                    probed.opening = Some(elapsed - took);
                }
                probed.times.push(took);
                probed.remark = poor(&reply);
                probed.reply = Some(reply);
            }
            Ok(Err(error)) => {
                let text = if error.get_ref().is_some() { error.to_string() } else { error.kind().to_string() };
                probed.remark = Some(text);
            }
            Err(_) => probed.remark = Some(format!("no reply within {} s", patience.as_secs())),
        }
    }
    probed.connections = server.ways.connections();
    probed
}

/// Says what a reply is in place of an answer.
fn poor(reply: &[u8]) -> Option<String> {
    let message = Message::parse(reply).ok()?;
    if let Worth::Poor(poor) = weigh(&message) { Some(format!("it answers {poor}")) } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fake::{group, question, upstreams};
    use super::super::transport::Net;
    use super::*;
    use crate::clock::Clock;
    use crate::config::UpstreamHost;
    use crate::dns::Name;

    #[tokio::test(start_paused = true)]
    async fn a_server_of_a_private_name_is_not_looked_for_with_public_ones() {
        let name = Name::parse("dns.example").unwrap();
        let rung = Rung { transport: UpstreamTransport::Tls, port: 853, path: None };
        let server = Upstream {
            label: "g/named".to_owned(),
            host: UpstreamHost::Name(name.clone()),
            rungs: vec![rung.clone()],
            options: Arc::default(),
        };
        let mut group = group("g", &["192.0.2.53:53".parse().unwrap()]);
        group.servers.push(server.clone());
        let (upstreams, _) = upstreams(vec![group], Clock::default(), Net::default());
        upstreams.set_private_names(|asked| *asked == name);
        let question = question("www.example.org");
        let probe = Probe { group: 0, server: &server, rung: &rung, question: &question, count: 1 };
        let remark = upstreams.probe(probe).await.remark.unwrap();
        assert!(remark.contains("there is nobody to ask for dns.example"), "{remark}");
    }
}
