//! What outlives its TTL, its upstreams and its process (docs/promises.md 1, 2, 7).

use crate::support::client::{ask, exchange, plain_query};
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit};
use std::net::Ipv4Addr;
use truename::dns::{Rcode, Rtype};

const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// EDE "Stale Answer".
const STALE: Option<u16> = Some(3);

#[test]
fn a_stale_answer_is_given_when_the_upstream_has_died() {
    let fake = Fake::start(Habit::Address(TRUE_ADDRESS, 1));
    let daemon = Daemon::start(&forward_to(&[fake.address]));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), ["192.0.2.1"]);
    fake.becomes(Habit::Silent);
    eventually("the answer is past its TTL of 1 s", || ask(daemon.address, "www.example.org").ede() == STALE);
    let stale = ask(daemon.address, "www.example.org");
    assert_eq!((stale.rcode(), stale.addresses(), stale.ede()), (Rcode::NOERROR, vec!["192.0.2.1".to_owned()], STALE));
    assert!(stale.answers()[0].ttl <= 30);
    let plain = exchange(daemon.address, &plain_query("www.example.org", Rtype::A, 7)).unwrap();
    assert_eq!((plain.addresses(), plain.ede()), (vec!["192.0.2.1".to_owned()], None));
    fake.becomes(Habit::Address(Ipv4Addr::new(192, 0, 2, 2), 300));
    eventually("it is replaced when the upstream is back", || {
        let response = ask(daemon.address, "www.example.org");
        response.addresses() == ["192.0.2.2"] && response.ede().is_none()
    });
}
