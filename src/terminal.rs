//! What a command writes: data to standard output, talk to standard error.
//! It must not know which command writes, nor what.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Both streams and what may be done on them.
pub(crate) struct Terminal {
    out: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
    /// Standard input and standard error belong to a person.
    is_interactive: bool,
    /// Standard error is a terminal and colours are wanted.
    has_colours: bool,
}

impl Terminal {
    /// The process's own streams; colours unless `NO_COLOR` says otherwise.
    pub(crate) fn of_process() -> Self {
        let talks_to_person = io::stderr().is_terminal();
        let refuses_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(io::LineWriter::new(io::stdout())),
            talk: Box::new(io::stderr()),
            is_interactive: talks_to_person && io::stdin().is_terminal(),
            has_colours: talks_to_person && !refuses_colours,
        }
    }

    /// Writes into two buffers, without colours and without a person.
    #[cfg(test)]
    pub(crate) fn into_buffers(out: Buffer, talk: Buffer) -> Self {
        Self {
            out: Box::new(out),
            talk: Box::new(talk),
            is_interactive: false,
            has_colours: false,
        }
    }

    /// One line of data.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Data as it is, without a line's end of our own.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// One line to the person in front.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub(crate) fn note(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.talk, "{text}")
    }

    /// Why the command failed.
    ///
    /// # Errors
    /// When standard error cannot be written.
    pub(crate) fn error(&mut self, text: impl fmt::Display) -> io::Result<()> {
        let (on, off) = if self.has_colours {
            ("\u{1b}[1;31m", "\u{1b}[0m")
        } else {
            ("", "")
        };
        writeln!(self.talk, "{on}error:{off} {text}")
    }

    /// Asks a question; `None` when nobody is there to answer it.
    ///
    /// # Errors
    /// When the question cannot be written or the answer not read.
    pub(crate) fn ask(&mut self, question: &str) -> io::Result<Option<String>> {
        if !self.is_interactive {
            return Ok(None);
        }
        write!(self.talk, "{question} ")?;
        self.talk.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(Some(answer.trim().to_string()))
    }
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("is_interactive", &self.is_interactive)
            .field("has_colours", &self.has_colours)
            .finish_non_exhaustive()
    }
}

/// A text from elsewhere without what could steer a terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Bytes that a test reads back.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffer(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Buffer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
