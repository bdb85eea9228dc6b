//! The receive log: an append-only file of receipts, its reader, and a ledger over it. Knows nothing of
//! connections.
//!
//! A batch of receipts is handed to the kernel with one `write` before any of their answers is sent, so
//! killing either side never loses a receipt whose answer was seen. Each line is one [`Receipt`], its
//! fields separated by tabs in the order in which the struct names them. The file is created with mode 0600
//! because it holds whole device tokens.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::receipt::Receipt;

/// Octets read from the end of a log to find its last line; lines are far shorter.
const TAIL_OCTETS: u64 = 128 * 1024;

/// The writing side: numbers receipts, appends them to the file if there is one, and keeps the latest in
/// memory.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    fsync: bool,
    seq: u64,
    kept: VecDeque<Receipt>,
    keep: usize,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens (and continues) the log at `path`. A last line that was torn by a kill is cut off: it was
    /// never answered.
    pub(crate) fn open(path: Option<&Path>, fsync: bool, keep: usize) -> Result<Self, Error> {
        let (file, seq) = match path {
            Some(path) => {
                let (file, seq) = continue_file(path).map_err(|source| Error::File {
                    path: path.to_owned(),
                    source,
                })?;
                (Some(file), seq)
            }
            None => (None, 0),
        };
        Ok(Self {
            file,
            fsync,
            seq,
            kept: VecDeque::new(),
            keep,
            buffer: Vec::new(),
        })
    }

    /// Numbers the receipts and writes them; they are in the kernel's hands when this returns.
    pub(crate) fn append(&mut self, receipts: &mut [Receipt]) -> io::Result<()> {
        self.buffer.clear();
        for receipt in receipts.iter_mut() {
            self.seq += 1;
            receipt.seq = self.seq;
            if self.file.is_some() {
                receipt.write_line(&mut self.buffer);
            }
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.buffer)?;
            if self.fsync {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// Keeps receipts in memory, the oldest giving way.
    pub(crate) fn keep(&mut self, receipts: impl Iterator<Item = Receipt>) {
        for receipt in receipts {
            if self.kept.len() >= self.keep {
                self.kept.pop_front();
            }
            if self.keep > 0 {
                self.kept.push_back(receipt);
            }
        }
    }

    /// The receipts still in memory with a number above `after`, at most `limit`.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<Receipt> {
        self.kept
            .iter()
            .filter(|receipt| receipt.seq > after)
            .take(limit)
            .cloned()
            .collect()
    }

    /// Forgets what is in memory; the file stays.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }
}

fn continue_file(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(TAIL_OCTETS);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let whole = tail
        .iter()
        .rposition(|octet| *octet == b'\n')
        .map_or(0, |at| at + 1);
    if whole < tail.len() {
        file.set_len(from + whole as u64)?;
    }
    let last = tail[..whole]
        .trim_ascii_end()
        .rsplit(|octet| *octet == b'\n')
        .next()
        .unwrap_or(&[]);
    let seq = match std::str::from_utf8(last).ok().and_then(Receipt::parse_line) {
        Some(receipt) => receipt.seq,
        None if last.is_empty() => 0,
        None => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a receive log",
            ));
        }
    };
    Ok((file, seq))
}

/// The reading side: an iterator over the receipts of a log file, in order.
#[derive(Debug)]
pub struct ReceiveLog {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
}

impl ReceiveLog {
    /// Opens a log for reading; it may be growing meanwhile.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be opened.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        match File::open(&path) {
            Ok(file) => {
                let reader = BufReader::new(file);
                Ok(Self {
                    path,
                    reader,
                    line: Vec::new(),
                    number: 0,
                })
            }
            Err(source) => Err(Error::File { path, source }),
        }
    }
}

impl Iterator for ReceiveLog {
    type Item = Result<Receipt, Error>;

    /// The next receipt. A last line without its newline is still being written, or was torn: it is left out.
    fn next(&mut self) -> Option<Self::Item> {
        self.line.clear();
        self.number += 1;
        if let Err(source) = self.reader.read_until(b'\n', &mut self.line) {
            return Some(Err(Error::File {
                path: self.path.clone(),
                source,
            }));
        }
        let line = self.line.strip_suffix(b"\n")?;
        let receipt = std::str::from_utf8(line).ok().and_then(Receipt::parse_line);
        Some(receipt.ok_or(Error::Receipt { line: self.number }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::borrow::Cow;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::receipt::{Fate, Provider};

    fn receipt(device_token: &str) -> Receipt {
        Receipt {
            seq: 0,
            at_us: 1_000,
            provider: Provider::Apns,
            connection: 1,
            stream: 1,
            device_token: device_token.to_owned(),
            id: "id".to_owned(),
            topic: "topic".to_owned(),
            collapse_id: String::new(),
            status: 200,
            reason: Cow::Borrowed(""),
            fate: Fate::Answer,
        }
    }

    #[test]
    fn a_log_is_continued_after_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("receipts.tsv");
        let mut journal = Journal::open(Some(&path), true, 1).unwrap();
        journal.append(&mut [receipt("a"), receipt("b")]).unwrap();
        drop(journal);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"3\t17\tapns")
            .unwrap();
        assert_eq!(
            ReceiveLog::read(&path).unwrap().count(),
            2,
            "a torn line is not read"
        );

        let mut journal = Journal::open(Some(&path), false, 1).unwrap();
        journal.append(&mut [receipt("c")]).unwrap();
        let read: Vec<_> = ReceiveLog::read(&path)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let got: Vec<_> = read
            .iter()
            .map(|one| (one.seq, one.device_token.as_str()))
            .collect();
        assert_eq!(got, [(1, "a"), (2, "b"), (3, "c")]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("notes.txt");
        std::fs::write(&path, "dear diary\n").unwrap();
        assert!(matches!(
            Journal::open(Some(&path), false, 1),
            Err(Error::File { .. })
        ));
        let read: Vec<_> = ReceiveLog::read(&path).unwrap().collect();
        assert!(matches!(read[..], [Err(Error::Receipt { line: 1 })]));
    }

    #[test]
    fn memory_keeps_the_latest() {
        let mut journal = Journal::open(None, false, 2).unwrap();
        let mut batch = [receipt("a"), receipt("b"), receipt("c")];
        journal.append(&mut batch).unwrap();
        journal.keep(batch.into_iter());
        let kept: Vec<_> = journal
            .after(0, 10)
            .into_iter()
            .map(|one| one.device_token)
            .collect();
        assert_eq!(kept, ["b", "c"]);
        assert_eq!(journal.after(2, 10).len(), 1);
        assert_eq!(journal.after(0, 1).len(), 1);
    }
}
