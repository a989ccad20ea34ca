use super::super::open::PLAIN_IDLE;
use super::super::tls::Roots;
use super::*;
use crate::config::{UpstreamHost, UpstreamTransport};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(10);
/// Nor so long for what comes after some time.
const SLOW_BOUND: Duration = Duration::from_secs(30);
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";

fn links() -> Arc<Links> {
    Arc::new(Links::new(Arc::default()))
}

fn link(links: &Arc<Links>, server: SocketAddr) -> Arc<Link> {
    links.link(Target::new(
        (UpstreamHost::at(server), server.port()),
        UpstreamTransport::Tcp,
        None,
        Arc::default(),
        (Arc::new(Roots::default()), Arc::default()),
    ))
}

async fn listen() -> (TcpListener, Arc<Link>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link(&links(), listener.local_addr().unwrap());
    (listener, link)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(BOUND, listener.accept()).await.expect("a connection").unwrap().0
}

async fn read_frame(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    let mut frame = vec![0; usize::from(length)];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_u16(u16::try_from(frame.len()).unwrap()).await.unwrap();
    stream.write_all(frame).await.unwrap();
}

async fn reply(receiver: Receiver) -> io::Result<Vec<u8>> {
    timeout(BOUND, receiver).await.expect("a reply").unwrap().map(|delivered| delivered.message)
}

#[tokio::test]
async fn queries_not_yet_written_have_a_bound() {
    let (_listener, link) = listen().await;
    // The connection's task does not run before this one waits.
    let taken: Vec<_> = std::iter::from_fn(|| link.send(QUERY).ok()).take(QUEUE + 1).collect();
    assert_eq!(taken.len(), QUEUE);
    assert_eq!(link.send(QUERY).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
}

#[tokio::test]
async fn connections_have_a_bound_and_ended_ones_do_not_count() {
    let links = links();
    let closed =
        |at: usize| SocketAddr::from(([127, 0, 0, u8::try_from(at % 250 + 1).unwrap()], 1 + u16::from(at >= 250)));
    let taken: Vec<_> = (0..MAX_CONNECTIONS).map(|at| link(&links, closed(at)).send(QUERY).unwrap()).collect();
    let next = link(&links, closed(MAX_CONNECTIONS));
    assert_eq!(next.send(QUERY).unwrap_err().kind(), io::ErrorKind::QuotaExceeded);
    for receiver in taken {
        reply(receiver).await.unwrap_err();
    }
    let free = async {
        while next.send(QUERY).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, free).await.unwrap();
}

#[tokio::test]
async fn a_server_that_talks_on_unasked_loses_its_connection() {
    let (listener, link) = listen().await;
    let receiver = link.send(QUERY).unwrap();
    let mut stream = accept(&listener).await;
    let query = read_frame(&mut stream).await;
    write_frame(&mut stream, &query).await;
    assert_eq!(reply(receiver).await.unwrap(), QUERY);
    let talking = async {
        while stream.write_all(b"\x00\x01x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, talking).await.expect("closed while the server still talks");
}

#[tokio::test]
async fn a_silent_connection_is_told_from_one_beside_which_none_can_be_opened() {
    let (listener, link) = listen().await;
    let waiting = link.send(QUERY).unwrap();
    let mut first = accept(&listener).await;
    let query = read_frame(&mut first).await;
    assert!(!link.is_refused());
    // Nobody listens any longer; the connection that is open says nothing.
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = async {
        while !link.is_refused() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, refused).await.expect("a fresh connection is refused");
    // What comes all the same is the reply.
    write_frame(&mut first, &query).await;
    assert_eq!(reply(waiting).await.unwrap(), QUERY);
    // As soon as one can be opened again, it is as ever.
    let next = link.send(QUERY).unwrap();
    read_frame(&mut first).await;
    timeout(BOUND, async {
        while !link.is_refused() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let last = link.send(QUERY).unwrap();
    let mut second = accept(&listener).await;
    timeout(BOUND, async {
        while link.is_refused() {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .unwrap();
    let query = read_frame(&mut second).await;
    write_frame(&mut second, &query).await;
    assert_eq!(reply(last).await.unwrap(), QUERY);
    drop(next);
}

#[tokio::test]
async fn a_silent_connection_is_raced_and_the_fresh_one_stays() {
    let (listener, link) = listen().await;
    let waiting = link.send(QUERY).unwrap();
    let mut first = accept(&listener).await;
    read_frame(&mut first).await;
    // Nothing comes on the first: what waits is asked again on a second, without a word from anybody.
    let mut second = accept(&listener).await;
    let query = read_frame(&mut second).await;
    let next = link.send(QUERY).unwrap();
    assert_eq!(read_frame(&mut first).await[2..], QUERY[2..], "the next query goes over both");
    let both = read_frame(&mut second).await;
    write_frame(&mut second, &query).await;
    write_frame(&mut second, &both).await;
    assert_eq!(reply(waiting).await.unwrap(), QUERY);
    assert_eq!(reply(next).await.unwrap(), QUERY);
    // From here on the first gets nothing.
    let last = link.send(QUERY).unwrap();
    let query = read_frame(&mut second).await;
    write_frame(&mut second, &query).await;
    assert_eq!(reply(last).await.unwrap(), QUERY);
    let mut rest = [0; 1];
    assert!(timeout(Duration::from_millis(50), first.read(&mut rest)).await.is_err());
}

#[tokio::test]
async fn a_slow_server_keeps_its_connection_and_is_given_more_time() {
    let (listener, link) = listen().await;
    let waiting = link.send(QUERY).unwrap();
    let mut first = accept(&listener).await;
    let query = read_frame(&mut first).await;
    let mut second = accept(&listener).await;
    read_frame(&mut second).await;
    write_frame(&mut first, &query).await;
    assert_eq!(reply(waiting).await.unwrap(), QUERY);
    let next = link.send(QUERY).unwrap();
    let query = read_frame(&mut first).await;
    assert_eq!(link.state().alarms, 1);
    write_frame(&mut first, &query).await;
    assert_eq!(reply(next).await.unwrap(), QUERY);
    // The second connection is not needed: it is closed when its query has run out, if not before.
    let mut rest = [0; 1];
    assert!(matches!(timeout(2 * BOUND, second.read(&mut rest)).await, Ok(Ok(0) | Err(_))));
}

#[tokio::test]
async fn suspect_all_makes_the_waiting_and_the_next_go_over_a_fresh_connection_too() {
    let (listener, link) = listen().await;
    let waiting = link.send(QUERY).unwrap();
    let mut first = accept(&listener).await;
    read_frame(&mut first).await;
    link.links.suspect_all();
    let next = link.send(QUERY).unwrap();
    let mut second = accept(&listener).await;
    for _ in 0..2 {
        let query = read_frame(&mut second).await;
        write_frame(&mut second, &query).await;
    }
    assert_eq!(reply(waiting).await.unwrap(), QUERY);
    assert_eq!(reply(next).await.unwrap(), QUERY);
    assert_eq!(link.links.stats.get(Counter::UpstreamConnections), 2);
    assert_eq!(link.links.stats.get(Counter::UpstreamSuspects), 1);
}

#[tokio::test]
async fn a_connection_that_dies_with_its_thread_costs_no_query() {
    let (listener, link) = listen().await;
    let server = tokio::spawn(async move {
        let mut first = accept(&listener).await;
        read_frame(&mut first).await;
        let mut second = accept(&listener).await;
        let query = read_frame(&mut second).await;
        write_frame(&mut second, &query).await;
        (first, second)
    });
    let (sender, receiver) = std::sync::mpsc::channel();
    let other = Arc::clone(&link);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            sender.send(Waiting::send(other, QUERY).unwrap()).unwrap();
            // Long enough for the connection to open; then the runtime ends with it.
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
    });
    thread.join().unwrap();
    let mut waiting = receiver.recv().unwrap();
    let reply = timeout(BOUND, std::future::poll_fn(|cx| waiting.poll(cx))).await.expect("a reply");
    assert_eq!(reply.unwrap(), QUERY);
    drop(server.await.unwrap());
}

#[tokio::test]
async fn a_connection_that_does_not_open_is_given_up() {
    // A full backlog makes the kernel drop every further handshake.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let server = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(server)).await {
        filling.push(stream.unwrap());
    }
    let start = Instant::now();
    let receiver = link(&links(), server).send(QUERY).unwrap();
    let error = timeout(SLOW_BOUND, receiver).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(start.elapsed() >= HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn a_connection_without_queries_is_closed() {
    let (listener, link) = listen().await;
    let receiver = link.send(QUERY).unwrap();
    let mut stream = accept(&listener).await;
    let query = read_frame(&mut stream).await;
    let start = Instant::now();
    write_frame(&mut stream, &query).await;
    assert_eq!(reply(receiver).await.unwrap(), QUERY);
    assert_eq!(timeout(SLOW_BOUND, stream.read(&mut [0; 16])).await.unwrap().unwrap(), 0);
    // Together with others of its thread: up to a beat earlier.
    assert!(start.elapsed() >= PLAIN_IDLE - Duration::from_millis(4096), "{:?}", start.elapsed());
    // The next query opens another without a word.
    let receiver = link.send(QUERY).unwrap();
    let mut stream = accept(&listener).await;
    let query = read_frame(&mut stream).await;
    write_frame(&mut stream, &query).await;
    assert_eq!(reply(receiver).await.unwrap(), QUERY);
}

#[tokio::test]
async fn a_server_that_does_not_read_loses_its_connection() {
    let (_listener, link) = listen().await;
    // 16 MB: more than the sockets of some connections hold.
    let long = [QUERY, &[0; 65_000]].concat();
    let waiting: Vec<_> = (0..256).map(|_| link.send(&long).unwrap()).collect();
    let first = waiting.into_iter().next().unwrap();
    let error = timeout(SLOW_BOUND, first).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
