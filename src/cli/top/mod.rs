//! `truename top`: the running daemon on a full screen, as it changes.
//!
//! ```text
//! feed.rs    asks the daemon: sums again and again, questions as they are answered
//! model.rs   what is known, and what keys have changed about how it is shown (pure)
//! draw.rs    the model on the screen
//! screen.rs  takes the terminal, and gives it back however this ends
//! ```

mod draw;
mod feed;
mod model;
mod screen;

use super::args::TopArguments;
use super::exit::{Failed, Outcome};
use super::{daemon, render};
use crate::control::{Door, place};
use futures_util::StreamExt;
use model::{After, Model, News};
use ratatui::crossterm::event::{Event, EventStream};
use screen::Screen;
use serde_json::{Value, json};
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Pieces of news that wait to be drawn; each is a report or what a tenth of a second has brought.
const MAX_WAITING: usize = 8;
/// Columns of what is printed once when `COLUMNS` says nothing.
const PRINTED_COLUMNS: u16 = 120;
/// Columns of it at most, whatever `COLUMNS` says.
const WIDEST_PRINTED: u16 = 1000;
/// Rows at most: there is room for forty upstreams and the last questions.
const PRINTED_ROWS: u16 = 100;

/// Shows the daemon until somebody ends it.
pub(super) fn run(arguments: &TopArguments) -> Result<Outcome, Failed> {
    if arguments.json {
        return print_documents(arguments);
    }
    if arguments.once {
        return print(arguments);
    }
    if !render::is_on_terminal() {
        return Err(Failed::Usage(
            "top draws on a terminal, and stdin or stdout is none; `truename top --once` prints it as text, `truename stats \
             --watch` prints lines"
                .to_owned(),
        ));
    }
    // What is wrong from the start is told as every command does, before the screen is taken.
    let first = daemon::read(&daemon::get(&arguments.at, Door::Stats, "/stats")?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = runtime.block_on(show(arguments, first));
    runtime.shutdown_background();
    shown?;
    Ok(Outcome::Fine)
}

/// Prints the documents that the screen is made of as one.
fn print_documents(arguments: &TopArguments) -> Result<Outcome, Failed> {
    let stats: Value = daemon::read(&daemon::get(&arguments.at, Door::Stats, "/stats")?)?;
    let mut document = json!({ "stats": stats });
    let socket = place::find(arguments.at.socket.as_deref(), Door::Control);
    match feed::last_document(&socket) {
        Ok(last) => document["queries"] = daemon::read::<Value>(&last)?["queries"].take(),
        // Not everybody may see them, and not everybody keeps them.
        Err(error) => document["no_queries"] = error.to_string().into(),
    }
    render::result(&format!("{document:#}"))?;
    Ok(Outcome::Fine)
}

/// Prints what the screen would show.
fn print(arguments: &TopArguments) -> Result<Outcome, Failed> {
    let report = || daemon::read(&daemon::get(&arguments.at, Door::Stats, "/stats")?);
    let mut model = Model::new(report()?);
    model.is_printed = true;
    std::thread::sleep(arguments.every);
    model.learn(News::Report(Box::new(report()?)));
    model.learn(feed::last(&place::find(arguments.at.socket.as_deref(), Door::Control)));
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(PRINTED_COLUMNS);
    render::result(&draw::text(&model, columns.min(WIDEST_PRINTED), PRINTED_ROWS)?)?;
    Ok(Outcome::Fine)
}

/// Makes the way of news from who brings it to who draws it.
fn channel() -> (mpsc::Sender<News>, mpsc::Receiver<News>) {
    mpsc::channel(MAX_WAITING)
}

async fn show(arguments: &TopArguments, first: crate::control::report::Stats) -> io::Result<()> {
    let named = arguments.at.socket.as_deref();
    let (news, mut coming) = channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(feed::reports(place::find(named, Door::Stats), arguments.every, news.clone()));
    tasks.spawn(feed::queries(place::find(named, Door::Control), news));
    let mut ends = Ends::new()?;
    let mut model = Model::new(first);
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    loop {
        screen.draw(|frame| draw::draw(&model, frame))?;
        tokio::select! {
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) => if model.press(key) == After::End { return Ok(()) },
                // A new size is drawn like everything else; the rest was not asked for.
                Some(Ok(_)) => {}
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(()),
            },
            Some(news) = coming.recv() => model.learn(news),
            () = ends.told() => return Ok(()),
            Some(ended) = tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            },
        }
    }
}

/// The signals that ask a program to end.
struct Ends([Signal; 4]);

impl Ends {
    fn new() -> io::Result<Self> {
        let [hangup, interrupt, quit, terminate] =
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()].map(signal);
        Ok(Self([hangup?, interrupt?, quit?, terminate?]))
    }

    /// Waits for one of them. Cancel safe.
    async fn told(&mut self) {
        let [hangup, interrupt, quit, terminate] = &mut self.0;
        tokio::select! {
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
