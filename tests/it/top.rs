//! `truename top` on a real terminal.

use crate::control::{control_socket, start, stats_socket};
use crate::hostile_names::{HOSTILE, ask_all};
use crate::support::client::ask;
use crate::support::daemon::{Daemon, binary, forward_to};
use crate::support::eventually;
use crate::support::fake::Fake;
use crate::support::pty::Pty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Command, Stdio};
use truename::dns::Name;

fn top(socket: &Path) -> Command {
    let mut command = binary();
    command.args(["top", "--every", "100ms", "--socket"]).arg(socket);
    command
}

fn forwarding() -> (Fake, Daemon) {
    let fake = Fake::address([192, 0, 2, 1]);
    let daemon = start(&forward_to(&[fake.address]));
    ask(daemon.address, "www.example.org");
    (fake, daemon)
}

/// Returns the number in a row of a table, by the head of its column.
fn cell(screen: &str, table: &str, row: &str, column: &str) -> Option<String> {
    let mut lines = screen.lines().skip_while(|line| !line.starts_with(table));
    let head = lines.next()?;
    // Figures stand at the right of their column, so it ends where its head does.
    let end =
        head.chars().count() - head.chars().skip(head[..head.find(column)?].chars().count()).count() + column.len();
    let line: Vec<char> =
        lines.take_while(|line| !line.is_empty()).find(|line| line.starts_with(row))?.chars().collect();
    let upto: String = line.get(..end.min(line.len()))?.iter().collect();
    upto.split_whitespace().last().map(str::to_owned)
}

#[test]
fn it_is_printed_once_without_a_terminal() {
    let (_fake, daemon) = forwarding();
    let once = |socket: &Path, columns: &str| {
        let mut command = top(socket);
        let output = command.arg("--once").env("COLUMNS", columns).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = once(&control_socket(&daemon), "150");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with("● truename ") && !text.contains("q quit") && !text.contains('\u{1b}'), "{text}");
    assert_eq!(cell(&text, "UPSTREAM", "fake/", "QUERIES").as_deref(), Some("1"), "{text}");
    let question = text.lines().find(|line| line.contains("www.example.org."));
    assert!(question.is_some_and(|line| line.contains("192.0.2.1") && line.contains("forward")), "{text}");
    let (_, narrow) = once(&control_socket(&daemon), "40");
    assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
    // Sums are for everybody, questions are not.
    let (status, text) = once(&stats_socket(&daemon), "150");
    assert_eq!(status, Some(0));
    assert!(text.contains("UPSTREAM") && !text.contains("www.example.org"), "{text}");
}

/// Waits until it has the screen and has drawn.
fn drawn(pty: &Pty) {
    eventually("it draws", || pty.taken() == (true, true) && pty.screen().contains("q quit"));
}

fn ended(pty: &mut Pty) -> Option<i32> {
    let mut status = None;
    eventually("it ends", || {
        status = pty.ended();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn it_shows_figures_that_move_and_gives_the_terminal_back() {
    let (fake, daemon) = forwarding();
    let before = {
        let idle = Pty::start(&Command::new("true"), 24, 100);
        idle.modes()
    };
    let mut pty = Pty::start(&top(&stats_socket(&daemon)), 24, 100);
    drawn(&pty);
    assert_ne!(pty.modes(), before, "keys come one by one");
    let screen = pty.screen();
    assert!(screen.starts_with("● truename 0.1.0  up "), "{screen}");
    assert!(screen.contains(&format!("fake/{}", fake.address)) && screen.contains("guard 0 checks"), "{screen}");
    let answers = || cell(&pty.screen(), "SOURCE", "cache", "ANSWERS").and_then(|text| text.parse().ok()).unwrap_or(0);
    assert_eq!(answers(), 0);
    for _ in 0..30 {
        ask(daemon.address, "www.example.org");
    }
    eventually("the answers are there", || answers() == 30);
    let forwarded = cell(&pty.screen(), "UPSTREAM", &format!("fake/{}", fake.address), "QUERIES");
    assert_eq!(forwarded.as_deref(), Some("1"), "{}", pty.screen());
    pty.press("q");
    assert_eq!(ended(&mut pty), Some(0));
    eventually("the screen is given back", || pty.taken() == (false, false));
    assert_eq!(pty.modes(), before);
}

#[test]
fn signals_end_it_and_the_terminal_is_given_back() {
    let (_fake, daemon) = forwarding();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut pty = Pty::start(&top(&stats_socket(&daemon)), 24, 80);
        drawn(&pty);
        let raw = pty.modes();
        kill(Pid::from_raw(pty.pid().try_into().unwrap()), signal).unwrap();
        assert_eq!(ended(&mut pty), Some(0), "{signal}");
        eventually("the screen is given back", || pty.taken() == (false, false));
        assert_ne!(pty.modes(), raw, "{signal}");
    }
    // As a key it is no signal: the terminal has no say while the screen is taken.
    let mut pty = Pty::start(&top(&stats_socket(&daemon)), 24, 80);
    drawn(&pty);
    pty.press("\u{3}");
    assert_eq!(ended(&mut pty), Some(0));
    eventually("the screen is given back", || pty.taken() == (false, false));
}

#[test]
fn any_size_will_do_and_a_new_one_is_drawn_at_once() {
    let (_fake, daemon) = forwarding();
    let mut pty = Pty::start(&top(&stats_socket(&daemon)), 40, 120);
    drawn(&pty);
    for (rows, columns) in [(10, 40), (1, 1), (2, 200), (60, 20), (24, 80)] {
        pty.resize(rows, columns);
        // The first row always begins so, as far as it goes.
        let start: String = "● truename 0.1.0".chars().take(columns.into()).collect();
        eventually("it is drawn in the new size", || {
            let screen = pty.screen();
            screen.starts_with(&start) && screen.lines().count() <= usize::from(rows)
        });
    }
    eventually("everything is back", || pty.screen().contains("SOURCE") && pty.screen().contains("QUESTIONS"));
    pty.press("q");
    assert_eq!(ended(&mut pty), Some(0));
}

#[test]
fn keys_pause_sort_and_filter() {
    let (fake, other) = (Fake::address([192, 0, 2, 1]), Fake::address([192, 0, 2, 2]));
    let config = format!(
        "{}[upstream.zebra]\nservers = [\"{}\"]\n[[route]]\nnames = [\"z.example\"]\nupstream = \"zebra\"\n",
        forward_to(&[fake.address]),
        other.address
    );
    let daemon = start(&config);
    for n in 0..5 {
        ask(daemon.address, &format!("n{n}.z.example"));
    }
    let mut pty = Pty::start(&top(&stats_socket(&daemon)), 30, 110);
    drawn(&pty);
    eventually("in the order of the file", || pty.screen().contains("UPSTREAM (as configured)"));
    pty.press("s");
    let first = |screen: &str| {
        screen.lines().skip_while(|line| !line.starts_with("UPSTREAM")).nth(1).unwrap_or_default().to_owned()
    };
    eventually("the busiest first", || {
        pty.screen().contains("UPSTREAM (by queries)") && first(&pty.screen()).starts_with("zebra/")
    });
    pty.press("/fake");
    eventually("only what is wanted", || {
        let screen = pty.screen();
        screen.contains("/fake▏") && screen.contains("\nfake/") && !screen.contains("\nzebra/")
    });
    pty.press("\r");
    eventually("the filter stays", || !pty.screen().contains('▏') && !pty.screen().contains("\nzebra/"));
    pty.press("\u{1b}");
    eventually("all are back", || pty.screen().contains("\nzebra/"));
    pty.press("p");
    eventually("it pauses", || pty.screen().contains("PAUSED"));
    ask(daemon.address, "x.z.example");
    let forwarded = || cell(&pty.screen(), "SOURCE", "forward", "ANSWERS");
    assert_eq!(forwarded().as_deref(), Some("5"));
    pty.press("p");
    eventually("it goes on", || !pty.screen().contains("PAUSED") && forwarded().as_deref() == Some("6"));
    pty.press("q");
    assert_eq!(ended(&mut pty), Some(0));
}

#[test]
fn a_daemon_that_goes_is_told_and_one_that_comes_back_is_shown() {
    let (_fake, mut daemon) = forwarding();
    let mut pty = Pty::start(&top(&control_socket(&daemon)), 30, 120);
    drawn(&pty);
    daemon.kill();
    eventually("it is told", || pty.screen().contains("▲ no daemon listens on"));
    let next = daemon.again();
    eventually("the next one is shown", || !pty.screen().contains('▲'));
    ask(next.address, "www.example.org");
    eventually("with its figures", || cell(&pty.screen(), "SOURCE", "forward", "ANSWERS").as_deref() == Some("1"));
    pty.press("q");
    assert_eq!(ended(&mut pty), Some(0));
}

#[test]
fn with_the_socket_for_everybody_it_has_sums_and_says_why_no_questions() {
    let (_fake, daemon) = forwarding();
    let mut pty = Pty::start(&top(&stats_socket(&daemon)), 30, 120);
    drawn(&pty);
    eventually("it says why", || pty.screen().contains("usermod -aG truename"));
    assert!(!pty.screen().contains("www.example.org"), "{}", pty.screen());
    assert!(cell(&pty.screen(), "SOURCE", "forward", "ANSWERS").is_some(), "{}", pty.screen());
    pty.press("q");
    assert_eq!(ended(&mut pty), Some(0));
}

#[test]
fn questions_come_as_they_are_answered_and_names_do_no_harm() {
    let (fake, daemon) = forwarding();
    let mut pty = Pty::start(&top(&control_socket(&daemon)), 70, 160);
    drawn(&pty);
    // Those before it are told first.
    eventually("the last ones are there", || pty.screen().contains("www.example.org."));
    ask_all(&daemon);
    // A long name is cut.
    let start_of = |label: &&str| -> String {
        let name = Name::parse(&format!("{label}.example.org")).unwrap().to_string();
        name.to_lowercase().chars().take(30).collect()
    };
    let shown: Vec<String> = HOSTILE.iter().map(start_of).collect();
    eventually("each has a line", || {
        let screen = pty.screen().to_lowercase();
        shown.iter().all(|start| screen.contains(start))
    });
    let screen = pty.screen();
    assert!(screen.starts_with("● truename") && screen.contains("UPSTREAM"), "nothing was wiped: {screen}");
    let row = screen.lines().find(|line| line.contains("www.example.org.")).unwrap();
    assert!(
        row.contains(" forward ") && row.contains(" NOERROR ") && row.contains(&format!("fake/{}", fake.address)),
        "{row}"
    );
    let octets = pty.octets();
    for harm in [&b"\x1b]0;"[..], b"\x07", "\u{9b}".as_bytes(), "\u{202e}".as_bytes()] {
        assert!(!octets.windows(harm.len()).any(|some| some == harm), "{harm:?}");
    }
    pty.press("/a\\013");
    eventually("only that one", || !pty.screen().contains("www.example.org.") && pty.screen().contains("a\\013\\010b"));
    pty.press("\u{3}");
    assert_eq!(ended(&mut pty), Some(0));
}

#[test]
fn without_a_terminal_or_a_daemon_it_says_so_and_draws_nothing() {
    let (_fake, daemon) = forwarding();
    let output = top(&stats_socket(&daemon)).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("truename stats --watch"), "{said}");
    let mut pty = Pty::start(&top(Path::new("/nowhere/stats.sock")), 24, 80);
    assert_eq!(ended(&mut pty), Some(69));
    eventually("it says how to start one", || pty.screen().contains("systemctl start truename.service"));
    assert!(!pty.octets().windows(8).any(|octets| octets == b"\x1b[?1049h"), "the screen was never taken");
}
