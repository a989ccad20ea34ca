//! truename in one thread: a pipeline over a network and a clock in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
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

/// Loads a configuration that has no error.
pub fn config(text: &str) -> Config {
    let loaded = load_text("fuzz.toml", text);
    loaded.config.unwrap_or_else(|| panic!("the target's own configuration: {:?}", loaded.diagnostics))
}

/// Runs something with tokio's time paused: seconds of waiting cost nothing.
pub fn paused<F: Future>(work: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let output = work.await;
        // What goes on after an answer (late replies) is part of what must hold.
        tokio::time::sleep(AFTERMATH).await;
        output
    })
}

/// Makes a pipeline whose upstreams are `net`. Only inside [`paused`].
pub fn pipeline(config: &Arc<Config>, net: Arc<dyn SimulatedNet>) -> Arc<Pipeline> {
    let (clock, stats) = (Clock::simulated(), Arc::new(Stats::default()));
    let upstreams = Upstreams::new(config, &[], clock.clone(), Arc::clone(&stats), Net::Simulated(net), None);
    let (zones, _) = Zones::load(config, 0);
    let (routes, _) = Routes::load(config, &|_| false, &[]);
    let cache = Arc::new(Cache::new(&config.cache));
    let config = Arc::clone(config);
    let (zones, routes) = (Arc::new(zones), Arc::new(routes));
    let parts = Parts { config, zones, routes, upstreams, system: Vec::new(), cache };
    Arc::new(Pipeline::new(State::new(parts), clock, stats))
}

/// Returns a folder for files that live as long as a process does: in memory where that is possible.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a temporary folder")
}

/// Tells whether a text names files that a fuzzer must not open: devices and the kernel's.
pub fn names_devices(text: &[u8]) -> bool {
    [&b"/dev"[..], b"/proc", b"/sys"].iter().any(|word| text.windows(word.len()).any(|at| at == *word))
}
