//! The text of a model, line by line: sections of `key=value`, and what is said when one does not fit.

use std::collections::HashMap;
use std::str::FromStr;

use crate::TextError;
use crate::text::shown;

/// `key=value` lines up to an empty one.
pub(super) struct Section<'p, 'a> {
    pub(super) place: &'p str,
    values: HashMap<&'a str, &'a str>,
}

impl<'p, 'a> Section<'p, 'a> {
    pub(super) fn read(place: &'p str, lines: &mut Lines<'a>, known: &[&str]) -> Result<Self, TextError> {
        let mut values = HashMap::new();
        for (line, ended) in lines {
            if line.is_empty() {
                return Ok(Self { place, values });
            }
            if !ended {
                break;
            }
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            if !known.contains(&key) {
                return Err(TextError::new(place, "key", "a key of LightGBM's format", shown(key)));
            }
            if values.insert(key, value).is_some() {
                return Err(TextError::new(place, key, "it once", "it twice"));
            }
        }
        Err(TextError::new(place, "section", "an empty line after it", "the end of the file"))
    }

    pub(super) fn find(&self, key: &str) -> Option<&'a str> {
        self.values.get(key).copied()
    }

    pub(super) fn get(&self, key: &str) -> Result<&'a str, TextError> {
        self.find(key).ok_or_else(|| TextError::new(self.place, key, "a value", "nothing"))
    }

    pub(super) fn number<T: FromStr>(&self, key: &str) -> Result<T, TextError> {
        let text = self.get(key)?;
        text.parse().map_err(|_| TextError::new(self.place, key, "a number in range", shown(text)))
    }

    pub(super) fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>, TextError> {
        let number = |word: &str| {
            word.parse()
                .map_err(|_| TextError::new(self.place, key, "numbers in range, one space between", shown(word)))
        };
        self.get(key)?.split(' ').map(number).collect()
    }

    pub(super) fn list_of<T: FromStr>(&self, key: &str, count: usize) -> Result<Vec<T>, TextError> {
        let list = self.list(key)?;
        if list.len() == count {
            return Ok(list);
        }
        Err(TextError::new(self.place, key, format!("{count} numbers"), list.len()))
    }
}

/// The lines of a text without their ends, each with whether it was ended.
pub(super) struct Lines<'a> {
    pub(super) rest: &'a str,
}

impl Lines<'_> {
    /// Skips empty lines and gives how much text is left.
    pub(super) fn skip_empty(&mut self) -> usize {
        self.rest = self.rest.trim_start_matches('\n');
        self.rest.len()
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a str, bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest, ended) = match self.rest.split_once('\n') {
            Some((line, rest)) => (line, rest, true),
            None => (self.rest, "", false),
        };
        self.rest = rest;
        Some((line, ended))
    }
}
