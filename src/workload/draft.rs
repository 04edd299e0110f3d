//! An event's object while it is put together: members of raw JSON, in order, possibly wrong on purpose.

use super::keys::Random;
use super::text::{Offer, Raw};

const CREATED: &str = r#""ServiceCreated""#;
const UPDATED: &str = r#""ServiceUpdated""#;
const DELETED: &str = r#""ServiceDeleted""#;

/// The members of an event's object, in order, as raw JSON.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    members: Vec<(&'static str, Raw)>,
}

impl Draft {
    pub(super) fn created(id: u64, random: &mut Random) -> Draft {
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
        Draft { members }
    }

    /// Most updates are of the price.
    pub(super) fn updated(id: u64, random: &mut Random) -> Draft {
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
        Draft { members }
    }

    pub(super) fn deleted(id: u64) -> Draft {
        let members = vec![("eventType", DELETED.into()), ("id", id.to_string().into())];
        Draft { members }
    }

    /// An update that names its id alone.
    pub(super) fn nothing_updated(id: u64) -> Draft {
        Draft::deleted(id).set("eventType", UPDATED)
    }

    pub(super) fn is_creation(&self) -> bool {
        self.members.iter().any(|(_, value)| value == CREATED)
    }

    /// Gives a member this value, at its place or else at the end.
    pub(super) fn set(mut self, name: &'static str, value: impl Into<Raw>) -> Draft {
        match self.members.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value.into(),
            None => self.members.push((name, value.into())),
        }
        self
    }

    /// Adds a member at the end, whether or not there is one of the name.
    pub(super) fn add(mut self, name: &'static str, value: impl Into<Raw>) -> Draft {
        self.members.push((name, value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Draft {
        self.members.retain(|(found, _)| *found != name);
        self
    }

    /// Writes a member's name in another way, escapes included.
    pub(super) fn rename(mut self, name: &str, raw: &'static str) -> Draft {
        for (found, _) in self.members.iter_mut().filter(|(found, _)| *found == name) {
            *found = raw;
        }
        self
    }

    pub(super) fn reversed(mut self) -> Draft {
        self.members.reverse();
        self
    }

    pub(super) fn render(&self) -> Vec<u8> {
        self.render_with("", ":")
    }

    /// `space` goes around everything, `colon` stands between name and value.
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
