//! Draws a [`View`] on the terminal. Decides only what fits.

use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use crate::observability::log_events::Level;
use crate::tools::log_reader::{Now, Tally, UnixMs, Waiting};
use crate::tools::top::columns::{self, StateKind};
use crate::tools::top::plain::{MIXED_LINES_HINT, pod_counts, remarks, waits_longest};
use crate::tools::top::{Colours, View, ViewInput};
use crate::tools::{output, units};

/// Minimum size for the table. A smaller terminal shows only the sums.
const MIN_SIZE: (u16, u16) = (48, 9);
/// Height of the charts and lists below the table.
const DETAIL_HEIGHT: u16 = 8;
/// Minimum height of the warnings.
const MIN_NOTICES_HEIGHT: u16 = 4;

const HELP: &[&str] = &[
    "down, Tab, j      select the next pod",
    "up, Shift-Tab, k  select the previous one",
    "Esc               all pods together",
    "s                 sort by the next column",
    "p, space          pause the display",
    "?                 this help",
    "q                 quit; the program before the pipe ends",
    "                  with the next line that it writes",
    "Ctrl-C            quit, and end that program, too",
    "",
    "Numbers are of the last interval; restarts, aborts,",
    "warn and error count since this view began.",
    "The total of a latency or an age is the worst pod's.",
    "Silent pods are left out of the total.",
];

/// Draws the view at a time of the clock by which its lines were read.
pub fn draw(frame: &mut Frame<'_>, view: &View, now: UnixMs) {
    let now = view.clock(now);
    let area = frame.area();
    let paint = TopPaint(view.colours);
    let sum = view.fleet().now(now);
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        return frame.render_widget(Paragraph::new(short_summary(view, &sum)).wrap(Wrap { trim: true }), area);
    }
    let rows = u16::try_from(view.fleet().pods.len()).unwrap_or(u16::MAX).saturating_add(2);
    let body = area.height - 2;
    let shows_detail = body >= 7 + DETAIL_HEIGHT + MIN_NOTICES_HEIGHT;
    let detail_height = if shows_detail { DETAIL_HEIGHT } else { 0 };
    let table_room = (body - detail_height).saturating_sub(MIN_NOTICES_HEIGHT).max(4);
    let [header, table, detail, notices, footer] = area.layout(&Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows.saturating_add(1).min(table_room)),
        Constraint::Length(detail_height),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]));
    draw_header(frame, header, view, &sum, paint, now);
    draw_pods(frame, table, view, &sum, paint, now);
    if shows_detail {
        draw_detail(frame, detail, view, &sum, paint, now);
    }
    draw_notices(frame, notices, view, paint);
    draw_footer(frame, footer, view, paint);
    if view.shows_help() {
        draw_help(frame, area, paint);
    }
}

fn short_summary(view: &View, sum: &Now) -> String {
    format!(
        "{}; {} events/s, lag {}, oldest {}, {} errors. Make the window larger; q quits.",
        pod_counts(sum),
        units::short(sum.events_per_s),
        units::short_count(sum.lag),
        units::millis(sum.oldest_age_ms),
        view.fleet().totals.errors
    )
}

fn draw_header(frame: &mut Frame<'_>, area: Rect, view: &View, sum: &Now, paint: TopPaint, now: UnixMs) {
    let fleet = view.fleet();
    let mut parts = vec![
        Span::styled(" steward top ", paint.title()),
        Span::raw(format!("  {}  ", pod_counts(sum))),
        Span::styled(units::time_of_day(now), paint.dim()),
        Span::raw("  "),
    ];
    if fleet.lines == 0 {
        parts.push(Span::styled("no line of steward yet", paint.kind(StateKind::Transient)));
        if fleet.other_lines > 0 {
            parts.push(Span::raw(format!(", {} other lines", units::count(fleet.other_lines))));
        }
    }
    if let ViewInput::Ended(_) = view.input {
        parts.push(Span::styled("input ended ", paint.kind(StateKind::Bad)));
    }
    if view.paused.is_some() {
        parts.push(Span::styled("paused ", paint.kind(StateKind::Transient)));
    }
    for remark in remarks(sum) {
        parts.push(Span::styled(format!("{remark}  "), paint.kind(StateKind::Bad)));
    }
    if fleet.is_mixed() {
        parts.push(Span::styled(MIXED_LINES_HINT, paint.kind(StateKind::Bad)));
    }
    frame.render_widget(Line::from(parts), area);
}

fn draw_footer(frame: &mut Frame<'_>, area: Rect, view: &View, paint: TopPaint) {
    let fleet = view.fleet();
    let keys = [("q", "quit"), ("↑↓", "select"), ("s", "sort"), ("p", "pause"), ("?", "help")];
    let mut parts: Vec<Span<'_>> = Vec::new();
    for (key, what) in keys {
        parts.push(Span::styled(format!(" {key} "), paint.reversed()));
        parts.push(Span::raw(format!(" {what}  ")));
    }
    let mut read = format!("by {}  {} lines", view.sort().name(), units::count(fleet.lines));
    for (count, what) in
        [(fleet.other_lines, "others"), (fleet.damaged_lines, "damaged"), (fleet.lines_left_out, "left out")]
    {
        if count > 0 {
            read.push_str(&format!(", {} {what}", units::count(count)));
        }
    }
    parts.push(Span::styled(read, paint.dim()));
    frame.render_widget(Line::from(parts), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect, paint: TopPaint) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or(0) as u16 + 4;
    let height = HELP.len() as u16 + 2;
    let [area] = area.layout(&Layout::horizontal([Constraint::Max(width)]).flex(Flex::Center));
    let [area] = area.layout(&Layout::vertical([Constraint::Max(height)]).flex(Flex::Center));
    let text: Vec<Line<'_>> = HELP.iter().map(|line| Line::from(format!(" {line}"))).collect();
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(Span::styled(" keys ", paint.title()));
    frame.render_widget(Paragraph::new(text).block(block), area);
}

fn draw_pods(frame: &mut Frame<'_>, area: Rect, view: &View, sum: &Now, paint: TopPaint, now: UnixMs) {
    let name_width = columns::name_width(view.pods());
    let columns = columns::that_fit(area.width, name_width);
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let titles = columns.iter().map(|column| right(column.title.to_owned()));
    let header = Row::new([Cell::from("pod"), Cell::from("state")].into_iter().chain(titles)).style(paint.heading());

    let selected_name = view.selected().map(|pod| pod.name.as_str());
    let mut selected = None;
    let mut rows = Vec::new();
    let all = columns.iter().map(|column| right((column.all)(sum, &view.fleet().totals)));
    rows.push(Row::new([Cell::from("total"), Cell::from(pod_counts(sum))].into_iter().chain(all)).style(paint.bold()));
    for (index, pod) in (1..).zip(view.pods()) {
        if Some(pod.name.as_str()) == selected_name {
            selected = Some(index);
        }
        let (kind, state) = columns::state(pod, now);
        let numbers = columns.iter().map(|column| right((column.pod)(pod, now)));
        let cells = [Cell::from(columns::name(pod)), Cell::from(state).style(paint.kind(kind))];
        rows.push(Row::new(cells.into_iter().chain(numbers)));
    }
    let widths = [Constraint::Length(name_width), Constraint::Length(columns::STATE_WIDTH)]
        .into_iter()
        .chain(columns.iter().map(|column| Constraint::Length(column.width)));
    let table = Table::new(rows, widths).header(header).row_highlight_style(paint.reversed());
    let mut state = TableState::default().with_selected(selected.or(Some(0)));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_detail(frame: &mut Frame<'_>, area: Rect, view: &View, sum: &Now, paint: TopPaint, now: UnixMs) {
    let [charts_area, reasons, keys] = area.layout(&Layout::horizontal([
        Constraint::Percentage(50),
        Constraint::Percentage(27),
        Constraint::Percentage(23),
    ]));
    let selected = view.selected();
    let name = selected.map_or_else(|| "total".to_owned(), columns::name);
    let shown = selected.map(|pod| pod.live_stats(now).cloned().unwrap_or_default());
    let oldest = match (selected, &shown) {
        (Some(pod), Some(stats)) => stats.oldest().map(|waiting| (pod.name.clone(), waiting)),
        _ => sum.oldest.clone(),
    };
    draw_charts(frame, charts_area, view, oldest, &name, paint);

    let rejected = selected.map_or(&view.fleet().totals.rejected_by_reason, |pod| &pod.totals.rejected_by_reason);
    draw_tally(frame, reasons, " rejected by reason ", rejected, "nothing rejected", paint);
    let [hottest, slowest] = match &shown {
        Some(stats) => [Tally::of_list(&stats.hottest_keys), Tally::of_list(&stats.slowest_keys)],
        None => [sum.hottest.clone(), sum.slowest.clone()],
    };
    let slow_height = if slowest.is_empty() { Constraint::Length(0) } else { Constraint::Fill(1) };
    let [hot_keys, slow_keys] = keys.layout(&Layout::vertical([Constraint::Fill(1), slow_height]));
    draw_tally(frame, hot_keys, " hottest keys ", &hottest, "unknown", paint);
    draw_tally(frame, slow_keys, " slowest keys, ms ", &slowest, "none", paint);
}

fn draw_charts(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    oldest: Option<(String, Waiting)>,
    name: &str,
    paint: TopPaint,
) {
    let selected = view.selected();
    let (rates, lags): (Vec<u64>, Vec<u64>) = match selected {
        Some(pod) => (pod.rates.iter().copied().collect(), pod.lags.iter().copied().collect()),
        None => view.history.iter().copied().unzip(),
    };
    let line_height = u16::from(oldest.is_some());
    let [upper, lower, line] =
        area.layout(&Layout::vertical([Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(line_height)]));
    if let Some((name, waiting)) = oldest {
        frame.render_widget(Line::styled(format!(" {}", waits_longest(&name, waiting)), paint.dim()), line);
    }
    for (area, values, what, color) in [(upper, rates, "events/s", Color::Green), (lower, lags, "lag", Color::Yellow)] {
        // One column for each of the newest values.
        let newest = &values[values.len().saturating_sub(usize::from(area.width))..];
        let top = newest.iter().copied().max().unwrap_or(0);
        let title = format!(" {what} of {name}, up to {} ", units::short_count(top));
        let block = Block::new().title(Span::styled(title, paint.heading()));
        let chart = Sparkline::default().data(newest).max(top.max(1)).style(paint.color(color)).block(block);
        frame.render_widget(chart, area);
    }
}

fn draw_tally(frame: &mut Frame<'_>, area: Rect, title: &str, tally: &Tally, nothing: &str, paint: TopPaint) {
    let block = Block::new().title(Span::styled(title.to_owned(), paint.heading()));
    let width = usize::from(area.width.saturating_sub(2));
    let counts = tally.largest_first();
    let mut lines: Vec<Line<'_>> = counts
        .iter()
        .take(usize::from(area.height.saturating_sub(1)))
        .map(|(name, count)| {
            let count = units::short_count(*count);
            let name: String = output::harmless(name).chars().take(width.saturating_sub(count.len() + 1)).collect();
            let gap = width.saturating_sub(name.chars().count() + count.len());
            Line::from(format!(" {name}{}{count}", " ".repeat(gap)))
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled(format!(" {nothing}"), paint.dim()));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_notices(frame: &mut Frame<'_>, area: Rect, view: &View, paint: TopPaint) {
    let selected = view.selected().map(|pod| pod.name.as_str());
    let of = selected.map_or_else(String::new, |name| format!(" of {}", output::harmless(name)));
    let title = format!(" last warnings and errors{of}, the newest first ");
    let block = Block::new().title(Span::styled(title, paint.heading()));
    let notices = view.fleet().notices.iter().rev();
    let notices = notices.filter(|notice| selected.is_none_or(|name| notice.pod == name));
    let mut lines: Vec<Line<'_>> = notices
        .take(usize::from(area.height))
        .map(|notice| {
            let is_error = notice.level == Level::ERROR;
            let kind = if is_error { StateKind::Bad } else { StateKind::Transient };
            Line::from(vec![
                Span::styled(format!(" {} ", units::time_of_day(notice.written)), paint.dim()),
                Span::styled(if is_error { "ERROR " } else { "WARN  " }, paint.kind(kind)),
                Span::raw(format!("{} ", output::harmless(&notice.pod))),
                Span::styled(output::harmless(&notice.name), paint.bold()),
                Span::raw(format!(" {}", output::harmless(&notice.detail))),
            ])
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled(" none", paint.dim()));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[derive(Clone, Copy)]
struct TopPaint(Colours);

impl TopPaint {
    fn color(self, color: Color) -> Style {
        match self.0 {
            Colours::None => Style::new(),
            Colours::Sixteen => Style::new().fg(color),
        }
    }

    fn kind(self, kind: StateKind) -> Style {
        match kind {
            StateKind::Good => self.color(Color::Green),
            StateKind::Transient => self.color(Color::Yellow),
            StateKind::Bad => self.color(Color::Red).add_modifier(Modifier::BOLD),
            StateKind::Ended => self.dim(),
        }
    }

    fn title(self) -> Style {
        self.color(Color::Cyan).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    fn heading(self) -> Style {
        self.color(Color::Cyan)
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn reversed(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}
