//! Records to produce, records that were read, and where they are.

use super::*;

/// A record to be produced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// If it is `None`, the key determines the partition.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; the current time if it is `None`.
    pub timestamp_ms: Option<i64>,
}

/// Makes a record with this key and value.
pub fn record(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Outgoing {
    Outgoing { key: Some(key.as_ref().to_vec()), value: Some(value.as_ref().to_vec()), ..Outgoing::default() }
}

/// Makes a record with this key and a null value.
pub fn tombstone(key: impl AsRef<[u8]>) -> Outgoing {
    Outgoing { key: Some(key.as_ref().to_vec()), ..Outgoing::default() }
}

impl Outgoing {
    /// Sets the partition.
    pub fn to(mut self, partition: i32) -> Outgoing {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, in milliseconds since 1970.
    ///
    /// # Panics
    /// For 0, which librdkafka replaces by the current time.
    pub fn at(mut self, timestamp_ms: i64) -> Outgoing {
        assert_ne!(timestamp_ms, 0, "librdkafka replaces a timestamp of 0 by the present time");
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Outgoing {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// Adds a header with a null value.
    pub fn null_header(mut self, name: &str) -> Outgoing {
        self.headers.push((name.to_owned(), None));
        self
    }

    pub fn without_key(mut self) -> Outgoing {
        self.key = None;
        self
    }
}

/// A record in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970; `None` if the record has no timestamp.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    /// Returns the key as text; empty if it is null.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }

    /// Returns the value as text; `None` if it is null.
    pub fn value_text(&self) -> Option<String> {
        self.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().expect("a value that is not null");
        serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(value)))
    }

    /// Returns the last header of this name as text; `None` if there is none.
    pub fn last_header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name)?;
        Some(String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
    }

    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the same record, to be produced again.
    pub fn outgoing(&self) -> Outgoing {
        Outgoing {
            partition: Some(self.partition),
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp_ms: self.timestamp_ms,
        }
    }

    pub(super) fn from(message: &BorrowedMessage<'_>) -> Stored {
        let headers = message.headers().map(|headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Stored {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// The partition and offset of a produced record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// The range of the offsets of a partition, which does not depend on transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The log start offset.
    pub low: i64,
    /// The high watermark.
    pub high: i64,
}

/// Which records a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    Committed,
    Uncommitted,
}

impl Isolation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        }
    }
}
