//! Sets quotas of clients, by Kafka's protocol: the client library has no request for it.

use std::net::TcpStream;

use super::kafka::Kafka;
use super::proxy::{read_frame, write_frame};

const ALTER_CLIENT_QUOTAS: i16 = 49;

/// Limits the bytes that the producers with this `client.id` write in a second; `None` removes the limit.
pub fn limit_producers(kafka: &Kafka, client_id: &str, bytes_a_second: Option<f64>) {
    let mut request = Vec::new();
    // Version 0, a correlation id, and this client's name.
    request.extend([ALTER_CLIENT_QUOTAS, 0].into_iter().flat_map(i16::to_be_bytes));
    request.extend(7_i32.to_be_bytes());
    text(&mut request, "test");
    // One entry, one entity.
    request.extend([1_i32, 1].into_iter().flat_map(i32::to_be_bytes));
    text(&mut request, "client-id");
    text(&mut request, client_id);
    // One operation: the key, the value, whether it is removed.
    request.extend(1_i32.to_be_bytes());
    text(&mut request, "producer_byte_rate");
    request.extend(bytes_a_second.unwrap_or(0.0).to_be_bytes());
    request.push(u8::from(bytes_a_second.is_none()));
    // Not only validated.
    request.push(0);
    let stream = TcpStream::connect(kafka.address()).expect("the broker is there");
    write_frame(&stream, &request).expect("the broker reads it");
    let response = read_frame(&stream).expect("the broker responds");
    // Behind the correlation id, the throttle time and the number of entries.
    let error = response.get(12..14).map(|bytes| i16::from_be_bytes([bytes[0], bytes[1]]));
    assert_eq!(error, Some(0), "the broker refuses the quota: {response:?}");
}

fn text(request: &mut Vec<u8>, text: &str) {
    request.extend(i16::try_from(text.len()).expect("a short text").to_be_bytes());
    request.extend(text.as_bytes());
}
