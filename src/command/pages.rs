//! Long lists, page by page: the flags, and the walk over the pages.
//! It must not know what is listed.

use clap::Args;

use super::client::{Call, Client};
use super::error::Error;
use super::render;
use crate::terminal::{Terminal, plain};

/// How much of a long list is printed.
#[derive(Args, Debug)]
pub(super) struct Pages {
    /// Rows of one page
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
    /// Go on after the page that named this
    #[arg(long)]
    cursor: Option<String>,
    /// All pages
    #[arg(long)]
    all: bool,
}

/// What is listed, and how.
#[derive(Debug)]
pub(super) struct List<'a> {
    /// Path of the list.
    pub(super) path: &'a [&'a str],
    /// Filters.
    pub(super) filters: Vec<(&'static str, Option<String>)>,
    /// The answer's field with the rows.
    pub(super) rows: &'static str,
    /// Heading and JSON pointer of each column.
    pub(super) columns: &'static [(&'static str, &'static str)],
}

impl Pages {
    /// Prints one page, or all of them.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) async fn print(
        self,
        list: &List<'_>,
        client: &Client,
        as_json: bool,
        terminal: &mut Terminal,
    ) -> Result<(), Error> {
        let mut cursor = self.cursor;
        let mut headings = 0;
        loop {
            let mut call = Call::get(list.path).query("limit", Some(self.limit));
            for (name, value) in &list.filters {
                call = call.query(name, value.as_ref());
            }
            let answer = client.call(call.query("cursor", cursor.take())).await?;
            if as_json {
                terminal.line(render::json(&answer))?;
            } else {
                let rows = answer[list.rows].as_array().map_or(&[][..], Vec::as_slice);
                for line in render::table(list.columns, rows).into_iter().skip(headings) {
                    terminal.line(line)?;
                }
            }
            headings = 1;
            match answer["next_cursor"].as_str() {
                Some(next) if self.all => cursor = Some(next.to_string()),
                Some(next) => {
                    return Ok(terminal.note(format!("more: --cursor {}, or --all", plain(next)))?);
                }
                None => return Ok(()),
            }
        }
    }
}
