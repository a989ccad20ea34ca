use super::*;
use proptest::prelude::*;

fn server(text: &str) -> String {
    match parse_server(text) {
        Ok(ServerText::Auto) => "auto".to_owned(),
        Ok(ServerText::At(server)) => {
            let rung = server.rung();
            let (port, path) = (rung.port, rung.path.as_deref().unwrap_or("-"));
            let host = match &server.host {
                UpstreamHost::Address(ip, scope) => format!("{ip} {scope}"),
                UpstreamHost::Name(name) => name.to_string(),
            };
            format!("{host} {} {port} {path} {server}", rung.transport)
        }
        Err(hint) => format!("! {hint}"),
    }
}

#[test]
fn servers_are_read_in_every_documented_form() {
    for (text, expected) in [
        ("auto", "auto"),
        ("10.0.0.10", "10.0.0.10 0 udp 53 - 10.0.0.10"),
        ("10.0.0.10:5353", "10.0.0.10 0 udp 5353 - 10.0.0.10:5353"),
        ("fd00::53", "fd00::53 0 udp 53 - fd00::53"),
        ("[fd00::53]", "fd00::53 0 udp 53 - fd00::53"),
        ("[fd00::53]:5353", "fd00::53 0 udp 5353 - [fd00::53]:5353"),
        ("[fe80::1%2]", "fe80::1 2 udp 53 - [fe80::1%2]"),
        ("[fe80::1%2]:5353", "fe80::1 2 udp 5353 - [fe80::1%2]:5353"),
        ("udp://10.0.0.10", "10.0.0.10 0 udp 53 - 10.0.0.10"),
        ("udp://dns.example", "dns.example. udp 53 - udp://dns.example"),
        ("tcp://[fd00::53]:53", "fd00::53 0 tcp 53 - tcp://[fd00::53]"),
        ("tls://8.8.8.8", "8.8.8.8 0 tls 853 - tls://8.8.8.8"),
        ("tls://8.8.8.8#dns.google", "8.8.8.8 0 tls 853 - tls://8.8.8.8#dns.google"),
        ("tls://8.8.8.8:8853#DNS.Google.", "8.8.8.8 0 tls 8853 - tls://8.8.8.8:8853#dns.google"),
        ("tls://[2001:db8::53]#192.0.2.1", "2001:db8::53 0 tls 853 - tls://[2001:db8::53]#192.0.2.1"),
        ("tls://dns.example:8853", "dns.example. tls 8853 - tls://dns.example:8853"),
        ("https://1.1.1.1/dns-query", "1.1.1.1 0 https 443 /dns-query https://1.1.1.1/dns-query"),
        ("https://1.1.1.1", "1.1.1.1 0 https 443 /dns-query https://1.1.1.1/dns-query"),
        ("https://1.1.1.1/", "1.1.1.1 0 https 443 / https://1.1.1.1/"),
        (
            "https://[2001:db8::1]:8443/a?k=1#dns.example",
            "2001:db8::1 0 https 8443 /a?k=1 https://[2001:db8::1]:8443/a?k=1#dns.example",
        ),
        ("https://dns.example/dns-query", "dns.example. https 443 /dns-query https://dns.example/dns-query"),
        (
            "quic://94.140.14.140#unfiltered.adguard-dns.com",
            "94.140.14.140 0 quic 853 - quic://94.140.14.140#unfiltered.adguard-dns.com",
        ),
        ("h3://1.1.1.1/dns-query", "1.1.1.1 0 h3 443 /dns-query h3://1.1.1.1/dns-query"),
    ] {
        assert_eq!(server(text), expected, "{text}");
    }
}

#[test]
fn bad_servers_are_told_why() {
    for (text, part) in [
        ("10.0.0.53:5e", "1 to 65535"),
        ("10.0.0.53:0", "1 to 65535"),
        ("10.0.0.53:65536", "1 to 65535"),
        ("10.0.0.256", "0 to 255"),
        ("", "nothing there"),
        ("tls://", "nothing there"),
        ("fd00::53:99999", "brackets"),
        ("[fd00::53]:99999", "1 to 65535"),
        ("dns.example", "a transport before the name, such as tls://dns.example"),
        ("ftp://9.9.9.9", "there are udp, tcp, tls, https, quic and h3"),
        ("tsl://9.9.9.9", "did you mean `tls`?"),
        ("dot://9.9.9.9", "did you mean `tls`?"),
        ("doq://9.9.9.9", "did you mean `quic`?"),
        ("http://9.9.9.9/dns-query", "plain HTTP"),
        ("tls://9.9.9.9/dns-query", "only https:// and h3:// have a path"),
        ("9.9.9.9/24", "without a prefix length"),
        ("https://9.9.9.9/dns-query{?dns}", "without {?dns}"),
        ("https://9.9.9.9/dns query", "percent-encoded"),
        ("https://me:secret@dns.example/", "no user and password"),
        ("tls://9.9.9.9#", "name in the server's certificate"),
        ("tls://9.9.9.9#dns_", ""),
        ("tls://9.9.9.9#-dns.example", "no name of a machine"),
        ("tls://9.9.9.9#dns quad9", "no place in a domain name"),
        ("tls://9.9.9.9#1.2.3", "no name of a machine"),
        ("tls://dns..example", "label"),
        ("tls://dns.example:99999", "1 to 65535"),
        ("tls://dns.example:+53", "1 to 65535"),
        ("0.0.0.0", "one machine"),
        ("ff02::fb", "one machine"),
        ("tls://255.255.255.255", "one machine"),
        ("fe80::1", "interface number"),
        ("tls://[fe80::1]", "interface number"),
    ] {
        if part.is_empty() {
            assert!(!server(text).starts_with('!'), "{text}: {}", server(text));
            continue;
        }
        assert!(server(text).starts_with('!') && server(text).contains(part), "{text}: {}", server(text));
    }
    let long = |len: usize| server(&format!("https://192.0.2.1/{}", "a".repeat(len - 1)));
    assert!(long(MAX_PATH_BYTES + 1).contains("at most 1024") && !long(MAX_PATH_BYTES).starts_with('!'));
}

#[test]
fn rungs_have_ports_and_paths_of_their_own() {
    let read = |text: &str| parse_rung(text).map(|read| rung(read.transport, read.port, read.path.as_deref()));
    let made = |transport, port, path: Option<&str>| Ok(Rung { transport, port, path: path.map(Into::into) });
    assert_eq!(read("tls"), made(UpstreamTransport::Tls, 853, None));
    assert_eq!(read("quic:8853"), made(UpstreamTransport::Quic, 8853, None));
    assert_eq!(read("https"), made(UpstreamTransport::Https, 443, Some("/dns-query")));
    assert_eq!(read("https:8443/dns"), made(UpstreamTransport::Https, 8443, Some("/dns")));
    assert_eq!(read("h3/q"), made(UpstreamTransport::H3, 443, Some("/q")));
    for (text, part) in [
        ("tcps", "did you mean `tcp`?"),
        ("tls:0", "1 to 65535"),
        ("tls/x", "only https and h3"),
        ("", "is no transport"),
        ("tls://9.9.9.9", "1 to 65535"),
    ] {
        let hint = parse_rung(text).unwrap_err();
        assert!(hint.contains(part), "{text}: {hint}");
    }
}

#[test]
fn proxies_are_read_with_their_users() {
    let proxy = |text: &str| parse_proxy(text).unwrap();
    assert_eq!((proxy("none"), proxy("env")), (Proxy::None, Proxy::Env));
    let Proxy::Socks5(server) = proxy("socks5://anna:s%40f%3Ae@proxy.example") else { panic!() };
    let login = server.login.unwrap();
    assert_eq!((login.user.as_str(), login.password.as_str(), server.port), ("anna", "s@f:e", 1080));
    assert_eq!(server.host, UpstreamHost::Name(Name::parse("proxy.example").unwrap()));
    let Proxy::Http(server) = proxy("http://[::1]:3128/") else { panic!() };
    assert_eq!((server.host.socket_address(server.port), server.login), ("[::1]:3128".parse().ok(), None));
    let login = |len: usize| format!("socks5://u:{}@127.0.0.1", "p".repeat(len));
    assert!(parse_proxy(&login(MAX_LOGIN_BYTES)).is_ok());
    assert!(parse_proxy(&login(MAX_LOGIN_BYTES + 1)).unwrap_err().contains("255"));
    for (text, part) in [
        ("127.0.0.1:1080", "socks5://HOST:PORT"),
        ("socks4://127.0.0.1", "version 5"),
        ("https://127.0.0.1", "http://"),
        ("socks6://127.0.0.1", "no kind of proxy"),
        ("socks5://", "nothing there"),
        ("socks5://:x@127.0.0.1", "user before @"),
        ("socks5://a%zz@127.0.0.1", "%25"),
        ("socks5://a%0d@127.0.0.1", "control"),
        ("http://127.0.0.1:0", "1 to 65535"),
        ("http://127.0.0.1:80/path", "prefix length or a path"),
    ] {
        let hint = parse_proxy(text).unwrap_err();
        assert!(hint.contains(part), "{text}: {hint}");
    }
}

#[test]
fn pins_sources_interfaces_and_bootstrap_servers_are_checked() {
    assert_eq!(parse_pin("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()[31], 31);
    assert!(parse_pin("AAEC").unwrap_err().contains("3 octets"));
    assert!(parse_pin("sha256/AAEC").unwrap_err().contains("base64"));
    assert!(parse_source("192.0.2.1").is_ok() && parse_source("192.0.2.1:53").is_err() && parse_source("::").is_err());
    for (name, good) in [("wg0", true), ("a/b", false), ("", false), ("..", false), ("a23456789012345", true)] {
        assert_eq!(parse_interface(name).is_ok(), good, "{name}");
    }
    assert!(parse_interface("a234567890123456").unwrap_err().contains("15"));
    assert_eq!(parse_bootstrap("9.9.9.10").unwrap(), "9.9.9.10:53".parse().unwrap());
    assert_eq!(parse_bootstrap("[2620:fe::10]:5353").unwrap(), "[2620:fe::10]:5353".parse().unwrap());
    assert!(parse_bootstrap("tls://9.9.9.10").unwrap_err().contains("in plain"));
    assert!(parse_bootstrap("9.9.9.10:0").is_err() && parse_bootstrap("fe80::1").is_err());
    assert!(parse_bootstrap("dns.example").is_err());
}

fn host() -> impl Strategy<Value = UpstreamHost> {
    let names = "[a-z][a-z0-9]{0,9}(\\.[a-z0-9]{1,9}-[a-z]{1,3}){0,3}";
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| UpstreamHost::Address(octets.into(), 0)),
        any::<[u8; 16]>().prop_map(|octets| UpstreamHost::Address(octets.into(), 0)),
        (any::<[u8; 8]>(), 1_u32..).prop_map(|(octets, scope)| {
            let mut all = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            all[8..].copy_from_slice(&octets);
            UpstreamHost::Address(all.into(), scope)
        }),
        names.prop_map(|name| UpstreamHost::Name(Name::parse(&name).unwrap())),
    ]
}

fn transport() -> impl Strategy<Value = UpstreamTransport> {
    use UpstreamTransport::{H3, Https, Quic, Tcp, Tls, Udp};
    prop::sample::select(vec![Udp, Tcp, Tls, Https, Quic, H3])
}

proptest! {
    #[test]
    fn what_is_printed_reads_back_as_the_same(
        host in host(),
        transport in transport(),
        port in prop::option::of(1_u16..),
        path in prop::option::of("/[a-z?=/%._~-]{0,20}"),
        certificate_name in prop::option::of(prop_oneof!["[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_string())]),
    ) {
        prop_assume!(host.ip().is_none_or(|ip| is_one_machine(ip).is_ok()));
        prop_assume!(host.socket_address(53).is_none_or(|address| can_be_reached(address).is_ok()));
        let path = path.filter(|_| has_path(transport));
        let written = ServerAddress { host, transport: Some(transport), port, path, certificate_name };
        let text = written.to_string();
        let Ok(ServerText::At(read)) = parse_server(&text) else { panic!("{text}: {:?}", parse_server(&text)) };
        prop_assert_eq!((&read.host, read.rung(), &read.certificate_name), (&written.host, written.rung(), &written.certificate_name));
        prop_assert_eq!(read.to_string(), text);
    }

    #[test]
    fn no_text_is_too_strange(text in "[ -~]{0,40}|[a-z0-9.:/#@%\\[\\]]{0,30}|(tls|https|quic)://[a-z0-9.:/#@%\\[\\]]{0,30}") {
        if let Ok(ServerText::At(server)) = parse_server(&text) {
            let again = parse_server(&server.to_string());
            prop_assert!(matches!(again, Ok(ServerText::At(again)) if again.to_string() == server.to_string()), "{}", text);
        }
        let _ = (parse_proxy(&text), parse_rung(&text), parse_bootstrap(&text), parse_pin(&text));
    }
}
