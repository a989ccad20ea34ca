//! From a request to a response.

use super::STATS_SCHEMA;
use super::bundle::{self, Names};
use super::daemon::{Daemon, Explain, Matching, Outcome, Question};
use super::endpoints::{self, Action, ENDPOINTS, Endpoint, Way};
use super::follow::{self, Following, Form, MAX_FOLLOWERS};
use super::metrics::{self, Dialect};
use super::place::Door;
use super::queries::{Filter, Line, Teller};
use super::reply::{Body, Problem, Reply};
use super::report::Stats;
use super::request::{self, Parameters};
use crate::clock;
use crate::config::{schema, units};
use crate::dns::{Name, Rtype};
use crate::stats::Stats as Counters;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Cached answers listed when nobody says how many.
const USUAL_LISTED: usize = 100;
/// Cached answers listed at most: some megabytes of JSON.
const MAX_LISTED: usize = 10_000;
/// Threads that go through the cache or what is remembered of questions, at a time: it takes a core for as long as that takes,
/// and answers are what the cores are for. Others wait for their turn.
const MAX_READERS: usize = 1;
/// How long a pause is when nobody says.
const USUAL_PAUSE: Duration = Duration::from_secs(300);
/// How long a pause is at least.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// How long a pause is at most: nobody must find out after a week that routes are off.
const MAX_PAUSE: Duration = Duration::from_secs(86_400);
/// What the kernel shows for a user that this user namespace does not know (proc(5), /proc/sys/kernel/overflowuid): nobody can be told
/// by it.
const OVERFLOW_UID: u32 = 65_534;
/// Parts of the report that are always there.
const ALWAYS: [&str; 5] = ["schema", "version", "generated_at", "started_at", "uptime_seconds"];

/// Who asks, for the log of what changes something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) way: Way,
    pub(super) pid: Option<i32>,
    pub(super) uid: Option<u32>,
}

/// What is served.
pub(super) struct Served<D> {
    daemon: Arc<D>,
    pub(super) stats: Arc<Counters>,
    followers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

impl<D> Served<D> {
    pub(super) fn new(daemon: Arc<D>, stats: Arc<Counters>) -> Self {
        let [followers, readers] = [MAX_FOLLOWERS, MAX_READERS].map(|most| Arc::new(Semaphore::new(most)));
        Self { daemon, stats, followers, readers }
    }

    /// Goes through what is remembered, which may be much, on a thread of its own, when those who came before are done.
    async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let reading = tokio::task::spawn_blocking(move || {
            // Given back when it is done, also when nobody waits for it any more.
            let _permit = permit;
            read()
        });
        let failed = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reading-failed", format!("{error}"));
        reading.await.map_err(failed)
    }
}

impl<D> Clone for Served<D> {
    fn clone(&self) -> Self {
        let Self { daemon, stats, followers, readers } = self;
        let [followers, readers] = [followers, readers].map(Arc::clone);
        Self { daemon: Arc::clone(daemon), stats: Arc::clone(stats), followers, readers }
    }
}

/// Answers a request; every request has an answer.
pub(super) async fn answer<D: Daemon>(served: &Served<D>, asker: Asker, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers().clone();
    match act(served, asker, request).await {
        Ok(Acted::Reply(reply)) => reply.into_response(&headers),
        Ok(Acted::Stream(response)) => response,
        Err(problem) => problem.into(),
    }
}

/// What a request leads to.
enum Acted {
    /// A document.
    Reply(Reply),
    /// A response that goes on until its reader leaves.
    Stream(Response<Body>),
}

async fn act<D: Daemon>(served: &Served<D>, asker: Asker, request: Request<Incoming>) -> Result<Acted, Problem> {
    let daemon = &*served.daemon;
    check_host(asker.way, &request)?;
    let (endpoint, rest) = find(asker.way, &request)?;
    let name = request::decode(rest)?;
    let parameters = Parameters::read(request.uri().query().unwrap_or_default(), &endpoint.parameter_names())?;
    if endpoint.method != Method::GET {
        let Asker { pid, uid, .. } = asker;
        let uid = uid.filter(|uid| *uid != OVERFLOW_UID);
        let target = parameters.named(&endpoint.path.replace("{name}", &name));
        tracing::info!(method = %endpoint.method, path = endpoint.path, pid, uid, "asked over the control socket");
        // A name may be in it.
        tracing::debug!(path = %target.escape_debug(), "asked over the control socket, in full");
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let reply = match endpoint.action {
        Action::Queries => return queries(served, &parameters, Form::choose(accept)).await,
        Action::Stats => stats(daemon, &parameters)?,
        Action::Metrics => {
            let dialect = Dialect::choose(accept);
            Reply::text(dialect.content_type(), metrics::render(&daemon.stats(), dialect))
        }
        Action::Health => Reply::json(&json!({ "status": "ok" })),
        Action::Ready => match daemon.ready() {
            Ok(()) => Reply::json(&json!({ "status": "ready" })),
            Err(reason) => Reply::json(&json!({ "status": "not ready", "reason": reason }))
                .with_status(StatusCode::SERVICE_UNAVAILABLE),
        },
        Action::Version => Reply::json(&json!({ "name": "truename", "version": env!("CARGO_PKG_VERSION") })),
        Action::StatsSchema => Reply::text("application/schema+json", STATS_SCHEMA.to_owned()),
        Action::ConfigSchema => Reply::text("application/schema+json", format!("{:#}\n", schema::schema())),
        Action::OpenApi => Reply::json(&endpoints::openapi(env!("CARGO_PKG_VERSION"))),
        Action::Upstreams => {
            let report = daemon.stats();
            let mut document = json!({ "upstreams": report.upstreams });
            if let Some(clock) = report.wrong_clock {
                document["wrong_clock"] = json!(clock);
            }
            Reply::json(&document)
        }
        Action::Zones => Reply::json(&json!({ "zones": daemon.stats().zones })),
        Action::Routes => Reply::json(&json!({ "routes": daemon.stats().routes })),
        Action::Lists => Reply::json(&json!({ "lists": daemon.lists() })),
        Action::Views => Reply::json(&json!({ "views": views(daemon.views(), asker.way) })),
        Action::Query => {
            let question = Question {
                qname: parse_name(parameters.require("name")?)?,
                qtype: parse_type(parameters.get("type").unwrap_or("A"))?,
                upstream: parameters.get("upstream").map(str::to_owned),
                compare: is_set(&parameters, "compare")?,
            };
            Reply::json(&daemon.query(question).await?)
        }
        Action::Bundle => {
            let names = if is_set(&parameters, "names")? { Names::Shown } else { Names::Hidden };
            let (daemon, stats) = (Arc::clone(&served.daemon), Arc::clone(&served.stats));
            let packed = served.read(move || bundle::bundle(&*daemon, &stats, names, clock::wall())).await?;
            let failed = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "packing-failed", format!("{error}"));
            Reply::file("application/x-tar", "truename-bundle.tar", packed.map_err(failed)?)
        }
        Action::Explain => {
            let client = parameters.get("client").map(parse_address).transpose()?;
            let question = Explain {
                qname: parse_name(parameters.require("name")?)?,
                qtype: parse_type(parameters.get("type").unwrap_or("A"))?,
                client,
                fresh: is_set(&parameters, "fresh")?,
            };
            Reply::json(&daemon.explain(question).await)
        }
        Action::Incidents => Reply::json(&daemon.incidents(is_set(&parameters, "open")?)),
        Action::Incident => Reply::json(&daemon.incident(&name).ok_or_else(no_incident)?),
        Action::Changes => {
            let name = parameters.get("name").map(parse_name).transpose()?;
            Reply::json(&daemon.changes(name.as_ref()))
        }
        Action::Acknowledge if daemon.acknowledge(&name) => Reply::json(&json!({ "acknowledged": true })),
        Action::Acknowledge => return Err(no_incident()),
        Action::CacheList => {
            let (matching, limit) = (Matching::parse(parameters.get("match").unwrap_or("*"))?, limit(&parameters)?);
            let daemon = Arc::clone(&served.daemon);
            served.read(move || Reply::json(&daemon.cached(&matching, limit))).await?
        }
        Action::CacheGet => {
            let (name, daemon) = (Matching::Name(parse_name(&name)?), Arc::clone(&served.daemon));
            let found = served.read(move || daemon.cached(&name, MAX_LISTED)).await?;
            if found["entries"].as_array().is_none_or(Vec::is_empty) {
                return Err(Problem::not_found("not-cached", "nothing is cached under this name"));
            }
            Reply::json(&found)
        }
        Action::CacheFlush => {
            let (matching, daemon) = (Matching::parse(parameters.require("match")?)?, Arc::clone(&served.daemon));
            Reply::json(&json!({ "removed": served.read(move || daemon.flush(&matching)).await? }))
        }
        Action::Reload => ended(&daemon.reload().await?),
        Action::Enable | Action::Disable => {
            let on = endpoint.action == Action::Enable;
            Reply::json(&json!({ "switched": daemon.switch(&name, on)?, "enabled": on }))
        }
        Action::Probe => Reply::json(&daemon.probe(&name).await?),
        Action::Pause => ended(&daemon.pause(length(&parameters)?).await?),
        Action::Resume => ended(&daemon.resume().await?),
        Action::CheckConfig => Reply::json(&daemon.check(request::text(request.into_body()).await?).await),
    };
    Ok(Acted::Reply(reply))
}

/// Shows the last questions, and goes on with those to come when that is asked for.
async fn queries<D: Daemon>(served: &Served<D>, parameters: &Parameters, form: Form) -> Result<Acted, Problem> {
    let now = served.daemon.moment();
    let filter = Filter::read(parameters, now)?;
    let follow = match parameters.get("follow") {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(Problem::bad_request("bad-follow", "follow is 1 or 0")),
    };
    let limit = if follow && parameters.get("limit").is_none() { 0 } else { limit(parameters)? };
    let stats = Arc::clone(&served.stats);
    if !follow {
        let listed = served.read(move || {
            let teller = Teller::new(&stats, now);
            let (queries, more) = stats.last(limit, |answered| teller.line_if(answered, &filter));
            Reply::json(&Listed { queries, more })
        });
        return Ok(Acted::Reply(listed.await?));
    }
    let permit = Arc::clone(&served.followers).try_acquire_owned().map_err(|_| {
        let detail = format!("{MAX_FOLLOWERS} others follow already");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-followers", detail)
    })?;
    let (mut follower, mut before) = (stats.follow(), Vec::new());
    if limit > 0 {
        let chosen = filter.clone();
        let read = served.read(move || {
            let teller = Teller::new(&stats, now);
            let before = follower.before(limit, |answered| teller.line_if(answered, &chosen));
            (follower, before)
        });
        (follower, before) = read.await?;
    }
    let daemon = Arc::clone(&served.daemon);
    let now = Box::new(move || daemon.moment());
    let following = Following { stats: Arc::clone(&served.stats), now, filter, form, follower, _permit: permit };
    let mut response = Response::new(follow::body(following, &before));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Acted::Stream(response))
}

/// The last questions.
#[derive(Serialize)]
struct Listed {
    queries: Vec<Line>,
    /// There are more that the filter lets through.
    more: bool,
}

fn no_incident() -> Problem {
    Problem::not_found("unknown-incident", "there is no such incident; `truename incidents` lists those there are")
}

fn ended(outcome: &Outcome) -> Reply {
    let status = if outcome.ok { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Reply::json(outcome).with_status(status)
}

/// Over TCP a page in a browser can ask as well, under a name it has made lead here. It cannot choose these headers: Host, and
/// Origin, which nobody but browsers sends.
fn check_host(way: Way, request: &Request<Incoming>) -> Result<(), Problem> {
    let Way::Tcp(port) = way else { return Ok(()) };
    let mut hosts = request.headers().get_all(HOST).iter();
    let given = hosts.next().and_then(|host| host.to_str().ok());
    let of_uri = request.uri().authority().map(http::uri::Authority::as_str);
    if request.headers().contains_key(ORIGIN) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", "pages in browsers are not answered"));
    }
    let is_ours = |host: &str| {
        host.rsplit_once(':').is_some_and(|(name, at)| {
            ["127.0.0.1", "localhost", "[::1]"].iter().any(|known| name.eq_ignore_ascii_case(known))
                && at.parse() == Ok(port)
        })
    };
    if given.is_some_and(is_ours) && hosts.next().is_none() && of_uri.is_none_or(is_ours) {
        return Ok(());
    }
    let detail = format!("the Host must be 127.0.0.1:{port}, localhost:{port} or [::1]:{port}");
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail))
}

/// Finds the endpoint of a request and what stands for `{name}` in its path.
fn find(way: Way, request: &Request<Incoming>) -> Result<(&'static Endpoint, &str), Problem> {
    let path = request.uri().path();
    let here: Vec<(&Endpoint, &str)> =
        ENDPOINTS.iter().filter_map(|endpoint| Some((endpoint, endpoint.takes(path)?))).collect();
    if here.is_empty() {
        let problem = Problem::not_found("unknown-path", "there is no such path; `paths` lists those there are");
        return Err(problem.with("paths", endpoints::list(way)));
    }
    // HEAD is GET without the body, which hyper leaves out.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(found) = here.iter().find(|(endpoint, _)| endpoint.method == *method) else {
        let mut methods: Vec<&str> = here.iter().map(|(endpoint, _)| endpoint.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        let methods = methods.join(", ");
        let detail = format!("this path knows {methods}");
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", detail).allow(&methods));
    };
    if !found.0.at.is_on(way) {
        let detail =
            "this is for the control socket, control.sock beside stats.sock: its owner, and members of its group";
        return Err(Problem::new(StatusCode::FORBIDDEN, "control-only", detail));
    }
    Ok(*found)
}

fn stats(daemon: &impl Daemon, parameters: &Parameters) -> Result<Reply, Problem> {
    let report = daemon.stats();
    let tag = what_happened(&report);
    let Some(sections) = parameters.get("section") else { return Ok(Reply::json(&report).tagged_by(&tag)) };
    let mut whole = to_object(&report);
    let mut chosen = Map::new();
    for name in ALWAYS.into_iter().chain(sections.split(',')) {
        match whole.remove_entry(name) {
            Some((name, value)) => drop(chosen.insert(name, value)),
            None if chosen.contains_key(name) => {}
            None => {
                let known: Vec<String> = whole.into_iter().map(|(name, _)| name).collect();
                let detail = format!("there is no section `{}`", name.escape_debug());
                return Err(Problem::bad_request("unknown-section", detail).with("sections", known));
            }
        }
    }
    // What goes on by itself makes a tag of its own each time.
    let process = sections.split(',').any(|section| section == "process").then_some(&report.process);
    Ok(Reply::json(&chosen).tagged_by(&(tag, sections, process)))
}

/// Returns what the tag of a report is made of: it says whether something has happened, not whether time has passed or the report
/// was asked for. So without the process, what is counted of these sockets, and times that are told by the clock of the moment; the
/// rate is one that goes down by itself, and counts as a whole number.
fn what_happened(report: &Stats) -> impl Serialize + '_ {
    let queries = &report.queries;
    let counters = report.counters.iter().filter(|(name, _)| !name.starts_with("control_"));
    let upstreams = report.upstreams.iter().map(|upstream| {
        (
            [&upstream.group, &upstream.name, &upstream.state, &upstream.reason],
            [upstream.queries_total, upstream.responses_total, upstream.latency_seconds.count],
            &upstream.errors_total,
            upstream.smoothed_rtt_seconds,
        )
    });
    (
        (&report.started_at, &report.config, &report.system, &report.not_ready, report.wrong_clock.is_some()),
        (queries.total, queries.in_flight, queries.queries_per_second_1m.round(), &queries.dropped_total),
        (counters.collect::<Vec<_>>(), &report.cache),
        (upstreams.collect::<Vec<_>>(), &report.guard),
        (&report.zones, &report.routes, &report.views),
    )
}

/// Leaves out, for everybody, which clients are told apart: an address may stand for a person.
fn views(mut views: Value, way: Way) -> Value {
    if way != Way::Socket(Door::Control) {
        for view in views.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            view.retain(|key, _| key == "name");
        }
    }
    views
}

fn to_object(report: &Stats) -> Map<String, Value> {
    if let Ok(Value::Object(object)) = serde_json::to_value(report) { object } else { Map::new() }
}

fn parse_name(text: &str) -> Result<Name, Problem> {
    let wrong = |error| Problem::bad_request("bad-name", format!("`{}` is no name: {error}", text.escape_debug()));
    Name::parse(text).map_err(wrong)
}

fn parse_address(text: &str) -> Result<IpAddr, Problem> {
    text.parse().map_err(|_| Problem::bad_request("bad-address", format!("`{}` is no address", text.escape_debug())))
}

fn is_set(parameters: &Parameters, name: &str) -> Result<bool, Problem> {
    match parameters.get(name) {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(Problem::bad_request("bad-flag", format!("{name} is 0 or 1"))),
    }
}

fn parse_type(text: &str) -> Result<Rtype, Problem> {
    let wrong = |error| Problem::bad_request("bad-type", format!("`{}`: {error}", text.escape_debug()));
    text.parse().map_err(wrong)
}

fn length(parameters: &Parameters) -> Result<Duration, Problem> {
    let Some(text) = parameters.get("for") else { return Ok(USUAL_PAUSE) };
    let length = units::parse_duration(text).ok().filter(|length| (MIN_PAUSE..=MAX_PAUSE).contains(length));
    length.ok_or_else(|| Problem::bad_request("bad-duration", "for is a duration from 1s to 1d, such as 5m"))
}

fn limit(parameters: &Parameters) -> Result<usize, Problem> {
    let Some(text) = parameters.get("limit") else { return Ok(USUAL_LISTED) };
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LISTED).contains(limit));
    limit.ok_or_else(|| Problem::bad_request("bad-limit", format!("limit is a number from 1 to {MAX_LISTED}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};
    use tokio::sync::mpsc::unbounded_channel;
    use tokio::task::{JoinSet, yield_now};

    #[tokio::test]
    async fn one_goes_through_what_is_remembered_at_a_time_and_the_others_wait_for_their_turn() {
        const READERS: usize = MAX_READERS + 3;
        let served = Arc::new(Served::new(Arc::new(()), Arc::new(Counters::default())));
        let [inside, most] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let (begun, mut beginnings) = unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            let (served, begun, released) = (Arc::clone(&served), begun.clone(), Arc::clone(&released));
            let [inside, most] = [&inside, &most].map(Arc::clone);
            readers.spawn(async move {
                let read = move || {
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    begun.send(()).unwrap();
                    released.lock().unwrap().recv().unwrap();
                    inside.fetch_sub(1, Ordering::SeqCst);
                };
                served.read(read).await.is_ok()
            });
        }
        for _ in 0..READERS {
            beginnings.recv().await.unwrap();
            // Whoever waits has the time to begin.
            for _ in 0..100 {
                yield_now().await;
            }
            assert_eq!((served.readers.available_permits(), beginnings.len()), (0, 0), "another one reads beside it");
            release.send(()).unwrap();
        }
        assert!(readers.join_all().await.into_iter().all(|is_read| is_read));
        assert_eq!((most.load(Ordering::SeqCst), served.readers.available_permits()), (MAX_READERS, MAX_READERS));
    }
}
