//! The comparison of the topics with those of the start.

use steward::engine::topic_watch::{
    LookDoubt, LookRequests, LookVerdict, Sighting, TopicDifference, TopicIdentities, TopicIdentity, TopicWatch,
};
use steward::record::{Topic, TopicId};

use LookVerdict::{NoAnswer, Suspected, Unchanged};

const PARTITIONS: i32 = 6;

#[apply(offline_test)]
fn topics_that_stay_the_same_are_unchanged_whatever_is_not_answered_in_between() {
    let mut watch = watch();
    assert_eq!(watch.looked([same(1), same(2), same(3)]), Unchanged);
    assert_eq!(watch.looked([Sighting::Unknown; 3]), NoAnswer);
    assert_eq!(watch.looked([same(1), Sighting::Unknown, same(3)]), NoAnswer);
    assert_eq!(watch.looked([same(1), same(2), same(3)]), Unchanged);
}

#[apply(offline_test)]
fn a_difference_counts_when_two_looks_find_it() {
    let recreated = Sighting::Exists { id: id(9), partitions: PARTITIONS };
    let fewer = Sighting::Exists { id: id(1), partitions: 5 };
    let table = [
        (Sighting::Missing, TopicDifference::Deleted),
        (recreated, TopicDifference::Recreated { expected: id(1).expect("an id"), found: id(9).expect("an id") }),
        (fewer, TopicDifference::Partitions { expected: 6, found: 5 }),
    ];
    for (sighting, difference) in table {
        let mut watch = watch();
        assert_eq!(watch.looked([sighting, same(2), same(3)]), Suspected);
        // No answer neither confirms nor clears it.
        assert_eq!(watch.looked([Sighting::Unknown; 3]), NoAnswer);
        let LookVerdict::Changed(change) = watch.looked([sighting, same(2), same(3)]) else { panic!("{sighting:?}") };
        assert_eq!((change.role, &*change.topic, change.difference), (Topic::Input, "the-input", difference));
    }
}

#[apply(offline_test)]
fn what_one_look_finds_and_the_next_does_not_is_no_change() {
    let mut watch = watch();
    for _ in 0..3 {
        assert_eq!(watch.looked([Sighting::Missing, same(2), same(3)]), Suspected);
        assert_eq!(watch.looked([same(1), same(2), same(3)]), Unchanged);
    }
}

#[apply(offline_test)]
fn more_partitions_than_at_the_start_count_at_once() {
    for (index, role) in Topic::ALL.into_iter().enumerate() {
        let mut sightings = [same(1), same(2), same(3)];
        sightings[index] = Sighting::Exists { id: None, partitions: PARTITIONS + 1 };
        let LookVerdict::Changed(change) = watch().looked(sightings) else { panic!("{role:?}") };
        assert_eq!((change.role, change.difference), (role, TopicDifference::Partitions { expected: 6, found: 7 }));
    }
}

#[apply(offline_test)]
fn without_an_id_on_either_side_ids_are_not_compared() {
    let mut watch = watch();
    let without_ids = Sighting::Exists { id: None, partitions: PARTITIONS };
    assert_eq!(watch.looked([without_ids; 3]), Unchanged);
}

#[apply(offline_test)]
fn the_error_names_the_topic_and_what_to_do() {
    let table = [
        (
            0,
            Sighting::Missing,
            "input topic the-input does not exist any more; ",
            "give steward new state and DLQ topics",
        ),
        (1, Sighting::Missing, "state topic the-state does not exist any more; ", "builds the state again"),
        (2, Sighting::Missing, "DLQ topic the-dlq does not exist any more; ", "restart steward"),
        (
            1,
            Sighting::Exists { id: id(9), partitions: 6 },
            "state topic the-state was deleted and created again",
            "new group",
        ),
        (
            0,
            Sighting::Exists { id: id(1), partitions: 8 },
            "had 6 partitions at the start, and has 8",
            "replay the input",
        ),
    ];
    for (index, sighting, cause, remedy) in table {
        let mut sightings = [same(1), same(2), same(3)];
        sightings[index] = sighting;
        let mut watch = watch();
        let verdicts = [watch.looked(sightings), watch.looked(sightings)];
        let Some(LookVerdict::Changed(change)) = verdicts.into_iter().find(|of| matches!(of, LookVerdict::Changed(_)))
        else {
            panic!("{cause}")
        };
        let error = change.to_string();
        assert!(error.contains(cause) && error.contains(remedy), "{error}");
    }
}

#[apply(offline_test)]
fn a_look_answers_only_what_was_requested_before_it_began() {
    let mut requests = LookRequests::default();
    let first = requests.request();
    let look = requests.newest();
    let second = requests.request();
    requests.found_nothing(look);
    assert!(requests.is_answered(first) && !requests.is_answered(second));
    // One look answers several requests, and an older one that ends later takes nothing back.
    let third = requests.request();
    requests.found_nothing(requests.newest());
    requests.found_nothing(look);
    assert!(requests.is_answered(second) && requests.is_answered(third));
}

#[apply(offline_test)]
fn a_doubt_lasts_until_a_look_finds_nothing() {
    let mut requests = LookRequests::default();
    requests.doubted(LookDoubt::NoAnswer);
    let request = requests.request();
    requests.answer_all();
    assert!(requests.is_answered(request));
    assert_eq!(requests.doubt(), LookDoubt::NoAnswer);
    requests.found_nothing(requests.newest());
    assert_eq!(requests.doubt(), LookDoubt::None);
}

fn watch() -> TopicWatch {
    let topic = |name: &str, number| TopicIdentity { name: name.to_owned(), id: id(number), partitions: PARTITIONS };
    TopicWatch::new(TopicIdentities {
        input: topic("the-input", 1),
        state: topic("the-state", 2),
        dlq: topic("the-dlq", 3),
    })
}

fn same(number: u8) -> Sighting {
    Sighting::Exists { id: id(number), partitions: PARTITIONS }
}

fn id(number: u8) -> Option<TopicId> {
    TopicId::from_bytes([number; 16])
}
