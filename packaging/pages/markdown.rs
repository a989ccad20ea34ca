//! A manual page made of the Markdown that `docs/config.md` is written in: headings, paragraphs, lists, tables and blocks of
//! code, with code, emphasis and links in the text.

use std::fmt::Write;

/// Makes man(7) of Markdown. The first heading and comments are left out.
pub(crate) fn page(name: &str, section: &str, what: &str, source: &str, markdown: &str) -> String {
    let mut page = format!(
        ".TH {} {section} \"\" \"{source}\" \"{name}\"\n.SH NAME\n{name} \\- {what}\n.SH DESCRIPTION\n",
        name.to_uppercase()
    );
    let mut blocks = Blocks { lines: markdown.lines().collect(), at: 0 };
    while let Some(line) = blocks.next() {
        if line.starts_with("<!--") {
            blocks.skip_comment(line);
        } else if line.starts_with("# ") || line.is_empty() {
        } else if let Some(title) = line.strip_prefix("## ") {
            put(&mut page, format_args!(".SH {}\n", heading(title)));
        } else if line.starts_with("```") {
            code(&mut page, &mut blocks);
        } else if line.starts_with('|') {
            table(&mut page, line, &mut blocks);
        } else if let Some((sign, rest)) = item(line) {
            let text = blocks.rest_of(rest, |line| line.starts_with("  "));
            put(&mut page, format_args!(".IP {sign} 3\n{}\n", inline(&text)));
        } else {
            let text = blocks.rest_of(line, |line| item(line).is_none() && !line.starts_with(['|', '`', '#']));
            put(&mut page, format_args!(".PP\n{}\n", inline(&text)));
        }
    }
    page
}

/// The lines, and how far they are read.
struct Blocks<'a> {
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Blocks<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.at).copied();
        self.at += 1;
        line
    }

    /// Joins a line with those after it that belong to it.
    fn rest_of(&mut self, first: &str, belongs: impl Fn(&str) -> bool) -> String {
        let mut text = first.to_owned();
        while let Some(line) = self.lines.get(self.at).filter(|line| !line.is_empty() && belongs(line)) {
            text.push(' ');
            text.push_str(line.trim());
            self.at += 1;
        }
        text
    }

    fn skip_comment(&mut self, first: &str) {
        let mut line = Some(first);
        while line.is_some_and(|line| !line.contains("-->")) {
            line = self.next();
        }
    }
}

/// Returns the sign of a list's item, and its text.
fn item(line: &str) -> Option<(String, &str)> {
    if let Some(rest) = line.strip_prefix("- ") {
        return Some(("\\(bu".to_owned(), rest));
    }
    let (number, rest) = line.split_once(". ")?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then(|| (format!("{number}."), rest))
}

fn code(page: &mut String, blocks: &mut Blocks<'_>) {
    page.push_str(".PP\n.RS 4\n.nf\n");
    while let Some(line) = blocks.next().filter(|line| !line.starts_with("```")) {
        put(page, format_args!("{}\n", literal(line)));
    }
    page.push_str(".fi\n.RE\n");
}

/// A row becomes a paragraph: its first cell is the term, its last one the text, and those between say what they are.
fn table(page: &mut String, first: &str, blocks: &mut Blocks<'_>) {
    let titles = cells(first);
    while let Some(line) = blocks.lines.get(blocks.at).filter(|line| line.starts_with('|')) {
        blocks.at += 1;
        let row = cells(line);
        if row.iter().all(|cell| cell.chars().all(|c| c == '-')) {
            continue;
        }
        let [term, between @ .., last] = &row[..] else { continue };
        put(page, format_args!(".TP\n{}\n{}\n", inline(term), inline(last)));
        let said = titles.iter().skip(1).zip(between).filter(|(_, cell)| !cell.is_empty());
        for (title, cell) in said {
            put(page, format_args!(".br\n{}: {}\n", literal(title), inline(cell)));
        }
    }
}

fn cells(line: &str) -> Vec<String> {
    const BAR: char = '\u{1}';
    let line = line.replace("\\|", &BAR.to_string());
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    inner.split('|').map(|cell| cell.trim().replace(BAR, "|")).collect()
}

fn heading(title: &str) -> String {
    literal(&title.replace('`', "")).to_uppercase()
}

/// Code and emphasis are bold; of a link its text stays.
fn inline(text: &str) -> String {
    let mut made = String::new();
    for (n, part) in text.split('`').enumerate() {
        if n % 2 == 1 {
            put(&mut made, format_args!("\\fB{}\\fR", literal(part).trim_start_matches("\\&")));
            continue;
        }
        for (n, part) in without_links(part).split("**").enumerate() {
            let part = literal(part);
            let part = if made.is_empty() { part.as_str() } else { part.trim_start_matches("\\&") };
            if n % 2 == 1 { put(&mut made, format_args!("\\fB{part}\\fR")) } else { made.push_str(part) }
        }
    }
    made
}

fn without_links(text: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let link = after.split_once("](").and_then(|(label, tail)| Some((label, tail.split_once(')')?.1)));
        made.push_str(before);
        if let Some((label, tail)) = link {
            made.push_str(label);
            rest = tail;
        } else {
            made.push('[');
            rest = after;
        }
    }
    made + rest
}

/// Text of which nothing is read as a request.
fn literal(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-").replace('…', "...");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes all");
}
