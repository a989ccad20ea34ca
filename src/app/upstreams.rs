//! The upstream servers of a configuration, without a daemon: listed, and asked to see how well each rung goes.

use super::build::Loaded;
use super::inside::wrong_clock;
use super::{RunError, build, runtime};
use crate::clock::Clock;
use crate::config::{Config, Group, Rung, Upstream};
use crate::control::report::WrongClock;
use crate::dns::{Name, QuestionKey, Rtype};
use crate::stats::Stats;
use crate::upstream::{Probe, Probed, Upstreams, groups_in_use};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Servers that are asked at once: as many as a group that is shipped has.
const MAX_AT_ONCE: usize = 16;

/// A server with its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The place of its group in the configuration.
    pub(super) at: usize,
    /// Its group's name.
    pub group: String,
    /// A route or a default leads to its group, or somebody wrote it.
    pub in_use: bool,
    /// What is written about it.
    pub server: Upstream,
}

impl Member {
    /// Makes a member of the first group.
    #[cfg(test)]
    pub(crate) fn new(group: &str, server: Upstream) -> Self {
        Self { at: 0, group: group.to_owned(), in_use: true, server }
    }
}

/// What [`test_upstreams`] is to do.
#[derive(Debug, Clone)]
pub struct Test {
    /// Groups and labels of servers; none: all servers of groups in use.
    pub names: Vec<String>,
    /// Queries for each rung.
    pub count: u32,
    /// The name whose address is asked for.
    pub qname: Name,
}

/// A server with what came of asking it.
#[derive(Debug)]
pub struct Tested {
    /// The server.
    pub member: Member,
    /// What came of it over each of its rungs.
    pub rungs: Vec<(Rung, Probed)>,
}

/// What [`test_upstreams`] has found.
#[derive(Debug)]
pub struct Findings {
    /// The servers, in the order of their groups.
    pub servers: Vec<Tested>,
    /// What their certificates say against this machine's clock.
    pub wrong_clock: Option<WrongClock>,
}

/// Lists servers, in the order of their groups: all of them, or those of these groups and with these labels.
///
/// # Errors
/// When the configuration cannot be used or does not have one of the names.
pub fn list_upstreams(config: Option<&Path>, names: &[String]) -> Result<Vec<Member>, RunError> {
    let loaded = build::read(config).map_err(RunError::Config)?;
    chosen(&loaded.config, &loaded.system, names, |_| true)
}

/// Asks servers over each of their rungs. `done` is told of each server when it has been asked.
///
/// # Errors
/// When the configuration cannot be used or does not have one of the names.
pub fn test_upstreams(config: Option<&Path>, what: &Test, done: impl FnMut(&Tested)) -> Result<Findings, RunError> {
    test_loaded(build::read(config).map_err(RunError::Config)?, what, done)
}

/// Does it with a configuration that was read.
///
/// # Errors
/// When it does not have one of the names.
pub(super) fn test_loaded(loaded: Loaded, what: &Test, mut done: impl FnMut(&Tested)) -> Result<Findings, RunError> {
    let members = chosen(&loaded.config, &loaded.system, &what.names, |member| member.in_use)?;
    let qname = what.qname.to_lower();
    let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
    runtime()?.block_on(async {
        let (clock, stats) = (Clock::default(), Arc::new(Stats::default()));
        let state = build::state(loaded, &clock, &stats, None);
        let upstreams = Arc::new(state.upstreams);
        let mut waiting = members.into_iter().enumerate();
        let (mut running, mut tested) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < MAX_AT_ONCE
                && let Some((place, member)) = waiting.next()
            {
                let (upstreams, question, count) = (Arc::clone(&upstreams), question.clone(), what.count);
                running.spawn(async move { (place, test(&upstreams, member, &question, count).await) });
            }
            match running.join_next().await {
                Some(Ok((place, one))) => {
                    done(&one);
                    tested.push((place, one));
                }
                // A panic, which has said what it is.
                Some(Err(_)) => {}
                None => break,
            }
        }
        tested.sort_by_key(|(place, _)| *place);
        let wrong_clock = upstreams.wrong_clock().map(|clock| wrong_clock(&clock));
        Ok(Findings { servers: tested.into_iter().map(|(_, one)| one).collect(), wrong_clock })
    })
}

/// Asks a server over its rungs, one after the other.
async fn test(upstreams: &Upstreams, member: Member, question: &QuestionKey, count: u32) -> Tested {
    let mut rungs = Vec::new();
    for rung in &member.server.rungs {
        let probe = Probe { group: member.at, server: &member.server, rung, question, count };
        rungs.push((rung.clone(), upstreams.probe(probe).await));
    }
    Tested { member, rungs }
}

/// Returns the servers of groups and with labels; of all groups that `fits` is true of when none is named.
pub(super) fn chosen(
    config: &Config,
    system: &[SocketAddr],
    names: &[String],
    fits: impl Fn(&Member) -> bool,
) -> Result<Vec<Member>, RunError> {
    let in_use = groups_in_use(config);
    let all: Vec<Member> = config
        .groups
        .iter()
        .enumerate()
        .flat_map(|(at, group)| {
            let in_use = in_use.contains(&at);
            let member = move |server| Member { at, group: group.name.clone(), in_use, server };
            members(group, system).into_iter().map(member)
        })
        .collect();
    let is_named = |member: &Member, name: &String| member.group == *name || member.server.label == *name;
    let is_known = |name: &&String| {
        config.groups.iter().any(|group| group.name == **name) || all.iter().any(|member| is_named(member, name))
    };
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(RunError::UnknownUpstream(unknown.clone()));
    }
    let is_chosen = |member: &Member| match names {
        [] => fits(member),
        names => names.iter().any(|name| is_named(member, name)),
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Returns the servers of a group, the machine's resolvers among them when it has those.
pub(super) fn members(group: &Group, system: &[SocketAddr]) -> Vec<Upstream> {
    let given = system.iter().filter(|address| {
        group.auto && !group.servers.iter().any(|server| server.address().as_ref() == Some(*address))
    });
    let given =
        given.map(|address| Upstream { options: Arc::clone(&group.options), ..Upstream::given(&group.name, *address) });
    group.servers.iter().cloned().chain(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    /// Tells which sockets have something to read.
    fn asked(sockets: &[UdpSocket]) -> usize {
        sockets.iter().filter(|socket| socket.peek(&mut [0; 1]).is_ok()).count()
    }

    /// Answers what has come with its own question, as a server without an answer does.
    fn reply(sockets: &[UdpSocket]) {
        let mut buf = [0; 512];
        for socket in sockets {
            if let Ok((len, from)) = socket.recv_from(&mut buf) {
                buf[2] |= 0x80;
                socket.send_to(&buf[..len], from).unwrap();
            }
        }
    }

    #[test]
    fn so_many_servers_are_asked_at_once_and_the_others_after_them() {
        let sockets: Vec<UdpSocket> = (0..MAX_AT_ONCE + 4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let servers: Vec<String> =
            sockets.iter().map(|socket| format!("\"{}\"", socket.local_addr().unwrap())).collect();
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truename.toml");
        let text = format!("[upstream.g]\nservers = [{}]\n[hosts]\nfiles = []\n", servers.join(", "));
        std::fs::write(&path, text).unwrap();
        let what = Test { names: vec!["g".to_owned()], count: 1, qname: Name::parse("localhost").unwrap() };
        let tested = std::thread::scope(|scope| {
            let testing = scope.spawn(|| test_upstreams(Some(&path), &what, |_| {}).unwrap());
            let mut looks = 0;
            while asked(&sockets) < MAX_AT_ONCE {
                looks += 1;
                assert!(looks < 5000, "only {} are asked", asked(&sockets));
                std::thread::sleep(Duration::from_millis(1));
            }
            // Long enough for those to be seen that should not be there.
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(asked(&sockets), MAX_AT_ONCE);
            while !testing.is_finished() {
                reply(&sockets);
                std::thread::sleep(Duration::from_millis(1));
            }
            testing.join().unwrap().servers
        });
        assert_eq!(tested.len(), sockets.len());
        assert!(tested.iter().all(|one| one.rungs[0].1.is_up()), "{tested:?}");
        let labels: Vec<String> = tested.iter().map(|one| one.member.server.label.replace("g/", "")).collect();
        let in_order: Vec<String> = sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        assert_eq!(labels, in_order, "in the order of the configuration");
    }
}
