//! The rules of `docs/architecture.md` that a test can hold: which module may import which, what the pure modules do
//! without, no import cycles, and a few habits.
//!
//! A path counts wherever it occurs: in a `use`, a signature, a function body or the arguments of a macro; from `crate`,
//! from `super` or, in `main.rs`, from `steward`. Comments and doc links do not count.

mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

use paths::{Named, paths_of};

// ------------------------------------------------------------------------------------------------------- the rules

/// A module and everything below it, unless a longer path has rules of its own.
struct Rule {
    /// From the crate's root; `main` and `lib` are the files of that name.
    module: &'static str,
    /// The other modules that it may import, from the crate's root. A permission that no file uses fails the test.
    imports: &'static [&'static str],
    purity: Purity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purity {
    /// No clock, thread, file or socket, and no moment as an argument.
    Timeless,
    /// Moments come in as arguments.
    Pure,
    /// May use threads, files, sockets and the process.
    Effects,
}

use Purity::{Effects, Pure, Timeless};

/// In reading order. `docs/architecture.md` has the same table in words.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { module: "main",          purity: Effects,  imports: &["cli"] },
    Rule { module: "cli",           purity: Effects,  imports: &["tools", "exit_code"] },
    Rule { module: "lib",           purity: Timeless, imports: &[] },
    Rule { module: "exit_code",     purity: Timeless, imports: &[] },
    Rule { module: "record",        purity: Timeless, imports: &[] },
    Rule { module: "entity",        purity: Timeless, imports: &["record"] },
    Rule { module: "json",          purity: Timeless, imports: &["entity"] },
    Rule { module: "service",       purity: Timeless, imports: &["entity", "json"] },
    Rule { module: "engine",        purity: Pure,     imports: &["record", "entity"] },
    Rule { module: "ports",         purity: Effects,  imports: &["record", "engine"] },
    Rule { module: "runtime",       purity: Effects,  imports: &["ports", "engine", "record", "entity", "observability"] },
    Rule { module: "kafka",         purity: Effects,  imports: &["ports", "engine", "record", "config", "observability"] },
    Rule { module: "app",           purity: Effects,  imports: &["ports", "engine", "record", "entity", "service", "runtime", "kafka", "config", "observability", "exit_code"] },
    Rule { module: "config",        purity: Effects,  imports: &[] },
    Rule { module: "observability", purity: Effects,  imports: &["config"] },
    Rule { module: "observability::log_events", purity: Pure, imports: &[] },
    Rule { module: "observability::log_throttle", purity: Pure, imports: &[] },
    Rule { module: "observability::heavy_hitters", purity: Pure, imports: &[] },
    Rule { module: "observability::stats", purity: Pure, imports: &["entity", "observability::log_events", "observability::heavy_hitters"] },
    Rule { module: "observability::status", purity: Pure, imports: &["engine", "record"] },
    Rule { module: "observability::open_transactions", purity: Pure, imports: &["record", "observability::status"] },
    Rule { module: "observability::watchdog", purity: Pure, imports: &["engine", "record", "observability::log_events", "observability::status"] },
    Rule { module: "tools",         purity: Effects,  imports: &["app", "kafka", "ports", "engine", "record", "entity", "service", "config", "observability", "testing", "exit_code"] },
    Rule { module: "tools::log_reader", purity: Timeless, imports: &["observability::log_events"] },
    Rule { module: "testing",       purity: Effects,  imports: &["ports", "engine", "record", "entity"] },
    Rule { module: "testing::reference", purity: Timeless, imports: &["entity"] },
    Rule { module: "testing::workload", purity: Timeless, imports: &["entity"] },
];

/// Libraries that only some modules may use. Others may be used wherever they are needed.
#[rustfmt::skip]
const LIBRARIES: &[(&str, &[&str])] = &[
    ("rdkafka",            &["kafka"]),
    ("rdkafka_sys",        &["kafka"]),
    ("actix",              &["runtime", "app"]),
    ("dashmap",            &["runtime"]),
    ("clap",               &["cli", "tools"]),
    ("clap_complete",      &["tools"]),
    ("comfy_table",        &["tools"]),
    ("console",            &["tools::log_reader"]),
    ("crossterm",          &["tools"]),
    ("flate2",             &["tools"]),
    ("indicatif",          &["tools"]),
    ("hmac",               &["observability::log_events"]),
    ("log",                &["observability"]),
    ("maud",               &["tools"]),
    ("ratatui",            &["tools"]),
    ("rustix",             &["app", "tools"]),
    ("sha2",               &["engine", "observability::log_events"]),
    ("signal_hook",        &["app", "tools"]),
    ("toml",               &["config", "tools"]),
    ("tracing",            &["observability"]),
    ("tracing_subscriber", &["observability"]),
    ("x509_cert",          &["app"]),
];

/// Paths of the standard library that have effects.
const EFFECTS: &[&str] = &["std::thread", "std::fs", "std::net", "std::process", "std::env", "std::io", "tokio"];
const MOMENTS: &[&str] = &["std::time::Instant", "std::time::SystemTime"];

/// Greatest number of lines of a file.
const MAX_LINES: usize = 600;

#[apply(offline_test)]
fn every_module_imports_only_what_it_may() {
    assert_none(&all(imports));
}

#[apply(offline_test)]
fn no_permission_is_unused() {
    let sources = sources();
    let mut unused = Vec::new();
    for rule in RULES {
        for permission in rule.imports {
            let is_used = |file: &&Source| file.rule().is_some_and(|own| own.module == rule.module);
            if !sources.iter().filter(is_used).any(|file| file.paths().iter().any(|path| path.is_below(permission))) {
                unused.push(format!("the module `{}` may import `{permission}`, and does not", rule.module));
            }
        }
    }
    for (library, modules) in LIBRARIES {
        for module in *modules {
            let is_there = |file: &&Source| file.is_below(module);
            if !sources.iter().filter(is_there).any(|file| file.paths().iter().any(|path| path.starts_with(library))) {
                unused.push(format!("the module `{module}` may use `{library}`, and does not"));
            }
        }
    }
    assert_none(&unused);
}

#[apply(offline_test)]
fn the_page_has_the_rules_of_every_module() {
    let page = include_str!("../../docs/architecture.md");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').map(str::trim).collect();
        let [module, _, imports, ""] = cells.as_slice() else { return None };
        let is_pure = module.ends_with('°');
        Some((module.trim_end_matches([' ', '°', '`']).to_owned(), is_pure, quoted(imports)))
    });
    let rules = RULES.iter().filter(|rule| rule.module != "lib").map(|rule| {
        let imports: Vec<String> = rule.imports.iter().map(|&import| import.to_owned()).collect();
        (rule.module.to_owned(), rule.purity != Effects, imports)
    });
    assert_eq!(rows.collect::<Vec<_>>(), rules.collect::<Vec<_>>(), "docs/architecture.md (left) and RULES differ");
}

#[apply(offline_test)]
fn no_two_files_import_each_other() {
    assert_none(&cycles(&sources()));
}

#[apply(offline_test)]
fn pure_modules_use_no_clock_thread_file_or_socket() {
    assert_none(&all(purity));
}

#[apply(offline_test)]
fn a_library_stays_in_the_modules_that_may_use_it() {
    assert_none(&all(libraries));
}

#[apply(offline_test)]
fn only_app_and_tools_read_the_clock() {
    assert_none(&all(clock));
}

#[apply(offline_test)]
fn no_file_unwraps_prints_or_has_an_open_task() {
    assert_none(&all(tidiness));
}

#[apply(offline_test)]
fn every_file_begins_with_module_documentation() {
    assert_none(&all(|file| {
        let opens = file.text.starts_with("//!");
        (!opens).then(|| format!("{}: does not begin with `//!`", file.name)).into_iter().collect()
    }));
}

#[apply(offline_test)]
fn no_file_is_too_long() {
    assert_none(&all(length));
}

// ------------------------------------------------------------------------------------------------------ the checks

/// Checks one file, and returns its violations.
type Check = fn(&Source) -> Vec<String>;

/// A file of `src`.
struct Source {
    /// Path below `src`.
    name: String,
    text: String,
    syntax: syn::File,
}

impl Source {
    fn new(name: &str, text: &str) -> Source {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Source { name: name.to_owned(), text: text.to_owned(), syntax }
    }

    /// Returns the module of the file, from the crate's root: `kafka/client.rs` is `[kafka, client]`.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs");
        path.split('/').map(str::to_owned).collect()
    }

    /// Returns the module to which names in the file are relative: `main` and `lib` are the root.
    fn scope(&self) -> Vec<String> {
        self.module().into_iter().filter(|part| !matches!(part.as_str(), "lib" | "main")).collect()
    }

    fn paths(&self) -> BTreeSet<Named> {
        paths_of(&self.syntax, &self.scope())
    }

    fn is_below(&self, module: &str) -> bool {
        is_below(&self.module(), module)
    }

    /// Returns the most specific rule for the file.
    fn rule(&self) -> Option<&'static Rule> {
        RULES.iter().filter(|rule| self.is_below(rule.module)).max_by_key(|rule| rule.module.len())
    }
}

fn imports(file: &Source) -> Vec<String> {
    let Some(rule) = file.rule() else {
        return vec![format!("{}: no rule in RULES covers it; add what it may import", file.name)];
    };
    let mut broken = Vec::new();
    for path in file.paths() {
        // A path to no module with a rule is an item of the root, and the root has no items.
        if !RULES.iter().any(|other| path.is_below(other.module)) {
            continue;
        }
        let own = rule.module;
        let is_allowed = path.is_below(own) || rule.imports.iter().any(|module| path.is_below(module));
        if !is_allowed {
            let may = if rule.imports.is_empty() { "nothing".into() } else { rule.imports.join(", ") };
            broken.push(format!("{}: `{path}`: the module `{own}` may import {may}", file.name));
        }
    }
    broken
}

/// Finds files that import each other, directly or through other files. Imports between a module and the modules below
/// it are allowed: the parent lists its children, and they use what it declares.
fn cycles(files: &[Source]) -> Vec<String> {
    let modules: Vec<Vec<String>> = files.iter().map(Source::module).collect();
    let related = |one: &[String], other: &[String]| one.starts_with(other) || other.starts_with(one);
    let mut reaches: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); files.len()];
    for (from, file) in files.iter().enumerate() {
        for path in file.paths() {
            let Some(segments) = path.inside() else { continue };
            let target =
                (0..files.len()).filter(|to| segments.starts_with(&modules[*to])).max_by_key(|to| modules[*to].len());
            if let Some(to) = target.filter(|to| !related(&modules[from], &modules[*to])) {
                reaches[from].insert(to);
            }
        }
    }
    // Transitive closure. The graph is small, so the simplest algorithm suffices.
    loop {
        let mut has_grown = false;
        for from in 0..files.len() {
            let further: BTreeSet<usize> = reaches[from].iter().flat_map(|to| reaches[*to].clone()).collect();
            has_grown |= !further.is_subset(&reaches[from]);
            reaches[from].extend(further);
        }
        if !has_grown {
            break;
        }
    }
    (0..files.len())
        .filter(|file| reaches[*file].contains(file))
        .map(|file| {
            let others = reaches[file].iter().filter(|other| **other != file && reaches[**other].contains(&file));
            let names: Vec<&str> = others.map(|other| files[*other].name.as_str()).collect();
            format!("{}: is in a cycle with {}", files[file].name, names.join(", "))
        })
        .collect()
}

fn is_below(path: &[String], module: &str) -> bool {
    let module: Vec<&str> = module.split("::").collect();
    path.len() >= module.len() && module.iter().eq(&path[..module.len()])
}

fn purity(file: &Source) -> Vec<String> {
    let forbidden: Vec<&str> = match file.rule().map_or(Effects, |rule| rule.purity) {
        Timeless => [EFFECTS, MOMENTS].concat(),
        Pure => EFFECTS.to_vec(),
        Effects => Vec::new(),
    };
    let paths = file.paths();
    let bad = paths.iter().filter(|path| forbidden.iter().any(|start| path.starts_with(start)));
    bad.map(|path| format!("{}: `{path}`: this module is pure; pass it in as an argument", file.name)).collect()
}

fn libraries(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for path in file.paths() {
        let Some((library, modules)) = LIBRARIES.iter().find(|(library, _)| path.starts_with(library)) else {
            continue;
        };
        if !modules.iter().any(|module| file.is_below(module)) {
            found.push(format!("{}: `{path}`: only {} may use `{library}`", file.name, modules.join(", ")));
        }
    }
    found
}

fn clock(file: &Source) -> Vec<String> {
    if file.is_below("app") || file.is_below("tools") {
        return Vec::new();
    }
    let paths = file.paths();
    let reads = paths.iter().filter(|path| path.ends_with("Instant::now") || path.ends_with("SystemTime::now"));
    reads
        .map(|path| format!("{}: `{path}`: time is an argument here; only app and tools read the clock", file.name))
        .collect()
}

fn tidiness(file: &Source) -> Vec<String> {
    let mut found = Untidy::default();
    found.visit_file(&file.syntax);
    let mut untidy = Vec::new();
    for _ in 0..found.unwraps {
        untidy.push(format!("{}: `.unwrap()`; say why it cannot fail, or handle it", file.name));
    }
    let may_print = file.is_below("tools") || file.is_below("cli");
    for name in found.macros {
        let is_unfinished = matches!(name.as_str(), "dbg" | "todo" | "unimplemented");
        let is_print = matches!(name.as_str(), "print" | "println" | "eprint" | "eprintln");
        if is_unfinished || (is_print && !may_print) {
            untidy.push(format!("{}: `{name}!`", file.name));
        }
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
            untidy.push(format!("{}:{number}: a task without a tracked issue: {}", file.name, line.trim()));
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
        .then(|| {
            format!("{}: {lines} lines, more than {MAX_LINES}; move one responsibility into another file", file.name)
        })
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

#[apply(offline_test)]
fn the_checks_find_violations_and_only_violations() {
    let broken: &[(Check, &str, &str)] = &[
        (imports, "entity.rs", "use crate::kafka::client;"),
        (imports, "entity.rs", "use crate::{record::Record, kafka};"),
        (imports, "testing/memory.rs", "use super::super::runtime::ingest;"),
        (imports, "testing/memory.rs", "mod inner { fn f(x: super::super::super::kafka::Client) {} }"),
        (imports, "tools/log_reader/pod.rs", "use crate::tools::output;"),
        (imports, "observability/log_events/commit.rs", "fn f() { let x = vec![crate::record::Offset(1)]; }"),
        (imports, "main.rs", "use steward::kafka::client;"),
        (imports, "attic.rs", ""),
        (purity, "service/state.rs", "use std::{time::{Duration, Instant}, fmt};"),
        (purity, "engine/batches.rs", "fn f() { std::thread::yield_now() }"),
        (purity, "record.rs", "use tokio as runtime;"),
        (purity, "tools/log_reader.rs", "use std::time::Instant;"),
        (libraries, "runtime/ingest.rs", "use rdkafka::Message;"),
        (libraries, "kafka/client.rs", "fn f(address: ::actix::Addr<A>) {}"),
        (libraries, "service.rs", "fn f() { tracing::info!(\"no\") }"),
        (clock, "runtime/ingest.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        (tidiness, "record.rs", "fn f() { g().unwrap() }"),
        (tidiness, "record.rs", "fn f() { println!() }"),
        (tidiness, "tools/run.rs", "fn f() { todo!() }"),
        (tidiness, "tools/run.rs", concat!("// TO", "DO: later")),
        (tidiness, "record.rs", "#[test]\nfn f() {}"),
        (length, "record.rs", &"\n".repeat(MAX_LINES + 1)),
    ];
    for (check, name, text) in broken {
        assert_ne!(check(&Source::new(name, text)), Vec::<String>::new(), "nothing found in {name}: {text}");
    }
    let sound: &[(Check, &str, &str)] = &[
        (
            imports,
            "kafka/client.rs",
            "//! [`crate::runtime`]\nuse crate::config::Config; use super::error; use self::x;",
        ),
        (imports, "kafka.rs", "mod client; use client::Client; use super::ports;"),
        (purity, "engine/budget.rs", "use std::time::{Duration, Instant}; fn f(now: Instant) {}"),
        (libraries, "app.rs", "fn f() { actix::System::new(); let actixy = 1; }"),
        (tidiness, "tools/run.rs", "fn f() { println!(); g().unwrap_or(1) }"),
    ];
    for (check, name, text) in sound {
        assert_eq!(check(&Source::new(name, text)), Vec::<String>::new(), "{name}: {text}");
    }
    let circle = [("a.rs", "use crate::b::c;"), ("b/c.rs", "use crate::d;"), ("d.rs", "fn f() { crate::a::g() }")];
    let sources: Vec<Source> = circle.iter().map(|(name, text)| Source::new(name, text)).collect();
    assert_eq!(cycles(&sources).len(), 3);
    assert_eq!(cycles(&sources[..2]), Vec::<String>::new());
    let family =
        [("a.rs", "pub use crate::a::b::C;"), ("a/b.rs", "use super::D;")].map(|(name, text)| Source::new(name, text));
    assert_eq!(cycles(&family), Vec::<String>::new());
}

// --------------------------------------------------------------------------------------------------------- sources

fn all(check: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    sources().iter().flat_map(check).collect()
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 5, "the sources are in {}", root.display());
    files.sort();
    let sources = files.iter().map(|file| {
        let name = file.strip_prefix(&root).expect("the file is below the root").display().to_string();
        Source::new(&name, &std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}")))
    });
    sources.collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("the folder can be listed").path();
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
