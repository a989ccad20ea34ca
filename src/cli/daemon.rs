//! Asking the running daemon.

use super::args::SocketArguments;
use super::exit::Failed;
use crate::control::{Door, client, place};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

/// Gets a document from a socket.
pub(super) fn get(at: &SocketArguments, door: Door, target: &str) -> Result<Bytes, Failed> {
    ask(at, door, &Method::GET, target)
}

/// Asks over a socket.
pub(super) fn ask(at: &SocketArguments, door: Door, method: &Method, target: &str) -> Result<Bytes, Failed> {
    let socket = place::find(at.socket.as_deref(), door);
    client::ask(&socket, method, target, String::new()).map_err(Failed::Daemon)
}

/// Reads a document.
pub(super) fn read<T: DeserializeOwned>(document: &Bytes) -> Result<T, Failed> {
    let wrong =
        |error: serde_json::Error| client::ClientError::Broken(format!("its answer is not understood: {error}"));
    serde_json::from_slice(document).map_err(|error| Failed::Daemon(wrong(error)))
}

/// Takes the document as text, to be printed as it is.
pub(super) fn text(document: &Bytes) -> String {
    String::from_utf8_lossy(document).into_owned()
}

/// Escapes what stands for itself in a URL nowhere.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
