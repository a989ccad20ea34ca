//! Encrypted upstreams as other people make them, certificates of our own, and what stands between.

use super::eventually;
use hickory_server::proto::rr::rdata::A;
use hickory_server::proto::rr::{LowerName, Name as HickoryName, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use truename::clock::Clock;
use truename::config::{
    Config, Group, GroupId, Rung, Strategy, Upstream, UpstreamHost, UpstreamOptions, UpstreamTransport,
};
use truename::dns::wire::{Message, Section};
use truename::dns::{Name, QuestionKey, Rtype, Trace};
use truename::stats::{Counter, Stats};
use truename::upstream::{Ask, Failure, Net, Reply, Upstreams};

/// The name in the certificates.
pub(crate) const NAME: &str = "dns.example";
/// What every server answers for every name below `test`.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
/// All that a question may take.
const BUDGET: Duration = Duration::from_millis(4500);

/// A certification authority of our own, its files, and those of a server.
pub(crate) struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) folder: TempDir,
}

/// A certificate with its key, in memory and as files.
pub(crate) struct Identity {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, format!("test authority {:08x}", rand::random::<u32>()));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.as_ref().pem()).unwrap();
        Self { issuer, folder }
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Issues a certificate; `change` may spoil it.
    pub(crate) fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (params, key) = Self::prepare(names, change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(certificate, key)
    }

    /// Makes a certificate that nobody but itself has signed.
    pub(crate) fn self_signed(&self, names: &[&str]) -> Identity {
        let (params, key) = Self::prepare(names, |_| {});
        let certificate = params.self_signed(&key).unwrap();
        self.write(certificate, key)
    }

    /// Issues the usual certificate.
    pub(crate) fn server(&self) -> Identity {
        self.issue(&[NAME, "127.0.0.1"], |_| {})
    }

    fn prepare(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        (params, KeyPair::generate().unwrap())
    }

    fn write(&self, certificate: Certificate, key: KeyPair) -> Identity {
        let unique = format!("{:016x}", rand::random::<u64>());
        let certificate_file = self.folder.path().join(format!("{unique}.pem"));
        let key_file = self.folder.path().join(format!("{unique}.key"));
        std::fs::write(&certificate_file, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        Identity { certificate, key, certificate_file, key_file }
    }
}

impl Identity {
    /// Returns the pin of its key.
    pub(crate) fn pin(&self) -> [u8; 32] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.key.subject_public_key_info());
        digest.as_ref().try_into().unwrap()
    }

    /// Makes TLS rules for a server with it; no protocol is chosen when `alpn` is empty.
    pub(crate) fn server_config(&self, alpn: &[&[u8]]) -> Arc<rustls::ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        server_config(self.certificate.der().clone(), key, alpn)
    }
}

/// Makes TLS rules for a server.
pub(crate) fn server_config(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    Arc::new(config)
}

/// A server of somebody else's as a process, ended on drop.
pub(crate) struct Server {
    child: Child,
    pub(crate) dot: SocketAddr,
    pub(crate) doh: SocketAddr,
    _folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub(crate) fn unbound(identity: &Identity) -> Option<Self> {
        Self::start("unbound", &["/usr/sbin/unbound"], |folder, dot, doh| Self::for_unbound(identity, folder, dot, doh))
    }

    /// Starts unbound with DoT at a port that was free a moment ago.
    pub(crate) fn unbound_at(identity: &Identity, dot: u16) -> Option<Self> {
        let prepare = |folder: &Path, dot, doh| Self::for_unbound(identity, folder, dot, doh);
        Self::start_at("unbound", &["/usr/sbin/unbound"], Some(dot), prepare)
    }

    fn for_unbound(identity: &Identity, folder: &Path, dot: u16, doh: u16) -> Vec<PathBuf> {
        let config = unbound_config(identity, folder, "127.0.0.1", [dot, doh]);
        std::fs::write(folder.join("unbound.conf"), config).unwrap();
        vec!["-d".into(), "-c".into(), folder.join("unbound.conf")]
    }

    pub(crate) fn dnsdist(identity: &Identity) -> Option<Self> {
        Self::start("dnsdist", &["/usr/bin/dnsdist"], |folder, dot, doh| {
            let (certificate, key) = (identity.certificate_file.display(), identity.key_file.display());
            let config = format!(
                "setLocal('127.0.0.1:0')\nsetSecurityPollSuffix('')\naddTLSLocal('127.0.0.1:{dot}', '{certificate}', '{key}')\n\
                 addDOHLocal('127.0.0.1:{doh}', '{certificate}', '{key}', {{'/dns-query'}})\n\
                 addAction(AllRule(), SpoofAction({{'{ADDRESS}'}}))\n"
            );
            std::fs::write(folder.join("dnsdist.conf"), config).unwrap();
            vec!["--supervised".into(), "--disable-syslog".into(), "-C".into(), folder.join("dnsdist.conf")]
        })
    }

    pub(crate) fn knot(identity: &Identity) -> Option<Self> {
        Self::start("kresd", &["/usr/sbin/kresd"], |folder, dot, doh| {
            let (certificate, key) = (identity.certificate_file.display(), identity.key_file.display());
            let config = format!(
                "modules.unload('ta_update')\nmodules.unload('ta_signal_query')\nmodules.unload('priming')\ntrust_anchors.remove('.')\n\
                 cache.size = 2 * MB\nnet.tls('{certificate}', '{key}')\n\
                 net.listen('127.0.0.1', {dot}, {{ kind = 'tls' }})\nnet.listen('127.0.0.1', {doh}, {{ kind = 'doh2' }})\n\
                 policy.add(policy.all(policy.ANSWER({{ [kres.type.A] = {{ rdata = kres.str2ip('{ADDRESS}'), ttl = 300 }} }})))\n"
            );
            std::fs::write(folder.join("kresd.conf"), config).unwrap();
            vec!["-n".into(), "-q".into(), "-c".into(), folder.join("kresd.conf"), folder.to_owned()]
        })
    }

    /// Starts a server; `None`, after saying so, when it is not installed. In CI that is a failure.
    fn start(name: &str, paths: &[&str], prepare: impl Fn(&Path, u16, u16) -> Vec<PathBuf>) -> Option<Self> {
        Self::start_at(name, paths, None, prepare)
    }

    /// Starts a server whose DoT is at a port that was decided before, if any.
    fn start_at(
        name: &str,
        paths: &[&str],
        decided: Option<u16>,
        prepare: impl Fn(&Path, u16, u16) -> Vec<PathBuf>,
    ) -> Option<Self> {
        let program = installed(name, paths)?;
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let [dot, doh] = free_ports();
            let dot = decided.unwrap_or(dot);
            let arguments = prepare(folder.path(), dot, doh);
            let mut command = Command::new(program);
            command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
            let log_file = std::fs::File::create(folder.path().join("log")).unwrap();
            command.stdout(log_file.try_clone().unwrap()).stderr(log_file);
            let mut child = command.spawn().unwrap();
            let (mut ended, mut log) = (false, String::new());
            eventually("the server listens", || {
                log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                ended = child.try_wait().unwrap().is_some();
                ended || [dot, doh].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
            });
            if !ended {
                let [dot, doh] = [dot, doh].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
                return Some(Self { child, dot, doh, _folder: folder });
            }
            // Somebody else may have taken the port meanwhile; anything else fails again.
            assert!(log.to_ascii_lowercase().contains("in use"), "{name}: {log}");
        }
        panic!("{name} found no port in five trials");
    }
}

/// Writes a configuration for unbound that answers [`ADDRESS`] over DoT and DoH on these ports of an address.
pub(crate) fn unbound_config(identity: &Identity, folder: &Path, at: &str, [dot, doh]: [u16; 2]) -> String {
    format!(
        "server:\n  interface: {at}@{dot}\n  interface: {at}@{doh}\n  tls-port: {dot}\n  https-port: {doh}\n  \
         tls-service-pem: \"{}\"\n  tls-service-key: \"{}\"\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  \
         pidfile: \"\"\n  directory: \"{}\"\n  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  \
         incoming-num-tcp: 100\n  access-control: 0.0.0.0/0 allow\n  \
         local-zone: \"test.\" redirect\n  local-data: \"test. 300 IN A {ADDRESS}\"\n  \
         local-zone: \"example.org.\" redirect\n  local-data: \"example.org. 300 IN A {ADDRESS}\"\n",
        identity.certificate_file.display(),
        identity.key_file.display(),
        folder.display(),
    )
}

/// Returns the path of a program; `None`, after saying so, when it is not installed. In CI that is a failure.
#[allow(clippy::print_stderr, reason = "whoever runs the tests has to know what was not tested")]
pub(crate) fn installed<'a>(name: &str, paths: &[&'a str]) -> Option<&'a str> {
    let found = paths.iter().copied().find(|path| Path::new(path).exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{name} is not installed");
        eprintln!("skipped: {name} is not installed");
    }
    found
}

/// Returns ports nobody used a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held: Vec<(TcpListener, UdpSocket)> = std::iter::repeat_with(|| TcpListener::bind("127.0.0.1:0").unwrap())
        .filter_map(|tcp| UdpSocket::bind(tcp.local_addr().unwrap()).ok().map(|udp| (tcp, udp)))
        .take(N)
        .collect();
    let ports: Vec<u16> = held.iter().map(|(tcp, _)| tcp.local_addr().unwrap().port()).collect();
    ports.try_into().unwrap()
}

/// Somebody else's program, ended on drop.
pub(crate) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// Starts a program in the foreground and waits until it listens on a port of loopback.
    pub(crate) fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut program = Self(child);
        eventually("the program listens", || {
            assert!(program.0.try_wait().unwrap().is_none(), "it ended: {command:?}");
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        program
    }
}

/// Options that believe our authority and expect [`NAME`].
pub(crate) fn options(pki: &Pki) -> UpstreamOptions {
    UpstreamOptions { server_name: Some(NAME.into()), ca_file: Some(pki.ca_file()), ..UpstreamOptions::default() }
}

/// A server of a group.
pub(crate) fn upstream(transport: UpstreamTransport, address: SocketAddr, options: UpstreamOptions) -> Upstream {
    Upstream {
        label: format!("g/{transport}-{address}"),
        host: UpstreamHost::at(address),
        rungs: vec![Rung { transport, port: address.port(), path: None }],
        options: Arc::new(options),
    }
}

/// The upstreams of one group, asked in order.
pub(crate) struct Group1 {
    pub(crate) upstreams: Upstreams,
    pub(crate) stats: Arc<Stats>,
}

impl Group1 {
    pub(crate) fn new(servers: Vec<Upstream>) -> Self {
        let group = Group {
            name: "g".into(),
            servers,
            auto: false,
            options: Arc::default(),
            strategy: Strategy::Order,
            timeout: BUDGET,
            fallback: None,
        };
        let (config, stats) = (Config { groups: vec![group], ..Config::default() }, Arc::new(Stats::default()));
        let upstreams = Upstreams::new(&config, &[], Clock::default(), Arc::clone(&stats), Net::Real, None);
        upstreams.set_private_names(|_| false);
        Self { upstreams, stats }
    }

    /// Asks for the address of a name.
    pub(crate) async fn ask(&self, name: &str) -> Result<Reply, Box<Failure>> {
        let qname = Name::parse(name).unwrap().to_lower();
        let question = QuestionKey { qname, qtype: Rtype::A, dnssec_ok: false, checking_disabled: false };
        let ask = Ask::new(GroupId(0), &question, tokio::time::Instant::now() + BUDGET);
        self.upstreams.ask(ask, &mut Trace::off()).await
    }

    /// Asks, and returns the address.
    pub(crate) async fn address(&self, name: &str) -> Ipv4Addr {
        let reply = self.ask(name).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        address(&reply)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.stats.get(Counter::UpstreamConnections)
    }
}

/// Returns the first address of a reply.
pub(crate) fn address(reply: &Reply) -> Ipv4Addr {
    let message = Message::parse(&reply.message).unwrap();
    let record = message.section(Section::Answer).next().expect("an answer record");
    <[u8; 4]>::try_from(message.rdata(&record)).unwrap().into()
}

/// A server over QUIC made by hickory.
pub(crate) struct Quic {
    pub(crate) address: SocketAddr,
    _server: hickory_server::Server<Catalog>,
}

/// How long hickory's server waits for a client.
const FOR_CLIENTS: Duration = Duration::from_secs(5);

impl Quic {
    /// Starts it with DoQ, under whatever name TLS is told.
    pub(crate) fn start(identity: &Identity, alpn: &[u8]) -> Self {
        Self::start_on("127.0.0.1:0", identity.server_config(&[alpn]), ADDRESS)
    }

    /// Starts it with DoQ at an address; it gives every name below `test` and `example.org` this one.
    pub(crate) fn start_on(at: &str, config: Arc<rustls::ServerConfig>, answer: Ipv4Addr) -> Self {
        let (mut server, socket, address) = Self::prepare(at, answer);
        server.register_quic_listener_and_tls_config(socket, FOR_CLIENTS, config).unwrap();
        Self { address, _server: server }
    }

    /// Starts it with DNS over HTTP/3.
    #[cfg(feature = "h3")]
    pub(crate) fn start_h3(identity: &Identity) -> Self {
        let (mut server, socket, address) = Self::prepare("127.0.0.1:0", ADDRESS);
        let config = identity.server_config(&[b"h3"]);
        server.register_h3_listener_with_tls_config(socket, FOR_CLIENTS, config, Some(NAME.to_owned())).unwrap();
        Self { address, _server: server }
    }

    fn prepare(at: &str, answer: Ipv4Addr) -> (hickory_server::Server<Catalog>, tokio::net::UdpSocket, SocketAddr) {
        let mut catalog = Catalog::new();
        for origin in ["test.", "example.org."] {
            let name: HickoryName = origin.parse().unwrap();
            let mut zone: InMemoryZoneHandler =
                InMemoryZoneHandler::empty(name.clone(), ZoneType::Primary, AxfrPolicy::Deny);
            let all = format!("*.{origin}").parse().unwrap();
            zone.upsert_mut(Record::from_rdata(all, 300, RData::A(A(answer))), 0);
            catalog.upsert(LowerName::from(name), vec![Arc::new(zone)]);
        }
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (hickory_server::Server::new(catalog), tokio::net::UdpSocket::from_std(socket).unwrap(), address)
    }
}
