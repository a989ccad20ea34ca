//! Responses: documents, and problems as RFC 9457 has them.

use super::shape::Shape;
use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;

/// The body of a response.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a browser may do with a page of ours: show it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// What problems are called: `urn:truename:problem:` and a word.
const PROBLEM_PREFIX: &str = "urn:truename:problem:";

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub struct Problem(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    /// A stable kebab-case word for the kind of problem.
    kind: &'static str,
    /// What is wrong with this request and what to do.
    detail: String,
    /// More about it, by name.
    more: Map<String, Value>,
    header: Option<(HeaderName, String)>,
}

impl Problem {
    /// Makes a problem.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts { status, kind, detail: detail.into(), more: Map::new(), header: None }))
    }

    /// Says that a request cannot be understood.
    pub fn bad_request(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, kind, detail)
    }

    /// Says that there is no such thing.
    pub fn not_found(kind: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, kind, detail)
    }

    /// Adds something a program can read.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.more.insert(name.to_owned(), value.into());
        self
    }

    /// Names the methods there are.
    pub(super) fn allow(mut self, methods: &str) -> Self {
        self.0.header = Some((ALLOW, methods.to_owned()));
        self
    }
}

/// A response to be.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    /// What its tag is made of, when the body holds the time of day.
    tagged_by: Option<Vec<u8>>,
    /// It is a document, to be had in other forms too.
    is_document: bool,
    /// The name of the file that it is to be kept in.
    file: Option<&'static str>,
}

impl Reply {
    /// Makes a JSON document.
    pub(super) fn json(value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
        body.push(b'\n');
        Self { is_document: true, ..Self::octets("application/json", body) }
    }

    /// Makes a text.
    pub(super) fn text(content_type: &'static str, text: String) -> Self {
        Self::octets(content_type, text.into_bytes())
    }

    /// Makes a file of this name.
    pub(super) fn file(content_type: &'static str, file: &'static str, body: Vec<u8>) -> Self {
        Self { file: Some(file), ..Self::octets(content_type, body) }
    }

    fn octets(content_type: &'static str, body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, content_type, body, tagged_by: None, is_document: false, file: None }
    }

    /// Changes the status.
    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Changes what the tag is made of.
    pub(super) fn tagged_by(mut self, value: &impl Serialize) -> Self {
        self.tagged_by = serde_json::to_vec(value).ok();
        self
    }

    /// Turns it into a response; one that the client has already is not sent again.
    pub(super) fn into_response(self, asked: &HeaderMap) -> Response<Body> {
        let of = self.tagged_by.as_deref().unwrap_or(&self.body);
        // Two documents with the same tag of its own may differ in the time of day (RFC 9110 section 8.8.1).
        let weak = if self.tagged_by.is_some() { "W/" } else { "" };
        let accept = || asked.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let shape = if self.is_document { Shape::choose(accept()) } else { Shape::Json };
        let (content_type, form) = match shape {
            Shape::Json => (self.content_type, ""),
            Shape::Text => (shape.content_type(), "-text"),
            Shape::Page => (shape.content_type(), "-page"),
        };
        let tag = format!("{weak}\"{:08x}-{:x}{form}\"", crc32fast::hash(of), of.len());
        let mut response = Response::new(body(shape.write(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        if shape == Shape::Page {
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        let named = self.file.map(|file| HeaderValue::try_from(format!("attachment; filename=\"{file}\"")));
        if let Some(Ok(named)) = named {
            headers.insert(CONTENT_DISPOSITION, named);
        }
        let known = |value: &HeaderValue| {
            let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
            // Compared weakly, as RFC 9110 section 13.1.2 asks for.
            value.to_str().is_ok_and(|list| list.split(',').map(opaque).any(|one| one == "*" || one == opaque(&tag)))
        };
        if self.status == StatusCode::OK && asked.get_all(IF_NONE_MATCH).iter().any(known) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = body(Vec::new());
            response.headers_mut().remove(CONTENT_TYPE);
        }
        if let Ok(tag) = HeaderValue::try_from(tag) {
            response.headers_mut().insert(ETAG, tag);
        }
        response
    }
}

/// What a problem document is called.
const PROBLEM_TYPE: &str = "application/problem+json";

impl Parts {
    /// Writes the document.
    fn document(&self) -> String {
        let mut document = json!({
            "type": format!("{PROBLEM_PREFIX}{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(self.more.clone());
        }
        format!("{document:#}\n")
    }
}

impl Problem {
    /// Writes a whole response, after which the connection ends: for who has sent nothing that hyper would answer.
    pub(super) fn last_words(&self) -> String {
        let (status, document) = (self.0.status, self.0.document());
        let length = document.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {PROBLEM_TYPE}\r\ncache-control: no-store\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{document}"
        )
    }
}

impl From<Problem> for Response<Body> {
    fn from(Problem(problem): Problem) -> Self {
        let mut response = Self::new(body(problem.document().into_bytes()));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some((name, Ok(value))) = problem.header.map(|(name, text)| (name, HeaderValue::try_from(text))) {
            headers.insert(name, value);
        }
        response
    }
}

fn body(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).boxed_unsync()
}
