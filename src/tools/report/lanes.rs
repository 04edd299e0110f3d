//! The timeline: a lane for each pod, coloured by what it was doing, with marks for what happened.

use maud::{Markup, html};

use crate::tools::log_reader::{Doing, Timeline, TimelineEvent, TimelineEventKind, UnixMs};
use crate::tools::report::chart::{TimeSpan, tick_words};
use crate::tools::units;

const WIDTH: f64 = 1_300.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 6.0;
const LANE: f64 = 40.0;
const BAR: f64 = 14.0;
const BOTTOM: f64 = 22.0;
/// Widest name of a pod, in characters.
const MAX_NAME_CHARS: usize = 30;

/// What the colours of the bars say.
const DOINGS: [Doing; 7] =
    [Doing::Starting, Doing::Recovering, Doing::Serving, Doing::Stopping, Doing::Ended, Doing::Failed, Doing::Silent];

fn class_of(doing: Doing) -> (&'static str, &'static str) {
    match doing {
        Doing::Starting => ("starting", "starts or joins"),
        Doing::Recovering => ("recovering", "recovers, or is not ready"),
        Doing::Serving => ("serving", "serves"),
        Doing::Stopping => ("stopping", "stops"),
        Doing::Ended => ("ended", "has ended"),
        Doing::Failed => ("failed", "has failed"),
        Doing::Silent => ("silent", "silent, without a last word"),
    }
}

fn class_of_mark(kind: TimelineEventKind) -> (&'static str, &'static str) {
    match kind {
        TimelineEventKind::Life => ("life", "starts and ends"),
        TimelineEventKind::Rebalance => ("rebalance", "partitions come and go"),
        TimelineEventKind::Recovery => ("recovery", "a partition has recovered"),
        TimelineEventKind::Intake => ("intake", "reading pauses or goes on"),
        TimelineEventKind::Warning => ("warning", "warning"),
        TimelineEventKind::Error => ("error", "error"),
    }
}

/// Draws the lanes, a name each.
pub(super) fn lanes(span: TimeSpan, lanes: &[(&str, &Timeline)]) -> Markup {
    let height = TOP + BOTTOM + LANE * lanes.len() as f64;
    let x = |moment: UnixMs| round(LEFT + span.at(moment) * (WIDTH - LEFT - RIGHT));
    html! {
        div class="legend" {
            @for doing in DOINGS {
                @let (class, words) = class_of(doing);
                span { i class=(class) {} (words) }
            }
        }
        div class="legend" {
            @for kind in TimelineEventKind::ALL {
                @let (class, words) = class_of_mark(kind);
                span class=(class) { "●" } span class="faint" { (words) }
            }
        }
        div class="scroll" {
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label="timeline" {
                defs {
                    pattern id="silence" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        line class="silence" x1="0" y1="0" x2="0" y2="6" {}
                    }
                }
                @for tick in span.ticks() {
                    line class="grid" x1=(x(tick)) x2=(x(tick)) y1=(TOP) y2=(height - BOTTOM) {}
                    text class="tick" x=(x(tick)) y=(height - 6.0) text-anchor="middle" { (tick_words(span, tick)) }
                }
                @for (row, (name, timeline)) in (0..).map(f64::from).zip(lanes) {
                    @let y = TOP + row * LANE;
                    text class="lane" x="0" y=(y + LANE - BAR) { (shortened(name)) }
                    @for (from, until, doing) in bars(timeline) {
                        @let until = until.map_or(WIDTH - RIGHT, x);
                        @let (class, words) = class_of(doing);
                        rect class=(class) x=(x(from)) width=(round((until - x(from)).max(1.0))) y=(y + LANE - BAR - 10.0) height=(BAR) rx="2" {
                            title { (name) " " (words) " from " (units::moment(from)) }
                        }
                    }
                    // The worst is drawn last, so that it lies on top.
                    @for mark in by_weight(timeline) {
                        circle class={ "mark " (class_of_mark(mark.kind).0) } cx=(x(mark.at)) cy=(y + 8.0) r="4.5" {
                            title { (units::moment(mark.at)) " " (mark.text) }
                        }
                    }
                }
            }
        }
    }
}

fn bars(timeline: &Timeline) -> Vec<(UnixMs, Option<UnixMs>, Doing)> {
    let ends = timeline.turns.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
    let bars = timeline.turns.iter().zip(ends).map(|((from, doing), until)| (*from, until, *doing));
    bars.filter(|(_, _, doing)| *doing != Doing::Ended).collect()
}

fn by_weight(timeline: &Timeline) -> Vec<&TimelineEvent> {
    let mut marks: Vec<&TimelineEvent> = timeline.marks.iter().collect();
    marks.sort_by_key(|mark| mark.kind);
    marks
}

fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= MAX_NAME_CHARS {
        return name.to_owned();
    }
    let end: String = name.chars().skip(length - MAX_NAME_CHARS + 1).collect();
    format!("…{end}")
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
