//! A sentence as the words that lines are made of.

use std::mem::take;

use analysis::findings::{Piece, Sentence};

/// A stretch of text that is not broken: a figure keeps its unit.
pub(crate) struct Word<'s> {
    pub(crate) text: String,
    /// What it is of.
    pub(crate) piece: &'s Piece,
    /// Whether a space, and so a break, may stand before it.
    pub(crate) spaced: bool,
}

pub(crate) fn words(sentence: &Sentence) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut spaced = false;
    for piece in &sentence.0 {
        match piece {
            Piece::Text(text) => {
                for (index, word) in text.split(' ').enumerate() {
                    spaced |= index > 0;
                    if !word.is_empty() {
                        words.push(Word {
                            text: word.to_owned(),
                            piece,
                            spaced: take(&mut spaced),
                        });
                    }
                }
            }
            Piece::Peer(text, _) | Piece::Figure(text) => {
                words.push(Word { text: text.clone(), piece, spaced: take(&mut spaced) });
            }
            Piece::Range(range) => {
                words.push(Word { text: format!("({range})"), piece, spaced: true });
                spaced = false;
            }
        }
    }
    words
}
