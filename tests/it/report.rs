//! `steward report`: the page shows the content of the logs, is self-contained, and runs nothing that a line contains.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use steward::tools::log_reader::Recording;
use steward::tools::report::page;

use crate::cli::{Folder, folder, steward};
use crate::log_reader::{failed, prefixed, recorded, start, stats, stopped, warning};
use crate::support::process::wait_for_log;
use crate::support::wait::PATIENCE;
use crate::support::world::{World, created, malformed, priced};

#[apply(offline_test)]
fn the_page_shows_what_went_wrong_first_and_what_to_do() {
    let page = page_of(&story());
    let (_, findings) = page.split_once("What went wrong first").expect("it is at the top");
    let places =
        ["partitions_lost", "ended with exit code 7", "ended without a final line"].map(|text| findings.find(text));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    assert!(page.contains("look for a pause of the process (CPU limit, node)"), "the action of the catalogue");
    assert!(page.contains("</b>exit 7 stalled") && page.contains("</b>exit 0"), "exit codes");
    assert!(page.contains("1970-01-01 00:00:00.000Z to 1970-01-01 00:02:10.000Z"), "the time that it is about");
    for reason in ["not_found", "malformed_json"] {
        assert!(page.contains(&format!("<code>{reason}</code>")), "{reason}");
    }
}

#[apply(offline_test)]
fn each_pod_has_a_curve_in_each_chart_and_a_lane() {
    let page = page_of(&story());
    let charts: Vec<&str> = page.split("<figure").skip(1).collect();
    assert_eq!(charts.len(), 11);
    for chart in &charts[..10] {
        let chart = chart.split("</figure>").next().expect("split gives at least one");
        assert_eq!(chart.matches("<path").count(), 2, "{chart}");
        assert!(chart.contains("<title>a: at most") && chart.contains("<title>b: at most"), "{chart}");
    }
    assert_eq!(charts[10].matches("<path").count(), 2, "one for each reason");
    assert_eq!(page.matches("class=\"lane\"").count(), 2);
    assert!(page.contains("class=\"failed\"") && page.contains("class=\"silent\""));
}

#[apply(offline_test)]
fn a_curve_has_a_gap_if_there_are_no_values() {
    let whole = page_of(&[stats(0, &[]), stats(10, &[]), stats(20, &[])]);
    let broken = page_of(&[stats(0, &[]), stats(10, &[]), stats(200, &[]), stats(210, &[])]);
    let first_curve = |page: &str| {
        let (_, rest) = page.split_once("<path").expect("there is a curve");
        rest.split('>').next().expect("split gives at least one").matches('M').count()
    };
    assert_eq!((first_curve(&whole), first_curve(&broken)), (1, 2));
}

#[apply(offline_test)]
fn markup_in_a_line_stays_text() {
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)></style></title>&lt;";
    let numbers = [("phase", json!(evil)), ("rejected", json!(format!("{evil}:7"))), ("serving", json!(evil))];
    let lines = [
        format!("pod=\"{}\" {}", evil.replace('"', ""), start(0, evil)),
        format!("pod=\"{}\" {}", evil.replace('"', ""), stats(1, &numbers)),
        format!("pod=\"{}\" {}", evil.replace('"', ""), warning(2, evil, &[(evil, json!(evil))])),
        format!("pod=\"{}\" {}", evil.replace('"', ""), failed(3, 1, evil)),
    ];
    let recording = recorded(&lines);
    assert_eq!(recording.fleet.lines, 4, "they are lines of steward");
    let page = page(&recording, evil);
    for tag in ["<script", "<img", "onerror=alert(1)>", "</style></title>"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown");
    assert!(page.contains("&amp;lt;"), "and not twice read");
    assert!(page.contains(
        r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">"#
    ));
}

#[apply(offline_test)]
fn the_page_is_self_contained() {
    let page = page_of(&story());
    for outside in ["http:", "https:", "//", " src=", " href=", "@import", "<script", "<link", "<iframe"] {
        assert!(!page.contains(outside), "{outside}");
    }
    let urls: Vec<&str> = page.split("url(").skip(1).collect();
    assert!(!urls.is_empty() && urls.iter().all(|url| url.starts_with("#silence)")), "only a pattern of its own");
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("color-scheme: light dark"));
}

#[apply(offline_test)]
fn the_size_of_the_page_is_bounded() {
    let mut recording = Recording::default();
    for n in 0..4_000 {
        let pod = format!("pod-{}", n % 40);
        let lines = [
            stats(n * 10, &[("rejected", json!(format!("reason-{n}:1")))]),
            warning(n * 10, &format!("event-{n}"), &[("cause", json!("x".repeat(900)))]),
        ];
        lines.iter().for_each(|line| recording.add(&steward::tools::log_reader::read(prefixed(&pod, line).as_bytes())));
    }
    recording.end();
    let page = page(&recording, "-");
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("Of 40 pods, the 24 that read most are drawn"));
}

// ------------------------------------------------------------------------------------------------------- the command

#[apply(offline_test)]
fn files_are_read_plain_and_compressed() {
    let folder = folder();
    let [plain, packed] = ["steward-0.log", "steward-1.log.gz"].map(|name| folder.path(name).display().to_string());
    std::fs::write(&plain, lines(&story_of("steward-0"))).expect("a folder of our own");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines(&story_of("steward-1")).as_bytes()).expect("it is in memory");
    std::fs::write(&packed, gzip.finish().expect("it is in memory")).expect("a folder of our own");

    let page = report(&folder, &[&plain, &packed]);

    assert_eq!(page.matches("class=\"lane\"").count(), 2);
    for pod in ["steward-0", "steward-1"] {
        assert!(
            page.contains(&format!("<title>{pod}: at most")),
            "lines without a name are called as their file: {pod}"
        );
    }
}

#[apply(offline_test)]
fn a_page_is_written_even_without_a_line_of_steward() {
    let folder = folder();
    let log = folder.write("other.log", "hello\n{\"level\":\"info\"}\n");
    let page = report(&folder, &[&log]);
    assert!(page.contains("No line of steward was read") && page.contains("2 others"), "{page}");
}

#[apply(offline_test)]
fn a_file_that_cannot_be_read_is_reported() {
    let ran = steward(["report", "/nowhere/steward.log"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("cannot read /nowhere/steward.log"), "{}", ran.stderr);
    let folder = folder();
    let log = folder.write("log", "");
    let ran = steward(["report", &log, "--output", "/nowhere/report.html"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("cannot write /nowhere/report.html"), "{}", ran.stderr);
}

#[apply(broker_test)]
fn a_page_is_written_from_the_log_of_a_real_process() {
    let mut world = World::new(2);
    world.produce(&[created(1).to(0), priced(1, 5).to(0), malformed(2).to(1), created(3).to(1)]);
    let mut process = world.setup().set("log.stats_interval_ms", 1_000).start();
    wait_for_log(&process, "`stats` counts all events", PATIENCE, |lines| {
        let is_complete = |line: &&serde_json::Value| {
            line["event"] == "stats" && line["applied_total"] == 3 && line["rejected_total"] == 1
        };
        lines.iter().find(is_complete).map(|_| ())
    });
    process.stop();
    let folder = folder();
    let log = folder.write("pod.log", &process.output());

    let page = report(&folder, &[&log]);

    for text in [
        "<b>3</b>applied",
        "<b>1</b>rejected",
        "<b>1</b>exit 0",
        "<code>malformed_json</code>",
        "was assigned partitions 0-1",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert!(page.contains("0 damaged"), "each line was understood");
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// Two pods: one loses its partitions and fails, one vanishes and comes back.
fn story() -> Vec<String> {
    let of = |pod: &'static str, lines: Vec<String>| lines.into_iter().map(move |line| prefixed(pod, &line));
    let lost = warning(20, "partitions_lost", &[("partitions", json!("0-3"))]);
    let a = vec![start(0, "a"), numbers(10, "not_found:3"), lost, failed(30, 7, "stalled")];
    let b = vec![start(0, "b"), numbers(60, "malformed_json:2"), start(120, "b"), numbers(125, ""), stopped(130, 0)];
    of("a", a).chain(of("b", b)).collect()
}

fn story_of(instance: &str) -> Vec<String> {
    vec![start(0, instance), numbers(10, ""), numbers(20, "not_found:1"), stopped(30, 0)]
}

fn numbers(at_s: i64, rejected: &str) -> String {
    stats(
        at_s,
        &[("rejected", json!(rejected)), ("events_per_s", json!(12.5)), ("memory_rss_bytes", json!(30_000_000))],
    )
}

fn page_of(lines: &[String]) -> String {
    page(&recorded(lines), "a test")
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Runs the command on these files, and reads its page.
fn report(folder: &Folder, files: &[&str]) -> String {
    let output = folder.path("report.html");
    let output_name = output.display().to_string();
    steward(["report"].iter().chain(files).chain(&["-o", output_name.as_str()])).ok();
    read(&output)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
