//! UBJSON as XGBoost writes it, of what JSON can hold.

use serde_json::{Map, Value, json};

/// Arrays that XGBoost writes with a type: of the numbers of a tree.
const TYPED: [(&str, u8); 12] = [
    ("base_weights", b'd'),
    ("loss_changes", b'd'),
    ("split_conditions", b'd'),
    ("sum_hessian", b'd'),
    ("left_children", b'l'),
    ("right_children", b'l'),
    ("parents", b'l'),
    ("split_indices", b'l'),
    ("categories", b'l'),
    ("categories_nodes", b'l'),
    ("default_left", b'U'),
    ("split_type", b'U'),
];

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put(value, &mut out);
    out
}

fn length(length: usize, out: &mut Vec<u8>) {
    out.push(b'L');
    out.extend((length as i64).to_be_bytes());
}

fn put(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(b'Z'),
        Value::Bool(truth) => out.push(if *truth { b'T' } else { b'F' }),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => {
                out.push(b'L');
                out.extend(whole.to_be_bytes());
            }
            None => {
                out.push(b'D');
                out.extend(number.as_f64().unwrap().to_be_bytes());
            }
        },
        Value::String(text) => {
            out.push(b'S');
            length(text.len(), out);
            out.extend(text.as_bytes());
        }
        Value::Array(items) => {
            out.extend(b"[#");
            length(items.len(), out);
            for item in items {
                put(item, out);
            }
        }
        Value::Object(members) => {
            out.push(b'{');
            for (key, value) in members {
                length(key.len(), out);
                out.extend(key.as_bytes());
                let kind = TYPED.iter().find(|(name, _)| name == key).map(|(_, kind)| *kind);
                match (kind, value) {
                    (Some(kind), Value::Array(items)) if items.iter().all(|item| fits(kind, item)) => {
                        typed(kind, items, out);
                    }
                    _ => put(value, out),
                }
            }
            out.push(b'}');
        }
    }
}

/// Whether a number can be an element: a case may have put in what does not.
fn fits(kind: u8, item: &Value) -> bool {
    match kind {
        b'd' => item.is_number() || item.as_str().is_some_and(|text| text.parse::<f32>().is_ok()),
        b'l' => item.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        _ => item.as_u64().is_some_and(|number| number < 256),
    }
}

fn typed(kind: u8, items: &[Value], out: &mut Vec<u8>) {
    out.extend([b'[', b'$', kind, b'#']);
    length(items.len(), out);
    for item in items {
        match kind {
            // "nan" and "inf" stand for what JSON has no number for.
            b'd' => {
                let number =
                    item.as_f64().map_or_else(|| item.as_str().unwrap().parse().unwrap(), |number| number as f32);
                out.extend(number.to_be_bytes());
            }
            b'l' => out.extend((item.as_i64().unwrap() as i32).to_be_bytes()),
            _ => out.push(item.as_u64().unwrap() as u8),
        }
    }
}

pub(crate) fn decode(bytes: &[u8]) -> Value {
    let mut reader = Reader { bytes, at: 0 };
    let marker = reader.byte();
    let value = reader.value(marker);
    assert_eq!(reader.at, bytes.len(), "all bytes are read");
    value
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at - 1]
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        self.at += N;
        self.bytes[self.at - N..self.at].try_into().unwrap()
    }

    fn length(&mut self) -> usize {
        let marker = self.byte();
        self.value(marker).as_u64().unwrap() as usize
    }

    fn text(&mut self) -> String {
        let length = self.length();
        self.at += length;
        String::from_utf8(self.bytes[self.at - length..self.at].to_vec()).unwrap()
    }

    fn value(&mut self, marker: u8) -> Value {
        match marker {
            b'Z' => Value::Null,
            b'T' => json!(true),
            b'F' => json!(false),
            b'i' => json!(i8::from_be_bytes(self.take())),
            b'U' => json!(self.byte()),
            b'I' => json!(i16::from_be_bytes(self.take())),
            b'l' => json!(i32::from_be_bytes(self.take())),
            b'L' => json!(i64::from_be_bytes(self.take())),
            b'd' => json!(f32::from_be_bytes(self.take())),
            b'D' => json!(f64::from_be_bytes(self.take())),
            b'S' => json!(self.text()),
            b'[' => self.array(),
            b'{' => {
                let mut members = Map::new();
                while self.bytes[self.at] != b'}' {
                    let key = self.text();
                    let marker = self.byte();
                    members.insert(key, self.value(marker));
                }
                self.at += 1;
                Value::Object(members)
            }
            other => panic!("marker {other}"),
        }
    }

    fn array(&mut self) -> Value {
        let mut kind = None;
        if self.bytes[self.at] == b'$' {
            self.at += 1;
            kind = Some(self.byte());
        }
        assert_eq!(self.byte(), b'#', "XGBoost's arrays have a length");
        let length = self.length();
        let items = (0..length).map(|_| {
            let marker = kind.unwrap_or_else(|| self.byte());
            self.value(marker)
        });
        Value::Array(items.collect())
    }
}
