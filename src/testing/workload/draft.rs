//! The JSON object of an event under construction: members of raw JSON, in order, possibly invalid on purpose.

use crate::testing::workload::keys::Random;
use crate::testing::workload::text::{Offer, RawJson};

const CREATED: &str = r#""ServiceCreated""#;
const UPDATED: &str = r#""ServiceUpdated""#;
const DELETED: &str = r#""ServiceDeleted""#;

/// The members of an event's object, in order, as raw JSON.
#[derive(Debug, Clone)]
pub(super) struct EventDraft {
    members: Vec<(&'static str, RawJson)>,
}

impl EventDraft {
    pub(super) fn created(id: u64, random: &mut Random) -> EventDraft {
        let offer = Offer::draw(random);
        let mut members = Vec::with_capacity(8);
        members.push(("eventType", CREATED.into()));
        members.push(("id", id.to_string().into()));
        members.push(("name", offer.name(random)));
        members.push(("description", offer.description(random)));
        members.push(("tags", offer.tags(random)));
        if random.below(8) > 0 {
            members.push(("pricePerHour", offer.price(random)));
        }
        EventDraft { members }
    }

    /// Makes an update. Most updates change the price.
    pub(super) fn updated(id: u64, random: &mut Random) -> EventDraft {
        let offer = Offer::draw(random);
        let mut members = Vec::with_capacity(8);
        members.push(("eventType", UPDATED.into()));
        members.push(("id", id.to_string().into()));
        let changed = random.below(10);
        if changed == 0 {
            members.push(("name", offer.name(random)));
        }
        if changed < 3 {
            members.push(("description", offer.description(random)));
        }
        if (2..5).contains(&changed) {
            members.push(("tags", offer.tags(random)));
        }
        if changed >= 4 {
            members.push(("pricePerHour", offer.price(random)));
        }
        EventDraft { members }
    }

    pub(super) fn deleted(id: u64) -> EventDraft {
        let members = vec![("eventType", DELETED.into()), ("id", id.to_string().into())];
        EventDraft { members }
    }

    /// Makes an update without any field but the id.
    pub(super) fn nothing_updated(id: u64) -> EventDraft {
        EventDraft::deleted(id).set("eventType", UPDATED)
    }

    pub(super) fn is_creation(&self) -> bool {
        self.members.iter().any(|(_, value)| value == CREATED)
    }

    /// Replaces the value of a member, or adds the member at the end.
    pub(super) fn set(mut self, name: &'static str, value: impl Into<RawJson>) -> EventDraft {
        match self.members.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value.into(),
            None => self.members.push((name, value.into())),
        }
        self
    }

    /// Adds a member at the end, even if the name exists already.
    pub(super) fn add(mut self, name: &'static str, value: impl Into<RawJson>) -> EventDraft {
        self.members.push((name, value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> EventDraft {
        self.members.retain(|(found, _)| *found != name);
        self
    }

    /// Replaces the text of a member's name, for example by an escaped form.
    pub(super) fn rename(mut self, name: &str, raw: &'static str) -> EventDraft {
        for (found, _) in self.members.iter_mut().filter(|(found, _)| *found == name) {
            *found = raw;
        }
        self
    }

    pub(super) fn reversed(mut self) -> EventDraft {
        self.members.reverse();
        self
    }

    pub(super) fn render(&self) -> Vec<u8> {
        self.render_with("", ":")
    }

    /// Renders the object with `space` around every token, and `colon` between name and value.
    pub(super) fn render_with(&self, space: &str, colon: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut write = |text: &str| out.extend_from_slice(text.as_bytes());
        for text in [space, "{", space] {
            write(text);
        }
        for (nth, (name, value)) in self.members.iter().enumerate() {
            if nth > 0 {
                write(",");
            }
            for text in [space, "\"", name, "\"", colon, value, space] {
                write(text);
            }
        }
        write("}");
        write(space);
        out
    }
}
