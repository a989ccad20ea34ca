//! More of what networks do to answers, each against the real daemon on real sockets: what goes out, and what is said about whom.

use crate::guard_live::{FORGED, TRUE, counter, guarded, incidents, text};
use crate::support::client::ask;
use crate::support::daemon::Daemon;
use crate::support::encrypted::{Identity, NAME, Pki};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, a, answer_with, qname_of};
use crate::support::tls_fake::{self, read_query, write_message};
use truename::dns::{Name, Rcode};

/// A server over TLS that gives every name one address.
async fn encrypted(identity: &Identity, address: [u8; 4]) -> tls_fake::Fake {
    tls_fake::Fake::tls(identity.server_config(&[b"dot"]), move |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            let reply = answer_with(&query, &[a(&qname_of(&query), address.into(), 300)]);
            write_message(&mut stream, &reply).await;
        }
    })
    .await
}

/// Has a group of the configuration asked over TLS.
fn over_tls(config: &str, group: &str, fake: &tls_fake::Fake, pki: &Pki) -> String {
    let ca_file = pki.ca_file();
    let tls = format!(
        "[upstream.{group}]\nca_file = \"{}\"\nservers = [\"tls://{}#{NAME}\"]\n",
        ca_file.display(),
        fake.address
    );
    config.replace(&format!("[upstream.{group}]\nservers = []\n"), &tls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_servers_that_all_tell_the_same_lie_do_not_outvote_an_encrypted_one() {
    let pki = Pki::new();
    let witness = encrypted(&pki.server(), TRUE).await;
    let isp = [(); 3].map(|()| Fake::address(FORGED));
    let config = guarded(&isp.each_ref().map(|fake| fake.address), &[], "enforce");
    let daemon = Daemon::start(&over_tls(&config, "witness", &witness, &pki));
    for n in 0..12 {
        let answer = ask(daemon.address, &format!("n{n}.example.org"));
        assert_eq!((answer.addresses(), answer.ede()), (vec![text(TRUE)], None), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_does_not_make_an_answer_true() {
    let pki = Pki::new();
    let isp = encrypted(&pki.server(), [10, 10, 34, 34]).await;
    let witness = Fake::address(TRUE);
    let config = guarded(&[], &[witness.address], "enforce");
    let daemon = Daemon::start(&over_tls(&config, "isp", &isp, &pki));
    let answer = ask(daemon.address, "www.example.org");
    assert_eq!((answer.addresses(), answer.ede()), (vec![text(TRUE)], None));
    eventually("it is recorded", || incidents(&daemon).iter().any(|incident| incident["verdict"] == "poisoned"));
}

#[test]
fn a_lie_that_is_told_over_tcp_too_does_not_go_out() {
    fn lies(query: &[u8], tcp: bool) -> Vec<Vec<u8>> {
        let mut reply = answer_with(query, &[a(&qname_of(query), FORGED.into(), 300)]);
        if !tcp {
            reply[2] |= 2;
        }
        vec![reply]
    }
    let (isp, witness) = (Fake::start(Habit::Custom(lies)), Fake::address(TRUE));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), [text(TRUE)]);
    eventually("it is judged", || counter(&daemon, "guard_undecidable_total") == 1);
    assert!(isp.asked().iter().any(|asked| asked.tcp), "the truncated reply was asked for again");
}

#[test]
fn one_forged_address_with_ordinary_marks_accuses_nobody_and_does_not_go_out() {
    let (isp, witness) = (Fake::address(FORGED), Fake::address(TRUE));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    assert_eq!(ask(daemon.address, "www.example.org").addresses(), [text(TRUE)]);
    eventually("it is judged", || counter(&daemon, "guard_undecidable_total") == 1);
    assert!(incidents(&daemon).is_empty());
}

#[test]
fn a_walled_garden_is_known_by_its_one_address() {
    let (isp, witness) = (Fake::address(FORGED), Fake::address(TRUE));
    let config = guarded(&[isp.address], &[witness.address], "enforce").replace("\"example.org\"", "\"org\"");
    let daemon = Daemon::start(&config);
    for (n, name) in ["www.one.org", "www.two.org", "www.three.org"].iter().enumerate() {
        assert_eq!(ask(daemon.address, name).addresses(), [text(TRUE)]);
        let judged = u64::try_from(n).unwrap() + 1;
        eventually("it is judged", || counter(&daemon, "guard_undecidable_total") == judged);
    }
    assert_eq!(ask(daemon.address, "www.four.org").addresses(), [text(TRUE)]);
    eventually("the fourth unrelated name accuses", || {
        incidents(&daemon)
            .iter()
            .any(|incident| incident["name"] == "www.four.org." && incident["verdict"] == "poisoned")
    });
}

#[test]
fn a_server_that_always_sends_an_opt_record_is_not_believed_without_it() {
    fn mostly(query: &[u8], _: bool) -> Vec<Vec<u8>> {
        let lies = qname_of(query) == Name::parse("lie.example.org").unwrap();
        let (address, ttl) = if lies { (FORGED, 200) } else { (TRUE, 300) };
        let mut reply = answer_with(query, &[a(&qname_of(query), address.into(), ttl)]);
        if !lies {
            reply[11] = 1;
            reply.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        vec![reply]
    }
    let (isp, witness) = (Fake::start(Habit::Custom(mostly)), Fake::address(TRUE));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    for n in 0..21 {
        ask(daemon.address, &format!("n{n}.example.org"));
    }
    eventually("its habit is known", || counter(&daemon, "guard_consistent_total") == 21);
    assert_eq!(ask(daemon.address, "lie.example.org").addresses(), [text(TRUE)]);
    eventually("it is accused", || incidents(&daemon).iter().any(|incident| incident["name"] == "lie.example.org."));
}

#[test]
fn aliases_that_loop_are_repaired() {
    let isp = Fake::start(Habit::AliasLoop);
    let slow = |habit| Habit::Slow(std::time::Duration::from_millis(100), Box::new(habit));
    let witness = Fake::start(slow(Habit::Address(TRUE.into(), 300)));
    let daemon = Daemon::start(&guarded(&[isp.address], &[witness.address], "enforce"));
    let answer = ask(daemon.address, "www.example.org");
    assert_eq!((answer.rcode(), answer.addresses()), (Rcode::NOERROR, vec![text(TRUE)]));
    eventually("it is recorded", || incidents(&daemon).iter().any(|incident| incident["verdict"] == "broken_chain"));
}

#[test]
fn trusted_operators_that_disagree_raise_no_alarm() {
    let isp = Fake::address(TRUE);
    let witnesses = ["127.0.0.1", "127.1.0.1"].map(|ip| ip.parse().unwrap());
    let others = [[93, 184, 217, 1], [93, 184, 218, 1]];
    let witnesses = [0, 1].map(|n| Fake::start_at(witnesses[n], Habit::Address(others[n].into(), 300)));
    let daemon = Daemon::start(&guarded(&[isp.address], &witnesses.each_ref().map(|fake| fake.address), "enforce"));
    for n in 0..10 {
        let addresses = ask(daemon.address, &format!("n{n}.example.org")).addresses();
        assert!(addresses == [text(others[0])] || addresses == [text(others[1])], "{addresses:?}");
    }
    eventually("all are judged", || counter(&daemon, "guard_undecidable_total") == 10);
    assert!(incidents(&daemon).is_empty());
}
