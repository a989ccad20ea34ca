//! While names come to truename, the resolvers that the machine is given go on being followed: those of DHCP and of VPNs, which
//! their manager is told of.

use crate::support::booted::Names;
use crate::takeover::machine;

/// A second resolver of the network at 10.53.0.7, which alone knows second.example, and a third for a VPN at 10.53.0.8.
const SECOND: &str = "for n in 7 8; do ip -n office addr add 10.53.0.$n/24 dev d1 && \
    sed \"s/office.example/resolver-$n.example/; s/10.99.0.1/10.99.0.$n/\" /office/office.toml > /office/$n.toml && \
    systemd-run --quiet --unit=resolver-$n -p NetworkNamespacePath=/run/netns/office \
    truename run --config /office/$n.toml --listen 10.53.0.$n:53; done";

/// While names are taken, has the manager be told of another resolver, of one of a VPN as well, and of the first alone again.
fn follows(names: Names, other: &str, vpn: &str, first: &str) {
    let Some(machine) = machine(names) else { return };
    machine.sh(SECOND);
    let knows = |n: u32| machine.address(&format!("www.resolver-{n}.example")) == format!("10.99.0.{n}");
    machine.sh("truename up --yes");
    machine.must_be_taken("after up");
    assert!(!knows(7) && !knows(8));
    let asks = |what: &str, n: u32| {
        let list = format!("10.53.0.{n}:53");
        machine.patiently(&format!("{names:?}: {what}"), || machine.sh("truename upstreams live").contains(&list[..9]));
    };
    machine.sh(other);
    machine.patiently(&format!("{names:?}: the other is asked"), || knows(7));
    asks("the other is in group system", 7);
    machine.sh(vpn);
    asks("that of the VPN is in group system", 8);
    machine.sh(first);
    machine.sh("truename cache flush --all");
    machine.patiently(&format!("{names:?}: the first is asked again"), || machine.is_taken());
    machine.patiently(&format!("{names:?}: the others are not"), || {
        let servers = machine.sh("truename upstreams live");
        !servers.contains("10.53.0.7") && !servers.contains("10.53.0.8")
    });
    machine.sh("truename down");
    machine.must_be_as_before("after down");
}

#[test]
fn systemd_resolved_with_a_link_that_changes() {
    follows(
        Names::Resolved,
        "resolvectl dns d0 10.53.0.7",
        "ip link add v0 type veth peer name v1 && ip addr add 10.54.0.2/24 dev v0 && ip link set v0 up && ip link set v1 up && \
         resolvectl dns v0 10.53.0.8",
        "ip link delete v0; resolvectl dns d0 10.53.0.1",
    );
}

#[test]
fn network_manager_with_a_lease_that_changes() {
    let lease = |dns: &str| {
        format!("nmcli -w 20 connection modify office ipv4.dns '{dns}' && nmcli -w 20 connection up office")
    };
    follows(Names::NetworkManager, &lease("10.53.0.7"), &lease("10.53.0.7 10.53.0.8"), &lease("10.53.0.1"));
}

#[test]
fn resolvconf_with_a_record_that_changes() {
    for names in [Names::Resolvconf, Names::Openresolv] {
        let record = |name: &str, dns: u32| {
            format!("printf 'search office.example\\nnameserver 10.53.0.{dns}\\n' | resolvconf -a {name}")
        };
        let first = format!("resolvconf -d tun0.vpn; {}", record("d0.dhclient", 1));
        follows(names, &record("d0.dhclient", 7), &record("tun0.vpn", 8), &first);
    }
}

#[test]
fn a_plain_file_with_a_lease_that_changes() {
    let lease = |text: &str| {
        format!(
            "printf 'search office.example\\n{text}' > /etc/resolv.conf.new && mv /etc/resolv.conf.new /etc/resolv.conf"
        )
    };
    follows(
        Names::File,
        &lease("nameserver 10.53.0.7\\n"),
        &lease("nameserver 10.53.0.7\\nnameserver 10.53.0.8\\n"),
        &lease("nameserver 10.53.0.1\\n"),
    );
}
