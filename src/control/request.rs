//! What a request asks for: its path in parts that are text, its parameters, its body.

use super::reply::Problem;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use std::time::Duration;
use tokio::time::timeout;

/// Octets of a body: a configuration of half a megabyte is a large one.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Parameters of a request; no endpoint knows as many.
const MAX_PARAMETERS: usize = 16;

/// Takes the escapes out of a path or a part of it.
pub(super) fn decode(text: &str) -> Result<String, Problem> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| Problem::bad_request("bad-encoding", "the path is not UTF-8"))?;
    if decoded.contains('\0') {
        return Err(Problem::bad_request("bad-encoding", "the path holds a zero octet"));
    }
    Ok(decoded.into_owned())
}

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads them; each must be known, and stand once.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let wrong = if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                Some(("bad-encoding", "a parameter is not UTF-8".to_owned()))
            } else if !known.contains(&name.as_ref()) {
                let known = if known.is_empty() { "there is none here".to_owned() } else { known.join(", ") };
                Some(("unknown-parameter", format!("unknown parameter `{}`; known: {known}", name.escape_debug())))
            } else if found.iter().any(|(other, _)| *other == name) {
                Some(("repeated-parameter", format!("the parameter `{name}` stands twice")))
            } else if found.len() >= MAX_PARAMETERS {
                Some(("too-many-parameters", format!("more than {MAX_PARAMETERS} parameters")))
            } else {
                None
            };
            if let Some((kind, detail)) = wrong {
                return Err(Problem::bad_request(kind, detail).with("parameters", known.to_vec()));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    /// Writes a path with them behind it, decoded: for people, who look for what was meant.
    pub(super) fn named(&self, path: &str) -> String {
        let mut text = path.to_owned();
        for (at, (name, value)) in self.0.iter().enumerate() {
            text.extend([if at == 0 { "?" } else { "&" }, name, "=", value]);
        }
        text
    }

    /// Returns a parameter's value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the value of one that must be there.
    pub(super) fn require(&self, name: &str) -> Result<&str, Problem> {
        let missing = || Problem::bad_request("missing-parameter", format!("the parameter `{name}` is missing"));
        self.get(name).ok_or_else(missing)
    }
}

/// Reads a body as text.
pub(super) async fn text(body: Incoming) -> Result<String, Problem> {
    let too_large = || {
        let detail = format!("a body may have {MAX_BODY_BYTES} octets");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    };
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", "the body did not come in time");
    let bytes: Bytes = match read.map_err(late)? {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(_) => return Err(Problem::bad_request("body-cut", "the body ended early")),
    };
    String::from_utf8(bytes.into()).map_err(|_| Problem::bad_request("bad-encoding", "the body is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_each_mistake_is_named() {
        let read = |query| Parameters::read(query, &["name", "limit"]);
        let good = read("name=a%20b+c&limit=5").unwrap();
        assert_eq!((good.get("name"), good.require("limit").unwrap()), (Some("a b c"), "5"));
        assert!(good.require("type").is_err());
        for (query, word) in [
            ("nam=a", "unknown-parameter"),
            ("name=%ff", "bad-encoding"),
            ("name=a&name=b", "repeated-parameter"),
            ("x%1b[2J", "unknown-parameter"),
        ] {
            let problem = format!("{:?}", read(query).unwrap_err());
            assert!(problem.contains(word) && !problem.contains('\u{1b}'), "{problem}");
        }
    }

    #[test]
    fn a_request_with_a_parameter_too_many_is_refused() {
        let names: Vec<String> = (0..=MAX_PARAMETERS).map(|n| format!("p{n}")).collect();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let all: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
        assert!(Parameters::read(&all[..MAX_PARAMETERS].join("&"), &known).is_ok());
        let problem = format!("{:?}", Parameters::read(&all.join("&"), &known).unwrap_err());
        assert!(problem.contains("too-many-parameters"), "{problem}");
    }

    #[test]
    fn paths_are_text() {
        assert_eq!(decode("a%2Fb").unwrap(), "a/b");
        assert!(decode("%ff").is_err() && decode("%00").is_err());
    }
}
