//! Upstream groups, the default and the routes as they are in force, in the form of the configuration file.
//!
//! What comes out can be read in again and means the same, but for passwords, which are hidden.

use super::model::{
    Config, Floor, Group, OnFailure, Pattern, PrivateAnswers, Proxy, ProxyServer, Route, Rung, Strategy, Tristate,
    Upstream, UpstreamHost, UpstreamOptions, ViewId,
};
use super::server::{ServerAddress, rung};
use super::units::format_duration;
use data_encoding::BASE64;
use toml::{Table, Value};

/// Writes what is in force.
#[must_use]
pub fn effective(config: &Config) -> String {
    let mut text = String::from("# Upstream groups and routes as they are in force; passwords are hidden.\n");
    for each in &config.groups {
        group(&mut text, config, each);
    }
    text.push_str("\n[default]\n");
    let default = config.default;
    key(&mut text, "upstream", config.group(default.upstream).name.as_str());
    key(&mut text, "private_answers", private_answers(default.private_answers));
    key(&mut text, "time_servers", config.time_servers.iter().map(ToString::to_string).collect::<Vec<_>>());
    key(&mut text, "guard", default.guard.as_str());
    // What they stand for is written out below.
    text.push_str("trusted_presets = []\n");
    text.push_str("\n[guard]\n");
    key(&mut text, "references", config.group(config.guard.references).name.as_str());
    key(&mut text, "budget", format_duration(config.guard.budget));
    key(&mut text, "hold_on", config.guard.hold_on);
    key(&mut text, "proofs", config.guard.proofs);
    let texts = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<String>>();
    let forged = config.guard.forged.members();
    key(&mut text, "forged_addresses", texts(&mut forged.iter().map(ToString::to_string)));
    key(&mut text, "allow_divergent", texts(&mut config.guard.lawful.iter().map(ToString::to_string)));
    key(&mut text, "decoys", texts(&mut config.guard.decoys.iter().map(ToString::to_string)));
    key(&mut text, "persist", config.guard.persist);
    key(&mut text, "keep", format_duration(config.guard.keep));
    key(&mut text, "packets", config.guard.packets);
    for each in &config.routes {
        route(&mut text, config, each);
    }
    for each in &config.built_in {
        text.push_str("\n# Nobody wrote this one: it is what `trusted_presets` of [default] stands for, and takes only names that no\n\
                       # other route takes.");
        route(&mut text, config, each);
    }
    text
}

fn key(text: &mut String, name: &str, value: impl Into<Value>) {
    text.push_str(&format!("{name} = {}\n", value.into()));
}

fn group(text: &mut String, config: &Config, group: &Group) {
    text.push_str(&format!("\n[upstream.{}]\n", quoted_if_needed(&group.name)));
    text.push_str("servers = [\n");
    let auto = group.auto.then(|| Value::from("auto"));
    for server in group.servers.iter().map(|each| server(&group.name, each, &group.options)).chain(auto) {
        text.push_str(&format!("  {server},\n"));
    }
    text.push_str("]\n");
    let strategy = match group.strategy {
        Strategy::Fastest => "fastest",
        Strategy::Order => "order",
        Strategy::Parallel => "parallel",
    };
    key(text, "strategy", strategy);
    key(text, "timeout", format_duration(group.timeout));
    if let Some(fallback) = group.fallback {
        key(text, "fallback", config.group(fallback).name.as_str());
    }
    for (name, value) in options(&group.options, &UpstreamOptions::default()) {
        key(text, &name, value);
    }
}

fn quoted_if_needed(name: &str) -> String {
    let bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { name.to_owned() } else { Value::from(name).to_string() }
}

/// Makes a server's table, without what its group says already.
fn server(group: &str, server: &Upstream, of_group: &UpstreamOptions) -> Value {
    let (first, ladder) = (server.rungs.first(), server.rungs.len() > 1);
    let single = first.filter(|_| !ladder);
    // A name without a transport is none; the ladder's first stands before it.
    let transport = single.or(first.filter(|_| server.host.ip().is_none()));
    let address = ServerAddress {
        host: server.host.clone(),
        transport: transport.map(|rung| rung.transport),
        port: single.map(|rung| rung.port),
        path: single.and_then(|rung| rung.path.as_deref()).map(str::to_owned),
        certificate_name: server.options.server_name.clone(),
    };
    let mut table = Table::new();
    table.insert("address".to_owned(), address.to_string().into());
    let name = server.label.strip_prefix(group).and_then(|label| label.strip_prefix('/')).unwrap_or(&server.label);
    if name != address.to_string() && is_identifier(name) {
        table.insert("name".to_owned(), name.into());
    }
    if ladder {
        table
            .insert("rungs".to_owned(), Value::Array(server.rungs.iter().map(|rung| rung_text(rung).into()).collect()));
    }
    table.extend(options(&server.options, of_group));
    Value::Table(table)
}

/// A label made of an address is not a name anybody gave.
fn is_identifier(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn rung_text(written: &Rung) -> String {
    let usual = rung(written.transport, None, None);
    let mut text = written.transport.to_string();
    if written.port != usual.port {
        text.push_str(&format!(":{}", written.port));
    }
    text.push_str(written.path.as_deref().filter(|_| written.path != usual.path).unwrap_or_default());
    text
}

/// Returns the keys whose values are not those of `usual`.
fn options(options: &UpstreamOptions, usual: &UpstreamOptions) -> Vec<(String, Value)> {
    let mut keys: Vec<(&str, Value)> = Vec::new();
    if options.floor != usual.floor {
        keys.push(("floor", if options.floor == Floor::Encrypted { "encrypted" } else { "any" }.into()));
    }
    if options.sni != usual.sni {
        keys.push(("sni", options.sni.into()));
    }
    if options.pins != usual.pins {
        keys.push(("pins", Value::Array(options.pins.iter().map(|pin| BASE64.encode(pin).into()).collect())));
    }
    let path = |path: &std::path::Path| Value::from(path.display().to_string());
    if options.ca_file != usual.ca_file {
        keys.extend(options.ca_file.as_deref().map(|file| ("ca_file", path(file))));
    }
    if options.client_certificate != usual.client_certificate
        && let Some(client) = &options.client_certificate
    {
        keys.push(("client_certificate", path(&client.certificate)));
        keys.push(("client_key", path(&client.key)));
    }
    if options.source != usual.source {
        keys.extend(options.source.map(|source| ("source", source.to_string().into())));
    }
    if options.interface != usual.interface {
        keys.extend(options.interface.as_deref().map(|interface| ("interface", interface.into())));
    }
    if options.mark != usual.mark {
        keys.extend(options.mark.map(|mark| ("mark", i64::from(mark).into())));
    }
    if options.proxy != usual.proxy {
        keys.push(("proxy", proxy(&options.proxy).into()));
    }
    if options.bootstrap != usual.bootstrap {
        keys.push(("bootstrap", Value::Array(options.bootstrap.iter().map(|to| to.to_string().into()).collect())));
    }
    keys.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn proxy(proxy: &Proxy) -> String {
    let shown = |scheme: &str, server: &ProxyServer| {
        let login = server.login.as_ref().map(|login| format!("{}:hidden@", login.user)).unwrap_or_default();
        let host = match (&server.host, server.host.socket_address(server.port)) {
            (_, Some(address)) => address.to_string(),
            (UpstreamHost::Name(name), None) => format!("{}:{}", name.to_string().trim_end_matches('.'), server.port),
            (UpstreamHost::Address(ip, _), None) => format!("{ip}:{}", server.port),
        };
        format!("{scheme}://{login}{host}")
    };
    match proxy {
        Proxy::None => "none".to_owned(),
        Proxy::Env => "env".to_owned(),
        Proxy::Socks5(server) => shown("socks5", server),
        Proxy::Http(server) => shown("http", server),
    }
}

fn route(text: &mut String, config: &Config, route: &Route) {
    text.push_str("\n[[route]]\n");
    key(text, "name", route.name.as_str());
    let patterns = |patterns: &[Pattern]| Value::Array(patterns.iter().map(|each| each.to_string().into()).collect());
    key(text, "names", patterns(&route.patterns));
    if !route.exclude.is_empty() {
        key(text, "exclude", patterns(&route.exclude));
    }
    if !route.lists.is_empty() {
        let list = |list: &super::model::ListFile| {
            let format = match list.format {
                super::model::ListFormat::Domains => "domains",
                super::model::ListFormat::Hosts => "hosts",
                super::model::ListFormat::Dnsmasq => "dnsmasq",
            };
            let keys = [("path", list.path.display().to_string()), ("format", format.to_owned())];
            Value::Table(keys.map(|(name, value)| (name.to_owned(), value.into())).into_iter().collect())
        };
        key(text, "names_from", Value::Array(route.lists.iter().map(list).collect()));
    }
    if let Some(views) = &route.views {
        let name = |view: &ViewId| config.view_name(*view).into();
        key(text, "views", Value::Array(views.iter().map(name).collect()));
    }
    key(text, "upstream", config.group(route.upstream).name.as_str());
    match route.private {
        Tristate::Auto => {}
        Tristate::True => key(text, "private", true),
        Tristate::False => key(text, "private", false),
    }
    if let Some(on_failure) = route.on_failure {
        key(text, "on_failure", if on_failure == OnFailure::Servfail { "servfail" } else { "default" });
    }
    if let Some(answers) = route.private_answers {
        key(text, "private_answers", private_answers(answers));
    }
    if let Some(mode) = route.guard {
        key(text, "guard", mode.as_str());
    }
}

fn private_answers(answers: PrivateAnswers) -> &'static str {
    match answers {
        PrivateAnswers::Auto => "auto",
        PrivateAnswers::Drop => "drop",
        PrivateAnswers::Allow => "allow",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use std::path::Path;

    #[test]
    fn what_is_shown_reads_back_as_the_same_groups_and_routes() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let texts = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let texts = texts.map(|path| std::fs::read_to_string(path).unwrap()).chain([String::new()]);
        let mut count = 0;
        for text in texts {
            let text = text.replace("s3cret", "hidden");
            let one = load_text("/x/truename.toml", &text).config.unwrap();
            let shown = effective(&one);
            // Views are not shown, and routes may be for some.
            let views: String =
                one.views.iter().map(|view| format!("[[view]]\nname = {:?}\nlisten = []\n", view.name)).collect();
            let views = views.replace("listen = []", "clients = [\"192.0.2.0/24\"]");
            let again = load_text("/x/truename.toml", &(shown.clone() + &views));
            let again = again.partial.or(again.config).unwrap();
            assert_eq!(again.groups, one.groups, "{shown}");
            assert_eq!(again.routes.len(), one.routes.len() + one.built_in.len(), "{shown}");
            for (again, one) in again.routes.iter().zip(one.routes.iter().chain(&one.built_in)) {
                let names = |route: &Route| route.patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
                assert_eq!(names(again), names(one));
                assert_eq!(
                    (&again.name, again.upstream, again.on_failure, &again.views),
                    (&one.name, one.upstream, one.on_failure, &one.views)
                );
            }
            count += 1;
        }
        assert!(count > 6);
    }

    #[test]
    fn passwords_are_hidden_and_the_built_in_groups_shown() {
        let text = include_str!("../../config/examples/proxy.toml");
        let shown = effective(&load_text("x.toml", text).config.unwrap());
        assert!(shown.contains("socks5://anna:hidden@10.0.0.1:1080") && !shown.contains("s3cret"), "{shown}");
        let shown = effective(&load_text("x.toml", "").config.unwrap());
        for part in
            ["[upstream.trusted]", "[upstream.near]", "9.9.9.10#dns10.quad9.net", "trusted-presets", "\"github.com\""]
        {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let shown = effective(&load_text("x.toml", "[default]\ntrusted_presets = []\n").config.unwrap());
        assert!(!shown.contains("[[route]]"), "{shown}");
    }
}
