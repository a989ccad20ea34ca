//! What packages hold and are made by: manual pages, completions, scripts, recipes.

use crate::support::packages::pages;
use std::path::Path;
use std::process::Command;

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
    let pages = names.iter().map(|name| format!("man8/truename-{name}.8"));
    for page in pages.chain(["man8/truename.8".to_owned(), "man5/truename.toml.5".to_owned()]) {
        let path = folder.path().join(&page);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(".SH SYNOPSIS") || page.contains("man5"), "{page}");
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

#[test]
fn every_unit_that_changes_names_as_root_is_in_the_same_sandbox() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    // From the capabilities on, to the end of the section.
    let sandbox = |text: &str| {
        let lines = text.lines().skip_while(|line| !line.starts_with("CapabilityBoundingSet="));
        let lines = lines.take_while(|line| !line.starts_with('['));
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = sandbox(&std::fs::read_to_string(folder.join("truename-takeover.service")).unwrap());
    assert!(expected.len() > 15 && expected.contains(&"NoNewPrivileges=yes".to_owned()), "{expected:?}");
    let mut as_root = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.contains("[Service]") && !text.contains("\nUser=") {
            assert_eq!(sandbox(&text), expected, "{}", path.display());
            as_root.push(path);
        }
    }
    assert_eq!(as_root.len(), 5, "{as_root:?}");
}

/// Runs a checker on files of the project; it must find nothing. Where it is missing nothing is checked, but in CI.
fn checked(program: &str, args: &[&str], paths: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Ok(output) = Command::new(program).args(args).args(paths).current_dir(root).output() else {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{program} is not here; in CI it must be");
        return;
    };
    let said = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    assert!(output.status.success(), "{program} {paths:?}: {said}");
}

#[test]
fn scripts_and_recipes_have_no_fault_that_their_checkers_find() {
    checked("shellcheck", &[], &["packaging/build", "packaging/tarball/install.sh"]);
    checked("shellcheck", &[], &["packaging/debian/postinst", "packaging/debian/prerm", "packaging/debian/postrm"]);
    checked("shellcheck", &["--shell=sh"], &["packaging/rpm/post", "packaging/rpm/preun", "packaging/rpm/postun"]);
    checked("shellcheck", &["--shell=bash"], &["packaging/recipes/arch/truename.install"]);
    // Variables that makepkg reads and sets; it ends a function that fails.
    checked("shellcheck", &["--shell=bash", "--exclude=SC2034,SC2154,SC2164"], &["packaging/recipes/arch/PKGBUILD"]);
    checked(
        "nix-instantiate",
        &["--parse"],
        &["packaging/recipes/nix/package.nix", "packaging/recipes/nix/module.nix"],
    );
    checked("ruby", &["-wc"], &["packaging/recipes/homebrew/truename.rb"]);
}
