//! The visual variant: geometry, pictures, recognition.

use std::collections::HashSet;

use rl_envs::general_points::table_top::{BACKGROUND, BLACK, Frame, PAPER, RED, draw, frames};
use rl_envs::general_points::{Card, Deck, GeneralPoints, GeneralPointsConfig, SuitPool, VisionConfig};
use rl_envs::{Environment, Picture};

fn config(suit_pool: SuitPool, recognition_only: bool) -> GeneralPointsConfig {
    GeneralPointsConfig {
        suit_pool,
        vision: Some(VisionConfig { resolution: 1200, recognition_only }),
        ..Default::default()
    }
}

#[test]
fn cards_lie_where_they_were_published() {
    let expected = [5, 302, 599, 896].map(|x| Frame { x, y: 411, width: 270, height: 378 });
    assert_eq!(frames(4, 1200), expected);
    for num_cards in 1..=6 {
        for resolution in [64, 300, 1200, 4096] {
            for frame in frames(num_cards, resolution) {
                assert!(frame.x + frame.width <= resolution && frame.y + frame.height <= resolution, "{frame:?}");
                assert_eq!(frame.height, frame.width * 7 / 5);
            }
        }
    }
}

/// One hand of every card.
fn all_cards() -> Vec<Card> {
    let mut cards: Vec<Card> = Vec::new();
    for (suit_pool, duplicate_seed) in [(SuitPool::Red, 0), (SuitPool::Black, 1)] {
        let deck = Deck::new(&GeneralPointsConfig { suit_pool, ..Default::default() }).unwrap();
        for index in 0..400 {
            for &card in deck.deal(duplicate_seed, index).unwrap().cards() {
                if !cards.contains(&card) {
                    cards.push(card);
                }
            }
        }
    }
    cards
}

#[test]
fn every_card_looks_different_and_has_its_colour() {
    let cards = all_cards();
    assert_eq!(cards.len(), 52);
    let mut pictures = HashSet::new();
    for card in cards {
        let picture = draw(&[card], 200);
        assert!(pictures.insert(picture.rgb().to_vec()), "{card} looks like another card");
        let colors: HashSet<[u8; 3]> = picture.rgb().chunks(3).map(|pixel| pixel.try_into().unwrap()).collect();
        let is_red = matches!(card.suit(), 'H' | 'D');
        assert!(colors.contains(&BACKGROUND) && colors.contains(&PAPER));
        assert_eq!((colors.contains(&RED), colors.contains(&BLACK)), (is_red, !is_red), "{card}");
        // A card reads the same upside down in its corners.
        let frame = frames(1, 200)[0];
        let ink = |x: u32, y: u32| picture.pixel(frame.x + x, frame.y + y) != Some(PAPER);
        let (width, height) = (frame.width, frame.height);
        let corner = |turned: bool| {
            let places = (0..width / 4).flat_map(|x| (0..height / 4).map(move |y| (x, y)));
            let seen = |(x, y)| if turned { ink(width - 1 - x, height - 1 - y) } else { ink(x, y) };
            places.filter(|&place| seen(place)).count() as f64
        };
        let (upright, turned) = (corner(false), corner(true));
        assert!((upright - turned).abs() < 0.1 * upright, "{card}: {upright} and {turned}");
    }
}

/// Our encoder against the inflate of miniz_oxide and a plain undoing of the filter.
#[test]
fn a_png_holds_the_pixels() {
    let deck = Deck::new(&config(SuitPool::Mixed, false)).unwrap();
    let pictures = [
        draw(deck.deal(3, 1).unwrap().cards(), 1200),
        draw(deck.deal(3, 2).unwrap().cards(), 67),
        Picture::filled(1, 1, [1, 2, 3]),
        Picture::filled(700, 3, [255, 255, 255]),
    ];
    for picture in pictures {
        let file = picture.png();
        assert_eq!(file, picture.png());
        assert_eq!(decode(&file), (picture.width(), picture.height(), picture.rgb().to_vec()));
    }
    // 4.3 MB of pixels.
    assert!(draw(deck.deal(3, 1).unwrap().cards(), 1200).png().len() < 250_000);
}

fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    let (mut rest, mut chunks) = (&file[8..], Vec::new());
    while !rest.is_empty() {
        let length = word(rest) as usize;
        chunks.push((&rest[4..8], &rest[8..8 + length]));
        rest = &rest[12 + length..];
    }
    let kinds: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.0).collect();
    assert_eq!(kinds, [&b"IHDR"[..], b"IDAT", b"IEND"]);
    let header = chunks[0].1;
    let (width, height) = (word(header), word(&header[4..]));
    assert_eq!(header[8..], [8, 2, 0, 0, 0]);
    let bytes = miniz_oxide::inflate::decompress_to_vec_zlib(chunks[1].1).unwrap();
    let row_length = 3 * width as usize;
    let mut pixels: Vec<u8> = Vec::new();
    for row in bytes.chunks(row_length + 1) {
        assert_eq!(row[0], 2);
        let above = pixels.len().checked_sub(row_length).map_or(vec![0; row_length], |start| pixels[start..].to_vec());
        pixels.extend(row[1..].iter().zip(above).map(|(byte, above)| byte.wrapping_add(above)));
    }
    (width, height, pixels)
}

#[test]
fn the_picture_is_of_the_hand_and_the_prompt_does_not_list_it() {
    let mut game = GeneralPoints::new(config(SuitPool::Black, false)).unwrap();
    assert!(game.picture().is_none());
    let text = game.reset(7, 0).unwrap().messages.remove(0).content;
    assert!(
        text.contains("The cards are in the image.") && text.contains("valid JSON") && !text.contains("<<"),
        "{text}"
    );
    assert!(!text.contains("[\""), "{text}");
    assert_eq!(game.picture(), Some(draw(game.hand().unwrap().cards(), 1200)));
    let mut listed = GeneralPoints::new(GeneralPointsConfig::default()).unwrap();
    listed.reset(7, 0).unwrap();
    assert!(listed.picture().is_none());
    assert_ne!(game.template_sha256(), listed.template_sha256());
}

#[test]
fn cards_must_be_recognised_first() {
    let mut game = GeneralPoints::new(config(SuitPool::Black, false)).unwrap();
    game.reset(7, 0).unwrap();
    let answer = game.expert().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&answer).is_ok(), "{answer}");
    let mut plain: Vec<&str> = game.hand().unwrap().cards().iter().map(|card| card.plain()).collect();
    plain.reverse();
    let named = |cards: &[&str], formula: &str| format!(r#"{{"cards": {cards:?}, "formula": "{formula}"}}"#);

    // A right formula without the right cards is not graded.
    let formula = answer.split(r#""formula":""#).nth(1).unwrap().split('=').next().unwrap().to_string();
    let mut others = plain.clone();
    others[0] = if others[0] == "7" { "8" } else { "7" };
    for cards in [&others[..], &plain[..3], &[]] {
        let step = game.step(&named(cards, &formula)).unwrap();
        assert_eq!((step.outcome, step.reward, step.success), ("incorrect_vision", -1.5, false));
        assert!(step.feedback.unwrap().content.contains("the cards are not those in the picture."));
    }
    // In any order they are right, and then the formula counts.
    let step = game.step(&named(&plain, "1*1")).unwrap();
    assert_eq!(step.outcome, "incorrect_number");
    assert!(game.step(&named(&plain, &formula)).unwrap().success);
}

#[test]
fn recognition_alone_can_be_asked_for() {
    let mut game = GeneralPoints::new(config(SuitPool::Red, true)).unwrap();
    game.reset(7, 1).unwrap();
    let cards: Vec<&str> = game.hand().unwrap().cards().iter().map(|card| card.plain()).collect();
    let step = game.step(&format!(r#"{{"cards": {cards:?}}}"#)).unwrap();
    assert_eq!((step.outcome, step.reward, step.success, step.terminated), ("cards_recognized", 5.0, true, true));
    game.reset(7, 1).unwrap();
    assert_eq!(game.step("no idea").unwrap().outcome, "incorrect_vision");
}
