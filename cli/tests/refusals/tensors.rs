//! A safetensors file that a case takes apart and puts together wrongly.

use serde_json::{Map, Value, json};

use crate::package::Package;

/// The header and the bytes after it.
pub(crate) struct Tensors {
    pub(crate) header: Map<String, Value>,
    pub(crate) data: Vec<u8>,
}

impl Tensors {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self { header: serde_json::from_slice(&bytes[8..8 + length]).unwrap(), data: bytes[8 + length..].to_vec() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        file(&Value::Object(self.header.clone()).to_string(), &self.data)
    }

    fn range(&self, name: &str) -> std::ops::Range<usize> {
        let ends = &self.header[name]["data_offsets"];
        ends[0].as_u64().unwrap() as usize..ends[1].as_u64().unwrap() as usize
    }

    /// The bytes of an array.
    pub(crate) fn array(&mut self, name: &str) -> &mut [u8] {
        let range = self.range(name);
        &mut self.data[range]
    }

    /// Overwrites one element, given as its bytes.
    pub(crate) fn set<const N: usize>(&mut self, name: &str, index: usize, element: [u8; N]) {
        self.array(name)[index * N..][..N].copy_from_slice(&element);
    }

    pub(crate) fn i32(&mut self, name: &str, index: usize) -> i32 {
        i32::from_le_bytes(self.array(name)[index * 4..][..4].try_into().unwrap())
    }

    /// Exchanges a whole array for another one, of a length of its own.
    pub(crate) fn put(&mut self, name: &str, dtype: &str, shape: &[u64], content: &[u8]) {
        let mut parts: Vec<(String, Value, Value, Vec<u8>)> = Vec::new();
        for (key, entry) in self.header.iter().filter(|(key, _)| *key != name) {
            let content = self.data[self.range(key)].to_vec();
            parts.push((key.clone(), entry["dtype"].clone(), entry["shape"].clone(), content));
        }
        parts.push((name.to_owned(), json!(dtype), json!(shape), content.to_vec()));
        self.header.clear();
        self.data.clear();
        for (key, dtype, shape, content) in parts {
            let start = self.data.len();
            self.data.extend(content);
            self.header.insert(key, json!({"dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()]}));
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.put(name, "U8", &[0], &[]);
        self.header.remove(name);
    }
}

/// A file of any header.
pub(crate) fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

impl Package {
    /// Changes the model's arrays.
    pub(crate) fn tensors(&self, change: impl FnOnce(&mut Tensors)) {
        self.bytes(|bytes| {
            let mut tensors = Tensors::read(bytes);
            change(&mut tensors);
            *bytes = tensors.bytes();
        });
    }
}
