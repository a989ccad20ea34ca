//! What is no mistake and may yet not be what was meant.

use super::{Config, Diagnostic, Group, Pattern, Route, Tristate, UpstreamHost};
use crate::dns::Name;
use crate::dns::address::is_private;

/// Returns what is worth a second look in a configuration without errors.
#[must_use]
pub fn advice(config: &Config) -> Vec<Diagnostic> {
    config.routes.iter().filter_map(|route| unknown_privacy(config, route)).collect()
}

/// Advises to say whether a route is private when that seems so and `"auto"` cannot know: a server that is found by its name
/// may be anywhere. Public services are named too; one stands out by a name below those that are routed to it, or by private
/// servers beside it.
fn unknown_privacy(config: &Config, route: &Route) -> Option<Diagnostic> {
    let group = config.groups.get(usize::from(route.upstream.0)).filter(|_| route.private == Tristate::Auto)?;
    let named = named(group).find(|name| has_private_neighbours(group) || route.patterns.iter().any(below(name)))?;
    let expected =
        "private = true or private = false: where a server is that is known by its name shows only when it is found";
    let found = format!("group {} with {named}", group.name);
    let hint =
        "as it stands the names of this route count as public ones, and may go to other groups when this one is down";
    let advice = Diagnostic::advice("private-unknown", route.at.clone(), expected);
    Some(advice.key(format!("route {}", route.name)).found(found).hint(hint))
}

fn named(group: &Group) -> impl Iterator<Item = &Name> {
    group.servers.iter().filter_map(|server| match &server.host {
        UpstreamHost::Name(name) => Some(name),
        UpstreamHost::Address(..) => None,
    })
}

/// Tells whether servers of a group have addresses, and private ones only.
fn has_private_neighbours(group: &Group) -> bool {
    let mut addresses = group.servers.iter().filter_map(|server| server.host.ip()).peekable();
    addresses.peek().is_some() && addresses.all(is_private)
}

fn below(name: &Name) -> impl Fn(&Pattern) -> bool + '_ {
    |pattern| !pattern.name.is_root() && name.is_at_or_below(&pattern.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{diagnostic, load_text};

    fn about(servers: &str, names: &str, more: &str) -> String {
        let text = format!(
            "[upstream.corp]\nservers = [{servers}]\nbootstrap = [\"10.0.0.1\"]\n[[route]]\nnames = [\"{names}\"]\n\
             upstream = \"corp\"\n{more}"
        );
        diagnostic::gcc(&advice(&load_text("truename.toml", &text).config.unwrap()))
    }

    #[test]
    fn whether_a_server_known_by_name_is_private_is_asked_for_when_it_seems_so() {
        let own = about("\"tls://dns.corp.example\"", "corp.example", "");
        assert!(own.starts_with("truename.toml:4:"), "{own}");
        for part in ["note:", "[private-unknown]", "group corp with dns.corp.example", "may go to other groups"] {
            assert!(own.contains(part), "{part} in {own}");
        }
        let beside = about("\"tls://10.0.0.53#a.example\", \"tls://dns.example\"", "corp.example", "");
        assert!(beside.contains("[private-unknown]"), "{beside}");
        for said in ["private = true\n", "private = false\n"] {
            assert_eq!(about("\"tls://dns.corp.example\"", "corp.example", said), "");
        }
        let public = "\"https://dns.example/dns-query\", \"tls://9.9.9.10#dns10.quad9.net\"";
        for (servers, names) in
            [(public, "corp.example"), ("\"https://dns.example/dns-query\"", "."), ("\"10.0.0.53\"", "x")]
        {
            assert_eq!(about(servers, names, ""), "", "{servers} {names}");
        }
    }
}
