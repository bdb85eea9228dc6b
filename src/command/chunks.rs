//! Long inputs in pieces that fit one request each, read line by line with a progress bar.
//! It must not know what a line means nor where a piece goes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::error::{Error, at, invalid};

/// Longest line of an input, bytes.
const LINE_MAX: u64 = 64 * 1024;
/// Bytes of one piece: leaves room for the rest of a request below the server's 16 MiB.
const PIECE_BYTES_MAX: usize = 15 * 1024 * 1024;

/// An input being read.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    number: usize,
    bar: ProgressBar,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let (reader, bar): (Box<dyn BufRead + Send>, ProgressBar) = if path == Path::new("-") {
            (
                Box::new(BufReader::new(io::stdin())),
                ProgressBar::no_length(),
            )
        } else {
            let file = File::open(path).map_err(at(path))?;
            let length = file.metadata().map_err(at(path))?.len();
            (Box::new(BufReader::new(file)), ProgressBar::new(length))
        };
        // Draws only where standard error is a terminal.
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let template = match bar.length() {
            Some(_) => "{wide_bar} {percent}% {msg} {elapsed}/{duration}",
            None => "{spinner} {bytes} {msg} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            number: 0,
            bar,
        })
    }

    /// The bar that shows how far the reading is.
    pub(super) fn bar(&self) -> &ProgressBar {
        &self.bar
    }

    /// Where the last line stood, for errors.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.number)
    }

    /// The next line that is not blank, trimmed; `None` at the end.
    ///
    /// # Errors
    /// When the input cannot be read, or a line is too long or not UTF-8.
    pub(super) fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            let mut line = Vec::new();
            let read = self
                .reader
                .by_ref()
                .take(LINE_MAX)
                .read_until(b'\n', &mut line)
                .map_err(at(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bar.inc(read as u64);
            if read as u64 == LINE_MAX && line.last() != Some(&b'\n') {
                return Err(invalid(self.place(), "the line is longer than 64 KiB"));
            }
            let text = std::str::from_utf8(&line)
                .map_err(|_| invalid(self.place(), "the line is not UTF-8"))?;
            let text = text.trim_start_matches('\u{feff}').trim();
            if !text.is_empty() {
                return Ok(Some(text.to_string()));
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Items in pieces of at most `most`, and of at most [`PIECE_BYTES_MAX`] as JSON.
#[derive(Debug)]
pub(super) struct Pieces {
    most: usize,
    items: Vec<serde_json::Value>,
    bytes: usize,
}

impl Pieces {
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            items: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds an item; the piece before it when that is full.
    pub(super) fn push(&mut self, item: serde_json::Value) -> Option<Vec<serde_json::Value>> {
        let bytes = item.to_string().len() + 1;
        let is_full = self.items.len() >= self.most || self.bytes + bytes > PIECE_BYTES_MAX;
        let full = (is_full && !self.items.is_empty()).then(|| self.take());
        self.items.push(item);
        self.bytes += bytes;
        full
    }

    /// What is left; `None` when nothing is.
    pub(super) fn rest(&mut self) -> Option<Vec<serde_json::Value>> {
        (!self.items.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> Vec<serde_json::Value> {
        self.bytes = 0;
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> (tempfile::TempDir, Lines) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.txt");
        std::fs::write(&path, bytes).unwrap();
        let lines = Lines::open(&path).unwrap();
        (dir, lines)
    }

    #[test]
    fn blank_lines_and_line_ends_are_dropped() {
        let (_dir, mut lines) = lines("\u{feff}ada\r\n\n  grace  \nlast".as_bytes());
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(line);
        }
        assert_eq!(read, ["ada", "grace", "last"]);
        assert!(lines.place().ends_with("users.txt:4"));
    }

    #[test]
    fn endless_and_foreign_lines_are_refused_with_their_place() {
        let (_dir, mut long) = lines(&vec![b'x'; 70 * 1024]);
        assert!(
            long.next()
                .unwrap_err()
                .to_string()
                .ends_with("users.txt:1: the line is longer than 64 KiB")
        );
        let (_dir, mut latin) = lines(b"ok\nk\xe4se\n");
        latin.next().unwrap();
        assert!(
            latin
                .next()
                .unwrap_err()
                .to_string()
                .ends_with("users.txt:2: the line is not UTF-8")
        );
    }

    #[test]
    fn pieces_are_bounded_by_number_and_by_bytes() {
        let mut pieces = Pieces::of(2);
        assert_eq!(pieces.push("a".into()), None);
        assert_eq!(pieces.push("b".into()), None);
        assert_eq!(pieces.push("c".into()), Some(vec!["a".into(), "b".into()]));
        assert_eq!(pieces.rest(), Some(vec!["c".into()]));
        assert_eq!(pieces.rest(), None);
        let mut pieces = Pieces::of(usize::MAX);
        let long = serde_json::Value::from("x".repeat(PIECE_BYTES_MAX / 2));
        assert_eq!(pieces.push(long.clone()), None);
        assert_eq!(pieces.push(long.clone()), Some(vec![long]));
    }
}
