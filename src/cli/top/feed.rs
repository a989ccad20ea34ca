//! Asks the daemon for `top`: sums again and again, and questions as they are answered.

use super::model::{News, Seen, Why};
use crate::control::client::{self, ClientError};
use crate::control::report::Stats;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until};

/// How often questions are drawn at most; people do not read faster.
const BATCH_EVERY: Duration = Duration::from_millis(100);
/// Questions of one batch; a screen has fewer lines.
const MAX_BATCH: usize = 500;
/// Questions from before that are asked for: a screen full.
const FIRST: usize = 50;
/// The pause before questions are asked for again: the daemon may have been started anew.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Brings a report every so often, or why there is none.
pub(super) async fn reports(socket: PathBuf, every: Duration, news: Sender<News>) {
    loop {
        let due = Instant::now() + every;
        let said = match client::fetch(&socket, &Method::GET, "/stats").await {
            Ok(document) => match serde_json::from_slice::<Stats>(&document) {
                Ok(report) => News::Report(Box::new(report)),
                Err(error) => News::Silence(format!("the answer of the daemon is not understood: {error}")),
            },
            Err(error) => News::Silence(error.to_string()),
        };
        if news.send(said).await.is_err() {
            return;
        }
        sleep_until(due).await;
    }
}

/// Brings questions as they are answered, or why there are none.
pub(super) async fn queries(socket: PathBuf, news: Sender<News>) {
    loop {
        let ended = follow(&socket, &news).await;
        let why = match ended {
            Ok(()) => Why::Ended,
            Err(error) => why(&error),
        };
        if news.send(News::NoQueries(why)).await.is_err() {
            return;
        }
        sleep(AGAIN_AFTER).await;
    }
}

fn why(error: &ClientError) -> Why {
    if matches!(error, ClientError::NotPermitted(_) | ClientError::Problem { status: 403, .. }) {
        Why::NotPermitted
    } else if matches!(error, ClientError::Problem { status: 404, .. }) {
        Why::NotKept
    } else {
        Why::Other(error.to_string())
    }
}

/// The last questions, as one document.
#[derive(Deserialize)]
struct Listed {
    queries: Vec<Seen>,
}

/// Asks for the last questions once, as the socket gives them.
pub(super) fn last_document(socket: &Path) -> Result<Bytes, ClientError> {
    client::ask(socket, &Method::GET, &format!("/queries?limit={FIRST}"), String::new())
}

/// Asks for the last questions once.
pub(super) fn last(socket: &Path) -> News {
    match last_document(socket) {
        Ok(document) => match serde_json::from_slice::<Listed>(&document) {
            Ok(listed) => News::Queries(listed.queries),
            Err(error) => News::NoQueries(Why::Other(format!("the answer of the daemon is not understood: {error}"))),
        },
        Err(error) => News::NoQueries(why(&error)),
    }
}

async fn follow(socket: &std::path::Path, news: &Sender<News>) -> Result<(), ClientError> {
    let mut lines = client::lines(socket, &format!("/queries?follow=1&limit={FIRST}")).await?;
    if news.send(News::Queries(Vec::new())).await.is_err() {
        return Ok(());
    }
    while let Some(line) = lines.next().await? {
        let due = Instant::now() + BATCH_EVERY;
        let mut batch = VecDeque::from([line]);
        let mut is_over = false;
        while let Ok(next) = tokio::time::timeout_at(due, lines.next()).await {
            match next? {
                Some(line) => {
                    // The newest are what is shown.
                    if batch.len() == MAX_BATCH {
                        batch.pop_front();
                    }
                    batch.push_back(line);
                }
                None => is_over = true,
            }
            if is_over {
                break;
            }
        }
        let seen: Vec<Seen> = batch.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
        if news.send(News::Queries(seen)).await.is_err() || is_over {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn more_questions_than_anybody_reads_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let mut lines = String::new();
        (0..MAX_BATCH * 2).for_each(|n| writeln!(lines, "{{\"name\":\"n{n}.\"}}").unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            stream.write_all(lines.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        let (news, mut coming) = tokio::sync::mpsc::channel(8);
        tokio::spawn(queries(path, news));
        let Some(News::Queries(first)) = coming.recv().await else { panic!("questions are to be had") };
        assert!(first.is_empty());
        let mut largest = 0;
        loop {
            let Some(News::Queries(batch)) = coming.recv().await else { panic!("they go on") };
            largest = largest.max(batch.len());
            // The newest is shown, however many there were before it.
            if batch.last().expect("no batch is empty").name.as_deref() == Some("n999.") {
                break;
            }
        }
        assert!((1..=MAX_BATCH).contains(&largest), "{largest}");
    }

    #[tokio::test]
    async fn eight_reports_wait_to_be_drawn_and_no_more_are_asked_for() {
        const WAITING: usize = super::super::MAX_WAITING;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let (asked, mut requests) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                asked.send(()).unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
                stream.write_all(answer).await.unwrap();
            }
        });
        let (news, mut coming) = super::super::channel();
        tokio::spawn(reports(path, Duration::ZERO, news));
        // One more than waits is on its way. Each that is drawn has one more asked for.
        for _ in 0..=WAITING {
            requests.recv().await.unwrap();
        }
        for _ in 0..20 {
            while coming.len() < WAITING {
                tokio::task::yield_now().await;
            }
            // Time enough for whoever would ask.
            assert!(
                tokio::time::timeout(Duration::from_millis(5), requests.recv()).await.is_err(),
                "it is asked all the same"
            );
            assert!(matches!(coming.recv().await, Some(News::Silence(_))), "no report is understood");
            requests.recv().await.unwrap();
        }
    }
}
