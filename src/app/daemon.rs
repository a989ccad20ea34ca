//! The daemon: start; reload on SIGHUP; refresh when a file that the configuration names has changed; forget what another
//! network taught; drain on SIGTERM and SIGINT.

use super::build::{self, Concerned, Loaded};
use super::incidents::Incidents;
use super::inside::{self, Inside};
use super::last_good::{Instead, LastGood};
use super::life::Life;
use super::logging::{self, Logging};
use super::network;
use super::pause::{self, Pause};
use super::probing::Probes;
use super::query_log::QueryLog;
use super::snapshot::Snapshot;
use super::sockets;
use super::wanted::{Wanted, Wanting, What};
use super::watch::Watch;
use super::watchdog::Watchdog;
use super::{Options, RunError};
use crate::clock::Clock;
use crate::config::{Diagnostic, Location};
use crate::control::Outcome;
use crate::dns::Transport;
use crate::listen::{self, Inherited, Running};
use crate::pipeline::Pipeline;
use crate::stats::{Counter, Stats};
use crate::system::network::NetworkEvent;
use crate::system::takeover::Watched;
use crate::system::{files, ports, service};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long questions in flight may go on after SIGTERM (docs/promises.md 2: the rest gets SERVFAIL, exit within 1 s).
const DRAIN: Duration = Duration::from_millis(800);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration cannot be used or an address cannot be bound.
pub fn run(options: &Options) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RunError::System { what: "cannot start the runtime", source })?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<(), RunError> {
    // A default file that is gone at a reload is an error: the defaults would take the place of what it said.
    let options = &Options { config: build::config_path(options.config.as_deref()), ..options.clone() };
    let (last_good, path) = (LastGood::new(), options.config.as_deref());
    let (draft, mut instead) = match build::draft_keeping(path, &options.listen, last_good.most()) {
        Ok(draft) => (draft, None),
        Err(problems) => {
            let (draft, copy) = last_good.instead(path, &options.listen, problems).map_err(RunError::Config)?;
            (draft, Some(copy))
        }
    };
    let of_worker = draft.config.stats.recent_queries.div_ceil(draft.config.server.workers.max(1));
    let (clock, stats) = (Clock::default(), Arc::new(Stats::remembering(of_worker)));
    let logging = logging::start(&draft.config.log, &clock, &stats);
    let mut inherited = Inherited::take();
    let own = inherited.addresses_under(&draft.config.server);
    let mut loaded = match (draft.read(own, &[]), &instead) {
        (Ok(loaded), _) => loaded,
        (Err(_), Some(Instead { problems, .. })) => return Err(RunError::Config(problems.clone())),
        // A file that it names: the configuration before may not name that one.
        (Err(problems), None) => {
            let (draft, copy) = last_good.instead(path, &options.listen, problems).map_err(RunError::Config)?;
            let own = inherited.addresses_under(&draft.config.server);
            let loaded = draft.read(own, &[]).map_err(|_| RunError::Config(copy.problems.clone()))?;
            instead = Some(copy);
            loaded
        }
    };
    let mut signals = Signals::new().map_err(|source| RunError::System { what: "cannot catch signals", source })?;
    if let Some(Instead { problems, why, .. }) = &instead {
        problems.iter().for_each(log_diagnostic);
        tracing::error!(why, "the configuration cannot be used; its last good copy is");
        stats.count(Counter::ReloadsFailed);
    }
    log_warnings(&loaded);
    let texts = std::mem::take(&mut loaded.texts);
    files::raise_limit(build::WANTED_FILES);
    let state = build::state(loaded, &clock, &stats, None);
    let server = state.config.server.clone();
    let mut watch = Watch::new(&state);
    let pipeline = Arc::new(Pipeline::new(state, clock.clone(), Arc::clone(&stats)));
    // Before anybody can ask: there is no moment at which they are not there.
    let mut incidents = Incidents::start(&pipeline);
    let life = Arc::new(Life::new(options.config.as_deref(), &clock));
    let has_copy = instead.is_some();
    if let Some(Instead { main, why, .. }) = instead {
        life.began_with_copy(&main, why);
    }
    let places = pipeline.state().config.stats.clone();
    let (wanting, mut wanted) = Wanting::new();
    let unix = inherited.take_unix();
    // Before anybody is answered, so that nothing is missing in it.
    let mut query_log = QueryLog::start(&pipeline.state().config.log, &clock, &stats);
    let running = listen::start(&server, Arc::clone(&pipeline), Arc::clone(&stats), inherited, &holder_of)?;
    // Ports that were left to the system are known from here on.
    pipeline.state().upstreams.set_own_addresses(&running.own_addresses());
    let in_flight = running.in_flight();
    let (for_inside, for_life) = (Arc::clone(&pipeline), Arc::clone(&life));
    let inside = || Inside {
        pipeline: for_inside,
        life: for_life,
        in_flight,
        wanting,
        probes: Probes::default(),
        names: Watched::default(),
    };
    let control = sockets::start(&places, unix, &stats, inside);
    log_start(&pipeline);
    let mut network = network::Watched::begin(&pipeline.state());
    let mut snapshot = Snapshot::start(&pipeline);
    let watchdog = Watchdog::new(server.workers, running.addresses());
    let mut daemon = Daemon {
        options,
        pipeline,
        clock,
        running,
        logging: &logging,
        watchdog: &watchdog,
        life,
        last_good,
        pause: None,
    };
    daemon.last_good.keep(options.config.as_deref().filter(|_| !has_copy), texts);
    let mut reports = pin!(logging.report_each_minute());
    let mut beats = pin!(watchdog.beat(service::watchdog()));
    service::ready(&daemon.status());
    // No branch has a timer of its own but for a snapshot of what has changed, a pause and a watchdog of the service manager's:
    // nothing else wakes a daemon that has nothing to do.
    loop {
        tokio::select! {
            Some(Wanted { what, outcome }) = wanted.recv() => {
                let acted = daemon.act(what);
                if what == What::Reload {
                    query_log.reopen(&daemon.pipeline.state().config.log);
                }
                // Whoever waited may be gone.
                drop(outcome.send(acted));
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            _ = signals.hangup.recv() => {
                daemon.reload("SIGHUP");
                query_log.reopen(&daemon.pipeline.state().config.log);
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            concerned = watch.changed() => {
                daemon.refresh(concerned);
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            event = network.changed() => {
                daemon.network_changed(event);
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            slept = daemon.slept() => {
                daemon.woke_up(slept);
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            () = pause::over(daemon.pause.as_ref()) => {
                daemon.resume();
                watch.follow(&daemon.pipeline.state());
                network.follow(&daemon.pipeline.state());
                snapshot.follow();
            }
            () = snapshot.due() => snapshot.write(),
            () = incidents.due() => incidents.write(),
            never = &mut reports => match never {},
            never = &mut beats => match never {},
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    tracing::info!("stopping");
    service::stopping();
    let (drained, (), ()) = tokio::join!(daemon.running.drain(DRAIN), snapshot.finish(), incidents.finish());
    drop((control, query_log));
    logging.report();
    tracing::info!(in_flight = drained.in_flight, "stopped");
    Ok(())
}

/// What a running daemon consists of.
struct Daemon<'a> {
    options: &'a Options,
    pipeline: Arc<Pipeline>,
    clock: Clock,
    running: Running,
    logging: &'a Logging,
    watchdog: &'a Watchdog,
    life: Arc<Life>,
    last_good: LastGood,
    pause: Option<Pause>,
}

impl Daemon<'_> {
    /// Does what was asked for over the control socket.
    fn act(&mut self, what: What) -> Outcome {
        match what {
            What::Reload => self.reload("asked over the control socket"),
            What::Pause(length) => self.begin_pause(length),
            What::Resume => self.resume(),
        }
    }

    fn begin_pause(&mut self, length: Duration) -> Outcome {
        let state = self.pipeline.state();
        let outcome = if self.pause.is_some() {
            self.outcome(true, &[])
        } else {
            let reduced = Arc::new(pause::reduced(&state));
            self.put_in_force(build::with_routes_of(&state, reduced, None), "paused")
        };
        if outcome.ok {
            self.pause = Some(Pause::begin(self.pause.take(), &state, length));
            self.life.paused(Some(pause::end(length)));
        }
        outcome
    }

    /// Ends a pause, if there is one.
    fn resume(&mut self) -> Outcome {
        let Some(pause) = self.pause.take() else { return self.outcome(true, &[]) };
        self.life.paused(None);
        let loaded = build::with_routes_of(&self.pipeline.state(), pause.config, Some(pause.routes));
        self.put_in_force(loaded, "the pause is over")
    }

    /// Reads everything again.
    fn reload(&mut self, why: &str) -> Outcome {
        service::reloading();
        let known = self.pipeline.state();
        let draft = build::draft_keeping(self.options.config.as_deref(), &self.options.listen, self.last_good.most());
        let mut loaded = draft.and_then(|draft| {
            let own = self.running.addresses_under(&draft.config.server);
            draft.read(own, &known.system)
        });
        let texts = loaded.as_mut().map(|loaded| std::mem::take(&mut loaded.texts)).unwrap_or_default();
        let outcome = self.put_in_force(loaded, why);
        if outcome.ok {
            self.life.read_again();
            service::ready(&self.status());
            self.last_good.keep(self.options.config.as_deref(), texts);
            // What the files say is in force, all of it.
            self.pause = None;
            self.life.paused(None);
        }
        outcome
    }

    /// Says in one line what is served, for the service manager.
    fn status(&self) -> String {
        let state = self.pipeline.state();
        let addresses: Vec<String> = self.running.addresses().iter().map(|at| at.actual.to_string()).collect();
        let (zones, routes, groups) = (state.config.zones.len(), state.config.routes.len(), state.config.groups.len());
        let copy = self.life.copy().map(|why| format!("Configuration refused ({why}); ")).unwrap_or_default();
        format!("{copy}Serving {}: {zones} zones, {routes} routes, {groups} upstream groups", addresses.join(", "))
    }

    /// Reads again what changed files concern.
    fn refresh(&mut self, concerned: Concerned) {
        let loaded = build::refresh(&self.pipeline.state(), concerned);
        self.put_in_force(loaded, "a file changed");
    }

    /// The network may be another one.
    fn network_changed(&mut self, event: NetworkEvent) {
        let NetworkEvent { links, addresses, routes, rules, lost, elsewhere, place, was } = event;
        let state = self.pipeline.state();
        let stats = self.pipeline.stats();
        stats.add(Counter::NetworkEvents, u64::from(links + addresses + routes + rules));
        stats.add(Counter::NetworkEventsLost, u64::from(lost));
        stats.add(Counter::NetworkEventsElsewhere, u64::from(elsewhere));
        // What was learnt until now belongs there, whatever comes next.
        let seemed = state.upstreams.place();
        if state.upstreams.network_is(was) {
            tracing::debug!(network = was.0, "the network was another one than it seemed");
            if seemed == crate::config::PlaceId::default() {
                self.pipeline.network_named(was);
            } else {
                self.pipeline.network_mistaken();
            }
        }
        if event.concerns_us() {
            stats.count(Counter::NetworkChanges);
            tracing::info!(links, addresses, routes, rules, lost, network = place.0, "the network has changed");
            if place == crate::config::PlaceId::default() || was == crate::config::PlaceId::default() {
                self.pipeline.network_mistaken();
            }
            state.upstreams.network_changed(place);
            self.look_around("the network has changed");
            return;
        }
        if elsewhere > 0 {
            tracing::debug!(elsewhere, "a part of this machine's network has changed that no upstream is reached by");
            self.follow_machine("a part of the network has changed");
        }
    }

    /// Waits until a question has shown that the machine had slept.
    async fn slept(&self) -> Duration {
        // A reload keeps who tells.
        self.pipeline.state().upstreams.slept().await
    }

    /// The machine has slept; the upstreams know that already.
    fn woke_up(&mut self, slept: Duration) {
        tracing::info!(slept_s = slept.as_secs(), "the machine has slept");
        self.look_around("the machine has slept");
    }

    /// Takes note of the network there is: what failed before may not fail here, and there may be other resolvers.
    fn look_around(&mut self, why: &str) {
        self.pipeline.state().cache.network_changed(self.clock.now());
        self.pipeline.network_changed();
        self.follow_machine(why);
    }

    /// Takes note of the resolvers that this machine has.
    fn follow_machine(&mut self, why: &str) {
        let state = self.pipeline.state();
        if let Some(loaded) = build::follow_machine(&state) {
            self.put_in_force(loaded, why);
        }
    }

    /// Changes everything at once, or nothing and says why.
    fn put_in_force(&mut self, loaded: Result<Loaded, Vec<Diagnostic>>, why: &str) -> Outcome {
        let stats = self.pipeline.stats();
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(diagnostics) => {
                stats.count(Counter::ReloadsFailed);
                diagnostics.iter().for_each(log_diagnostic);
                tracing::error!(reason = why, "reload refused; the configuration in force stays");
                let first = diagnostics.iter().find(|problem| problem.is_error()).map(|problem| problem.at.to_string());
                let first = first.unwrap_or_default();
                service::ready(&format!("Reload refused ({first}); {}", self.status()));
                self.life.refused(format!("errors in the configuration, the first at {first}"));
                return self.outcome(false, &diagnostics);
            }
        };
        if let Err(error) = self.running.reconfigure(&loaded.config.server, &holder_of) {
            stats.count(Counter::ReloadsFailed);
            tracing::error!(reason = why, %error, "reload refused; the configuration in force stays");
            service::ready(&format!("Reload refused ({error}); {}", self.status()));
            self.life.refused(error.to_string());
            return Outcome { error: Some(error.to_string()), ..self.outcome(false, &[]) };
        }
        self.watchdog.follow(self.running.addresses());
        log_warnings(&loaded);
        let mut diagnostics = loaded.warnings.clone();
        let known = self.pipeline.state();
        let (new, old) = (&loaded.config, &known.config);
        for (key, changed) in [
            ("server.workers", new.server.workers != old.server.workers),
            ("log.format", new.log.format != old.log.format),
            ("stats", new.stats != old.stats),
        ] {
            if changed {
                tracing::warn!(key, "the new value counts from the next start on");
                diagnostics.push(self.not_before_the_next_start(key));
            }
        }
        let loaded = Loaded { own: self.running.own_addresses(), ..loaded };
        let state = build::state(loaded, &self.clock, stats, Some(&known));
        self.logging.reconfigure(&state.config.log);
        self.pipeline.replace(state);
        stats.count(Counter::ReloadsOk);
        self.life.reloaded();
        tracing::info!(reason = why, "reloaded");
        service::ready(&self.status());
        self.outcome(true, &diagnostics)
    }

    /// Says to whoever asked for a reload that one key was left as it was.
    fn not_before_the_next_start(&self, key: &str) -> Diagnostic {
        let path = self.life.config().path.unwrap_or_else(|| super::DEFAULT_PATH.to_owned());
        Diagnostic::warning(
            "needs-restart",
            Location::file(path.as_ref()),
            "what was in force at the start, and still is",
        )
        .key(key)
        .found("another value, which counts from the next start on")
        .hint("systemctl restart truename.service")
    }

    /// Says how a reload ended, for whoever asked for it.
    fn outcome(&self, ok: bool, diagnostics: &[Diagnostic]) -> Outcome {
        let (generation, diagnostics) = (self.life.generation(), inside::diagnostics_json(diagnostics));
        Outcome { ok, generation, diagnostics, error: None }
    }
}

/// The signals the daemon listens to.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

fn log_start(pipeline: &Pipeline) {
    let state = pipeline.state();
    if state.system.is_empty() && state.config.groups.iter().any(|group| group.auto) {
        tracing::warn!("no resolvers found on this machine; names that need them get SERVFAIL until there are some");
    }
    tracing::info!(
        zones = state.config.zones.len(),
        routes = state.config.routes.len(),
        groups = state.config.groups.len(),
        system_resolvers = state.system.len(),
        "ready"
    );
}

/// Names the program that holds a port, for the message that says it is in use.
fn holder_of(address: SocketAddr, transport: Transport) -> Option<String> {
    ports::holder_of(address, transport == Transport::Udp)
}

/// Logs what does not stand in the way of a configuration.
fn log_warnings(loaded: &Loaded) {
    loaded.warnings.iter().for_each(log_diagnostic);
    for note in &loaded.notes {
        tracing::warn!(note, "about the resolvers of this machine");
    }
}

/// Logs a problem of a file.
fn log_diagnostic(diagnostic: &Diagnostic) {
    let at = diagnostic.at.to_string();
    let (key, found, expected) = (&diagnostic.key, &diagnostic.found, &diagnostic.expected);
    let hint = diagnostic.hint.as_ref().map(tracing::field::display);
    if diagnostic.is_error() {
        tracing::error!(code = diagnostic.code, at, key, found, expected, hint, "problem in the configuration");
    } else {
        tracing::warn!(code = diagnostic.code, at, key, found, expected, hint, "problem in the configuration");
    }
}
