//! Tables for people: columns as wide as they must be, numbers to the right.

/// Lines of a table below its header. A header that begins with `>` is of a column of numbers.
pub(super) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = header.iter().map(|title| title.trim_start_matches('>').to_owned()).collect();
    let all = || std::iter::once(&titles).chain(rows);
    let width = |column: usize| all().filter_map(|row| row.get(column)).map(|cell| length(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths).zip(header).map(|((cell, width), title)| {
            let space = " ".repeat(width.saturating_sub(length(cell)));
            if title.starts_with('>') { format!("{space}{cell}") } else { format!("{cell}{space}") }
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_do_not_end_in_spaces() {
        let rows = vec![
            vec!["ü".to_owned(), "10".to_owned(), "x".to_owned()],
            vec!["long name".to_owned(), "9".to_owned(), String::new()],
        ];
        let expected = "name       steps  end\nü             10  x\nlong name      9\n";
        assert_eq!(render(&["name", ">steps", "end"], &rows), expected);
    }
}
