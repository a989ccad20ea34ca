//! `truename up --doh`: names that no route matches go to a DoH server, until `truename down`.

use crate::support::booted::{Booted, Names};
use crate::support::encrypted::Pki;
use crate::takeover::{machine, refused};

/// A real DoH server in the office, at https://10.53.0.1/dns-query. It alone knows public.example.
const DOH: &str = "server:\n interface: 10.53.0.1@443\n https-port: 443\n tls-service-key: /office/key.pem\n \
    tls-service-pem: /office/cert.pem\n access-control: 10.53.0.0/24 allow\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n \
    pidfile: \"\"\n module-config: iterator\n local-zone: example. static\n local-data: \"public.example. A 192.0.2.77\"\n\
    remote-control:\n control-enable: no\n";
const UP: &str = "truename up --yes --doh https://10.53.0.1/dns-query";

/// A machine in an office with a DoH server, whose certificate it believes.
fn office_with_doh() -> Option<Booted> {
    let machine = machine(Names::File)?;
    let pki = Pki::new();
    let identity = pki.issue(&["10.53.0.1"], |_| {});
    machine.write("/etc/ssl/certs/ca-certificates.crt", &std::fs::read_to_string(pki.ca_file()).unwrap());
    machine.write("/office/cert.pem", &identity.certificate.pem());
    machine.write("/office/key.pem", &identity.key.serialize_pem());
    machine.write("/office/doh.conf", DOH);
    machine.sh(
        "export DEBIAN_FRONTEND=noninteractive; systemctl mask --quiet unbound.service && dpkg -i /packages/unbound/*.deb 2>&1 && \
         systemd-run --quiet --unit=doh -p NetworkNamespacePath=/run/netns/office unbound -d -c /office/doh.conf",
    );
    machine.patiently("it listens", || machine.sh("ip netns exec office cat /proc/net/tcp").contains("0100350A:01BB"));
    Some(machine)
}

#[test]
fn names_go_to_the_doh_server_until_down_and_nothing_is_left() {
    let Some(machine) = office_with_doh() else { return };
    let etc = || machine.sh("cd /etc/truename && stat -c '%n %a %U %G' * && cat *");
    let before = (machine.files(Names::File), etc());
    let plan = machine.sh("truename up --dry-run --doh https://10.53.0.1/dns-query");
    assert!(plan.contains("write /etc/truename/up.toml"), "{plan}");
    assert_eq!((machine.files(Names::File), etc()), before);
    machine.sh(UP);
    machine.must_be_taken("after up");
    assert_eq!(machine.address("public.example"), "192.0.2.77", "{}", machine.account());
    assert!(machine.sh("cat /etc/truename/up.toml").contains("https://10.53.0.1/dns-query"));
    assert_eq!(machine.sh("truename check 2>/dev/null"), "");
    // It is so after a restart, and when it is said again without it.
    machine.sh("systemctl restart truename.service && truename up --yes");
    assert_eq!(machine.address("public.example"), "192.0.2.77");
    machine.sh("truename down");
    assert_eq!((machine.files(Names::File), etc()), before);
    machine.must_be_as_before("after down");
    assert_eq!(machine.sh("dig +short +tries=1 @127.0.0.1 public.example"), "", "the daemon was told");
}

#[test]
fn a_doh_server_that_will_not_do_changes_nothing() {
    let Some(machine) = office_with_doh() else { return };
    let etc = || {
        machine
            .sh("cd /etc && stat -c '%n %a %U %i' truename/* resolv.conf*; systemctl is-active truename.service; true")
    };
    let before = etc();
    let refused = |command: &str, why: &str| {
        let (status, said) = refused(&machine, command);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(why), "{command}: {said}");
        assert_eq!(etc(), before, "{command}");
        machine.must_be_as_before(command);
    };
    // Nobody is there; a name that its certificate has not.
    refused(&UP.replace("10.53.0.1", "10.53.0.1:444"), "does not answer");
    refused(&UP.replace("10.53.0.1", "10.53.0.1:53"), "does not answer");
    // The take-over fails behind it.
    machine.sh("cp /etc/nsswitch.conf /root && sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    let (status, said) = crate::takeover::refused(&machine, UP);
    assert_eq!((status, said.contains("looking a name up does not lead to truename")), (1, true), "{said}");
    machine.sh("cp /root/nsswitch.conf /etc");
    assert_eq!(etc(), before);
    // The configuration has a word of its own, or somebody a file of that name.
    let has = |what: &str| machine.sh(&format!("cp -a /etc/truename /root/truename && {what}"));
    let again = || machine.sh("rm -rf /etc/truename && mv /root/truename /etc");
    has("printf '[default]\\nupstream = \"system\"\\n' >> /etc/truename/truename.toml");
    let (status, said) = crate::takeover::refused(&machine, UP);
    assert_eq!((status, said.contains("default.upstream")), (1, true), "{said}");
    again();
    has("printf '[cache]\\nmax_entries = 9\\n' > /etc/truename/up.toml");
    let (status, said) = crate::takeover::refused(&machine, UP);
    assert_eq!((status, said.contains("is somebody else's")), (1, true), "{said}");
    assert_eq!(machine.sh("cat /etc/truename/up.toml"), "[cache]\nmax_entries = 9\n");
    machine.sh("truename down --quiet && cat /etc/truename/up.toml");
}

#[test]
fn an_address_of_another_kind_is_a_wrong_argument() {
    for url in ["http://9.9.9.9/", "9.9.9.9", "https://9.9.9.9/\"\n[x]", "https://9.9.9.9/ä"] {
        let output = crate::support::daemon::run(&["up", "--doh", url]);
        assert_eq!(output.status.code(), Some(2), "{url}");
    }
}
