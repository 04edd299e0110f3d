//! Owns the parsing of lists such as `0:12,1:0`, and bounded counts by name.

use std::collections::BTreeMap;

const MAX_NAMES: usize = 128;
/// Maximum length of a name, in characters; keys and reasons are shorter.
const MAX_NAME_CHARS: usize = 80;

/// Parses a list that [`counts`](crate::observability::log_events::counts) wrote. Entries that are no pair, such as the
/// `...` of a shortened list, are left out.
pub fn parse_counts(list: &str) -> impl Iterator<Item = (&str, u64)> {
    list.split(',').filter_map(|pair| {
        let (name, count) = pair.rsplit_once(':')?;
        let count = count.parse().ok()?;
        (!name.is_empty()).then_some((name, count))
    })
}

/// Counts by name, for a bounded number of names; further names count as `others`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<String, u64>,
}

impl Tally {
    /// The name that counts all further names.
    pub const OTHERS: &'static str = "others";

    /// Counts a list that [`parse_counts`] reads.
    pub fn of_list(list: &str) -> Tally {
        let mut tally = Tally::default();
        parse_counts(list).for_each(|(name, count)| tally.add(name, count));
        tally
    }

    pub fn add(&mut self, name: &str, count: u64) {
        let name = name.char_indices().nth(MAX_NAME_CHARS).map_or(name, |(end, _)| &name[..end]);
        let has_room = self.counts.contains_key(name) || self.counts.len() < MAX_NAMES;
        let name = if has_room { name } else { Tally::OTHERS };
        match self.counts.get_mut(name) {
            Some(counted) => *counted = counted.saturating_add(count),
            None => {
                self.counts.insert(name.to_owned(), count);
            }
        }
    }

    pub fn merge(&mut self, other: &Tally) {
        other.counts.iter().for_each(|(name, count)| self.add(name, *count));
    }

    /// Returns the counts by name, the largest first.
    pub fn largest_first(&self) -> Vec<(&str, u64)> {
        let mut counts: Vec<(&str, u64)> = self.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        counts.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
        counts
    }

    pub fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
