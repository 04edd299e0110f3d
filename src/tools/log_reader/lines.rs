//! Owns the splitting of a stream of bytes into lines, in bounded memory.

/// Maximum length of a line. Lines of steward are shorter than 16,000 bytes; the rest is for prefixes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line, without its end.
    Line(&'a [u8]),
    /// A line that is longer than [`MAX_LINE_BYTES`]; its content is dropped.
    TooLong,
}

/// Splits a stream into lines, independent of its chunks.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The start of the line that has not ended yet.
    held: Vec<u8>,
    /// That line is too long, and its content is dropped up to its end.
    is_skipping: bool,
}

impl LineSplitter {
    /// Adds a chunk, and passes each line that ends in it to `each`.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        let mut pieces = chunk.split(|byte| *byte == b'\n');
        // `split` returns one piece more than there are line ends: the last one has not ended.
        let unended = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.held.is_empty() && !self.is_skipping && piece.len() <= MAX_LINE_BYTES {
                each(Piece::Line(without_return(piece)));
            } else {
                self.hold(piece);
                self.end(&mut each);
            }
        }
        self.hold(unended);
    }

    /// Ends the stream, and passes the last line to `each`, if it has no end.
    pub fn finish(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if self.is_skipping || !self.held.is_empty() {
            self.end(&mut each);
        }
    }

    fn hold(&mut self, piece: &[u8]) {
        if self.is_skipping || self.held.len() + piece.len() > MAX_LINE_BYTES {
            self.is_skipping = true;
            self.held.clear();
        } else {
            self.held.extend_from_slice(piece);
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        each(if self.is_skipping { Piece::TooLong } else { Piece::Line(without_return(&self.held)) });
        self.is_skipping = false;
        self.held.clear();
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
