//! Asking a daemon over one of its sockets; for commands.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
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
/// Octets of a line that is followed: a question's has less than 4 KiB.
const MAX_LINE_BYTES: usize = 1 << 20;

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
    runtime.block_on(async {
        let answered = timeout(PATIENCE, exchange(socket, method, target, body)).await;
        answered.unwrap_or_else(|_| Err(ClientError::Broken("it does not answer".to_owned())))
    })
}

/// Asks for something that goes on, and hands out line by line, until the daemon or `take` ends it; empty lines are left out.
///
/// # Errors
/// As [`ask`], and when a line is too long.
pub fn follow(
    socket: &Path,
    target: &str,
    mut take: impl FnMut(&str) -> io::Result<()>,
) -> Result<io::Result<()>, ClientError> {
    let broken = |error: io::Error| ClientError::Broken(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    runtime.block_on(async {
        let begun = timeout(PATIENCE, begin(socket, &Method::GET, target, String::new())).await;
        let (response, driver) = begun.unwrap_or_else(|_| Err(ClientError::Broken("it does not answer".to_owned())))?;
        if !response.status().is_success() {
            return Err(problem(response, &driver).await?);
        }
        let (mut body, mut rest) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(self::broken)?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line[..end]);
                if let Err(error) = if line.is_empty() { Ok(()) } else { take(&line) } {
                    return Ok(Err(error));
                }
            }
            if rest.len() > MAX_LINE_BYTES {
                return Err(ClientError::Broken("a line has no end".to_owned()));
            }
        }
        Ok(Ok(()))
    })
}

async fn exchange(socket: &Path, method: &Method, target: &str, body: String) -> Result<Bytes, ClientError> {
    let (response, driver) = begin(socket, method, target, body).await?;
    let status = response.status();
    if status.is_success() || status == StatusCode::UNPROCESSABLE_ENTITY || status == StatusCode::SERVICE_UNAVAILABLE {
        return read(response, &driver).await;
    }
    Err(problem(response, &driver).await?)
}

/// What drives a connection.
type Driver = JoinHandle<hyper::Result<()>>;

async fn begin(
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
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((response, driver))
}

async fn read(response: Response<Incoming>, driver: &Driver) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| ClientError::Broken(error.to_string()))?.to_bytes();
    driver.abort();
    Ok(body)
}

/// Reads what a daemon has against a request.
async fn problem(response: Response<Incoming>, driver: &Driver) -> Result<ClientError, ClientError> {
    let status = response.status();
    let body = read(response, driver).await?;
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let kind = text("type").rsplit(':').next().unwrap_or_default().to_owned();
    let detail = if document.is_null() { format!("it answered {status}") } else { text("detail") };
    Ok(ClientError::Problem { status: status.as_u16(), kind, detail, document })
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn broken(error: hyper::Error) -> ClientError {
    ClientError::Broken(error.to_string())
}
