//! Builds a `jsonb` array of objects from the bytes of their values. PostgreSQL's own functions
//! would build each object, take it apart again, and copy its parts into the array.
//!
//! The format is that of `jsonb.h`, byte for byte what PostgreSQL would write. It has been the same
//! since 9.4, and must stay the same as long as databases are upgraded in place. No value here
//! includes the header of a datum, which holds its length.

/// The first word of a container: these flags, and the number of its elements.
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;
const IS_ARRAY: u32 = 0x4000_0000;
/// The word of an element: its type, and its length or, with `ENDS`, its end.
const LENGTH: u32 = 0x0FFF_FFFF;
const TYPE: u32 = 0x7000_0000;
const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
const ENDS: u32 = 0x8000_0000;
/// Every 32nd element's word holds its end, the others hold their length.
const STRIDE: usize = 32;

const WORD: usize = size_of::<u32>();

/// A value of an object.
pub enum Value<'a> {
    Null,
    Text(&'a [u8]),
    /// A `jsonb` value.
    Json(&'a [u8]),
}

/// An array of objects that all have the same keys. Objects are appended at the end.
pub struct Array {
    /// The beginning of each object: its first word, the words of its keys, empty words for its
    /// values, and its keys.
    head: Vec<u8>,
    keys: usize,
    /// The words of the array's elements.
    entries: Vec<u32>,
    data: Vec<u8>,
    object: Object,
}

/// The object that is being appended. `begin`, `words` and `keys` are positions in the data: where
/// the object begins (including the padding before it), where its words are and where its keys are.
/// `elements` counts its keys and values so far. `fits` is false once something was too large.
#[derive(Default)]
struct Object {
    begin: usize,
    words: usize,
    keys: usize,
    elements: usize,
    fits: bool,
}

impl Array {
    /// An empty array. The keys must be in the order of `jsonb`: by length, then by bytes.
    pub fn of(keys: &[&str]) -> Self {
        let mut head = (IS_OBJECT | keys.len() as u32).to_ne_bytes().to_vec();
        let mut end = 0;
        for (index, key) in keys.iter().enumerate() {
            end += key.len();
            head.extend_from_slice(&entry(STRING, index, key.len(), end).to_ne_bytes());
        }
        head.resize(head.len() + keys.len() * WORD, 0);
        keys.iter().for_each(|key| head.extend_from_slice(key.as_bytes()));
        let (entries, data, object) = (Vec::new(), Vec::new(), Object::default());
        Self { head, keys: keys.len(), entries, data, object }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.data.clear();
    }

    /// Begins an object. A value for each key must follow, in the order of the keys.
    pub fn begin(&mut self) {
        // The padding before an aligned element counts as part of the element.
        let begin = self.data.len();
        let words = begin.next_multiple_of(WORD) + WORD;
        let fits = append(&mut self.data, &self.head, true);
        let keys = words + 2 * self.keys * WORD;
        self.object = Object { begin, words, keys, elements: self.keys, fits };
    }

    pub fn add(&mut self, value: Value<'_>) {
        let Self { data, object, .. } = self;
        let from = data.len();
        let (kind, fits) = match value {
            Value::Null => (NULL, true),
            Value::Text(text) => (STRING, append(data, text, false)),
            Value::Json(json) => append_json(data, json),
        };
        let word =
            entry(kind, object.elements, data.len() - from, data.len() - object.keys.min(from));
        let at = object.words + object.elements * WORD;
        object.elements += 1;
        object.fits &= fits;
        if object.fits
            && let Some(place) = data.get_mut(at..at + WORD)
        {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }

    /// Ends the object. Returns false if the array would be too large, or if memory is short: then the
    /// array is without it.
    pub fn end(&mut self) -> bool {
        let (begin, end) = (self.object.begin, self.data.len());
        let fits = self.object.fits && self.entries.try_reserve(1).is_ok();
        if fits {
            self.entries.push(entry(CONTAINER, self.entries.len(), end - begin, end));
        } else {
            self.data.truncate(begin);
        }
        fits
    }

    /// Takes the last object out again.
    pub fn undo(&mut self) {
        if self.entries.pop().is_some() {
            self.data.truncate(self.object.begin);
        }
    }

    /// The last object, which is a `jsonb` itself, if it begins at a multiple of four bytes: without others
    /// before it.
    pub fn last(&self) -> &[u8] {
        &self.data[self.object.begin..]
    }

    /// Whether the array can be part of a message. The message is a `jsonb`, too, with a few more keys;
    /// and it is read as a text, in which a character can take six bytes and which has a limit of 1 GB.
    pub fn is_deliverable(&self) -> bool {
        const SURE: usize = 160 << 20;
        const MOST: usize = LENGTH as usize - (1 << 20);
        const TEXT: usize = 1_000_000_000;
        let in_text = |byte: &u8| match byte {
            0..0x20 => 6,
            b'"' | b'\\' => 2,
            _ => 1,
        };
        let size = self.size();
        size <= SURE || size <= MOST && self.data.iter().map(in_text).sum::<usize>() <= TEXT
    }

    /// The size of the array in bytes.
    pub fn size(&self) -> usize {
        WORD + self.entries.len() * WORD + self.data.len()
    }

    /// Appends the array to `bytes`.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&(IS_ARRAY | self.entries.len() as u32).to_ne_bytes());
        bytes.extend(self.entries.iter().flat_map(|entry| entry.to_ne_bytes()));
        bytes.extend_from_slice(&self.data);
    }
}

/// Appends a `jsonb`. Returns its type, and whether it fits.
fn append_json(data: &mut Vec<u8>, json: &[u8]) -> (u32, bool) {
    let word = |at: usize| {
        let bytes = json.get(at..at + WORD).and_then(|bytes| bytes.try_into().ok());
        u32::from_ne_bytes(bytes.unwrap_or_default())
    };
    if word(0) & IS_SCALAR == 0 {
        return (CONTAINER, append(data, json, true));
    }
    // A scalar is kept as an array of one element.
    let kind = word(WORD) & TYPE;
    (kind, append(data, json.get(2 * WORD..).unwrap_or_default(), kind == NUMERIC))
}

fn append(data: &mut Vec<u8>, bytes: &[u8], at_word: bool) -> bool {
    let begin = data.len();
    let start = if at_word { begin.next_multiple_of(WORD) } else { begin };
    let end = start + bytes.len();
    if end > LENGTH as usize || data.try_reserve(end - begin).is_err() {
        return false;
    }
    data.resize(start, 0);
    data.extend_from_slice(bytes);
    true
}

/// The word of an element.
fn entry(kind: u32, index: usize, length: usize, end: usize) -> u32 {
    match index % STRIDE {
        0 => kind | ENDS | end as u32,
        _ => kind | length as u32,
    }
}

/// Adds a key to an object. The new value is a container (an array or an object), whose bytes are
/// copied. Returns `None` if `object` is no object, `container` is no container, the key exists, or
/// the result would be too large.
pub fn with_key(object: &[u8], key: &str, container: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| {
        let bytes = object.get(at * WORD..(at + 1) * WORD)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let count = (word(0)? & LENGTH) as usize;
    let first = container.get(..WORD).and_then(|bytes| bytes.try_into().ok());
    if word(0)? & IS_OBJECT == 0 || u32::from_ne_bytes(first?) & IS_SCALAR != 0 {
        return None;
    }
    // Split the object into its keys, followed by its values.
    let base = (1 + 2 * count) * WORD;
    let mut elements = Vec::with_capacity(2 * count);
    let mut begin = 0;
    for index in 0..2 * count {
        let entry = word(1 + index)?;
        let length = (entry & LENGTH) as usize;
        let end = if entry & ENDS == 0 { begin + length } else { length };
        // The padding before an aligned element counts as part of the element.
        let kind = entry & TYPE;
        let is_at_word = kind == NUMERIC || kind == CONTAINER;
        let from = if is_at_word { begin.next_multiple_of(WORD) } else { begin };
        elements.push((kind, object.get(base + from..base + end)?));
        begin = end;
    }
    let (keys, values) = elements.split_at(count);
    let mut pairs: Vec<_> = keys.iter().map(|(_, key)| *key).zip(values.iter().copied()).collect();
    let place =
        pairs.partition_point(|(other, _)| (other.len(), *other) < (key.len(), key.as_bytes()));
    if pairs.get(place).is_some_and(|(other, _)| *other == key.as_bytes()) {
        return None;
    }
    pairs.insert(place, (key.as_bytes(), (CONTAINER, container)));

    let base = (1 + 2 * pairs.len()) * WORD;
    let mut made = Vec::new();
    made.try_reserve(base + object.len() + container.len() + key.len() + 2 * WORD).ok()?;
    made.extend_from_slice(&(IS_OBJECT | pairs.len() as u32).to_ne_bytes());
    made.resize(base, 0);
    let keys = pairs.iter().map(|(key, _)| (STRING, *key));
    for (index, (kind, bytes)) in keys.chain(pairs.iter().map(|(_, value)| *value)).enumerate() {
        let from = made.len();
        if !append(&mut made, bytes, kind == NUMERIC || kind == CONTAINER) {
            return None;
        }
        let entry = entry(kind, index, made.len() - from, made.len() - base);
        let at = (1 + index) * WORD;
        made.get_mut(at..at + WORD)?.copy_from_slice(&entry.to_ne_bytes());
    }
    Some(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(array: &mut Array, text: &[u8]) -> bool {
        array.begin();
        array.add(Value::Text(text));
        array.end()
    }

    #[test]
    fn an_object_can_be_undone() {
        let bytes = |array: &Array| {
            let mut bytes = Vec::new();
            array.write(&mut bytes);
            bytes
        };
        let (mut once, mut undone) = (Array::of(&["id"]), Array::of(&["id"]));
        assert!(object(&mut once, b"one") && object(&mut undone, b"one"));
        assert!(object(&mut undone, b"two"));
        undone.undo();
        assert_eq!(bytes(&once), bytes(&undone));
        assert_eq!((undone.len(), once.size()), (1, undone.size()));
        assert!(object(&mut once, b"three") && object(&mut undone, b"three"));
        assert_eq!(bytes(&once), bytes(&undone));
    }

    #[test]
    fn a_member_that_is_too_large_leaves_the_array_as_it_was() {
        let mut array = Array::of(&["id"]);
        assert!(object(&mut array, b"one"));
        let size = array.size();
        assert!(!object(&mut array, &vec![b'x'; 300 << 20]));
        assert_eq!((array.len(), array.size()), (1, size));
        assert!(array.is_deliverable());
        assert!(object(&mut array, &vec![b'x'; 200 << 20]));
        assert!(array.is_deliverable());
        // As a text it would have 1.2 GB.
        let mut array = Array::of(&["id"]);
        assert!(object(&mut array, &vec![1; 200 << 20]));
        assert!(!array.is_deliverable());
    }
}
