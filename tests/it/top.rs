//! `steward top`: the display, the keys, and the plain table without a terminal.

use std::fs::File;
use std::process::Stdio;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use serde_json::json;
use steward::tools::log_reader::{UnixMs, read};
use steward::tools::top::{Colours, KeyAction, Sort, View, draw, plain};

use crate::cli::{Ran, Running, command, folder};
use crate::log_reader::{failed, prefixed, start, stats, warning, written};

const SIZE: (u16, u16) = (150, 40);

#[apply(offline_test)]
fn three_pods_and_their_total_are_drawn() {
    let screen = drawn(&three_pods(), at(12), SIZE);
    assert!(row(&screen, "total").contains("600"), "{}", row(&screen, "total"));
    for (pod, rate, lag) in [("steward-0", "100", "7"), ("steward-1", "200", "14"), ("steward-2", "300", "21")] {
        let row = row(&screen, pod);
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[..4], [pod, "serving", rate, lag], "{row}");
    }
    assert!(text(&screen).contains("not_found"), "what was rejected");
    let warned = row(&screen, " 00:00:11");
    assert!(warned.contains("WARN") && warned.contains("steward-1") && warned.contains("partitions=3"), "{warned}");
}

#[apply(offline_test)]
fn a_silent_pod_is_shown_and_not_in_the_total() {
    let mut view = three_pods();
    view.add(&read(prefixed("steward-2", &serving(50, 300)).as_bytes()), at(50));
    let screen = drawn(&view, at(50), SIZE);
    assert!(row(&screen, "steward-0").contains("silent for 39 s"), "{}", row(&screen, "steward-0"));
    assert!(row(&screen, "total").contains("1 live, 2 silent"), "{}", row(&screen, "total"));
    assert!(row(&screen, "total").contains(" 300 "), "{}", row(&screen, "total"));
}

#[apply(offline_test)]
fn what_is_wrong_although_every_pod_serves_is_shown() {
    let mut view = three_pods();
    let quiet = [text(&drawn(&view, at(12), SIZE)), plain(&view, at(12))];
    let unread = [
        ("behind_open_transaction_total", json!(1_500)),
        ("partitions_serving", json!(2)),
        ("partitions_total", json!(6)),
        ("fetch_age_max_ms", json!(41_000)),
    ];
    view.add(&read(prefixed("steward-0", &stats(12, &unread)).as_bytes()), at(12));
    let loud = [text(&drawn(&view, at(12), SIZE)), plain(&view, at(12))];
    for remark in ["1,500 events behind an open transaction", "2 of 6 partitions serve", "sent nothing for 41 s"] {
        assert!(!quiet.iter().any(|shown| shown.contains(remark)), "{quiet:?}");
        assert!(loud.iter().all(|shown| shown.contains(remark)), "{remark}: {loud:?}");
    }
}

#[apply(offline_test)]
fn a_selected_pod_shows_its_own_numbers_and_warnings() {
    let mut view = three_pods();
    assert!(text(&drawn(&view, at(12), SIZE)).contains("events/s of total"));
    press(&mut view, KeyCode::Down);
    let screen = text(&drawn(&view, at(12), SIZE));
    assert!(screen.contains("events/s of steward-0") && screen.contains("errors of steward-0"), "{screen}");
    assert!(!screen.contains("partitions=3"), "a warning of steward-1");
    press(&mut view, KeyCode::Tab);
    assert!(text(&drawn(&view, at(12), SIZE)).contains("partitions=3"));
}

#[apply(offline_test)]
fn keys_do_what_the_help_describes() {
    let mut view = three_pods();
    assert_eq!(press(&mut view, KeyCode::Char('?')), KeyAction::Continue);
    let help = text(&drawn(&view, at(12), SIZE));
    assert!(help.contains("quit, and end that program, too"), "{help}");
    press(&mut view, KeyCode::Esc);
    assert!(!view.shows_help());

    let selected = |view: &View| view.selected().map(|pod| pod.name.clone());
    press(&mut view, KeyCode::Up);
    assert_eq!(selected(&view).as_deref(), Some("steward-2"), "the last one comes before the first");
    press(&mut view, KeyCode::Down);
    assert_eq!(selected(&view), None);

    press(&mut view, KeyCode::Char('s'));
    assert_eq!(view.sort(), Sort::Lag);
    assert_eq!(view.pods().map(|pod| &*pod.name).collect::<Vec<_>>(), ["steward-2", "steward-1", "steward-0"]);

    assert_eq!(press(&mut view, KeyCode::Char('q')), KeyAction::Quit);
    assert_eq!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), at(12)), KeyAction::Interrupt);
    assert_eq!(press(&mut view, KeyCode::Char('c')), KeyAction::Continue);
}

#[apply(offline_test)]
fn a_paused_view_does_not_change() {
    let mut view = three_pods();
    let before = drawn(&view, at(12), SIZE);
    press(&mut view, KeyCode::Char('p'));
    view.add(&read(prefixed("steward-3", &serving(13, 1)).as_bytes()), at(13));
    let paused = drawn(&view, at(500), SIZE);
    assert_eq!(row(&before, "steward-1"), row(&paused, "steward-1"));
    assert!(text(&paused).contains("paused") && !text(&paused).contains("steward-3"));
    press(&mut view, KeyCode::Char('p'));
    assert!(text(&drawn(&view, at(13), SIZE)).contains("steward-3"), "what came meanwhile was read");
}

#[apply(offline_test)]
fn the_end_of_the_input_is_shown_and_stops_the_clock() {
    let mut view = three_pods();
    view.end_input(at(12));
    let screen = text(&drawn(&view, at(5_000), SIZE));
    assert!(screen.contains("input ended") && screen.contains("3 live") && screen.contains("00:00:12"), "{screen}");
}

#[apply(offline_test)]
fn the_hottest_keys_are_shown_if_they_are_known() {
    let mut view = View::new("-", Colours::None);
    assert!(text(&drawn(&view, at(0), SIZE)).contains("no line of steward yet"));
    let line = prefixed("a", &stats(0, &[("hottest_keys", json!("42:900,7:30"))]));
    view.add(&read(line.as_bytes()), at(0));
    let screen = drawn(&view, at(0), SIZE);
    let keys: Vec<String> =
        rows(&screen).into_iter().filter(|row| row.ends_with("900") || row.ends_with(" 30")).collect();
    assert!(keys[0].contains("42 ") && keys[1].contains("7 "), "{keys:?}");
}

#[apply(offline_test)]
fn the_slowest_keys_are_shown_if_there_are_any() {
    let mut view = three_pods();
    assert!(!text(&drawn(&view, at(12), SIZE)).contains("slowest keys"));
    for (pod, keys) in [("steward-0", "42:1900,7:300"), ("steward-1", "42:50")] {
        view.add(&read(prefixed(pod, &stats(12, &[("slowest_keys", json!(keys))])).as_bytes()), at(12));
    }
    let screen = text(&drawn(&view, at(12), SIZE));
    assert!(screen.contains("hottest keys") && screen.contains("slowest keys, ms"), "{screen}");
    let of_42 =
        |screen: &str, number: &str| screen.lines().any(|row| row.contains(" 42 ") && row.trim_end().ends_with(number));
    assert!(of_42(&screen, "1950"), "{screen}");
    assert!(plain(&view, at(12)).contains("slowest keys, in ms: 42 1,950, 7 300"), "{}", plain(&view, at(12)));
    press(&mut view, KeyCode::Down);
    assert!(of_42(&text(&drawn(&view, at(12), SIZE)), "1900"));
    // Its last numbers are outdated.
    let silent = text(&drawn(&view, at(500), SIZE));
    assert!(!silent.contains("slowest keys") && !silent.contains("1900"), "{silent}");
}

#[apply(offline_test)]
fn the_oldest_uncommitted_event_is_named_with_its_pod() {
    let mut view = three_pods();
    assert!(!text(&drawn(&view, at(12), SIZE)).contains("waits longest"), "no pod has one");
    for (pod, partition, age_ms) in [("steward-0", 0, 400), ("steward-1", 3, 14_000), ("steward-2", 5, 30)] {
        let fields = [
            ("oldest_age_ms", json!(age_ms)),
            ("oldest_partition", json!(partition)),
            ("oldest_offset", json!(918_310)),
        ];
        view.add(&read(prefixed(pod, &stats(12, &fields)).as_bytes()), at(12));
    }
    let shown = "waits longest: partition 3, offset 918310, 14 s old, in steward-1";
    assert!(text(&drawn(&view, at(12), SIZE)).contains(shown));
    assert!(plain(&view, at(12)).contains(shown));
    press(&mut view, KeyCode::Down);
    let screen = text(&drawn(&view, at(12), SIZE));
    assert!(screen.contains("waits longest: partition 0, offset 918310, 400 ms old, in steward-0"), "{screen}");

    let nothing_waits = stats(13, &[("oldest_age_ms", json!(0))]);
    view.add(&read(prefixed("steward-0", &nothing_waits).as_bytes()), at(13));
    assert!(!text(&drawn(&view, at(13), SIZE)).contains("waits longest"));
}

#[apply(offline_test)]
fn a_terminal_of_any_size_is_drawn_on() {
    let mut view = three_pods();
    for width in [1, 2, 10, 47, 48, 60, 80, 300] {
        for height in [1, 2, 8, 9, 14, 24, 90] {
            for key in ['?', '?'] {
                press(&mut view, KeyCode::Char(key));
                drawn(&view, at(12), (width, height));
            }
        }
    }
    let small = text(&drawn(&view, at(12), (80, 14)));
    assert!(small.contains("steward-2") && small.contains("WARN"), "{small}");
}

#[apply(offline_test)]
fn without_colours_no_cell_is_coloured() {
    let mut view = View::new("-", Colours::None);
    add_three_pods(&mut view);
    let is_plain =
        |screen: &Buffer| screen.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset);
    assert!(is_plain(&drawn(&view, at(60), SIZE)));
    assert!(!is_plain(&drawn(&three_pods(), at(60), SIZE)));
}

#[apply(offline_test)]
fn control_characters_are_shown_as_escapes() {
    let mut view = View::new("-", Colours::Sixteen);
    let evil = "\u{1b}]0;mine\u{7}\u{202e}";
    let line = warning(0, &format!("w{evil}"), &[("cause", json!(evil))]);
    view.add(&read(format!("{evil}pod | {line}").as_bytes()), at(0));
    let numbers = stats(
        0,
        &[
            ("phase", json!(evil)),
            ("rejected", json!(format!("{evil}:3"))),
            ("hottest_keys", json!(format!("{evil}:3"))),
        ],
    );
    view.add(&read(numbers.as_bytes()), at(0));
    for _ in 0..3 {
        let screen = drawn(&view, at(0), SIZE);
        let steers = |symbol: &str| symbol.contains(|c: char| c.is_control() || c == '\u{202e}');
        assert!(!screen.content.iter().any(|cell| steers(cell.symbol())), "{}", text(&screen));
        press(&mut view, KeyCode::Down);
    }
    assert!(text(&drawn(&view, at(0), SIZE)).contains("\\u{1b}"));
}

// ---------------------------------------------------------------------------------------------------- without screen

#[apply(offline_test)]
fn without_a_terminal_a_plain_table_is_printed_at_the_end() {
    let lines = [
        "a line of an ingress".to_owned(),
        prefixed("steward-0", &start(0, "steward-0")),
        prefixed("steward-0", &serving(10, 1_234)),
        prefixed("steward-1", &serving(10, 1)),
        prefixed("steward-1", &failed(11, 7, "stalled")),
    ];
    for flags in [&["top"][..], &["top", "--once"]] {
        let printed = top(flags, &lines.join("\n")).ok();
        let row = |name: &str| printed.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        assert!(row("steward-0").contains("serving") && row("steward-0").contains("1234"), "{printed}");
        assert!(row("steward-1").contains("exit 7 stalled"), "{printed}");
        assert!(row("process_failed").contains("ERROR steward-1 process_failed: exit_code=7"), "{printed}");
        assert!(!printed.contains('\u{1b}'), "{printed}");
    }
}

#[apply(offline_test)]
fn a_log_without_a_line_of_steward_is_reported() {
    let printed = top(&["top"], "hello\nworld\n").ok();
    assert_eq!(printed, "no line of steward was read; 2 other lines were\n");
}

#[apply(offline_test)]
fn the_clock_of_a_plain_table_is_the_time_of_the_log() {
    let lines = [prefixed("a", &serving(0, 1)), prefixed("b", &serving(100, 1))];
    let printed = top(&["top"], &lines.join("\n")).ok();
    assert!(printed.contains("silent for 100 s") && printed.contains("1 live, 1 silent"), "{printed}");
}

// ------------------------------------------------------------------------------------------------------- the helpers

/// Runs `steward` with this on standard input.
fn top(arguments: &[&str], input: &str) -> Ran {
    let folder = folder();
    let log = folder.write("log", input);
    let mut command = command(&[], arguments);
    command.stdin(Stdio::from(File::open(log).expect("written above")));
    Running::spawn(&mut command).end()
}

fn at(second: i64) -> UnixMs {
    UnixMs(second * 1_000)
}

fn serving(at_s: i64, rate: u64) -> String {
    let fields = [
        ("phase", json!("serving, consumer polling, committer Idle")),
        ("events_per_s", json!(rate)),
        ("lag_total", json!(rate / 100 * 7)),
        ("rejected", json!("not_found:5")),
    ];
    stats(at_s, &fields)
}

/// steward-0 to steward-2, which read 100, 200 and 300 events per second, and lag 7 behind for each hundred.
fn three_pods() -> View {
    let mut view = View::new("-", Colours::Sixteen);
    add_three_pods(&mut view);
    view
}

fn add_three_pods(view: &mut View) {
    for (pod, rate) in [("steward-0", 100), ("steward-1", 200), ("steward-2", 300)] {
        let ready = written(1_000, "INFO", "became_ready", &[("assigned", json!(2))]);
        for line in [start(0, pod), ready, serving(11, rate)] {
            view.add(&read(prefixed(pod, &line).as_bytes()), at(11));
        }
    }
    let lost = warning(11, "partitions_lost", &[("partitions", json!("3")), ("owned", json!(1))]);
    view.add(&read(prefixed("steward-1", &lost).as_bytes()), at(11));
    view.tick(at(12));
}

fn press(view: &mut View, code: KeyCode) -> KeyAction {
    view.press(KeyEvent::new(code, KeyModifiers::NONE), at(12))
}

fn drawn(view: &View, now: UnixMs, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it is in memory");
    terminal.draw(|frame| draw(frame, view, now)).expect("it is in memory");
    terminal.backend().buffer().clone()
}

fn rows(screen: &Buffer) -> Vec<String> {
    let rows = screen.content.chunks(usize::from(screen.area.width));
    rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()).collect()
}

fn text(screen: &Buffer) -> String {
    rows(screen).join("\n")
}

/// The first row that begins so.
#[track_caller]
fn row(screen: &Buffer, begin: &str) -> String {
    let found = rows(screen).into_iter().find(|row| row.starts_with(begin));
    found.unwrap_or_else(|| panic!("no row begins with {begin}:\n{}", text(screen)))
}
