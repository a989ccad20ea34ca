//! Servers behind proxies, from given addresses, and known by name only.

use crate::support::encrypted::{
    ADDRESS, Group1, NAME, Pki, Program, Server, free_ports, installed, options, upstream,
};
use crate::support::fake::{Fake as Plain, Habit};
use crate::support::tls_fake::{Fake, answer_all};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use truename::config::UpstreamTransport::{Https, Tcp, Tls};
use truename::config::{Proxy, ProxyLogin, ProxyServer, Upstream, UpstreamHost, UpstreamOptions};
use truename::dns::Name;

fn proxy(port: u16, login: Option<(&str, &str)>) -> ProxyServer {
    let login = login.map(|(user, password)| ProxyLogin { user: user.into(), password: password.into() });
    ProxyServer { host: UpstreamHost::Address(Ipv4Addr::LOCALHOST.into(), 0), port, login }
}

/// Asks a server over DoT and DoH, and another one over plain TCP, through a proxy.
async fn answers_through(pki: &Pki, server: &Server, plain: &Plain, proxy: Proxy) {
    let group = Group1::new(vec![upstream(
        Tcp,
        plain.address,
        UpstreamOptions { proxy: proxy.clone(), ..UpstreamOptions::default() },
    )]);
    for n in 0..3 {
        assert_eq!(group.address(&format!("n{n}.test")).await, ADDRESS, "tcp by {proxy:?}");
    }
    assert!(plain.asked().iter().all(|asked| asked.tcp), "nothing goes past the proxy");
    for (transport, place) in [(Tls, server.dot), (Https, server.doh)] {
        let group =
            Group1::new(vec![upstream(transport, place, UpstreamOptions { proxy: proxy.clone(), ..options(pki) })]);
        for n in 0..3 {
            assert_eq!(group.address(&format!("n{n}.test")).await, ADDRESS, "{transport} by {proxy:?}");
        }
        assert_eq!(group.connections(), 1);
    }
}

/// Asks through a proxy that refuses; returns what is said.
async fn refusal(pki: &Pki, server: &Server, proxy: Proxy) -> String {
    let group = Group1::new(vec![upstream(Tls, server.dot, UpstreamOptions { proxy, ..options(pki) })]);
    group.ask("www.test").await.unwrap_err().summary
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socks5_carries_dot_doh_and_tcp_with_and_without_a_user() {
    let pki = Pki::new();
    let (Some(server), Some(path)) =
        (Server::unbound(&pki.server()), installed("microsocks", &["/usr/bin/microsocks"]))
    else {
        return;
    };
    let [open, closed] = free_ports();
    let _open = Program::start(Command::new(path).args(["-i", "127.0.0.1", "-p", &open.to_string()]), open);
    let arguments = ["-i", "127.0.0.1", "-p", &closed.to_string(), "-u", "anna", "-P", "s3cret"].map(str::to_owned);
    let _closed = Program::start(Command::new(path).args(arguments), closed);
    let plain = Plain::start(Habit::Address(ADDRESS, 300));
    answers_through(&pki, &server, &plain, Proxy::Socks5(proxy(open, None))).await;
    answers_through(&pki, &server, &plain, Proxy::Socks5(proxy(closed, Some(("anna", "s3cret"))))).await;
    for login in [None, Some(("anna", "wrong"))] {
        let said = refusal(&pki, &server, Proxy::Socks5(proxy(closed, login))).await;
        assert!(said.contains("proxy 127.0.0.1"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_carries_dot_doh_and_tcp_with_and_without_a_user() {
    let pki = Pki::new();
    let (Some(server), Some(path)) = (Server::unbound(&pki.server()), installed("tinyproxy", &["/usr/bin/tinyproxy"]))
    else {
        return;
    };
    let plain = Plain::start(Habit::Address(ADDRESS, 300));
    let ports: [u16; 2] = free_ports();
    let start = |port: u16, more: &str| {
        let file = pki.folder.path().join(format!("tinyproxy-{port}.conf"));
        let ends = [server.dot, server.doh, plain.address].map(|end| format!("ConnectPort {}\n", end.port())).concat();
        let config = format!("Port {port}\nListen 127.0.0.1\nMaxClients 20\nTimeout 60\n{ends}{more}");
        std::fs::write(&file, config).unwrap();
        Program::start(Command::new(path).arg("-d").arg("-c").arg(file), port)
    };
    let _open = start(ports[0], "");
    let _closed = start(ports[1], "BasicAuth anna s3cret\n");
    answers_through(&pki, &server, &plain, Proxy::Http(proxy(ports[0], None))).await;
    answers_through(&pki, &server, &plain, Proxy::Http(proxy(ports[1], Some(("anna", "s3cret"))))).await;
    for login in [None, Some(("anna", "wrong"))] {
        let said = refusal(&pki, &server, Proxy::Http(proxy(ports[1], login))).await;
        assert!(said.contains("proxy 127.0.0.1") && said.contains("HTTP status 40"), "{said}");
    }
}

#[tokio::test]
async fn proxies_that_do_not_know_what_they_say_are_told() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(9000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(100));
    for (says, expected) in [
        ("no HTTP at all\r\n\r\n", "not HTTP"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "HTTP status 502"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", "before it is spoken to"),
        ("", "closed the connection"),
        (long.as_str(), "too long"),
        (many.as_str(), "not HTTP"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let says = says.to_owned();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream.write_all(says.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let options = UpstreamOptions { proxy: Proxy::Http(proxy(port, None)), ..UpstreamOptions::default() };
        let group = Group1::new(vec![upstream(Tcp, "192.0.2.1:53".parse().unwrap(), options)]);
        let said = group.ask("www.test").await.unwrap_err().summary;
        assert!(said.contains(expected) && said.contains("proxy 127.0.0.1"), "{expected}: {said}");
    }
}

#[tokio::test]
async fn connections_come_from_the_address_and_interface_that_are_written() {
    let pki = Pki::new();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::tls(pki.server().server_config(&[b"dot"]), move |stream, _| {
        let _ = sender.send(stream.get_ref().0.peer_addr().unwrap().ip());
        answer_all(stream, 7)
    })
    .await;
    let source = Ipv4Addr::new(127, 0, 0, 53);
    let options = |change: fn(&mut UpstreamOptions)| {
        let mut options = options(&pki);
        change(&mut options);
        options
    };
    let from = options(|options| {
        options.source = Some(Ipv4Addr::new(127, 0, 0, 53).into());
        options.interface = Some("lo".into());
    });
    let group = Group1::new(vec![upstream(Tls, fake.address, from)]);
    assert_eq!(group.address("www.test").await.octets()[3], 7);
    assert_eq!(seen.recv().await.unwrap(), source);
    for (wrong, expected) in [
        (options(|options| options.interface = Some("nosuch0".into())), "`interface` nosuch0"),
        (options(|options| options.source = Some(Ipv4Addr::new(192, 0, 2, 1).into())), "`source` 192.0.2.1"),
    ] {
        let group = Group1::new(vec![upstream(Tls, fake.address, wrong)]);
        let said = group.ask("www.test").await.unwrap_err().summary;
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn a_server_known_by_name_is_found_over_its_bootstrap_resolvers() {
    let pki = Pki::new();
    let fake = Fake::tls(pki.server().server_config(&[b"dot"]), |stream, _| answer_all(stream, 7)).await;
    let resolver = Plain::start(Habit::Address(Ipv4Addr::LOCALHOST, 300));
    let [nobody] = free_ports();
    let nobody = SocketAddr::from(([127, 0, 0, 1], nobody));
    let named = |bootstrap: Vec<SocketAddr>| {
        let options = UpstreamOptions { bootstrap, server_name: None, ..options(&pki) };
        Upstream { host: UpstreamHost::Name(Name::parse(NAME).unwrap()), ..upstream(Tls, fake.address, options) }
    };
    let group = Group1::new(vec![named(vec![nobody, resolver.address])]);
    assert_eq!(group.address("www.test").await.octets()[3], 7);
    let group = Group1::new(vec![named(vec![nobody])]);
    let said = group.ask("www.test").await.unwrap_err().summary;
    assert!(said.contains("bootstrap") && said.contains(NAME), "{said}");
}
