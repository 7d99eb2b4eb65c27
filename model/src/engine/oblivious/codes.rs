//! A row becomes a byte for each slot, in the form in which the kernels compare it: the code with its highest bit
//! flipped, as a signed byte.

use crate::batch::Rows;
use crate::engine::simd::bytes::Bytes;

/// Borders of a slot, at most: codes are bytes.
pub(crate) const MAX_BORDERS: usize = 255;
/// Rows whose values are in the cache while one slot after another is filled.
const TILE: usize = 32;
/// What an unused place of a table of keys holds: the codes there are those of a key that is not in the table.
const UNUSED: u64 = u64::MAX;
/// The golden ratio's bits, which spread keys over a table.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// The square root of two's bits, which make a group's numbers far from each other.
const STEP: u64 = 0x6a09_e667_f3bc_c909;
/// The multiplier of CatBoost's hash of a combination (`CalcHash` in hash.h).
const MULTIPLIER: u64 = 0x4906_ba49_4954_cb65;

/// How values become codes.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    /// Slots `0..ranks.len()`.
    ranks: Vec<Rank>,
    borders: Vec<[f32; 16]>,
    categories: Vec<Category>,
    tables: Vec<Table>,
    projections: Vec<Projection>,
    slots: usize,
}

/// A column of numbers: its code is how many borders are below the value.
#[derive(Debug)]
struct Rank {
    position: usize,
    missing_is_high: bool,
    /// The last border of each sixteen; infinity in the last and beyond.
    pivots: [f32; 16],
    /// The first sixteen in `Codes::borders`.
    first: usize,
}

/// A column of categories, each with the factor that it puts into a key: known ones, missing, unseen.
#[derive(Debug)]
struct Category {
    position: usize,
    factors: Vec<u64>,
}

/// A code for each category of a column: known ones, missing, unseen.
#[derive(Debug)]
struct Table {
    category: usize,
    codes: Box<[u8]>,
}

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// The category itself.
    Category(usize),
    /// Whether the category is the one with this hash.
    Is { category: usize, hash: u32 },
    /// Whether the number is above the border.
    Above { position: usize, missing_is_high: bool, border: f32 },
}

/// A key that is computed once, and the tables in which it is looked up.
#[derive(Debug)]
struct Projection {
    parts: Vec<Part>,
    keyed: Vec<Keyed>,
}

/// Codes of some slots by key, in a table without collisions: each key belongs to a group, and the group's number says
/// at which place each of its keys is, if it is in the table at all (hash and displace: Belazzougui and others, 2009).
#[derive(Debug)]
struct Keyed {
    slot: usize,
    count: usize,
    group_shift: u32,
    place_shift: u32,
    groups: Box<[u16]>,
    keys: Box<[u64]>,
    /// `[places, count]`; after them the codes of what is not in the table.
    codes: Box<[u8]>,
}

/// Memory for [`Codes::encode`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[categories, rows]`.
    numbers: Vec<u32>,
    keys: Vec<u64>,
}

/// As the kernels compare it.
fn flipped(code: u8) -> u8 {
    code ^ 0x80
}

impl Codes {
    /// Adds a column of categories with the hash of each: known ones, missing, unseen.
    pub(crate) fn add_category(&mut self, position: usize, hashes: impl Iterator<Item = u32>) {
        self.categories.push(Category { position, factors: hashes.map(factor).collect() });
    }

    /// Adds a column of numbers with at most 255 ascending finite borders, and gives its slot. These come first.
    pub(crate) fn add_rank(&mut self, position: usize, missing_is_high: bool, borders: &[f32]) -> usize {
        debug_assert!(self.ranks.len() == self.slots && borders.len() <= MAX_BORDERS);
        let first = self.borders.len();
        let mut pivots = [f32::INFINITY; 16];
        // One more than is full, so that no value is above the last pivot.
        for (index, pivot) in pivots.iter_mut().enumerate().take(borders.len() / 16 + 1) {
            let mut sixteen = [f32::INFINITY; 16];
            for (to, border) in sixteen.iter_mut().zip(&borders[16 * index..]) {
                *to = *border;
            }
            *pivot = sixteen[15];
            self.borders.push(sixteen);
        }
        self.ranks.push(Rank { position, missing_is_high, pivots, first });
        self.slots += 1;
        self.slots - 1
    }

    /// Adds a code for each category of a column (known ones, missing, unseen), and gives its slot.
    pub(crate) fn add_table(&mut self, category: usize, codes: impl Iterator<Item = u8>) -> usize {
        self.tables.push(Table { category, codes: codes.map(flipped).collect() });
        self.slots += 1;
        self.slots - 1
    }

    /// Adds codes by key, `[keys, count]`, with those of a key that is not there, and gives the first slot. Nothing when
    /// the keys are not spread as hashes are. After all tables.
    pub(crate) fn add_keyed(&mut self, parts: &[Part], keys: &[u64], codes: &[u8], missing: &[u8]) -> Option<usize> {
        let (slot, count) = (self.slots, missing.len());
        let keyed = Keyed::new(slot, keys, codes, missing)?;
        self.slots += count;
        match self.projections.iter_mut().find(|projection| projection.parts == parts) {
            Some(projection) => projection.keyed.push(keyed),
            None => self.projections.push(Projection { parts: parts.to_vec(), keyed: vec![keyed] }),
        }
        Some(slot)
    }

    /// Puts together what is computed alike, so that a processor foresees what comes next. After everything was added.
    pub(crate) fn arrange(&mut self) {
        let kind = |part: &Part| match part {
            Part::Category(_) => 0,
            Part::Is { .. } => 1,
            Part::Above { .. } => 2,
        };
        self.projections.sort_by_cached_key(|projection| {
            let kinds: Vec<u8> = projection.parts.iter().map(kind).collect();
            (projection.keyed.len(), kinds.len(), kinds)
        });
    }

    /// Bytes that codes by key take.
    pub(crate) fn keyed_bytes(keys: usize, count: usize) -> usize {
        let places = places(keys);
        8 * places + (places + 1) * count + 2 * groups(keys)
    }

    /// Bytes of a row.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Memory that this takes.
    pub(super) fn bytes(&self) -> usize {
        let tables: usize = self.tables.iter().map(|table| table.codes.len()).sum();
        let keyed = self.projections.iter().flat_map(|projection| &projection.keyed);
        let keyed: usize = keyed.map(|keyed| Self::keyed_bytes(keyed.keys.len(), keyed.count)).sum();
        let factors: usize = self.categories.iter().map(|category| 8 * category.factors.len()).sum();
        self.ranks.len() * size_of::<Rank>() + self.borders.len() * 64 + tables + keyed + factors
    }

    /// Writes the codes of the rows, `[slots, stride]`; there are at most `stride` rows.
    #[inline(always)]
    pub(super) fn encode<S: Bytes>(
        &self,
        simd: S,
        rows: Rows<'_>,
        stride: usize,
        codes: &mut [u8],
        scratch: &mut Scratch,
    ) {
        for (tile, rows) in rows.blocks(TILE).enumerate() {
            let first = tile * TILE;
            for (rank, codes) in self.ranks.iter().zip(codes.chunks_exact_mut(stride)) {
                let borders = &self.borders[rank.first..];
                for (row, code) in rows.iter().zip(&mut codes[first..]) {
                    let x = single(row[rank.position], rank.missing_is_high);
                    let sixteen = simd.less(&rank.pivots, x);
                    *code = flipped((16 * sixteen + simd.less(&borders[sixteen], x)) as u8);
                }
            }
        }
        if self.slots > self.ranks.len() {
            self.look_up(rows, stride, codes, scratch);
        }
    }

    /// Writes the codes that depend on categories: table after table, so that one is in the cache for all rows.
    #[inline(always)]
    fn look_up(&self, rows: Rows<'_>, stride: usize, codes: &mut [u8], scratch: &mut Scratch) {
        let Scratch { numbers, keys } = scratch;
        let count = rows.len();
        numbers.clear();
        for category in &self.categories {
            numbers.extend(rows.iter().map(|row| category.number(row)));
        }
        let slots = codes.chunks_exact_mut(stride).skip(self.ranks.len());
        for (table, codes) in self.tables.iter().zip(slots) {
            let numbers = &numbers[table.category * count..];
            for (code, number) in codes[..count].iter_mut().zip(numbers) {
                *code = table.codes[*number as usize];
            }
        }
        for projection in &self.projections {
            keys.clear();
            keys.resize(count, 0);
            for part in &projection.parts {
                self.append(*part, rows, numbers, keys);
            }
            for keyed in &projection.keyed {
                let first = keyed.slot * stride;
                if keyed.count == 1 {
                    for (code, key) in codes[first..].iter_mut().zip(keys.iter()) {
                        *code = keyed.codes[keyed.find(*key)];
                    }
                    continue;
                }
                for (row, key) in keys.iter().enumerate() {
                    let found = keyed.find(*key);
                    for (slot, code) in keyed.codes[found..found + keyed.count].iter().enumerate() {
                        codes[first + slot * stride + row] = *code;
                    }
                }
            }
        }
    }

    /// Appends a part to the keys of the rows.
    #[inline(always)]
    fn append(&self, part: Part, rows: Rows<'_>, numbers: &[u32], keys: &mut [u64]) {
        let appended = |key: u64, factor: u64| MULTIPLIER.wrapping_mul(key.wrapping_add(factor));
        let truth = |truth: bool| if truth { MULTIPLIER } else { 0 };
        match part {
            Part::Category(category) => {
                let factors = &self.categories[category].factors;
                for (key, number) in keys.iter_mut().zip(&numbers[category * rows.len()..]) {
                    *key = appended(*key, factors[*number as usize]);
                }
            }
            Part::Is { category, hash } => {
                let factors = &self.categories[category].factors;
                // The multiplier is odd: equal factors are equal hashes.
                let asked = factor(hash);
                for (key, number) in keys.iter_mut().zip(&numbers[category * rows.len()..]) {
                    *key = appended(*key, truth(factors[*number as usize] == asked));
                }
            }
            Part::Above { position, missing_is_high, border } => {
                for (key, row) in keys.iter_mut().zip(rows.iter()) {
                    *key = appended(*key, truth(single(row[position], missing_is_high) > border));
                }
            }
        }
    }
}

/// What a hash puts into a key: sign-extended, as CatBoost does.
fn factor(hash: u32) -> u64 {
    MULTIPLIER.wrapping_mul(i64::from(hash.cast_signed()).cast_unsigned())
}

/// The value in single precision; a missing one is above all borders or above none.
#[inline(always)]
fn single(value: f64, missing_is_high: bool) -> f32 {
    if missing_is_high && value.is_nan() { f32::INFINITY } else { value as f32 }
}

impl Category {
    /// The category's number: known ones, missing, unseen.
    #[inline(always)]
    fn number(&self, values: &[f64]) -> u32 {
        number(values[self.position], self.factors.len() - 2) as u32
    }
}

/// The number of a value among `known` categories, missing and unseen.
#[inline(always)]
pub(crate) fn number(value: f64, known: usize) -> usize {
    if value.is_nan() {
        known
    } else if value >= 0.0 && value < known as f64 {
        value as usize
    } else {
        known + 1
    }
}

/// Places of a table for some keys: between two fifths and four fifths are taken.
fn places(keys: usize) -> usize {
    (keys + keys / 4 + 2).next_power_of_two()
}

/// Groups of a table for some keys: up to four keys in each.
fn groups(keys: usize) -> usize {
    (keys / 4 + 2).next_power_of_two()
}

impl Keyed {
    /// Largest groups first, each gets the first number that sends its keys to free places.
    fn new(slot: usize, keys: &[u64], codes: &[u8], missing: &[u8]) -> Option<Self> {
        let (count, places, groups) = (missing.len(), places(keys.len()), groups(keys.len()));
        let mut keyed = Self {
            slot,
            count,
            group_shift: 64 - groups.trailing_zeros(),
            place_shift: 64 - places.trailing_zeros(),
            groups: vec![0; groups].into(),
            keys: vec![UNUSED; places].into(),
            codes: missing.iter().copied().cycle().take((places + 1) * count).map(flipped).collect(),
        };
        let mut order: Vec<(usize, usize)> =
            keys.iter().enumerate().map(|(index, key)| (keyed.group(key.wrapping_mul(SPREAD)), index)).collect();
        order.sort_unstable();
        let mut of_group: Vec<&[(usize, usize)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        of_group.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let mut taken = vec![false; places];
        // Hashes need some tens of steps each; keys that were made to meet would take all time there is.
        let mut steps = 256 * keys.len() + 65_536;
        for group in of_group {
            let mut number = 0_u16;
            loop {
                steps = steps.checked_sub(group.len())?;
                let place = |index: usize| keyed.place(keys[index].wrapping_mul(SPREAD), number);
                let mut free = 0;
                while free < group.len() && !std::mem::replace(&mut taken[place(group[free].1)], true) {
                    free += 1;
                }
                if free == group.len() {
                    break;
                }
                for (_, index) in &group[..free] {
                    taken[place(*index)] = false;
                }
                number = number.checked_add(1)?;
            }
            keyed.groups[group[0].0] = number;
            for (_, index) in group {
                let place = keyed.place(keys[*index].wrapping_mul(SPREAD), number);
                keyed.keys[place] = keys[*index];
                let codes = &codes[index * count..(index + 1) * count];
                for (to, code) in keyed.codes[place * count..].iter_mut().zip(codes) {
                    *to = flipped(*code);
                }
            }
        }
        Some(keyed)
    }

    #[inline(always)]
    fn group(&self, spread: u64) -> usize {
        (spread >> self.group_shift) as usize
    }

    /// The only place where a key may be, given its group's number.
    #[inline(always)]
    fn place(&self, spread: u64, number: u16) -> usize {
        ((spread ^ u64::from(number).wrapping_mul(STEP)).wrapping_mul(MULTIPLIER) >> self.place_shift) as usize
    }

    /// Where the codes of a key are.
    #[inline(always)]
    fn find(&self, key: u64) -> usize {
        let spread = key.wrapping_mul(SPREAD);
        let place = self.place(spread, self.groups[self.group(spread)]);
        let found = self.keys[place] == key;
        // No branch: whether a key is there is as random as the key.
        std::hint::select_unpredictable(found, place, self.keys.len()) * self.count
    }
}
