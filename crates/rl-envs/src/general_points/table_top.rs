//! The picture of the visual variant: cards side by side on a green table, in the published geometry.

use super::deck::{Card, FACE_RANK};
use super::glyphs::{self, RANK_WIDTH};
use crate::picture::{Color, Outline, Picture, Place};

/// The cloth.
pub const BACKGROUND: Color = [0x35, 0x65, 0x4d];
/// A card.
pub const PAPER: Color = [0xff, 0xff, 0xff];
/// Hearts and diamonds.
pub const RED: Color = [0xc8, 0x10, 0x2e];
/// Spades and clubs.
pub const BLACK: Color = [0x14, 0x14, 0x14];
const EDGE: Color = [0x70, 0x70, 0x70];

/// Left edge of the first card in pixels; less in a picture smaller than the published one.
const MARGIN: f64 = 5.0;
/// Side of the published picture.
const PUBLISHED_SIDE: f64 = 1200.0;

/// The place of one card, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height, 7/5 of the width.
    pub height: u32,
}

/// Places of `num_cards` cards in a picture with sides of `resolution`: widths of 0.9 of their share of it, each 1.1 widths
/// from the one before, in the middle of the height. A single card is narrower, so that its height fits too.
pub fn frames(num_cards: usize, resolution: u32) -> Vec<Frame> {
    let side = f64::from(resolution);
    let shares = (num_cards.max(1) as f64).max(7.0 / 5.0);
    let width = (side / shares * 0.9).floor();
    let height = (width * 7.0 / 5.0).floor();
    let margin = (MARGIN * side / PUBLISHED_SIDE).floor().min(MARGIN);
    let x = |card: usize| (margin + (1.1 * width * card as f64).floor()) as u32;
    let y = ((side - height) / 2.0).floor() as u32;
    (0..num_cards).map(|card| Frame { x: x(card), y, width: width as u32, height: height as u32 }).collect()
}

/// The cards on the table, in dealt order.
pub fn draw(cards: &[Card], resolution: u32) -> Picture {
    let mut picture = Picture::filled(resolution, resolution, BACKGROUND);
    for (&card, frame) in cards.iter().zip(frames(cards.len(), resolution)) {
        draw_card(&mut picture, card, frame);
    }
    picture
}

fn draw_card(picture: &mut Picture, card: Card, frame: Frame) {
    let Frame { x, y, width, height } = frame;
    let (x, y, width, height) = (f64::from(x), f64::from(y), f64::from(width), f64::from(height));
    let color = if matches!(card.suit(), 'H' | 'D') { RED } else { BLACK };
    // Shares of the card; a turned mark stands point-symmetrically.
    let place = |across: f64, down: f64, size: f64, turned: bool| {
        let (across, down) = if turned { (1.0 - across, 1.0 - down) } else { (across, down) };
        Place { center: (x + across * width, y + down * height), scale: size * width, turned }
    };

    let line = (width * 0.008).max(0.5);
    picture.fill(&Outline::rounded(x, y, width, height, width * 0.06), EDGE);
    let inside = Outline::rounded(x + line, y + line, width - 2.0 * line, height - 2.0 * line, width * 0.06 - line);
    picture.fill(&inside, PAPER);

    for turned in [false, true] {
        picture.fill(&glyphs::rank(card.rank(), RANK_WIDTH, place(0.12, 0.10, 0.16, turned)), color);
        picture.fill(&glyphs::suit(card.suit(), place(0.12, 0.225, 0.13, turned)), color);
    }
    if card.rank() < FACE_RANK {
        let size = if card.rank() == 1 { 0.5 } else { 0.2 };
        for (across, down) in glyphs::pips(card.rank()) {
            let turned = 0.5 < down;
            let (across, down) = if turned { (1.0 - across, 1.0 - down) } else { (across, down) };
            picture.fill(&glyphs::suit(card.suit(), place(across, down, size, turned)), color);
        }
    } else {
        picture.fill(&glyphs::rank(card.rank(), 0.16, place(0.5, 0.46, 0.56, false)), color);
        picture.fill(&glyphs::suit(card.suit(), place(0.5, 0.78, 0.22, false)), color);
    }
}
