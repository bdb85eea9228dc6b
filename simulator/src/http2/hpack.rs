//! HPACK (RFC 7541): decoding of request header blocks, and the few literals that answers need. Knows
//! nothing of frames, streams or of what a header means.

use std::collections::VecDeque;

use super::huffman;

/// Octets of dynamic table offered to clients; the protocol's own default.
const TABLE_OCTETS_MAX: usize = 4096;
/// Octets of decoded names and values accepted in one request; what APNs announces is 8,000.
const HEADER_OCTETS_MAX: usize = 16 * 1024;
/// Fields accepted in one request.
const FIELDS_MAX: usize = 128;
/// What an entry costs beside its octets (RFC 7541, 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// The decoded fields of one request, in order, in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    text: Vec<u8>,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    start: u32,
    name: u32,
    value: u32,
}

impl Headers {
    /// The first value of `name`.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find_map(|(field, value)| (field == name).then_some(value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| {
            let name = &self.text[field.start as usize..][..field.name as usize];
            let value = &self.text[(field.start + field.name) as usize..][..field.value as usize];
            (name, value)
        })
    }

    fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Malformed> {
        let size = self.text.len() + name.len() + value.len();
        if size > HEADER_OCTETS_MAX || self.fields.len() >= FIELDS_MAX {
            return Err(Malformed);
        }
        let (start, name_len, value_len) = (
            self.text.len() as u32,
            name.len() as u32,
            value.len() as u32,
        );
        self.fields.push(Field {
            start,
            name: name_len,
            value: value_len,
        });
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        Ok(())
    }
}

/// A header block that cannot be decoded: the connection's compression state is lost with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A name and its value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// One connection's decompression state.
#[derive(Debug)]
pub(crate) struct Decoder {
    entries: VecDeque<Entry>,
    octets: usize,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            octets: 0,
            limit: TABLE_OCTETS_MAX,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    pub(crate) fn decode(&mut self, block: &[u8], out: &mut Headers) -> Result<(), Malformed> {
        let mut input = block;
        while let Some(&first) = input.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut input, 7)?;
                let (name, value) = self.entry(index).ok_or(Malformed)?;
                out.push(name, value)?;
            } else if first & 0xe0 == 0x20 {
                self.limit = integer(&mut input, 5)?;
                if self.limit > TABLE_OCTETS_MAX {
                    return Err(Malformed);
                }
                self.evict(0);
            } else {
                let indexed = first & 0x40 != 0;
                self.literal(&mut input, if indexed { 6 } else { 4 })?;
                out.push(&self.name, &self.value)?;
                if indexed {
                    self.insert();
                }
            }
        }
        Ok(())
    }

    /// Reads a literal field into `name` and `value`.
    fn literal(&mut self, input: &mut &[u8], prefix: u32) -> Result<(), Malformed> {
        let index = integer(input, prefix)?;
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        if index == 0 {
            string(input, &mut name)?;
        } else {
            name.extend_from_slice(self.entry(index).ok_or(Malformed)?.0);
        }
        self.name = name;
        self.value.clear();
        string(input, &mut self.value)
    }

    fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some(&entry) => Some(entry),
            None => self
                .entries
                .get(index - STATIC.len())
                .map(|(name, value)| (&**name, &**value)),
        }
    }

    fn insert(&mut self) {
        let size = self.name.len() + self.value.len() + ENTRY_OVERHEAD;
        self.evict(size);
        if size <= self.limit {
            self.octets += size;
            self.entries
                .push_front((self.name.as_slice().into(), self.value.as_slice().into()));
        }
    }

    /// Makes room for `needed` octets.
    fn evict(&mut self, needed: usize) {
        while self.octets + needed > self.limit {
            let Some((name, value)) = self.entries.pop_back() else {
                break;
            };
            self.octets -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

fn integer(input: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let (&first, mut rest) = input.split_first().ok_or(Malformed)?;
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&octet, tail) = rest.split_first().ok_or(Malformed)?;
            rest = tail;
            value += usize::from(octet & 0x7f) << shift;
            if octet & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift > 21 {
                return Err(Malformed);
            }
        }
    }
    *input = rest;
    Ok(value)
}

fn string(input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let coded = input.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(input, 7)?;
    let (text, rest) = input.split_at_checked(length).ok_or(Malformed)?;
    *input = rest;
    if coded {
        huffman::decode(text, out).ok_or(Malformed)
    } else {
        out.extend_from_slice(text);
        Ok(())
    }
}

/// Appends `:status` to a header block, indexed where the static table has it.
pub(crate) fn encode_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8u8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            out.extend_from_slice(&[0x08, 3]); // literal without indexing, name `:status`
            out.extend_from_slice(&[
                b'0' + (status / 100 % 10) as u8,
                b'0' + (status / 10 % 10) as u8,
                b'0' + (status % 10) as u8,
            ]);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Appends a field as a literal without indexing and without compression.
pub(crate) fn encode_literal(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    encode_text(name.as_bytes(), out);
    encode_text(value.as_bytes(), out);
}

fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    let mut length = text.len();
    if length < 127 {
        out.push(length as u8);
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        out.push(length as u8);
    }
    out.extend_from_slice(text);
}

/// The static table (RFC 7541, appendix A).
#[rustfmt::skip]
const STATIC: &[(&[u8], &[u8])] = &[
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
];

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    fn fields(decoder: &mut Decoder, hex: &str) -> Vec<String> {
        let mut headers = Headers::default();
        decoder.decode(&bytes(hex), &mut headers).unwrap();
        headers
            .iter()
            .map(|(name, value)| {
                format!(
                    "{}={}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(value)
                )
            })
            .collect()
    }

    #[test]
    fn requests_of_the_rfc_share_a_table() {
        // RFC 7541, appendix C.4
        let mut decoder = Decoder::new();
        assert_eq!(
            fields(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff"),
            [
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com"
            ]
        );
        assert_eq!(
            fields(&mut decoder, "828684be5886a8eb10649cbf")
                .last()
                .unwrap(),
            "cache-control=no-cache"
        );
        assert_eq!(
            fields(
                &mut decoder,
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"
            ),
            [
                ":method=GET",
                ":scheme=https",
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value"
            ]
        );
        assert_eq!(decoder.octets, 164);
    }

    #[test]
    fn entries_leave_when_the_table_shrinks() {
        let mut decoder = Decoder::new();
        fields(&mut decoder, "828684418cf1e3c2e5f23a6ba0ab90f4ff");
        assert_eq!(decoder.entries.len(), 1);
        fields(&mut decoder, "2082");
        assert_eq!((decoder.entries.len(), decoder.octets), (0, 0));
    }

    #[test]
    fn broken_blocks_are_refused() {
        for hex in [
            "ff8080808001",
            "be",
            "80",
            "4003",
            "3fe1ff7f",
            "0085ffffffff",
        ] {
            let mut headers = Headers::default();
            assert_eq!(
                Decoder::new().decode(&bytes(hex), &mut headers),
                Err(Malformed),
                "{hex}"
            );
        }
    }

    #[test]
    fn what_is_encoded_decodes() {
        let long = "x".repeat(300);
        let mut block = Vec::new();
        encode_status(410, &mut block);
        encode_status(200, &mut block);
        encode_literal("apns-id", &long, &mut block);
        let mut headers = Headers::default();
        Decoder::new().decode(&block, &mut headers).unwrap();
        let got: Vec<_> = headers.iter().collect();
        assert_eq!(got[0], (&b":status"[..], &b"410"[..]));
        assert_eq!(got[1], (&b":status"[..], &b"200"[..]));
        assert_eq!(got[2], (&b"apns-id"[..], long.as_bytes()));
    }
}
