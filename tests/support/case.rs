//! One call and what must come of it: what the tables of bad input are made of.

use crate::grpc::{Call, Reply};

/// A call with the answer that it must get.
#[derive(Clone, Debug)]
pub struct Case {
    /// The number in `reliability.md` section 4, then words.
    pub name: String,
    /// What is sent.
    pub call: Call,
    /// What must come back.
    pub expected: Expected,
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Not gRPC: this HTTP status.
    Http(u16),
    /// This HTTP status, and `grpc-status` all the same.
    HttpWith(u16, i32),
    /// One of these codes, and all of these words in the message.
    Codes(Vec<i32>, Vec<String>),
}

impl Case {
    /// Answered with `code` and all of `words`.
    pub fn code(name: impl Into<String>, call: Call, code: i32, words: &[&str]) -> Self {
        Self::codes(name, call, &[code], words)
    }

    /// Answered with one of `codes` and all of `words`.
    pub fn codes(name: impl Into<String>, call: Call, codes: &[i32], words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Self { name: name.into(), call, expected: Expected::Codes(codes.to_vec(), words) }
    }

    /// Answered with an HTTP status only.
    pub fn http(name: impl Into<String>, call: Call, status: u16) -> Self {
        Self { name: name.into(), call, expected: Expected::Http(status) }
    }

    /// What is wrong with `reply`, if anything is.
    pub fn complaint(&self, reply: &Reply) -> Option<String> {
        let fine = match &self.expected {
            Expected::Http(status) => reply.http == *status && reply.status.is_none(),
            Expected::HttpWith(status, code) => reply.http == *status && reply.status == Some(*code),
            Expected::Codes(codes, words) => {
                let named = words.iter().all(|word| reply.message.contains(word));
                reply.http == 200 && reply.status.is_some_and(|code| codes.contains(&code)) && named
            }
        };
        let expected = match &self.expected {
            _ if leaks(&reply.message) => "no path, address, place in the source or control character".into(),
            _ if fine => return None,
            Expected::Http(status) => format!("HTTP {status}"),
            Expected::HttpWith(status, code) => format!("HTTP {status} with grpc-status {code}"),
            Expected::Codes(codes, words) => format!("{codes:?} with {words:?}"),
        };
        let mut message = reply.message.clone();
        message.truncate(message.floor_char_boundary(300));
        let Reply { http, status, reset, .. } = reply;
        let name = &self.name;
        Some(format!("{name}: expected {expected}, got HTTP {http}, code {status:?}, reset {reset:?}, {message:?}"))
    }
}

/// What tells a stranger about the machine (P49), or moves the cursor of whoever reads the log (P46).
pub fn leaks(message: &str) -> bool {
    let secrets = ["/home/", "/tmp/", "/src/", ".rs", "0x", "panicked", "127.0.0.1"];
    let steers = |c: char| c.is_control() || c == '\u{202e}';
    message.contains(steers) || secrets.iter().any(|secret| message.contains(secret))
}
