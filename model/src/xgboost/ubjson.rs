//! UBJSON as XGBoost writes it: big-endian, every length an `L` (64 bits), arrays with a type and a count.
//!
//! Nothing is allocated by a length that the bytes only claim: a typed array must fit what is left of them, anything else
//! is read element by element. Nesting is limited.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::text::shown;

/// Objects and arrays inside of one another, at most. XGBoost's files have 8.
const MAX_DEPTH: usize = 64;

/// Reads one value that takes all bytes; else where in the bytes, and what is wrong there.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, (usize, Error)> {
    let mut reader = Reader { rest: bytes, depth: 0 };
    let value = T::deserialize(&mut reader).and_then(|value| match reader.rest {
        [] => Ok(value),
        rest => Err(Error::custom(format_args!("{} bytes after the end", rest.len()))),
    });
    value.map_err(|error| (bytes.len() - reader.rest.len(), error))
}

struct Reader<'de> {
    rest: &'de [u8],
    depth: usize,
}

impl<'de> Reader<'de> {
    fn peek(&self) -> Result<u8, Error> {
        self.rest.first().copied().ok_or_else(end)
    }

    fn bytes(&mut self, count: usize) -> Result<&'de [u8], Error> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(end)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(end)?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    /// Takes the byte if it is the next.
    fn next_is(&mut self, byte: u8) -> Result<bool, Error> {
        let is = self.peek()? == byte;
        if is {
            self.rest = &self.rest[1..];
        }
        Ok(is)
    }

    fn length(&mut self) -> Result<usize, Error> {
        if !self.next_is(b'L')? {
            return Err(Error::custom("expected a length of type L"));
        }
        let length = i64::from_be_bytes(self.array()?);
        usize::try_from(length).map_err(|_| Error::custom(format_args!("expected a length from 0, got {length}")))
    }

    fn text(&mut self) -> Result<&'de str, Error> {
        let length = self.length()?;
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map_err(|_| Error::custom("expected UTF-8"))
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth == MAX_DEPTH {
            return Err(Error::custom(format_args!("expected at most {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    /// A number of the type.
    fn number<V: Visitor<'de>>(&mut self, kind: u8, visitor: V) -> Result<V::Value, Error> {
        match kind {
            b'i' => visitor.visit_i64(i8::from_be_bytes(self.array()?).into()),
            b'U' | b'C' => visitor.visit_i64(self.byte()?.into()),
            b'I' => visitor.visit_i64(i16::from_be_bytes(self.array()?).into()),
            b'l' => visitor.visit_i64(i32::from_be_bytes(self.array()?).into()),
            b'L' => visitor.visit_i64(i64::from_be_bytes(self.array()?)),
            b'd' => visitor.visit_f32(f32::from_be_bytes(self.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(self.array()?)),
            other => Err(Error::custom(format_args!("unknown type {}", shown(&char::from(other).to_string())))),
        }
    }

    fn sequence<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let kind = if self.next_is(b'$')? { Some(self.byte()?) } else { None };
        if kind.is_none() && self.peek()? != b'#' {
            let mut items = Items { reader: self, kind: None, left: None };
            let value = visitor.visit_seq(&mut items)?;
            return items.finish(value);
        }
        if !self.next_is(b'#')? {
            return Err(Error::custom("expected # after the type of an array"));
        }
        let length = self.length()?;
        if let Some(kind) = kind {
            let size = match kind {
                b'i' | b'U' => 1,
                b'I' => 2,
                b'l' | b'd' => 4,
                b'L' | b'D' => 8,
                _ => return Err(Error::custom("expected an array of numbers")),
            };
            if length > self.rest.len() / size {
                return Err(Error::custom(format_args!("an array of {length} numbers reaches past the end")));
            }
        }
        let mut items = Items { reader: self, kind, left: Some(length) };
        let value = visitor.visit_seq(&mut items)?;
        items.finish(value)
    }
}

fn end() -> Error {
    Error::custom("the end of the file")
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.byte()? {
            b'{' => self.nested(|reader| {
                let mut entries = Entries { reader };
                let value = visitor.visit_map(&mut entries)?;
                entries.finish(value)
            }),
            b'[' => self.nested(|reader| reader.sequence(visitor)),
            b'S' => visitor.visit_borrowed_str(self.text()?),
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            kind => self.number(kind, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.peek()? == b'Z' { self.deserialize_any(visitor) } else { visitor.visit_some(self) }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What is left of an array.
struct Items<'r, 'de> {
    reader: &'r mut Reader<'de>,
    /// Where all have one type.
    kind: Option<u8>,
    /// Where there is a count.
    left: Option<usize>,
}

impl Items<'_, '_> {
    fn finish<T>(&mut self, value: T) -> Result<T, Error> {
        let ended = match self.left {
            Some(left) => left == 0,
            None => self.reader.next_is(b']')?,
        };
        if ended { Ok(value) } else { Err(Error::custom("an array with more values than expected")) }
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        match &mut self.left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None if self.reader.peek()? == b']' => return Ok(None),
            None => {}
        }
        match self.kind {
            Some(kind) => seed.deserialize(Typed { reader: self.reader, kind }),
            None => seed.deserialize(&mut *self.reader),
        }
        .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.kind.and(self.left)
    }
}

/// A number whose type the array says.
struct Typed<'r, 'de> {
    reader: &'r mut Reader<'de>,
    kind: u8,
}

impl<'de> Deserializer<'de> for Typed<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.reader.number(self.kind, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What is left of an object.
struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
}

impl Entries<'_, '_> {
    fn finish<T>(&mut self, value: T) -> Result<T, Error> {
        if self.reader.next_is(b'}')? {
            Ok(value)
        } else {
            Err(Error::custom("an object with more keys than expected"))
        }
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.reader.peek()? == b'}' {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
    }
}
