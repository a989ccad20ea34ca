//! What can be asked, in one table: the dispatcher, the list in a 404 and the OpenAPI document are made of it.

use super::place::Door;
use super::queries;
use http::Method;
use serde_json::{Value, json};

/// Where an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// On both sockets and on the TCP listener.
    Everywhere,
    /// On both sockets.
    Sockets,
    /// On the control socket only.
    Control,
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over a Unix socket.
    Socket(Door),
    /// Over TCP, on this port.
    Tcp(u16),
}

impl Where {
    /// Tells whether it may be reached in a way.
    pub(super) fn is_on(self, way: Way) -> bool {
        match (self, way) {
            (Self::Everywhere, _) | (Self::Sockets, Way::Socket(_)) | (Self::Control, Way::Socket(Door::Control)) => {
                true
            }
            (Self::Sockets | Self::Control, _) => false,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// All sums.
    Stats,
    /// All sums for Prometheus.
    Metrics,
    /// Whether it lives.
    Health,
    /// Whether it can answer.
    Ready,
    /// Which program this is.
    Version,
    /// The schema of `/stats`.
    StatsSchema,
    /// The schema of the configuration.
    ConfigSchema,
    /// This table.
    OpenApi,
    /// Every server.
    Upstreams,
    /// Every zone.
    Zones,
    /// Every route.
    Routes,
    /// Every list of names.
    Lists,
    /// Every view.
    Views,
    /// One question, answered.
    Query,
    /// Questions that were answered, or are.
    Queries,
    /// One question, answered and explained.
    Explain,
    /// All that a report about a fault needs.
    Bundle,
    /// Every incident.
    Incidents,
    /// One incident.
    Incident,
    /// What answers of guarded names were and became.
    Changes,
    /// An incident taken note of.
    Acknowledge,
    /// What is cached.
    CacheList,
    /// What is cached of one name.
    CacheGet,
    /// Cached answers removed.
    CacheFlush,
    /// Everything read again.
    Reload,
    /// A configuration looked at.
    CheckConfig,
    /// A server or group asked again.
    Enable,
    /// A server or group not asked.
    Disable,
    /// A server or group asked to see how it is.
    Probe,
    /// Routes off for a while.
    Pause,
    /// Routes on again.
    Resume,
}

/// One thing that can be asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) method: Method,
    /// `{name}` stands for the rest of the path.
    pub(super) path: &'static str,
    pub(super) at: Where,
    pub(super) action: Action,
    pub(super) doc: &'static str,
    pub(super) parameters: &'static [(&'static str, &'static str)],
}

const NONE: &[(&str, &str)] = &[];
const MATCH: (&str, &str) = ("match", "NAME for one name, *.NAME for it and all below, * for everything");

/// [`queries::PARAMETERS`], and how many.
const QUERIES: &[(&str, &str)] = &{
    let [name, rtype, client, rcode, source, upstream, route, since] = queries::PARAMETERS;
    let limit = ("limit", "how many at most, the last ones; 100 without it, or none with follow; 10,000 at the most");
    let follow = ("follow", "1: go on with each as it is answered, as NDJSON, or text/event-stream by Accept");
    [limit, name, rtype, client, rcode, source, upstream, route, since, follow]
};

const fn get(
    path: &'static str,
    at: Where,
    action: Action,
    parameters: &'static [(&'static str, &'static str)],
    doc: &'static str,
) -> Endpoint {
    Endpoint { method: Method::GET, path, at, action, doc, parameters }
}

const fn change(
    method: Method,
    path: &'static str,
    action: Action,
    parameters: &'static [(&'static str, &'static str)],
    doc: &'static str,
) -> Endpoint {
    Endpoint { method, path, at: Where::Control, action, doc, parameters }
}

/// Everything that can be asked.
pub(super) static ENDPOINTS: &[Endpoint] = &[
    get(
        "/stats",
        Where::Sockets,
        Action::Stats,
        &[("section", "only these parts, parted by commas, such as cache,upstreams")],
        "All sums at one moment.",
    ),
    get("/metrics", Where::Everywhere, Action::Metrics, NONE, "The same for Prometheus; OpenMetrics by Accept."),
    get("/healthz", Where::Everywhere, Action::Health, NONE, "200 while it lives."),
    get("/readyz", Where::Everywhere, Action::Ready, NONE, "200 when it can answer, else 503 with the reason."),
    get("/version", Where::Sockets, Action::Version, NONE, "Which program this is."),
    get("/schema/stats", Where::Sockets, Action::StatsSchema, NONE, "The JSON schema of /stats."),
    get("/schema/config", Where::Sockets, Action::ConfigSchema, NONE, "The JSON schema of the configuration."),
    get("/openapi.json", Where::Sockets, Action::OpenApi, NONE, "This API as OpenAPI."),
    get("/upstreams", Where::Sockets, Action::Upstreams, NONE, "Every server of every group."),
    get("/zones", Where::Sockets, Action::Zones, NONE, "Local zones."),
    get("/routes", Where::Sockets, Action::Routes, NONE, "Routes, in the order of the file."),
    get("/lists", Where::Sockets, Action::Lists, NONE, "Files of names that routes take."),
    get(
        "/views",
        Where::Sockets,
        Action::Views,
        NONE,
        "Views, in the order in which they are tried; on control.sock with their clients and listeners.",
    ),
    get(
        "/query",
        Where::Control,
        Action::Query,
        &[
            ("name", "the name"),
            ("type", "its type; A without one"),
            ("upstream", "GROUP/NAME or GROUP: ask this server, or each of this group, by itself in place of us"),
            ("compare", "1: ask both, and hold what upstreams say against our answer"),
        ],
        "Answers a question as a client's would be, and says what every stage decided; or asks upstreams.",
    ),
    get(
        "/queries",
        Where::Control,
        Action::Queries,
        QUERIES,
        "The last questions and their answers, the oldest first, or each as it is answered.",
    ),
    get(
        "/explain",
        Where::Control,
        Action::Explain,
        &[
            ("name", "the name"),
            ("type", "its type; A without one"),
            ("client", "the address of who is supposed to ask"),
            ("fresh", "1: ask anew, whatever is cached"),
        ],
        "Answers a question and says why the answer is what it is.",
    ),
    get(
        "/debug/bundle",
        Where::Control,
        Action::Bundle,
        &[("names", "1: with names that were looked up, clients, and groups and routes as they are in force")],
        "A tar file of documents for a report about a fault; without names and clients unless they are asked for.",
    ),
    get(
        "/incidents",
        Where::Control,
        Action::Incidents,
        &[("open", "1: only those that nobody has taken note of")],
        "What was found against upstreams, the latest first.",
    ),
    get("/incidents/{name}", Where::Control, Action::Incident, NONE, "One incident, with its evidence and packets."),
    get(
        "/changes",
        Where::Control,
        Action::Changes,
        &[("name", "only those of this name")],
        "What the answers of guarded names were and became, and from whom; the latest first.",
    ),
    change(
        Method::POST,
        "/incidents/{name}/ack",
        Action::Acknowledge,
        NONE,
        "Takes note of an incident, so that it no longer counts as open.",
    ),
    get(
        "/cache",
        Where::Control,
        Action::CacheList,
        &[MATCH, ("limit", "how many at most; 100 without it, 10,000 at the most")],
        "Cached answers.",
    ),
    get("/cache/{name}", Where::Control, Action::CacheGet, NONE, "Cached answers of one name."),
    change(Method::DELETE, "/cache", Action::CacheFlush, &[MATCH], "Removes cached answers; says how many."),
    change(Method::POST, "/reload", Action::Reload, NONE, "Reads everything again and says how that ended."),
    change(
        Method::POST,
        "/config/check",
        Action::CheckConfig,
        NONE,
        "Looks at a configuration, the body in TOML, and lists what is wrong with it.",
    ),
    change(
        Method::POST,
        "/upstreams/{name}/enable",
        Action::Enable,
        NONE,
        "Asks a server again, GROUP/NAME, or all of a group.",
    ),
    change(
        Method::POST,
        "/upstreams/{name}/disable",
        Action::Disable,
        NONE,
        "Asks a server no more, GROUP/NAME, or all of a group, until it is enabled or the daemon is started anew.",
    ),
    change(
        Method::POST,
        "/upstreams/{name}/probe",
        Action::Probe,
        NONE,
        "Asks a server, GROUP/NAME, or all of a group once over each rung, and says how that went.",
    ),
    change(
        Method::POST,
        "/pause",
        Action::Pause,
        &[("for", "how long, such as 5m; 5 minutes without it, a day at the most")],
        "Turns routes off for a while, as if there were none; private ones stay.",
    ),
    change(Method::POST, "/resume", Action::Resume, NONE, "Ends a pause."),
];

impl Endpoint {
    /// Returns what stands for `{name}`, or an empty text where there is no such part; nothing when the path is another.
    pub(super) fn takes<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self.path.split_once("{name}") {
            None => (self.path == path).then_some(""),
            Some((before, after)) => path.strip_prefix(before)?.strip_suffix(after).filter(|name| !name.is_empty()),
        }
    }

    /// Lists the names of its parameters.
    pub(super) fn parameter_names(&self) -> Vec<&'static str> {
        self.parameters.iter().map(|(name, _)| *name).collect()
    }
}

/// Lists what can be asked in a way: method and path.
pub(super) fn list(way: Way) -> Vec<String> {
    let here = ENDPOINTS.iter().filter(|endpoint| endpoint.at.is_on(way));
    here.map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect()
}

/// Parameters that must be there.
const REQUIRED: [(Action, &str); 3] =
    [(Action::Query, "name"), (Action::Explain, "name"), (Action::CacheFlush, "match")];

/// Writes the table down as OpenAPI 3.1.
pub(super) fn openapi(version: &str) -> Value {
    let mut paths = serde_json::Map::new();
    for endpoint in ENDPOINTS {
        let in_query = |(name, doc): &(&str, &str)| {
            let required = REQUIRED.contains(&(endpoint.action, name));
            json!({
                "name": name, "in": "query", "description": doc, "required": required, "schema": { "type": "string" },
            })
        };
        let mut parameters: Vec<Value> = endpoint.parameters.iter().map(in_query).collect();
        if endpoint.path.contains("{name}") {
            parameters.push(json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }));
        }
        let sockets = match endpoint.at {
            Where::Everywhere => "stats.sock, control.sock, TCP",
            Where::Sockets => "stats.sock, control.sock",
            Where::Control => "control.sock",
        };
        let content = if endpoint.action == Action::Stats {
            json!({ "application/json": { "schema": { "$ref": "/schema/stats" } }, "text/plain": {}, "text/html": {} })
        } else if endpoint.action == Action::Queries {
            json!({ "application/json": {}, "application/x-ndjson": {}, "text/event-stream": {} })
        } else if endpoint.action == Action::Metrics {
            json!({ "text/plain": {}, "application/openmetrics-text": {} })
        } else if matches!(endpoint.action, Action::StatsSchema | Action::ConfigSchema) {
            json!({ "application/schema+json": {} })
        } else if endpoint.action == Action::Bundle {
            json!({ "application/x-tar": {} })
        } else {
            json!({ "application/json": {}, "text/plain": {}, "text/html": {} })
        };
        let problem = json!({ "application/problem+json": {} });
        let mut operation = json!({
            "summary": endpoint.doc,
            "description": format!("On {sockets}."),
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done.", "content": content },
                "default": { "description": "A problem (RFC 9457).", "content": problem },
            },
        });
        let refuses = matches!(endpoint.action, Action::Reload | Action::Pause | Action::Resume);
        for (applies, status, description) in [
            (refuses, "422", "Refused; what was in force stays."),
            (endpoint.action == Action::Ready, "503", "Not ready, and why."),
        ] {
            if applies {
                operation["responses"][status] =
                    json!({ "description": description, "content": { "application/json": {} } });
            }
        }
        if endpoint.method == Method::GET && endpoint.action != Action::Queries {
            operation["responses"]["304"] = json!({ "description": "As If-None-Match knows it." });
        }
        if endpoint.action == Action::CheckConfig {
            operation["requestBody"] = json!({ "required": true, "content": { "application/toml": {} } });
        }
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "truename", "version": version, "description": "The local API, over Unix sockets." },
        "servers": [{ "url": "http://localhost" }],
        "paths": paths,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_changes_or_names_is_for_everybody() {
        for endpoint in ENDPOINTS {
            let names = matches!(
                endpoint.action,
                Action::Query
                    | Action::Queries
                    | Action::Bundle
                    | Action::Explain
                    | Action::CacheList
                    | Action::CacheGet
                    | Action::Incidents
                    | Action::Incident
                    | Action::Changes
            );
            if endpoint.method != Method::GET || names {
                assert_eq!(endpoint.at, Where::Control, "{}", endpoint.path);
            }
        }
        let tcp = list(Way::Tcp(1));
        assert_eq!(tcp, ["GET /metrics", "GET /healthz", "GET /readyz"]);
    }

    #[test]
    fn the_description_says_what_must_be_sent_and_what_may_come_back() {
        let document = openapi("0");
        let of = |path: &str, method: &str| document["paths"][path][method].clone();
        let required = |operation: &Value| -> Vec<String> {
            let all = operation["parameters"].as_array().unwrap().iter();
            all.filter(|one| one["required"] == true).map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        for (action, name) in REQUIRED {
            let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.action == action).unwrap();
            assert!(endpoint.parameter_names().contains(&name), "{}", endpoint.path);
            let operation = of(endpoint.path, &endpoint.method.as_str().to_ascii_lowercase());
            assert_eq!(required(&operation), [name], "{}", endpoint.path);
        }
        assert_eq!(required(&of("/cache/{name}", "get")), ["name"]);
        assert!(required(&of("/queries", "get")).is_empty());
        assert!(of("/config/check", "post")["requestBody"]["content"]["application/toml"].is_object());
        assert!(of("/reload", "post")["responses"]["422"]["content"]["application/json"].is_object());
        assert!(of("/readyz", "get")["responses"]["503"]["content"]["application/json"].is_object());
        assert!(
            of("/stats", "get")["responses"]["304"].is_object() && of("/reload", "post")["responses"]["304"].is_null()
        );
        assert!(of("/schema/stats", "get")["responses"]["200"]["content"]["application/schema+json"].is_object());
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(
                    operation["responses"].as_object().unwrap().values().all(|one| one["description"].is_string()),
                    "{at}"
                );
                assert_eq!(
                    path.contains('{'),
                    required(operation).contains(&"name".to_owned()) && path.contains('{'),
                    "{at}"
                );
                assert!(method == "post" || operation["requestBody"].is_null(), "{at}");
            }
        }
    }

    #[test]
    fn a_path_is_taken_by_one_endpoint_of_a_method() {
        for path in ["/stats", "/cache", "/cache/www.example.org", "/config/check", "/cache/a/b"] {
            let taking = ENDPOINTS.iter().filter(|endpoint| endpoint.takes(path).is_some());
            let mut methods: Vec<_> = taking.map(|endpoint| endpoint.method.as_str()).collect();
            assert!(!methods.is_empty(), "{path}");
            methods.dedup();
            assert_eq!(methods.iter().collect::<std::collections::BTreeSet<_>>().len(), methods.len());
        }
        assert!(ENDPOINTS.iter().all(|endpoint| endpoint.takes("/cache/").is_none() && endpoint.takes("/").is_none()));
    }
}
