//! The servers: an authoritative one with made zones, a recursive one in front of it, and the two that are compared.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use truename::dns::{Name, QuestionKey, Rtype, encode};

/// truename.
pub(super) const OURS: &str = "127.0.0.40";
/// unbound as a forwarder.
pub(super) const THEIRS: &str = "127.0.0.30";
/// The upstream of both.
pub(super) const RECURSIVE: &str = "127.0.0.20";
/// Names of each kind in a zone.
pub(super) const NAMES: usize = 40;
/// How long a server may take to come up, in steps of 100 ms.
const STEPS: usize = 300;

/// Lines shown of the log of a server that does not come up.
const LOG_LINES: usize = 20;

/// What is running; dropping it ends them.
pub(super) struct Lab {
    children: Vec<Child>,
    _folder: TempDir,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts all four and waits until each answers.
pub(super) fn start(program: &str) -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let write = |name: &str, text: &str| std::fs::write(at.join(name), text).unwrap();
    write("root.zone", &root());
    write("alpha.zone", &leaf("beta"));
    write("beta.zone", &leaf("alpha"));
    write(
        "sub.zone",
        "$TTL 300\n@ SOA ns.alpha. h. 1 2 3 4 60\n@ NS ns.alpha.\n@ A 192.0.2.9\nx A 192.0.2.10\n*.w AAAA 2001:db8::9\n",
    );
    write("reverse.zone", "$TTL 300\n@ SOA ns.alpha. h. 1 2 3 4 60\n@ NS ns.alpha.\n$GENERATE 0-255 $ PTR h$.alpha.\n");
    write("named.conf", &named(at));
    write("hints", ". 3600 NS ns.root.\nns.root. 3600 A 127.0.0.10\n");
    // An unbound with the repair of CVE-2024-33655 lets at most 1,000 replies wait for one address and is silent beyond, for
    // every name: what two forwarders on one machine wait for at the dead servers comes to that.
    let recursive = format!("root-hints: \"{}/hints\"\n wait-limit: 0\n", at.display());
    write("recursive.conf", &unbound(at, RECURSIVE, &recursive, ""));
    let forward = format!("forward-zone:\n name: \".\"\n forward-addr: {RECURSIVE}\n");
    write("forwarder.conf", &unbound(at, THEIRS, "", &forward));
    write(
        "truename.toml",
        &format!(
            "[server]\nlisten = [\"{OURS}:53\"]\nworkers = 1\n[upstream.system]\nservers = [\"{RECURSIVE}\"]\n[default]\n\
             private_answers = \"allow\"\n[hosts]\nfiles = []\n[cache]\npersist = false\n"
        ),
    );
    let file = |name: &str| at.join(name).display().to_string();
    let commands: [(&str, &str, Vec<String>); 4] = [
        ("named", "127.0.0.11", vec!["-g".into(), "-c".into(), file("named.conf")]),
        ("unbound", RECURSIVE, vec!["-d".into(), "-c".into(), file("recursive.conf")]),
        ("unbound", THEIRS, vec!["-d".into(), "-c".into(), file("forwarder.conf")]),
        (program, OURS, vec!["run".into(), "--config".into(), file("truename.toml")]),
    ];
    let mut lab = Lab { children: Vec::new(), _folder: folder };
    for (command, address, args) in commands {
        let log = std::fs::File::create(lab._folder.path().join(format!("{address}.log"))).unwrap();
        // Nothing of an earlier run is to be answered from, and nothing of the user's touched.
        let state = lab._folder.path();
        let mut start = Command::new(command);
        let child = start.args(args).env("STATE_DIRECTORY", state).stdout(Stdio::null()).stderr(log).spawn();
        lab.children.push(child.unwrap_or_else(|error| panic!("{command}: {error}")));
        wait_for(address, lab._folder.path());
    }
    lab
}

fn wait_for(address: &str, folder: &Path) {
    let question = QuestionKey {
        qname: Name::parse("a0.alpha").unwrap(),
        qtype: Rtype::A,
        dnssec_ok: false,
        checking_disabled: false,
    };
    let query = encode::upstream_query(&question, 7, None);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    for _ in 0..STEPS {
        let mut answer = [0; 512];
        let sent = socket.send_to(&query, (address, 53));
        if sent.is_ok() && socket.recv(&mut answer).is_ok_and(|len| len > 12 && answer[3] & 15 == 0 && answer[7] > 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = std::fs::read_to_string(folder.join(format!("{address}.log"))).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    panic!("{address} does not come up:\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
}

fn named(at: &Path) -> String {
    let at = at.display();
    let zone = |name: &str, file: &str| {
        format!(" zone \"{name}\" {{ type primary; file \"{file}\"; check-names ignore; }};\n")
    };
    format!(
        "options {{ directory \"{at}\"; pid-file none; listen-on {{ 127.0.0.10; 127.0.0.11; }}; listen-on-v6 {{ none; }};\n \
         recursion no; dnssec-validation no; empty-zones-enable no; max-records-per-type 0; notify no; minimal-responses no; session-keyfile none; managed-keys-directory \"{at}\"; }};\ncontrols {{ }};\n\
         view root {{ match-destinations {{ 127.0.0.10; }};\n{} }};\nview leaf {{ match-destinations {{ 127.0.0.11; }};\n{}{}{}{} }};\n",
        zone(".", "root.zone"),
        zone("alpha", "alpha.zone"),
        zone("beta", "beta.zone"),
        zone("sub.alpha", "sub.zone"),
        zone("8.8.in-addr.arpa", "reverse.zone"),
    )
}

/// As Debian ships it, as far as answers are concerned, without validation: the zones are not signed.
fn unbound(at: &Path, address: &str, more: &str, tail: &str) -> String {
    format!(
        "server:\n directory: \"{}\"\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n interface: {address}\n \
         outgoing-interface: 127.0.0.1\n do-ip6: no\n do-not-query-localhost: no\n module-config: \"iterator\"\n \
         num-threads: 1\n access-control: 127.0.0.0/8 allow\n {more}\nremote-control:\n control-enable: no\n{tail}",
        at.display()
    )
}

fn root() -> String {
    "$TTL 3600\n. SOA ns.root. h. 1 1800 900 604800 60\n. NS ns.root.\nns.root. A 127.0.0.10\nalpha. NS ns.alpha.\nns.alpha. A \
     127.0.0.11\nbeta. NS ns.beta.\nns.beta. A 127.0.0.11\nlame. NS ns.lame.\nns.lame. A 127.0.0.12\nbroken. NS ns.broken.\n\
     ns.broken. A 127.0.0.11\n8.8.in-addr.arpa. NS ns.alpha.\n"
        .to_owned()
}

/// Makes a zone with some of everything; `other` is the zone that aliases lead to.
fn leaf(other: &str) -> String {
    let mut zone =
        "$TTL 300\n@ SOA ns h 7 1800 900 604800 45\n@ NS ns\n@ MX 10 a0\n@ TXT \"apex\"\nns A 127.0.0.11\n".to_owned();
    let out = &mut zone;
    for n in 0..NAMES {
        let next = (n + 1) % NAMES;
        let _ = write!(
            out,
            "a{n} A 198.18.0.{n}\na{n} A 198.18.1.{n}\na{n} AAAA 2001:db8::{n:x}\na{n} MX 10 a{next}\na{n} MX 20 mail.{other}.\n\
             a{n} TXT \"text {n}\" \"and more\"\nMiXed{n} A 198.18.2.{n}\n\
             t{n} SRV 1 2 {n} a{n}\nt{n} CAA 0 issue \"ca.{other}\"\nt{n} HTTPS 1 . alpn=\"h2,h3\" ipv4hint=198.18.0.{n}\n\
             t{n} SVCB 0 a{n}\nt{n} TYPE65280 \\# 4 0a0000{n:02x}\nt{n} NAPTR 1 2 \"s\" \"x\" \"\" a{n}\nt{n} SSHFP 1 1 0123456789012345678901234567890123456789\n\
             t{n} TLSA 3 1 0 00ff\nt{n} HINFO pc linux\nt{n} URI 10 1 \"https://x/\"\nt{n} RP a{n} t{n}\nt{n} AFSDB 1 a{n}\n\
             t{n} LOC 52 22 23.000 N 4 53 32.000 E 0m 1m 10m 10m\nt{n} PTR a{n}\nt{n} DS 1 2 2 {}\n\
             c{n} CNAME a{n}\nx{n} CNAME c{n}.{other}.\ndead{n} CNAME nothing{n}\nout{n} CNAME nothing.lame.\n\
             nodata{n} CNAME mx{n}\nmx{n} MX 5 a{n}\nloop{n} CNAME loop{}\n\
             d{n} DNAME {other}.\ndd{n} DNAME deep{n}\na.deep{n} A 198.18.3.{n}\n\
             x.y.ent{n} A 198.18.4.{n}\n*.wild{n} A 198.18.5.{n}\n*.wild{n} TXT \"wild\"\n*.wildc{n} CNAME a{n}\n\
             priv{n} A 10.0.0.{n}\nzero{n} 0 A 198.18.6.{n}\nweek{n} 604800 A 198.18.7.{n}\nforever{n} 2147483647 A 198.18.8.{n}\n\
             two{n} 30 A 198.18.9.{n}\nodd\\.dot{n} A 198.18.10.{n}\nodd\\000\\255{n} A 198.18.11.{n}\nodd\\032{n} TXT \"a b\"\n",
            "AB".repeat(32),
            n / 3 * 3 + (n + 1) % 3,
        );
        for hop in 0..=n % 16 {
            let target = if hop == n % 16 { format!("a{n}") } else { format!("chain{n}-{}", hop + 1) };
            let _ = writeln!(out, "chain{n}-{hop} CNAME {target}");
        }
    }
    for n in 0..4 {
        for last in 0..(20 + 40 * n) {
            let _ = writeln!(out, "big{n} A 198.19.{n}.{last}\nbig{n} TXT \"{last} {}\"", "x".repeat(60 + 20 * n));
        }
    }
    let _ = writeln!(out, "{}.{} A 198.18.12.1", "l".repeat(63), "m".repeat(63));
    out.push_str("sub NS ns\nlamesub NS ns.lamesub\nns.lamesub A 127.0.0.12\n");
    zone
}
