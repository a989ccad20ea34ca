//! truename in one thread: a pipeline over a network and a clock in memory.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use truename::clock::Clock;
use truename::config::Config;
use truename::config::load::load_text;
use truename::pipeline::cache::Cache;
use truename::pipeline::route::Routes;
use truename::pipeline::zone::Zones;
use truename::pipeline::{Parts, Pipeline, State};
use truename::stats::Stats;
use truename::upstream::{Net, SimulatedNet, Upstreams};

/// How long everything that a question left behind needs to end.
const AFTERMATH: Duration = Duration::from_secs(30);
/// Runs that share a runtime: its timers count two years at most, and each run takes half a minute.
const RUNS_OF_A_RUNTIME: u32 = 10_000;

/// Loads a configuration that has no error.
pub fn config(text: &str) -> Config {
    let loaded = load_text("fuzz.toml", text);
    loaded.config.unwrap_or_else(|| panic!("the target's own configuration: {:?}", loaded.diagnostics))
}

/// What every run of a target has in common: nothing in it changes, so it is made once.
pub struct World {
    pub config: Arc<Config>,
    pub zones: Arc<Zones>,
    routes: Arc<Routes>,
}

impl World {
    /// Loads a configuration that has no error, with its zones and routes.
    pub fn new(text: &str) -> Self {
        let config = Arc::new(config(text));
        let (zones, problems) = Zones::load(&config, 0);
        assert!(problems.is_empty(), "the target's own zones: {problems:?}");
        let (routes, problems) = Routes::load(&config, &|_| false, &[]);
        assert!(problems.is_empty(), "the target's own routes: {problems:?}");
        Self { config, zones: Arc::new(zones), routes: Arc::new(routes) }
    }

    /// Makes a pipeline whose upstreams are `net`, with an empty cache and no memory of any upstream. Only inside
    /// [`paused`].
    pub fn pipeline(&self, net: Arc<dyn SimulatedNet>) -> Arc<Pipeline> {
        let (clock, stats) = (Clock::simulated(), Arc::new(Stats::default()));
        let net = Net::Simulated(net);
        let upstreams = Upstreams::new(&self.config, &[], clock.clone(), Arc::clone(&stats), net, None);
        let cache = Arc::new(Cache::new(&self.config.cache));
        let (config, zones, routes) = (Arc::clone(&self.config), Arc::clone(&self.zones), Arc::clone(&self.routes));
        let parts = Parts { config, zones, routes, upstreams, system: Vec::new(), cache };
        Arc::new(Pipeline::new(State::new(parts), clock, stats))
    }
}

thread_local! {
    /// A runtime whose time stands still, and how many runs it has served.
    static RUNTIME: RefCell<Option<(Runtime, u32)>> = const { RefCell::new(None) };
}

/// Runs something with tokio's time paused: seconds of waiting cost nothing. Panics when something goes on for longer
/// than [`AFTERMATH`].
pub fn paused<F: Future>(work: F) -> F::Output {
    RUNTIME.with_borrow_mut(|place| {
        if place.as_ref().is_some_and(|(_, runs)| *runs == RUNS_OF_A_RUNTIME) {
            *place = None;
        }
        let (runtime, runs) = place.get_or_insert_with(|| (runtime(), 0));
        *runs += 1;
        let output = runtime.block_on(async {
            let output = work.await;
            // What goes on after an answer (late replies) is part of what must hold.
            tokio::time::sleep(AFTERMATH).await;
            output
        });
        assert_eq!(runtime.metrics().num_alive_tasks(), 0, "something goes on for more than {AFTERMATH:?}");
        output
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

/// Returns a folder for files that live as long as a process does: in memory where that is possible.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a temporary folder")
}

/// A configuration about one file, and the folder that it lies in.
pub struct Scene<C> {
    pub config: C,
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl<C> Scene<C> {
    /// Makes the configuration of a file that is still to be written.
    pub fn new(file: &str, config: impl FnOnce(&Path) -> C) -> Self {
        let folder = folder();
        let path = folder.path().join(file);
        Self { config: config(&path), path, _folder: folder }
    }

    /// Writes the file.
    pub fn write(&self, data: &[u8]) {
        std::fs::write(&self.path, data).expect("a file in our folder");
    }
}

/// Tells whether a text names files that a fuzzer must not open: devices and the kernel's.
pub fn names_devices(text: &[u8]) -> bool {
    [&b"/dev"[..], b"/proc", b"/sys"].iter().any(|word| text.windows(word.len()).any(|at| at == *word))
}
