//! The rules of the house that a test can hold: which room may name which, what the pure rooms do without, and a few
//! habits. The rooms, and why the arrows point as they do, are described in `docs/architecture.md`.
//!
//! A path counts wherever it stands: in a `use`, in a signature, in the middle of a function, in a macro's arguments,
//! from `crate`, `super` or, in `main.rs`, `steward`. Comments and doc links do not count.

mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use syn::visit::Visit;

use paths::{Named, paths_of};

pub fn trials() -> Vec<Trial> {
    trials![
        every_room_names_only_the_rooms_it_may,
        pure_rooms_know_no_clock_thread_file_or_socket,
        a_library_stays_in_the_rooms_that_may_know_it,
        nobody_reads_the_clock_below_the_app,
        no_file_unwraps_prints_or_leaves_a_task_behind,
        every_file_opens_with_what_it_owns,
        no_file_is_longer_than_a_thought,
        the_checks_find_what_they_are_there_to_find,
    ]
}

// ------------------------------------------------------------------------------------------------------- the rules

/// Leaves that anyone may name. They name nobody.
const LEAVES: &[&str] = &["exit_code"];

/// A room is a module of the crate's root, or a file beside it: `src/NAME.rs` with `src/NAME/`.
struct Room {
    name: &'static str,
    /// The other rooms that it may name.
    may_name: &'static [&'static str],
    purity: Purity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purity {
    /// Not even a moment as an argument.
    Timeless,
    /// Moments come in as arguments; nobody asks for them.
    Pure,
    /// May do what it has to.
    Worldly,
}

use Purity::{Pure, Timeless, Worldly};

const EVERY_ROOM: &[&str] = &[
    "actors",
    "config",
    "dead_letters",
    "entity",
    "kafka",
    "log_events",
    "log_reader",
    "ports",
    "progress",
    "record",
    "reference",
    "service",
    "stats",
    "telemetry",
    "heartbeat",
    "vitals",
    "workload",
];

#[rustfmt::skip]
const ROOMS: &[Room] = &[
    Room { name: "main",       purity: Worldly,  may_name: &["cli", "app"] },
    Room { name: "lib",        purity: Pure,     may_name: &[] },
    Room { name: "cli",        purity: Worldly,  may_name: &["app", "heartbeat", "ports", "config", "service", "kafka", "record", "entity", "dead_letters", "reference", "workload", "stats", "log_events", "log_reader", "telemetry"] },
    Room { name: "app",        purity: Worldly,  may_name: EVERY_ROOM },
    Room { name: "config",     purity: Worldly,  may_name: &[] },
    Room { name: "telemetry",  purity: Worldly,  may_name: &["config", "log_events"] },
    Room { name: "heartbeat",  purity: Worldly,  may_name: &[] },
    Room { name: "exit_code",  purity: Timeless, may_name: &[] },
    Room { name: "log_events", purity: Pure,     may_name: &[] },
    Room { name: "log_reader", purity: Timeless, may_name: &["log_events"] },
    Room { name: "stats",      purity: Worldly,  may_name: &["entity", "log_events"] },
    Room { name: "entity",     purity: Timeless, may_name: &["record"] },
    Room { name: "service",    purity: Timeless, may_name: &["entity", "record"] },
    Room { name: "record",     purity: Timeless, may_name: &["entity"] },
    Room { name: "dead_letters", purity: Timeless, may_name: &["entity", "record"] },
    Room { name: "reference",  purity: Timeless, may_name: &["entity", "record"] },
    Room { name: "workload",   purity: Timeless, may_name: &["entity", "record"] },
    Room { name: "progress",   purity: Pure,     may_name: &["entity", "record"] },
    Room { name: "ports",      purity: Worldly,  may_name: &["record", "progress", "entity"] },
    Room { name: "vitals",     purity: Pure,     may_name: &["progress", "record"] },
    Room { name: "actors",     purity: Worldly,  may_name: &["ports", "progress", "record", "entity", "log_events", "stats", "vitals"] },
    Room { name: "kafka",      purity: Worldly,  may_name: &["ports", "progress", "record", "entity", "dead_letters", "config", "log_events", "stats", "vitals"] },
];

/// Libraries that only some rooms may know. Others may go wherever they are needed.
#[rustfmt::skip]
const LIBRARIES: &[(&str, &[&str])] = &[
    ("rdkafka",            &["kafka"]),
    ("rdkafka_sys",        &["kafka"]),
    ("actix",              &["actors", "app"]),
    ("actix_rt",           &["actors", "app"]),
    ("dashmap",            &["actors"]),
    ("anyhow",             &["main", "cli", "app"]),
    ("clap",               &["main", "cli"]),
    ("clap_complete",      &["main", "cli"]),
    ("comfy_table",        &["cli"]),
    ("console",            &["log_reader"]),
    ("crossterm",          &["cli"]),
    ("flate2",             &["cli"]),
    ("indicatif",          &["cli"]),
    ("hmac",               &["log_events"]),
    ("log",                &["telemetry"]),
    ("maud",               &["cli"]),
    ("ratatui",            &["cli"]),
    ("rustix",             &["app", "cli"]),
    ("sha2",               &["log_events"]),
    ("signal_hook",        &["app", "cli"]),
    ("toml",               &["config", "cli"]),
    ("tracing",            &["log_events", "telemetry"]),
    ("tracing_subscriber", &["telemetry", "app"]),
];

/// What the world outside is called in the standard library.
const WORLDLY: &[&str] = &["std::thread", "std::fs", "std::net", "std::process", "std::env", "std::io", "tokio"];
const MOMENTS: &[&str] = &["std::time::Instant", "std::time::SystemTime"];

/// Longest file, in lines, before it has to be two.
const MAX_LINES: usize = 700;

fn every_room_names_only_the_rooms_it_may() {
    assert_none(&all(arrows));
}

fn pure_rooms_know_no_clock_thread_file_or_socket() {
    assert_none(&all(purity));
}

fn a_library_stays_in_the_rooms_that_may_know_it() {
    assert_none(&all(libraries));
}

fn nobody_reads_the_clock_below_the_app() {
    assert_none(&all(clock));
}

fn no_file_unwraps_prints_or_leaves_a_task_behind() {
    assert_none(&all(tidiness));
}

fn every_file_opens_with_what_it_owns() {
    assert_none(&all(|file| {
        let opens = file.text.starts_with("//!");
        (!opens).then(|| format!("{}: does not begin with `//!` and what it owns", file.name)).into_iter().collect()
    }));
}

fn no_file_is_longer_than_a_thought() {
    assert_none(&all(length));
}

// ------------------------------------------------------------------------------------------------------ the checks

/// Looks at one file, and says what is wrong with it.
type Check = fn(&Source) -> Vec<String>;

/// A file of `src`.
struct Source {
    /// Path below `src`.
    name: String,
    /// The room that it belongs to.
    room: String,
    text: String,
    syntax: syn::File,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let room = name.split('/').next().expect("split gives at least one").trim_end_matches(".rs").to_owned();
        Source { name: name.to_owned(), room, text: text.to_owned(), syntax }
    }

    /// The module that the file is, from the crate's root: `kafka/client.rs` is `[kafka, client]`.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "lib" | "main" | "mod")).map(str::to_owned).collect()
    }

    fn paths(&self) -> BTreeSet<Named> {
        paths_of(&self.syntax, &self.module())
    }

    fn rules(&self) -> Option<&'static Room> {
        ROOMS.iter().find(|room| room.name == self.room)
    }
}

fn arrows(file: &Source) -> Vec<String> {
    let Some(room) = file.rules() else {
        let (name, room) = (&file.name, &file.room);
        return vec![format!("{name}: the room `{room}` is not in the table ROOMS; say there what it may name")];
    };
    let mut broken = Vec::new();
    for path in file.paths() {
        // What is no room would be an item of the root itself, and there are none.
        let Some(other) = path.inside().filter(|other| ROOMS.iter().any(|room| room.name == *other)) else { continue };
        let may_be_named = other == file.room || LEAVES.contains(&other) || room.may_name.contains(&other);
        if !may_be_named {
            let may = if room.may_name.is_empty() { "no other room".into() } else { room.may_name.join(", ") };
            broken.push(format!("{}: `{path}`: the room `{}` may name {may}", file.name, file.room));
        }
    }
    broken
}

fn purity(file: &Source) -> Vec<String> {
    let forbidden: Vec<&str> = match file.rules().map_or(Worldly, |room| room.purity) {
        Timeless => [WORLDLY, MOMENTS].concat(),
        Pure => WORLDLY.to_vec(),
        Worldly => Vec::new(),
    };
    let paths = file.paths();
    let bad = paths.iter().filter(|path| forbidden.iter().any(|start| path.starts_with(start)));
    bad.map(|path| format!("{}: `{path}`: the room `{}` is pure; let it come in as an argument", file.name, file.room))
        .collect()
}

fn libraries(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for path in file.paths() {
        let Some((library, rooms)) = LIBRARIES.iter().find(|(library, _)| path.starts_with(library)) else { continue };
        if !rooms.contains(&file.room.as_str()) {
            let may = rooms.join(", ");
            found.push(format!("{}: `{path}`: only {may} may know `{library}`", file.name));
        }
    }
    found
}

fn clock(file: &Source) -> Vec<String> {
    if file.room == "app" || file.room == "cli" {
        return Vec::new();
    }
    let paths = file.paths();
    let reads = paths.iter().filter(|path| path.ends_with("Instant::now") || path.ends_with("SystemTime::now"));
    reads.map(|path| format!("{}: `{path}`: time is an argument here; it comes from the app", file.name)).collect()
}

fn tidiness(file: &Source) -> Vec<String> {
    let mut found = Untidy::default();
    found.visit_file(&file.syntax);
    let mut untidy = Vec::new();
    for _ in 0..found.unwraps {
        untidy.push(format!("{}: `.unwrap()`; say why it cannot fail, or handle it", file.name));
    }
    let may_print = file.room == "cli" || file.room == "main";
    for name in found.macros {
        let is_unfinished = matches!(name.as_str(), "dbg" | "todo" | "unimplemented");
        let is_print = matches!(name.as_str(), "print" | "println" | "eprint" | "eprintln");
        if is_unfinished || (is_print && !may_print) {
            untidy.push(format!("{}: `{name}!`", file.name));
        }
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
            untidy.push(format!("{}:{number}: a task that nobody tracks: {}", file.name, line.trim()));
        }
        if ["#[test]", "#[cfg(test)]"].contains(&line.trim()) {
            untidy.push(format!("{}:{number}: no test runs from here; tests are in tests/", file.name));
        }
    }
    untidy
}

fn length(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    let is_long = lines > MAX_LINES;
    is_long
        .then(|| format!("{}: {lines} lines, more than {MAX_LINES}: look for the second thought", file.name))
        .into_iter()
        .collect()
}

#[derive(Default)]
struct Untidy {
    unwraps: usize,
    macros: Vec<String>,
}

impl<'ast> Visit<'ast> for Untidy {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" {
            self.unwraps += 1;
        }
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.macros.extend(call.path.segments.last().map(|segment| segment.ident.to_string()));
        syn::visit::visit_macro(self, call);
    }
}

// --------------------------------------------------------------------------------------------- the checks, checked

fn the_checks_find_what_they_are_there_to_find() {
    let broken: &[(Check, &str, &str)] = &[
        (arrows, "entity.rs", "use crate::kafka::client::settings;"),
        (arrows, "entity.rs", "use crate::{record::Record, kafka};"),
        (arrows, "ports/memory.rs", "use super::super::actors::Registry;"),
        (arrows, "ports/memory.rs", "mod inner { fn f(x: super::super::super::kafka::Client) {} }"),
        (arrows, "log_events/commit.rs", "fn f() { let x = vec![crate::record::Offset(1)]; }"),
        (arrows, "main.rs", "use steward::kafka::client::settings;"),
        (arrows, "attic.rs", ""),
        (purity, "service/state.rs", "use std::{time::{Duration, Instant}, fmt};"),
        (purity, "progress/offsets.rs", "fn f() { std::thread::yield_now() }"),
        (purity, "record.rs", "use tokio as runtime;"),
        (libraries, "actors/ingest.rs", "use rdkafka::Message;"),
        (libraries, "kafka/client.rs", "fn f(address: ::actix::Addr<A>) {}"),
        (libraries, "service/mod.rs", "fn f() -> anyhow::Result<()> { anyhow::bail!(\"no\") }"),
        (clock, "actors/ingest.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        (tidiness, "record.rs", "fn f() { g().unwrap() }"),
        (tidiness, "record.rs", "fn f() { println!() }"),
        (tidiness, "cli/run.rs", "fn f() { todo!() }"),
        (tidiness, "cli/run.rs", concat!("// TO", "DO: later")),
        (tidiness, "record.rs", "#[test]\nfn f() {}"),
        (length, "record.rs", &"\n".repeat(MAX_LINES + 1)),
    ];
    for (check, name, text) in broken {
        assert_ne!(check(&Source::new(name, text)), Vec::<String>::new(), "nothing found in {name}: {text}");
    }
    let sound: &[(Check, &str, &str)] = &[
        (
            arrows,
            "kafka/client.rs",
            "//! [`crate::runtime`]\nuse crate::config::Config; use super::error; use self::x;",
        ),
        (arrows, "kafka/mod.rs", "mod client; use client::Client; use super::ports;"),
        (purity, "progress/budget.rs", "use std::time::{Duration, Instant}; fn f(now: Instant) {}"),
        (libraries, "app.rs", "fn f() { actix::System::new(); let actixy = 1; }"),
        (tidiness, "cli/run.rs", "fn f() { println!(); g().unwrap_or(1) }"),
    ];
    for (check, name, text) in sound {
        assert_eq!(check(&Source::new(name, text)), Vec::<String>::new(), "{name}: {text}");
    }
}

// --------------------------------------------------------------------------------------------------------- sources

fn all(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 5, "the sources stand in {}", root.display());
    files.sort();
    let sources = files.iter().map(|file| {
        let name = file.strip_prefix(&root).expect("collected below it").display().to_string();
        Source::new(&name, &std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}")))
    });
    sources.flat_map(|file| check(&file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder that can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{} times:\n  src/{}", broken.len(), broken.join("\n  src/"));
}
