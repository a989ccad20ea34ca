//! Writes the manual pages and the shell completions that packages hold: `cargo run --example pages -- FOLDER`.
//!
//! They are made of the definition of the commands, as `--help` is; the daemon itself carries none of this.

#[path = "pages/make.rs"]
mod make;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        return fail("say into which folder");
    };
    match make::write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> ExitCode {
    drop(writeln!(io::stderr(), "error: {why}"));
    ExitCode::FAILURE
}
