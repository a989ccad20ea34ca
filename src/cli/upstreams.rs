//! `truename upstreams`: the servers of a configuration, and how well each of their rungs goes.
//!
//! Both commands work on rows of servers that `app` makes out of the configuration; what a daemon knows of the same servers
//! can be put beside them by their labels.

use super::args::{UpstreamsArguments, UpstreamsCommand, UpstreamsListArguments, UpstreamsTestArguments};
use super::exit::{Failed, Outcome};
use super::{probe, render, tables};
use crate::app::{self, Findings, Member, RunError, Tested};
use crate::config::diagnostic;
use crate::config::{Proxy, Rung, UpstreamHost, UpstreamTransport};
use crate::dns::Name;
use crate::upstream::Probed;
use serde_json::{Value, json};
use std::time::Duration;

/// Bars of a histogram.
const BARS: usize = 8;
/// What bars look like, from nothing to the highest.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// What stands for a value there is none of.
const NONE: &str = "-";

/// Runs what was asked for; the list when nothing was.
pub(super) fn run(arguments: &UpstreamsArguments) -> Result<Outcome, Failed> {
    match &arguments.what {
        None => list(&UpstreamsListArguments { json: arguments.json, ..UpstreamsListArguments::default() }),
        Some(UpstreamsCommand::List(arguments)) => list(arguments),
        Some(UpstreamsCommand::Live(arguments)) => tables::live(arguments),
        Some(UpstreamsCommand::Enable(arguments)) => tables::switch(arguments, "enable"),
        Some(UpstreamsCommand::Disable(arguments)) => tables::switch(arguments, "disable"),
        Some(UpstreamsCommand::Probe(arguments)) => probe::run(arguments),
        Some(UpstreamsCommand::Test(arguments)) => test(arguments),
    }
}

fn list(arguments: &UpstreamsListArguments) -> Result<Outcome, Failed> {
    let members = app::list_upstreams(arguments.config.as_deref(), &arguments.names).map_err(failed)?;
    let text = if arguments.json { listed_as_json(&members) } else { listed(&members) };
    render::result(&text)?;
    Ok(Outcome::Fine)
}

fn test(arguments: &UpstreamsTestArguments) -> Result<Outcome, Failed> {
    // One line a server while it goes on, for who looks on; nothing when the result is read by a program.
    let told = |tested: &Tested| {
        if render::is_watched() && !arguments.json {
            let up = if is_up(tested) { "up" } else { "down" };
            render::complain(&format!("{}: {up}", tested.member.server.label));
        }
    };
    let qname = Name::parse(&arguments.name)
        .map_err(|error| Failed::Usage(format!("`{}` is no name: {error}", arguments.name.escape_debug())))?;
    let what = app::Test { names: arguments.names.clone(), count: arguments.count, qname };
    let found = app::test_upstreams(arguments.config.as_deref(), &what, told).map_err(failed)?;
    let text = if arguments.json { tested_as_json(&found, arguments.count) } else { shown(&found) };
    render::result(&text)?;
    Ok(if found.servers.iter().all(is_up) { Outcome::Fine } else { Outcome::Negative })
}

fn failed(error: RunError) -> Failed {
    match error {
        RunError::Config(diagnostics) => {
            render::complain(&diagnostic::human(&diagnostics));
            Failed::Config
        }
        error @ RunError::UnknownUpstream(_) => Failed::Usage(error.to_string()),
        error @ (RunError::Bind(_) | RunError::System { .. } | RunError::NoAnswer(_)) => Failed::Run(error),
    }
}

/// A server is up when it answers over one of its rungs.
fn is_up(tested: &Tested) -> bool {
    tested.rungs.iter().any(|(_, probed)| probed.is_up())
}

fn listed(members: &[Member]) -> String {
    if members.is_empty() {
        return "no servers: neither the configuration nor this machine has any\n".to_owned();
    }
    let mut rows = vec![["SERVER", "AT", "RUNGS", "NAME", "THROUGH", "IN USE"].map(str::to_owned).to_vec()];
    rows.extend(members.iter().map(|member| {
        let server = &member.server;
        let options = &server.options;
        let rungs: Vec<String> = server.rungs.iter().map(rung_text).collect();
        let name = options.server_name.clone().unwrap_or_else(|| NONE.to_owned());
        let in_use = if member.in_use { "yes" } else { "no" };
        vec![server.label.clone(), place(&server.host), rungs.join(" "), name, through(member), in_use.to_owned()]
    }));
    render::columns(&rows)
}

fn place(host: &UpstreamHost) -> String {
    match host {
        UpstreamHost::Address(ip, 0) => ip.to_string(),
        UpstreamHost::Address(ip, scope) => format!("{ip}%{scope}"),
        UpstreamHost::Name(name) => name.to_string().trim_end_matches('.').to_owned(),
    }
}

/// Writes a rung as it stands in the configuration.
fn rung_text(rung: &Rung) -> String {
    let port = if rung.port == rung.transport.default_port() { String::new() } else { format!(":{}", rung.port) };
    format!("{}{port}", rung.transport)
}

/// Says what connections go through: a proxy, an interface, a source, a mark.
fn through(member: &Member) -> String {
    let options = &member.server.options;
    let proxy = match &options.proxy {
        Proxy::None => None,
        Proxy::Env => Some("proxy of the environment".to_owned()),
        Proxy::Socks5(proxy) => Some(format!("socks5 {}:{}", place(&proxy.host), proxy.port)),
        Proxy::Http(proxy) => Some(format!("http {}:{}", place(&proxy.host), proxy.port)),
    };
    let interface = options.interface.clone();
    let source = options.source.map(|source| source.to_string());
    let mark = options.mark.map(|mark| format!("mark {mark:#x}"));
    let all: Vec<String> = [proxy, interface, source, mark].into_iter().flatten().collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(", ") }
}

fn member_json(member: &Member) -> Value {
    json!({
        "label": member.server.label, "group": member.group, "in_use": member.in_use,
        "host": place(&member.server.host), "certificate_name": member.server.options.server_name,
        "through": Some(through(member)).filter(|text| text != NONE),
    })
}

fn rung_json(rung: &Rung) -> Value {
    json!({ "transport": rung.transport.as_str(), "port": rung.port, "path": rung.path.as_deref() })
}

fn merged(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}

fn listed_as_json(members: &[Member]) -> String {
    let one = |member: &Member| {
        let rungs: Vec<Value> = member.server.rungs.iter().map(rung_json).collect();
        merged(member_json(member), json!({ "rungs": rungs }))
    };
    let servers: Vec<Value> = members.iter().map(one).collect();
    format!("{:#}", json!({ "servers": servers }))
}

/// The figures of one rung.
#[derive(Debug, PartialEq)]
struct Figures {
    mean: Duration,
    deviation: Duration,
    least: Duration,
    most: Duration,
    /// How many times were in each eighth of what lies between least and most.
    bars: [usize; BARS],
}

/// Returns the figures of the times; none when there are no times.
fn figures(times: &[Duration]) -> Option<Figures> {
    let (least, most) = (*times.iter().min()?, *times.iter().max()?);
    let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let squares: f64 = seconds.iter().map(|time| (time - mean).powi(2)).sum();
    // Of a sample: one time alone has no deviation.
    let deviation = (squares / (count - 1.0).max(1.0)).sqrt();
    let width = (most - least).as_nanos().max(1);
    let mut bars = [0; BARS];
    for time in times {
        let bar = usize::try_from((*time - least).as_nanos() * BARS as u128 / width).unwrap_or(usize::MAX);
        // The most lies on the end of the last eighth.
        bars[bar.min(BARS - 1)] += 1;
    }
    let [mean, deviation] = [mean, deviation].map(Duration::from_secs_f64);
    Some(Figures { mean, deviation, least, most, bars })
}

/// Draws bars: the highest is full, every one that is not empty can be seen.
fn histogram(bars: &[usize; BARS]) -> String {
    let highest = bars.iter().max().copied().unwrap_or(0).max(1);
    bars.iter().map(|bar| HEIGHTS[(bar * (HEIGHTS.len() - 1)).div_ceil(highest)]).collect()
}

fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 9.995 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

/// Names the state of a rung.
fn state(probed: &Probed) -> &'static str {
    match (probed.unusable, probed.times.len()) {
        (true, _) => "unusable",
        (false, 0) => "down",
        (false, answered) if answered < probed.sent as usize => "lossy",
        (false, _) => "up",
    }
}

/// Returns how many queries went over a connection that was open already.
fn reused(probed: &Probed) -> u64 {
    u64::from(probed.sent).saturating_sub(probed.connections)
}

fn shown(found: &Findings) -> String {
    let tested = &found.servers;
    if tested.is_empty() {
        return "no servers: neither the configuration nor this machine has any\n".to_owned();
    }
    let heads = ["SERVER", "RUNG", "STATE", "OPENED IN", "TIME", "RANGE", "SHAPE", "ANSWERS", "REUSED", "REMARK"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for one in tested {
        rows.extend(one.rungs.iter().map(|(rung, probed)| row(&one.member.server.label, rung, probed)));
    }
    let down = tested.iter().filter(|one| !is_up(one)).count();
    let verdict = match down {
        0 => format!("{} of {} servers are up\n", tested.len(), tested.len()),
        down => format!("{} of {} servers are up, {down} down\n", tested.len() - down, tested.len()),
    };
    verdict + &tables::wrong_clock(found.wrong_clock.as_ref()) + &render::columns(&rows)
}

fn row(label: &str, rung: &Rung, probed: &Probed) -> Vec<String> {
    let none = || NONE.to_owned();
    let figures = figures(&probed.times);
    let of = |text: fn(&Figures) -> String| figures.as_ref().map_or_else(none, text);
    let counted = |part: u64| if probed.sent == 0 { none() } else { format!("{part}/{}", probed.sent) };
    let over_connection = rung.transport != UpstreamTransport::Udp && probed.is_up();
    vec![
        label.to_owned(),
        rung_text(rung),
        state(probed).to_owned(),
        probed.opening.map_or_else(none, |time| format!("{} ms", ms(time))),
        of(|figures| format!("{} ms ± {}", ms(figures.mean), ms(figures.deviation))),
        of(|figures| format!("{} … {}", ms(figures.least), ms(figures.most))),
        of(|figures| histogram(&figures.bars)),
        counted(probed.times.len() as u64),
        if over_connection { counted(reused(probed)) } else { none() },
        render::visible(probed.remark.as_deref().unwrap_or_default()),
    ]
}

fn tested_as_json(found: &Findings, count: u32) -> String {
    let seconds = |time: Duration| time.as_secs_f64();
    let rung = |(rung, probed): &(Rung, Probed)| {
        let figures = figures(&probed.times);
        let of = |value: fn(&Figures) -> Duration| figures.as_ref().map(|figures| seconds(value(figures)));
        let over_connection = rung.transport != UpstreamTransport::Udp && probed.is_up();
        let known = json!({
            "state": state(probed), "opened_in_seconds": probed.opening.map(seconds), "sent": probed.sent,
            "answered": probed.times.len(), "reused": over_connection.then(|| reused(probed)),
            "mean_seconds": of(|figures| figures.mean), "deviation_seconds": of(|figures| figures.deviation),
            "least_seconds": of(|figures| figures.least), "most_seconds": of(|figures| figures.most),
            "histogram": figures.as_ref().map(|figures| figures.bars), "remark": probed.remark,
        });
        merged(rung_json(rung), known)
    };
    let one = |one: &Tested| {
        let rungs: Vec<Value> = one.rungs.iter().map(rung).collect();
        merged(member_json(&one.member), json!({ "up": is_up(one), "rungs": rungs }))
    };
    let servers: Vec<Value> = found.servers.iter().map(one).collect();
    let mut document = json!({ "count": count, "servers": servers });
    if let Some(clock) = &found.wrong_clock {
        document["wrong_clock"] = json!(clock);
    }
    format!("{document:#}")
}

#[cfg(test)]
#[path = "upstreams_tests.rs"]
mod tests;
