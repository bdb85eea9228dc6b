//! Row counts of a closed SQLite file, read from its pages: the tests' own eyes, beside the store's.
//! It must not know what the tables mean.
//!
//! After "Database File Format" (sqlite.org/fileformat2.html): the schema is the table at page 1, and every table is a
//! tree of pages whose leaves hold its rows.

use std::collections::BTreeMap;
use std::path::Path;

/// Page kinds.
const TABLE_INTERIOR: u8 = 0x05;
const TABLE_LEAF: u8 = 0x0d;
const INDEX_INTERIOR: u8 = 0x02;
const INDEX_LEAF: u8 = 0x0a;
/// Deepest tree; SQLite's own limit is 20.
const DEPTH_MAX: usize = 20;

/// Rows by table of the databases below a directory, named `file/table`.
pub(crate) fn rows_below(directory: &Path) -> BTreeMap<String, u64> {
    let mut rows = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("-wal") {
            let left = path.metadata().unwrap().len();
            assert_eq!(left, 0, "{name} still holds commits: stop the server first");
        }
        if name.ends_with(".db") {
            for (table, count) in (File(std::fs::read(&path).unwrap())).rows() {
                rows.insert(format!("{name}/{table}"), count);
            }
        }
    }
    assert!(!rows.is_empty(), "no database in {}", directory.display());
    rows
}

struct File(Vec<u8>);

/// A page: its bytes, and where its header starts.
struct Page<'a> {
    bytes: &'a [u8],
    header: usize,
}

impl File {
    fn page(&self, number: u32) -> Page<'_> {
        let size = match u16::from_be_bytes([self.0[16], self.0[17]]) {
            1 => 65_536,
            size => usize::from(size),
        };
        let start = (number as usize - 1) * size;
        Page {
            bytes: &self.0[start..start + size],
            header: if number == 1 { 100 } else { 0 },
        }
    }

    fn rows(&self) -> BTreeMap<String, u64> {
        let mut rows = BTreeMap::new();
        self.leaves(1, 0, &mut |page| {
            for cell in 0..page.cells() {
                if let Some((table, root)) = page.schema(cell) {
                    rows.insert(table, self.count(root, 0));
                }
            }
        });
        rows
    }

    /// Walks the leaves of an ordinary table.
    fn leaves(&self, number: u32, depth: usize, visit: &mut impl FnMut(&Page<'_>)) {
        assert!(depth < DEPTH_MAX);
        let page = self.page(number);
        if page.kind() == TABLE_LEAF {
            return visit(&page);
        }
        for child in page.children() {
            self.leaves(child, depth + 1, visit);
        }
    }

    /// Rows of a table; one without row ids is kept as an index, whose inner pages hold rows as well.
    fn count(&self, number: u32, depth: usize) -> u64 {
        assert!(depth < DEPTH_MAX);
        let page = self.page(number);
        let own = page.cells() as u64;
        match page.kind() {
            TABLE_LEAF | INDEX_LEAF => own,
            TABLE_INTERIOR => page
                .children()
                .map(|child| self.count(child, depth + 1))
                .sum(),
            INDEX_INTERIOR => {
                own + page
                    .children()
                    .map(|child| self.count(child, depth + 1))
                    .sum::<u64>()
            }
            other => panic!("page {number} is of kind {other}"),
        }
    }
}

impl Page<'_> {
    fn kind(&self) -> u8 {
        self.bytes[self.header]
    }

    fn cells(&self) -> usize {
        usize::from(self.short(self.header + 3))
    }

    fn short(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        let octets = self.bytes[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(octets)
    }

    /// Where a cell starts.
    fn cell(&self, number: usize) -> usize {
        let is_leaf = matches!(self.kind(), TABLE_LEAF | INDEX_LEAF);
        let pointers = self.header + if is_leaf { 8 } else { 12 };
        usize::from(self.short(pointers + 2 * number))
    }

    /// The pages below an inner page.
    fn children(&self) -> impl Iterator<Item = u32> + '_ {
        let last = self.long(self.header + 8);
        let others = (0..self.cells()).map(|number| self.long(self.cell(number)));
        others.chain([last])
    }

    /// A number of variable length, and where it ends.
    fn varint(&self, mut at: usize) -> (u64, usize) {
        let mut value = 0;
        for _ in 0..8 {
            let octet = self.bytes[at];
            at += 1;
            value = value << 7 | u64::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                return (value, at);
            }
        }
        (value << 8 | u64::from(self.bytes[at]), at + 1)
    }

    /// A row of the schema: a table's name and its root page. Its columns: type, name, table, root page, SQL.
    fn schema(&self, number: usize) -> Option<(String, u32)> {
        let (_, at) = self.varint(self.cell(number));
        let (_, record) = self.varint(at);
        let (head, mut at) = self.varint(record);
        let mut content = record + usize::try_from(head).unwrap();
        let mut columns = Vec::new();
        for _ in 0..4 {
            let (kind, next) = self.varint(at);
            at = next;
            let length = match kind {
                0..=4 => usize::try_from(kind).unwrap(),
                8 | 9 => 0,
                text => usize::try_from((text - 13) / 2).unwrap(),
            };
            columns.push(&self.bytes[content..content + length]);
            content += length;
        }
        let root = columns[3]
            .iter()
            .fold(0, |sum, octet| sum << 8 | u32::from(*octet));
        let name = String::from_utf8_lossy(columns[1]).into_owned();
        (columns[0] == b"table" && root > 0).then_some((name, root))
    }
}
