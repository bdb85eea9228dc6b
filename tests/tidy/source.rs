//! Rust text, read just well enough to judge it: what is code, what is comment, where functions end.
//! It must not know any rule of the house.

/// One file, with the views of it that checks need. All views have the same lines and byte offsets.
pub(crate) struct Source {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// As it stands in the file.
    pub(crate) text: String,
    /// Without comments.
    pub(crate) uncommented: String,
    /// Without comments and without the insides of strings and character literals.
    pub(crate) code: String,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// From `fn` to the closing brace, both included.
    pub(crate) lines: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let kinds = classify(text.as_bytes());
        let blank = |keep: &dyn Fn(Kind) -> bool| -> String {
            let bytes = text.bytes().zip(&kinds);
            let kept = bytes.map(|(byte, kind)| {
                if byte == b'\n' || keep(*kind) {
                    byte
                } else {
                    b' '
                }
            });
            String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned()
        };
        Self {
            path: path.to_owned(),
            uncommented: blank(&|kind| kind != Kind::Comment),
            code: blank(&|kind| kind == Kind::Code),
            text: text.to_owned(),
        }
    }

    /// The line, from 1, of a byte offset.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }

    /// Every function that has a body, nested ones too.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let starts = words(&self.code, "fn").into_iter();
        starts.filter_map(|at| self.function_at(at)).collect()
    }

    fn function_at(&self, at: usize) -> Option<Function> {
        let rest = self.code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
        // `fn(u8) -> bool` is a type, and `fn $name` belongs to a macro.
        if name.is_empty() {
            return None;
        }
        let open = body_start(&self.code, at)?;
        let close = closing(&self.code, open)?;
        let (line, last) = (self.line_of(at), self.line_of(close));
        let lines = last - line + 1;
        Some(Function { name, line, lines })
    }

    /// Whether this offset lies in test code: a test file, or a module under `#[cfg(test)]`.
    pub(crate) fn is_test_code(&self, offset: usize) -> bool {
        let path = &self.path;
        path.starts_with("tests/")
            || path.contains("/tests/")
            || path.ends_with("/tests.rs")
            || self.test_modules().any(|range| range.contains(&offset))
    }

    fn test_modules(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        const MARK: &str = "#[cfg(test)]";
        self.code.match_indices(MARK).filter_map(|(at, _)| {
            let mut next = at + MARK.len();
            loop {
                next += self.code[next..].len() - self.code[next..].trim_start().len();
                if !self.code[next..].starts_with("#[") {
                    break;
                }
                next = closing(&self.code, next + 1)? + 1;
            }
            let is_module = self.code[next..].starts_with("mod ");
            let open = body_start(&self.code, next).filter(|_| is_module)?;
            Some(at..closing(&self.code, open)?)
        })
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offsets of `needle` where it is not part of a longer word.
pub(crate) fn words(code: &str, needle: &str) -> Vec<usize> {
    let starts_word = needle.starts_with(is_word);
    let ends_word = needle.ends_with(is_word);
    code.match_indices(needle)
        .map(|(at, _)| at)
        .filter(|at| !(starts_word && code[..*at].ends_with(is_word)))
        .filter(|at| !(ends_word && code[at + needle.len()..].starts_with(is_word)))
        .collect()
}

/// Offsets where a path such as `std::fs` is named: as it stands, or as `std::{…, fs, …}`.
/// A crate, written `h2::`, is also found in `use h2;` and `use h2 as …`.
pub(crate) fn uses(code: &str, path: &str) -> Vec<usize> {
    let mut found = words(code, path);
    if let Some(name) = path.strip_suffix("::") {
        for form in [format!("use {name};"), format!("use {name} as")] {
            found.extend(words(code, &form));
        }
    } else if let Some((parent, last)) = path.rsplit_once("::") {
        for group in words(code, &format!("{parent}::{{")) {
            let open = group + parent.len() + 2;
            let items = members(code, open).into_iter();
            found.extend(items.filter(|at| words(&code[*at..], last).first() == Some(&0)));
        }
    }
    found
}

/// Where the members of a group begin: after its `{` and after each comma of its own level.
fn members(code: &str, open: usize) -> Vec<usize> {
    let Some(close) = closing(code, open) else {
        return Vec::new();
    };
    let mut depth = 0_usize;
    let mut starts = Vec::new();
    for (at, c) in code[open..close].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (c == ',' || at == 0) {
            let after = open + at + 1;
            starts.push(close - code[after..close].trim_start().len());
        }
    }
    starts
}

/// The `{` of a function's or module's body; `None` if a `;` comes first.
fn body_start(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_isize;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(at + offset),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The bracket that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_isize;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + offset);
        }
    }
    None
}

fn classify(bytes: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_word = at > 0 && is_word(char::from(bytes[at - 1]));
        let (kind, len) = match rest {
            [b'/', b'/', ..] => (Kind::Comment, line_comment_len(rest)),
            [b'/', b'*', ..] => (Kind::Comment, block_comment_len(rest)),
            [b'r' | b'b' | b'c', ..] if !after_word => match raw_string_len(rest) {
                Some(len) => (Kind::Literal, len),
                None => (Kind::Code, 1),
            },
            [b'"', ..] => (Kind::Literal, quoted_len(rest, b'"')),
            [b'\'', b'\\', ..] => (Kind::Literal, quoted_len(rest, b'\'')),
            [b'\'', ..] if char_literal_len(rest).is_some() => {
                (Kind::Literal, char_literal_len(rest).unwrap_or(1))
            }
            _ => (Kind::Code, 1),
        };
        let end = (at + len).min(bytes.len());
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

fn line_comment_len(rest: &[u8]) -> usize {
    rest.iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(rest.len())
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` or `cr"…"`.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let prefix = match rest {
        [b'b' | b'c', b'r', ..] => 2,
        [b'r', ..] => 1,
        _ => return None,
    };
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let body = prefix + hashes + 1;
    let len = rest[body..].windows(end.len()).position(|w| w == end);
    Some(len.map_or(rest.len(), |len| body + len + end.len()))
}

/// The length of a literal with escapes, quotes included.
fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `'x'`; `None` for a lifetime.
fn char_literal_len(rest: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(&rest[..rest.len().min(6)]);
    // A window may end within a character: what is valid of it is enough.
    let valid = text.map_or_else(|error| error.valid_up_to(), str::len);
    let mut chars = std::str::from_utf8(&rest[..valid]).ok()?.chars().skip(1);
    let inside = chars.next()?;
    (chars.next() == Some('\'')).then(|| 2 + inside.len_utf8())
}
