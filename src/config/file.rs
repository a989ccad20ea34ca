//! What a user may write: every table and key with its type, range, default and purpose.
//!
//! This is the one source of the reader, of `config/truename.toml`, of the JSON schema and of `docs/config.md`. A key
//! is added here, and `check.rs` puts its value into the `Config`.

mod upstream;

use super::keys::{Key, Kind, Presence, TableDef, Words};
use super::model::{GuardMode, ListFormat, LogFormat, LogLevel, OnConflict, OnFailure, PrivateAnswers, Tristate};

pub(crate) use upstream::{FLOOR, STRATEGY, UPSTREAM};

use Presence::{Always, Default, Optional, Required};

/// The format of the file this version reads.
pub const FORMAT_VERSION: i64 = 1;
/// RFC 2181 section 8: a TTL is at most 2^31 - 1 seconds.
const MAX_TTL_MS: u64 = (i32::MAX as u64) * 1000;
/// Clients wait 4.5 s in all, and an answer must still reach them (docs/promises.md 1).
const MAX_GUARD_BUDGET_MS: u64 = 4000;
/// A week; no cache entry lives longer (RFC 8767 section 4 calls this the sensible cap).
const MAX_CACHE_TTL_MS: u64 = 7 * 86_400_000;

/// The shortest and the longest time for which incidents are kept.
const MIN_INCIDENT_LIFE_MS: u64 = 3_600_000;
const MAX_INCIDENT_LIFE_MS: u64 = 366 * 86_400_000;

/// A TTL.
const TTL: Kind = Kind::Duration { min_ms: 0, max_ms: MAX_TTL_MS, whole_seconds: true };

/// `private_answers`.
pub(crate) const PRIVATE_ANSWERS: Words<PrivateAnswers> = Words {
    words: &["auto", "drop", "allow"],
    meanings: &[PrivateAnswers::Auto, PrivateAnswers::Drop, PrivateAnswers::Allow],
};
/// `guard`.
pub(crate) const GUARD: Words<GuardMode> = Words {
    words: &["off", "sample", "watch", "enforce"],
    meanings: &[GuardMode::Off, GuardMode::Sample, GuardMode::Watch, GuardMode::Enforce],
};
/// `route.private` when it is a word.
pub(crate) const PRIVATE: Words<Tristate> = Words { words: &["auto"], meanings: &[Tristate::Auto] };
/// `route.on_failure`.
pub(crate) const ON_FAILURE: Words<OnFailure> =
    Words { words: &["servfail", "default"], meanings: &[OnFailure::Servfail, OnFailure::Default] };
/// `names_from.format`.
pub(crate) const LIST_FORMAT: Words<ListFormat> = Words {
    words: &["domains", "hosts", "dnsmasq"],
    meanings: &[ListFormat::Domains, ListFormat::Hosts, ListFormat::Dnsmasq],
};
/// `hosts.on_conflict`.
pub(crate) const ON_CONFLICT: Words<OnConflict> =
    Words { words: &["warn", "ignore"], meanings: &[OnConflict::Warn, OnConflict::Ignore] };
/// `log.level`.
pub(crate) const LOG_LEVEL: Words<LogLevel> = Words {
    words: &["error", "warn", "info", "debug", "trace"],
    meanings: &[LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace],
};
/// `log.format`.
pub(crate) const LOG_FORMAT: Words<LogFormat> =
    Words { words: &["auto", "text", "json"], meanings: &[LogFormat::Auto, LogFormat::Text, LogFormat::Json] };

const PATTERNS: Kind = Kind::List(&Kind::Pattern);
const IDENTIFIERS: Kind = Kind::List(&Kind::Identifier);
const VIEWS_DOC: &str = "The views it is for; absent: all.";

/// The whole file.
pub static ROOT: TableDef = TableDef {
    doc: "Every line is optional; an empty file is a good configuration.",
    keys: &[
        Key {
            name: "version",
            kind: Kind::Integer { min: FORMAT_VERSION, max: FORMAT_VERSION },
            presence: Default("1"),
            doc: "The format of this file.",
        },
        Key {
            name: "include",
            kind: Kind::List(&Kind::Text),
            presence: Default("[]"),
            doc: "Files read after this one, such as \"conf.d/*.toml\": relative to this file's folder, in name order, \
                  `*` and `?` in the last part. Tables are merged, a key set twice is an error, [[…]] are appended.",
        },
        Key { name: "server", kind: Kind::Table(&SERVER), presence: Always, doc: "" },
        Key { name: "upstream", kind: Kind::Named(&UPSTREAM), presence: Always, doc: "" },
        Key { name: "default", kind: Kind::Table(&DEFAULT), presence: Always, doc: "" },
        Key { name: "route", kind: Kind::Tables(&ROUTE), presence: Optional(""), doc: "" },
        Key { name: "zone", kind: Kind::Tables(&ZONE), presence: Optional(""), doc: "" },
        Key { name: "hosts", kind: Kind::Table(&HOSTS), presence: Always, doc: "" },
        Key { name: "rewrite", kind: Kind::Tables(&REWRITE), presence: Optional(""), doc: "" },
        Key { name: "cache", kind: Kind::Table(&CACHE), presence: Always, doc: "" },
        Key { name: "guard", kind: Kind::Table(&GUARD_TABLE), presence: Always, doc: "" },
        Key { name: "view", kind: Kind::Tables(&VIEW), presence: Optional(""), doc: "" },
        Key { name: "stats", kind: Kind::Table(&STATS), presence: Always, doc: "" },
        Key { name: "log", kind: Kind::Table(&LOG), presence: Always, doc: "" },
    ],
};

static SERVER: TableDef = TableDef {
    doc: "Listeners and their limits.",
    keys: &[
        Key {
            name: "listen",
            kind: Kind::List(&Kind::Listen),
            presence: Default(r#"["127.0.0.1:53", "[::1]:53"]"#),
            doc: "Addresses to answer on, UDP and TCP each; port 0 lets the system choose one.",
        },
        Key {
            name: "udp_payload_bytes",
            // RFC 6891 section 6.2.3: values below 512 mean 512; section 6.2.5 names 4096 as the usual upper end.
            kind: Kind::Integer { min: 512, max: 4096 },
            presence: Default("1232"),
            doc: "The largest UDP answer; longer ones are truncated and asked again over TCP.",
        },
        Key {
            name: "workers",
            kind: Kind::Either(&Kind::Word(&["auto"]), &Kind::Integer { min: 1, max: 64 }),
            presence: Default("\"auto\""),
            doc: "Worker threads; \"auto\": one per core, at most 4.",
        },
        Key {
            name: "max_in_flight",
            kind: Kind::Integer { min: 1, max: 1_000_000 },
            presence: Default("4096"),
            doc: "Questions being worked on at once; beyond it: SERVFAIL with EDE 14, never silence.",
        },
        Key {
            name: "tcp_idle_timeout",
            kind: Kind::Duration { min_ms: 1000, max_ms: 600_000, whole_seconds: false },
            presence: Default("\"10s\""),
            doc: "How long a client's TCP connection may be idle.",
        },
        Key {
            name: "edns_errors",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Say in answers what went wrong (extended DNS errors, RFC 8914).",
        },
        Key { name: "access", kind: Kind::Table(&ACCESS), presence: Always, doc: "" },
    ],
};

static ACCESS: TableDef = TableDef {
    doc: "Who may ask.",
    keys: &[Key {
        name: "allow",
        kind: Kind::List(&Kind::Network),
        presence: Default(r#"["127.0.0.0/8", "::1/128"]"#),
        doc: "Clients that are answered; anybody else gets REFUSED.",
    }],
};

/// Whatever tools load and run: what is forged there does most harm. Distributions are not among them, since their packages
/// are signed and their mirrors are chosen by where the resolver is.
const TRUSTED_PRESETS: &str = r#"["git", "go", "npm", "pypi", "crates", "docker", "containers", "maven", "gradle", "rubygems", "php", "nuget", "dart", "elixir", "haskell", "conda", "homebrew"]"#;

static DEFAULT: TableDef = TableDef {
    doc: "Names that no route matches.",
    keys: &[
        Key { name: "upstream", kind: Kind::Identifier, presence: Default("\"system\""), doc: "The group asked." },
        Key {
            name: "trusted_presets",
            kind: IDENTIFIERS,
            presence: Default(TRUSTED_PRESETS),
            doc: "Presets whose names go to the group `trusted` when no route takes them, and to the default's group when \
                  nothing of `trusted` can be reached. Without the key, only where names otherwise go to `system`: not in \
                  a view, or at all, when `upstream` names another group.",
        },
        Key {
            name: "trusted_guard",
            kind: Kind::Word(GUARD.words),
            presence: Default("\"enforce\""),
            doc: "How replies about the names of `trusted_presets` are judged, as in `guard`. With \"enforce\" it costs nothing while \
                  `trusted` answers; what other groups say in its place is kept for 30 s at most, and never that there is no such name.",
        },
        Key {
            name: "time_servers",
            kind: Kind::List(&Kind::DomainName),
            presence: Default(TIME_SERVERS),
            doc: "Exactly these names are asked of the group `system` too, in plain if need be, when their own group fails \
                  while this machine's clock is so wrong that certificates fail: else it could never be set. []: none.",
        },
        Key {
            name: "guard",
            kind: Kind::Word(GUARD.words),
            presence: Default("\"off\""),
            doc: "\"enforce\": replies about these names are held against one of the group that [guard] names, and only what \
                  stands goes out; \"watch\": they go out as they come, and what would not stand is counted and recorded; \
                  \"sample\": the same for a few, one in ten seconds at most and sooner only what looks wrong by itself; \
                  \"off\": replies are believed. Never for local zones and private routes.",
        },
        Key {
            name: "private_answers",
            kind: Kind::Word(PRIVATE_ANSWERS.words),
            presence: Default("\"auto\""),
            doc: "Private addresses in answers (rebinding): \"auto\" drops them when a public server gave them, and \
                  loopback ones from any server; \"drop\" always; \"allow\" never.",
        },
    ],
};

/// What systemd-timesyncd, chrony and ntpd ask as Debian, Ubuntu, Fedora, Arch, Alpine and OpenWrt ship them.
const TIME_SERVERS: &str = r#"["pool.ntp.org", "0.debian.pool.ntp.org", "1.debian.pool.ntp.org", "2.debian.pool.ntp.org", "3.debian.pool.ntp.org", "ntp.ubuntu.com", "2.fedora.pool.ntp.org", "2.arch.pool.ntp.org", "0.openwrt.pool.ntp.org"]"#;

static VIEW_DEFAULT: TableDef = TableDef {
    doc: "Names that no route matches, for clients of this view.",
    keys: &[
        Key {
            name: "upstream",
            kind: Kind::Identifier,
            presence: Optional("\"corp\""),
            doc: "The group asked; absent: that of [default].",
        },
        Key {
            name: "private_answers",
            kind: Kind::Word(PRIVATE_ANSWERS.words),
            presence: Optional("\"auto\""),
            doc: "Private addresses in answers; absent: as [default] says.",
        },
        Key {
            name: "guard",
            kind: Kind::Word(GUARD.words),
            presence: Optional("\"enforce\""),
            doc: "Whether replies are judged; absent: as [default] says.",
        },
    ],
};

static GUARD_TABLE: TableDef = TableDef {
    doc: "How replies about guarded names are judged; which names are guarded, their route says.",
    keys: &[
        Key {
            name: "references",
            kind: Kind::Identifier,
            presence: Default("\"trusted\""),
            doc: "The group whose replies are believed: encrypted, and of operators that nobody lies to.",
        },
        Key {
            name: "budget",
            kind: Kind::Duration { min_ms: 0, max_ms: MAX_GUARD_BUDGET_MS, whole_seconds: false },
            presence: Default("\"250ms\""),
            doc: "How long a client who has an answer at hand waits for one to hold it against. Without one in time the \
                  answer goes out for 30 s at most, unless something speaks hard against it.",
        },
        Key {
            name: "hold_on",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Listen for a second reply to a question that went out in a plain datagram, when nothing confirms the first: \
                  forged replies win races. 150 ms, 400 ms for a day after such a pair was seen, never longer than `budget`.",
        },
        Key {
            name: "proofs",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Look whose certificate the address of a guarded name shows, when replies differ or no group that is believed \
                  can be reached: a TLS handshake with its port 443, over which nothing is sent. While nobody who is believed \
                  answers, the other groups in use are asked about such a name too, and an address that proves itself is \
                  believed.",
        },
        Key {
            name: "forged_addresses",
            kind: Kind::List(&Kind::Network),
            presence: Default("[]"),
            doc: "Addresses, or networks, that are known to stand in forged replies: a reply of a guarded, watched or sampled name \
                  that has one is forged. 10,000 at most.",
        },
        Key {
            name: "allow_divergent",
            kind: PATTERNS,
            presence: Default("[]"),
            doc: "Names whose replies may differ from the trusted ones lawfully, as those of a CDN with servers in your own \
                  network: that addresses differ speaks against none of them. What speaks against a reply by itself still does. \
                  64 at most.",
        },
        Key {
            name: "decoys",
            kind: Kind::List(&Kind::Bootstrap),
            presence: Default("[]"),
            doc: "Addresses beyond your provider at which no resolver is, such as unused ones of your own. When replies in plain \
                  datagrams differ about a guarded name, its question is sent to the next of them as well, one an hour at most: \
                  if it is answered, somebody on the way answers for others. 4 at most; []: none.",
        },
        Key {
            name: "persist",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Keep incidents in the state directory over restarts: what was found against upstreams, with the names and \
                  packets concerned. Read at the start only.",
        },
        Key {
            name: "keep",
            kind: Kind::Duration { min_ms: MIN_INCIDENT_LIFE_MS, max_ms: MAX_INCIDENT_LIFE_MS, whole_seconds: true },
            presence: Default("\"30d\""),
            doc: "How long an incident is kept after it was last seen; of more than 512 the one seen longest ago goes.",
        },
        Key {
            name: "packets",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Keep the packets that show it with an incident, four at most.",
        },
    ],
};

static ROUTE: TableDef = TableDef {
    doc: "Which names go to which upstream group. The pattern with the most labels wins; at equal labels `=name` over \
          `name` over `*.name`; then the order in the file. `example.org` is the name and all below, `*.example.org` all \
          below but not itself, `=example.org` only itself, `.` everything.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Identifier,
            presence: Optional("\"corp\""),
            doc: "Its name in logs and explanations; absent: route-1, route-2, … by its place.",
        },
        Key { name: "names", kind: PATTERNS, presence: Optional("[\"corp.example\"]"), doc: "Name patterns." },
        Key {
            name: "exclude",
            kind: PATTERNS,
            presence: Optional("[\"public.corp.example\"]"),
            doc: "Patterns taken out of this route; the next best route decides about them.",
        },
        Key {
            name: "presets",
            kind: IDENTIFIERS,
            presence: Optional("[\"go\", \"git\"]"),
            doc: "Shipped lists of the domains an ecosystem downloads from.",
        },
        Key { name: "views", kind: IDENTIFIERS, presence: Optional("[\"office\"]"), doc: VIEWS_DOC },
        Key {
            name: "names_from",
            kind: Kind::List(&Kind::Table(&NAMES_FROM)),
            presence: Optional("[{ path = \"inside.txt\", format = \"domains\" }]"),
            doc: "Files with more names, relative to this file's folder.",
        },
        Key { name: "upstream", kind: Kind::Identifier, presence: Required("\"system\""), doc: "The group asked." },
        Key {
            name: "guard",
            kind: Kind::Word(GUARD.words),
            presence: Optional("\"enforce\""),
            doc: "Whether replies about its names are judged; absent: as the default says. Never for private routes.",
        },
        Key {
            name: "private",
            kind: Kind::Either(&Kind::Word(PRIVATE.words), &Kind::Boolean),
            presence: Default("\"auto\""),
            doc: "Whether its names are private and never reach a public server; \"auto\": when all servers of its group \
                  have private addresses and its names are not `.`.",
        },
        Key {
            name: "on_failure",
            kind: Kind::Word(ON_FAILURE.words),
            presence: Optional("\"servfail\""),
            doc: "When the group and its fallback are down: SERVFAIL, or ask the default's group; absent: \"servfail\" \
                  for private routes and for groups with `floor = \"encrypted\"` (or all of whose servers have it), \
                  \"default\" for others.",
        },
        Key {
            name: "private_answers",
            kind: Kind::Word(PRIVATE_ANSWERS.words),
            presence: Optional("\"allow\""),
            doc: "Private addresses in answers; absent: \"allow\" for private routes, else as the default says.",
        },
    ],
};

static NAMES_FROM: TableDef = TableDef {
    doc: "A file with names.",
    keys: &[
        Key { name: "path", kind: Kind::Text, presence: Required("\"inside.txt\""), doc: "The file." },
        Key {
            name: "format",
            kind: Kind::Word(LIST_FORMAT.words),
            presence: Default("\"domains\""),
            doc: "One pattern a line, the names of a hosts file, or dnsmasq's server=/…/ lines.",
        },
    ],
};

static ZONE: TableDef = TableDef {
    doc: "Names answered here. A zone without SOA gets one made.",
    keys: &[
        Key { name: "name", kind: Kind::DomainName, presence: Required("\"lab.example\""), doc: "The zone's apex." },
        Key { name: "ttl", kind: TTL, presence: Default("\"60s\""), doc: "The TTL of records that give none." },
        Key {
            name: "records",
            kind: Kind::List(&Kind::Table(&RECORD)),
            presence: Optional(r#"[{ name = "git", type = "A", value = "10.1.0.5" }]"#),
            doc: "Records; names are relative to the zone unless they end in a dot, `@` is the zone itself.",
        },
        Key {
            name: "file",
            kind: Kind::Text,
            presence: Optional("\"zones/lab.example.zone\""),
            doc: "A zone file (RFC 1035), relative to this file's folder.",
        },
        Key {
            name: "reverse",
            kind: Kind::Boolean,
            presence: Default("false"),
            doc: "Make PTR records from its A and AAAA records.",
        },
        Key {
            name: "fallthrough",
            kind: Kind::Boolean,
            presence: Default("false"),
            doc: "Forward names and types that are not here.",
        },
        Key { name: "views", kind: IDENTIFIERS, presence: Optional("[\"office\"]"), doc: VIEWS_DOC },
    ],
};

static RECORD: TableDef = TableDef {
    doc: "One record.",
    keys: &[
        Key {
            name: "name",
            kind: Kind::Text,
            presence: Default("\"@\""),
            doc: "Its owner, relative to the zone unless it ends in a dot.",
        },
        Key { name: "type", kind: Kind::RecordType, presence: Required("\"A\""), doc: "Its type." },
        Key { name: "value", kind: Kind::Text, presence: Required("\"10.1.0.5\""), doc: "Its data as in a zone file." },
        Key { name: "ttl", kind: TTL, presence: Optional("\"60s\""), doc: "Its TTL; absent: the zone's." },
    ],
};

static HOSTS: TableDef = TableDef {
    doc: "Hosts files.",
    keys: &[
        Key {
            name: "files",
            kind: Kind::List(&Kind::Text),
            presence: Default("[\"/etc/hosts\"]"),
            doc: "Files that are read, in order.",
        },
        Key { name: "watch", kind: Kind::Boolean, presence: Default("true"), doc: "Read them again when they change." },
        Key {
            name: "on_conflict",
            kind: Kind::Word(ON_CONFLICT.words),
            presence: Default("\"warn\""),
            doc: "A line for a public name: \"warn\" uses and reports it, \"ignore\" leaves it out. A line that has a name \
                  and its first label by itself (10.0.0.9 box.example.net box) is about a machine of this network.",
        },
    ],
};

static REWRITE: TableDef = TableDef {
    doc: "Names that get one fixed answer.",
    keys: &[
        Key {
            name: "names",
            kind: PATTERNS,
            presence: Required("[\"registry.old.example\"]"),
            doc: "Name patterns, as in routes.",
        },
        Key {
            name: "answer",
            kind: Kind::Table(&REWRITE_ANSWER),
            presence: Required(r#"{ type = "CNAME", value = "registry.lab.example." }"#),
            doc: "The answer: type, value and ttl.",
        },
        Key { name: "views", kind: IDENTIFIERS, presence: Optional("[\"office\"]"), doc: VIEWS_DOC },
    ],
};

static REWRITE_ANSWER: TableDef = TableDef {
    doc: "The answer of a rewrite.",
    keys: &[
        Key { name: "type", kind: Kind::RecordType, presence: Required("\"CNAME\""), doc: "Its type." },
        Key {
            name: "value",
            kind: Kind::Text,
            presence: Required("\"registry.lab.example.\""),
            doc: "Its data as in a zone file; names are absolute.",
        },
        Key { name: "ttl", kind: TTL, presence: Default("\"60s\""), doc: "Its TTL." },
    ],
};

static CACHE: TableDef = TableDef {
    doc: "The cache.",
    keys: &[
        Key {
            name: "max_entries",
            kind: Kind::Integer { min: 0, max: 100_000_000 },
            presence: Default("50_000"),
            doc: "Answers kept at most; 0 turns the cache off.",
        },
        Key {
            name: "max_bytes",
            kind: Kind::Bytes { min: 64 << 10, max: 1 << 40 },
            presence: Default("\"32 MiB\""),
            doc: "Memory for them at most.",
        },
        Key {
            name: "min_ttl",
            kind: Kind::Duration { min_ms: 0, max_ms: 3_600_000, whole_seconds: true },
            presence: Default("\"0s\""),
            doc: "Answers are kept at least so long (failures excepted).",
        },
        Key {
            name: "max_ttl",
            kind: Kind::Duration { min_ms: 1000, max_ms: MAX_CACHE_TTL_MS, whole_seconds: true },
            presence: Default("\"24h\""),
            doc: "Answers are kept at most so long.",
        },
        Key {
            name: "negative_ttl_max",
            kind: Kind::Duration { min_ms: 0, max_ms: 86_400_000, whole_seconds: true },
            presence: Default("\"5m\""),
            doc: "Answers that a name or type does not exist are kept at most so long (RFC 2308).",
        },
        Key {
            name: "persist",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Keep the cache across restarts, in a file of the state directory that only its owner can read: the \
                  names that were looked up stand in it, those of private routes included. false removes the file.",
        },
        Key { name: "serve_stale", kind: Kind::Table(&SERVE_STALE), presence: Always, doc: "" },
        Key { name: "prefetch", kind: Kind::Table(&PREFETCH), presence: Always, doc: "" },
    ],
};

static SERVE_STALE: TableDef = TableDef {
    doc: "Answers past their TTL, for when no upstream gives another (RFC 8767). Never local data, never failures.",
    keys: &[
        Key {
            name: "enabled",
            kind: Kind::Boolean,
            presence: Default("true"),
            doc: "Answer with what was true before rather than not at all.",
        },
        Key {
            name: "after",
            // A client must still get a fresh answer or a SERVFAIL before it asks again.
            kind: Kind::Duration { min_ms: 0, max_ms: 4000, whole_seconds: false },
            presence: Default("\"350ms\""),
            doc: "How long upstreams are waited for before; asking them goes on behind the stale answer.",
        },
        Key {
            name: "max_age",
            kind: Kind::Duration { min_ms: 0, max_ms: MAX_CACHE_TTL_MS, whole_seconds: true },
            presence: Default("\"24h\""),
            doc: "How long past its TTL an answer may be used.",
        },
        Key {
            name: "reply_ttl",
            // RFC 8767 section 4 recommends 30 s; longer would keep clients from what the refresh found.
            kind: Kind::Duration { min_ms: 1000, max_ms: 30_000, whole_seconds: true },
            presence: Default("\"30s\""),
            doc: "The highest TTL a stale answer shows.",
        },
    ],
};

static PREFETCH: TableDef = TableDef {
    doc: "Popular answers are asked for again shortly before they expire, so that nobody waits for them.",
    keys: &[
        Key { name: "enabled", kind: Kind::Boolean, presence: Default("true"), doc: "Do so." },
        Key {
            name: "min_hits",
            kind: Kind::Integer { min: 1, max: 255 },
            presence: Default("3"),
            doc: "How often an answer must have been used since it was stored.",
        },
        Key {
            name: "before_expiry",
            kind: Kind::Percent { min: 1, max: 50 },
            presence: Default("\"10%\""),
            doc: "The last part of its TTL in which being used makes it be asked for again.",
        },
    ],
};

static VIEW: TableDef = TableDef {
    doc: "The answers one group of clients sees. Views are tried in file order; the first that matches is the client's.",
    keys: &[
        Key { name: "name", kind: Kind::Identifier, presence: Required("\"office\""), doc: "Its name." },
        Key {
            name: "clients",
            kind: Kind::List(&Kind::Network),
            presence: Optional("[\"10.0.0.0/8\"]"),
            doc: "Clients that are in it; absent: any.",
        },
        Key {
            name: "listen",
            kind: Kind::List(&Kind::Listen),
            presence: Optional("[\"172.17.0.1:53\"]"),
            doc: "Listeners whose clients are in it; absent: any. They stand in [server] listen, too.",
        },
        Key {
            name: "default",
            kind: Kind::Table(&VIEW_DEFAULT),
            presence: Optional("{ upstream = \"system\" }"),
            doc: "Its own [default]: upstream and private_answers.",
        },
    ],
};

/// `stats.socket` and `stats.control` when they are a word.
const SOCKET: &[&str] = &["auto", SOCKET_OFF];
/// The word for no socket.
pub(crate) const SOCKET_OFF: &str = "off";

static STATS: TableDef = TableDef {
    doc: "Looking inside: HTTP over Unix sockets, and a listener for Prometheus, which cannot ask those. A change counts \
          from the next start on.",
    keys: &[
        Key {
            name: "socket",
            kind: Kind::Either(&Kind::Word(SOCKET), &Kind::SocketPath),
            presence: Default("\"auto\""),
            doc: "The socket that everybody on this machine may read: sums, no names, no clients. \"auto\": stats.sock in \
                  the runtime directory (/run/truename for a service).",
        },
        Key {
            name: "control",
            kind: Kind::Either(&Kind::Word(SOCKET), &Kind::SocketPath),
            presence: Default("\"auto\""),
            doc: "The socket for its owner and the group truename: everything, names and actions included. \"auto\": \
                  control.sock in the runtime directory.",
        },
        Key {
            name: "prometheus_listen",
            kind: Kind::Either(&Kind::Word(&["off"]), &Kind::Listen),
            presence: Default("\"off\""),
            doc: "A loopback address for /metrics, /healthz and /readyz, such as \"127.0.0.1:9553\".",
        },
        Key {
            name: "recent_queries",
            kind: Kind::Integer { min: 0, max: 10_000_000 },
            presence: Default("4096"),
            doc: "The last questions are remembered, with names, clients and answers, for `truename log`; only the control \
                  socket tells them. About so many of all workers together, 128 octets each; 0: none.",
        },
    ],
};

/// The word for the journal.
pub(crate) const QUERIES_JOURNAL: &str = "journal";

static LOG: TableDef = TableDef {
    doc: "Logging.",
    keys: &[
        Key {
            name: "level",
            kind: Kind::Word(LOG_LEVEL.words),
            presence: Default("\"info\""),
            doc: "How much is logged.",
        },
        Key {
            name: "format",
            kind: Kind::Word(LOG_FORMAT.words),
            presence: Default("\"auto\""),
            doc: "How lines look; \"auto\": text on a terminal, JSON otherwise.",
        },
        Key {
            name: "queries",
            kind: Kind::Either(&Kind::Word(&["off", QUERIES_JOURNAL]), &Kind::FilePath),
            presence: Default("\"off\""),
            doc: "Where every question is written, with names, clients and answers: \"journal\", in fields TRUENAME_…; or a \
                  file, one JSON object a line, mode 0640, such as \"/var/log/truename/queries.ndjson\".",
        },
        Key {
            name: "queries_max_bytes",
            kind: Kind::Bytes { min: 64 << 10, max: 1 << 40 },
            presence: Default("\"16 MiB\""),
            doc: "Octets of that file; then it is renamed to FILE.1, the one before to FILE.2 and so on. SIGHUP opens it anew.",
        },
        Key {
            name: "queries_files",
            kind: Kind::Integer { min: 1, max: 1000 },
            presence: Default("4"),
            doc: "Files kept, the one being written included.",
        },
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_meaning() {
        assert_eq!(STRATEGY.words.len(), STRATEGY.meanings.len());
        assert_eq!(FLOOR.words.len(), FLOOR.meanings.len());
        assert_eq!(PRIVATE_ANSWERS.words.len(), PRIVATE_ANSWERS.meanings.len());
        assert_eq!(PRIVATE.words.len(), PRIVATE.meanings.len());
        assert_eq!(ON_FAILURE.words.len(), ON_FAILURE.meanings.len());
        assert_eq!(LIST_FORMAT.words.len(), LIST_FORMAT.meanings.len());
        assert_eq!(ON_CONFLICT.words.len(), ON_CONFLICT.meanings.len());
        assert_eq!(LOG_LEVEL.words.len(), LOG_LEVEL.meanings.len());
        assert_eq!(LOG_FORMAT.words.len(), LOG_FORMAT.meanings.len());
    }
}
