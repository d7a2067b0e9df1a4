//! Which language a text is written in, told from its script and, for Latin script, from frequent short words.
//!
//! This finds rows in a language that nobody wanted and answers that change language midway; it is no linguist. It knows
//! the languages of [`Language`] alone and calls others by a relative it knows or by none; a short text, a formula or code
//! has none; a text in two languages of one script counts as the one with more frequent words; languages that share a
//! script other than Latin (Russian and Ukrainian, Arabic and Persian) are not told apart. Not here: which rows are
//! dropped (`select`).

use serde::{Deserialize, Serialize};

/// Fewest letters that are judged.
const MIN_LETTERS: usize = 20;
/// Fewest of all words that are frequent words of the language; running text has a third or more.
const MIN_FREQUENT: f64 = 0.1;
/// Fewest of the characters of Japanese text that are kana; running text has half.
const MIN_KANA: f64 = 0.1;

/// A language, or a script whose languages are not told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// English.
    English,
    /// German.
    German,
    /// French.
    French,
    /// Spanish.
    Spanish,
    /// Italian.
    Italian,
    /// Portuguese.
    Portuguese,
    /// Dutch.
    Dutch,
    /// Chinese, simplified or traditional.
    Chinese,
    /// Japanese.
    Japanese,
    /// Korean.
    Korean,
    /// Any language in Cyrillic script.
    Cyrillic,
    /// Any language in Greek script.
    Greek,
    /// Any language in Arabic script.
    Arabic,
    /// Any language in Hebrew script.
    Hebrew,
    /// Any language in Devanagari script.
    Devanagari,
    /// Thai.
    Thai,
}

/// What was found in a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LanguageFound {
    /// `None` where the text does not say.
    pub language: Option<Language>,
    /// Letters in the most frequent script over all letters, 0 to 1; 0 without letters.
    pub script_share: f64,
}

/// Judges a text; code between lines of three backticks and words after a backslash are left out.
pub fn find_language(text: &str) -> LanguageFound {
    let mut letters = [0_usize; Script::ALL.len()];
    let mut kana = 0;
    let mut frequent = [0_usize; FREQUENT.len()];
    let mut num_words = 0;
    for line in prose(text) {
        for letter in line.chars().filter(|letter| letter.is_alphabetic()) {
            letters[Script::of(letter) as usize] += 1;
            kana += usize::from(is_kana(letter));
        }
        for (at, word) in words(line) {
            if line[..at].ends_with('\\') {
                letters[Script::Latin as usize] -= word.chars().filter(|c| Script::of(*c) == Script::Latin).count();
                continue;
            }
            num_words += 1;
            let word = word.to_lowercase();
            for (count, (_, list)) in frequent.iter_mut().zip(FREQUENT) {
                *count += usize::from(list.split(' ').any(|known| known == word));
            }
        }
    }
    let all: usize = letters.iter().sum();
    let most = Script::ALL.into_iter().max_by_key(|script| letters[*script as usize]).unwrap_or(Script::Other);
    let in_most = letters[most as usize];
    let script_share = if all == 0 { 0.0 } else { in_most as f64 / all as f64 };
    let language = match most {
        _ if all < MIN_LETTERS => None,
        Script::Latin => {
            let mut ranked: Vec<(usize, Language)> =
                frequent.into_iter().zip(FREQUENT.map(|(language, _)| language)).collect();
            ranked.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
            let (best, second) = (ranked[0], ranked[1]);
            let enough = best.0 as f64 >= MIN_FREQUENT * num_words as f64;
            (best.0 > second.0 && enough).then_some(best.1)
        }
        Script::East if kana as f64 >= MIN_KANA * in_most as f64 => Some(Language::Japanese),
        Script::East => Some(Language::Chinese),
        Script::Hangul => Some(Language::Korean),
        Script::Cyrillic => Some(Language::Cyrillic),
        Script::Greek => Some(Language::Greek),
        Script::Arabic => Some(Language::Arabic),
        Script::Hebrew => Some(Language::Hebrew),
        Script::Devanagari => Some(Language::Devanagari),
        Script::Thai => Some(Language::Thai),
        Script::Other => None,
    };
    LanguageFound { language, script_share }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    /// Han and kana.
    East,
    Hangul,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Devanagari,
    Thai,
    Other,
}

impl Script {
    const ALL: [Script; 10] = [
        Script::Latin,
        Script::East,
        Script::Hangul,
        Script::Cyrillic,
        Script::Greek,
        Script::Arabic,
        Script::Hebrew,
        Script::Devanagari,
        Script::Thai,
        Script::Other,
    ];

    fn of(letter: char) -> Script {
        match u32::from(letter) {
            0x41..=0x5a | 0x61..=0x7a | 0xaa | 0xba | 0xc0..=0x24f | 0x1e00..=0x1eff => Script::Latin,
            0x370..=0x3ff | 0x1f00..=0x1fff => Script::Greek,
            0x400..=0x52f => Script::Cyrillic,
            0x590..=0x5ff => Script::Hebrew,
            0x600..=0x6ff | 0x750..=0x77f | 0x8a0..=0x8ff => Script::Arabic,
            0x900..=0x97f => Script::Devanagari,
            0xe00..=0xe7f => Script::Thai,
            0x1100..=0x11ff | 0x3130..=0x318f | 0xac00..=0xd7af => Script::Hangul,
            0x3040..=0x30ff | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff => Script::East,
            0x2_0000..=0x3_ffff => Script::East,
            _ => Script::Other,
        }
    }
}

fn is_kana(letter: char) -> bool {
    matches!(u32::from(letter), 0x3040..=0x30ff | 0x31f0..=0x31ff)
}

/// Lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// Runs of letters with the byte each starts at.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

/// The most frequent short words, in lower case.
const FREQUENT: [(Language, &str); 7] = [
    (
        Language::English,
        "the of and to in is that it for was with as on are this be you not we have from so then can which or by an at \
         if there has will i they what how",
    ),
    (
        Language::German,
        "der die das und ist nicht ein eine zu mit auf für von den dem es ich wir sie auch als wenn aber im sich daß dass \
         wird sind also oder man dann wie was",
    ),
    (
        Language::French,
        "le la les des et est une un dans que qui pour pas nous vous sur avec ce cette il du au de en je ne on par plus \
         donc mais sont comme à",
    ),
    (
        Language::Spanish,
        "el la los las de y es un una en que por para con no se del al como más pero su lo esto son entonces si está muy \
         hay o",
    ),
    (
        Language::Italian,
        "il lo la gli di e è un una che per con non si del della sono come più ma in i le dei questo quindi al nel ha se \
         anche da",
    ),
    (
        Language::Portuguese,
        "o a os as de e é um uma em que para com não se do da no na mais mas por dos das como então são isso ao ou você",
    ),
    (
        Language::Dutch,
        "de het een en is van dat niet op te voor met zijn wij we ik ook als maar in er aan dan of die dit deze naar \
         wordt kan",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_told_apart() {
        for (expected, text) in [
            (Some(Language::English), "We add the two numbers and see that the sum is even, so the answer is not 7."),
            (Some(Language::German), "Wir addieren die beiden Zahlen und sehen, dass die Summe nicht ungerade ist."),
            (Some(Language::French), "Nous additionnons les deux nombres et la somme est paire, donc ce n'est pas 7."),
            (Some(Language::Spanish), "Sumamos los dos números y la suma es par, entonces la respuesta no es 7."),
            (Some(Language::Italian), "Sommiamo i due numeri e la somma è pari, quindi la risposta non è il 7."),
            (Some(Language::Portuguese), "Somamos os dois números e a soma é par, então a resposta não é 7."),
            (Some(Language::Dutch), "We tellen de twee getallen op en zien dat het niet oneven is, dus het kan."),
            (Some(Language::Chinese), "我们把这两个数字加起来，看到它们的和是偶数，所以答案不是七。"),
            (Some(Language::Japanese), "二つの数字を足すと、その和は偶数になるので、答えは七ではありません。"),
            (Some(Language::Korean), "두 숫자를 더하면 합이 짝수이므로 답은 칠이 아닙니다. 그래서 다시 봅니다."),
            (Some(Language::Cyrillic), "Сложим два числа и увидим, что сумма чётная, значит ответ не семь."),
            (Some(Language::Greek), "Προσθέτουμε τους δύο αριθμούς και βλέπουμε ότι το άθροισμα είναι άρτιο."),
            (Some(Language::Arabic), "نجمع العددين ونرى أن المجموع زوجي، إذن الجواب ليس سبعة."),
            (Some(Language::Hebrew), "נחבר את שני המספרים ונראה שהסכום זוגי, ולכן התשובה אינה שבע."),
            (Some(Language::Devanagari), "हम दोनों संख्याओं को जोड़ते हैं और देखते हैं कि योग सम है।"),
            (Some(Language::Thai), "เราบวกตัวเลขสองตัวและเห็นว่าผลรวมเป็นเลขคู่ ดังนั้นคำตอบไม่ใช่เจ็ด"),
            (None, "24"),
            (None, "x = a * (b + c) / d"),
            (None, "the sum"),
            (None, "Lorem ipsum dolor amet consectetur adipiscing elit sed eiusmod tempor"),
        ] {
            assert_eq!(find_language(text).language, expected, "{text}");
        }
    }

    #[test]
    fn code_and_commands_do_not_count() {
        let text = "我们看一看这个程序，它把所有的数字加起来然后打印出来。\n```py\nprint('the sum of this is that')\n```\n\\frac{1}{2}";
        let found = find_language(text);
        assert_eq!(found, LanguageFound { language: Some(Language::Chinese), script_share: 1.0 });
    }

    #[test]
    fn a_change_of_language_shows_in_the_share() {
        // 20 Latin letters, then 20 Han characters.
        let found = find_language("abcdefghij klmnopqrst 我们看一看这个程序它把所有的数字加起来然");
        assert_eq!(found.script_share, 0.5);
        assert_eq!(find_language("").script_share, 0.0);
    }
}
