//! The only printer. Results go to stdout, talk to stderr.

use crate::dns::foreign::is_hostile;
use crate::dns::trace::Step;
use std::io::{self, Write};

/// Prints a result as it is.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn result(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') && !text.is_empty() {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Says something to whoever looks on; nothing is done when stderr is gone.
pub(super) fn complain(text: &str) {
    let mut err = anstream::stderr().lock();
    drop(writeln!(err, "{}", text.trim_end()));
}

/// Tells whether somebody looks on: stderr is a terminal.
pub(super) fn is_watched() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// Tells whether somebody sits before a screen: stdin and stdout are a terminal, and one that can be drawn on.
pub(super) fn is_on_terminal() -> bool {
    let can_draw = std::env::var_os("TERM").is_none_or(|kind| kind != "dumb");
    can_draw && io::IsTerminal::is_terminal(&io::stdin()) && io::IsTerminal::is_terminal(&io::stdout())
}

/// Returns the terminal, for who draws on it.
pub(super) fn terminal() -> io::Stdout {
    io::stdout()
}

/// Aligns rows into columns, two blanks between them; the last column is not padded.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = widths[column].saturating_sub(cell.chars().count());
            line.push_str(cell);
            if column + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', pad + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Shows a trace, a line a step, under the columns' names. No cell is empty, so that columns can be counted.
pub(super) fn trace(steps: &[Step]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut rows = vec![["    time", "stage", "saw", "decided", "because"].map(str::to_owned).to_vec()];
    rows.extend(steps.iter().map(|step| {
        let ms = format!("{:>8.2} ms", step.at.as_secs_f64() * 1000.0);
        let cells = [&step.saw, &step.decided, &step.because].map(|cell| visible(cell));
        [vec![ms, step.stage.to_string()], cells.to_vec()].concat()
    }));
    columns(&rows)
}

/// Makes text visible that may hold foreign parts: what a terminal obeys or hides is escaped, nothing is a dash.
pub(super) fn visible(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let one = |c: char| if is_hostile(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(columns(&rows), "a     bb\nlong\n");
    }

    #[test]
    fn a_trace_has_no_empty_cell_and_nothing_a_terminal_obeys() {
        let step = Step {
            stage: crate::dns::Stage::Exchange,
            at: std::time::Duration::from_micros(1500),
            saw: "a\u{1b}[2J".to_owned(),
            decided: String::new(),
            because: "b".to_owned(),
        };
        let text = trace(&[step]);
        assert_eq!(text.lines().nth(1).unwrap(), "    1.50 ms  exchange  a\\u{1b}[2J  -        b");
        assert_eq!(trace(&[]), "");
    }
}
