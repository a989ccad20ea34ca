//! Asking a daemon over one of its sockets; for commands.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a daemon may take to answer; a reload reads files.
const PATIENCE: Duration = Duration::from_secs(60);
/// Octets of an answer that are read.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Octets of a line that is waited for; a question with all its answers has some hundred.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// The file's mode does not let us in.
    #[error("{} is not for this user", .0.display())]
    NotPermitted(PathBuf),
    /// The daemon answered with a problem.
    #[error("{detail}")]
    Problem {
        /// The status.
        status: u16,
        /// What it is called.
        kind: String,
        /// What is wrong.
        detail: String,
        /// All of it.
        document: Value,
    },
    /// The connection, or what came over it, was no good.
    #[error("the daemon cannot be asked: {0}")]
    Broken(String),
}

/// Asks and returns the body of the answer.
///
/// # Errors
/// When there is no daemon, we are not permitted, or it answered with a problem.
pub fn ask(socket: &Path, method: &Method, target: &str, body: String) -> Result<Bytes, ClientError> {
    let broken = |error: io::Error| ClientError::Broken(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    runtime.block_on(within_patience(exchange(socket, method, target, body)))
}

/// Does the same for who has a runtime, without a body.
///
/// # Errors
/// As [`ask`].
pub async fn fetch(socket: &Path, method: &Method, target: &str) -> Result<Bytes, ClientError> {
    within_patience(exchange(socket, method, target, String::new())).await
}

/// Asks for what goes on without an end, line by line.
///
/// # Errors
/// As [`ask`].
pub async fn lines(socket: &Path, target: &str) -> Result<Lines, ClientError> {
    let (response, driver) = within_patience(send(socket, &Method::GET, target, String::new())).await?;
    if !response.status().is_success() {
        return Err(problem(response.status(), &whole(response).await?));
    }
    Ok(Lines { body: response.into_body(), rest: BytesMut::new(), _driver: driver })
}

/// Does the same for who has no runtime: hands out line by line, until the daemon or `take` ends it; empty lines are left out.
///
/// # Errors
/// As [`ask`].
pub fn follow(
    socket: &Path,
    target: &str,
    mut take: impl FnMut(&str) -> io::Result<()>,
) -> Result<io::Result<()>, ClientError> {
    let broken = |error: io::Error| ClientError::Broken(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        let mut lines = lines(socket, target).await?;
        while let Some(line) = lines.next().await? {
            let line = String::from_utf8_lossy(&line);
            if let Err(error) = if line.is_empty() { Ok(()) } else { take(&line) } {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    })
}

/// The lines of an answer as they come.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: BytesMut,
    _driver: Driver,
}

impl Lines {
    /// Waits for the next one, which comes without its end; nothing when the daemon has ended the answer. Cancel safe.
    ///
    /// # Errors
    /// When the connection broke, or a line has no end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            if let Some(end) = self.rest.iter().position(|octet| *octet == b'\n') {
                let mut line = self.rest.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            if self.rest.len() > MAX_LINE_BYTES {
                return Err(ClientError::Broken("a line of its answer has no end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(broken)?;
                    self.rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
            }
        }
    }
}

/// The task that moves a connection's octets; it ends with its owner.
#[derive(Debug)]
struct Driver(JoinHandle<Result<(), hyper::Error>>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within_patience<T>(asked: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let answered = timeout(PATIENCE, asked).await;
    answered.unwrap_or_else(|_| Err(ClientError::Broken("it does not answer".to_owned())))
}

async fn exchange(socket: &Path, method: &Method, target: &str, body: String) -> Result<Bytes, ClientError> {
    let (response, _driver) = send(socket, method, target, body).await?;
    let status = response.status();
    let body = whole(response).await?;
    if status.is_success() || status == StatusCode::UNPROCESSABLE_ENTITY || status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(body);
    }
    Err(problem(status, &body))
}

async fn send(
    socket: &Path,
    method: &Method,
    target: &str,
    body: String,
) -> Result<(Response<Incoming>, Driver), ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NotRunning(socket.to_owned())
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            ClientError::NotPermitted(socket.to_owned())
        } else {
            ClientError::Broken(error.to_string())
        }
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder().method(method.clone()).uri(target).header(HOST, "localhost");
    let request = request.header(CONTENT_TYPE, "application/toml").body(Full::new(Bytes::from(body)));
    let request = request.map_err(|error| ClientError::Broken(error.to_string()))?;
    let driver = Driver(tokio::spawn(connection));
    Ok((sender.send_request(request).await.map_err(broken)?, driver))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| match error.is::<LengthLimitError>() {
        true => ClientError::Broken(format!("its answer is longer than {} MiB", MAX_ANSWER_BYTES >> 20)),
        false => ClientError::Broken(error.to_string()),
    };
    Ok(body.map_err(broken)?.to_bytes())
}

fn problem(status: StatusCode, body: &[u8]) -> ClientError {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let kind = text("type").rsplit(':').next().unwrap_or_default().to_owned();
    let detail = if document.is_null() { format!("it answered {status}") } else { text("detail") };
    ClientError::Problem { status: status.as_u16(), kind, detail, document }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Answers one request with so many times these octets, a body without an announced length. Returns where.
    fn serving(body: Vec<u8>, times: usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap();
            for _ in 0..times {
                if stream.write_all(&body).await.is_err() {
                    return;
                }
            }
        });
        (folder, path)
    }

    /// Asks for the lines of such an answer.
    async fn answering(body: Vec<u8>) -> (tempfile::TempDir, Result<Lines, ClientError>) {
        let (folder, path) = serving(body, 1);
        let lines = lines(&path, "/queries?follow=1").await;
        (folder, lines)
    }

    #[tokio::test]
    async fn an_answer_of_64_mib_is_read_and_a_longer_one_is_refused() {
        const PIECE: usize = 1 << 20;
        for (piece, is_read) in [(PIECE, true), (PIECE + 1, false)] {
            let (_folder, path) = serving(vec![b'x'; piece], MAX_ANSWER_BYTES / PIECE);
            match fetch(&path, &Method::GET, "/cache").await {
                Ok(answer) => assert!(is_read && answer.len() == MAX_ANSWER_BYTES, "{} octets", answer.len()),
                Err(error) => {
                    assert!(!is_read, "{error}");
                    assert_eq!(error.to_string(), "the daemon cannot be asked: its answer is longer than 64 MiB");
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_the_end_is_told() {
        let (_folder, lines) = answering(b"{\"a\":1}\n\n{\"b\"".to_vec()).await;
        let mut lines = lines.unwrap();
        assert_eq!(lines.next().await.unwrap().unwrap(), "{\"a\":1}");
        assert_eq!(lines.next().await.unwrap().unwrap(), "");
        // Half a line at the end is none.
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn who_follows_gets_lines_until_it_wants_no_more() {
        let (folder, _lines) = answering(Vec::new()).await;
        let path = folder.path().join("again");
        let listener = UnixListener::bind(&path).unwrap();
        let followed = tokio::task::spawn_blocking(move || {
            let mut taken = Vec::new();
            let ended = follow(&path, "/x", |line| {
                taken.push(line.to_owned());
                if line == "b" { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
            });
            (ended.unwrap().unwrap_err().kind(), taken)
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na\n\nb\nc\n").await.unwrap();
        assert_eq!(followed.await.unwrap(), (io::ErrorKind::BrokenPipe, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_not_waited_for() {
        let (_folder, lines) = answering(vec![b'x'; MAX_LINE_BYTES + 100_000]).await;
        let error = lines.unwrap().next().await.unwrap_err();
        assert!(error.to_string().contains("has no end"), "{error}");
    }
}
