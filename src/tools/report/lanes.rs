//! The timeline: a lane for each pod, coloured by activity, with a mark for each event.

use maud::{Markup, html};

use crate::tools::log_reader::{Activity, Timeline, TimelineEvent, TimelineEventKind, UnixMs};
use crate::tools::report::chart::{TimeSpan, round, tick_text};
use crate::tools::{output, units};

const WIDTH: f64 = 1_300.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 6.0;
const LANE: f64 = 40.0;
const BAR: f64 = 14.0;
const BOTTOM: f64 = 22.0;
const MAX_NAME_CHARS: usize = 30;

/// The activities of the legend.
const ACTIVITIES: [Activity; 7] = [
    Activity::Starting,
    Activity::Recovering,
    Activity::Serving,
    Activity::Stopping,
    Activity::Ended,
    Activity::Failed,
    Activity::Silent,
];

fn class_of(activity: Activity) -> (&'static str, &'static str) {
    match activity {
        Activity::Starting => ("starting", "starts or joins"),
        Activity::Recovering => ("recovering", "recovers, or is not ready"),
        Activity::Serving => ("serving", "serves"),
        Activity::Stopping => ("stopping", "stops"),
        Activity::Ended => ("ended", "has ended"),
        Activity::Failed => ("failed", "has failed"),
        Activity::Silent => ("silent", "silent, without a final line"),
    }
}

fn class_of_event(kind: TimelineEventKind) -> (&'static str, &'static str) {
    match kind {
        TimelineEventKind::Life => ("life", "starts and ends"),
        TimelineEventKind::Rebalance => ("rebalance", "partitions assigned or revoked"),
        TimelineEventKind::Recovery => ("recovery", "a partition has recovered"),
        TimelineEventKind::Ingest => ("intake", "reading pauses or resumes"),
        TimelineEventKind::Warning => ("warning", "warning"),
        TimelineEventKind::Error => ("error", "error"),
    }
}

pub(super) fn lanes(span: TimeSpan, lanes: &[(&str, &Timeline)]) -> Markup {
    let height = TOP + BOTTOM + LANE * lanes.len() as f64;
    let x = |moment: UnixMs| round(LEFT + span.at(moment) * (WIDTH - LEFT - RIGHT));
    html! {
        div class="legend" {
            @for activity in ACTIVITIES {
                @let (class, text) = class_of(activity);
                span { i class=(class) {} (text) }
            }
        }
        div class="legend" {
            @for kind in TimelineEventKind::ALL {
                @let (class, text) = class_of_event(kind);
                span class=(class) { "●" } span class="faint" { (text) }
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
                    text class="tick" x=(x(tick)) y=(height - 6.0) text-anchor="middle" { (tick_text(span, tick)) }
                }
                @for (row, (name, timeline)) in (0..).map(f64::from).zip(lanes) {
                    @let y = TOP + row * LANE;
                    text class="lane" x="0" y=(y + LANE - BAR) { (output::end_of_name(name, MAX_NAME_CHARS)) }
                    @for (from, until, activity) in bars(timeline) {
                        @let until = until.map_or(WIDTH - RIGHT, x);
                        @let (class, text) = class_of(activity);
                        rect class=(class) x=(x(from)) width=(round((until - x(from)).max(1.0))) y=(y + LANE - BAR - 10.0) height=(BAR) rx="2" {
                            title { (name) " " (text) " from " (units::moment(from)) }
                        }
                    }
                    // The most severe is drawn last, on top of the others.
                    @for event in by_severity(timeline) {
                        circle class={ "mark " (class_of_event(event.kind).0) } cx=(x(event.at)) cy=(y + 8.0) r="4.5" {
                            title { (units::moment(event.at)) " " (event.text) }
                        }
                    }
                }
            }
        }
    }
}

fn bars(timeline: &Timeline) -> Vec<(UnixMs, Option<UnixMs>, Activity)> {
    let ends = timeline.activities.iter().skip(1).map(|(at, _)| Some(*at)).chain([None]);
    let bars = timeline.activities.iter().zip(ends).map(|((from, activity), until)| (*from, until, *activity));
    bars.filter(|(_, _, activity)| *activity != Activity::Ended).collect()
}

fn by_severity(timeline: &Timeline) -> Vec<&TimelineEvent> {
    let mut events: Vec<&TimelineEvent> = timeline.events.iter().collect();
    events.sort_by_key(|event| event.kind);
    events
}
