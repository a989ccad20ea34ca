use super::*;

#[test]
fn what_is_in_work_is_answered_before_the_end() {
    let mut server = Server::start(|config, _| config.workers = 2);
    let (socket, mut stream) = (server.udp(), server.tcp());
    let mut idle = server.tcp();
    socket.send(&question("wait.test", 1)).unwrap();
    stream.write_all(&framed(&question("wait.test", 2))).unwrap();
    server.wait_for_in_flight(2);
    let names = Arc::clone(&server.names);
    let releasing = std::thread::spawn(move || {
        // The idle connection closes once the drain has begun.
        assert!(is_closed(&mut idle));
        names.released.add_permits(2);
    });
    assert_eq!(server.drain(PATIENCE), Drained { in_flight: 2, stuck_threads: 0 });
    releasing.join().unwrap();
    assert_eq!(rcode(&receive_udp(&socket)), Rcode::NOERROR);
    assert_eq!(rcode(&receive_tcp(&mut stream)), Rcode::NOERROR);
    assert!(is_closed(&mut stream));
}

#[test]
fn what_takes_too_long_gets_servfail() {
    let mut server = Server::start(|_, _| {});
    let (socket, mut stream) = (server.udp(), server.tcp());
    socket.send(&question("wait.test", 1)).unwrap();
    stream.write_all(&framed(&question("wait.test", 2))).unwrap();
    server.wait_for_in_flight(2);
    assert_eq!(server.drain(Duration::from_millis(50)), Drained { in_flight: 2, stuck_threads: 0 });
    for answer in [receive_udp(&socket), receive_tcp(&mut stream)] {
        assert_eq!((rcode(&answer), info_code(&answer)), (Rcode::SERVFAIL, Some(14)));
    }
    assert_eq!(answers_and_drops(&server.stats), 2);
}

#[test]
fn what_was_received_before_the_end_is_answered() {
    let mut server = Server::start(|_, _| {});
    let socket = server.udp();
    for number in 0..100 {
        socket.send(&question("work.test", number)).unwrap();
    }
    server.drain(PATIENCE);
    let mut ids: Vec<u16> = (0..100).map(|_| id(&receive_udp(&socket))).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..100));
}

#[test]
fn after_the_end_the_port_is_free() {
    let mut server = Server::start(|config, _| config.workers = 3);
    let address = server.address;
    server.drain(PATIENCE);
    UdpSocket::bind(address).unwrap();
}

#[test]
fn dropping_the_listeners_ends_their_threads() {
    let mut server = Server::start(|_, _| {});
    let socket = server.udp();
    socket.send(&question("wait.test", 1)).unwrap();
    server.wait_for_in_flight(1);
    drop(server.running.take());
    server.wait_for("the answerer is let go", |server| Arc::strong_count(&server.names) == 1);
}

#[test]
fn a_reload_adds_and_removes_addresses_and_keeps_the_others_answering() {
    let mut server = Server::start(|_, _| {});
    let socket = server.udp();
    let mut kept_stream = server.tcp();
    let first = config().listen[0];
    let mut changed = config();
    let second: SocketAddr = "127.0.0.3:0".parse().unwrap();
    changed.listen = vec![second, first];
    changed.max_in_flight = 1;
    let running = server.running.as_mut().unwrap();
    running.reconfigure(&changed, &|_, _| None).unwrap();
    let [added, kept] = *running.addresses() else { panic!("{:?}", running.addresses()) };
    assert_eq!((added.configured, kept.actual), (second, server.address));
    assert_eq!(id(&ask_udp(&socket, &question("cached.test", 1))), 1);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    other.connect(added.actual).unwrap();
    other.send(&question("wait.test", 2)).unwrap();
    server.wait_for_in_flight(1);
    assert_eq!(info_code(&ask_udp(&socket, &question("work.test", 3))), Some(14));

    // Taken away again: what is in work there is still answered, by its own socket.
    server.running.as_mut().unwrap().reconfigure(&config(), &|_, _| None).unwrap();
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_udp(&other)), 2);
    server.wait_for("the port is free", |_| UdpSocket::bind(added.actual).is_ok());
    assert_eq!(id(&ask_udp(&socket, &question("work.test", 4))), 4);
    assert_eq!(id(&ask_tcp(&mut kept_stream, &question("work.test", 5))), 5);
}

#[test]
fn a_reload_with_an_unusable_address_changes_nothing() {
    let mut server = Server::start(|_, _| {});
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut changed = config();
    changed.listen = vec!["127.0.0.3:0".parse().unwrap(), taken.local_addr().unwrap()];
    let running = server.running.as_mut().unwrap();
    let before = running.addresses().to_vec();
    let error = running.reconfigure(&changed, &|_, _| Some("a test".into())).unwrap_err();
    assert_eq!((error.address, error.holder.as_deref()), (taken.local_addr().unwrap(), Some("a test")));
    assert_eq!(running.addresses(), before);
    assert_eq!(id(&ask_udp(&server.udp(), &question("cached.test", 1))), 1);
}
