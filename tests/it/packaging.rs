//! What packages hold: manual pages and completions.

use std::process::Command;

#[path = "../../packaging/pages/make.rs"]
mod pages;

#[test]
fn every_command_has_a_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    pages::write(folder.path()).unwrap();
    let names: Vec<String> = truename::cli::definition()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    assert!(names.len() > 20 && names.contains(&"up".to_owned()), "{names:?}");
    let pages = names.iter().map(|name| format!("truename-{name}.8")).chain(["truename.8".to_owned()]);
    for page in pages {
        let path = folder.path().join("man8").join(&page);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
        let Ok(output) = Command::new("mandoc").args(["-T", "lint", "-W", "error,stop"]).arg(&path).output() else {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "mandoc is not here; in CI it must be");
            continue;
        };
        assert!(output.status.success(), "{page}: {}", String::from_utf8_lossy(&output.stdout));
    }
    for (shell, file) in [("bash", "truename"), ("zsh", "_truename"), ("fish", "truename.fish")] {
        let path = folder.path().join(shell).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(names.iter().all(|name| text.contains(name)) && text.contains("dry-run"), "{shell}");
    }
    // bash is part of every Debian; the other shells are not.
    let bash = folder.path().join("bash/truename");
    assert!(Command::new("bash").arg("-n").arg(bash).status().unwrap().success());
}
