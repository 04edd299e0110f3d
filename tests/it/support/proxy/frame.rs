//! The parts of Kafka's frames that the proxy reads: length, API, correlation id, and the error code of some responses.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Longer frames end the connection. The clients of the tests fetch far less at a time.
const MAX_FRAME_BYTES: usize = 128 << 20;

/// The API key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api(i16);

impl Api {
    pub const PRODUCE: Api = Api(0);
    pub const FETCH: Api = Api(1);
    pub const METADATA: Api = Api(3);
    pub const OFFSET_FETCH: Api = Api(9);
    pub const FIND_COORDINATOR: Api = Api(10);
    pub const JOIN_GROUP: Api = Api(11);
    pub const DESCRIBE_GROUPS: Api = Api(15);
    pub const INIT_PRODUCER_ID: Api = Api(22);
    /// Adds partitions to the transaction, which opens it.
    pub const ADD_PARTITIONS_TO_TXN: Api = Api(24);
    /// Adds a group to the transaction.
    pub const ADD_OFFSETS_TO_TXN: Api = Api(25);
    pub const END_TXN: Api = Api(26);
    /// Commits the offsets of a transaction; goes to the group's coordinator.
    pub const TXN_OFFSET_COMMIT: Api = Api(28);
}

/// The header of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub api: Api,
    pub version: i16,
    pub correlation: i32,
}

impl Head {
    /// Returns `None` if the frame is too short.
    pub fn of(frame: &[u8]) -> Option<Head> {
        let (api, rest) = frame.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let correlation = rest.first_chunk()?;
        Some(Head {
            api: Api(i16::from_be_bytes(*api)),
            version: i16::from_be_bytes(*version),
            correlation: i32::from_be_bytes(*correlation),
        })
    }
}

/// Returns the error code of a response to `request`, for the supported APIs and versions.
pub fn error_in(answer: &[u8], request: Head) -> Option<i16> {
    Some(i16::from_be_bytes(*answer.get(error_at(answer, request)?..)?.first_chunk()?))
}

/// Replaces the error code of a response to `request`; of a produce request, that of each partition.
///
/// # Panics
/// If the API or its version is not supported, or the response is cut.
pub fn set_error(response: &mut [u8], request: Head, error: i16) {
    if request.api == Api::PRODUCE {
        return set_produce_errors(response, request, error);
    }
    let at = error_at(response, request).expect("a supported response");
    response[at..at + 2].copy_from_slice(&error.to_be_bytes());
}

/// Returns the position of the error code.
fn error_at(answer: &[u8], request: Head) -> Option<usize> {
    const CORRELATION: usize = 4;
    const TAGS: usize = 1;
    const THROTTLE: usize = 4;
    const LENGTH: usize = 4;
    const NAME_LENGTH: usize = 2;
    const PARTITION: usize = 4;
    let at = match (request.api, request.version) {
        (Api::END_TXN, 0..=2) | (Api::INIT_PRODUCER_ID, 0..=1) | (Api::ADD_OFFSETS_TO_TXN, 0..=2) => {
            CORRELATION + THROTTLE
        }
        (Api::END_TXN | Api::ADD_OFFSETS_TO_TXN, 3..) | (Api::INIT_PRODUCER_ID, 2..) => CORRELATION + TAGS + THROTTLE,
        // The error code of the first partition of the first topic.
        (Api::ADD_PARTITIONS_TO_TXN, 0..=2) | (Api::TXN_OFFSET_COMMIT, 0..=2) => {
            let name = CORRELATION + THROTTLE + LENGTH;
            let length = u16::from_be_bytes(*answer.get(name..)?.first_chunk()?);
            name + NAME_LENGTH + usize::from(length) + LENGTH + PARTITION
        }
        (Api::TXN_OFFSET_COMMIT, 3..) => {
            // Compact encoding: each length takes one byte if a name is shorter than 127 bytes.
            let name = CORRELATION + TAGS + THROTTLE + 1;
            let length = usize::from(answer.get(name)?.checked_sub(1)?);
            name + 1 + length + 1 + PARTITION
        }
        _ => return None,
    };
    Some(at)
}

/// Sets the error code of each partition in the response to a produce request, and removes its base offset.
fn set_produce_errors(response: &mut [u8], request: Head, error: i16) {
    const INDEX: usize = 4;
    const OFFSETS_AND_TIME: usize = 24;
    assert!((9..=12).contains(&request.version), "produce requests of version {}", request.version);
    // Behind the correlation id and the tags of the header. Compact encoding: a length is one more than it says.
    let mut at = 5;
    let topics = short_length(response, &mut at);
    for _ in 0..topics {
        at += short_length(response, &mut at);
        let partitions = short_length(response, &mut at);
        for _ in 0..partitions {
            at += INDEX;
            response[at..at + 2].copy_from_slice(&error.to_be_bytes());
            response[at + 2..at + 10].copy_from_slice(&(-1_i64).to_be_bytes());
            at += 2 + OFFSETS_AND_TIME;
            assert_eq!(short_length(response, &mut at), 0, "no errors of single records");
            at += short_length(response, &mut at) + 1;
        }
        at += 1;
    }
}

/// Removes the brokers from the response to a metadata request. A broker answers so while it counts as dead itself: its
/// topics are listed, but no broker is alive. Returns the number of topics in the response.
///
/// # Panics
/// If the version of the request is not supported, or the response is cut.
pub fn remove_brokers(response: &mut Vec<u8>, request: Head) -> usize {
    const THROTTLE: usize = 4;
    const ID: usize = 4;
    const PORT: usize = 4;
    assert!((9..=13).contains(&request.version), "metadata requests of version {}", request.version);
    // Behind the correlation id and the tags of the header. Compact encoding: a length is one more than it says.
    let start = 5 + THROTTLE;
    let mut at = start;
    let brokers = short_length(response, &mut at);
    for _ in 0..brokers {
        at += ID;
        at += short_length(response, &mut at) + PORT;
        // The rack, and the tags.
        at += short_length(response, &mut at) + 1;
    }
    response.splice(start..at, [1]);
    at = start + 1;
    // The cluster's id, and its controller.
    at += short_length(response, &mut at) + ID;
    short_length(response, &mut at)
}

/// Reads a length in compact encoding, which takes one byte if it is short. Nothing has the length 0.
fn short_length(bytes: &[u8], at: &mut usize) -> usize {
    let length = bytes[*at];
    assert!(length < 128, "a short list or name");
    *at += 1;
    usize::from(length.saturating_sub(1))
}

/// Reads the next frame without its length; `None` at the end of the connection.
pub fn read_frame(mut from: &TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|length| *length <= MAX_FRAME_BYTES)?;
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).ok()?;
    Some(frame)
}

/// Writes the length of a frame and the frame.
///
/// # Errors
/// The connection has ended.
pub fn write_frame(mut to: &TcpStream, frame: &[u8]) -> std::io::Result<()> {
    let length = i32::try_from(frame.len()).expect("the frame was read with a length of 32 bits");
    to.write_all(&length.to_be_bytes())?;
    to.write_all(frame)
}
