//! Owns the cut of a stream of bytes into lines, in bounded memory.

/// Longest line that is looked at. Lines of steward are shorter than 16,000 bytes; the rest is for prefixes.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A piece of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole line, without its end.
    Line(&'a [u8]),
    /// A line that is longer than [`MAX_LINE_BYTES`]; nothing of it was kept.
    TooLong,
}

/// Cuts a stream into lines, wherever the chunks that it comes in begin and end.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// What came of the line that has not ended yet.
    held: Vec<u8>,
    /// That line is too long: its end is awaited, and nothing of it is kept.
    is_skipping: bool,
}

impl LineSplitter {
    /// Takes a chunk, and gives each line that ends in it to `each`.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        let mut pieces = chunk.split(|byte| *byte == b'\n');
        // `split` gives one piece more than there are line ends: the last one has not ended.
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

    /// The stream has ended: gives what is left, if anything is.
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
