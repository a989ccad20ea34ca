//! The seeds: small inputs that reach far into each parser. `fuzz/seeds/` holds them as files; a test compares, and
//! writes them anew with `TRUENAME_WRITE=1`. Files there whose names begin with `found-` are not made here: each was an
//! input that broke something once.

use super::control::{CONTROL, STATS, TCP};
use super::list::{DNSMASQ, DOMAINS, HOSTS_FILE};
use super::query::{FAILING, FROM_OURSELVES, NEGATIVE, NOT_ALLOWED, OVER_TCP, SILENT};
use super::reply::{DNSSEC_OK, RAW};
use super::snapshot::{WHOLE, entry, framed};
use truename::dns::encode::{self, MessageBuilder};
use truename::dns::wire::{Message, Section};
use truename::dns::{Name, QuestionKey, Rcode, Record, Rtype};

/// A seed: its file's name and its bytes.
pub type Seed = (String, Vec<u8>);

/// Makes the seeds of a target.
pub fn of(target: &str) -> Vec<Seed> {
    match target {
        "query" => queries(),
        "reply" => replies(),
        "configuration" => texts(CONFIGURATIONS),
        "zone" => texts(ZONES),
        "hosts" => texts(HOSTS),
        "resolv_conf" => texts(RESOLV_CONFS),
        "snapshot" => snapshots(),
        "list" => chosen(LISTS),
        "control" => chosen(REQUESTS),
        other => panic!("no such target: {other}"),
    }
}

fn texts(texts: &[(&str, &str)]) -> Vec<Seed> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
}

/// Texts behind an octet that says how they are read.
fn chosen(texts: &[(&str, u8, &str)]) -> Vec<Seed> {
    texts.iter().map(|(name, how, text)| ((*name).to_owned(), [&[*how], text.as_bytes()].concat())).collect()
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn query(qname: &str, qtype: u16, payload: Option<u16>) -> Vec<u8> {
    let question = QuestionKey { qname: name(qname), qtype: Rtype(qtype), dnssec_ok: false, checking_disabled: false };
    encode::upstream_query(&question, 0x1234, payload)
}

fn queries() -> Vec<Seed> {
    let plain = query("www.example.org", 1, None);
    let edns = query("Git.LAB.example", 28, Some(1232));
    let with = |how: u8, message: &[u8]| [&[how], message].concat();
    let changed = |message: &[u8], at: usize, octet: u8| {
        let mut bytes = message.to_vec();
        bytes[at] = octet;
        bytes
    };
    let option = |code: u16, data: &[u8]| {
        let mut bytes = edns.clone();
        let len = u16::try_from(data.len()).expect("short");
        let end = bytes.len();
        bytes[end - 2..].copy_from_slice(&(len + 4).to_be_bytes());
        bytes.extend_from_slice(&code.to_be_bytes());
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let opt_at = edns.len() - 11;
    let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("plain", with(0, &plain)),
        ("tcp", with(OVER_TCP, &plain)),
        ("stranger", with(NOT_ALLOWED, &edns)),
        ("echo", with(FROM_OURSELVES, &plain)),
        ("silent-upstream", with(SILENT, &plain)),
        ("negative-upstream", with(NEGATIVE, &plain)),
        ("failing-upstream", with(FAILING, &edns)),
        ("edns", with(0, &edns)),
        ("dnssec-ok", with(0, &changed(&edns, opt_at + 7, 0x80))),
        ("edns-version-1", with(0, &changed(&edns, opt_at + 6, 1))),
        ("small-payload", with(0, &query("many.lab.example", 16, Some(100)))),
        ("large-answer", with(0, &query("many.lab.example", 16, None))),
        ("cookie", with(0, &option(10, b"\x01\x02\x03\x04\x05\x06\x07\x08"))),
        ("client-subnet", with(0, &option(8, b"\x00\x01\x18\x00\xc0\x00\x02"))),
        ("padding", with(0, &option(12, &[0; 40]))),
        ("two-opts", with(0, &[&changed(&edns, 11, 2), &edns[opt_at..]].concat())),
        ("response", with(0, &changed(&plain, 2, 0x81))),
        ("notify", with(0, &changed(&plain, 2, 0x20))),
        ("update", with(0, &changed(&plain, 2, 0x28))),
        ("two-questions", with(0, &[&changed(&plain, 5, 2), &plain[12..]].concat())),
        ("no-question", with(0, &changed(&plain, 5, 0)[..12])),
        ("counts-lie", with(0, &changed(&plain, 10, 0xff))),
        ("trailing", with(0, &[&plain[..], &[0]].concat())),
        ("compressed-question", with(0, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\xc0\x0c\0\x01\0\x01")),
        ("header-only", with(0, &plain[..12])),
        ("stump", with(0, &plain[..11])),
        ("root", with(0, &query(".", 2, Some(512)))),
        ("longest-name", with(0, &query(&longest, 1, Some(4096)))),
        ("any", with(0, &query("www.example.org", 255, Some(1232)))),
        ("transfer", with(OVER_TCP, &query("lab.example", 252, None))),
        ("opt-type", with(0, &query("lab.example", 41, None))),
        ("chaos", with(0, &changed(&query("version.bind", 16, None), 29, 3))),
        ("class-any", with(0, &changed(&plain, plain.len() - 1, 255))),
        ("no-recursion", with(0, &changed(&plain, 2, 0))),
        ("checking-disabled", with(0, &changed(&plain, 3, 0x30))),
        ("local-alias-out", with(0, &query("away.lab.example", 1, Some(1232)))),
        ("local-alias-loop", with(0, &query("loop.lab.example", 1, Some(1232)))),
        ("local-wildcard", with(0, &query("x.y.dev.lab.example", 28, None))),
        ("local-dname", with(0, &query("git.down.lab.example", 1, Some(1232)))),
        ("local-nothing", with(0, &query("nothing.lab.example", 1, Some(1232)))),
        ("local-empty-node", with(0, &query("er.lab.example", 15, None))),
        ("local-cut", with(0, &query("x.sub.lab.example", 1, None))),
        ("reverse", with(0, &query("5.0.1.10.in-addr.arpa", 12, Some(1232)))),
        ("rewrite", with(0, &query("old.example", 1, None))),
        ("special-use", with(0, &query("printer.local", 1, Some(1232)))),
        ("onion", with(0, &query("x.onion", 28, None))),
        ("localhost", with(0, &query("a.localhost", 28, None))),
        (
            "tsig",
            with(0, &[&changed(&plain, 11, 1), &b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\x04\x01\x02\x03\x04"[..]].concat()),
        ),
    ];
    all.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// What a reply of the reply target is made of.
struct Recipe {
    how: u8,
    qtype: u16,
    rcode: Rcode,
    answers: Vec<Record>,
    authority: Vec<Record>,
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record { owner: name(owner), rtype: Rtype(rtype), class: 1, ttl: 60, rdata: rdata.into() }
}

fn to(owner: &str, rtype: u16, target: &str) -> Record {
    record(owner, rtype, name(target).as_wire())
}

fn soa(owner: &str) -> Record {
    record(owner, 6, &[&b"\x02ns\0\0"[..], &[0, 0, 0, 30].repeat(5)].concat())
}

impl Recipe {
    fn answer(how: u8, qtype: u16, answers: Vec<Record>) -> Self {
        Self { how, qtype, rcode: Rcode::NOERROR, answers, authority: Vec::new() }
    }

    fn negative(qtype: u16, rcode: Rcode, authority: Vec<Record>) -> Self {
        Self { how: 0, qtype, rcode, answers: Vec::new(), authority }
    }

    /// Writes it as the target takes it apart: flags, counts, what follows the question.
    fn bytes(&self) -> Vec<u8> {
        let qname = name(super::reply::NAMES[usize::from(self.how & 3)]);
        let mut builder = MessageBuilder::response(&qname, Rtype(self.qtype), self.rcode);
        for record in &self.answers {
            builder.push(Section::Answer, record);
        }
        for record in &self.authority {
            builder.push(Section::Authority, record);
        }
        let message = builder.finish();
        let question_end = Message::parse(&message).expect("just written").question_end();
        let at = super::reply::TYPES.iter().position(|rtype| *rtype == self.qtype).expect("a type of the target");
        let at = u8::try_from(at).expect("few types");
        [&[self.how, at, 0x42, 0x42], &message[2..4], &message[6..12], &message[question_end..]].concat()
    }
}

fn replies() -> Vec<Seed> {
    const WWW: &str = "www.example.org";
    let public = [93, 184, 216, 34];
    let loops = vec![to(WWW, 5, "b.example.org"), to("b.example.org", 5, WWW)];
    let chain: Vec<Record> = (0..14)
        .map(|at| {
            to(
                &if at == 0 { WWW.to_owned() } else { format!("c{at}.example.org") },
                5,
                &format!("c{}.example.org", at + 1),
            )
        })
        .collect();
    let strangers =
        vec![record(WWW, 1, &public), record("bank.example", 1, &public), to("example.org", 2, "ns.evil.example")];
    let signed = record(WWW, 46, b"\0\x01\x08\x02\0\0\0\x3c\x60\0\0\0\x50\0\0\0\x12\x34\0sig");
    let recipes: Vec<(&str, Recipe)> = vec![
        ("address", Recipe::answer(0, 1, vec![record(WWW, 1, &public)])),
        ("two-addresses", Recipe::answer(0, 28, vec![record(WWW, 28, &[0x26; 16]), record(WWW, 28, &[0x27; 16])])),
        ("alias", Recipe::answer(0, 1, vec![to(WWW, 5, "b.example.net"), record("b.example.net", 1, &public)])),
        ("alias-alone", Recipe::answer(0, 1, vec![to(WWW, 5, "b.example.net")])),
        ("alias-inside", Recipe::answer(0, 1, vec![to(WWW, 5, "lab.example"), record("lab.example", 1, &public)])),
        (
            "alias-behind-its-data",
            Recipe::answer(0, 1, vec![record("lab.example", 1, &public), to(WWW, 5, "lab.example")]),
        ),
        ("alias-inside-asked-soa", Recipe::answer(0, 6, vec![to(WWW, 5, "lab.example")])),
        ("alias-inside-asked-ns", Recipe::answer(0, 2, vec![to(WWW, 5, "lab.example")])),
        ("alias-to-corp", Recipe::answer(0, 1, vec![to(WWW, 5, "a.corp.example")])),
        ("alias-loop", Recipe::answer(0, 1, loops)),
        ("alias-chain", Recipe::answer(0, 1, chain)),
        ("alias-asked-for", Recipe::answer(0, 5, vec![to(WWW, 5, "b.example.net")])),
        ("dname", Recipe::answer(0, 1, vec![to("example.org", 39, "example.net"), to(WWW, 5, "www.example.net")])),
        ("strangers", Recipe::answer(0, 1, strangers)),
        ("private-address", Recipe::answer(0, 1, vec![record(WWW, 1, &[10, 0, 0, 1]), record(WWW, 1, &public)])),
        ("private-at-home", Recipe::answer(1, 1, vec![record("a.corp.example", 1, &[10, 0, 0, 1])])),
        ("short-address", Recipe::answer(0, 1, vec![record(WWW, 1, &[10, 0, 0])])),
        ("signed", Recipe::answer(DNSSEC_OK, 1, vec![record(WWW, 1, &public), signed])),
        ("mx", Recipe::answer(0, 15, vec![record(WWW, 15, b"\0\x0a\x04mail\x07example\x03org\0")])),
        ("srv", Recipe::answer(0, 33, vec![record(WWW, 33, b"\0\x01\0\x02\0\x03\x01t\0")])),
        ("txt", Recipe::answer(0, 16, vec![record(WWW, 16, b"\x05hello\x05world")])),
        ("https", Recipe::answer(0, 65, vec![record(WWW, 65, b"\0\x01\0\0\x01\0\x03\x02h2\0\x04\0\x04\x0a\0\0\x01")])),
        ("unknown-type", Recipe::answer(0, 65280, vec![record(WWW, 65280, b"\x01\x02\x03")])),
        ("root", Recipe::answer(3, 2, vec![to(".", 2, "a.root-servers.net")])),
        ("nodata", Recipe::negative(28, Rcode::NOERROR, vec![soa("example.org")])),
        ("nxdomain", Recipe::negative(1, Rcode::NXDOMAIN, vec![soa("org")])),
        ("nxdomain-without-soa", Recipe::negative(1, Rcode::NXDOMAIN, vec![])),
        ("foreign-soa", Recipe::negative(1, Rcode::NOERROR, vec![soa("example.com")])),
        ("referral", Recipe::negative(1, Rcode::NOERROR, vec![to("org", 2, "ns.org")])),
        ("empty", Recipe::negative(1, Rcode::NOERROR, vec![])),
        ("servfail", Recipe::negative(1, Rcode::SERVFAIL, vec![])),
        ("refused", Recipe::negative(1, Rcode::REFUSED, vec![])),
    ];
    let mut seeds: Vec<Seed> = recipes.iter().map(|(name, recipe)| ((*name).to_owned(), recipe.bytes())).collect();
    let mut add = |name: &str, bytes: Vec<u8>| seeds.push((name.to_owned(), bytes));
    let address = recipes[0].1.bytes();
    add("truncated", [&address[..4], &[0x83], &address[5..]].concat());
    add("raw", [&[RAW, 0, 0x42, 0x42, 0x81, 0x80], &query(WWW, 1, None)[4..]].concat());
    add("bare-formerr", [&[RAW, 0, 0x42, 0x42], &b"\x81\x81\0\0\0\0\0\0\0\0"[..]].concat());
    let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0f\0\x08\0\x16silent";
    add("extended-error", [&[0, 0, 0x42, 0x42, 0x81, 0x82, 0, 0, 0, 0, 0, 1], &opt[..]].concat());
    let data = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x5d\xb8\xd8\x22";
    add("pointer-to-itself", [&[0, 0, 1, 2, 0x81, 0x80, 0, 1, 0, 0, 0, 0], &b"\xc0\x21"[..], &data[2..]].concat());
    add("pointer-into-header", [&[3, 0, 1, 0x41, 0x81, 0x80, 0, 1, 0, 0, 0, 0], &b"\xc0\0"[..], &data[2..]].concat());
    add("counts-lie", [&[0, 0, 1, 2, 0x81, 0x80, 0xff, 0xff, 0, 0, 0, 0], &data[..]].concat());
    seeds
}

fn snapshots() -> Vec<Seed> {
    let mut builder = MessageBuilder::response(&name("www.example.org"), Rtype(1), Rcode::NOERROR);
    builder.push(Section::Answer, &record("www.example.org", 1, &[93, 184, 216, 34]));
    let positive = builder.finish();
    let mut builder = MessageBuilder::response(&name("no.example.org"), Rtype(28), Rcode::NXDOMAIN);
    builder.push(Section::Authority, &soa("example.org"));
    let negative = builder.finish();
    let fresh = entry(2_000, 60, [0; 5], &[], &positive);
    let absent = entry(2_000, 30, [0, 0, 0, 1, 3], b"\0\x16silent", &negative);
    let both = [fresh.as_slice(), &absent].concat();
    let of = |entries: u8, body: &[u8]| [&[entries], body].concat();
    let whole = |file: &[u8]| [&[WHOLE], file].concat();
    let file = framed(2, &both);
    let mut changed = file.clone();
    changed[60] ^= 1;
    let mut newer = file.clone();
    newer[17] = 2;
    let all: Vec<(&str, Vec<u8>)> = vec![
        ("whole", whole(&file)),
        ("empty", whole(&framed(1, &[]))),
        ("torn", whole(&file[..file.len() - 7])),
        ("changed", whole(&changed)),
        ("newer", whole(&newer)),
        ("foreign", whole(b"SQLite format 3\0")),
        ("behind-the-end", whole(&[file.as_slice(), b"x"].concat())),
        ("entries", of(2, &both)),
        ("count-lies", of(9, &both)),
        ("length-lies", of(1, &[&[0xff, 0xff, 0xff, 0xff], &fresh[4..]].concat())),
        ("stale", of(1, &entry(90_000, 60, [0; 5], &[], &positive))),
        ("ancient", of(1, &entry(1_700_000_000_000, 60, [0; 5], &[], &positive))),
        ("twice", of(2, &[fresh.as_slice(), &fresh].concat())),
        ("bad-prefix", of(1, &entry(2_000, 60, [0, 0, 0, 0, 0xff], &[], &positive))),
        ("bad-ede", of(1, &entry(2_000, 60, [0; 5], b"\0\x16\xff\xfe", &positive))),
        ("short-ede", of(1, &entry(2_000, 60, [0; 5], b"\0", &positive))),
        ("cut-message", of(1, &entry(2_000, 60, [0; 5], &[], &positive[..20]))),
        ("question", of(1, &entry(2_000, 60, [0; 5], &[], &query("www.example.org", 1, None)))),
    ];
    all.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

const CONFIGURATIONS: &[(&str, &str)] = &[
    ("empty", ""),
    ("minimal", include_str!("../../config/examples/minimal.toml")),
    ("office", include_str!("../../config/examples/office.toml")),
    (
        "everything",
        r#"version = 1
[server]
listen = ["127.0.0.1:5300", "[::1]:5300"]
udp_payload_bytes = 1400
workers = 2
max_in_flight = 2048
tcp_idle_timeout = "15s"
edns_errors = true
[server.access]
allow = ["127.0.0.0/8", "::1/128"]
[upstream.system]
servers = ["auto"]
timeout = "4s"
[upstream.corp]
servers = [{ name = "dc1", address = "10.0.0.10" }, "tcp://[2001:db8::53]:53", "udp://192.0.2.53"]
strategy = "parallel"
fallback = "system"
[default]
upstream = "system"
private_answers = "auto"
[[route]]
name = "corp"
names = ["corp.example", "*.partner.example", "=www.example.org", "10.in-addr.arpa"]
exclude = ["public.corp.example"]
presets = ["go", "npm"]
upstream = "corp"
private = "auto"
on_failure = "servfail"
views = ["office"]
[[zone]]
name = "lab.example"
ttl = "60s"
fallthrough = true
records = [{ name = "@", type = "A", value = "10.1.0.5", ttl = "5m" }]
[[rewrite]]
names = ["old.example"]
answer = { type = "CNAME", value = "new.example.", ttl = "30s" }
[cache]
max_entries = 100_000
max_bytes = "64 MiB"
min_ttl = "5s"
[[view]]
name = "office"
clients = ["10.0.0.0/8"]
listen = ["127.0.0.1:5300"]
default = { upstream = "corp", private_answers = "allow" }
[log]
level = "debug"
format = "json"
"#,
    ),
    ("unknown-key", "[server]\nlisten = [\"127.0.0.1\"]\nlissen = []\n"),
    ("wrong-types", "version = \"1\"\nserver = 3\n[upstream]\nx = []\n[[upstream.y]]\n"),
    ("no-toml", "[server\nlisten = \n= 5\n\"\\q\"\n"),
    ("twice", "[server]\nworkers = 1\nworkers = 2\n[server]\n"),
    ("dotted", "server.workers = 2\nserver.listen = [\"::1\"]\nupstream.\"a b\".servers = [\"auto\"]\n"),
    ("unknown-upstream", "[[route]]\nnames = [\"a\"]\nupstream = \"sistem\"\nviews = [\"x\"]\n"),
    ("units", "[cache]\nmax_bytes = \"1 KiB\"\nmin_ttl = \"2h\"\nmax_ttl = \"1s\"\nnegative_ttl_max = \"-1s\"\n"),
    (
        "names",
        "[[route]]\nnames = [\"*.a..b\", \"=\", \"\\\\300\", \"*\", \".\", \"b\u{fc}cher.example\"]\nupstream = \"system\"\n",
    ),
    ("numbers", "version = 9223372036854775807\n[server]\nworkers = -1\nmax_in_flight = 0\nudp_payload_bytes = 1e9\n"),
    (
        "fallback-loop",
        "[upstream.a]\nservers = [\"1.1.1.1\"]\nfallback = \"b\"\n[upstream.b]\nservers = []\nfallback = \"a\"\n",
    ),
    ("controls", "\"\\u001b[31m\" = 1\n[upstream.\"\\u0007\"]\nservers = [\"\\u009b\"]\n"),
    ("carriage-returns", "[server]\r\nworkers = 0\r\n# \u{e4}\u{2192}\r\n"),
];

const ZONES: &[(&str, &str)] = &[
    ("empty", ""),
    (
        "common",
        "$TTL 1h\n@ IN SOA ns hostmaster ( 1 2h 30m ; comment\n 4w 60 )\n NS ns\nns A 192.0.2.1\n AAAA 2001:db8::1\nwww 5m IN CNAME @\n\
         *.dev A 127.0.0.1\n_http._tcp SRV 1 2 80 www\n@ MX 10 mail\nmail TXT \"v=spf1 -all\" \"two \\\"words\\\"\"\n",
    ),
    (
        "types",
        "a CAA 0 issue \"ca.example; x=y\"\nb DS 1 2 3 ABCD\nc DNSKEY 256 3 5 Zm9v\nd NAPTR 1 2 \"s\" \"x\" \"\" t.\ne SSHFP 1 1 0123\n\
         f TLSA 3 1 1 00ff\ng HTTPS 1 . alpn=\"h2,h3\" port=8443 ipv4hint=192.0.2.1\nh SVCB 0 x.\ni LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m\n\
         j EUI48 00-00-5e-00-53-2a\nk URI 10 1 \"https://x/\"\nl TYPE65280 \\# 4 0a000001\nm PTR x.\nn HINFO pc linux\no RP a. b.\n",
    ),
    (
        "directives",
        "$ORIGIN sub\na A 192.0.2.1\n$ORIGIN lab.example.\n$TTL 9\nb A 192.0.2.2\n$GENERATE 1-5/2 host-${0,3,d} A 192.0.2.$\n",
    ),
    ("include-itself", "$INCLUDE zone\n$INCLUDE zone in\n"),
    ("dname", "d DNAME e\nx.e A 192.0.2.1\n"),
    ("cut", "sub NS ns.sub\nns.sub A 10.0.0.1\nsub DS 1 2 3 AB\nx.sub A 192.0.2.1\n"),
    ("loop", "a CNAME b\nb CNAME a\nc CNAME *.c\n*.c CNAME c\n"),
    ("alias-and-data", "a CNAME b\na A 192.0.2.1\na CNAME c\n"),
    (
        "escapes",
        "a\\.b A 192.0.2.1\n\\000\\255 TXT \"\\000\\\"\" \\;x\n\\$x A 192.0.2.1\n\"q q\" A 192.0.2.1\n\\@ A 192.0.2.1\n",
    ),
    (
        "wrong",
        "a A 300.0.0.1\nb AAAAA ::1\n$FOO\nwww.other.example. A 192.0.2.1\nc CH A 192.0.2.1\nd A\n(\ne A 192.0.2.1\n",
    ),
    ("duplicates", "a 5 A 192.0.2.1\na 6 A 192.0.2.1\nA A 192.0.2.2\n"),
    ("deep", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p A 192.0.2.1\n*.*.x TXT a\n"),
    ("soa-elsewhere", "x SOA a b 1 2 3 4 5\n@ SOA a b 1 2 3 4 5\n@ SOA a b 2 2 3 4 5\n"),
    ("numbers", "a 4294967296 A 192.0.2.1\nb 1w2d3h4m5s A 192.0.2.1\n1 2 A 192.0.2.1\nc MX 65536 x\nd TXT \\256\n"),
    ("generic", "a A \\# 4 c0000201\nb MX \\# 5 000a 01 61 00\nc TXT \\# 0\nd TYPE1 \\# 5 c000020101\n"),
    ("rrsig", "a A 192.0.2.1\na RRSIG A 8 3 60 20300101000000 20200101000000 1 lab.example. AAAA\na NSEC b A RRSIG\n"),
    (
        "long-text",
        "a TXT \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345\"\n",
    ),
];

const HOSTS: &[(&str, &str)] = &[
    ("empty", ""),
    (
        "common",
        "127.0.0.1 localhost\n::1 localhost ip6-localhost\n192.0.2.1\tbox.lan box # the box\n\n# nothing\n0.0.0.0 ads.example\n",
    ),
    ("mark", "\u{feff}192.0.2.1 a\r\n192.0.2.2 b\r\n"),
    ("scoped", "fe80::1%lo0 localhost\nfe80::1%3 x\n"),
    ("wrong", "192.0.2 a\n192.0.2.1\n192.0.2.1 a..b *.x . \\300 b\u{fc}cher\n x 192.0.2.1\n"),
    ("same-name", "192.0.2.1 a A\n192.0.2.2 a\n::ffff:192.0.2.1 a\n192.0.2.1 a.\n"),
    ("reverse", "192.0.2.1 1.2.0.192.in-addr.arpa\n192.0.2.9 x.in-addr.arpa\n2001:db8::1 y\n"),
    ("services", "192.0.2.1 _https._tcp.x x\n"),
    ("escapes", "192.0.2.1 a\\.b \\000 a\\#b\n"),
    ("blanks", "192.0.2.1 a\u{a0}b\u{b}c\x0cd\n\u{2003}192.0.2.2 e\n"),
];

const RESOLV_CONFS: &[(&str, &str)] = &[
    ("empty", ""),
    (
        "common",
        "# made by hand\nnameserver 10.0.0.1\nnameserver fd00::53\nsearch corp.example lab.example\noptions ndots:2 edns0\n",
    ),
    ("scopes", "nameserver fe80::1%1\nnameserver fe80::2%lo\nnameserver fe80::3%\n"),
    ("ports", "nameserver [::1]:5353\nnameserver 10.0.0.1:5353\n"),
    ("unspecified", "nameserver 0.0.0.0\nnameserver ::\nnameserver 127.0.0.1\n"),
    ("wrong", "nameserver\nnameserver ten\nnameserver 10.0.0\nsearch a..b .\ndomain\n"),
    ("last-counts", "domain a\nsearch b c\ndomain d.\n"),
    ("comments", "nameserver 10.0.0.1;x\nsearch a#b c\n; search d\n"),
    ("blanks", "\tnameserver\t10.0.0.1\r\nsearch\u{a0}a\u{2003}b\n"),
    ("names", "search \\000 a\\.b \\; \u{fc} _x -y\n"),
];

const LISTS: &[(&str, u8, &str)] = &[
    ("domains", DOMAINS, "# inside\nexample.org\n*.corp.example # below\n=www.example.net\n\nLAB.example.\n"),
    ("domains-root", DOMAINS, ".\n"),
    ("domains-wrong", DOMAINS, "a b\nhttp://c.test/\n\u{fc}ber.test\n*.*.x\n=\n*.\n..\n||ads.example^\n"),
    ("domains-escapes", DOMAINS, "a\\.b.test\n\\000.test\n\\256\n=\\*.test\n"),
    ("domains-mark", DOMAINS, "\u{feff}a.test\r\nb.test\r\n\tc.test\x0c\n"),
    ("domains-twice", DOMAINS, "a.test\nA.TEST\n=a.test\n*.a.test\nx.a.test\n"),
    ("domains-canary", DOMAINS, "=canary.example.org"),
    (
        "hosts",
        HOSTS_FILE,
        "127.0.0.1 localhost\n0.0.0.0 ads.test Tracker.test # two\nfe80::1%lo0 localhost\n0.0.0.0 0.0.0.0\n",
    ),
    ("hosts-wrong", HOSTS_FILE, "x y\n1.2.3.4\n::1 a..b =c *.d \u{fc}\n"),
    ("dnsmasq", DNSMASQ, "# c\nserver=/a.test/B.test/10.0.0.1#5353 # c\nlocal=/c.test/\naddress=/.d.test/::1\n"),
    ("dnsmasq-excluded", DNSMASQ, "server=/test/10.0.0.1\nserver=/x.test/#\n"),
    ("dnsmasq-wrong", DNSMASQ, "cache-size=100\nserver=//10.0.0.1\nserver=/e.test\nserver=\nlocal=/#/\n=/a/\n"),
    ("empty", DOMAINS, ""),
];

const REQUESTS: &[(&str, u8, &str)] = &[
    ("stats", STATS, "GET /stats HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("stats-sections", STATS, "GET /stats?section=cache,queries&section=x HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("metrics", TCP, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9153\r\nAccept: application/openmetrics-text\r\n\r\n"),
    ("rebound", TCP, "GET /metrics HTTP/1.1\r\nHost: evil.example:9153\r\n\r\n"),
    ("names-over-tcp", TCP, "GET /queries HTTP/1.1\r\nHost: localhost:9153\r\n\r\n"),
    ("query", CONTROL, "GET /query?name=www.example.org&type=AAAA HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("explain", CONTROL, "GET /explain?name=a%20b+c&client=10.0.0.1&fresh=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("queries", CONTROL, "GET /queries?limit=5&rcode=NXDOMAIN&since=5m&name=*.example HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("follow", CONTROL, "GET /queries?follow=1 HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"),
    ("cache", CONTROL, "GET /cache?match=*.example.org&limit=10000 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("limit", CONTROL, "GET /cache?limit=10001 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "cached-name",
        CONTROL,
        "GET /cache/a%2eb%00 HTTP/1.1\r\nHost: x\r\n\r\nGET /cache/%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    ("flush", CONTROL, "DELETE /cache?match=* HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("flush-by-reader", STATS, "DELETE /cache?match=* HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("switch", CONTROL, "POST /upstreams/office/one/disable HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
    ("probe", CONTROL, "POST /upstreams/office/probe HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "acknowledge",
        CONTROL,
        "POST /incidents/00000001/ack HTTP/1.1\r\nHost: x\r\n\r\nGET /incidents/00000001 HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    ("pause", CONTROL, "POST /pause?for=5m HTTP/1.1\r\nHost: x\r\n\r\nPOST /pause?for=2d HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "pipelined",
        CONTROL,
        "POST /reload HTTP/1.1\r\nHost: x\r\n\r\nPOST /resume HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n",
    ),
    ("body", CONTROL, "POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n[cache]\n\n"),
    (
        "body-chunked",
        CONTROL,
        "POST /config/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n#a\n\r\n0\r\n\r\n",
    ),
    ("body-too-large", CONTROL, "POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"),
    (
        "body-cut",
        CONTROL,
        "POST /config/check HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\nExpect: 100-continue\r\n\r\na",
    ),
    ("head", STATS, "HEAD /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("known", STATS, "GET /version HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n"),
    ("no-path", STATS, "GET /nothing?a=%1b[2J HTTP/1.1\r\nHost: x\r\n\r\n"),
    (
        "parameters",
        CONTROL,
        "GET /cache?%1b[2J=1 HTTP/1.1\r\nHost: x\r\n\r\nGET /query?name=a&name=b HTTP/1.1\r\nHost: x\r\n\r\n",
    ),
    ("method", STATS, "PATCH /stats HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("no-http", CONTROL, "\u{16}\u{3}\u{1}\0hello\r\n\r\n"),
    ("half", CONTROL, "GET /stats HTTP/1.1\r\nHost:"),
    ("two-lengths", CONTROL, "POST /reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    ("absolute", TCP, "GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1:9153\r\n\r\n"),
];
