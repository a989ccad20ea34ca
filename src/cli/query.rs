//! `truename query`: one question, asked of a server or answered in process by a configuration.

use super::args::QueryArguments;
use super::exit::{Failed, Outcome};
use super::render;
use crate::app::{self, Asked, Whom};
use crate::config::diagnostic;
use crate::config::server::{ServerText, parse_server};
use crate::dns::answer::Record;
use crate::dns::wire::{Section, flag};
use crate::dns::{Name, Rcode, Rtype};
use crate::pipeline::zone::presentation;
use std::net::IpAddr;

/// What the words on the command line mean.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    qname: Name,
    qtype: Rtype,
    whom: Option<Whom>,
}

/// Asks, prints, and tells whether there was an answer with records.
pub(super) fn run(arguments: &QueryArguments) -> Result<Outcome, Failed> {
    let question = read_words(&arguments.words).map_err(Failed::Usage)?;
    if question.whom.is_some() && arguments.trace {
        return Err(Failed::Usage("--trace shows our own pipeline; it goes without @SERVER".to_owned()));
    }
    let config = arguments.config.as_deref();
    let asked = match &question.whom {
        Some(whom) => app::ask_upstream(config, whom, &question.qname, question.qtype),
        None => app::ask_ourselves(config, &question.qname, question.qtype, arguments.trace),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(app::RunError::Config(diagnostics)) => {
            render::complain(&diagnostic::human(&diagnostics));
            return Err(Failed::Config);
        }
        Err(error @ app::RunError::UnknownUpstream(_)) => return Err(Failed::Usage(error.to_string())),
        Err(error) => return Err(Failed::Run(error)),
    };
    let text = if arguments.json {
        format!("{:#}", app::as_json(&asked))
    } else if arguments.short {
        as_short(&asked)
    } else {
        as_text(&asked)
    };
    render::result(&text)?;
    let found = asked.answer.rcode() == Rcode::NOERROR && asked.answer.has_records();
    Ok(if found { Outcome::Fine } else { Outcome::Negative })
}

/// Reads NAME, TYPE and @SERVER. An address in place of a name asks for its PTR.
fn read_words(words: &[String]) -> Result<Question, String> {
    let mut whom = None;
    let mut plain = Vec::new();
    for word in words {
        match word.strip_prefix('@') {
            Some(text) => whom = Some(read_whom(text)?),
            None => plain.push(word.as_str()),
        }
    }
    let (name, rest) = plain.split_first().ok_or("which name?")?;
    let address: Option<IpAddr> = name.parse().ok();
    let qname = match address {
        Some(address) => reverse_name(address)?,
        None => Name::parse(name).map_err(|error| format!("`{}` is no name: {error}", name.escape_debug()))?,
    };
    let qtype = match rest {
        [] if address.is_some() => Rtype::PTR,
        [] => Rtype::A,
        [text] => text.parse().map_err(|error| format!("`{}`: {error}", text.escape_debug()))?,
        [_, extra, ..] => return Err(format!("what is `{}`? NAME, TYPE and @SERVER are enough", extra.escape_debug())),
    };
    Ok(Question { qname, qtype, whom })
}

/// Reads what stands behind @: a server as in the configuration, or the name of a group or of a server there.
fn read_whom(text: &str) -> Result<Whom, String> {
    let group = text.split('/').next().unwrap_or_default();
    let is_label =
        !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match parse_server(text) {
        Ok(ServerText::At(server)) => Ok(Whom::Server(server)),
        Err(_) | Ok(ServerText::Auto) if is_label => Ok(Whom::Label(text.to_owned())),
        Ok(ServerText::Auto) => Err("`@auto` is no one server".to_owned()),
        Err(hint) => Err(format!(
            "`@{}` is no server: {hint}; or @GROUP or @GROUP/NAME of the configuration",
            text.escape_debug()
        )),
    }
}

/// Returns the name under which an address's PTR record stands (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reverse_name(address: IpAddr) -> Result<Name, String> {
    let text = match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            nibbles.collect::<String>() + "ip6.arpa."
        }
    };
    Name::parse(&text).map_err(|error| error.to_string())
}

fn as_short(asked: &Asked) -> String {
    let records = asked.answer.records(Section::Answer);
    records.iter().map(|record| presentation::rdata_text(record) + "\n").collect()
}

fn as_text(asked: &Asked) -> String {
    let view = asked.answer.view();
    let rcode = asked.answer.rcode();
    let verdict = match (rcode, asked.answer.has_records()) {
        (Rcode::NOERROR, false) => "NODATA".to_owned(),
        _ => rcode.to_string(),
    };
    let flags: Vec<&str> = [(flag::AA, "aa"), (flag::AD, "ad"), (flag::TC, "tc")]
        .into_iter()
        .filter_map(|(bit, name)| view.has(bit).then_some(name))
        .collect();
    let flags = if flags.is_empty() { String::new() } else { format!("  {}", flags.join(" ")) };
    let mut text = format!(
        "{} {}  {verdict}  {}  {:.1} ms{flags}\n",
        asked.qname,
        asked.qtype,
        whence(asked),
        asked.elapsed.as_secs_f64() * 1000.0
    );
    if let Some(ede) = &asked.answer.ede {
        let words = if ede.text.is_empty() { "no words to it" } else { &ede.text };
        text += &format!("extended error {}: {}\n", ede.code, words.escape_debug());
    }
    let mut rows: Vec<Vec<String>> = asked.answer.records(Section::Answer).iter().map(row).collect();
    rows.extend(asked.answer.records(Section::Authority).iter().map(row));
    text += &render::columns(&rows);
    // The conclusion first, the evidence under it.
    let trace = render::trace(asked.trace.steps());
    if trace.is_empty() { text } else { format!("{text}\n{trace}") }
}

/// Says where an answer came from: the server that was asked, or what of ours.
fn whence(asked: &Asked) -> String {
    match &asked.server {
        Some(server) => format!("from {server}"),
        None => format!("source {}", asked.source().as_str()),
    }
}

fn row(record: &Record) -> Vec<String> {
    let (owner, ttl, rtype) = (record.owner.to_string(), record.ttl.to_string(), record.rtype.to_string());
    vec![owner, ttl, rtype, presentation::rdata_text(record)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Question, String> {
        read_words(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_come_in_any_order_behind_the_name() {
        let question = read(&["example.org", "@9.9.9.9", "aaaa"]).unwrap();
        assert_eq!(question.qtype, Rtype::AAAA);
        assert_eq!(address(&question), Some("9.9.9.9:53".to_owned()));
        let bracketed = read(&["example.org", "@[::1]:5300"]).unwrap();
        assert_eq!(address(&bracketed), Some("[::1]:5300".to_owned()));
    }

    /// Returns the address and port that are asked.
    fn address(question: &Question) -> Option<String> {
        let Some(Whom::Server(server)) = &question.whom else { return None };
        server.host.socket_address(server.rung().port).map(|address| address.to_string())
    }

    #[test]
    fn servers_are_written_as_in_the_configuration_and_labels_are_looked_up_there() {
        for (text, port) in [
            ("::1", 53),
            ("tls://9.9.9.9#dns10.quad9.net", 853),
            ("https://dns.example:8443/dns-query", 8443),
            ("quic://[2001:db8::1]", 853),
        ] {
            let question = read(&["a.b", &format!("@{text}")]).unwrap();
            let Some(Whom::Server(server)) = question.whom else { panic!("{text}") };
            assert_eq!(server.rung().port, port, "{text}");
        }
        for label in ["trusted", "corp/dc1", "corp.example", "system/192.168.1.1", "system/[::1]:5353", "auto"] {
            let question = read(&["a.b", &format!("@{label}")]).unwrap();
            assert_eq!(question.whom, Some(Whom::Label(label.to_owned())));
        }
    }

    #[test]
    fn an_address_asks_for_its_pointer() {
        assert_eq!(read(&["192.0.2.1"]).unwrap().qname.to_string(), "1.2.0.192.in-addr.arpa.");
        let v6 = read(&["2001:db8::1"]).unwrap();
        assert_eq!(v6.qtype, Rtype::PTR);
        assert!(
            v6.qname.to_string().starts_with("1.0.0.0.") && v6.qname.to_string().ends_with("8.b.d.0.1.0.0.2.ip6.arpa.")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(read(&["a..b"]).unwrap_err().contains("a..b"));
        assert!(read(&["a.b", "BOGUS"]).unwrap_err().contains("BOGUS"));
        for text in ["@tsl://192.0.2.1", "@192.0.2.1:99999", "@"] {
            assert!(read(&["a.b", text]).unwrap_err().contains("@GROUP"), "{text}");
        }
    }
}
