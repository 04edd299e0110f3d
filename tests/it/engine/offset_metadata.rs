//! The metadata of a committed position, as text and back.

use steward::engine::offset_metadata::{NewestState, OffsetMetadata, PositionFacts};
use steward::engine::topic_watch::TopicIds;
use steward::record::{Offset, TopicId};

fn id(byte: u8) -> Option<TopicId> {
    TopicId::from_bytes([byte; 16])
}

#[apply(offline_test)]
fn what_is_written_is_read_again() {
    let newest = |offset, is_tombstone| Some(NewestState { offset: Offset(offset), is_tombstone });
    let both = TopicIds { input: id(1), state: id(2) };
    for (instance, topics, newest_state, text) in [
        ("pod-0#19a", TopicIds::default(), None, "pod-0#19a/7"),
        ("pod-0#19a", TopicIds::default(), newest(41, false), "pod-0#19a/7 state=41"),
        (
            "pod-0#19a",
            both,
            newest(41, true),
            "pod-0#19a/7 tombstone=41 input=AQEBAQEBAQEBAQEBAQEBAQ state-topic=AgICAgICAgICAgICAgICAg",
        ),
        (
            "a pod#b/c#19a",
            TopicIds { input: None, state: id(2) },
            None,
            "a pod#b/c#19a/7 state-topic=AgICAgICAgICAgICAgICAg",
        ),
    ] {
        let written = OffsetMetadata::new(instance, topics).of(7, newest_state);
        assert_eq!(written, text);
        assert_eq!(PositionFacts::parse(&written), Some(PositionFacts { newest_state, topics }), "{text}");
    }
}

#[apply(offline_test)]
fn metadata_of_other_programs_says_nothing() {
    for text in ["", "state=41", "another consumer", "pod/7", "#19a/7", "pod#xyz/7", "pod#19a/x", "pod#19a/7 and more"]
    {
        assert_eq!(PositionFacts::parse(text), None, "{text:?}");
    }
}

#[apply(offline_test)]
fn the_zero_id_is_no_id() {
    assert_eq!((id(0), TopicId::parse("AAAAAAAAAAAAAAAAAAAAAA")), (None, None));
    assert_eq!(TopicId::parse("AQEBAQEBAQEBAQEBAQEBAQ"), id(1));
    for no_id in ["", "AQEBAQEBAQEBAQEBAQEBAQ==", "AQEB", "not an id, but as long"] {
        assert_eq!(TopicId::parse(no_id), None, "{no_id}");
    }
}
