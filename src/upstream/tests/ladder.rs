//! Rungs, and groups of which nothing answers, on a network in memory with paused time.

use super::fake::*;
use super::play::*;
use crate::config::UpstreamTransport::{self, Https, Quic, Tcp, Tls, Udp};
use crate::config::{Floor, Group, GroupId, PlaceId, Rung, Upstream, UpstreamHost, UpstreamOptions};
use crate::dns::Trace;
use crate::stats::Counter;
use crate::upstream::{Ask, NetEvent, SimulatedQuery, SimulatedReplies, Standing, Upstreams};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

const RTT_MS: u64 = 20;

/// Public addresses: groups of private servers never give way.
fn far(last: u8) -> SocketAddr {
    SocketAddr::from(([100, 0, 0, last], 53))
}

/// A server with rungs.
fn ladder(name: &str, last: u8, rungs: &[UpstreamTransport]) -> Upstream {
    let rungs = rungs.iter().map(|&transport| Rung { transport, port: far(last).port(), path: None });
    Upstream {
        label: format!("{name}/{last}"),
        host: UpstreamHost::at(far(last)),
        rungs: rungs.collect(),
        options: Arc::default(),
    }
}

fn group_of(name: &str, servers: Vec<Upstream>) -> Group {
    Group { servers, ..group(name, &[]) }
}

impl Play {
    fn set_far(&self, last: u8, behave: impl Fn(&SimulatedQuery, &SimulatedReplies) + Send + Sync + 'static) {
        self.servers.lock().unwrap().insert(far(last), Box::new(behave));
    }

    /// Answers over these transports; over others it is silent.
    fn over(&self, last: u8, transports: &'static [UpstreamTransport]) {
        self.set_far(last, move |query, to| {
            if transports.contains(&query.transport) {
                to.message(Duration::from_millis(RTT_MS), answer(&query.bytes, last));
            }
        });
    }

    fn sent_over(&self, transport: UpstreamTransport) -> usize {
        self.log.lock().unwrap().iter().filter(|(_, over, _)| *over == transport).count()
    }
}

fn works_over(upstreams: &Upstreams) -> Option<UpstreamTransport> {
    upstreams.status()[0].works_over
}

#[tokio::test(start_paused = true)]
async fn the_first_rung_that_answers_is_kept_and_later_questions_are_at_its_speed() {
    let (play, upstreams, stats) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Quic, Https, Tls, Tcp, Udp])])]);
    play.over(1, &[Tcp, Udp]);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), 450 + u128::from(RTT_MS)));
    assert_eq!(works_over(&upstreams), Some(Tcp));
    for n in 0..300 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await, (Ok(1), u128::from(RTT_MS)));
        sleep(Duration::from_millis(200)).await;
    }
    let tried = play.sent_over(Quic) + play.sent_over(Https) + play.sent_over(Tls);
    assert!((9..30).contains(&tried), "higher rungs are tried ever more rarely: {tried}");
    assert_eq!((play.sent_over(Udp), play.sent_over(Tcp)), (0, 301));
    assert_eq!(stats.get(Counter::UpstreamRungChanges), 0);
}

#[tokio::test(start_paused = true)]
async fn a_rung_that_fails_for_sure_costs_its_round_trip_only() {
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Quic, Https, Tls])])]);
    play.set_far(1, |query, to| match query.transport {
        Tls => to.message(Duration::from_millis(RTT_MS), answer(&query.bytes, 1)),
        Udp | Tcp | Https | Quic | UpstreamTransport::H3 => to.refuse(Duration::from_millis(5)),
    });
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), 5 + 5 + u128::from(RTT_MS)));
    assert_eq!(upstreams.status()[0].sums.errors, 0, "the server is well");
    play.set_far(1, |_, to| to.refuse(Duration::from_millis(5)));
    let (outcome, ms) = timed(&upstreams, "b.example.org").await;
    assert!(outcome.is_err() && ms <= 15, "no rung is left: {outcome:?} {ms}");
}

#[tokio::test(start_paused = true)]
async fn within_a_minute_of_the_ports_being_open_again_the_top_rung_is_used() {
    let (play, upstreams, stats) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Quic, Https, Tcp])])]);
    play.over(1, &[Tcp]);
    for n in 0..200 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await.0, Ok(1));
        sleep(Duration::from_secs(3)).await;
    }
    play.over(1, &[Quic, Https, Tcp]);
    let open = Instant::now();
    let mut n = 0;
    while works_over(&upstreams) != Some(Quic) {
        assert_eq!(timed(&upstreams, &format!("m{n}.example.org")).await, (Ok(1), u128::from(RTT_MS)));
        sleep(Duration::from_secs(3)).await;
        n += 1;
    }
    assert!(open.elapsed() < Duration::from_secs(60), "{:?}", open.elapsed());
    assert!((1..=2).contains(&stats.get(Counter::UpstreamRungChanges)));
    let before = play.sent();
    assert_eq!(timed(&upstreams, "top.example.org").await, (Ok(1), u128::from(RTT_MS)));
    assert_eq!(play.sent() - before, 1, "nothing is above it");
}

#[tokio::test(start_paused = true)]
async fn a_rung_that_falls_silent_costs_a_moment_once() {
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Https, Tls])])]);
    play.over(1, &[Https, Tls]);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), u128::from(RTT_MS)));
    sleep(Duration::from_secs(5)).await;
    play.over(1, &[Tls]);
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(1), 400 + u128::from(RTT_MS)));
    assert_eq!(timed(&upstreams, "c.example.org").await, (Ok(1), u128::from(RTT_MS)));
    assert_eq!(works_over(&upstreams), Some(Tls));
}

#[tokio::test(start_paused = true)]
async fn on_another_network_what_worked_is_the_first_guess_and_raced() {
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Https, Tls])])]);
    play.over(1, &[Tls]);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), 150 + u128::from(RTT_MS)));
    play.over(1, &[Https]);
    upstreams.network_changed(PlaceId::default());
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(1), 150 + u128::from(RTT_MS)));
    play.over(1, &[Https, Tls]);
    upstreams.network_changed(PlaceId::default());
    assert_eq!(timed(&upstreams, "c.example.org").await, (Ok(1), u128::from(RTT_MS)), "the guess was right");
}

#[tokio::test(start_paused = true)]
async fn each_network_has_a_rung_of_its_own_and_on_return_that_one_is_asked_first() {
    let (home, office) = (PlaceId(1), PlaceId(2));
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Https, Tls, Tcp])])]);
    upstreams.network_changed(home);
    play.over(1, &[Tcp]);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), 300 + u128::from(RTT_MS)));
    upstreams.network_changed(office);
    play.over(1, &[Https, Tls, Tcp]);
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(1), u128::from(RTT_MS)));
    assert_eq!(works_over(&upstreams), Some(Https));
    let over_https = play.sent_over(Https);
    for (place, rungs, rung) in [(home, &[Tcp] as &[_], Tcp), (office, &[Https], Https), (home, &[Tcp], Tcp)] {
        upstreams.network_changed(place);
        play.over(1, rungs);
        assert_eq!(works_over(&upstreams), Some(rung), "the first guess");
        assert_eq!(upstreams.status()[0].srtt, Some(Duration::from_millis(RTT_MS)));
        assert_eq!(timed(&upstreams, "c.example.org").await, (Ok(1), u128::from(RTT_MS)));
        assert_eq!(works_over(&upstreams), Some(rung));
    }
    assert_eq!(play.sent_over(Https), over_https + 1, "at home nothing else is raced");
    // Which network it is may show later; what was guessed until then is not what is known of it.
    upstreams.network_changed(home);
    assert_eq!(works_over(&upstreams), Some(Tcp));
    upstreams.network_is(office);
    assert_eq!(works_over(&upstreams), Some(Https));
    // What has answered until then is.
    upstreams.network_changed(home);
    assert_eq!(timed(&upstreams, "d.example.org").await, (Ok(1), u128::from(RTT_MS)));
    upstreams.network_is(office);
    assert_eq!(works_over(&upstreams), Some(Tcp));
    upstreams.network_changed(PlaceId(3));
    upstreams.network_changed(office);
    assert_eq!(works_over(&upstreams), Some(Tcp), "it is kept there");
    upstreams.network_changed(home);
    assert_eq!(works_over(&upstreams), Some(Tcp));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_shows_late_which_it_is_makes_nothing_suspect_and_ends_no_outage() {
    let (home, office) = (PlaceId(1), PlaceId(2));
    let (play, upstreams, _) = play_with(trusted_and_system());
    upstreams.network_changed(home);
    play.over(2, &[Tls]);
    play.healthy(9, RTT_MS);
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(2));
    // Another network, taken for this one at first: nobody of the group can be reached there.
    upstreams.network_changed(home);
    play.over(2, &[]);
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Ok(9));
    assert!(upstreams.network_is(office) && !upstreams.network_is(office));
    let before = play.sent();
    assert_eq!(timed(&upstreams, "c.example.org").await, (Ok(9), u128::from(RTT_MS)), "the group is down still");
    assert_eq!(play.sent() - before, 1, "and known to be");
    // Queries under way teach as ever.
    play.over(2, &[Tls]);
    sleep(Duration::from_secs(3)).await;
    let showing = async {
        sleep(Duration::from_millis(RTT_MS / 2)).await;
        upstreams.network_is(PlaceId(3));
    };
    assert_eq!(tokio::join!(timed(&upstreams, "d.example.org"), showing).0.0, Ok(9));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(timed(&upstreams, "e.example.org").await.0, Ok(2));
}

/// Asks, and says after so long that the network is another one.
async fn moving(upstreams: &Upstreams, name: &str, after: Duration) -> Option<u8> {
    let moving = async {
        sleep(after).await;
        upstreams.network_changed(PlaceId(7));
    };
    tokio::join!(timed(upstreams, name), moving).0.0.ok()
}

#[tokio::test(start_paused = true)]
async fn what_queries_under_way_meet_when_the_network_changes_teaches_nothing() {
    let (soon, later) = (Duration::from_millis(100), Duration::from_millis(300));
    let alone = || play_with(vec![group_of("g", vec![ladder("g", 1, &[Https])])]);
    // A reply answers its question all the same.
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Https, Tls])])]);
    play.set_far(1, move |query, to| to.message(later, answer(&query.bytes, 1)));
    assert_eq!(moving(&upstreams, "a.example.org", Duration::from_millis(200)).await, Some(1));
    assert_eq!((works_over(&upstreams), upstreams.status()[0].srtt), (None, None));
    // An error.
    let (play, upstreams, _) = alone();
    play.set_far(1, move |_, to| to.refuse(later));
    assert_eq!(moving(&upstreams, "a.example.org", soon).await, None);
    assert_eq!((upstreams.status()[0].sums.errors, upstreams.status()[0].standing), (0, Standing::Unknown));
    // Silence, and being late.
    let (_, upstreams, _) = alone();
    assert_eq!(moving(&upstreams, "a.example.org", soon).await, None);
    sleep(Duration::from_secs(15)).await;
    assert_eq!((upstreams.status()[0].sums.timeouts, upstreams.status()[0].standing), (0, Standing::Unknown));
    // A reply in another letter case: the server is asked in mixed case afterwards.
    let (play, upstreams, _) = play_with(vec![group("g", &[address(1)])]);
    play.set(1, |query, to| {
        let mut bytes = query.bytes.clone();
        if query.transport == Udp {
            bytes[12..].make_ascii_lowercase();
        }
        // Before the query is repeated.
        to.message(Duration::from_millis(140), answer(&bytes, 1));
    });
    assert_eq!(moving(&upstreams, "abcdefghijklmnopq.example.org", soon).await, Some(1));
    let before = play.sent();
    timed(&upstreams, "bcdefghijklmnopqr.example.org").await.0.unwrap();
    let sent = play.log.lock().unwrap()[before].2[12..].to_vec();
    assert_ne!(sent, sent.to_ascii_lowercase());
    // A group of which nobody has answered.
    let (play, upstreams, _) = play_with(trusted_and_system());
    play.healthy(9, RTT_MS);
    assert_eq!(moving(&upstreams, "a.example.org", later).await, Some(9));
    play.over(2, &[Tls]);
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Ok(2), "it is not down");
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_for_queries_of_another_network_says_nothing_about_this_one() {
    const LATE: Duration = Duration::from_millis(1500);
    let hasty = |server| Group { timeout: Duration::from_millis(700), ..group_of("g", vec![server]) };
    for has_moved in [false, true] {
        // A reply.
        let (play, upstreams, _) = play_with(vec![hasty(ladder("g", 1, &[Https, Tls]))]);
        play.set_far(1, |query, to| to.message(LATE, answer(&query.bytes, 1)));
        assert!(timed(&upstreams, "a.example.org").await.0.is_err());
        if has_moved {
            upstreams.network_changed(PlaceId::default());
        }
        sleep(2 * LATE).await;
        assert_eq!(works_over(&upstreams).is_none(), has_moved);
        assert_eq!(upstreams.status()[0].srtt.is_none(), has_moved);
        // An error over a rung that is the first guess here.
        let (play, upstreams, _) = play_with(vec![hasty(ladder("g", 1, &[Https, Tls]))]);
        play.over(1, &[Https]);
        assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(1));
        play.set_far(1, |_, to| to.refuse(LATE));
        assert!(timed(&upstreams, "b.example.org").await.0.is_err());
        if has_moved {
            upstreams.network_changed(PlaceId::default());
        }
        sleep(2 * LATE).await;
        assert_eq!(works_over(&upstreams), has_moved.then_some(Https));
        assert_eq!(upstreams.status()[0].sums.errors == 0, has_moved);
    }
}

#[tokio::test(start_paused = true)]
async fn rungs_below_the_floor_are_never_tried() {
    let options = UpstreamOptions { floor: Floor::Encrypted, ..UpstreamOptions::default() };
    let server = Upstream { options: Arc::new(options), ..ladder("g", 1, &[Tls, Tcp, Udp]) };
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![server])]);
    play.over(1, &[Tcp, Udp]);
    assert!(timed(&upstreams, "a.example.org").await.0.is_err());
    assert!(play.sent() > 0 && play.sent() == play.sent_over(Tls));
}

#[tokio::test(start_paused = true)]
async fn every_question_is_answered_while_one_rung_of_one_server_works() {
    let servers = (1..=3).map(|last| ladder("g", last, &[Https, Tls]));
    let (play, upstreams, _) = play_with(vec![group_of("g", servers.collect())]);
    play.over(3, &[Tls]);
    for n in 0..100 {
        let (outcome, ms) = timed(&upstreams, &format!("n{n}.example.org")).await;
        assert_eq!(outcome, Ok(3));
        assert!(ms < 700, "question {n}: {ms} ms");
        sleep(Duration::from_millis(300)).await;
    }
    assert!(play.sent() < 100 * 2, "{}", play.sent());
}

#[tokio::test(start_paused = true)]
async fn servers_no_route_leads_to_take_no_query_from_the_others() {
    let servers = (1..=20).map(|last| ladder("g", last, &[Https, Tls]));
    let (play, upstreams, _) = play_with(vec![group_of("g", servers.collect())]);
    for last in 1..20 {
        play.set_far(last, |_, to| to.deliver(Duration::ZERO, NetEvent::Error(std::io::ErrorKind::NetworkUnreachable)));
    }
    play.over(20, &[Tls]);
    let (outcome, ms) = timed(&upstreams, "a.example.org").await;
    assert_eq!((outcome, ms), (Ok(20), 150 + u128::from(RTT_MS)));
    assert_eq!(play.sent(), 19 * 2 + 2, "each rung of theirs once");
}

#[tokio::test(start_paused = true)]
async fn a_firewall_that_says_there_is_no_route_to_a_port_does_not_close_the_others() {
    let (play, upstreams, _) = play_with(vec![group_of("g", vec![ladder("g", 1, &[Quic, Tls, Https])])]);
    play.set_far(1, |query, to| {
        if query.transport == Https {
            to.message(Duration::from_millis(RTT_MS), answer(&query.bytes, 1));
        } else {
            to.deliver(Duration::ZERO, NetEvent::Error(std::io::ErrorKind::NetworkUnreachable));
        }
    });
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(1), u128::from(RTT_MS)));
}

/// A group of encrypted servers with a plain one behind it.
fn trusted_and_system() -> Vec<Group> {
    let servers = (1..=4).map(|last| ladder("trusted", last, &[Https, Tls]));
    let trusted = Group { fallback: Some(GroupId(1)), ..group_of("trusted", servers.collect()) };
    vec![trusted, group("system", &[address(9)])]
}

#[tokio::test(start_paused = true)]
async fn a_group_of_which_nothing_answers_gives_way_and_is_used_again_when_it_does() {
    let (play, upstreams, stats) = play_with(trusted_and_system());
    play.healthy(9, RTT_MS);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(9), 600 + u128::from(RTT_MS)));
    for n in 0..400 {
        assert_eq!(timed(&upstreams, &format!("n{n}.example.org")).await, (Ok(9), u128::from(RTT_MS)), "{n}");
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(stats.get(Counter::UpstreamGroupsDown), 1);
    let looks = play.sent() - play.sent_to(9);
    assert!(looks < 12 * 8, "{looks} queries to the group that is down");
    for last in 1..=4 {
        play.over(last, &[Https, Tls]);
    }
    let open = Instant::now();
    let mut n = 0;
    while timed(&upstreams, &format!("m{n}.example.org")).await.0 == Ok(9) {
        n += 1;
        sleep(Duration::from_millis(500)).await;
    }
    assert!(open.elapsed() < Duration::from_secs(60), "{:?}", open.elapsed());
    let (outcome, ms) = timed(&upstreams, "z.example.org").await;
    assert!(outcome != Ok(9) && ms == u128::from(RTT_MS), "{outcome:?} {ms}");
}

#[tokio::test(start_paused = true)]
async fn a_look_at_a_group_that_is_down_is_over_after_four_and_a_half_seconds() {
    const LOOK: Duration = Duration::from_millis(4500);
    let mut groups = trusted_and_system();
    // One server is waited for as long as there is time, and the group itself has more.
    groups[0].servers.truncate(1);
    groups[0].timeout = Duration::from_secs(20);
    let (play, upstreams, _) = play_with(groups);
    play.healthy(9, RTT_MS);
    timed(&upstreams, "a.example.org").await.0.unwrap();
    sleep(Duration::from_secs(20)).await;
    let listening = || upstreams.0.lingering.load(Ordering::Relaxed);
    let (sent, begun) = (play.sent(), Instant::now());
    assert_eq!(timed(&upstreams, "b.example.org").await, (Ok(9), u128::from(RTT_MS)));
    // At its end nobody waits any more for what it asked, which is only listened for.
    sleep_until(begun + LOOK - Duration::from_millis(1)).await;
    assert!(play.sent() > sent + 1, "the group is looked at");
    assert_eq!(listening(), 0);
    sleep_until(begun + LOOK + Duration::from_millis(1)).await;
    assert_eq!(listening(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_to_a_group_that_is_down_while_nobody_asks() {
    let (play, upstreams, _) = play_with(trusted_and_system());
    play.healthy(9, RTT_MS);
    timed(&upstreams, "a.example.org").await.0.unwrap();
    sleep(Duration::from_secs(20)).await;
    let before = play.sent();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(play.sent(), before);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_needs_longer_than_the_first_patience_is_used_once_it_has_answered() {
    let (play, upstreams, _) = play_with(trusted_and_system());
    play.healthy(9, RTT_MS);
    for last in 1..=4 {
        play.set_far(last, move |query, to| to.message(Duration::from_millis(900), answer(&query.bytes, last)));
    }
    assert_eq!(timed(&upstreams, "a.example.org").await.0, Ok(9));
    sleep(Duration::from_secs(1)).await;
    let (outcome, ms) = timed(&upstreams, "b.example.org").await;
    assert!(outcome != Ok(9) && ms == 900, "{outcome:?} {ms}");
}

#[tokio::test(start_paused = true)]
async fn another_network_gives_a_group_that_was_down_its_first_chance_again() {
    let (play, upstreams, _) = play_with(trusted_and_system());
    play.healthy(9, RTT_MS);
    timed(&upstreams, "a.example.org").await.0.unwrap();
    play.over(2, &[Tls]);
    upstreams.network_changed(PlaceId::default());
    assert_eq!(timed(&upstreams, "b.example.org").await.0, Ok(2));
    for last in 1..=4 {
        play.over(last, &[]);
    }
    sleep(Duration::from_millis(1)).await;
    upstreams.network_changed(PlaceId::default());
    assert_eq!(timed(&upstreams, "c.example.org").await, (Ok(9), 600 + u128::from(RTT_MS)));
}

#[tokio::test(start_paused = true)]
async fn a_group_with_plain_rungs_private_servers_or_nobody_behind_it_is_waited_for_as_ever() {
    let mut plain = trusted_and_system();
    plain[0].servers[3] = ladder("trusted", 4, &[Https, Udp]);
    let (play, upstreams, _) = play_with(plain);
    play.healthy(9, RTT_MS);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(9), 1450 + u128::from(RTT_MS)));
    let mut private = trusted_and_system();
    private[0].servers[3].host = UpstreamHost::at(address(4));
    let (play, upstreams, _) = play_with(private);
    play.healthy(9, RTT_MS);
    assert_eq!(timed(&upstreams, "a.example.org").await, (Ok(9), 1450 + u128::from(RTT_MS)), "a tunnel's, maybe");
    let mut alone = trusted_and_system();
    alone[0].fallback = None;
    let (_, upstreams, _) = play_with(alone);
    assert_eq!(timed(&upstreams, "a.example.org").await.1, 1450);
}

#[tokio::test(start_paused = true)]
async fn a_group_gives_way_to_what_is_asked_after_it_whoever_knows_of_that() {
    let mut groups = trusted_and_system();
    groups[0].fallback = None;
    let (play, upstreams, _) = play_with(groups);
    for (asked, after) in [(1, 600), (2, 0), (3, 0)] {
        let (start, question) = (Instant::now(), question(&format!("n{asked}.example.org")));
        let ask = Ask { resort: true, ..Ask::new(GroupId(0), &question, start + BUDGET) };
        assert!(upstreams.ask(ask, &mut Trace::off()).await.is_err());
        assert_eq!(start.elapsed().as_millis(), after);
        assert!(asked == 1 || upstreams.group_is_down(GroupId(0)));
    }
    assert!(play.sent() <= 8);
}
