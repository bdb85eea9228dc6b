//! Medians with their spread, and tables of text. It must not know what the numbers mean.

use std::fmt::Write as _;

/// A median and what it lies between.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Spread {
    /// The middle one; the lower of two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The spread of some values; `None` if there are none.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len().checked_sub(1)? / 2)?,
            min: *values.first()?,
            max: *values.last()?,
        })
    }

    /// As `median [min-max]`.
    #[must_use]
    pub fn text(&self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} [{min:.digits$}-{max:.digits$}]")
    }
}

/// A table in Markdown, its columns as wide as what stands in them.
#[must_use]
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell =
        |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column: usize| {
        let cells = rows.iter().map(|row| cell(row, column));
        cells.fold(head[column].chars().count(), usize::max)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &[String]| {
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing into a string does not fail.
            let _ok = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
    };
    line(
        &head
            .iter()
            .map(|cell| (*cell).to_owned())
            .collect::<Vec<_>>(),
    );
    line(
        &widths
            .iter()
            .map(|width| "-".repeat(*width))
            .collect::<Vec<_>>(),
    );
    for row in rows {
        line(row);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle_whatever_the_order() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        let (median, min, max) = (2.0, 1.0, 9.0);
        let expected = Spread { median, min, max };
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(expected));
        assert_eq!(spread(&[9.0, 1.0, 2.0, 3.0]), Some(expected));
        assert_eq!(spread(&[]), None);
        assert_eq!(expected.text(1), "2.0 [1.0-9.0]");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["µs".to_owned(), "1".to_owned()]];
        let expected = "| a  | long |\n| -- | ---- |\n| µs | 1    |\n";
        assert_eq!(markdown(&["a", "long"], &rows), expected);
    }
}
