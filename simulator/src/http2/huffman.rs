//! HPACK's string code (RFC 7541, appendix B), decoding only. Knows nothing of header fields or of tables
//! of them.
//!
//! The code of appendix B is canonical: codes are handed out by length and, within a length, by symbol. So
//! the lengths are all that has to be written down.

/// Code length in bits of each of the 256 octets; the 257th symbol (EOS, 30 bits) never occurs in a valid
/// string.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Longest code, in bits.
const LONGEST_BITS: usize = 30;
/// Bits resolved by one look into the quick table; covers every printable character but a few.
const QUICK_BITS: u32 = 10;

struct Tables {
    /// Symbols in canonical order.
    symbols: [u8; 256],
    /// Per length: the first code, how many codes there are, and where they begin in `symbols`.
    first: [u32; LONGEST_BITS + 1],
    count: [u32; LONGEST_BITS + 1],
    start: [u32; LONGEST_BITS + 1],
    /// (symbol, length) by the next `QUICK_BITS` bits; length 0 means a longer code.
    quick: [(u8, u8); 1 << QUICK_BITS],
}

const TABLES: &Tables = &build();

const fn build() -> Tables {
    let mut tables = Tables {
        symbols: [0; 256],
        first: [0; LONGEST_BITS + 1],
        count: [0; LONGEST_BITS + 1],
        start: [0; LONGEST_BITS + 1],
        quick: [(0, 0); 1 << QUICK_BITS],
    };
    let mut code = 0u32;
    let mut placed = 0usize;
    let mut length = 1usize;
    while length <= LONGEST_BITS {
        code <<= 1;
        tables.first[length] = code;
        tables.start[length] = placed as u32;
        let mut symbol = 0usize;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                tables.symbols[placed] = symbol as u8;
                placed += 1;
                if length <= QUICK_BITS as usize {
                    let spare = QUICK_BITS as usize - length;
                    let mut fill = 0usize;
                    while fill < 1 << spare {
                        tables.quick[((code as usize) << spare) | fill] =
                            (symbol as u8, length as u8);
                        fill += 1;
                    }
                }
                code += 1;
                tables.count[length] += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    tables
}

/// Appends the decoded form of `coded` to `out`; `None` for an invalid string (a bad padding or an EOS
/// inside).
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut bits = 0u64;
    let mut held = 0u32;
    let mut input = coded.iter();
    loop {
        while held <= 56 {
            let Some(&octet) = input.next() else { break };
            bits = (bits << 8) | u64::from(octet);
            held += 8;
        }
        if held == 0 {
            return Some(());
        }
        // The window is the next QUICK_BITS bits, filled up with ones behind the end as the padding is.
        let window = if held >= QUICK_BITS {
            (bits >> (held - QUICK_BITS)) & ((1 << QUICK_BITS) - 1)
        } else {
            let spare = QUICK_BITS - held;
            ((bits & ((1 << held) - 1)) << spare) | ((1 << spare) - 1)
        };
        let (symbol, length) = TABLES.quick[window as usize];
        let length = u32::from(length);
        if length != 0 && length <= held {
            out.push(symbol);
            held -= length;
        } else {
            match slow(bits, held) {
                Some((symbol, length)) => {
                    out.push(symbol);
                    held -= length;
                }
                None => return padding(bits, held, input.as_slice().is_empty()),
            }
        }
    }
}

/// A code longer than the quick table covers, found length by length.
fn slow(bits: u64, held: u32) -> Option<(u8, u32)> {
    (QUICK_BITS as usize + 1..=LONGEST_BITS).find_map(|length| {
        if length as u32 > held {
            return None;
        }
        let code = ((bits >> (held - length as u32)) & ((1 << length) - 1)) as u32;
        let index = code.checked_sub(TABLES.first[length])?;
        (index < TABLES.count[length]).then(|| {
            (
                TABLES.symbols[(TABLES.start[length] + index) as usize],
                length as u32,
            )
        })
    })
}

/// What is left over must be shorter than an octet and all ones.
fn padding(bits: u64, held: u32, ended: bool) -> Option<()> {
    let mask = (1u64 << held.min(63)) - 1;
    (ended && held < 8 && bits & mask == mask).then_some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn decoded(hex: &str) -> Option<String> {
        let coded: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let mut out = Vec::new();
        decode(&coded, &mut out)?;
        Some(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 7541, appendix C.4 and C.6
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            (
                "d07abe941054d444a8200595040b8166e082a62d1bff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(decoded(hex).as_deref(), Some(text));
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decoded("07ff"), None, "a whole octet of padding");
        assert_eq!(decoded("18"), None, "padding of zeros");
        assert_eq!(decoded("ffffffff"), None, "end of string inside");
    }
}
