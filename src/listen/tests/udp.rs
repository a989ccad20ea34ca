use super::*;

#[test]
fn cached_and_worked_out_answers_come_back_with_their_ids() {
    let server = Server::start(|_, _| {});
    let socket = server.udp();
    for (name, number) in [("cached.test", 1), ("work.test", 2)] {
        let answer = ask_udp(&socket, &question(name, number));
        assert_eq!((id(&answer), rcode(&answer)), (number, Rcode::NOERROR));
        assert_eq!(Message::parse(&answer).unwrap().count(Section::Answer), 1);
    }
    let [cache, upstream] = [Origin::Cache, Origin::Upstream].map(|origin| server.answers(origin));
    assert_eq!([server.count(Counter::QueriesUdp), cache, upstream], [2, 1, 1]);
}

#[test]
fn a_slow_question_holds_up_no_other() {
    let server = Server::start(|_, _| {});
    let socket = server.udp();
    socket.send(&question("wait.test", 1)).unwrap();
    server.wait_for_in_flight(1);
    assert_eq!(id(&ask_udp(&socket, &question("work.test", 2))), 2);
    assert_eq!(id(&ask_udp(&socket, &question("cached.test", 3))), 3);
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_udp(&socket)), 1);
    server.wait_for_in_flight(0);
}

#[test]
fn every_question_of_a_burst_is_answered_once() {
    const BURST: u16 = 200;
    let server = Server::start(|config, _| config.workers = 2);
    let sockets: Vec<_> = (0..4).map(|_| server.udp()).collect();
    for number in 0..BURST {
        for (at, socket) in sockets.iter().enumerate() {
            let name = if (usize::from(number) + at).is_multiple_of(3) { "work.test" } else { "cached.test" };
            socket.send(&question(name, number)).unwrap();
        }
    }
    for socket in &sockets {
        let mut ids: Vec<u16> = (0..BURST).map(|_| id(&receive_udp(socket))).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..BURST));
    }
    assert_eq!(server.count(Counter::QueriesUdp), 800);
    server.wait_for("all counted", |server| answers_and_drops(&server.stats) == 800);
}

#[test]
fn tasks_that_end_together_are_answered_together() {
    let server = Server::start(|_, _| {});
    let socket = server.udp();
    for number in 0..150 {
        socket.send(&question("wait.test", number)).unwrap();
    }
    server.wait_for_in_flight(150);
    server.names.released.add_permits(150);
    let mut ids: Vec<u16> = (0..150).map(|_| id(&receive_udp(&socket))).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..150));
    server.wait_for_in_flight(0);
}

#[test]
fn bad_input_gets_its_code_or_silence() {
    let server = Server::start(|_, _| {});
    let socket = server.udp();
    let good = question("cached.test", 7);
    // Silence: empty, cut header, a response.
    let mut response = good.clone();
    response[2] |= 0x80;
    for silent in [&b""[..], &good[..11], &response] {
        socket.send(silent).unwrap();
    }
    let mut notify = good.clone();
    notify[2] = 4 << 3;
    assert_eq!(rcode(&ask_udp(&socket, &notify)), Rcode::NOTIMP);
    assert_eq!(rcode(&ask_udp(&socket, &good[..20])), Rcode::FORMERR);
    // Longer than any question: its tail is never seen, so that it cannot be believed.
    let mut long = good.clone();
    long.resize(3000, 0);
    assert_eq!(rcode(&ask_udp(&socket, &long)), Rcode::FORMERR);
    let mut version = good.clone();
    let at = version.len() - 5;
    version[at] = 1;
    let answer = ask_udp(&socket, &version);
    assert_eq!(Message::parse(&answer).unwrap().extended_rcode(), Rcode::BADVERS);
    assert_eq!(id(&ask_udp(&socket, &good)), 7);
    assert_eq!((server.count(Counter::DroppedSilent), server.count(Counter::Malformed)), (3, 4));
    assert_eq!(answers_and_drops(&server.stats), server.count(Counter::QueriesUdp));
}

#[test]
fn strangers_are_refused_with_the_reason() {
    let server = Server::start(|_, _| {});
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let answer = ask_udp(&socket, &question("cached.test", 9));
    assert_eq!((id(&answer), rcode(&answer), info_code(&answer)), (9, Rcode::REFUSED, Some(18)));
    assert_eq!(server.count(Counter::Refused), 1);
}

#[test]
fn beyond_the_bound_the_answer_is_servfail_and_the_rest_goes_on() {
    let server = Server::start(|config, limits| {
        config.max_in_flight = 2;
        limits.give_way_after = Duration::from_secs(3600);
    });
    let socket = server.udp();
    for number in [1, 2] {
        socket.send(&question("wait.test", number)).unwrap();
    }
    server.wait_for_in_flight(2);
    let answer = ask_udp(&socket, &question("work.test", 3));
    assert_eq!((id(&answer), rcode(&answer), info_code(&answer)), (3, Rcode::SERVFAIL, Some(14)));
    assert_eq!(rcode(&ask_udp(&socket, &question("cached.test", 4))), Rcode::NOERROR);
    assert_eq!(server.count(Counter::InFlightFull), 1);
    server.names.released.add_permits(2);
    let mut late = [id(&receive_udp(&socket)), id(&receive_udp(&socket))];
    late.sort_unstable();
    assert_eq!(late, [1, 2]);
    server.wait_for_in_flight(0);
    assert_eq!(rcode(&ask_udp(&socket, &question("work.test", 5))), Rcode::NOERROR);
}

#[test]
fn at_the_bound_a_slow_question_gives_way_to_a_quick_one() {
    let server = Server::start(|config, limits| {
        config.max_in_flight = 2;
        limits.give_way_after = Duration::ZERO;
    });
    let socket = server.udp();
    for number in [1, 2] {
        socket.send(&question("wait.test", number)).unwrap();
        server.wait_for_in_flight(usize::from(number));
    }
    socket.send(&question("work.test", 3)).unwrap();
    let mut answers = [receive_udp(&socket), receive_udp(&socket)];
    answers.sort_by_key(|answer| id(answer));
    let [slow, quick] = &answers;
    assert_eq!((id(slow), rcode(slow), info_code(slow)), (2, Rcode::SERVFAIL, Some(14)));
    assert_eq!((id(quick), rcode(quick)), (3, Rcode::NOERROR));
    assert_eq!((server.count(Counter::GaveWay), server.count(Counter::InFlightFull)), (1, 0));
    // The first is firm: however many come, it is worked on to its end.
    server.names.released.add_permits(1);
    let firm = receive_udp(&socket);
    assert_eq!((id(&firm), rcode(&firm)), (1, Rcode::NOERROR));
    server.wait_for_in_flight(0);
}

#[test]
fn one_client_cannot_take_every_place() {
    let server = Server::start(|config, limits| {
        config.max_in_flight = 64;
        limits.give_way_after = Duration::from_secs(3600);
    });
    let socket = server.udp();
    for number in 0..64 {
        socket.send(&question("wait.test", number)).unwrap();
    }
    server.wait_for_in_flight(56);
    for _ in 56..64 {
        let answer = receive_udp(&socket);
        assert_eq!((rcode(&answer), info_code(&answer)), (Rcode::SERVFAIL, Some(14)));
    }
    assert_eq!((server.count(Counter::ClientShareFull), server.count(Counter::InFlightFull)), (8, 0));
    server.names.released.add_permits(56);
    server.wait_for_in_flight(0);
}

#[test]
fn a_panic_ends_one_question_only() {
    let server = Server::start(|_, _| {});
    let socket = server.udp();
    socket.send(&question("wait.test", 1)).unwrap();
    server.wait_for_in_flight(1);
    for (name, number) in [("panic.test", 2), ("panicnow.test", 3)] {
        let answer = ask_udp(&socket, &question(name, number));
        assert_eq!((id(&answer), rcode(&answer), info_code(&answer)), (number, Rcode::SERVFAIL, Some(0)));
    }
    assert_eq!(server.count(Counter::PanicsCaught), 2);
    server.names.released.add_permits(1);
    assert_eq!(id(&receive_udp(&socket)), 1);
    server.wait_for_in_flight(0);
}

#[test]
fn extended_errors_can_be_switched_off() {
    let server = Server::start(|config, _| {
        config.edns_errors = false;
        config.max_in_flight = 0;
    });
    let answer = ask_udp(&server.udp(), &question("work.test", 1));
    assert_eq!((rcode(&answer), info_code(&answer)), (Rcode::SERVFAIL, None));
}

#[test]
fn too_long_an_answer_is_cut() {
    let server = Server::start(|_, _| {});
    let answer = ask_udp(&server.udp(), &question("big.test", 1));
    assert!(Message::parse(&answer).unwrap().has(crate::dns::wire::flag::TC));
    assert!(answer.len() <= 1232);
}

#[test]
fn ipv4_and_ipv6_are_listened_on_apart() {
    let server = Server::start(|config, _| config.listen.push("[::1]:0".parse().unwrap()));
    let addresses = server.running.as_ref().unwrap().addresses().to_vec();
    if addresses.len() == 1 {
        return; // A machine without IPv6: the address is left out.
    }
    let v6 = addresses[1].actual;
    assert!(v6.is_ipv6() && v6.port() != 0);
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    socket.connect(v6).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // In turn, so that the headers of one family are not mistaken for the other's.
    for number in 1..4 {
        assert_eq!(id(&ask_udp(&socket, &question("cached.test", number))), number);
        assert_eq!(id(&ask_udp(&server.udp(), &question("work.test", number))), number);
    }
    let mut stream = TcpStream::connect(v6).unwrap();
    assert_eq!(id(&ask_tcp(&mut stream, &question("work.test", 8))), 8);
}
