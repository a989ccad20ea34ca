use super::super::idle::Idle;
use super::super::owed::{QUEUE, silence_after};
use super::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

/// No test waits longer for anything.
const BOUND: Duration = Duration::from_secs(10);
const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01";
const FRAME_BYTES: usize = QUERY.len() + 2;

/// Reads what the session has written until nothing more comes for a moment.
async fn written(
    session: &mut Session<DuplexStream>,
    jobs: &mut mpsc::Receiver<Command>,
    far: &mut DuplexStream,
) -> usize {
    let mut octets = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let working = async {
            loop {
                session.next(jobs).await;
            }
        };
        tokio::select! {
            () = working => {}
            read = timeout(Duration::from_millis(100), far.read(&mut octets)) => match read {
                Ok(len) => total += len.unwrap(),
                Err(_) => return total / FRAME_BYTES,
            }
        }
    }
}

#[tokio::test]
async fn queries_waiting_on_one_connection_have_a_bound() {
    let (near, mut far) = duplex(64 * 1024);
    let owed = Owed::new(Instant::now(), Duration::ZERO, silence_after(9), Idle::new(Instant::now(), BOUND));
    let mut session = Session::new(near, owed);
    let (sender, mut jobs) = mpsc::channel(QUEUE);
    let mut waiting = Vec::new();
    let mut fill = |count: usize| {
        let taken = std::iter::repeat_with(|| {
            let (job, receiver) = Job::new(QUERY);
            waiting.push(receiver);
            sender.try_send(Command::Ask(job))
        });
        taken.take(count).filter(Result::is_ok).count()
    };
    assert_eq!(fill(QUEUE - 7), QUEUE - 7);
    assert_eq!(written(&mut session, &mut jobs, &mut far).await, QUEUE - 7);
    assert_eq!(fill(QUEUE + 1), QUEUE);
    assert_eq!(written(&mut session, &mut jobs, &mut far).await, 7, "no more than {MAX_PENDING} in one piece either");
    assert_eq!(fill(8), 7);
    assert_eq!(written(&mut session, &mut jobs, &mut far).await, 0, "more than {MAX_PENDING} are on the connection");
    // Those given up on make room.
    drop(waiting);
    let (job, _keep) = Job::new(QUERY);
    assert_eq!(written(&mut session, &mut jobs, &mut far).await, 0);
    assert!(sender.try_send(Command::Ask(job)).is_ok());
    assert_eq!(written(&mut session, &mut jobs, &mut far).await, 1);
}
