//! Manual pages and completions, made of the definition of the commands and of the table of keys.

#[path = "markdown.rs"]
mod markdown;

use clap_complete::Shell;
use std::fs::{File, create_dir_all};
use std::io;
use std::path::Path;

/// The section of commands for the administrator.
const SECTION: &str = "8";
/// What every page says at its foot.
const VERSION: &str = concat!("truename ", env!("CARGO_PKG_VERSION"));
/// The shells with completions, and what their file is called.
const SHELLS: [(Shell, &str); 3] =
    [(Shell::Bash, "truename"), (Shell::Zsh, "_truename"), (Shell::Fish, "truename.fish")];

/// Writes `man5/`, `man8/` and a folder for each shell.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let mut whole = truename::cli::definition();
    whole.build();
    pages(&whole, &folder.join("man8"))?;
    format(&folder.join("man5"))?;
    for (shell, name) in SHELLS {
        let of_shell = folder.join(shell.to_string());
        create_dir_all(&of_shell)?;
        clap_complete::generate(shell, &mut whole.clone(), "truename", &mut File::create(of_shell.join(name))?);
    }
    Ok(())
}

/// A page for the program and one for each command, hidden ones left out.
fn pages(whole: &clap::Command, folder: &Path) -> io::Result<()> {
    create_dir_all(folder)?;
    page(whole.clone(), "truename", folder)?;
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    for command in shown {
        page(command.clone(), &format!("truename-{}", command.get_name()), folder)?;
    }
    Ok(())
}

/// The page of the configuration and of the files it names.
fn format(folder: &Path) -> io::Result<()> {
    create_dir_all(folder)?;
    let keys = truename::config::manual::reference();
    let page = markdown::page("truename.toml", "5", "the configuration of truename", VERSION, &keys);
    std::fs::write(folder.join("truename.toml.5"), page)
}

fn page(command: clap::Command, name: &str, folder: &Path) -> io::Result<()> {
    let title = name.to_uppercase();
    // Names of commands are static here, and this program ends in a moment.
    let name: &'static str = String::leak(name.to_owned());
    let manual = clap_mangen::Man::new(command.name(name).disable_help_subcommand(true))
        .title(title)
        .section(SECTION)
        .source(VERSION)
        .manual("truename");
    manual.render(&mut File::create(folder.join(format!("{name}.{SECTION}")))?)
}
