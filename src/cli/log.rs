//! `truename log`: the last questions and their answers, or each as it is answered.

use super::args::LogArguments;
use super::daemon::{self, encoded};
use super::exit::{Failed, Outcome};
use super::figures::{table, time};
use super::render;
use crate::control::client::{self, ClientError};
use crate::control::queries::Line;
use crate::control::{Door, place};
use serde::Deserialize;
use std::io;

/// The columns, those first whose width hardly differs.
const HEAD: [&str; 8] = ["TIME", "CLIENT", "TYPE", "SOURCE", "RCODE", "TOOK", "NAME", "ANSWER"];
/// Their widths where lines come one by one; the last two are as wide as they are.
const WIDTHS: [usize; 6] = [12, 15, 6, 11, 8, 7];
/// Which of them are numbers.
const RIGHT: [usize; 1] = [5];

#[derive(Deserialize)]
struct Document {
    queries: Vec<Line>,
    more: bool,
}

/// Shows the last questions; with `-f`, goes on until somebody ends it.
pub(super) fn run(arguments: &LogArguments) -> Result<Outcome, Failed> {
    let target = target(arguments);
    if arguments.follow {
        return follow(arguments, &target);
    }
    let document = daemon::get(&arguments.read.at, Door::Control, &target)?;
    let text = if arguments.read.json { daemon::text(&document) } else { as_text(&daemon::read(&document)?) };
    render::result(&text)?;
    Ok(Outcome::Fine)
}

fn target(arguments: &LogArguments) -> String {
    let mut target = format!("/queries?limit={}", arguments.limit.unwrap_or(if arguments.follow { 10 } else { 100 }));
    let filters = [
        ("name", &arguments.name),
        ("type", &arguments.rtype),
        ("client", &arguments.client),
        ("rcode", &arguments.rcode),
        ("source", &arguments.source),
        ("upstream", &arguments.upstream),
        ("route", &arguments.route),
        ("since", &arguments.since),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            target += &format!("&{name}={}", encoded(value));
        }
    }
    if arguments.follow { target + "&follow=1" } else { target }
}

fn follow(arguments: &LogArguments, target: &str) -> Result<Outcome, Failed> {
    let socket = place::find(arguments.read.at.socket.as_deref(), Door::Control);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut lines = client::lines(&socket, target).await.map_err(Failed::Daemon)?;
        let mut is_first = true;
        while let Some(line) = lines.next().await.map_err(Failed::Daemon)? {
            // One of nothing says only that the daemon is there.
            if line.is_empty() {
                continue;
            }
            if std::mem::take(&mut is_first) && !arguments.read.json {
                render::result(&padded(&HEAD.map(str::to_owned)))?;
            }
            show(arguments, &String::from_utf8_lossy(&line))?;
        }
        // It never ends by itself.
        Err(Failed::Daemon(ClientError::Broken("the daemon has ended the connection".to_owned())))
    })
}

fn show(arguments: &LogArguments, text: &str) -> io::Result<()> {
    if arguments.read.json {
        return render::result(text);
    }
    match serde_json::from_str::<Line>(text) {
        Ok(line) => render::result(&coloured(&line, &padded(&cells(&line)))),
        Err(_) => lost(text),
    }
}

/// Says how many were lost, on stderr: they are not part of the log.
fn lost(text: &str) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Lost {
        lost: u64,
    }
    if let Ok(Lost { lost }) = serde_json::from_str(text) {
        render::complain(&format!("{lost} more questions came too fast to be shown"));
    }
    Ok(())
}

fn as_text(document: &Document) -> String {
    let rows: Vec<Vec<String>> = document.queries.iter().map(|line| cells(line).to_vec()).collect();
    let text = table(&HEAD, &RIGHT, &rows);
    let (head, lines) = text.split_once('\n').unwrap_or_default();
    let lines: Vec<String> =
        lines.lines().zip(&document.queries).map(|(text, line)| coloured(line, text) + "\n").collect();
    let more = if document.more { "there are older ones; --limit shows up to 10,000\n" } else { "" };
    format!("{head}\n{}{more}", lines.concat())
}

fn cells(line: &Line) -> [String; 8] {
    // The day is of no use in what has happened just now; --json has it.
    let clock = line.ts.get(11..23).unwrap_or_default().to_owned();
    let mut answer = vec![line.answers.join(" ")];
    answer.extend(line.ttl_seconds.map(|ttl| format!("TTL {ttl}")));
    answer.extend(line.upstream.as_ref().map(|upstream| format!("from {upstream}")));
    answer.extend(line.zone.as_ref().map(|zone| format!("in zone {zone}")));
    answer.extend(line.route.as_ref().filter(|route| *route != "default").map(|route| format!("by route {route}")));
    answer.extend(line.ede.map(|code| format!("EDE {code}")));
    answer.extend(line.ede_text.clone());
    answer.retain(|part| !part.is_empty());
    [
        clock,
        line.client.clone(),
        line.rtype.clone().unwrap_or_default(),
        line.source.clone(),
        line.rcode.clone(),
        time(line.duration_seconds),
        line.name.clone().unwrap_or_default(),
        answer.join(", "),
    ]
}

/// A line of its own, in columns of fixed width.
fn padded(cells: &[String; 8]) -> String {
    let mut text = String::new();
    for (column, cell) in cells.iter().enumerate() {
        let cell = render::visible(cell);
        let pad = WIDTHS.get(column).map_or(0, |width| width.saturating_sub(cell.chars().count()));
        let pad = " ".repeat(pad);
        text += &if RIGHT.contains(&column) { pad + &cell } else { cell + &pad };
        text += "  ";
    }
    text.truncate(text.trim_end().len());
    text
}

/// Colours a line whose response code is not what its client wished for; the code stands in it all the same.
fn coloured(line: &Line, text: &str) -> String {
    match line.rcode.as_str() {
        "NOERROR" => text.to_owned(),
        "NXDOMAIN" => render::yellow(text),
        _ => render::red(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, rcode: &str) -> Line {
        Line {
            ts: "2026-11-20T22:57:03.412Z".to_owned(),
            client: "127.0.0.1".to_owned(),
            name: Some(name.to_owned()),
            rtype: Some("A".to_owned()),
            source: "forward".to_owned(),
            rcode: rcode.to_owned(),
            answers: vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()],
            ttl_seconds: Some(60),
            upstream: Some("system/10.0.0.53".to_owned()),
            duration_seconds: 0.0183,
            ..Line::default()
        }
    }

    #[test]
    fn lines_that_come_one_by_one_are_aligned_with_their_head() {
        assert_eq!(
            padded(&HEAD.map(str::to_owned)),
            "TIME          CLIENT           TYPE    SOURCE       RCODE        TOOK  NAME  ANSWER"
        );
        assert_eq!(
            padded(&cells(&line("a.example.", "NOERROR"))),
            "22:57:03.412  127.0.0.1        A       forward      NOERROR     18 ms  a.example.  \
             192.0.2.1 192.0.2.2, TTL 60, from system/10.0.0.53"
        );
    }

    #[test]
    fn nothing_foreign_reaches_the_terminal() {
        let mut hostile = line("a\\027[2J.example.", "SERVFAIL");
        hostile.ede_text = Some("\u{1b}[31m\r\n\u{202e}txt".to_owned());
        hostile.answers = Vec::new();
        for text in
            [padded(&cells(&hostile)), as_text(&Document { queries: vec![hostile.clone()], more: false }).to_owned()]
        {
            let plain = text.replace("\u{1b}[31m22", "22").replace("\u{1b}[0m", "");
            assert!(!plain.trim_end().lines().next_back().unwrap().contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
            assert!(plain.contains("\\u{1b}[31m\\r\\n\\u{202e}txt"), "{text:?}");
        }
    }

    #[test]
    fn a_message_that_could_not_be_read_has_no_empty_cell() {
        let nothing =
            Line { ts: "2026-11-20T22:57:03.412Z".to_owned(), rcode: "FORMERR".to_owned(), ..Line::default() };
        assert_eq!(padded(&cells(&nothing)).split_whitespace().collect::<Vec<_>>().len(), 8);
    }
}
