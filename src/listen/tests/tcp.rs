use super::*;
use std::net::Shutdown;

#[test]
fn a_thousand_frames_in_one_write_are_all_answered() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    let mut frames = Vec::new();
    for number in 0..1000 {
        let name = if number % 5 == 0 { "work.test" } else { "cached.test" };
        frames.extend_from_slice(&framed(&question(name, number)));
    }
    stream.write_all(&frames).unwrap();
    let mut ids: Vec<u16> = (0..1000).map(|_| id(&receive_tcp(&mut stream))).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..1000));
    assert_eq!(server.count(Counter::QueriesTcp), 1000);
    assert_eq!(answers_and_drops(&server.stats), 1000);
}

#[test]
fn answers_come_when_they_are_ready() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    stream.write_all(&[framed(&question("wait.test", 1)), framed(&question("work.test", 2))].concat()).unwrap();
    assert_eq!(id(&receive_tcp(&mut stream)), 2);
    assert_eq!(id(&ask_tcp(&mut stream, &question("cached.test", 3))), 3);
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_tcp(&mut stream)), 1);
}

#[test]
fn more_in_work_than_a_connection_may_have_wait_their_turn() {
    const COUNT: u16 = 500;
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    let frames: Vec<u8> = (0..COUNT).flat_map(|number| framed(&question("wait.test", number))).collect();
    stream.write_all(&frames).unwrap();
    server.wait_for_in_flight(limits::MAX_CONNECTION_IN_FLIGHT);
    // Another connection is not held up.
    assert_eq!(id(&ask_tcp(&mut server.tcp(), &question("work.test", 1))), 1);
    assert_eq!(server.running.as_ref().unwrap().in_flight().get(), limits::MAX_CONNECTION_IN_FLIGHT);
    server.names.released.add_permits(usize::from(COUNT));
    let mut ids: Vec<u16> = (0..COUNT).map(|_| id(&receive_tcp(&mut stream))).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..COUNT));
}

#[test]
fn a_frame_may_come_octet_by_octet() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    stream.set_nodelay(true).unwrap();
    for octet in framed(&question("cached.test", 5)) {
        stream.write_all(&[octet]).unwrap();
    }
    assert_eq!(id(&receive_tcp(&mut stream)), 5);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    stream.write_all(&framed(&question("wait.test", 1))).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    server.wait_for_in_flight(1);
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_tcp(&mut stream)), 1);
    assert!(is_closed(&mut stream));
}

#[test]
fn bad_frames_are_answered_and_the_connection_goes_on() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    let good = question("cached.test", 7);
    let mut response = good.clone();
    response[2] |= 0x80;
    // Silence: an empty frame, a response. FORMERR: cut, too long.
    stream.write_all(&[framed(b""), framed(&response)].concat()).unwrap();
    assert_eq!(rcode(&ask_tcp(&mut stream, &good[..20])), Rcode::FORMERR);
    let mut long = good.clone();
    long.resize(60_000, 0);
    let answer = ask_tcp(&mut stream, &long);
    assert_eq!((&answer[..2], rcode(&answer)), (&[0, 7][..], Rcode::FORMERR));
    assert_eq!(id(&ask_tcp(&mut stream, &good)), 7);
    assert_eq!((server.count(Counter::DroppedSilent), server.count(Counter::Malformed)), (2, 2));
    assert_eq!(answers_and_drops(&server.stats), server.count(Counter::QueriesTcp));
}

#[test]
fn long_answers_are_not_cut_and_a_slow_reader_is_only_slow() {
    const COUNT: u16 = 400;
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    let mut sender = stream.try_clone().unwrap();
    // 16 MB of answers: far beyond what the sockets hold, so that reading the questions has to stop in between.
    let asking = std::thread::spawn(move || {
        let frames: Vec<u8> = (0..COUNT).flat_map(|number| framed(&question("big.test", number))).collect();
        sender.write_all(&frames).unwrap();
    });
    server.wait_for("some are answered", |server| server.answers(Origin::Cache) > 20);
    assert_eq!(id(&ask_udp(&server.udp(), &question("work.test", 1))), 1);
    assert!(server.answers(Origin::Cache) < u64::from(COUNT), "nobody has read an answer yet");
    for number in 0..COUNT {
        let answer = receive_tcp(&mut stream);
        assert_eq!(id(&answer), number);
        assert!(answer.len() > 40_000);
    }
    asking.join().unwrap();
}

#[test]
fn a_reader_that_stops_for_good_is_closed() {
    let server = Server::start(|config, _| config.tcp_idle_timeout = Duration::from_millis(200));
    let mut stream = server.tcp();
    let frames: Vec<u8> = (0..400).flat_map(|number| framed(&question("big.test", number))).collect();
    stream.write_all(&frames).unwrap();
    server.wait_for("closed", |server| server.count(Counter::TcpIdleClosed) == 1);
}

#[test]
fn many_answers_at_once_are_no_slow_reader() {
    const COUNT: u16 = 128;
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    let frames: Vec<u8> = (0..COUNT).flat_map(|number| framed(&question("page.test", number))).collect();
    stream.write_all(&frames).unwrap();
    server.wait_for_in_flight(usize::from(COUNT));
    server.names.released.add_permits(usize::from(COUNT));
    let mut ids: Vec<u16> = (0..COUNT).map(|_| id(&receive_tcp(&mut stream))).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..COUNT));
}

#[test]
fn answers_that_a_client_does_not_read_are_kept_up_to_a_bound() {
    const COUNT: u16 = 128;
    let server = Server::start(|config, _| config.tcp_idle_timeout = Duration::from_secs(600));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // A small window: what the server writes stays on its side.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let frames: Vec<u8> = (0..COUNT).flat_map(|number| framed(&question("bigpage.test", number))).collect();
    stream.write_all(&frames).unwrap();
    server.wait_for_in_flight(usize::from(COUNT));
    let open = || server.running.as_ref().unwrap().limits.open_connections();
    assert_eq!(open(), 1);
    server.names.released.add_permits(usize::from(COUNT));
    server.wait_for("closed", |_| open() == 0);
    assert_eq!(server.count(Counter::TcpIdleClosed), 0);
}

#[test]
fn at_the_cap_the_connection_idle_longest_goes() {
    let server = Server::start(|_, limits| limits.max_connections = 3);
    let mut streams: Vec<_> = (0..3).map(|_| server.tcp()).collect();
    for (number, stream) in (0..).zip(&mut streams) {
        ask_tcp(stream, &question("work.test", number));
    }
    // The first is busy, the second has been idle longest.
    streams[0].write_all(&framed(&question("wait.test", 4))).unwrap();
    server.wait_for_in_flight(1);
    let mut fourth = server.tcp();
    assert_eq!(id(&ask_tcp(&mut fourth, &question("work.test", 5))), 5);
    assert!(is_closed(&mut streams[1]));
    assert_eq!(id(&ask_tcp(&mut streams[2], &question("work.test", 6))), 6);
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_tcp(&mut streams[0])), 4);
    assert_eq!((server.count(Counter::TcpConnections), server.count(Counter::TcpEvicted)), (4, 1));
}

#[test]
fn many_more_connections_than_the_cap_leave_the_last_ones_served() {
    let server = Server::start(|_, limits| limits.max_connections = 8);
    let mut streams: Vec<_> = (0..100).map(|_| server.tcp()).collect();
    let mut last = streams.pop().unwrap();
    assert_eq!(id(&ask_tcp(&mut last, &question("cached.test", 1))), 1);
    assert!(streams.iter_mut().take(80).all(is_closed));
}

#[test]
fn an_idle_connection_is_closed() {
    let server = Server::start(|config, _| config.tcp_idle_timeout = Duration::from_millis(100));
    let mut stream = server.tcp();
    ask_tcp(&mut stream, &question("cached.test", 1));
    assert!(is_closed(&mut stream));
    assert_eq!(server.count(Counter::TcpIdleClosed), 1);
}

#[test]
fn half_a_frame_is_not_waited_for_long() {
    let server = Server::start(|_, limits| limits.partial_frame_timeout = Duration::from_millis(100));
    let mut stream = server.tcp();
    let frame = framed(&question("cached.test", 1));
    stream.write_all(&frame[..9]).unwrap();
    assert!(is_closed(&mut stream));
    // One whose questions come and go is not: the idle timeout is 10 s here.
    let mut busy = server.tcp();
    stream = server.tcp();
    ask_tcp(&mut busy, &question("cached.test", 2));
    stream.write_all(&frame[..20]).unwrap();
    assert!(is_closed(&mut stream));
    assert_eq!(id(&ask_tcp(&mut busy, &question("cached.test", 3))), 3);
}

#[test]
fn a_question_in_work_keeps_its_connection_open() {
    let server = Server::start(|config, _| config.tcp_idle_timeout = Duration::from_millis(50));
    let (mut idle, mut stream) = (server.tcp(), server.tcp());
    stream.write_all(&framed(&question("wait.test", 1))).unwrap();
    server.wait_for_in_flight(1);
    assert!(is_closed(&mut idle));
    let mut second_idle = server.tcp();
    assert!(is_closed(&mut second_idle));
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_tcp(&mut stream)), 1);
}

#[test]
fn a_panic_ends_one_question_of_a_connection_only() {
    let server = Server::start(|_, _| {});
    let mut stream = server.tcp();
    for name in ["panic.test", "panicnow.test"] {
        assert_eq!(rcode(&ask_tcp(&mut stream, &question(name, 1))), Rcode::SERVFAIL);
    }
    assert_eq!(rcode(&ask_tcp(&mut stream, &question("cached.test", 2))), Rcode::NOERROR);
}

#[test]
fn strangers_are_refused_over_tcp_too() {
    let server = Server::start(|_, _| {});
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let answer = ask_tcp(&mut socket.into(), &question("cached.test", 1));
    assert_eq!((rcode(&answer), info_code(&answer)), (Rcode::REFUSED, Some(18)));
}
