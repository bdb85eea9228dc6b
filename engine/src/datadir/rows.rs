//! Statements over many rows: `WITH v (…) AS (VALUES (?,?),(?,?)…) …` in few sizes, so that few statements
//! stay prepared and few words go to the connection's thread. It must not know the tables.

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, SqliteConnection, Type};

/// Rows per statement. A batch is cut by the largest; what is left is filled up to the next size with rows of
/// NULLs, which every statement must pass over.
const SIZES: [usize; 4] = [1, 8, 64, 512];

/// A statement over rows that are in its table `v`. It must pass over rows of NULLs.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The columns of `v`.
    pub(crate) columns: &'static str,
    /// What is done with `v`.
    pub(crate) statement: &'static str,
}

impl Rows {
    fn width(&self) -> usize {
        self.columns.split(',').count()
    }

    /// Appends the statement for `rows` rows.
    fn write(&self, rows: usize, sql: &mut String) {
        let width = self.width();
        sql.reserve(64 + self.columns.len() + self.statement.len() + rows * (2 * width + 2));
        sql.push_str("WITH v (");
        sql.push_str(self.columns);
        sql.push_str(") AS (VALUES ");
        for row in 0..rows {
            sql.push_str(if row == 0 { "(?" } else { ",(?" });
            for _ in 1..width {
                sql.push_str(",?");
            }
            sql.push(')');
        }
        sql.push_str(") ");
        sql.push_str(self.statement);
    }

    /// The statement for `rows` rows, to be looked at.
    #[cfg(test)]
    pub(crate) fn sql(&self, rows: usize) -> String {
        let mut sql = String::new();
        self.write(rows, &mut sql);
        sql
    }

    /// Binds the items and fills up with NULLs to `size` rows.
    fn bind<T>(
        &self,
        (items, size): (&[T], usize),
        binder: &mut Binder,
        bind: &impl Fn(&mut Binder, &T),
    ) {
        binder.arguments.reserve(size * self.width(), 0);
        for item in items {
            bind(binder, item);
        }
        for _ in items.len() * self.width()..size * self.width() {
            binder.bind(None::<i64>);
        }
    }

    /// Runs the statement for all items.
    pub(crate) async fn execute<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
    ) -> Result<(), sqlx::Error> {
        for (chunk, size) in chunks(items) {
            let mut batch = Batch::default();
            batch.add_chunk(self, (chunk, size), &bind);
            batch.execute(connection).await?;
        }
        Ok(())
    }

    /// Runs the statement for all items and returns the rows that it returns, in no order.
    pub(crate) async fn fetch<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut rows = Vec::new();
        for (chunk, size) in chunks(items) {
            let mut batch = Batch::default();
            batch.add_chunk(self, (chunk, size), &bind);
            let found = batch.query()?.fetch_all(&mut *connection).await?;
            if rows.is_empty() {
                rows = found;
            } else {
                rows.extend(found);
            }
        }
        Ok(rows)
    }

    /// Runs the statement once for all items, however many; `rest` binds what the statement asks for beyond
    /// `v`.
    pub(crate) async fn fetch_once<T>(
        &self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(&mut Binder, &T),
        rest: impl FnOnce(&mut Binder),
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut batch = Batch::default();
        batch.add_chunk(self, (items, filled_up(items.len())), &bind);
        rest(&mut batch.binder);
        batch.query()?.fetch_all(connection).await
    }
}

/// Statements that go to the connection's thread together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    sql: String,
    binder: Binder,
    statements: usize,
}

/// Statements of a batch up to which it stays prepared; the odd large one does not.
const PREPARED_STATEMENTS_MAX: usize = 8;

impl Batch {
    /// Adds a statement for all items, in as many copies as it takes.
    pub(crate) fn add<T>(&mut self, rows: &Rows, items: &[T], bind: impl Fn(&mut Binder, &T)) {
        for (chunk, size) in chunks(items) {
            self.add_chunk(rows, (chunk, size), &bind);
        }
    }

    /// Adds a statement that binds nothing but what `bind` binds.
    pub(crate) fn add_one(&mut self, sql: &str, bind: impl FnOnce(&mut Binder)) {
        self.begin_statement();
        self.sql.push_str(sql);
        bind(&mut self.binder);
    }

    fn add_chunk<T>(
        &mut self,
        rows: &Rows,
        (chunk, size): (&[T], usize),
        bind: &impl Fn(&mut Binder, &T),
    ) {
        self.begin_statement();
        rows.write(size, &mut self.sql);
        rows.bind((chunk, size), &mut self.binder, bind);
    }

    fn begin_statement(&mut self) {
        if self.statements > 0 {
            self.sql.push_str(";\n");
        }
        self.statements += 1;
    }

    /// Runs the statements, one after the other, until one fails.
    pub(crate) async fn execute(
        self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        if self.statements > 0 {
            self.query()?.execute(connection).await?;
        }
        Ok(())
    }

    fn query(self) -> Result<sqlx::query::Query<'static, Sqlite, SqliteArguments>, sqlx::Error> {
        let is_common = self.statements <= PREPARED_STATEMENTS_MAX;
        let arguments = self.binder.finish()?;
        Ok(sqlx::query_with(AssertSqlSafe(self.sql), arguments).persistent(is_common))
    }
}

/// The size to which rows are filled up that must be one statement; beyond the largest, its multiples.
fn filled_up(rows: usize) -> usize {
    let largest = SIZES[SIZES.len() - 1];
    let size = SIZES.into_iter().find(|size| *size >= rows);
    size.unwrap_or_else(|| rows.next_multiple_of(largest))
}

/// Cuts a batch into chunks, each with the size to which it is filled up.
fn chunks<T>(items: &[T]) -> impl Iterator<Item = (&[T], usize)> {
    let mut rest = items;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        // Filling up the largest size would be mostly NULLs.
        let whole = SIZES[2..].iter().rev().find(|size| **size <= rest.len());
        let len = whole.copied().unwrap_or(rest.len());
        let (chunk, tail) = rest.split_at(len);
        rest = tail;
        Some((chunk, filled_up(len)))
    })
}

/// Collects the values of a statement.
#[derive(Debug, Default)]
pub(crate) struct Binder {
    arguments: SqliteArguments,
    failed: Option<sqlx::error::BoxDynError>,
}

impl Binder {
    /// The next value.
    pub(crate) fn bind<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        if let Err(error) = self.arguments.add(value) {
            self.failed = Some(error);
        }
        self
    }

    /// The values, unless one could not be written.
    pub(crate) fn finish(self) -> Result<SqliteArguments, sqlx::Error> {
        match self.failed {
            None => Ok(self.arguments),
            Some(error) => Err(sqlx::Error::Encode(error)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_few_sizes_in_order_and_hardly_filled_up() {
        for len in [0, 1, 7, 8, 9, 63, 64, 65, 500, 511, 512, 10_000] {
            let items: Vec<usize> = (0..len).collect();
            let cut: Vec<(&[usize], usize)> = chunks(&items).collect();
            assert!(
                cut.iter()
                    .all(|(chunk, size)| SIZES.contains(size) && chunk.len() <= *size)
            );
            let written: usize = cut.iter().map(|(_, size)| size).sum();
            assert!(written <= len + 55, "{written} rows for {len}");
            assert!(cut.len() <= len / 512 + 8);
            let whole: Vec<usize> = cut.iter().flat_map(|(chunk, _)| chunk.to_vec()).collect();
            assert_eq!(whole, items);
        }
    }

    #[test]
    fn what_must_be_one_statement_is_filled_up_to_a_size_that_holds_it() {
        for (rows, size) in [(0, 1), (1, 1), (2, 8), (64, 64), (65, 512), (513, 1_024)] {
            assert_eq!(filled_up(rows), size);
        }
    }

    #[test]
    fn a_batch_has_a_mark_for_every_value() {
        let rows = Rows {
            columns: "a, b",
            statement: "INSERT INTO t SELECT * FROM v WHERE v.a IS NOT NULL",
        };
        let mut batch = Batch::default();
        batch.add(&rows, &[1_i64, 2], |binder, value| {
            binder.bind(*value).bind(*value);
        });
        batch.add_one("DELETE FROM t WHERE a = ?", |binder| {
            binder.bind(7_i64);
        });
        assert_eq!(batch.sql.matches('?').count(), 2 * 8 + 1);
        assert_eq!(batch.binder.finish().unwrap().len(), 2 * 8 + 1);
    }
}
