//! Real sockets on loopback with ports the kernel picks. The first label of a name says what the answerer does.

mod batches;
mod stop;
mod tcp;
mod udp;

use super::*;
use crate::clock::Clock;
use crate::dns::encode::{self, ClientShape, MessageBuilder};
use crate::dns::wire::{Message, Section};
use crate::dns::{Name, Origin, Rcode, Record, Rtype};
use crate::stats::Counter;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Far more than anything here takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// `page`, `bigpage`: as `wait`, with 2,000 and 60,000 octets; `cached`: answered on the spot; `work`: by a task at once; `wait`: by a task when the test lets it; `panic`,
/// `panicnow`: panics in the task, on the spot; `big`: on the spot, 40,000 octets long.
struct Names {
    clock: Clock,
    released: Semaphore,
}

impl Names {
    fn answer_bytes(query: &Query, octets: usize) -> Vec<u8> {
        let mut builder = MessageBuilder::response(&query.qname, query.qtype, Rcode::NOERROR);
        builder.push(
            Section::Answer,
            &Record {
                owner: query.qname.clone(),
                rtype: query.qtype,
                class: 1,
                ttl: 60,
                rdata: vec![7; octets].into(),
            },
        );
        let mut out = Vec::new();
        encode::fit(&mut out, &builder.finish(), &ClientShape::of(query, 1232), None);
        out
    }
}

impl FastPath for &Names {
    fn allows(&self, client: IpAddr) -> bool {
        client.to_string() != "127.0.0.2"
    }

    fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        arrival: &Arrival,
        _now: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        let query = Query::from_wire(parsed, arrival);
        let octets = match query.qname.labels().next().unwrap() {
            b"cached" => 4,
            b"big" => 40_000,
            b"panicnow" => panic!("on the spot"),
            _ => {
                out.push(1); // What is left behind with `None` must not reach anybody.
                return None;
            }
        };
        out.extend_from_slice(&Names::answer_bytes(&query, octets));
        Some(Origin::Cache.into())
    }
}

impl Answerer for Names {
    type FastPath<'a> = &'a Self;

    fn fast_path(&self) -> &Self {
        self
    }

    async fn answer(&self, query: &Query) -> Worked {
        match query.qname.labels().next().unwrap() {
            b"wait" | b"page" | b"bigpage" => self.released.acquire().await.unwrap().forget(),
            b"panic" => panic!("in the task"),
            _ => {}
        }
        let octets = match query.qname.labels().next().unwrap() {
            b"page" => 2_000,
            b"bigpage" => 60_000,
            _ => 4,
        };
        Worked { decided: Origin::Upstream.into(), upstream: None, bytes: Self::answer_bytes(query, octets) }
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn udp_payload_bytes(&self) -> u16 {
        1232
    }
}

/// Listeners with what stands behind them.
struct Server {
    running: Option<Running>,
    names: Arc<Names>,
    stats: Arc<Stats>,
    address: SocketAddr,
}

impl Server {
    fn start(change: impl FnOnce(&mut config::Server, &mut Limits)) -> Self {
        let mut config = config();
        let mut limits = Limits::new(&config);
        change(&mut config, &mut limits);
        limits.reconfigure(&config);
        let names = Arc::new(Names { clock: Clock::default(), released: Semaphore::new(0) });
        let stats = Arc::new(Stats::default());
        let running =
            start_within(&config, limits, Arc::clone(&names), Arc::clone(&stats), Inherited::default(), &|_, _| None)
                .unwrap();
        let address = running.addresses()[0].actual;
        Self { running: Some(running), names, stats, address }
    }

    fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn answers(&self, origin: Origin) -> u64 {
        self.stats.answers().of_origin(origin)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    fn wait_for(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let patience = std::iter::repeat_n(Duration::from_millis(2), 5000);
        for pause in patience {
            if reached(self) {
                return;
            }
            std::thread::sleep(pause);
        }
        panic!("never: {what}");
    }

    fn wait_for_in_flight(&self, count: usize) {
        self.wait_for("in flight", |server| server.running.as_ref().unwrap().in_flight().get() == count);
    }

    fn drain(&mut self, grace: Duration) -> Drained {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.running.take().unwrap().drain(grace))
    }
}

fn config() -> config::Server {
    config::Server {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        udp_payload_bytes: 1232,
        workers: 1,
        max_in_flight: 4096,
        tcp_idle_timeout: Duration::from_secs(10),
        edns_errors: true,
        allow: Vec::new(),
    }
}

fn question(name: &str, id: u16) -> Vec<u8> {
    let query = Query::local(Name::parse(name).unwrap(), Rtype::A);
    encode::upstream_query(&query.question(), id, Some(1232))
}

fn ask_udp(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    receive_udp(socket)
}

fn receive_udp(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let count = socket.recv(&mut buffer).unwrap();
    buffer[..count].to_vec()
}

fn framed(question: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(question.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(question);
    frame
}

fn receive_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn ask_tcp(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(question)).unwrap();
    receive_tcp(stream)
}

/// Reads until the other side has closed; resets count too.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut octet = [0];
    match stream.read(&mut octet) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn id(answer: &[u8]) -> u16 {
    Message::parse(answer).unwrap().id()
}

fn rcode(answer: &[u8]) -> Rcode {
    Rcode(u16::from(answer[3] & 0x0f))
}

/// The info-code of an answer's extended error.
fn info_code(answer: &[u8]) -> Option<u8> {
    Message::parse(answer).unwrap().edns().unwrap()?.option(15).map(|data| data[1])
}

fn answers_and_drops(stats: &Stats) -> u64 {
    stats.answers().total() + stats.get(Counter::DroppedSilent)
}
