//! How many datagrams are taken at once: from sockets that never run dry, by one thread that the test drives itself.

use super::*;
use crate::listen::serving::Serving;
use crate::listen::udp;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::task::{LocalSet, spawn_local, yield_now};

/// What is asked for as long as questions come few at a time, and at once when they are many.
const SMALL_BATCH: u64 = 8;
const BATCH: u64 = 64;

/// Answers on the spot, and asks one question more for each that it answers.
struct Endless {
    clock: Clock,
    client: UdpSocket,
}

impl FastPath for &Endless {
    fn allows(&self, _: IpAddr) -> bool {
        true
    }

    fn answer_cached(
        &mut self,
        parsed: &ParsedQuery<'_>,
        arrival: &Arrival,
        _: Tick,
        out: &mut Vec<u8>,
    ) -> Option<Decided> {
        self.client.send(&question("cached.test", 1)).unwrap();
        out.extend_from_slice(&Names::answer_bytes(&Query::from_wire(parsed, arrival), 4));
        Some(Origin::Cache.into())
    }
}

impl Answerer for Endless {
    type FastPath<'a> = &'a Self;

    fn fast_path(&self) -> &Self {
        self
    }

    async fn answer(&self, _: &Query) -> Worked {
        unreachable!("all of it is answered on the spot")
    }

    fn now(&self) -> Tick {
        self.clock.now()
    }

    fn udp_payload_bytes(&self) -> u16 {
        1232
    }
}

/// One thread's way of serving one socket.
struct Worker<A> {
    serving: Rc<Serving<A>>,
    socket: Rc<udp::Socket>,
    stats: Arc<Stats>,
    limits: Arc<Limits>,
}

impl<A: Answerer> Worker<A> {
    /// Serves a socket whose client is given to who makes what answers.
    fn new(answerer: impl FnOnce(UdpSocket) -> A) -> Self {
        let [socket, client] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let local = socket.local_addr().unwrap();
        client.connect(local).unwrap();
        socket.set_nonblocking(true).unwrap();
        client.set_nonblocking(true).unwrap();
        let (stats, limits) = (Arc::new(Stats::default()), Arc::new(Limits::new(&config())));
        let shared =
            Shared { answerer: Arc::new(answerer(client)), stats: Arc::clone(&stats), limits: Arc::clone(&limits) };
        let socket = udp::Socket::new(socket, local, Rc::default()).unwrap();
        Self { serving: Rc::new(Serving::new(shared)), socket: Rc::new(socket), stats, limits }
    }

    fn count(&self) -> u64 {
        self.stats.get(Counter::QueriesUdp)
    }
}

/// A socket in which there are always a hundred questions.
fn endless() -> Worker<Endless> {
    let worker = Worker::new(|client| Endless { clock: Clock::default(), client });
    for number in 0..100 {
        worker.serving.answerer.client.send(&question("cached.test", number)).unwrap();
    }
    worker
}

#[tokio::test]
async fn sixty_four_datagrams_are_read_at_once_and_after_four_times_others_have_their_turn() {
    let turns = async {
        let worker = endless();
        let mut reading = pin!(udp::read(Rc::clone(&worker.serving), Rc::clone(&worker.socket)));
        let mut turns = Vec::new();
        while turns.len() < 3 {
            let before = worker.count();
            // What a thread does when it is this task's turn; whatever it leaves is for the next one.
            let has_ended = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context).is_ready())).await;
            assert!(!has_ended, "it reads as long as the socket is there");
            turns.extend(Some(worker.count() - before).filter(|count| *count > 0));
            yield_now().await;
        }
        turns
    };
    // That they are many shows in the first batch.
    assert_eq!(LocalSet::new().run_until(turns).await, [SMALL_BATCH + 3 * BATCH, 4 * BATCH, 4 * BATCH]);
}

#[tokio::test]
async fn sixty_four_batches_are_read_from_a_socket_that_closes_and_the_rest_is_lost_with_it() {
    let worker = endless();
    udp::read_last(&worker.serving, &worker.socket);
    let first = worker.count();
    assert_eq!(first, SMALL_BATCH + 63 * BATCH);
    // There was more.
    udp::read_last(&worker.serving, &worker.socket);
    assert_eq!(worker.count() - first, 64 * BATCH);
}

#[tokio::test]
async fn answers_that_are_ready_together_leave_together_however_many_batches_they_are() {
    const ASKED: u16 = 2 * 64 + 22;
    LocalSet::new()
        .run_until(async {
            let mut client = None;
            let worker = Worker::new(|socket| {
                client = Some(socket);
                Names { clock: Clock::default(), released: Semaphore::new(0) }
            });
            let client = client.unwrap();
            spawn_local(udp::read(Rc::clone(&worker.serving), Rc::clone(&worker.socket)));
            for number in 0..ASKED {
                client.send(&question("wait.test", number)).unwrap();
            }
            while worker.limits.in_flight() < usize::from(ASKED) {
                yield_now().await;
            }
            worker.serving.answerer.released.add_permits(ASKED.into());
            let mut buffer = [0; 512];
            while client.peek(&mut buffer).is_err() {
                yield_now().await;
            }
            // Nothing else of this thread runs between the first and the last.
            let mut ids: Vec<u16> = (0..ASKED)
                .map(|_| {
                    let count = client.recv(&mut buffer).expect("it is there with the others");
                    id(&buffer[..count])
                })
                .collect();
            ids.sort_unstable();
            assert!(ids.into_iter().eq(0..ASKED));
        })
        .await;
}
