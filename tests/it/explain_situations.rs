//! What `truename explain` says of situations people ask about, each as a snapshot: with those of `explain.rs` more than twenty.

use crate::control::{control_socket, start};
use crate::explain::{explained, guarded, plain};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, forward_to};
use crate::support::eventually;
use crate::support::fake::{Fake, Habit, alias};
use crate::support::http::get;
use std::time::Duration;
use truename::dns::{Name, Rcode};

const TRUE: [u8; 4] = [93, 184, 216, 34];
const FORGED: [u8; 4] = [31, 13, 94, 10];

fn slow(habit: Habit) -> Habit {
    Habit::Slow(Duration::from_millis(150), Box::new(habit))
}

/// Explains a name, and takes out what differs from run to run.
fn told(daemon: &Daemon, fakes: &[&Fake], args: &[&str]) -> String {
    plain(&explained(&control_socket(daemon), args), Some(daemon), fakes)
}

/// Takes out ages and TTLs that count down.
fn ageless(text: &str) -> String {
    let word =
        |word: &str| if word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() { "N" } else { word }.to_owned();
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Explains a name of which one upstream says one thing and a trusted one another.
fn judged(said: Habit, truth: Habit) -> String {
    let (isp, witness) = (Fake::start(said), Fake::start(slow(truth)));
    let daemon = start(&guarded(isp.address, witness.address));
    told(&daemon, &[&isp, &witness], &["www.example.org"])
}

fn address(octets: [u8; 4]) -> Habit {
    Habit::Address(octets.into(), 300)
}

#[test]
fn an_answer_from_the_cache() {
    let fake = Fake::start(address([192, 0, 2, 1]));
    let daemon = start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    let text = told(&daemon, &[&fake], &["www.example.org"]);
    assert!(text.contains("cache  hit"), "{text}");
    insta::assert_snapshot!(ageless(&text));
}

#[test]
fn a_client_that_may_not_ask() {
    let fake = Fake::start(address([192, 0, 2, 1]));
    let daemon = start(&forward_to(&[fake.address]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["www.example.org", "--client", "203.0.113.9"]));
}

#[test]
fn a_name_that_one_view_sees_otherwise() {
    let fake = Fake::start(address([192, 0, 2, 1]));
    let view = "[[view]]\nname = \"lab\"\nclients = [\"127.0.0.2/32\"]\n[[zone]]\nname = \"lab.example\"\nviews = [\"lab\"]\n\
                records = [{ name = \"git\", type = \"A\", value = \"10.0.0.7\" }]\n";
    let daemon = start(&format!("{view}{}", forward_to(&[fake.address])));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["git.lab.example", "--client", "127.0.0.2"]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["git.lab.example"]));
}

#[test]
fn a_line_of_a_hosts_file() {
    let fake = Fake::start(address([192, 0, 2, 1]));
    let config = format!("{}[hosts]\nfiles = [\"hosts\"]\n", forward_to(&[fake.address]));
    let daemon = Daemon::start_with(&config, &[("hosts", "# mine\n10.0.0.9 nas.home.arpa\n")], &["127.0.0.1:0"]);
    eventually("it is ready", || !daemon.events("ready").is_empty());
    insta::assert_snapshot!(told(&daemon, &[&fake], &["nas.home.arpa"]));
}

#[test]
fn an_alias_that_leads_to_another_route() {
    let fake = Fake::start(address([192, 0, 2, 1]))
        .with("www.example.org", Habit::Alias("edge.example.net", [192, 0, 2, 9].into()));
    let other = Fake::start(address([192, 0, 2, 7]));
    let route = format!(
        "[upstream.other]\nservers = [\"{}\"]\n[[route]]\nname = \"edges\"\nnames = [\"example.net\"]\nupstream = \"other\"\n",
        other.address
    );
    let daemon = start(&format!("{}{route}", forward_to(&[fake.address])));
    insta::assert_snapshot!(told(&daemon, &[&fake, &other], &["www.example.org"]));
}

#[test]
fn no_data_and_no_such_name() {
    let fake = Fake::start(address([192, 0, 2, 1])).with("gone.example.org", Habit::NxDomain(60));
    let daemon = start(&forward_to(&[fake.address]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["www.example.org", "TXT"]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["gone.example.org"]));
}

#[test]
fn aliases_that_lead_back() {
    let fake = Fake::start(Habit::AliasLoop);
    let daemon = start(&forward_to(&[fake.address]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["www.example.org"]));
}

#[test]
fn a_private_route() {
    let (office, fake) = (Fake::start(address([10, 0, 0, 7])), Fake::start(address([192, 0, 2, 1])));
    let route = format!(
        "[upstream.office]\nservers = [\"{}\"]\n[[route]]\nname = \"office\"\nnames = [\"corp.example\"]\nupstream = \"office\"\n",
        office.address
    );
    let daemon = start(&format!("{}{route}", forward_to(&[fake.address])));
    insta::assert_snapshot!(told(&daemon, &[&office, &fake], &["git.corp.example"]));
    assert!(fake.asked().is_empty());
}

#[test]
fn a_loopback_address_for_a_public_name() {
    let fake = Fake::start(address([127, 0, 0, 1]));
    let daemon = start(&forward_to(&[fake.address]));
    insta::assert_snapshot!(told(&daemon, &[&fake], &["rebinds.example.org"]));
}

#[test]
fn an_emptied_answer() {
    insta::assert_snapshot!(judged(Habit::EmptyWithoutSoa, address(TRUE)));
}

#[test]
fn a_denied_name() {
    insta::assert_snapshot!(judged(Habit::NxDomain(60), address(TRUE)));
}

#[test]
fn a_broken_chain() {
    let [www, gone] = ["www.example.org", "gone.example.net"].map(|text| Name::parse(text).unwrap());
    insta::assert_snapshot!(judged(Habit::Records(vec![alias(&www, &gone)]), address(TRUE)));
}

#[test]
fn a_near_answer_that_is_lawful() {
    insta::assert_snapshot!(judged(address([93, 184, 216, 77]), address(TRUE)));
}

#[test]
fn a_difference_that_nothing_explains() {
    insta::assert_snapshot!(judged(address(FORGED), address(TRUE)));
}

#[test]
fn a_block_page_behind_an_alias() {
    insta::assert_snapshot!(judged(Habit::Alias("block.isp.example", FORGED.into()), address(TRUE)));
}

#[test]
fn nobody_trusted_answers() {
    let refusing = || Habit::Code(Rcode::REFUSED);
    insta::assert_snapshot!(judged(address(TRUE), refusing()));
    insta::assert_snapshot!(judged(address([10, 10, 34, 34]), refusing()));
}

#[test]
fn an_upstream_that_fails_where_a_trusted_one_answers() {
    insta::assert_snapshot!(judged(Habit::Code(Rcode::SERVFAIL), address(TRUE)));
}

#[test]
fn what_was_found_behind_a_watched_answer() {
    let (isp, witness) = (Fake::start(address([10, 10, 34, 34])), Fake::start(slow(address(TRUE))));
    let daemon = start(&guarded(isp.address, witness.address).replace("\"enforce\"", "\"watch\""));
    ask(daemon.address, "www.example.org");
    let socket = control_socket(&daemon);
    eventually("it is judged", || !get(&socket, "/incidents").json()["incidents"].as_array().unwrap().is_empty());
    let text = told(&daemon, &[&isp, &witness], &["www.example.org"]);
    assert!(text.contains("found behind the answer"), "{text}");
    insta::assert_snapshot!(ageless(&text));
}
