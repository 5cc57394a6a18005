//! Rows for people (aligned columns) and for scripts (one JSON array of objects).

use crate::cli::text::quoted;

#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(String),
    Number(i64),
    /// Unknown, or not there.
    None,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::Number(number)
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Cell::Number(number.into())
    }
}

pub struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new(columns: &'static [&'static str]) -> Self {
        Table { columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn render(&self, is_json: bool) -> String {
        if is_json { self.json() } else { self.text() }
    }

    fn json(&self) -> String {
        let object = |row: &Vec<Cell>| {
            let members: Vec<String> = self
                .columns
                .iter()
                .zip(row)
                .map(|(column, cell)| {
                    let value = match cell {
                        Cell::Text(text) => quoted(text),
                        Cell::Number(number) => number.to_string(),
                        Cell::None => "null".to_owned(),
                    };
                    format!("{}:{value}", quoted(column))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        };
        format!("[{}]\n", self.rows.iter().map(object).collect::<Vec<_>>().join(","))
    }

    fn text(&self) -> String {
        let word = |cell: &Cell| match cell {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
            Cell::None => "-".to_owned(),
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(word).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.columns[column].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = (usize, &str, bool)>| {
            let mut line = String::new();
            for (column, text, is_right) in cells {
                let gap = " ".repeat(widths[column] - text.chars().count());
                line += &if is_right { format!("{gap}{text}  ") } else { format!("{text}{gap}  ") };
            }
            line.trim_end().to_owned() + "\n"
        };
        let numeric = |column: usize| self.rows.iter().all(|row| !matches!(row[column], Cell::Text(_)));
        let is_right: Vec<bool> = (0..self.columns.len()).map(|column| !rows.is_empty() && numeric(column)).collect();
        let mut text = line(&mut self.columns.iter().enumerate().map(|(at, column)| (at, *column, is_right[at])));
        for row in &rows {
            text += &line(&mut row.iter().enumerate().map(|(at, cell)| (at, cell.as_str(), is_right[at])));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_table_two_forms() {
        let mut table = Table::new(&["topic", "lag", "seen"]);
        table.row(vec!["a".into(), 5i64.into(), Cell::None]);
        table.row(vec!["long \"one\"".into(), 12_345i64.into(), "now".into()]);
        assert_eq!(table.render(false), "topic         lag  seen\na               5  -\nlong \"one\"  12345  now\n");
        assert_eq!(
            table.render(true),
            "[{\"topic\":\"a\",\"lag\":5,\"seen\":null},{\"topic\":\"long \\\"one\\\"\",\"lag\":12345,\"seen\":\"now\"}]\n"
        );
    }
}
