//! Listening on after the answer.

use super::fake::*;
use super::play::*;
use crate::config::GroupId;
use crate::dns::Trace;
use crate::upstream::{Ask, Held, Hold, Upstreams};
use std::time::Duration;
use tokio::time::Instant;

/// Asks, and returns the last octet of the answer with its channel.
async fn ask_and_hold(upstreams: &Upstreams) -> (u8, Option<Held>) {
    let (question, hold) = (question("www.example.org"), Hold::default());
    let ask = Ask { hold: Some(&hold), ..Ask::new(GroupId(0), &question, Instant::now() + Duration::from_secs(4)) };
    let reply = upstreams.ask(ask, &mut Trace::off()).await.unwrap();
    (octet(&reply), hold.take())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_second_reply_in_a_datagram_is_heard_and_only_a_matching_one() {
    let (play, upstreams, _) = play(&[1]);
    play.set(1, |query, to| {
        to.message(ms(5), answer(&query.bytes, 66));
        let mut foreign = answer(&query.bytes, 67);
        foreign[0] ^= 1;
        to.message(ms(10), foreign);
        to.refuse(ms(11));
        to.message(ms(30), answer(&query.bytes, 1));
    });
    let start = Instant::now();
    let (first, held) = ask_and_hold(&upstreams).await;
    assert_eq!((first, start.elapsed()), (66, ms(5)), "the answer waits for nothing");
    let mut held = held.expect("it came in a datagram");
    assert!(held.next(Instant::now() + ms(10)).await.is_none());
    let second = held.next(Instant::now() + ms(100)).await.expect("it comes after 30 ms");
    assert_eq!((octet(&second), start.elapsed()), (1, ms(30)));
    assert!(held.next(Instant::now() + ms(100)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_flood_ends_listening_on() {
    for (junk, heard) in [(49, Some(1)), (50, None)] {
        let (play, upstreams, _) = play(&[1]);
        play.set(1, move |query, to| {
            to.message(ms(5), answer(&query.bytes, 66));
            let mut foreign = answer(&query.bytes, 67);
            foreign[0] ^= 1;
            (0..junk).for_each(|_| to.message(ms(6), foreign.clone()));
            to.message(ms(10), answer(&query.bytes, 1));
        });
        let (_, held) = ask_and_hold(&upstreams).await;
        let second = held.expect("it came in a datagram").next(Instant::now() + ms(100)).await;
        assert_eq!(second.map(|reply| octet(&reply)), heard, "{junk} foreign datagrams");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_listened_on_and_another_operator_can_be_asked() {
    let (play, upstreams, _) = play(&[1]);
    play.set(1, |query, to| {
        let tcp = query.transport == crate::config::UpstreamTransport::Tcp;
        to.message(ms(5), if tcp { answer(&query.bytes, 1) } else { truncated(&query.bytes) });
    });
    let (first, held) = ask_and_hold(&upstreams).await;
    assert!(first == 1 && held.is_none(), "what comes over TCP cannot be overtaken");
}

#[tokio::test(start_paused = true)]
async fn no_server_of_an_operator_is_asked_for_a_second_opinion() {
    let servers = [address(1), address(2), "192.0.2.3:53".parse().unwrap()];
    let (play, upstreams, _) = play_with(vec![group("g", &servers)]);
    play.healthy(1, 5);
    play.healthy(2, 5);
    let own = upstreams.servers(GroupId(0))[0].operator.clone();
    let question = question("www.example.org");
    let ask =
        Ask { apart_from: Some(&own), ..Ask::new(GroupId(0), &question, Instant::now() + Duration::from_secs(1)) };
    upstreams.ask(ask, &mut Trace::off()).await.unwrap_err();
    assert_eq!((play.sent_to(1), play.sent_to(2)), (0, 0));
    assert!(play.sent() > 0, "the third was asked");
}
