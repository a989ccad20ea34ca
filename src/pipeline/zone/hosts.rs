//! Hosts files (hosts(5)): `ADDRESS NAME…`, every name with the line that gives it.

use super::master::{excerpt, read_text};
use super::outcome::LocalAnswer;
use super::presentation::record_line;
use super::rdata::CLASS_IN;
use super::reverse;
use super::soa;
use super::store::service_host;
use crate::config::{self, Diagnostic, Location, OnConflict};
use crate::dns::{Name, Origin, Rcode, Record, Rtype};
use hashbrown::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

/// TTL of answers from hosts files: short, since an edit must be seen soon by clients that cache.
const HOSTS_TTL_SECONDS: u32 = 60;
/// Names of all hosts files together: large block lists have some hundred thousand.
const MAX_NAMES: usize = 4_000_000;
/// Addresses of one name: an answer over TCP has room for four times as many.
const MAX_ADDRESSES: usize = 1000;
/// Problems listed per file.
const MAX_DIAGNOSTICS: usize = 100;

/// One address of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    address: IpAddr,
    file: u16,
    line: u32,
    /// The line gives the name's first label by itself as well, as `127.0.1.1 box.example.net box` does.
    is_machine: bool,
}

/// All hosts files.
#[derive(Debug)]
pub(super) struct Hosts {
    files: Vec<Arc<Path>>,
    /// Lower-cased name to its addresses, in file order.
    names: HashMap<Box<[u8]>, Vec<Entry>, foldhash::fast::RandomState>,
    /// Lower-cased reverse name to the name of the first line with that address.
    reverse: HashMap<Box<[u8]>, (Name, Entry), foldhash::fast::RandomState>,
    pub(super) on_conflict: OnConflict,
    /// Names at most.
    max_names: usize,
}

/// Why a line is left out.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Names,
    Addresses,
}

/// What a file has beyond the bounds: how often, and the first line.
#[derive(Debug, Default)]
struct LeftOut {
    names: Option<(u32, usize)>,
    addresses: Option<(u32, usize)>,
    problems: Option<(u32, usize)>,
}

impl LeftOut {
    fn note(&mut self, bound: Bound, line: u32) {
        let place = match bound {
            Bound::Names => &mut self.names,
            Bound::Addresses => &mut self.addresses,
        };
        place.get_or_insert((line, 0)).1 += 1;
    }

    fn report(&self, path: &Path, diagnostics: &mut Vec<Diagnostic>) {
        let names = ("too-many-hosts", format!("at most {MAX_NAMES} names in all hosts files together"));
        let addresses = ("too-many-addresses", format!("at most {MAX_ADDRESSES} addresses for one name"));
        let problems = ("hosts-more-problems", "a hosts file with fewer problems".to_owned());
        for (place, (code, expected)) in [(self.names, names), (self.addresses, addresses), (self.problems, problems)] {
            let Some((line, count)) = place else { continue };
            let at = Location { file: path.into(), line, column: 1 };
            let found = format!("{count} more, from here on; they are left out");
            diagnostics.push(Diagnostic::warning(code, at, expected).found(found));
        }
    }
}

/// What the hosts files say.
#[derive(Debug)]
pub(super) enum Said {
    /// This.
    Answer(LocalAnswer),
    /// The name exists, but not for this type: somebody else may know more, yet must not say NXDOMAIN.
    Exists,
    /// Nothing.
    Nothing,
}

/// A hosts line for a name that public servers answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsConflict {
    /// The name.
    pub name: Name,
    /// The address the line gives it.
    pub address: IpAddr,
    /// The line.
    pub at: Location,
}

impl Hosts {
    /// Reads the files. Bad lines and missing files are warnings: the system's own resolver skips them as well.
    pub(super) fn load(config: &config::Hosts, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut hosts = Self {
            files: Vec::new(),
            names: HashMap::default(),
            reverse: HashMap::default(),
            on_conflict: config.on_conflict,
            max_names: MAX_NAMES,
        };
        for (index, path) in config.files.iter().enumerate() {
            let named = config.places.get(index);
            match read_text(path) {
                // One line in another encoding must not take the others away.
                Ok(text) => hosts.read(path, &text.text, diagnostics),
                // Nobody asked for the default file: a machine without one is no mistake.
                Err(_) if named.is_none() && !path.exists() => {}
                Err(reason) => {
                    let at = named.cloned().unwrap_or_else(|| Location::file(path));
                    let problem = Diagnostic::warning("hosts-file", at, reason).found(path.display().to_string());
                    diagnostics.push(problem.key(format!("hosts.files[{index}]")));
                }
            }
        }
        hosts
    }

    pub(super) fn read(&mut self, path: &Path, text: &str, diagnostics: &mut Vec<Diagnostic>) {
        let Ok(file) = u16::try_from(self.files.len()) else { return };
        self.files.push(path.into());
        let limit = diagnostics.len() + MAX_DIAGNOSTICS;
        let mut number = 0_u32;
        let (mut left_out, mut hidden) = (LeftOut::default(), None);
        for line in text.trim_start_matches('\u{feff}').lines() {
            number = number.saturating_add(1);
            let content = line.split('#').next().unwrap_or_default();
            let mut warn = |word: &str, expected: String| {
                if diagnostics.len() < limit {
                    let before = word.as_ptr().addr().saturating_sub(line.as_ptr().addr());
                    let column = line.get(..before).map_or(0, |text| text.chars().count()) + 1;
                    let column = u32::try_from(column).unwrap_or(u32::MAX);
                    let at = Location { file: path.into(), line: number, column };
                    diagnostics.push(Diagnostic::warning("hosts-line", at, expected).found(excerpt(word)));
                } else {
                    hidden.get_or_insert((number, 0)).1 += 1;
                }
            };
            let mut words = content.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            let Ok(address) = first.parse::<IpAddr>() else {
                // `fe80::1%lo0 localhost` is lawful elsewhere; a record cannot hold the zone.
                let zoned = first.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok());
                if !zoned || first.contains(char::REPLACEMENT_CHARACTER) {
                    warn(first, "an IPv4 or IPv6 address".to_owned());
                }
                continue;
            };
            // A set: a line may hold as many names as the file has room for.
            let single: HashSet<String, foldhash::fast::RandomState> =
                words.clone().filter(|word| !word.contains('.')).map(str::to_ascii_lowercase).collect();
            let mut names = 0;
            for word in words {
                names += 1;
                if word.contains(char::REPLACEMENT_CHARACTER) {
                    warn(word, "a name in UTF-8".to_owned());
                    continue;
                }
                let label = word.split('.').next().unwrap_or_default();
                let is_machine =
                    !single.is_empty() && label.len() < word.len() && single.contains(&label.to_ascii_lowercase());
                let entry = Entry { address, file, line: number, is_machine };
                match Name::parse(word) {
                    Ok(name) if !name.is_root() && name.labels().next() != Some(b"*") => {
                        if let Err(bound) = self.add(&name, entry) {
                            left_out.note(bound, number);
                        }
                    }
                    Ok(_) => warn(word, "a host name; wildcards belong into a [[zone]]".to_owned()),
                    Err(error) => warn(word, format!("a host name; this one has {error}")),
                }
            }
            if names == 0 {
                warn(first, "a name after the address".to_owned());
            }
        }
        left_out.problems = hidden;
        left_out.report(path, diagnostics);
    }

    fn add(&mut self, name: &Name, entry: Entry) -> Result<(), Bound> {
        let key: Box<[u8]> = name.to_lower().as_wire().into();
        if self.names.len() >= self.max_names && !self.names.contains_key(&key) {
            return Err(Bound::Names);
        }
        let entries = self.names.entry(key).or_default();
        if !entries.iter().any(|known| known.address == entry.address) {
            if entries.len() >= MAX_ADDRESSES {
                return Err(Bound::Addresses);
            }
            entries.push(entry);
        }
        if !entry.address.is_unspecified() {
            let key = reverse::name_of(entry.address);
            self.reverse.entry(key.as_wire().into()).or_insert_with(|| (name.clone(), entry));
        }
        Ok(())
    }

    fn entries(&self, name: &Name) -> &[Entry] {
        if self.names.is_empty() {
            return &[];
        }
        self.names.get(name.lower_wire().as_ref()).map(Vec::as_slice).unwrap_or_default()
    }

    /// Tells whether a line has the name, or its address when it is a reverse name.
    pub(super) fn has(&self, name: &Name) -> bool {
        !self.entries(name).is_empty() || self.reverse_target(name).is_some()
    }

    /// Tells whether the first line of a name is that of a machine: the hosts(5) form `ADDRESS NAME FIRST-LABEL`.
    pub(super) fn names_a_machine(&self, name: &Name) -> bool {
        self.entries(name).first().is_some_and(|entry| entry.is_machine)
    }

    /// Answers a question, when a line is about it.
    pub(super) fn answer(&self, qname: &Name, qtype: Rtype) -> Said {
        let entries = self.entries(qname);
        if entries.is_empty() {
            return match service_host(qname, qtype) {
                Some(host) if !self.entries(&host).is_empty() => self.nodata(qname, qtype, self.entries(&host)),
                _ => self.answer_reverse(qname, qtype),
            };
        }
        let wanted = match qtype {
            // RFC 8482: one RRset is enough of an answer.
            Rtype::ANY => rtype_of(entries[0].address),
            other => other,
        };
        let of_type: Vec<&Entry> = entries.iter().filter(|entry| rtype_of(entry.address) == wanted).collect();
        if let Some(first) = of_type.first() {
            let records: Vec<Record> = of_type.iter().map(|entry| address_record(qname, entry.address)).collect();
            let source = self.source(first, &records[0]);
            return Said::Answer(LocalAnswer::records(Origin::Hosts, records, source));
        }
        // Loopback has both families whatever the file says (RFC 6761 section 6.3): special.rs knows the other one.
        let is_localhost = qname.labels().last().is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"));
        if matches!(qtype, Rtype::A | Rtype::AAAA | Rtype::HTTPS | Rtype::SVCB) && !is_localhost {
            return self.nodata(qname, qtype, entries);
        }
        Said::Exists
    }

    fn answer_reverse(&self, qname: &Name, qtype: Rtype) -> Said {
        if self.reverse.is_empty() {
            return Said::Nothing;
        }
        let Some((target, entry)) = self.reverse.get(qname.lower_wire().as_ref()) else { return Said::Nothing };
        if qtype != Rtype::PTR && qtype != Rtype::ANY {
            return Said::Exists;
        }
        let record = reverse::ptr(qname, target, HOSTS_TTL_SECONDS);
        let source = self.source(entry, &record);
        Said::Answer(LocalAnswer::records(Origin::Hosts, vec![record], source))
    }

    fn nodata(&self, qname: &Name, qtype: Rtype, entries: &[Entry]) -> Said {
        let soa = soa::for_negative(qname, HOSTS_TTL_SECONDS);
        let at = entries.first().map(|entry| self.location(entry).to_string()).unwrap_or_default();
        let source = format!("{at} gives {qname} other addresses, so it has no {qtype}");
        Said::Answer(LocalAnswer::negative(Origin::Hosts, Rcode::NOERROR, soa, source))
    }

    /// Turns an NXDOMAIN from elsewhere into NODATA for a name that has a line here.
    pub(super) fn soften(answer: &mut LocalAnswer) {
        if answer.rcode == Rcode::NXDOMAIN && answer.answers.is_empty() {
            answer.rcode = Rcode::NOERROR;
            answer.ede = None;
            answer.source.push_str("; a hosts file has the name");
        }
    }

    /// Returns the lines about names that `is_public` accepts, in file order.
    pub(super) fn conflicts(&self, is_public: impl Fn(&Name) -> bool) -> Vec<HostsConflict> {
        let mut found: Vec<HostsConflict> = Vec::new();
        for (key, entries) in &self.names {
            let Ok(name) = Name::from_wire(key) else { continue };
            if is_public(&name) {
                found.extend(entries.iter().map(|entry| HostsConflict {
                    name: name.clone(),
                    address: entry.address,
                    at: self.location(entry),
                }));
            }
        }
        found.sort_by(|a, b| (&a.at, &a.name).cmp(&(&b.at, &b.name)));
        found
    }

    /// Returns the target of the PTR record the files give a reverse name.
    pub(super) fn reverse_target(&self, qname: &Name) -> Option<&Name> {
        if self.reverse.is_empty() {
            return None;
        }
        self.reverse.get(qname.lower_wire().as_ref()).map(|(target, _)| target)
    }

    /// Counts the names.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Feeds what the files say about a name into a hash; returns whether they say anything.
    pub(super) fn hash_name(&self, qname: &Name, state: &mut impl Hasher) -> bool {
        let host = service_host(qname, Rtype::HTTPS);
        let mut any = false;
        for entry in self.entries(qname).iter().chain(host.iter().flat_map(|host| self.entries(host))) {
            (entry.address, entry.is_machine).hash(state);
            any = true;
        }
        if let Some(target) = self.reverse_target(qname) {
            target.as_wire().hash(state);
            any = true;
        }
        if any {
            (self.on_conflict == OnConflict::Ignore).hash(state);
        }
        any
    }

    fn location(&self, entry: &Entry) -> Location {
        let file = self.files.get(usize::from(entry.file)).cloned().unwrap_or_else(|| Path::new("").into());
        Location { file, line: entry.line, column: 1 }
    }

    fn source(&self, entry: &Entry, record: &Record) -> String {
        let at = self.location(entry);
        format!("{}:{} {}", at.file.display(), at.line, record_line(record))
    }
}

fn rtype_of(address: IpAddr) -> Rtype {
    if address.is_ipv4() { Rtype::A } else { Rtype::AAAA }
}

fn address_record(owner: &Name, address: IpAddr) -> Record {
    let rdata: Box<[u8]> = match address {
        IpAddr::V4(v4) => Box::new(v4.octets()),
        IpAddr::V6(v6) => Box::new(v6.octets()),
    };
    let rtype = rtype_of(address);
    Record { owner: owner.clone(), rtype, class: CLASS_IN, ttl: HOSTS_TTL_SECONDS, rdata }
}

/// Makes the hasher of fingerprints: its seed is fixed, so that equal content is equal over reloads.
pub(super) fn stable_hasher() -> impl Hasher {
    foldhash::quality::FixedState::default().build_hasher()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Hosts, Vec<Diagnostic>) {
        let config =
            config::Hosts { files: Vec::new(), places: Vec::new(), watch: false, on_conflict: OnConflict::Warn };
        let mut diagnostics = Vec::new();
        let mut hosts = Hosts::load(&config, &mut diagnostics);
        hosts.read(Path::new("hosts"), text, &mut diagnostics);
        (hosts, diagnostics)
    }

    fn ask(hosts: &Hosts, name: &str, qtype: Rtype) -> Said {
        hosts.answer(&Name::parse(name).unwrap(), qtype)
    }

    fn lines(said: &Said) -> Vec<String> {
        match said {
            Said::Answer(answer) => answer.answers.iter().map(record_line).collect(),
            Said::Exists | Said::Nothing => panic!("{said:?}"),
        }
    }

    #[test]
    fn lines_with_comments_tabs_and_crlf_are_read() {
        let (hosts, problems) =
            read("# top\r\n192.0.2.1\tweb www.lab # two\r\n\r\n2001:db8::1 web\r\n192.0.2.2 WEB\r\n");
        assert_eq!(problems, []);
        assert_eq!(lines(&ask(&hosts, "Web", Rtype::A)), ["Web. 60 IN A 192.0.2.1", "Web. 60 IN A 192.0.2.2"]);
        assert_eq!(lines(&ask(&hosts, "web", Rtype::AAAA)), ["web. 60 IN AAAA 2001:db8::1"]);
        let Said::Answer(answer) = ask(&hosts, "www.lab", Rtype::A) else { panic!() };
        assert_eq!(answer.source, "hosts:2 www.lab. 60 IN A 192.0.2.1");
    }

    #[test]
    fn a_line_of_very_many_names_is_read() {
        // With a comparison of each name to each other one this takes minutes.
        let count = 80_000;
        let names: String = (0..count).map(|n| format!(" box{n}.lab BOX{n}")).collect();
        let (hosts, problems) = read(&format!("192.0.2.1{names}\n192.0.2.2 other.lab\n"));
        assert_eq!((hosts.len(), problems.len()), (2 * count + 1, 0));
        assert!(hosts.names_a_machine(&Name::parse("box79999.lab").unwrap()));
        assert!(!hosts.names_a_machine(&Name::parse("other.lab").unwrap()));
    }

    #[test]
    fn names_and_addresses_beyond_the_bounds_are_left_out_and_told() {
        let (mut hosts, _) = read("");
        assert_eq!(hosts.max_names, MAX_NAMES);
        hosts.max_names = 2;
        let mut problems = Vec::new();
        hosts.read(Path::new("hosts"), "192.0.2.1 a b\n192.0.2.2 c a d\n192.0.2.3 b\n", &mut problems);
        assert_eq!((hosts.len(), problems.len()), (2, 1), "{problems:?}");
        assert_eq!((problems[0].code, problems[0].at.line), ("too-many-hosts", 2));
        assert!(problems[0].found.starts_with("2 more"), "{}", problems[0].found);
        assert_eq!(lines(&ask(&hosts, "a", Rtype::A)).len(), 2, "names that are known go on taking addresses");
        let many: String = (0..MAX_ADDRESSES + 7).map(|n| format!("fd00::{n:x} many\n")).collect();
        let (hosts, problems) = read(&many);
        assert_eq!(lines(&ask(&hosts, "many", Rtype::AAAA)).len(), MAX_ADDRESSES);
        assert_eq!((problems.len(), problems[0].code), (1, "too-many-addresses"));
        assert!(problems[0].found.starts_with("7 more"), "{}", problems[0].found);
    }

    #[test]
    fn problems_of_one_file_are_bounded_and_counted() {
        let (_, problems) = read(&"x bad\n".repeat(MAX_DIAGNOSTICS + 50));
        assert_eq!(problems.len(), MAX_DIAGNOSTICS + 1);
        let (_, long) = read(&"x".repeat(1 << 20));
        assert_eq!(long[0].found, "x".repeat(80), "a word is shown in part");
        assert_eq!((problems[MAX_DIAGNOSTICS].code, problems[MAX_DIAGNOSTICS].at.line), ("hosts-more-problems", 101));
        assert!(problems[MAX_DIAGNOSTICS].found.starts_with("50 more"));
    }

    #[test]
    fn the_other_family_and_service_bindings_are_nodata_with_soa() {
        let (hosts, _) = read("192.0.2.1 web.example\n");
        for (name, qtype) in
            [("web.example", Rtype::AAAA), ("web.example", Rtype::HTTPS), ("_8443._https.web.example", Rtype::HTTPS)]
        {
            let Said::Answer(answer) = ask(&hosts, name, qtype) else { panic!("{name} {qtype}") };
            assert_eq!((answer.rcode, answer.answers.len(), answer.authority.len()), (Rcode::NOERROR, 0, 1));
        }
        assert!(matches!(ask(&hosts, "web.example", Rtype::MX), Said::Exists));
        assert!(matches!(ask(&hosts, "sub.web.example", Rtype::A), Said::Nothing));
    }

    #[test]
    fn ptr_names_the_first_line_of_an_address() {
        let (hosts, _) = read("192.0.2.1 first alias\n192.0.2.1 second\n0.0.0.0 ads.example\n");
        assert_eq!(
            lines(&ask(&hosts, "1.2.0.192.in-addr.arpa", Rtype::PTR)),
            ["1.2.0.192.in-addr.arpa. 60 IN PTR first."]
        );
        assert!(matches!(ask(&hosts, "0.0.0.0.in-addr.arpa", Rtype::PTR), Said::Nothing));
    }

    #[test]
    fn bad_lines_are_warnings_with_their_place_and_the_rest_counts() {
        let (hosts, problems) = read("nonsense here\n192.0.2.1\n192.0.2.2 a..b good *.x\nfe80::1%lo0 localhost\n");
        let places: Vec<_> = problems.iter().map(|p| (p.at.line, p.at.column, p.is_error())).collect();
        assert_eq!(places, [(1, 1, false), (2, 1, false), (3, 11, false), (3, 21, false)]);
        assert_eq!(hosts.len(), 1);
    }

    #[test]
    fn a_missing_file_is_a_warning() {
        let files = vec!["/nonexistent/hosts".into()];
        let mut problems = Vec::new();
        Hosts::load(
            &config::Hosts {
                files,
                places: vec![Location::file(Path::new("t.toml")); 2],
                watch: false,
                on_conflict: OnConflict::Warn,
            },
            &mut problems,
        );
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].is_error());
    }

    #[test]
    fn localhost_keeps_both_families() {
        let (hosts, _) = read("127.0.0.1 localhost\n");
        assert!(matches!(ask(&hosts, "localhost", Rtype::AAAA), Said::Exists));
        assert_eq!(lines(&ask(&hosts, "localhost", Rtype::A)), ["localhost. 60 IN A 127.0.0.1"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-f:.%# \\t\\r\\n*é\\\\]{0,80}") {
            read(&text);
        }
    }
}
