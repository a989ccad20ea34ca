//! What is shipped for Prometheus and Grafana, held against a real Prometheus that scrapes a real daemon.

use crate::support::daemon::Daemon;
use crate::support::machine::Machine;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Where Prometheus listens on the made-up machine.
const PROMETHEUS: &str = "127.0.0.1:9090";
/// Looks at it before a test has failed; a quarter of a second lies between two.
const MAX_LOOKS: u32 = 160;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(shipped("grafana/truename.json")).unwrap()).unwrap()
}

/// Returns each panel's title and expressions.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard = dashboard();
    let all = dashboard["panels"].as_array().unwrap();
    let expressions = |panel: &Value| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
    };
    all.iter().map(|panel| (panel["title"].as_str().unwrap().to_owned(), expressions(panel))).collect()
}

/// Returns the expression of each alert. The file is read by its form, which `promtool check rules` has approved.
fn alerts() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(shipped("prometheus/truename.rules.yml")).unwrap();
    let mut found = Vec::new();
    for alert in text.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap().to_owned();
        let lines = alert.lines().skip_while(|line| !line.trim().starts_with("expr:"));
        let mut expression = String::new();
        for (at, line) in lines.enumerate() {
            let line = line.trim();
            if at > 0 && (line.starts_with("for:") || line.starts_with("labels:")) {
                break;
            }
            let line = line.strip_prefix("expr:").unwrap_or(line).trim().trim_start_matches(">-");
            let _ = write!(expression, "{line} ");
        }
        found.push((name, expression.trim().to_owned()));
    }
    found
}

/// Returns the names of metrics in an expression: what is ours or a process's.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let is_edge = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = expression.split(is_edge);
    words.filter(|word| word.starts_with("truename_") || word.starts_with("process_")).map(str::to_owned).collect()
}

/// Returns a tool's words when it is not content; nothing when it is not here.
fn promtool(args: &[&str], folder: &Path) -> Option<String> {
    let output = Command::new("promtool").args(args).current_dir(folder).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "promtool is not here; in CI it must be");
        return None;
    };
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (!output.status.success()).then_some(said)
}

#[test]
fn alert_rules_are_good_and_each_fires_on_what_it_is_for() {
    let folder = shipped("prometheus");
    assert_eq!(promtool(&["check", "rules", "--lint-fatal", "truename.rules.yml"], &folder), None);
    assert_eq!(promtool(&["test", "rules", "truename.rules.test.yml"], &folder), None);
    // Every alert is tried, both ways.
    let tried = std::fs::read_to_string(folder.join("truename.rules.test.yml")).unwrap();
    let alerts = alerts();
    assert!(alerts.len() > 7, "{alerts:?}");
    for (name, _) in &alerts {
        assert_eq!(tried.matches(&format!("{name}, exp_alerts: []")).count(), 1, "{name}");
        assert_eq!(tried.matches(&format!("alertname=\"{name}\"")).count(), 1, "{name}");
    }
}

#[test]
fn the_dashboard_is_made_of_what_every_grafana_has() {
    let dashboard = dashboard();
    let core = ["row", "stat", "timeseries", "heatmap", "state-timeline"];
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken: BTreeSet<(u64, u64)> = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(core.contains(&panel["type"].as_str().unwrap()), "{title}: {}", panel["type"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let of = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(of("x") + of("w") <= 24, "{title}");
        for place in (of("y")..of("y") + of("h")).flat_map(|y| (of("x")..of("x") + of("w")).map(move |x| (x, y))) {
            assert!(taken.insert(place), "{title} lies over another");
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(target["expr"].as_str().unwrap().contains("$instance"), "{title}: for the machine that is chosen");
        }
    }
    let variables: Vec<&Value> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(variables, ["datasource", "instance"]);
    assert!(panels.len() > 25, "{}", panels.len());
}

/// Prometheus as Debian ships it, on a machine of its own; ended on drop.
struct Prometheus {
    child: Child,
    machine: Machine,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(machine: Machine, scraped: &str) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "prometheus is not here; in CI it must be");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\nrule_files: [\"{}\"]\nscrape_configs:\n\
             - job_name: truename\n  static_configs:\n  - targets: [\"{scraped}\"]\n",
            shipped("prometheus/truename.rules.yml").display()
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let mut command = machine.enter("prometheus");
        command.args(["--log.level=error", &format!("--web.listen-address={PROMETHEUS}")]);
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        Some(Self { child, machine, _folder: folder })
    }

    /// Asks something of its interface; nothing when it does not answer.
    fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut command = self.machine.enter("curl");
        command.args(["-s", "-G", &format!("http://{PROMETHEUS}{path}")]);
        for (name, value) in query {
            command.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        serde_json::from_slice(&command.output().unwrap().stdout).ok()
    }

    /// Runs an expression; returns the number of series.
    fn series(&self, expression: &str) -> usize {
        let answer =
            self.get("/api/v1/query", &[("query", expression)]).unwrap_or_else(|| panic!("no answer: {expression}"));
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap().len()
    }
}

/// Waits for what takes some scrapes.
fn in_time(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..MAX_LOOKS {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("not in time: {what}");
}

#[test]
fn a_real_prometheus_has_data_for_every_expression() {
    let Some(machine) = Machine::make(&[]) else { return };
    // One daemon has the data, the other forwards to it and is scraped.
    let far = "[[zone]]\nname = \"example.org\"\nrecords = [{ name = \"www\", type = \"A\", value = \"192.0.2.1\" }]\n";
    let far = machine.daemon(far, &["127.0.0.1:5301"]);
    let config = "[upstream.far]\nservers = [\"127.0.0.1:5301\"]\n[default]\nupstream = \"far\"\n\
                  [stats]\nprometheus_listen = \"127.0.0.1:9553\"\n\
                  [[zone]]\nname = \"lab.example\"\nrecords = [{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }]\n\
                  [[route]]\nname = \"corp\"\nnames = [\"corp.example.org\"]\nupstream = \"far\"\n";
    let daemon = machine.daemon(config, &["127.0.0.1:5300"]);
    let Some(prometheus) = Prometheus::start(machine, "127.0.0.1:9553") else { return };
    let ask = |name: &str| drop(prometheus.machine.ask("127.0.0.1:5300", name));
    in_time("it has scraped", || {
        prometheus.get("/api/v1/query", &[("query", "up")]).is_some_and(|answer| {
            answer["data"]["result"].as_array().is_some_and(|all| all.iter().any(|one| one["value"][1] == "1"))
        })
    });
    let mut n = 0;
    let panels = panels();
    let mut expressions: Vec<(String, String)> =
        panels.iter().flat_map(|(title, all)| all.iter().map(|one| (title.clone(), one.clone()))).collect();
    // What an alert compares must have data; whether it is above the bound is another matter.
    let compared = |expression: &str| {
        let at = [" > ", " == ", " < "].iter().filter_map(|sign| expression.rfind(sign)).max().expect("a comparison");
        expression[..at].to_owned()
    };
    expressions.extend(alerts().into_iter().map(|(name, expression)| (name, compared(&expression))));
    assert!(expressions.len() > 50, "{}", expressions.len());
    for (title, expression) in expressions {
        let expression = expression.replace("$__rate_interval", "20s").replace("$instance", ".*");
        in_time(&format!("{title}: {expression}"), || {
            n += 1;
            ["www.example.org", "lab.example", "www.corp.example.org", &format!("n{n}.example.org")]
                .into_iter()
                .for_each(ask);
            prometheus.series(&expression) > 0
        });
    }
    // Every rule is evaluated without a complaint, and on a machine that is well none fires.
    let rules = prometheus.get("/api/v1/rules", &[]).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!((&rule["health"], &rule["state"]), (&"ok".into(), &"inactive".into()), "{rule:#}");
    }
    // What a dashboard names is there, and nothing that is gone.
    let names: BTreeSet<String> =
        panels.iter().flat_map(|(_, all)| all.iter().flat_map(|one| metrics_of(one))).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        assert!(prometheus.series(name) > 0, "{name} is no metric of this daemon");
    }
    // A server that dies is seen.
    drop(far);
    in_time("it is down", || {
        n += 1;
        ask(&format!("n{n}.example.org"));
        prometheus.series("truename_upstream_up{group=\"far\"} == 0") == 1
    });
    daemon.assert_no_panic();
}

/// Reads a page as an OpenMetrics parser of somebody else's does, and prints how many families and samples it found.
const PARSE: &str = "import sys\nfrom prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
                     families = list(parse(sys.stdin.read()))\nprint(len(families), sum(len(f.samples) for f in families))";

/// Checks a page with promtool and, in OpenMetrics, with the parser of the Python client.
fn assert_parsed(daemon: &Daemon) {
    use crate::support::http::{ask_http, get};
    let socket = daemon.folder.path().join("stats.sock");
    let old = get(&socket, "/metrics").body;
    let new = ask_http(&socket, "GET", "/metrics", "Accept: application/openmetrics-text\r\n", "").body;
    if let Some(said) = fed(Command::new("promtool").args(["check", "metrics"]), &old) {
        assert_eq!(said, "");
    }
    if let Some(said) = fed(Command::new("/usr/bin/python3").args(["-c", PARSE]), &new) {
        let counts: Vec<usize> =
            said.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{said}"))).collect();
        let samples = new.lines().filter(|line| !line.starts_with('#')).count();
        assert!(counts[0] > 50 && counts[1] == samples, "{said}: {samples} samples");
    }
}

/// Feeds a text to a tool; returns what it said, nothing when it is not here.
fn fed(command: &mut Command, text: &str) -> Option<String> {
    use std::io::Write;
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "a tool is not here; in CI it must be");
        return None;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Eight upstreams, twenty zones and fifty routes, as a large office has them.
#[test]
fn a_large_office_has_few_enough_series_and_every_parser_reads_them() {
    let mut config = String::new();
    for group in ["a", "b"] {
        let servers: Vec<String> = (1..=4).map(|n| format!("\"127.0.0.{n}:5399\"")).collect();
        let _ = write!(config, "[upstream.{group}]\nservers = [{}]\n", servers.join(", "));
    }
    config += "[default]\nupstream = \"a\"\ntrusted_presets = []\n";
    for n in 0..20 {
        let _ = write!(
            config,
            "[[zone]]\nname = \"z{n}.example\"\nrecords = [{{ name = \"@\", type = \"A\", value = \"10.0.0.1\" }}]\n"
        );
    }
    for n in 0..50 {
        let _ = write!(config, "[[route]]\nname = \"r{n}\"\nnames = [\"r{n}.example\"]\nupstream = \"b\"\n");
    }
    let daemon = crate::control::start(&config);
    for n in 0..20 {
        for rtype in ["A", "AAAA", "TXT", "HTTPS", "PTR", "MX"] {
            crate::support::client::ask_type(daemon.address, &format!("z{n}.example"), rtype.parse().unwrap());
        }
    }
    let page = crate::support::http::get(&daemon.folder.path().join("stats.sock"), "/metrics").body;
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(page.matches("truename_upstream_up{").count() >= 8 && page.matches("truename_zone_records{").count() == 20);
    assert!((300..=2_500).contains(&series), "{series} series");
    assert_parsed(&daemon);
}
