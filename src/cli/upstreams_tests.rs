use super::*;
use crate::config::{Upstream, UpstreamOptions};
use crate::control::report::WrongClock;
use std::sync::Arc;

fn times(ms: &[u64]) -> Vec<Duration> {
    ms.iter().map(|ms| Duration::from_millis(*ms)).collect()
}

fn rung(transport: UpstreamTransport, port: u16) -> Rung {
    Rung { transport, port, path: None }
}

#[test]
fn figures_are_those_of_a_sample_and_every_time_is_in_one_bar() {
    assert_eq!(figures(&[]), None);
    let one = figures(&times(&[7])).unwrap();
    assert_eq!(
        (one.mean, one.deviation, one.bars),
        (Duration::from_millis(7), Duration::ZERO, [1, 0, 0, 0, 0, 0, 0, 0])
    );
    let some = figures(&times(&[10, 20, 30, 40, 50, 60, 70, 80, 90])).unwrap();
    assert_eq!((some.mean.as_micros(), some.deviation.as_micros()), (50_000, 27_386));
    assert_eq!((some.least, some.most), (Duration::from_millis(10), Duration::from_millis(90)));
    assert_eq!(some.bars, [1, 1, 1, 1, 1, 1, 1, 2]);
    let same = figures(&times(&[5; 40])).unwrap();
    assert_eq!((same.bars[0], same.deviation), (40, Duration::ZERO));
}

#[test]
fn a_bar_that_is_not_empty_can_be_seen() {
    assert_eq!(histogram(&[0, 1, 50, 100, 99, 7, 0, 0]), "▁▂▅██▂▁▁");
    assert_eq!(histogram(&[0; BARS]), "▁▁▁▁▁▁▁▁");
    assert_eq!(histogram(&[3; BARS]), "████████");
}

#[test]
fn a_test_is_shown_with_the_conclusion_first() {
    let member = |label: &str| {
        let server = Upstream::plain(label, UpstreamTransport::Udp, "192.0.2.1:53".parse().unwrap());
        Member::new("g", server)
    };
    let good = Probed {
        sent: 4,
        times: times(&[12, 15, 31, 12]),
        opening: Some(Duration::from_micros(31_250)),
        connections: 1,
        ..Probed::default()
    };
    let lossy =
        Probed { sent: 4, times: times(&[3, 4]), remark: Some("no reply within 2 s".into()), ..Probed::default() };
    let down = Probed { sent: 2, remark: Some("connection refused\u{1b}".into()), connections: 2, ..Probed::default() };
    let unusable = Probed { unusable: true, ..Probed::default() };
    let servers = vec![
        Tested {
            member: member("g/near"),
            rungs: vec![
                (rung(UpstreamTransport::H3, 443), unusable),
                (rung(UpstreamTransport::Tls, 853), good),
                (rung(UpstreamTransport::Udp, 5353), lossy),
            ],
        },
        Tested { member: member("g/far"), rungs: vec![(rung(UpstreamTransport::Https, 443), down)] },
    ];
    let mut found = Findings { servers, wrong_clock: None };
    insta::assert_snapshot!(shown(&found), @r"
    1 of 2 servers are up, 1 down
    SERVER  RUNG      STATE     OPENED IN  TIME            RANGE        SHAPE     ANSWERS  REUSED  REMARK
    g/near  h3        unusable  -          -               -            -         -        -       -
    g/near  tls       up        31.2 ms    17.5 ms ± 9.11  12.0 … 31.0  █▅▁▁▁▁▁▅  4/4      3/4     -
    g/near  udp:5353  lossy     -          3.50 ms ± 0.71  3.00 … 4.00  █▁▁▁▁▁▁█  2/4      -       no reply within 2 s
    g/far   https     down      -          -               -            -         0/2      -       connection refused\u{1b}
    ");
    let [here, certificate] = ["2006-11-22T02:00:00Z", "2020-01-01T00:00:00Z"].map(str::to_owned);
    let text = format!("wrong clock here: it says {here}, certificates begin {certificate}");
    found.wrong_clock = Some(WrongClock { here, certificate, text });
    found.servers.truncate(1);
    let said = shown(&found);
    assert!(said.lines().nth(1).unwrap().starts_with("▲ wrong clock here: it says 2006-11-22T02:00:00Z"), "{said}");
    let document: Value = serde_json::from_str(&tested_as_json(&found, 4)).unwrap();
    assert_eq!(document["wrong_clock"]["certificate"], "2020-01-01T00:00:00Z");
    let nothing = Findings { servers: Vec::new(), wrong_clock: None };
    assert_eq!(shown(&nothing), "no servers: neither the configuration nor this machine has any\n");
    let document: Value = serde_json::from_str(&tested_as_json(&nothing, 4)).unwrap();
    assert!(document.get("wrong_clock").is_none());
}

#[test]
fn what_connections_go_through_is_listed_without_passwords() {
    let login = crate::config::ProxyLogin { user: "anna".into(), password: "geheim".into() };
    let proxy = crate::config::ProxyServer {
        host: UpstreamHost::Name(crate::dns::Name::parse("proxy.example").unwrap()),
        port: 1080,
        login: Some(login),
    };
    let options = UpstreamOptions {
        proxy: Proxy::Socks5(proxy),
        interface: Some("wg0".into()),
        mark: Some(256),
        ..UpstreamOptions::default()
    };
    let server = Upstream::plain("g/x", UpstreamTransport::Tcp, "192.0.2.1:5300".parse().unwrap());
    let member = Member::new("g", Upstream { options: Arc::new(options), ..server });
    let text = listed(std::slice::from_ref(&member)) + &listed_as_json(&[member]);
    assert!(text.contains("tcp:5300") && text.contains("socks5 proxy.example:1080, wg0, mark 0x100"), "{text}");
    assert!(!text.contains("geheim") && !text.contains("anna"), "{text}");
}
