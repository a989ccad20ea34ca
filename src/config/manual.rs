//! The commented default file and the reference page, made from the table of keys.

use super::examples::example;
use super::file::ROOT;
use super::keys::{Key, Kind, Presence, TableDef};
use super::presets;

/// Width of the default file's comments, in characters.
const COMMENT_WIDTH: usize = 110;

/// Makes `config/truename.toml`: every key, commented out at its default.
///
/// A line that starts with `#` and no blank after it is a default: it may be uncommented and changes nothing.
/// Lines that start with `# ` are words and examples.
#[must_use]
pub fn default_text() -> String {
    let mut text = String::from(
        "# truename's configuration. Every line is optional; an empty file is a good configuration.\n\
         # Lines that start with # and no blank are defaults: take the # away and change the value.\n\
         # Lines that start with # and a blank are words and examples.\n\
         # `truename check` reports every mistake; SIGHUP applies the file, or nothing of it when it has a mistake.\n\n",
    );
    keys(&mut text, &ROOT, "#");
    for key in ROOT.keys {
        section(&mut text, key);
    }
    text
}

/// Takes away the comment signs of the defaults that [`default_text`] holds.
#[must_use]
pub fn uncomment(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Writes a table with its header.
fn section(text: &mut String, key: &'static Key) {
    let (def, header, sign) = if let Kind::Table(def) = key.kind {
        (def, format!("[{}]", key.name), "#")
    } else if let Kind::Named(def) = key.kind {
        (def, format!("[{}.system]", key.name), "#")
    } else if let Kind::Tables(def) = key.kind {
        (def, format!("[[{}]]", key.name), "# ")
    } else {
        return;
    };
    comment(text, def.doc);
    text.push_str(&format!("{sign}{header}\n"));
    keys(text, def, sign);
    for inner in def.keys {
        if let (Kind::Table(inner_def), Presence::Always) = (&inner.kind, inner.presence) {
            comment(text, inner_def.doc);
            text.push_str(&format!("#[{}.{}]\n", key.name, inner.name));
            keys(text, inner_def, "#");
        }
    }
}

/// Writes the keys of a table that have no header of their own, and a blank line.
fn keys(text: &mut String, def: &TableDef, sign: &str) {
    for key in def.keys {
        let (value, sign) = match key.presence {
            Presence::Default(value) => (value, sign),
            // `servers` of the group that is always there; the example is its default.
            Presence::Required(value) => (value, sign),
            Presence::Optional(value) => (value, "# "),
            Presence::Always => continue,
        };
        if value.is_empty() {
            continue;
        }
        comment(text, key.doc);
        text.push_str(&format!("{sign}{} = {value}\n", key.name));
    }
    text.push('\n');
}

/// Writes words as comment lines of at most [`COMMENT_WIDTH`].
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > COMMENT_WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// Makes `docs/config.md`: an introduction, every key with its type, default and purpose, an example of each table, and
/// the presets.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(include_str!("manual_intro.md"));
    text.push_str("## All keys\n\n");
    table(&mut text, &ROOT);
    for key in ROOT.keys {
        tables_below(&mut text, &key.kind, key.name);
    }
    preset_list(&mut text);
    text
}

/// Writes the table a kind holds, if any, and those below it.
fn tables_below(text: &mut String, kind: &'static Kind, path: &str) {
    let (def, header) = if let Kind::Table(def) = kind {
        (def, format!("[{path}]"))
    } else if let Kind::Tables(def) = kind {
        (def, format!("[[{path}]]"))
    } else if let Kind::Named(def) = kind {
        (def, format!("[{path}.NAME]"))
    } else if let Kind::List(item) | Kind::Either(item, _) = kind {
        return tables_below(text, item, path);
    } else {
        return;
    };
    text.push_str(&format!("## `{header}`\n\n{}\n\n", def.doc));
    if let Some(example) = example(&header) {
        text.push_str(&format!("```toml\n{example}```\n\n"));
    }
    table(text, def);
    let path = if matches!(kind, Kind::Named(_)) { format!("{path}.NAME") } else { path.to_owned() };
    for key in def.keys {
        tables_below(text, &key.kind, &format!("{path}.{}", key.name));
    }
}

fn table(text: &mut String, def: &TableDef) {
    text.push_str("| key | value | default | purpose |\n| --- | --- | --- | --- |\n");
    for key in def.keys {
        let doc = if let Kind::Table(def) | Kind::Tables(def) | Kind::Named(def) = key.kind
            && key.doc.is_empty()
        {
            def.doc
        } else {
            key.doc
        };
        let value = value_text(&key.kind);
        let default = match key.presence {
            Presence::Default(text) => format!("`{text}`"),
            Presence::Optional(_) => String::new(),
            Presence::Required(text) => format!("required, such as `{text}`"),
            Presence::Always => String::new(),
        };
        let cells = [format!("`{}`", key.name), value, default, doc.to_owned()];
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text.push('\n');
}

/// Says what may stand there, with the keys of inner tables left to their own section.
fn value_text(kind: &Kind) -> String {
    if let Kind::List(item) = kind {
        format!("array of: {}", value_text(item))
    } else if let Kind::Either(one, other) = kind {
        format!("{}, or {}", value_text(one), value_text(other))
    } else if kind.has_header() {
        "a table".to_owned()
    } else {
        kind.expected()
    }
}

fn preset_list(text: &mut String) {
    text.push_str(
        "## Presets\n\nDomains that `presets = [\"…\"]` of a route stands for, each with all names below it.\n\n",
    );
    text.push_str("| preset | for | domains |\n| --- | --- | --- |\n");
    for preset in presets::all() {
        let names: Vec<String> =
            preset.entries.iter().map(|entry| entry.name.to_string().trim_end_matches('.').to_owned()).collect();
        text.push_str(&format!("| `{}` | {} | {} |\n", preset.name, preset.title, names.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load, load_text};
    use std::path::{Path, PathBuf};

    fn in_project(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    /// Compares a committed file with what is made now; `TRUENAME_WRITE=1` writes it.
    fn assert_committed(path: &str, made: &str) {
        let file = in_project(path);
        if std::env::var_os("TRUENAME_WRITE").is_some() {
            std::fs::write(&file, made).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(committed == made, "{path} is not what the table of keys makes; run the tests with TRUENAME_WRITE=1");
    }

    #[test]
    fn committed_files_are_what_is_made() {
        assert_committed("config/truename.toml", &default_text());
        assert_committed("docs/config.md", &reference());
    }

    #[test]
    fn the_default_file_changes_nothing_commented_or_not() {
        for text in [default_text(), uncomment(&default_text())] {
            let loaded = load_text("truename.toml", &text);
            assert_eq!(loaded.diagnostics, [], "{text}");
            let mut config = loaded.config.unwrap();
            // Where it was written is not what it says.
            config.hosts.places.clear();
            assert_eq!(config, Config::default());
        }
    }

    #[test]
    fn every_key_that_has_a_default_is_uncommented() {
        let text = uncomment(&default_text());
        for key in ["listen = ", "allow = ", "servers = [\"auto\"]", "timeout = ", "[cache]", "negative_ttl_max = "] {
            assert!(text.lines().any(|line| line.starts_with(key)), "{key}");
        }
    }

    #[test]
    fn every_example_loads_without_a_diagnostic() {
        let mut count = 0;
        let files = std::fs::read_dir(in_project("config/examples")).unwrap().map(|entry| entry.unwrap().path());
        for path in files.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            let loaded = load(Some(&path));
            assert_eq!(loaded.diagnostics, []);
            assert!(loaded.config.is_some());
            count += 1;
        }
        assert!(count >= 3);
    }

    #[test]
    fn every_example_of_the_manual_loads_without_a_diagnostic() {
        let page = reference();
        let blocks: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(blocks.len(), super::super::examples::EXAMPLES.len() + 2, "an example has no header in the page");
        for block in blocks {
            let loaded = load_text("truename.toml", block);
            assert_eq!(loaded.diagnostics, [], "{block}");
            // Turning off what is not there in this build changes nothing.
            let changes = loaded.config.unwrap() != Config::default();
            assert!(changes || block.contains("trusted_presets = []"), "{block}");
        }
    }

    #[test]
    fn the_reference_names_every_key() {
        fn visit(page: &str, def: &TableDef) {
            for key in def.keys {
                assert!(page.contains(&format!("| `{}` |", key.name)), "{}", key.name);
                let mut kind = &key.kind;
                while let Kind::List(inner) | Kind::Either(inner, _) = kind {
                    kind = inner;
                }
                if let Kind::Table(def) | Kind::Tables(def) | Kind::Named(def) = kind {
                    visit(page, def);
                }
            }
        }
        visit(&reference(), &ROOT);
    }
}
