//! The house rules, executed: sizes, module docs, banned words, and the borders between the rooms.
//! It must not know what any module does; a rule that needs a compiler is a lint in `clippy.toml`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "tidy/borders.rs"]
mod borders;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::Path;

use borders::{BORDERS, WALLS, is_in};
use source::{Source, uses, words};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Longest line of code, in characters, comments not counted.
const LINE_CHARS_MAX: usize = 110;
/// Folders that hold Rust.
const ROOMS: [&str; 8] = [
    "src",
    "auth",
    "ingest",
    "engine",
    "simulator",
    "bench",
    "tests",
    "examples",
];
/// Deepest folder that is walked.
const DEPTH_MAX: usize = 16;

type Check = fn(&Source) -> Vec<(usize, String)>;

fn lengths(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        let says =
            format!("{lines} lines, at most {FILE_LINES_MAX}: split the module by what it does");
        found.push((lines, says));
    }
    for function in source.functions() {
        if function.lines > FUNCTION_LINES_MAX {
            let (name, lines) = (&function.name, function.lines);
            let says =
                format!("{name} has {lines} lines, at most {FUNCTION_LINES_MAX}: name its steps");
            found.push((function.line, says));
        }
    }
    for (at, line) in source.uncommented.lines().enumerate() {
        let chars = line.trim_end().chars().count();
        if chars > LINE_CHARS_MAX {
            let says = format!("{chars} characters, at most {LINE_CHARS_MAX}: break the line");
            found.push((at + 1, says));
        }
    }
    found
}

fn module_docs(source: &Source) -> Vec<(usize, String)> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    let says = "begin the file with //!: what it is responsible for, then what it must not know";
    vec![(1, says.to_owned())]
}

fn banned_words(source: &Source) -> Vec<(usize, String)> {
    // Split, so that this file does not hold what it bans.
    let anywhere = [concat!("FIX", "ME"), concat!("X", "XX")];
    let in_code = ["todo!", "unimplemented!", "dbg!"];
    let report = |text: &str, word: &str, says: &str| -> Vec<(usize, String)> {
        let offsets = words(text, word).into_iter();
        offsets
            .map(|at| (source.line_of(at), format!("{word}: {says}")))
            .collect()
    };
    let mut found = Vec::new();
    for word in anywhere {
        found.extend(report(
            &source.text,
            word,
            "finish it, or leave it out and say so in the documents",
        ));
    }
    for word in in_code {
        found.extend(report(&source.code, word, "finish it or leave it out"));
    }
    found.extend(report(
        &source.code,
        "#[ignore",
        "a test that never runs proves nothing",
    ));
    found
}

fn sleeps_in_tests(source: &Source) -> Vec<(usize, String)> {
    let names = ["thread::sleep", "time::sleep", "time::sleep_until"];
    let offsets = names.iter().flat_map(|name| uses(&source.code, name));
    offsets
        .filter(|at| source.is_test_code(*at))
        .map(|at| {
            (
                source.line_of(at),
                "a test sleeps: wait on the event itself".to_owned(),
            )
        })
        .collect()
}

fn crossed_borders(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for border in BORDERS {
        if border.homes.iter().any(|home| is_in(&source.path, home)) {
            continue;
        }
        for name in border.names {
            for at in uses(&source.code, name) {
                let (homes, instead) = (border.homes.join(", "), border.instead);
                let says = format!("`{name}` belongs in {homes}: {instead}");
                found.push((source.line_of(at), says));
            }
        }
    }
    for wall in WALLS.iter().filter(|wall| is_in(&source.path, wall.room)) {
        for name in wall.names {
            for at in uses(&source.code, name) {
                let (room, because) = (wall.room, wall.because);
                let says = format!("`{name}` must not be named in {room}: {because}");
                found.push((source.line_of(at), says));
            }
        }
    }
    found
}

fn collect(folder: &Path, root: &Path, depth: usize, into: &mut Vec<Source>) {
    assert!(
        depth < DEPTH_MAX,
        "{} is nested too deeply",
        folder.display()
    );
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, root, depth + 1, into);
            }
        } else if name.ends_with(".rs") {
            let relative = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .replace('\\', "/");
            into.push(Source::new(&relative, &fs::read_to_string(&path).unwrap()));
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for room in ROOMS {
        collect(&root.join(room), root, 0, &mut found);
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    found
}

fn findings(source: &Source, check: Check) -> Vec<String> {
    let mut found = check(source);
    found.sort();
    let path = &source.path;
    found
        .into_iter()
        .map(|(line, says)| format!("{path}:{line}: {says}"))
        .collect()
}

#[track_caller]
fn holds_everywhere(check: Check) {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|source| findings(source, check))
        .collect();
    assert!(
        found.is_empty(),
        "{} to mend:\n{}\n",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn every_room_is_walked() {
    let sources = sources();
    for room in ROOMS {
        assert!(
            sources.iter().any(|source| is_in(&source.path, room)),
            "nothing in {room}"
        );
    }
    assert!(
        sources
            .iter()
            .any(|source| source.path == "tests/tidy/source.rs")
    );
}

#[test]
fn files_functions_and_lines_are_short() {
    holds_everywhere(lengths);
}

#[test]
fn every_module_says_what_it_is_and_must_not_know() {
    holds_everywhere(module_docs);
}

#[test]
fn nothing_is_left_unfinished_or_ignored() {
    holds_everywhere(banned_words);
}

#[test]
fn tests_wait_on_events() {
    holds_everywhere(sleeps_in_tests);
}

#[test]
fn every_name_stays_in_its_room() {
    holds_everywhere(crossed_borders);
}

/// Each check must be able to fail: fed with bad samples, it names the right lines.
mod proofs {
    use super::*;

    #[track_caller]
    fn lines(check: Check, path: &str, text: &str) -> Vec<usize> {
        let mut lines: Vec<usize> = check(&Source::new(path, text))
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn long_files_functions_and_lines_are_found() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert!(lines(lengths, "src/a.rs", &body(FUNCTION_LINES_MAX)).is_empty());
        assert_eq!(
            lines(lengths, "src/a.rs", &body(FUNCTION_LINES_MAX + 1)),
            [1]
        );
        // Braces in literals and comments, array types and lifetimes do not mislead it.
        let start =
            "fn f<'a>(x: &'a [u8; 4]) -> [u8; 2] {\n '}'; \"}\"; r#\"}\"\"#; /* } */ // }\n";
        let tricky = format!("{start}{}}}\nfn g() {{}}\n", " h();\n".repeat(70));
        assert_eq!(lines(lengths, "src/a.rs", &tricky), [1]);

        assert!(lines(lengths, "src/a.rs", &"\n".repeat(FILE_LINES_MAX)).is_empty());
        let long = "\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(lines(lengths, "src/a.rs", &long), [FILE_LINES_MAX + 1]);

        let wide = |chars: usize| format!("\n\"{}\"\n", "é".repeat(chars - 2));
        assert!(lines(lengths, "src/a.rs", &wide(LINE_CHARS_MAX)).is_empty());
        assert_eq!(lines(lengths, "src/a.rs", &wide(LINE_CHARS_MAX + 1)), [2]);
        assert!(lines(lengths, "src/a.rs", &format!("// {}", "c".repeat(200))).is_empty());
    }

    #[test]
    fn a_module_without_docs_is_found() {
        assert!(lines(module_docs, "src/a.rs", "//! A room.\n").is_empty());
        for bad in [
            "",
            "use x;\n//! Late.\n",
            "/// Of the item.\nfn f() {}\n",
            "// Plain.\n",
        ] {
            assert_eq!(lines(module_docs, "src/a.rs", bad), [1], "{bad:?}");
        }
    }

    #[test]
    fn unfinished_and_ignored_things_are_found() {
        for bad in [
            concat!("// FIX", "ME later"),
            concat!("// X", "XX"),
            "fn f() { todo!() }",
            "fn f() { unimplemented!() }",
            "fn f() { dbg!(1) }",
            "#[ignore]",
            "#[ignore = \"slow\"]",
        ] {
            assert_eq!(
                lines(banned_words, "src/a.rs", &format!("\n{bad}\n")),
                [2],
                "{bad:?}"
            );
        }
        for good in [
            "// how todo! works",
            "\"dbg!\"",
            concat!("let MAX_X", "XXL = 1;"),
            "my_todo!()",
        ] {
            assert!(lines(banned_words, "src/a.rs", good).is_empty(), "{good:?}");
        }
    }

    #[test]
    fn sleeping_tests_are_found_and_sleeping_code_is_not() {
        for bad in [
            "std::thread::sleep(d);",
            "tokio::time::sleep(d).await;",
            "use tokio::time::{timeout, sleep};",
            "use tokio::{time::sleep_until, fs};",
        ] {
            for path in [
                "tests/e2e/a.rs",
                "engine/tests/a.rs",
                "engine/src/a/tests.rs",
            ] {
                assert_eq!(lines(sleeps_in_tests, path, bad), [1], "{path} {bad:?}");
            }
            assert!(
                lines(sleeps_in_tests, "engine/src/a.rs", bad).is_empty(),
                "{bad:?}"
            );
            let module =
                format!("{bad}\n#[cfg(test)]\n#[allow(x)]\nmod tests {{\n{bad}\n}}\n{bad}\n");
            assert_eq!(
                lines(sleeps_in_tests, "engine/src/a.rs", &module),
                [5],
                "{bad:?}"
            );
        }
    }

    #[test]
    fn each_border_is_guarded_and_its_homes_are_open() {
        for border in BORDERS {
            for name in border.names {
                // A space, so that `StatusCode` stands as a word of its own.
                let text = format!("\n{name} x();\n");
                for home in border.homes {
                    for path in [format!("{home}.rs"), format!("{home}/deep/er.rs")] {
                        let found = lines(crossed_borders, &path, &text);
                        let walled = WALLS.iter().any(|wall| is_in(&path, wall.room));
                        assert!(found.is_empty() || walled, "{name} in {path}");
                    }
                    let neighbour = format!("{home}x/a.rs");
                    let open = border.homes.iter().any(|home| is_in(&neighbour, home));
                    assert_eq!(
                        lines(crossed_borders, &neighbour, &text).is_empty(),
                        open,
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_wall_stands_and_sees_through_groups_and_renames() {
        for wall in WALLS {
            for name in wall.names {
                let path = format!("{}/a.rs", wall.room);
                let found = lines(crossed_borders, &path, &format!("\nuse {name} as y;\n"));
                assert!(found.contains(&2), "{name} in {path}");
                if let Some((parent, last)) = name.rsplit_once("::").filter(|(_, l)| !l.is_empty())
                {
                    let group = format!("use {parent}::{{\n    a::{{b, c}},\n    {last}::d,\n}};");
                    assert_eq!(lines(crossed_borders, &path, &group), [3], "{name}");
                    let other = format!("use {parent}::{{a::{{{last}}}, {last}x}};");
                    assert!(lines(crossed_borders, &path, &other).is_empty(), "{other}");
                }
            }
        }
        for named in ["h2::client::handshake(io)", "use h2;", "use h2 as wire;"] {
            assert_eq!(lines(crossed_borders, "src/a.rs", named), [1], "{named}");
        }
        for innocent in [
            "// h2::client",
            "\"h2::client\"",
            "my_h2::client()",
            "use h2o;",
        ] {
            assert!(
                lines(crossed_borders, "src/a.rs", innocent).is_empty(),
                "{innocent}"
            );
        }
    }
}
