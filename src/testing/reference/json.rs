//! Parses JSON strictly by RFC 8259, and keeps the details that the rules need.
//!
//! Names and strings record whether one of their `\u` escapes was no scalar value. Numbers keep their text. A name that
//! occurs twice is kept twice. Whether a detail matters depends on the field, so the rules decide, not the parser.

/// Levels of arrays and objects that a value may have, the outermost included.
const MAX_DEPTH: u32 = 127;

/// The value is not one JSON text. Place and cause are not kept, because the contract has one reason for all causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum ModelJson {
    Null,
    Bool,
    /// The number as it was written.
    Number(String),
    Text(Text),
    Array(Vec<ModelJson>),
    Object(Vec<(Text, ModelJson)>),
}

/// A string or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Whole(String),
    /// A `\u` escape in the string is half of a surrogate pair, so the string has no characters.
    Broken,
}

impl Text {
    /// Returns whether the unescaped characters equal `name`.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Text::Whole(characters) if characters == name)
    }
}

impl ModelJson {
    /// Returns whether the value contains, at any depth, a number beyond a 64-bit float, half of a surrogate pair, or an
    /// object with a repeated name.
    pub(super) fn is_meaningless(&self) -> bool {
        match self {
            ModelJson::Null | ModelJson::Bool => false,
            ModelJson::Number(text) => as_float(text).is_infinite(),
            ModelJson::Text(text) => *text == Text::Broken,
            ModelJson::Array(items) => items.iter().any(ModelJson::is_meaningless),
            ModelJson::Object(fields) => fields.iter().enumerate().any(|(index, (name, value))| {
                let is_repeated = fields[..index].iter().any(|(earlier, _)| earlier == name);
                *name == Text::Broken || is_repeated || value.is_meaningless()
            }),
        }
    }
}

/// Returns the nearest 64-bit float, which is infinite if the number is out of range.
pub(super) fn as_float(number: &str) -> f64 {
    number.parse().expect("each JSON number is a valid Rust float")
}

/// Parses exactly one value, which only white space may surround.
pub(super) fn read(bytes: &[u8]) -> Result<ModelJson, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
    let mut reader = JsonParser { rest: text };
    reader.skip_white_space();
    let value = reader.value(0)?;
    reader.skip_white_space();
    if reader.rest.is_empty() { Ok(value) } else { Err(Malformed) }
}

struct JsonParser<'a> {
    rest: &'a str,
}

impl JsonParser<'_> {
    /// `depth` is the number of arrays and objects that are open around the value.
    fn value(&mut self, depth: u32) -> Result<ModelJson, Malformed> {
        match self.rest.chars().next().ok_or(Malformed)? {
            '{' => Ok(ModelJson::Object(self.items("{", "}", depth + 1, |reader| reader.member(depth + 1))?)),
            '[' => Ok(ModelJson::Array(self.items("[", "]", depth + 1, |reader| reader.value(depth + 1))?)),
            '"' => Ok(ModelJson::Text(self.text()?)),
            '-' | '0'..='9' => Ok(ModelJson::Number(self.number()?)),
            'n' => self.expect("null").map(|()| ModelJson::Null),
            't' => self.expect("true").map(|()| ModelJson::Bool),
            'f' => self.expect("false").map(|()| ModelJson::Bool),
            _ => Err(Malformed),
        }
    }

    /// Parses the items of an array or object, and the brackets around them.
    fn items<T>(
        &mut self,
        open: &str,
        close: &str,
        depth: u32,
        item: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        self.expect(open)?;
        self.skip_white_space();
        let mut items = Vec::new();
        if self.take(close) {
            return Ok(items);
        }
        loop {
            self.skip_white_space();
            items.push(item(self)?);
            self.skip_white_space();
            if self.take(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    fn member(&mut self, depth: u32) -> Result<(Text, ModelJson), Malformed> {
        let name = self.text()?;
        self.skip_white_space();
        self.expect(":")?;
        self.skip_white_space();
        Ok((name, self.value(depth)?))
    }

    fn text(&mut self) -> Result<Text, Malformed> {
        self.expect("\"")?;
        let mut characters = String::new();
        let mut broken = false;
        loop {
            match self.next()? {
                '"' if broken => return Ok(Text::Broken),
                '"' => return Ok(Text::Whole(characters)),
                '\\' => match self.next()? {
                    '"' => characters.push('"'),
                    '\\' => characters.push('\\'),
                    '/' => characters.push('/'),
                    'b' => characters.push('\u{8}'),
                    'f' => characters.push('\u{c}'),
                    'n' => characters.push('\n'),
                    'r' => characters.push('\r'),
                    't' => characters.push('\t'),
                    'u' => match self.escaped()? {
                        Some(character) => characters.push(character),
                        None => broken = true,
                    },
                    _ => return Err(Malformed),
                },
                '\u{0}'..='\u{1f}' => return Err(Malformed),
                character => characters.push(character),
            }
        }
    }

    /// Parses the rest of a `\u` escape: four hexadecimal digits, and the trailing surrogate if they are a leading one.
    /// Returns `None` for half of a surrogate pair; then only the first escape has been consumed.
    fn escaped(&mut self) -> Result<Option<char>, Malformed> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) {
            return Ok(char::from_u32(first));
        }
        let before = self.rest;
        if self.take("\\u") {
            let second = self.four_digits()?;
            if (0xdc00..0xe000).contains(&second) {
                return Ok(char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
            }
        }
        self.rest = before;
        Ok(None)
    }

    fn four_digits(&mut self) -> Result<u32, Malformed> {
        let mut number = 0;
        for _ in 0..4 {
            number = number * 16 + self.next()?.to_digit(16).ok_or(Malformed)?;
        }
        Ok(number)
    }

    fn number(&mut self) -> Result<String, Malformed> {
        let all = self.rest;
        self.take("-");
        if !self.take("0") {
            self.digits()?;
        }
        if self.take(".") {
            self.digits()?;
        }
        if self.take("e") || self.take("E") {
            if !self.take("+") {
                self.take("-");
            }
            self.digits()?;
        }
        Ok(all[..all.len() - self.rest.len()].to_owned())
    }

    /// Parses at least one digit.
    fn digits(&mut self) -> Result<(), Malformed> {
        let rest = self.rest.trim_start_matches(|character: char| character.is_ascii_digit());
        if rest.len() == self.rest.len() {
            return Err(Malformed);
        }
        self.rest = rest;
        Ok(())
    }

    fn skip_white_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn next(&mut self) -> Result<char, Malformed> {
        let character = self.rest.chars().next().ok_or(Malformed)?;
        self.rest = &self.rest[character.len_utf8()..];
        Ok(character)
    }

    fn take(&mut self, expected: &str) -> bool {
        let rest = self.rest.strip_prefix(expected);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, expected: &str) -> Result<(), Malformed> {
        if self.take(expected) { Ok(()) } else { Err(Malformed) }
    }
}
