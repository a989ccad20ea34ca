//! The smallest configuration there can be.

use std::time::Duration;
use truename::config::{
    Cache, Config, DefaultRoute, Group, GroupId, Hosts, Log, OnConflict, Prefetch, PrivateAnswers, ServeStale, Server,
    Strategy,
};

/// One group without servers, no routes, the cache's defaults.
pub(crate) fn config() -> Config {
    Config {
        server: Server {
            listen: Vec::new(),
            udp_payload_bytes: 1232,
            workers: 1,
            max_in_flight: 4096,
            tcp_idle_timeout: Duration::from_secs(10),
            edns_errors: true,
            allow: Vec::new(),
        },
        groups: vec![Group {
            name: "system".to_owned(),
            servers: Vec::new(),
            auto: true,
            options: std::sync::Arc::default(),
            strategy: Strategy::Fastest,
            timeout: Duration::from_secs(4),
            fallback: None,
        }],
        default: DefaultRoute {
            upstream: GroupId(0),
            private_answers: PrivateAnswers::Auto,
            guard: truename::config::GuardMode::Off,
        },
        routes: Vec::new(),
        time_servers: Vec::new(),
        built_in: Vec::new(),
        requirements: Vec::new(),
        zones: Vec::new(),
        hosts: Hosts { files: Vec::new(), places: Vec::new(), watch: false, on_conflict: OnConflict::Warn },
        rewrites: Vec::new(),
        guard: truename::config::Guard::NONE,
        cache: Cache {
            max_entries: 50_000,
            max_bytes: 32 << 20,
            min_ttl: Duration::ZERO,
            max_ttl: Duration::from_secs(86_400),
            negative_ttl_max: Duration::from_secs(300),
            serve_stale: ServeStale {
                enabled: true,
                after: Duration::from_millis(350),
                max_age: Duration::from_secs(86_400),
                reply_ttl: Duration::from_secs(30),
            },
            prefetch: Prefetch { enabled: true, min_hits: 3, before_expiry_percent: 10 },
            persist: false,
        },
        views: Vec::new(),
        stats: truename::config::Stats::default(),
        log: Log::default(),
    }
}
