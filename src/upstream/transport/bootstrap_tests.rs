use super::*;
use crate::dns::encode::MessageBuilder;
use crate::dns::{Rcode, Record};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicUsize;
use tokio::time::{advance, sleep};

const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// One server that can be asked, as a test plays it.
#[derive(Default)]
struct Played {
    /// Times it was asked for A.
    asked: AtomicUsize,
    /// What it says; nothing when it is silent.
    says: Mutex<Option<Vec<IpAddr>>>,
    ttl: u32,
    /// Milliseconds for A, and for AAAA.
    takes: (u64, u64),
}

impl Played {
    fn new(says: &[IpAddr], ttl: u32) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(Some(says.to_vec())), ttl, ..Self::default() })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn helper(self: &Arc<Self>) -> Helper {
        let played = Arc::clone(self);
        Box::new(move |question| {
            let played = Arc::clone(&played);
            Box::pin(async move {
                let wants_v4 = question.qtype == Rtype::A;
                played.asked.fetch_add(usize::from(wants_v4), Ordering::Relaxed);
                let (v4, v6) = played.takes;
                sleep(Duration::from_millis(if wants_v4 { v4 } else { v6 })).await;
                let says = played.says.lock().unwrap().clone()?;
                let mut builder = MessageBuilder::response(&question.qname, question.qtype, Rcode::NOERROR);
                for ip in says.into_iter().filter(|ip| ip.is_ipv4() == wants_v4) {
                    let rdata = match ip {
                        IpAddr::V4(v4) => v4.octets().to_vec().into_boxed_slice(),
                        IpAddr::V6(v6) => v6.octets().to_vec().into_boxed_slice(),
                    };
                    let owner = question.qname.clone();
                    builder.push(
                        Section::Answer,
                        &Record { owner, rtype: question.qtype, class: 1, ttl: played.ttl, rdata },
                    );
                }
                Some(builder.finish().into_vec())
            })
        })
    }
}

fn finder(lists: &[&[&Arc<Played>]]) -> Arc<Finder> {
    let lists: Vec<Vec<Arc<Played>>> =
        lists.iter().map(|list| list.iter().map(|played| Arc::clone(played)).collect()).collect();
    let finder = Arc::new(Finder::default());
    finder.set_helpers(Arc::new(move || lists.iter().map(|list| list.iter().map(Played::helper).collect()).collect()));
    finder
}

fn name() -> Name {
    Name::parse("dns.example").unwrap()
}

async fn found(finder: &Arc<Finder>) -> Result<Vec<IpAddr>, String> {
    finder.addresses(&name()).await.map_err(|fault| std::io::Error::from(fault).to_string())
}

/// Lets what was spawned come to its end.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_list_is_asked_when_nobody_of_the_first_can_tell() {
    let (silent, empty) = (Arc::new(Played::default()), Played::new(&[], 300));
    let (good, other) = (Played::new(&[V4.into(), V6.into()], 300), Played::new(&[], 300));
    let finder = finder(&[&[&silent, &empty], &[&good, &other]]);
    assert_eq!(found(&finder).await, Ok(vec![V6.into(), V4.into()]));
    assert_eq!([silent.asked(), empty.asked(), good.asked(), other.asked()], [1, 1, 1, 0]);
    let nobody = Arc::default();
    assert!(found(&nobody).await.unwrap_err().contains("nobody to ask for dns.example"));
    let in_vain = self::finder(&[&[&silent], &[&empty]]);
    assert!(found(&in_vain).await.unwrap_err().contains("knows an address of dns.example"));
}

#[tokio::test(start_paused = true)]
async fn a_search_that_takes_longer_than_a_connection_may_goes_on_for_the_next_one() {
    // Each says nothing for as long as a question is repeated.
    let silent: Vec<_> = (0..8).map(|_| Arc::new(Played { takes: (1400, 1400), ..Played::default() })).collect();
    let list: Vec<_> = silent.iter().collect();
    let last = Played::new(&[V4.into()], 300);
    let finder = finder(&[&list, &list[..7], &[&last]]);
    let start = Instant::now();
    let connection = Duration::from_secs(4);
    assert!(timeout(connection, finder.addresses(&name())).await.is_err());
    assert_eq!(timeout(connection, finder.addresses(&name())).await.unwrap().unwrap(), [IpAddr::V4(V4)]);
    assert!(start.elapsed() > connection && start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    assert!(silent.iter().all(|server| server.asked() <= 2) && last.asked() == 1, "one search");
    // Two that wait at once share one.
    let (one, other) = (Played::new(&[V4.into()], 300), name());
    let finder = self::finder(&[&[&one]]);
    let (first, second) = tokio::join!(finder.addresses(&other), finder.addresses(&other));
    assert_eq!((first.unwrap().len(), second.unwrap().len(), one.asked()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn one_family_does_not_wait_long_for_the_other() {
    let slow =
        |takes| Arc::new(Played { says: Mutex::new(Some(vec![V4.into(), V6.into()])), takes, ..Played::default() });
    for (takes, expected) in
        [((10, 5000), vec![V4.into()]), ((5000, 10), vec![V6.into()]), ((10, 40), vec![V6.into(), V4.into()])]
    {
        let start = Instant::now();
        assert_eq!(found(&finder(&[&[&slow(takes)]])).await, Ok(expected), "{takes:?}");
        assert!(start.elapsed() <= Duration::from_millis(60), "{:?}", start.elapsed());
    }
    let only = Arc::new(Played { says: Mutex::new(Some(vec![V4.into()])), takes: (500, 10), ..Played::default() });
    assert_eq!(found(&finder(&[&[&only]])).await, Ok(vec![V4.into()]), "an empty answer is no reason to go on");
}

#[tokio::test(start_paused = true)]
async fn a_name_in_use_is_looked_for_again_at_half_its_life_and_an_idle_one_never() {
    let server = Played::new(&[V4.into()], 600);
    let finder = finder(&[&[&server]]);
    found(&finder).await.unwrap();
    advance(Duration::from_secs(299)).await;
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!(server.asked(), 1, "it is not time");
    advance(Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(server.asked(), 1, "nobody uses it");
    *server.says.lock().unwrap() = Some(vec![V6.into()]);
    finder.refresh_when_due(&name());
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!(server.asked(), 2, "one search at a time");
    advance(Duration::from_secs(400)).await;
    assert_eq!(found(&finder).await, Ok(vec![V6.into()]), "beyond the first life, in the second");
    assert_eq!(server.asked(), 2, "a new connection did not have to wait for a search");
}

#[tokio::test(start_paused = true)]
async fn when_nobody_can_tell_the_addresses_known_before_stay_in_use() {
    let server = Played::new(&[V4.into()], 1);
    let finder = finder(&[&[&server]]);
    found(&finder).await.unwrap();
    *server.says.lock().unwrap() = None;
    advance(Duration::from_secs(59)).await;
    assert_eq!((found(&finder).await, server.asked()), (Ok(vec![V4.into()]), 1), "a minute at least");
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!(server.asked(), 2);
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!(server.asked(), 2, "not at every query");
    advance(Duration::from_secs(86_400 * 3)).await;
    assert_eq!(found(&finder).await, Ok(vec![V4.into()]));
    // The server has moved: the connection failed, and the name is looked for at once.
    *server.says.lock().unwrap() = Some(vec![V6.into()]);
    finder.forget();
    assert_eq!(found(&finder).await, Ok(vec![V6.into()]));
}

#[tokio::test(start_paused = true)]
async fn known_addresses_wait_a_moment_only_for_a_slow_search_which_goes_on() {
    let (quick, slow) = (Played::new(&[V4.into()], 60), Played::new(&[V6.into()], 60));
    let slow = Arc::new(Played { takes: (3000, 3000), ..Arc::into_inner(slow).unwrap() });
    let finder = finder(&[&[&quick], &[&slow]]);
    assert_eq!(found(&finder).await, Ok(vec![V4.into()]));
    *quick.says.lock().unwrap() = None;
    finder.forget();
    let start = Instant::now();
    assert_eq!(found(&finder).await, Ok(vec![V4.into()]));
    assert_eq!(start.elapsed().as_millis(), NEWER_WITHIN.as_millis());
    assert_eq!(found(&finder).await, Ok(vec![V4.into()]));
    assert_eq!((quick.asked(), slow.asked()), (2, 1), "one search at a time");
    sleep(Duration::from_secs(3)).await;
    let start = Instant::now();
    assert_eq!(found(&finder).await, Ok(vec![V6.into()]), "what it found is kept");
    assert_eq!((start.elapsed(), slow.asked()), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn private_is_what_leads_to_private_addresses_only() {
    let private: IpAddr = [10, 0, 0, 7].into();
    for (says, expected) in [(vec![private], true), (vec![private, V4.into()], false), (vec![V4.into()], false)] {
        let finder = finder(&[&[&Played::new(&says, 60)]]);
        assert!(!finder.is_private(), "nothing is known yet");
        found(&finder).await.unwrap();
        assert_eq!(finder.is_private(), expected, "{says:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn addresses_have_a_bound() {
    let many: Vec<IpAddr> = (1..=20).map(|last| [192, 0, 2, last].into()).collect();
    assert_eq!(found(&finder(&[&[&Played::new(&many, 60)]])).await.unwrap().len(), MAX_ADDRESSES);
    assert_eq!(found(&finder(&[&[&Played::new(&[V4.into()], u32::MAX)]])).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn on_another_network_the_known_address_is_used_at_once_and_looked_for_behind_the_next_query() {
    let server = Played::new(&[V4.into()], 3600);
    let finder = finder(&[&[&server]]);
    finder.doubt();
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!(server.asked(), 0, "nothing is known, and nobody waits for it");
    found(&finder).await.unwrap();
    *server.says.lock().unwrap() = Some(vec![V6.into()]);
    finder.doubt();
    assert_eq!((found(&finder).await, server.asked()), (Ok(vec![V4.into()]), 1));
    finder.refresh_when_due(&name());
    settle().await;
    assert_eq!((found(&finder).await, server.asked()), (Ok(vec![V6.into()]), 2));
}
