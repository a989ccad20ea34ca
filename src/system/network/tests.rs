//! What is bounded in the watch itself: by a kernel that never stops talking, and a router that never shows.

use super::place::{Gate, Router, Seen};
use super::*;

#[tokio::test]
async fn of_a_storm_without_an_end_512_messages_are_read_and_then_it_is_told() {
    let mut network = Network::new(Vec::new()).unwrap();
    for (there, is_all) in [(MAX_READ - 1, true), (MAX_READ, false), (usize::MAX, false)] {
        let mut read = 0;
        let told = network.read_by(|_| {
            if read == there {
                return Err(Errno::EAGAIN);
            }
            read += 1;
            // Nothing that is understood: what is counted is that it was read.
            Ok((0, Some(NetlinkAddr::new(0, 0))))
        });
        assert_eq!((told, read), (is_all, there.min(MAX_READ)), "{there} messages");
    }
    // What follows is what follows a message that was lost: the change is told.
    network.noted.lost += 1;
    network.decide(Instant::now());
    assert!(network.due.is_some());
    let event = network.changed().await;
    assert!(event.lost == 1 && event.concerns_us(), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_router_that_does_not_show_is_looked_at_five_times_and_then_known_by_its_address() {
    let mut network = Network::new(Vec::new()).unwrap();
    // ARPHRD_ETHER: one that has a hardware address.
    let router = Router::At { kind: 1, address: [192, 168, 1, 1].into() };
    let seen = |hardware| Seen { v4: Some(Gate { router: router.clone(), hardware }), v6: None };
    // One of its address is known, so it is taken for that one.
    let home = network.places.find(&seen(Some(vec![2, 0, 0, 0, 0, 1])), true).place;
    network.places.find(&Seen::default(), true);
    network.ways.seen = seen(None);
    let start = Instant::now();
    network.look_for_place(true);
    let mut pauses = Vec::new();
    while let Some(due) = network.look_again {
        assert!(pauses.len() <= 100, "there is no end of it");
        pauses.push(due.duration_since(start).as_secs());
        // A look that shows nothing.
        network.plan_to_look_again();
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16]);
    assert_eq!(pauses.len(), usize::try_from(LOOKS).unwrap());
    // From here on the guess counts: this is where the machine was when it goes on to another network.
    assert_eq!(network.place, home);
    assert_eq!(network.places.find(&Seen::default(), true).was, home);
}
