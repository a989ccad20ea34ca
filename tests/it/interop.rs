//! An independent stub resolver, hickory-resolver, understands what the daemon says, over UDP and TCP.

use crate::support::daemon::Daemon;
use crate::support::daemon::forward_to;
use crate::support::fake::{Fake, Habit};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::{Resolver, TokioResolver};
use std::net::{Ipv4Addr, SocketAddr};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Makes a stub resolver that knows only this server, by one transport.
fn stub(server: SocketAddr, mut connection: ConnectionConfig) -> TokioResolver {
    connection.port = server.port();
    let name_server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    Resolver::builder_with_config(config, TokioRuntimeProvider::default()).build().expect("no TLS, nothing can fail")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_independent_stub_resolver_understands_every_kind_of_answer() {
    let fake = Fake::start(Habit::Address(ADDRESS, 300)).with("none.example.org", Habit::NxDomain(30));
    let zone = r#"
        [[zone]]
        name = "lab.example"
        records = [
          { name = "git", type = "A", value = "10.1.0.5" },
          { name = "www", type = "CNAME", value = "git" },
          { name = "out", type = "CNAME", value = "public.example.org." },
          { name = "_ldap._tcp", type = "SRV", value = "0 0 389 git" },
        ]
    "#;
    let daemon = Daemon::start(&format!("{}\n{zone}", forward_to(&[fake.address])));
    for connection in [ConnectionConfig::udp(), ConnectionConfig::tcp()] {
        let stub = stub(daemon.address, connection);
        let addresses = async |name: &str| -> Vec<std::net::IpAddr> {
            stub.lookup_ip(name).await.map(|found| found.iter().collect()).unwrap_or_default()
        };
        assert_eq!(addresses("public.example.org.").await, [ADDRESS]);
        assert_eq!(addresses("www.lab.example.").await, [Ipv4Addr::new(10, 1, 0, 5)]);
        assert_eq!(addresses("out.lab.example.").await, [ADDRESS]);
        let services = stub.lookup("_ldap._tcp.lab.example.", RecordType::SRV).await.unwrap();
        assert_eq!(services.answers().len(), 1);
        assert!(stub.lookup_ip("none.example.org.").await.unwrap_err().is_nx_domain());
        assert!(stub.lookup_ip("absent.lab.example.").await.unwrap_err().is_nx_domain());
    }
}
