//! The terminal: taken whole, and given back however the command ends.

use super::super::render;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::crossterm::{cursor, execute};
use ratatui::{Frame, Terminal};
use std::io::{self, Stdout};
use std::sync::atomic::{AtomicBool, Ordering};

/// The terminal is taken. It is given back once: a second time would put the cursor over what was printed since.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal as long as it is ours.
pub(super) struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes the terminal. A panic gives it back before it says what it is.
    pub(super) fn take() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        enable_raw_mode()?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        let opened = execute!(render::terminal(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(render::terminal())));
        opened.map(Self).inspect_err(|_| give_back())
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(|_| ())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        // Whoever has taken the terminal away needs nothing back.
        drop(execute!(render::terminal(), LeaveAlternateScreen, cursor::Show));
        drop(disable_raw_mode());
    }
}

#[cfg(test)]
#[path = "../../../tests/support/pty.rs"]
mod pty;

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::crossterm::{event, terminal};
    use std::process::Command;

    /// Set for the process that is to panic: this test's own binary, on a terminal.
    const PANICS: &str = "TRUENAME_TEST_PANICS";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        if std::env::var_os(PANICS).is_some() {
            let mut screen = Screen::take().unwrap();
            screen.draw(|frame| frame.render_widget("drawn", frame.area())).unwrap();
            while !matches!(event::read().unwrap(), event::Event::Key(_)) {}
            panic!("a bug at {:?}", terminal::size().unwrap());
        }
        let before = pty::Pty::start(&Command::new("true"), 24, 80).modes();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let test = "cli::top::screen::tests::a_panic_gives_the_terminal_back_before_it_is_told";
        command.args(["--exact", test, "--nocapture"]).env(PANICS, "1").env("RUST_BACKTRACE", "0");
        let mut pty = pty::Pty::start(&command, 24, 80);
        pty.resize(30, 100);
        pty.press("q");
        let mut looks = 0;
        while pty.ended().is_none() || !String::from_utf8_lossy(&pty.octets()).contains("test result") {
            looks += 1;
            assert!(looks < 2_000, "process {}: {}", pty.pid(), pty.screen());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let told = String::from_utf8_lossy(&pty.octets()).into_owned();
        let (taken, given) = (told.find("\u{1b}[?1049h").unwrap(), told.find("\u{1b}[?1049l").unwrap());
        assert!(taken < given && told.find("drawn").unwrap() < given, "{told:?}");
        assert!(given < told.find("a bug at (100, 30)").unwrap(), "what it says is on the screen that stays: {told:?}");
        assert_eq!(told.matches("\u{1b}[?1049l").count(), 1, "once");
        assert_eq!((pty.taken(), pty.modes()), ((false, false), before));
    }
}
