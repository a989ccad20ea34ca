//! A program on a terminal of its own: a pseudo-terminal that is its controlling one, and the screen that a person would see.

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

/// A program and its terminal; it is killed on drop.
pub(crate) struct Pty {
    child: Child,
    keyboard: File,
    /// Kept open: what the program wrote before its end can then be read for as long as it takes.
    terminal: OwnedFd,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    screen: vt100::Parser,
    octets: Vec<u8>,
}

impl Pty {
    /// Starts a command on a terminal of this size.
    pub(crate) fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let path = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(path, flags, Mode::empty()).expect("its other end");
        tcsetwinsize(&master, size(rows, columns)).expect("a terminal has a size");
        let end = || Stdio::from(terminal.try_clone().expect("a descriptor"));
        // A session of its own makes this terminal the controlling one, so that it gets SIGWINCH and SIGHUP.
        let mut inside = Command::new("setsid");
        inside.arg("--ctty").arg(command.get_program()).args(command.get_args());
        inside.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.env("TERM", "xterm-256color").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let child = inside.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid is part of every Debian");
        let mut reader = File::from(master.try_clone().expect("a descriptor"));
        let seen = Seen { screen: vt100::Parser::new(rows, columns, 0), octets: Vec::new() };
        let seen = Arc::new(Mutex::new(seen));
        let to = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                let mut seen = to.lock().expect("no reader panicked");
                seen.screen.process(&buffer[..len]);
                seen.octets.extend_from_slice(&buffer[..len]);
            }
        });
        Self { child, keyboard: File::from(master), terminal, seen }
    }

    /// Presses keys.
    pub(crate) fn press(&self, keys: &str) {
        (&self.keyboard).write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Gives the terminal another size; the kernel tells the program.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.seen.lock().expect("no reader panicked").screen.screen_mut().set_size(rows, columns);
        tcsetwinsize(&self.keyboard, size(rows, columns)).expect("a terminal has a size");
    }

    /// Returns what stands on the screen, a line a row without trailing blanks.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().expect("no reader panicked").screen.screen().contents()
    }

    /// Tells whether the program has taken the screen, and whether it has hidden the cursor.
    pub(crate) fn taken(&self) -> (bool, bool) {
        let seen = self.seen.lock().expect("no reader panicked");
        (seen.screen.screen().alternate_screen(), seen.screen.screen().hide_cursor())
    }

    /// Returns every octet that was written so far.
    pub(crate) fn octets(&self) -> Vec<u8> {
        self.seen.lock().expect("no reader panicked").octets.clone()
    }

    /// Returns how the terminal treats keys and output; what a program changes, it must put back.
    pub(crate) fn modes(&self) -> [u32; 4] {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } =
            tcgetattr(self.terminal.as_fd()).expect("a terminal");
        [input_modes.bits(), output_modes.bits(), control_modes.bits(), local_modes.bits()]
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns how the program ended, when it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child")
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It may have ended already; that is for the test to judge.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let screen = self.screen();
            std::io::stderr().write_all(format!("on the screen:\n{screen}\n").as_bytes()).ok();
        }
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
