//! Upstreams on real sockets that do what upstreams in the field do. Each known failure is one [`Habit`].

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use truename::dns::encode::MessageBuilder;
use truename::dns::wire::{Message, Section, flag};
use truename::dns::{Name, Rcode, Record, Rtype};

/// How often the threads look whether they should end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What an upstream does with a question.
#[derive(Debug, Clone)]
pub(crate) enum Habit {
    /// Answers every A question with this address and TTL; other types are NODATA with a SOA.
    Address(Ipv4Addr, u32),
    /// Says nothing.
    Silent,
    /// Does the same as the other habit, later.
    Slow(Duration, Box<Self>),
    /// Says nothing to the first queries for a name, so many, and then does the same as the other habit.
    Losing(fn(&Name) -> usize, Box<Self>),
    /// Answers with this code and no records.
    Code(Rcode),
    /// NOERROR with neither records nor SOA.
    EmptyWithoutSoa,
    /// NXDOMAIN with a SOA of this TTL and minimum.
    NxDomain(u32),
    /// TC over UDP; over TCP so many addresses.
    Truncating(u8),
    /// Datagrams that are no DNS message come first.
    GarbageFirst(Ipv4Addr),
    /// Datagrams with wrong ids and questions come first, so many.
    FloodFirst(u16, Ipv4Addr),
    /// FORMERR to whatever has an OPT record.
    NoEdns(Ipv4Addr),
    /// Answers with the question in lower case.
    LowerCases(Ipv4Addr),
    /// An alias to this name, and that name's address.
    Alias(&'static str, Ipv4Addr),
    /// An alias to itself.
    AliasLoop,
    /// So many aliases, `h0` to `h1` and so on, from the one asked for on; for the last name there is nothing.
    AliasChain(u8),
    /// The records given.
    Records(Vec<Record>),
    /// Whatever this makes of the query's bytes; the flag tells whether it came over TCP.
    Custom(fn(&[u8], bool) -> Vec<Vec<u8>>),
}

/// A fake upstream on a loopback port, UDP and TCP.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    habit: Mutex<Habit>,
    own: Mutex<HashMap<Name, Habit>>,
    asked: Mutex<Vec<Asked>>,
    stop: AtomicBool,
}

/// A question that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) qname: Name,
    pub(crate) qtype: Rtype,
    pub(crate) tcp: bool,
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Fake {
    /// Starts an upstream with one habit for every name.
    pub(crate) fn start(habit: Habit) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST, habit)
    }

    /// Starts one on another address of the loopback network.
    pub(crate) fn start_at(ip: Ipv4Addr, habit: Habit) -> Self {
        let (udp, tcp) = bind_pair(ip);
        let address = udp.local_addr().expect("it is bound");
        udp.set_read_timeout(Some(LOOK_EVERY)).expect("not zero");
        tcp.set_nonblocking(true).expect("loopback");
        let shared = Arc::new(Shared {
            habit: Mutex::new(habit),
            own: Mutex::default(),
            asked: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (for_udp, for_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &for_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &for_tcp)),
        ];
        Self { address, shared, threads }
    }

    /// Starts an upstream that gives every name this address with a TTL of 300 s.
    pub(crate) fn address(octets: [u8; 4]) -> Self {
        Self::start(Habit::Address(octets.into(), 300))
    }

    /// Changes the habit for all names.
    pub(crate) fn becomes(&self, habit: Habit) {
        *self.shared.habit.lock().expect("no thread panicked") = habit;
    }

    /// Gives one name a habit of its own.
    pub(crate) fn with(self, name: &str, habit: Habit) -> Self {
        self.shared.own.lock().expect("no thread panicked").insert(Name::parse(name).expect("a name"), habit);
        self
    }

    /// Returns all questions so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no thread panicked").clone()
    }

    /// Counts the questions for one name.
    pub(crate) fn count(&self, name: &str) -> usize {
        let name = Name::parse(name).expect("a name");
        self.asked().iter().filter(|asked| asked.qname == name).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in a fake has failed its test already: nobody answered.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Notes a question and returns what to send, in order, and after how long.
    fn replies(&self, bytes: &[u8], from: SocketAddr, tcp: bool) -> (Duration, Vec<Vec<u8>>) {
        let Ok(view) = Message::parse(bytes) else { return (Duration::ZERO, Vec::new()) };
        let qname = Name::from_wire(view.qname()).expect("parsed");
        let asked = Asked { qname: qname.clone(), qtype: view.qtype(), tcp, from, bytes: bytes.to_vec() };
        self.asked.lock().expect("no thread panicked").push(asked);
        let own = self.own.lock().expect("no thread panicked").get(&qname).cloned();
        let mut habit = own.unwrap_or_else(|| self.habit.lock().expect("no thread panicked").clone());
        let mut wait = Duration::ZERO;
        while let Habit::Slow(after, inner) = habit {
            wait += after;
            habit = *inner;
        }
        if let Habit::Losing(lost, inner) = habit {
            let asked = self.asked.lock().expect("no thread panicked");
            let times = asked.iter().filter(|asked| asked.qname == qname).count();
            habit = if times > lost(&qname) { *inner } else { Habit::Silent };
        }
        let replies = if let Habit::Custom(make) = habit { make(bytes, tcp) } else { act(&habit, &view, &qname, tcp) };
        (wait, replies)
    }
}

/// Binds UDP and TCP on one port; another program may hold the TCP side of a free UDP port, so it tries some.
fn bind_pair(ip: Ipv4Addr) -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind((ip, 0)).expect("a free port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("it is bound")) {
            return (udp, tcp);
        }
    }
    panic!("no port is free over both UDP and TCP");
}

fn serve_udp(socket: &UdpSocket, shared: &Arc<Shared>) {
    let mut buffer = [0; 4096];
    while !shared.stopped() {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        let (wait, replies) = shared.replies(&buffer[..len], from, false);
        let to = socket.try_clone().expect("a second handle");
        let send = move || replies.iter().for_each(|reply| drop(to.send_to(reply, from)));
        if wait.is_zero() {
            send();
        } else {
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                send();
            });
        }
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stopped() {
        match listener.accept() {
            Ok((stream, from)) => {
                let shared = Arc::clone(shared);
                std::thread::spawn(move || serve_connection(stream, from, &shared));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

fn serve_connection(mut stream: TcpStream, from: SocketAddr, shared: &Shared) {
    // Accepted sockets may inherit non-blocking mode.
    if stream.set_nonblocking(false).is_err() || stream.set_read_timeout(Some(Duration::from_secs(20))).is_err() {
        return;
    }
    let mut len = [0; 2];
    while !shared.stopped() && stream.read_exact(&mut len).is_ok() {
        let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        let (wait, replies) = shared.replies(&message, from, true);
        std::thread::sleep(wait);
        for reply in replies {
            let mut frame = u16::try_from(reply.len()).expect("a frame's length").to_be_bytes().to_vec();
            frame.extend_from_slice(&reply);
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    }
}

fn act(habit: &Habit, query: &Message<'_>, qname: &Name, tcp: bool) -> Vec<Vec<u8>> {
    let reply = |rcode: Rcode, records: &[Record], soa: Option<u32>| vec![response(query, qname, rcode, records, soa)];
    let address = |ip: Ipv4Addr, ttl: u32| {
        let records = [a(qname, ip, ttl)];
        if query.qtype() == Rtype::A {
            reply(Rcode::NOERROR, &records, None)
        } else {
            reply(Rcode::NOERROR, &[], Some(60))
        }
    };
    match habit {
        Habit::Address(ip, ttl) => address(*ip, *ttl),
        Habit::Silent | Habit::Slow(..) | Habit::Losing(..) | Habit::Custom(_) => Vec::new(),
        Habit::Code(rcode) => reply(*rcode, &[], None),
        Habit::EmptyWithoutSoa => reply(Rcode::NOERROR, &[], None),
        Habit::NxDomain(ttl) => reply(Rcode::NXDOMAIN, &[], Some(*ttl)),
        Habit::Truncating(count) => {
            let all: Vec<Record> = (0..*count).map(|last| a(qname, [192, 0, 2, last].into(), 300)).collect();
            let mut message = response(query, qname, Rcode::NOERROR, if tcp { &all } else { &[] }, None);
            if !tcp {
                message[2] |= u8::try_from(flag::TC >> 8).expect("one octet");
            }
            vec![message]
        }
        Habit::GarbageFirst(ip) => {
            let id = query.id().to_be_bytes();
            let mut replies =
                vec![vec![0xff; 3], [&id[..], &[0x81, 0x80, 0, 1, 0, 9, 0, 0, 0, 0, 0xc0]].concat(), vec![]];
            replies.extend(address(*ip, 300));
            replies
        }
        Habit::FloodFirst(count, ip) => {
            let forged = response(query, qname, Rcode::NOERROR, &[a(qname, [203, 0, 113, 66].into(), 300)], None);
            let other = Name::parse("other.example").expect("a name");
            let wrong_question =
                response(query, &other, Rcode::NOERROR, &[a(&other, [203, 0, 113, 66].into(), 300)], None);
            let wrong_id = |n: u16| {
                let mut message = forged.clone();
                message[..2].copy_from_slice(&query.id().wrapping_add(n).to_be_bytes());
                message
            };
            let mut replies: Vec<Vec<u8>> = if tcp { Vec::new() } else { (1..=*count).map(wrong_id).collect() };
            if !tcp {
                replies.push(wrong_question);
            }
            replies.extend(address(*ip, 300));
            replies
        }
        Habit::NoEdns(_) if query.edns().ok().flatten().is_some() => reply(Rcode::FORMERR, &[], None),
        Habit::NoEdns(ip) => address(*ip, 300),
        Habit::LowerCases(ip) => {
            let lower = qname.to_lower();
            vec![response(query, &lower, Rcode::NOERROR, &[a(&lower, *ip, 300)], None)]
        }
        Habit::Alias(target, ip) => {
            let target = Name::parse(target).expect("a name");
            reply(Rcode::NOERROR, &[alias(qname, &target), a(&target, *ip, 300)], None)
        }
        Habit::AliasLoop => reply(Rcode::NOERROR, &[alias(qname, qname)], None),
        Habit::AliasChain(count) => {
            let text = qname.to_lower().to_string();
            let (label, parent) = text.split_once('.').expect("a label and a parent");
            let first: u8 = label.trim_start_matches('h').parse().expect("a number behind the h");
            let name = |n: u8| Name::parse(&format!("h{n}.{parent}")).expect("a name");
            let aliases: Vec<Record> = (first..*count).map(|n| alias(&name(n), &name(n + 1))).collect();
            reply(Rcode::NOERROR, &aliases, Some(60))
        }
        Habit::Records(records) => reply(Rcode::NOERROR, records, None),
    }
}

/// Makes an A record.
pub(crate) fn a(owner: &Name, ip: Ipv4Addr, ttl: u32) -> Record {
    Record { owner: owner.clone(), rtype: Rtype::A, class: 1, ttl, rdata: ip.octets().into() }
}

/// Makes the answer to a query's bytes with these records, as a true upstream would.
pub(crate) fn answer_with(query: &[u8], records: &[Record]) -> Vec<u8> {
    let view = Message::parse(query).expect("the daemon sends well-formed queries");
    let qname = Name::from_wire(view.qname()).expect("parsed");
    response(&view, &qname, Rcode::NOERROR, records, None)
}

/// Returns the name a query's bytes ask for, in lower case.
pub(crate) fn qname_of(query: &[u8]) -> Name {
    let view = Message::parse(query).expect("the daemon sends well-formed queries");
    Name::from_wire(view.qname()).expect("parsed").to_lower()
}

pub(crate) fn alias(owner: &Name, target: &Name) -> Record {
    Record { owner: owner.clone(), rtype: Rtype::CNAME, class: 1, ttl: 300, rdata: target.as_wire().into() }
}

fn response(query: &Message<'_>, qname: &Name, rcode: Rcode, records: &[Record], soa: Option<u32>) -> Vec<u8> {
    let mut builder = MessageBuilder::response(qname, query.qtype(), rcode);
    records.iter().for_each(|record| builder.push(Section::Answer, record));
    if let Some(ttl) = soa {
        builder.push(Section::Authority, &soa_record(ttl));
    }
    let mut message = builder.finish().into_vec();
    message[..2].copy_from_slice(&query.id().to_be_bytes());
    message[2] |= u8::from(query.has(flag::RD));
    message
}

fn soa_record(ttl: u32) -> Record {
    let mut rdata = b"\x02ns\x00\x04mail\x00".to_vec();
    for number in [1, 3600, 600, 86_400, ttl] {
        rdata.extend_from_slice(&u32::to_be_bytes(number));
    }
    Record { owner: Name::root(), rtype: Rtype::SOA, class: 1, ttl, rdata: rdata.into() }
}
