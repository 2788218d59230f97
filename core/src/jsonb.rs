//! Builds a `jsonb` array of objects from the bytes of their values. PostgreSQL's own functions
//! would build each object, take it apart again, and copy its parts into the array.
//!
//! The format is that of `jsonb.h`, byte for byte what PostgreSQL would write. It has been the same
//! since 9.4, and must stay the same as long as databases are upgraded in place. Values do not
//! include the header of a datum, which holds its length, where nothing else is said.

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
/// The size of the header of a datum.
const HEADER: usize = WORD;
/// Where the words of an array's elements begin, after the header of a datum.
const ENTRIES: usize = HEADER + WORD;

/// A value of an object.
pub enum Value<'a> {
    Null,
    Text(&'a [u8]),
    /// A `jsonb` value.
    Json(&'a [u8]),
}

/// An array of objects that all have the same keys. Objects are appended at the end, where the finished array
/// has them: a message of many megabytes is not copied once more.
pub struct Array {
    /// The beginning of each object: its first word, the words of its keys, empty words for its
    /// values, and its keys.
    head: Vec<u8>,
    keys: usize,
    /// Room for the header of a datum, the first word, room for the words of as many elements as there may
    /// be, and the elements.
    data: Vec<u8>,
    room: usize,
    /// The number of objects.
    count: usize,
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
    /// An empty array with room for so many objects. The keys must be in the order of `jsonb`: by length, then
    /// by bytes.
    pub fn of(keys: &[&str], room: usize) -> Self {
        let mut head = (IS_OBJECT | keys.len() as u32).to_ne_bytes().to_vec();
        let mut end = 0;
        for (index, key) in keys.iter().enumerate() {
            end += key.len();
            head.extend_from_slice(&entry(STRING, index, key.len(), end).to_ne_bytes());
        }
        head.resize(head.len() + keys.len() * WORD, 0);
        keys.iter().for_each(|key| head.extend_from_slice(key.as_bytes()));
        let data = vec![0; ENTRIES + room * WORD];
        Self { head, keys: keys.len(), data, room, count: 0, object: Object::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Where the elements begin.
    fn first(&self) -> usize {
        ENTRIES + self.room * WORD
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
        let fits = self.object.fits && self.count < self.room;
        if fits {
            let word = entry(CONTAINER, self.count, end - begin, end - self.first());
            let at = ENTRIES + self.count * WORD;
            self.data[at..at + WORD].copy_from_slice(&word.to_ne_bytes());
            self.count += 1;
        } else {
            self.data.truncate(begin);
        }
        fits
    }

    /// Takes the last object out again.
    pub fn undo(&mut self) {
        if self.count > 0 {
            self.count -= 1;
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
        let elements = self.data[self.first()..].iter();
        size <= SURE || size <= MOST && elements.map(in_text).sum::<usize>() <= TEXT
    }

    /// The size of the array in bytes.
    pub fn size(&self) -> usize {
        WORD + self.count * WORD + self.data.len() - self.first()
    }

    /// Passes on the bytes of the array as a datum, whose first four bytes are yet to be its header. The array
    /// is empty afterwards.
    pub fn take(&mut self, look: impl FnOnce(&mut [u8])) {
        let first = (IS_ARRAY | self.count as u32).to_ne_bytes();
        self.data[HEADER..ENTRIES].copy_from_slice(&first);
        let (size, elements) = (HEADER + self.size(), self.first());
        if self.count < self.room {
            self.data.copy_within(elements.., ENTRIES + self.count * WORD);
        }
        look(&mut self.data[..size]);
        self.data.truncate(elements);
        self.count = 0;
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

/// An object with one more key, as it is to be written.
pub struct WithKey<'a> {
    /// The first word, and those of the elements.
    words: Vec<u8>,
    /// The elements, each with the padding before it.
    elements: Vec<(usize, &'a [u8])>,
    size: usize,
}

impl<'a> WithKey<'a> {
    /// Adds a key to an object. The new value is a container (an array or an object). `None`: `object` is
    /// no object, `container` is no container, the key exists, or the result would be too large.
    pub fn new(object: &'a [u8], key: &'a str, container: &'a [u8]) -> Option<Self> {
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
            let from = if is_aligned(kind) { begin.next_multiple_of(WORD) } else { begin };
            elements.push((kind, object.get(base + from..base + end)?));
            begin = end;
        }
        let (keys, values) = elements.split_at(count);
        let mut pairs: Vec<_> =
            keys.iter().map(|(_, key)| *key).zip(values.iter().copied()).collect();
        let place =
            pairs.partition_point(|(other, _)| (other.len(), *other) < (key.len(), key.as_bytes()));
        if pairs.get(place).is_some_and(|(other, _)| *other == key.as_bytes()) {
            return None;
        }
        pairs.insert(place, (key.as_bytes(), (CONTAINER, container)));

        let mut words = (IS_OBJECT | pairs.len() as u32).to_ne_bytes().to_vec();
        let (mut elements, mut end) = (Vec::with_capacity(2 * pairs.len()), 0);
        let keys = pairs.iter().map(|(key, _)| (STRING, *key));
        for (index, (kind, bytes)) in keys.chain(pairs.iter().map(|(_, value)| *value)).enumerate()
        {
            let start = if is_aligned(kind) { usize::next_multiple_of(end, WORD) } else { end };
            elements.push((start - end, bytes));
            let length = start + bytes.len() - end;
            end += length;
            words.extend(entry(kind, index, length, end).to_ne_bytes());
        }
        let size = words.len() + end;
        (size <= LENGTH as usize).then_some(Self { words, elements, size })
    }

    /// The size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Passes its bytes on, piece by piece.
    pub fn write(&self, mut put: impl FnMut(&[u8])) {
        put(&self.words);
        for (padding, bytes) in &self.elements {
            put(&[0; WORD][..*padding]);
            put(bytes);
        }
    }
}

/// Whether elements of a type begin at a multiple of four bytes.
fn is_aligned(kind: u32) -> bool {
    kind == NUMERIC || kind == CONTAINER
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
    fn a_key_gets_its_place_by_length_and_bytes() {
        let object_of = |keys: &[&str], values: &[&str]| {
            let mut array = Array::of(keys, 1);
            array.begin();
            values.iter().for_each(|value| array.add(Value::Text(value.as_bytes())));
            assert!(array.end());
            array.last().to_vec()
        };
        let with_key = |object: &[u8], key, container: &[u8]| {
            WithKey::new(object, key, container).map(|made| {
                let mut bytes = Vec::new();
                made.write(|piece| bytes.extend_from_slice(piece));
                assert_eq!(bytes.len(), made.size());
                bytes
            })
        };
        let inner = object_of(&["x"], &["y"]);
        let expected = |keys: &[&str], at: usize| {
            let mut array = Array::of(keys, 1);
            array.begin();
            for index in 0..keys.len() {
                array.add(if index == at { Value::Json(&inner) } else { Value::Text(b"value") });
            }
            assert!(array.end());
            array.last().to_vec()
        };
        let object = object_of(&["b", "dd"], &["value", "value"]);
        for (key, keys, at) in
            [("a", ["a", "b", "dd"], 0), ("c", ["b", "c", "dd"], 1), ("ccc", ["b", "dd", "ccc"], 2)]
        {
            assert_eq!(with_key(&object, key, &inner), Some(expected(&keys, at)));
        }
        assert_eq!(with_key(&object, "dd", &inner), None);
        assert_eq!(with_key(&object[..6], "a", &inner), None);
        assert_eq!(with_key(b"", "a", &inner), None);
        assert_eq!(with_key(&object, "a", b""), None);
    }

    #[test]
    fn an_object_can_be_undone() {
        let bytes = |array: &mut Array| {
            let mut bytes = Vec::new();
            array.take(|datum| bytes.extend_from_slice(&datum[HEADER..]));
            assert!(array.is_empty());
            bytes
        };
        let (mut once, mut undone) = (Array::of(&["id"], 3), Array::of(&["id"], 3));
        assert!(object(&mut once, b"one") && object(&mut undone, b"one"));
        assert!(object(&mut undone, b"two"));
        undone.undo();
        assert_eq!((undone.len(), once.size()), (1, undone.size()));
        for (first, next) in [("one", "three"), ("four", "five")] {
            if once.is_empty() {
                assert!(object(&mut once, first.as_bytes()));
                assert!(object(&mut undone, first.as_bytes()));
            }
            assert!(object(&mut once, next.as_bytes()) && object(&mut undone, next.as_bytes()));
            assert_eq!(bytes(&mut once), bytes(&mut undone));
        }
    }

    #[test]
    fn an_array_is_the_same_with_more_room() {
        let bytes = |room: usize| {
            let mut array = Array::of(&["id"], room);
            // Of what was passed on nothing is left in the next array.
            [&["one", "two", "three"][..], &["four", "5"], &["six", "seven", "8"]].map(|texts| {
                for text in texts {
                    assert!(object(&mut array, text.as_bytes()));
                }
                let (size, mut bytes) = (array.size(), Vec::new());
                array.take(|datum| bytes.extend_from_slice(&datum[HEADER..]));
                assert_eq!((bytes.len(), array.len()), (size, 0));
                bytes
            })
        };
        assert_eq!(bytes(3), bytes(100));
        assert_eq!(bytes(100)[1], {
            let (mut array, mut bytes) = (Array::of(&["id"], 2), Vec::new());
            assert!(object(&mut array, b"four") && object(&mut array, b"5"));
            array.take(|datum| bytes.extend_from_slice(&datum[HEADER..]));
            bytes
        });
        // It is full.
        let mut array = Array::of(&["id"], 1);
        assert!(object(&mut array, b"one") && !object(&mut array, b"two") && array.len() == 1);
    }

    #[test]
    fn a_member_that_is_too_large_leaves_the_array_as_it_was() {
        let mut array = Array::of(&["id"], 3);
        assert!(object(&mut array, b"one"));
        let size = array.size();
        assert!(!object(&mut array, &vec![b'x'; 300 << 20]));
        assert_eq!((array.len(), array.size()), (1, size));
        assert!(array.is_deliverable());
        assert!(object(&mut array, &vec![b'x'; 200 << 20]));
        assert!(array.is_deliverable());
        // As a text it would have 1.2 GB.
        let mut array = Array::of(&["id"], 3);
        assert!(object(&mut array, &vec![1; 200 << 20]));
        assert!(!array.is_deliverable());
    }
}
