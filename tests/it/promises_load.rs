//! Load, floods, restarts and bounds: what stays true meanwhile (docs/promises.md 1 to 4 and 7).
//!
//! Every flood here is small enough for a busy machine; how the release build does under full floods is measured by
//! `benches/side-by-side/faults`.

use crate::support::client::{ask, connect, exchange_from, plain_query, query, read_frame, write_frame};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::fake::{Fake, Habit};
use crate::support::{eventually, paced};
use std::collections::HashSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// What the daemon may hold after everything done to it here (docs/promises.md 7).
const MAX_RSS_KIB: u64 = 64 << 10;

#[test]
fn a_slow_upstream_holds_nobody_else_up() {
    let slow = Habit::Slow(Duration::from_millis(1500), Box::new(Habit::Address(TRUE_ADDRESS, 60)));
    let fake = Fake::address([192, 0, 2, 2]).with("slow.example.org", slow);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(ask(daemon.address, "slow.example.org").addresses(), ["192.0.2.1"]);
            answered.store(true, Ordering::SeqCst);
        });
        eventually("the slow question is at the upstream", || fake.count("slow.example.org") > 0);
        for n in 0..10 {
            assert_eq!(ask(daemon.address, &format!("n{n}.example.org")).addresses(), ["192.0.2.2"]);
        }
        assert!(!answered.load(Ordering::SeqCst), "the others waited for the slow one");
    });
}

#[test]
fn five_hundred_questions_a_second_lose_nothing_over_reloads() {
    const RATE: u32 = 500;
    const COUNT: u32 = 1500;
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 300));
    let config = |last: u8| {
        let zone = format!(
            "[[zone]]\nname = \"lab.example\"\nrecords = [{{ name = \"@\", type = \"A\", value = \"10.0.0.{last}\" }}]\n"
        );
        format!("{}{zone}", forward_to(&[fake.address]))
    };
    let daemon = Daemon::start(&config(1));
    ask(daemon.address, "cached.example.org");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            paced(RATE, COUNT, |n| {
                // A hit, a local name and a miss in turn.
                let name = match n % 3 {
                    0 => "cached.example.org".to_owned(),
                    1 => "lab.example".to_owned(),
                    _ => format!("n{n}.example.org"),
                };
                socket.send(&query(&name, Rtype::A, u16::try_from(n).unwrap())).unwrap();
                if n % 250 == 125 {
                    daemon.reload(&config(u8::try_from(n / 250).unwrap() + 2));
                }
            });
        });
        let mut answered = HashSet::new();
        let mut buffer = [0; 2048];
        while answered.len() < usize::try_from(COUNT).unwrap() {
            let len = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("lost {}", COUNT as usize - answered.len()));
            assert_eq!(buffer[3] & 0x0f, 0, "{:?}", &buffer[..len]);
            assert!(answered.insert([buffer[0], buffer[1]]), "answered twice");
        }
    });
    assert_eq!(daemon.events("reloaded").len(), 6);
}

#[test]
fn after_a_kill_the_next_start_answers_on_the_same_port() {
    let fake = Fake::address([192, 0, 2, 1]);
    let mut daemon = Daemon::start(&forward_to(&[fake.address]));
    let address = daemon.address;
    // A connection that the kill breaks leaves its end in the kernel; the port must be free all the same.
    let mut stream = connect(address);
    write_frame(&mut stream, &query("www.example.org", Rtype::A, 1));
    read_frame(&mut stream).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            eventually("a client that asks again is answered", || {
                let message = query("again.example.org", Rtype::A, 7);
                let reply = exchange_from(Ipv4Addr::LOCALHOST.into(), address, &message, Duration::from_millis(100));
                reply.is_some_and(|reply| reply.addresses() == ["192.0.2.1"])
            });
        });
        daemon.kill();
        let next = Daemon::start_with(&forward_to(&[fake.address]), &[], &[&address.to_string()]);
        assert_eq!(next.address, address);
        client.join().unwrap();
    });
}

/// Asks the cached name over and over until the flood is over; every question must be answered.
fn ask_cached_during(daemon: SocketAddr, flood: impl FnOnce() + Send) -> u32 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            flood();
            over.store(true, Ordering::SeqCst);
        });
        let mut asked = 0;
        while !over.load(Ordering::SeqCst) {
            assert_eq!(ask(daemon, "cached.example.org").addresses(), ["192.0.2.1"]);
            asked += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        asked
    })
}

/// The numbers of Marsaglia's xorshift: the same every time, so that what fails fails again.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Makes a datagram that is no good question: noise, or a question with some octets changed or cut off.
fn broken(state: &mut u64) -> Vec<u8> {
    let mut message = plain_query("www.example.org", Rtype::A, 3);
    let kind = random(state) % 4;
    if kind == 0 {
        return (0..random(state) % 200).map(|_| (random(state) & 0xff) as u8).collect();
    }
    for _ in 0..kind {
        let at = usize::try_from(random(state)).unwrap() % message.len();
        message[at] = (random(state) & 0xff) as u8;
    }
    // Not from upstreams: what happens to parse as a question for another name must not be sent on.
    message[5] = 3;
    message.truncate(12 + usize::try_from(random(state)).unwrap() % 24);
    message
}

#[test]
fn cached_names_are_answered_under_a_flood_of_garbage() {
    const PACKETS: u32 = 10_000;
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "cached.example.org");
    let before = daemon.rss_kib();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d;
    let before_cpu = daemon.cpu();
    let asked = ask_cached_during(daemon.address, || {
        paced(5000, PACKETS, |_| drop(socket.send(&broken(&mut state))));
    });
    let spent = daemon.cpu() - before_cpu;
    assert!(asked > 1, "{asked}");
    // Half a millisecond each, the cached questions beside them included: this may be a build without optimization.
    assert!(spent < Duration::from_micros(500) * PACKETS, "{spent:?} of CPU for {PACKETS} malformed packets");
    daemon.assert_no_panic();
    let after = daemon.rss_kib();
    assert!(after < before + (4 << 10), "grew from {before} to {after} KiB");
    assert_eq!((fake.asked().len(), fake.count("cached.example.org")), (1, 1), "garbage was forwarded");
}

#[test]
fn cached_names_are_answered_under_a_flood_of_new_names_and_memory_stays_bounded() {
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!("{}[cache]\nmax_entries = 1000\n", forward_to(&[fake.address]));
    let daemon = Daemon::start(&config);
    ask(daemon.address, "cached.example.org");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    let asked = ask_cached_during(daemon.address, || {
        paced(2000, 4000, |n| drop(socket.send(&query(&format!("x{n}.example.org"), Rtype::A, 9))));
    });
    assert!(asked > 1, "{asked}");
    // The cache held a quarter of them at most, and the one that is asked for all the time unless the machine stood
    // still for as long as its thousand entries last.
    let fetched = fake.count("cached.example.org");
    assert!(fetched < 6, "fetched {fetched} times");
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    daemon.assert_no_panic();
}

#[test]
fn a_dead_upstream_under_a_flood_leaves_cached_names_alone_and_is_used_again_when_it_returns() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "cached.example.org");
    fake.becomes(Habit::Silent);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    let asked = ask_cached_during(daemon.address, || {
        // More than may be in work at once: those beyond get SERVFAIL, never silence.
        paced(4000, 8000, |n| drop(socket.send(&query(&format!("x{n}.example.org"), Rtype::A, 9))));
    });
    assert!(asked > 1, "{asked}");
    fake.becomes(Habit::Address(TRUE_ADDRESS, 300));
    let mut tries = 0;
    eventually("new names are answered again", || {
        tries += 1;
        ask(daemon.address, &format!("new{tries}.example.org")).addresses() == ["192.0.2.1"]
    });
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    daemon.assert_no_panic();
}

#[test]
fn questions_beyond_max_in_flight_are_answered_servfail_at_once() {
    let fake = Fake::start(Habit::Silent);
    let daemon = Daemon::start(&format!("{}[server]\nmax_in_flight = 1\n", forward_to(&[fake.address])));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(daemon.address).unwrap();
    // The only place there is firm: its question does not give way.
    socket.send(&query("x.example.org", Rtype::A, 1)).unwrap();
    eventually("it is at the upstream", || fake.count("x.example.org") > 0);
    let beyond = ask(daemon.address, "beyond.example.org");
    assert_eq!((beyond.rcode(), beyond.ede()), (Rcode::SERVFAIL, Some(14)));
    assert_eq!(fake.count("beyond.example.org"), 0);
}

#[test]
fn an_idle_daemon_does_not_wake_up() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    ask(daemon.address, "localhost");
    // What a question leaves behind ends within seconds; after that nothing is left to wake anybody.
    eventually("three seconds without a wake-up", || {
        let before = daemon.wake_ups();
        std::thread::sleep(Duration::from_secs(3));
        daemon.wake_ups() == before
    });
}

#[test]
fn connections_beyond_the_cap_close_the_oldest_and_everybody_else_is_answered() {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = Daemon::start(&format!("{}[server]\nworkers = 1\n", forward_to(&[fake.address])));
    let mut first = connect(daemon.address);
    write_frame(&mut first, &query("cached.example.org", Rtype::A, 1));
    assert_eq!(read_frame(&mut first).unwrap().addresses(), ["192.0.2.1"]);
    // Half of them hold a frame that never ends.
    let held: Vec<TcpStream> = (0..600)
        .map(|n| {
            let mut stream = connect(daemon.address);
            if n % 2 == 0 {
                stream.write_all(&[0, 40, 1, 2]).unwrap();
            }
            stream
        })
        .collect();
    let mut last = connect(daemon.address);
    write_frame(&mut last, &query("cached.example.org", Rtype::A, 2));
    assert_eq!(read_frame(&mut last).unwrap().addresses(), ["192.0.2.1"]);
    assert_eq!(ask(daemon.address, "cached.example.org").addresses(), ["192.0.2.1"]);
    assert!(read_frame(&mut first).is_none(), "the oldest idle one is closed");
    assert!(daemon.rss_kib() < MAX_RSS_KIB, "{} KiB", daemon.rss_kib());
    drop(held);
}

#[test]
fn without_file_descriptors_udp_goes_on_and_nothing_spins() {
    let fake = Fake::address([192, 0, 2, 1]);
    let config = format!("{}[server]\nworkers = 1\n", forward_to(&[fake.address]));
    let daemon = Daemon::start_with_descriptors(&config, 40);
    ask(daemon.address, "cached.example.org");
    let held: Vec<TcpStream> = (0..100).map(|_| connect(daemon.address)).collect();
    let used = daemon.cpu();
    for _ in 0..50 {
        assert_eq!(ask(daemon.address, "cached.example.org").addresses(), ["192.0.2.1"]);
        std::thread::sleep(Duration::from_millis(20));
    }
    // Over a second of CPU would have gone by in a second of spinning.
    let spent = daemon.cpu() - used;
    assert!(spent < Duration::from_millis(500), "{spent:?} of CPU");
    drop(held);
    eventually("new names are answered again", || {
        ask(daemon.address, "new.example.org").addresses() == ["192.0.2.1"]
            || ask(daemon.address, "other.example.org").addresses() == ["192.0.2.1"]
    });
}
