//! Tables that commands print, taken apart and laid out anew: so that what differs from run to run can be masked, and what is
//! held to a file still shows how columns stand.
//!
//! A table that is not aligned cannot be taken apart, and fails the test.

use std::ops::Range;

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// What becomes of what differs from run to run.
pub(crate) struct Mask<'a> {
    /// Of a cell of a table, given the first one of its row.
    pub(crate) of_cell: &'a dyn Fn(&str, &str) -> String,
    /// Of everything else, line by line.
    pub(crate) of_line: &'a dyn Fn(&str) -> String,
    /// How many columns at the end are as wide as each line has them, since lines were written one by one.
    pub(crate) loose: usize,
}

/// Masks a text and lays its tables out.
pub(crate) fn masked(text: &str, mask: &Mask<'_>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < lines.len() {
        if !is_head(lines[at]) {
            out += &(mask.of_line)(lines[at]);
            out.push('\n');
            at += 1;
            continue;
        }
        let rows = lines[at..].iter().enumerate().take_while(|(row, line)| *row == 0 || is_row(line)).count();
        out += &laid_out(&lines[at..at + rows], mask);
        at += rows;
    }
    out
}

/// Tells whether a line is the head of a table: several words in capitals, with a remark at most.
fn is_head(line: &str) -> bool {
    let cells: Vec<&str> = cells(line).collect();
    let in_capitals = |cell: &&str| {
        let word = cell.split(" (").next().unwrap_or_default();
        word.chars().any(|c| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || " /".contains(c))
    };
    cells.len() > 1 && cells.iter().all(in_capitals)
}

/// Tells whether a line below a head belongs to it.
fn is_row(line: &str) -> bool {
    cells(line).count() > 1 && !is_head(line)
}

/// Parts a line where two blanks or more are.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty())
}

fn laid_out(lines: &[&str], mask: &Mask<'_>) -> String {
    let mut grid: Vec<Vec<char>> = lines.iter().map(|line| line.chars().collect()).collect();
    let heads: Vec<&str> = cells(lines[0]).collect();
    let mut tails = vec![String::new(); grid.len()];
    if mask.loose > 0 {
        // The first of them begins in one place still.
        let first = heads[heads.len() - mask.loose - 1];
        let start = lines[0].find(first).expect("it is a head of this line");
        for (row, tail) in grid.iter_mut().zip(&mut tails) {
            assert!(
                row.get(start).is_some_and(|c| *c != ' ') && row[start - 1] == ' ',
                "a row is not aligned: {row:?}"
            );
            *tail = row.split_off(start).into_iter().collect();
        }
    }
    let columns = columns(&grid);
    let aligned = if mask.loose > 0 { heads.len() - mask.loose - 1 } else { heads.len() };
    assert_eq!(columns.len(), aligned, "the columns do not stand below their heads:\n{}", lines.join("\n"));
    let text = |row: &[char], column: &Range<usize>| -> String {
        row.get(column.start.min(row.len())..column.end.min(row.len())).into_iter().flatten().collect()
    };
    let sides: Vec<Side> = columns
        .iter()
        .map(|column| side(&grid.iter().map(|row| text(row, column)).collect::<Vec<_>>(), column.len(), lines))
        .collect();
    let rows: Vec<Vec<String>> = grid
        .iter()
        .enumerate()
        .map(|(at, row)| {
            let cells: Vec<String> = columns.iter().map(|column| text(row, column).trim().to_owned()).collect();
            let masked = |cell: &String| if at == 0 { cell.clone() } else { (mask.of_cell)(&cells[0], cell) };
            cells.iter().map(masked).collect()
        })
        .collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for (row, tail) in rows.iter().zip(&tails) {
        let padded = row.iter().zip(&widths).zip(&sides).map(|((cell, width), side)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        let tail = if tail.is_empty() { None } else { Some((mask.of_cell)(&row[0], tail)) };
        out += padded.chain(tail).collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    }
    out
}

/// Finds the columns: what lies between two or more columns of blanks that go through all lines.
fn columns(grid: &[Vec<char>]) -> Vec<Range<usize>> {
    let width = grid.iter().map(Vec::len).max().unwrap_or(0);
    let is_blank = |x: usize| grid.iter().all(|row| row.get(x).is_none_or(|c| *c == ' '));
    let mut found: Vec<Range<usize>> = Vec::new();
    for x in (0..width).filter(|x| !is_blank(*x)) {
        match found.last_mut() {
            // One blank may be part of a cell.
            Some(last) if x <= last.end + 1 => last.end = x + 1,
            _ => found.push(x..x + 1),
        }
    }
    found
}

/// Tells on which side the cells of a column stand; all of them must stand on one.
fn side(cells: &[String], width: usize, lines: &[&str]) -> Side {
    let written = || cells.iter().filter(|cell| !cell.trim().is_empty());
    let is_right = written().all(|cell| cell.chars().count() == width && !cell.ends_with(' '));
    let is_left = written().all(|cell| !cell.starts_with(' '));
    assert!(is_left || is_right, "a column is not aligned: {cells:?} in\n{}", lines.join("\n"));
    if is_left { Side::Left } else { Side::Right }
}

#[test]
fn tables_keep_their_shape_and_what_is_no_table_its_lines() {
    let text = "● up\n\nNAME    COUNT  LAST SEEN (UTC)\na          12  -\nlonger  1,000  now\n3 others\n";
    let of_cell =
        |first: &str, cell: &str| if first == "a" && cell == "12" { "MANY".to_owned() } else { cell.to_owned() };
    let of_line = |line: &str| line.replace("up", "UP");
    let out = masked(text, &Mask { of_cell: &of_cell, of_line: &of_line, loose: 0 });
    assert_eq!(out, "● UP\n\nNAME    COUNT  LAST SEEN (UTC)\na        MANY  -\nlonger  1,000  now\n3 others\n");
}

#[test]
#[should_panic(expected = "a column is not aligned")]
fn a_table_that_is_not_aligned_is_refused() {
    plain("NAME    COUNT  LAST\na        12    -\nlonger  1,000  now\n", 0);
}

#[test]
#[should_panic(expected = "do not stand below their heads")]
fn a_row_that_runs_into_the_next_column_is_refused() {
    plain("NAME    COUNT\nlonger    1,000,000  now\n", 0);
}

#[test]
fn columns_that_lines_have_as_they_are_may_differ_and_the_others_not() {
    let text = "TYPE   TOOK  NAME  ANSWER\nA      5 ms  a.example.  192.0.2.1\nAAAA  15 ms  b.  no data\n";
    assert_eq!(plain(text, 1), text);
    let shifted = text.replace("AAAA  15 ms  b.", "AAAA   15 ms  b.");
    assert!(std::panic::catch_unwind(|| plain(&shifted, 1)).is_err());
}

#[cfg(test)]
fn plain(text: &str, loose: usize) -> String {
    masked(text, &Mask { of_cell: &|_, cell| cell.to_owned(), of_line: &str::to_owned, loose })
}
