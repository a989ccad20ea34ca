use crate::config::diagnostic::human;
use crate::config::*;
use std::path::Path;

fn problems(text: &str) -> String {
    let line = |p: &Diagnostic| format!("{}:{} {} {}", p.at.line, p.at.column, p.code, p.key);
    load_text("x.toml", text).diagnostics.iter().map(line).collect::<Vec<_>>().join("|")
}

fn group(keys: &str) -> Group {
    let loaded = load_text("/etc/truename/x.toml", &format!("[upstream.a]\n{keys}"));
    assert_eq!(loaded.diagnostics, [], "{keys}");
    loaded.config.unwrap().groups.into_iter().find(|group| group.name == "a").unwrap()
}

fn rungs(server: &Upstream) -> String {
    let text = |rung: &Rung| format!("{}:{}{}", rung.transport, rung.port, rung.path.as_deref().unwrap_or_default());
    server.rungs.iter().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_kind_of_mistake_has_its_message() {
    let pin = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let mut wrong = Vec::new();
    for (keys, expected) in [
        (r#"servers = ["tsl://9.9.9.9"]"#, "2:12 bad-address upstream.a.servers[0]"),
        (r#"servers = ["tls://9.9.9.9#a b"]"#, "2:12 bad-address upstream.a.servers[0]"),
        (r#"servers = ["9.9.9.10#dns10.quad9.net"]"#, "2:12 unused-certificate-name upstream.a.servers[0]"),
        (
            r#"servers = [{ address = "9.9.9.10", rungs = ["tsl"] }]"#,
            "2:45 bad-transport upstream.a.servers[0].rungs[0]",
        ),
        (r#"servers = [{ address = "9.9.9.10", rungs = [] }]"#, "2:44 no-rungs upstream.a.servers[0].rungs"),
        ("servers = [\"9.9.9.10\"]\nrungs = []", "3:9 no-rungs upstream.a.rungs"),
        (
            r#"servers = [{ address = "9.9.9.10", rungs = ["tls", "tls:8853"] }]"#,
            "2:52 duplicate-rung upstream.a.servers[0].rungs[1]",
        ),
        (
            r#"servers = [{ address = "tcp://9.9.9.10", rungs = ["tls", "udp"] }]"#,
            "2:24 transport-not-in-rungs upstream.a.servers[0]",
        ),
        (
            r#"servers = [{ address = "9.9.9.10:8853", rungs = ["tls", "udp"] }]"#,
            "2:24 ambiguous-port upstream.a.servers[0]",
        ),
        ("servers = [\"10.0.0.1\"]\nproxy = \"env\"", "2:12 datagrams-through-proxy upstream.a.servers[0]"),
        ("servers = [\"auto\"]\nproxy = \"socks5://127.0.0.1\"", "2:12 datagrams-through-proxy upstream.a.servers[0]"),
        (
            "servers = [\"quic://9.9.9.10\", \"tls://9.9.9.10\"]\nproxy = \"http://127.0.0.1:3128\"",
            "2:12 datagrams-through-proxy upstream.a.servers[0]",
        ),
        ("servers = [\"tls://9.9.9.10\"]\nproxy = \"socks4://127.0.0.1\"", "3:9 bad-proxy upstream.a.proxy"),
        ("servers = [\"tls://9.9.9.10\"]\nproxy = 3", "3:9 wrong-type upstream.a.proxy"),
        ("servers = [\"10.0.0.1\"]\nfloor = \"encrypted\"", "2:12 nothing-above-floor upstream.a.servers[0]"),
        ("servers = [\"auto\"]\nfloor = \"encrypted\"", "2:12 nothing-above-floor upstream.a.servers[0]"),
        ("servers = [\"tls://10.0.0.1\"]\nfloor = \"crypt\"", "3:9 bad-value upstream.a.floor"),
        ("servers = [\"tls://dns.example\"]\nbootstrap = [\"127.0.0.1\"]", "3:13 bootstrap-loop upstream.a.bootstrap"),
        (
            "servers = [\"tls://dns.example\"]\nbootstrap = [\"dns.example\"]",
            "3:14 bad-address upstream.a.bootstrap[0]",
        ),
        ("servers = [\"tls://9.9.9.10\"]\npins = [\"AAEC\"]", "3:9 bad-pin upstream.a.pins[0]"),
        ("servers = [\"tls://9.9.9.10\"]\nsource = \"eth0\"", "3:10 bad-address upstream.a.source"),
        ("servers = [\"tls://9.9.9.10\"]\nsource = \"::1\"", "2:12 source-family upstream.a.servers[0]"),
        ("servers = [\"tls://9.9.9.10\"]\ninterface = \"a b\"", "3:13 bad-interface upstream.a.interface"),
        ("servers = [\"tls://9.9.9.10\"]\nmark = 0", "3:8 out-of-range upstream.a.mark"),
        (
            "servers = [\"tls://9.9.9.10\"]\nclient_key = \"k.pem\"",
            "3:14 half-a-client-certificate upstream.a.client_key",
        ),
        (
            "servers = [\"tls://9.9.9.10\", \"tls://9.9.9.11\"]\nclient_certificate = \"c.pem\"",
            "3:22 half-a-client-certificate upstream.a.client_certificate",
        ),
        ("servers = [\"10.0.0.1\"]\nca_file = \"a.pem\"", "3:11 no-effect upstream.a.ca_file"),
        ("servers = [\"auto\"]\nca_file = \"a.pem\"", "3:11 no-effect upstream.a.ca_file"),
        ("servers = [\"auto\"]\nrungs = [\"tls\", \"udp\"]", "3:9 no-effect upstream.a.rungs"),
        (
            &format!("servers = [{{ address = \"10.0.0.1\", pins = [\"{pin}\"] }}]"),
            "2:43 no-effect upstream.a.servers[0].pins",
        ),
        ("servers = [\"10.0.0.1\"]\nbootstrap = [\"9.9.9.10\"]", "3:13 no-effect upstream.a.bootstrap"),
        ("servers = [\"10.0.0.1\"]\nserver_name = \"x\"", "3:1 unknown-key upstream.a.server_name"),
        ("servers = [\"10.0.0.1\"]\nboostrap = [\"9.9.9.10\"]", "3:1 unknown-key upstream.a.boostrap"),
        (
            "servers = [\"tls://a.example\"]\nbootstrap = [\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"192.0.2.4\", \"192.0.2.5\", \"192.0.2.6\", \"192.0.2.7\", \"192.0.2.8\", \"192.0.2.9\"]",
            "3:118 too-many-items upstream.a.bootstrap",
        ),
    ] {
        let got = problems(&format!("[upstream.a]\n{keys}"));
        if got != expected {
            wrong.push(format!("{keys}\n  got       {got}\n  expected  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_name_that_nobody_can_find_is_an_error() {
    let mut wrong = Vec::new();
    for (keys, expected) in [
        ("servers = [\"https://dns.example/dns-query\"]", "2:12 no-bootstrap upstream.system.servers[0]"),
        (
            "servers = [\"https://dns.example/dns-query\"]\nproxy = \"env\"",
            "2:12 no-bootstrap upstream.system.servers[0]",
        ),
        ("servers = [\"tls://9.9.9.10\"]\nproxy = \"http://proxy.example\"", "3:9 no-bootstrap upstream.system.proxy"),
        ("servers = [\"tls://dns.example\", \"10.0.0.1\"]", ""),
        ("servers = [\"tls://dns.example\"]\n[upstream.b]\nservers = [\"tls://10.0.0.1\"]", ""),
        ("servers = [\"tls://dns.example\"]\n[upstream.b]\nservers = [\"auto\"]", ""),
        (
            "servers = [\"tls://dns.example\"]\n[upstream.b]\nservers = [\"quic://dns.example\"]",
            "2:12 no-bootstrap upstream.system.servers[0]|4:12 no-bootstrap upstream.b.servers[0]",
        ),
    ] {
        let got = problems(&format!("[upstream.system]\n{keys}"));
        if got != expected {
            wrong.push(format!("{keys}\n  got       {got}\n  expected  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(problems("[upstream.a]\nservers = [\"tls://dns.example\"]"), "", "the machine's resolvers find it");
}

#[test]
fn http_3_is_an_error_that_names_the_build_unless_it_is_in() {
    let got = problems("[upstream.a]\nservers = [\"h3://1.1.1.1/dns-query\"]");
    let expected = if cfg!(feature = "h3") { "" } else { "2:12 no-h3 upstream.a.servers[0]" };
    assert_eq!(got, expected);
}

#[test]
fn messages_say_what_to_do_and_hide_passwords() {
    let text = r#"[upstream.abroad]
servers = ["quic://94.140.14.140#unfiltered.adguard-dns.com", "https://dns.example/dns-query"]
proxy = "socks5://127.0.0.1:1080"

[upstream.strict]
servers = [{ name = "dc1", address = "10.0.0.53" }, "tls://dns.corp.example"]
floor = "encrypted"

[upstream.wrong]
servers = ["tls://192.0.2.1"]
proxy = "socks9://anna:geheim@127.0.0.1:1080"
pins = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="]
"#;
    insta::assert_snapshot!(human(&load_text("truename.toml", text).diagnostics), @r#"
    error: truename.toml:2:12: upstream.abroad.servers[0]
      found     "quic://94.140.14.140#unfiltered.adguard-dns.com" with a proxy and quic
      expected  tcp, tls or https behind a proxy
      hint      proxies carry TCP only, and udp, quic and h3 are datagrams: write tcp://, tls:// or https://, or proxy = "none"
    error: truename.toml:6:38: upstream.strict.servers[0]
      found     "10.0.0.53", which is plain
      expected  at least one encrypted rung
      hint      floor = "encrypted" leaves no way to ask it: write tls://, https:// or quic://, or floor = "any"
    error: truename.toml:11:9: upstream.wrong.proxy
      found     "socks9://…@127.0.0.1:1080"
      expected  "none", "env", or a proxy such as "socks5://127.0.0.1:1080" or "http://user:password@proxy.example:3128"
      hint      "socks9" is no kind of proxy; write socks5:// or http://
    error: truename.toml:12:9: upstream.wrong.pins[0]
      found     "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="
      expected  the SHA-256 of a public key, 32 octets in base64
      hint      this has 31 octets and not the 32 of a SHA-256
    4 errors, 0 warnings
    "#);
}

#[test]
fn a_key_of_the_group_is_the_default_for_its_servers() {
    let keys = r#"servers = [
  "9.9.9.10#dns10.quad9.net",
  "tcp://10.0.0.1",
  { name = "own", address = "10.0.0.2#a.example", rungs = ["https:8443/q", "tls"], sni = true, floor = "any", ca_file = "own.pem", mark = 2 },
]
rungs = ["quic", "tls:8853"]
sni = false
ca_file = "group.pem"
mark = 0x10
interface = "wg0"
timeout = "3s""#;
    let group = group(keys);
    let [first, plain, own] = &group.servers[..] else { panic!() };
    assert_eq!(
        (rungs(first), rungs(plain), rungs(own)),
        ("quic:853 tls:8853".into(), "tcp:53".into(), "https:8443/q tls:853".into())
    );
    assert_eq!(first.label, "a/9.9.9.10#dns10.quad9.net");
    assert_eq!(first.options.server_name.as_deref(), Some("dns10.quad9.net"));
    assert_eq!((first.options.sni, own.options.sni), (false, true));
    assert_eq!((first.options.mark, own.options.mark), (Some(16), Some(2)));
    assert_eq!(first.options.ca_file.as_deref(), Some(Path::new("/etc/truename/group.pem")));
    assert_eq!(own.options.ca_file.as_deref(), Some(Path::new("/etc/truename/own.pem")));
    assert!([first, plain, own].iter().all(|server| server.options.interface.as_deref() == Some("wg0")));
    assert_eq!((group.options.interface.as_deref(), group.options.server_name.as_deref()), (Some("wg0"), None));
}

#[test]
fn ports_and_paths_of_an_address_belong_to_its_own_transport() {
    for (entry, expected) in [
        (r#"{ address = "10.0.0.1", rungs = ["tls", "udp"] }"#, "tls:853 udp:53"),
        (r#"{ address = "10.0.0.1:8853", rungs = ["tls"] }"#, "tls:8853"),
        (r#"{ address = "tls://10.0.0.1:8853", rungs = ["quic", "tls", "udp"] }"#, "quic:853 tls:8853 udp:53"),
        (r#"{ address = "https://10.0.0.1/q", rungs = ["https", "tls"] }"#, "https:443/q tls:853"),
        (r#"{ address = "https://10.0.0.1/q", rungs = ["https:8443/r"] }"#, "https:8443/r"),
        (r#""https://10.0.0.1""#, "https:443/dns-query"),
        (r#""10.0.0.1:5353""#, "udp:5353"),
    ] {
        let group = group(&format!("servers = [{entry}]"));
        assert_eq!(rungs(&group.servers[0]), expected, "{entry}");
    }
}

#[test]
fn servers_and_proxies_may_have_names() {
    let named = group("servers = [\"tls://dns.example\"]\nbootstrap = [\"9.9.9.10\", \"[2620:fe::10]:5353\"]");
    assert_eq!(named.servers[0].address(), None);
    assert_eq!(
        named.servers[0].options.bootstrap,
        ["9.9.9.10:53".parse().unwrap(), "[2620:fe::10]:5353".parse().unwrap()]
    );
    let proxied = group("servers = [\"tls://dns.example\"]\nproxy = \"socks5://127.0.0.1\"");
    assert!(matches!(&proxied.servers[0].options.proxy, Proxy::Socks5(server) if server.port == 1080));
    let by_name =
        group("servers = [\"tls://9.9.9.10\"]\nproxy = \"http://proxy.example:3128\"\nbootstrap = [\"10.0.0.53\"]");
    assert!(matches!(&by_name.servers[0].options.proxy, Proxy::Http(server) if server.host.ip().is_none()));
}

#[test]
fn files_and_capabilities_are_noted_once_with_their_place() {
    let text = "[upstream.a]\nservers = [\"tls://192.0.2.1\", { address = \"tls://192.0.2.2\", mark = 7 }]\n\
                ca_file = \"ca.pem\"\ninterface = \"wg0\"\nclient_certificate = \"c.pem\"\nclient_key = \"k.pem\"\n";
    let config = load_text("/etc/truename/x.toml", text).config.unwrap();
    let line = |each: &Requirement| format!("{} {} {:?}", each.at.line, each.key, each.what);
    assert_eq!(
        config.requirements.iter().map(line).collect::<Vec<_>>(),
        [
            "3 upstream.a.ca_file Certificates(\"/etc/truename/ca.pem\")",
            "5 upstream.a.client_certificate Certificates(\"/etc/truename/c.pem\")",
            "6 upstream.a.client_key Key(\"/etc/truename/k.pem\")",
            "4 upstream.a.interface Interface(\"wg0\")",
            "2 upstream.a.servers[1].mark Mark(7)",
        ]
    );
}

#[test]
fn pins_and_bootstrap_resolvers_are_bounded() {
    let list = |item: &str, count: usize| format!("{item:?}, ").repeat(count);
    let pins = |count| {
        format!(
            "[upstream.a]\nservers = [\"tls://192.0.2.1\"]\npins = [{}]",
            list("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", count)
        )
    };
    assert_eq!(problems(&pins(super::MAX_PINS)), "");
    assert!(problems(&pins(super::MAX_PINS + 1)).contains("too-many-items upstream.a.pins"));
    let bootstrap =
        |count| format!("[upstream.a]\nservers = [\"tls://a.example\"]\nbootstrap = [{}]", list("9.9.9.10", count));
    assert_eq!(problems(&bootstrap(super::MAX_BOOTSTRAP)), "");
    assert!(problems(&bootstrap(super::MAX_BOOTSTRAP + 1)).contains("too-many-items upstream.a.bootstrap"));
}
