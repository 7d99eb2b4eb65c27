//! Nodes of four bytes, for forests that ask few distinct questions.
//!
//! Every distinct question of the forest is answered once for a row: a byte that is 1 where the row goes right. Numbers are
//! compared once for each lane; the thresholds below a value are the first ones, so that the answers are a run of ones and a
//! run of zeros. After the answers come as many zeros as there are distinct rows of leaf values: a leaf asks the zero that has
//! its row's number, and so never goes anywhere.

use super::Trees;
use super::lanes::{Lane, Lanes, Place};
use super::walks::{Front, Packed, Scratch};

/// Rows as answers. `QUESTIONS`: bits of a question's number; the other of 32 say how far the children are.
#[derive(Debug)]
pub(super) struct Answers<const QUESTIONS: u32> {
    /// Each with the number of its first question.
    lanes: Vec<(usize, Lane)>,
    questions: usize,
    stride: usize,
}

/// The number of a question; distance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Four<const QUESTIONS: u32>(u32);

impl<const QUESTIONS: u32> Answers<QUESTIONS> {
    /// Nothing when there are too many questions.
    pub(super) fn new(trees: &Trees, lanes: &Lanes) -> Option<Self> {
        let questions = lanes.questions();
        let stride = questions + trees.values.len() / trees.width;
        if stride > 1 << QUESTIONS {
            return None;
        }
        let mut next = 0;
        let mut of_lanes = Vec::with_capacity(lanes.lanes.len());
        for lane in &lanes.lanes {
            of_lanes.push((next, lane.clone()));
            next += lane.asks.len();
        }
        Some(Self { lanes: of_lanes, questions, stride })
    }
}

impl<const QUESTIONS: u32> Front for Answers<QUESTIONS> {
    type Node = Four<QUESTIONS>;
    const NAME: &str = "compact walks";

    fn stride(&self) -> usize {
        self.stride
    }

    #[inline]
    fn expand(&self, row: &[f64], lanes: &mut [u8]) {
        let (answers, zeros) = lanes.split_at_mut(self.questions);
        for (first, lane) in &self.lanes {
            let right = lane.right(row);
            match &mut answers[*first..*first + lane.asks.len()] {
                // As for all columns of a one-hot encoding: two fills take longer than the question.
                [answer] => *answer = right as u8,
                answers => {
                    let (right, left) = answers.split_at_mut(right);
                    right.fill(1);
                    left.fill(0);
                }
            }
        }
        zeros.fill(0);
    }

    fn split(&self, place: Place, distance: u32) -> Option<Four<QUESTIONS>> {
        let question = self.lanes[place.lane as usize].0 as u32 + place.rank;
        (distance < 1 << (32 - QUESTIONS)).then_some(Four(distance << QUESTIONS | question))
    }

    fn leaf(&self, row: u32) -> Option<Four<QUESTIONS>> {
        Some(Four(self.questions as u32 + row))
    }

    fn first_leaf(&self) -> u32 {
        self.questions as u32
    }

    fn bytes(&self) -> usize {
        self.lanes.iter().map(|(_, lane)| size_of::<Lane>() + lane.asks.len() * 8).sum()
    }
}

impl<const QUESTIONS: u32> Packed for Four<QUESTIONS> {
    type Lane = u8;

    #[inline(always)]
    fn step(self, lanes: &[u8], row: u32) -> u32 {
        let question = row + (self.0 & ((1 << QUESTIONS) - 1));
        (self.0 >> QUESTIONS) + u32::from(lanes[question as usize])
    }

    #[inline(always)]
    fn is_leaf(self) -> bool {
        self.0 >> QUESTIONS == 0
    }

    #[inline(always)]
    fn leaf(self) -> u32 {
        self.0 & ((1 << QUESTIONS) - 1)
    }

    fn lanes(scratch: &mut Scratch) -> &mut Vec<u8> {
        &mut scratch.bytes
    }
}
