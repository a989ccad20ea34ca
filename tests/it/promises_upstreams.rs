//! Upstreams that are slow, silent, lossy or odd, and what is kept of what they say: the real binary on real sockets, by
//! clocks in the hand of the test where time has to pass (docs/promises.md 1, 8).

use crate::control::stats_socket;
use crate::support::client::{PATIENCE, Response, ask, query};
use crate::support::clocks::Clocks;
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, a, answer_with, qname_of};
use crate::support::http::get;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use truename::dns::wire::Message;
use truename::dns::{Name, Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// An upstream in the hand of the test: it answers when it is told.
struct Hand(UdpSocket);

/// A query that it has, and whose.
type Held = (Vec<u8>, SocketAddr);

impl Hand {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Waits for a query for a name; leaves repeats of others alone.
    fn asked(&self, name: &str) -> Held {
        let (name, mut buffer) = (Name::parse(name).unwrap(), [0; 4096]);
        loop {
            let (len, from) = self.0.recv_from(&mut buffer).expect("the upstream is asked");
            if qname_of(&buffer[..len]) == name {
                return (buffer[..len].to_vec(), from);
            }
        }
    }

    fn answer(&self, (query, from): &Held) {
        self.0.send_to(&answer_with(query, &[a(&qname_of(query), TRUE_ADDRESS, 300)]), from).unwrap();
    }
}

/// A client's question under way.
struct Asking(UdpSocket);

impl Asking {
    fn begin(daemon: &Daemon, name: &str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(daemon.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&query(name, Rtype::A, 7)).unwrap();
        Self(socket)
    }

    fn is_answered(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let is_answered = self.0.peek(&mut [0; 512]).is_ok();
        self.0.set_nonblocking(false).unwrap();
        is_answered
    }

    fn end(self) -> Response {
        let mut buffer = [0; 2048];
        let len = self.0.recv(&mut buffer).expect("every question is answered");
        Response(buffer[..len].to_vec())
    }
}

/// Starts the daemon by clocks of its own; one worker, so that any question wakes whoever waits for a time that has come.
fn by_clocks(servers: &[SocketAddr]) -> (Clocks, Daemon) {
    let clocks = Clocks::new();
    let config = format!("{}[hosts]\nfiles = []\n[server]\nworkers = 1\n", forward_to(servers));
    let daemon = Daemon::start_by(clocks.binary(), &config, &["127.0.0.1:0"]);
    (clocks, daemon)
}

#[test]
fn an_upstream_that_takes_nearly_four_seconds_still_answers_and_nobody_else_waits_for_it() {
    // Together, with what the test itself takes, less than the 4.5 s that a question has.
    const PASS: Duration = Duration::from_millis(950);
    let hand = Hand::new();
    let (clocks, daemon) = by_clocks(&[hand.address()]);
    let slow = Asking::begin(&daemon, "slow.example.org");
    let held = hand.asked("slow.example.org");
    for times in 1..=4 {
        clocks.pass(PASS);
        let name = format!("n{times}.example.org");
        let other = Asking::begin(&daemon, &name);
        hand.answer(&hand.asked(&name));
        assert_eq!(other.end().addresses(), ["192.0.2.1"]);
        assert!(!slow.is_answered(), "given up after {times} times {PASS:?}");
    }
    hand.answer(&held);
    assert_eq!(slow.end().addresses(), ["192.0.2.1"]);
}

#[test]
fn a_reply_that_is_too_late_for_who_asked_is_there_for_the_next_who_asks() {
    let hand = Hand::new();
    let (clocks, daemon) = by_clocks(&[hand.address()]);
    let first = Asking::begin(&daemon, "late.example.org");
    let held = hand.asked("late.example.org");
    clocks.pass(Duration::from_secs(5));
    // Time that jumps wakes nobody; a question does.
    eventually("whoever asked has an answer", || {
        ask(daemon.address, "localhost");
        first.is_answered()
    });
    assert_eq!(first.end().rcode(), Rcode::SERVFAIL);
    hand.answer(&held);
    eventually("the next one has what came late", || {
        let next = Asking::begin(&daemon, "late.example.org").end();
        next.addresses() == ["192.0.2.1"]
    });
}

/// Returns one of the daemon's counters.
fn counter(daemon: &Daemon, name: &str) -> u64 {
    let metrics = get(&stats_socket(daemon), "/metrics").body;
    let line = metrics.lines().find(|line| line.starts_with(&format!("truename_{name} ")));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

#[test]
fn a_first_upstream_that_is_silent_is_waited_for_a_few_times_and_then_no_more() {
    const LATER: usize = 40;
    let (silent, healthy) = (Fake::start(Habit::Silent), Fake::address([192, 0, 2, 1]));
    let daemon = Daemon::start(&forward_to(&[silent.address, healthy.address]));
    eventually("it can be looked into", || daemon.events("control socket").len() == 2);
    let hedges = || counter(&daemon, "upstream_hedges_total");
    for n in 0..10 {
        assert_eq!(ask(daemon.address, &format!("a{n}.example.org")).addresses(), ["192.0.2.1"]);
    }
    assert!(!silent.asked().is_empty(), "it comes first");
    let (asked, hedged) = (silent.asked().len(), hedges());
    for n in 0..LATER {
        assert_eq!(ask(daemon.address, &format!("b{n}.example.org")).addresses(), ["192.0.2.1"]);
    }
    // It is tried again now and then, beside the one that answers; and on a busy machine that one may seem late. Who goes on
    // waiting for the first asks it each time.
    let (asked, hedged) = (silent.asked().len() - asked, hedges() - hedged);
    assert!(asked < LATER / 2 && hedged < LATER as u64 / 2, "asked {asked} times, waited for {hedged} times");
}

/// How many of the first queries for `nX` this server loses: three names of ten lose one, and one of ten two. Which they are
/// is another thing at each server.
fn lost(name: &Name, server: usize) -> usize {
    let text = name.to_lower().to_string();
    let number: usize = text.trim_start_matches('n').split('.').next().unwrap().parse().unwrap();
    let digit = if server == 0 { number % 10 } else { number / 10 % 10 };
    usize::from(digit < 3) + usize::from(digit == 0)
}

#[test]
fn where_both_upstreams_lose_three_of_ten_queries_every_question_is_answered() {
    const NAMES: usize = 100;
    let healthy = || Habit::Address(TRUE_ADDRESS, 300);
    let fakes = [
        Fake::start(Habit::Losing(|name| lost(name, 0), Box::new(healthy()))),
        Fake::start(Habit::Losing(|name| lost(name, 1), Box::new(healthy()))),
    ];
    let daemon = Daemon::start(&forward_to(&[fakes[0].address, fakes[1].address]));
    let asking: Vec<Asking> = (0..NAMES).map(|n| Asking::begin(&daemon, &format!("n{n}.example.org"))).collect();
    for (n, asking) in asking.into_iter().enumerate() {
        let answer = asking.end();
        assert_eq!(answer.addresses(), ["192.0.2.1"], "n{n}: {:?} {:?}", answer.rcode(), answer.ede());
    }
    // Nine of the names lose what comes first, at whichever of them that is.
    let asked: usize = fakes.iter().map(|fake| fake.asked().len()).sum();
    assert!(asked >= NAMES + 9, "{asked} queries: nothing was lost");
}

#[test]
fn a_server_that_drops_whatever_has_edns_is_understood_and_known_from_then_on() {
    let fake = Fake::start(Habit::Custom(|query, _| {
        let has_edns = Message::parse(query).unwrap().edns().unwrap().is_some();
        if has_edns { Vec::new() } else { vec![answer_with(query, &[a(&qname_of(query), TRUE_ADDRESS, 300)])] }
    }));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "first.example.org").addresses(), ["192.0.2.1"]);
    assert!(fake.count("first.example.org") > 1, "it was asked with EDNS first");
    for n in 0..5 {
        assert_eq!(ask(daemon.address, &format!("n{n}.example.org")).addresses(), ["192.0.2.1"]);
    }
    let has_edns = |bytes: &[u8]| Message::parse(bytes).unwrap().edns().unwrap().is_some();
    let later = fake.asked().into_iter().filter(|asked| asked.qname.to_lower() != "first.example.org".parse().unwrap());
    assert_eq!(later.filter(|asked| has_edns(&asked.bytes)).count(), 0, "it is known by now");
}

#[test]
fn a_negative_answer_without_soa_is_passed_on_and_asked_for_again() {
    let fake = Fake::start(Habit::Code(Rcode::NXDOMAIN));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    for times in 1..=3 {
        assert_eq!(ask(daemon.address, "none.example.org").rcode(), Rcode::NXDOMAIN);
        assert_eq!(fake.count("none.example.org"), times);
    }
}

#[test]
fn a_failure_is_remembered_for_a_second_at_least_and_five_at_most() {
    let fake = Fake::start(Habit::Code(Rcode::SERVFAIL));
    let (clocks, daemon) = by_clocks(&[fake.address]);
    let fails = || assert_eq!(ask(daemon.address, "www.example.org").rcode(), Rcode::SERVFAIL);
    let asked = || fake.count("www.example.org");
    fails();
    let mut before = asked();
    assert!(before > 0);
    for pass_ms in [1100, 5100, 5100, 5100] {
        fails();
        assert_eq!(asked(), before, "a failure is remembered");
        clocks.pass(Duration::from_millis(pass_ms));
        fails();
        assert!(asked() > before, "a failure is remembered for longer than {pass_ms} ms");
        before = asked();
    }
    // By now for longer than a second, and a success forgives.
    clocks.pass(Duration::from_millis(1100));
    fails();
    assert_eq!(asked(), before);
    fake.becomes(Habit::Address(TRUE_ADDRESS, 300));
    clocks.pass(Duration::from_secs(5));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
}

#[test]
fn a_popular_name_is_asked_for_once_before_it_expires_and_nobody_waits_for_that() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 100));
    let (clocks, daemon) = by_clocks(&[fake.address]);
    for name in ["www.example.org", "rare.example.org"] {
        assert_eq!(ask(daemon.address, name).addresses(), ["192.0.2.1"]);
    }
    let left = || ask(daemon.address, "www.example.org").answers()[0].ttl;
    for _ in 0..5 {
        assert!(left() > 90);
    }
    assert_eq!(fake.asked().len(), 2);
    // The upstream takes its time; what is at hand goes out meanwhile.
    fake.becomes(Habit::Slow(Duration::from_millis(200), Box::new(Habit::Address(TRUE_ADDRESS, 100))));
    clocks.pass(Duration::from_secs(95));
    assert!(left() <= 5, "the answer is the one at hand");
    ask(daemon.address, "rare.example.org");
    eventually("it has been asked for again", || left() > 50);
    clocks.pass(Duration::from_secs(20));
    assert!(left() > 50, "beyond the end of the first answer");
    // On a busy machine a query may be repeated; the question is one.
    assert!(fake.count("www.example.org") >= 2);
    assert_eq!(get(&stats_socket(&daemon), "/stats").json()["counters"]["prefetches_total"], 1);
    assert_eq!(fake.count("rare.example.org"), 1, "nobody cares for that one");
}

#[test]
fn a_single_upstream_that_says_nothing_is_waited_for_as_long_as_a_question_has() {
    let hand = Hand::new();
    let (clocks, daemon) = by_clocks(&[hand.address()]);
    let question = Asking::begin(&daemon, "www.example.org");
    hand.asked("www.example.org");
    for _ in 0..4 {
        clocks.pass(Duration::from_millis(950));
        // Whoever it would be given up for is woken by this.
        ask(daemon.address, "localhost");
        assert!(!question.is_answered(), "it is given up before its time");
    }
    clocks.pass(Duration::from_millis(800));
    eventually("it is given up", || {
        ask(daemon.address, "localhost");
        question.is_answered()
    });
    let response = question.end();
    assert_eq!((response.rcode(), response.ede()), (Rcode::SERVFAIL, Some(22)));
}

#[test]
fn an_upstream_that_dies_is_passed_over_and_one_that_comes_back_is_used_again() {
    let (first, second) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let (clocks, daemon) = by_clocks(&[first.address, second.address]);
    let by = |name: &str| ask(daemon.address, name).addresses().concat();
    let mut tries = 0;
    let mut until = |what: &str, address: &str, pass: Duration| {
        eventually(what, || {
            tries += 1;
            clocks.pass(pass);
            by(&format!("n{tries}.example.org")) == address
        });
    };
    until("the first one answers", "192.0.2.1", Duration::ZERO);
    first.becomes(Habit::Silent);
    for n in 0..20 {
        assert_eq!(by(&format!("dead{n}.example.org")), "192.0.2.2");
    }
    let asked = (0..20).filter(|n| first.count(&format!("dead{n}.example.org")) > 0).count();
    assert!(asked < 10, "it is asked {asked} times of 20");
    first.becomes(Habit::Address(TRUE_ADDRESS, 300));
    until("it is used again", "192.0.2.1", Duration::from_secs(1));
}

#[test]
fn healthy_upstreams_get_one_query_each_time_somebody_asks() {
    const NAMES: usize = 100;
    let fakes = [Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 1])];
    let daemon = Daemon::start(&forward_to(&[fakes[0].address, fakes[1].address]));
    for n in 0..NAMES {
        assert_eq!(ask(daemon.address, &format!("n{n}.example.org")).addresses(), ["192.0.2.1"]);
    }
    let queries: usize = fakes.iter().map(|fake| fake.asked().len()).sum();
    // The first question is a race, and on a busy machine a reply may seem late.
    assert!((NAMES..NAMES + NAMES / 2).contains(&queries), "{queries} queries");
}

#[test]
fn a_machine_that_has_slept_gives_no_answer_whose_time_was_over_meanwhile() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let (clocks, daemon) = by_clocks(&[fake.address]);
    for _ in 0..2 {
        assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    }
    assert_eq!(fake.count("www.example.org"), 1);
    fake.becomes(Habit::Address([192, 0, 2, 9].into(), 300));
    clocks.sleep(Duration::from_secs(3600));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.9"]);
}
