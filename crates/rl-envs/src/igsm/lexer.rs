//! Words, names, numbers and signs of problem and solution sentences.
//!
//! A name is a run of capitalised words of two or more letters; a sentence therefore never has one of its own capitalised
//! words beside a name. Reading is linear in the text and borrows from it.

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'t> {
    /// A run of capitalised words, or one other word of two or more letters.
    Word(&'t str),
    /// One letter standing alone.
    Letter(u8),
    /// A number; a minus sign directly before a digit belongs to it.
    Number(i128),
    /// A sign.
    Sign(u8),
    /// The text is over.
    End,
    /// Nothing that a sentence can contain, or a number of more than 128 bits.
    Junk,
}

/// A place in a text, with one token of lookahead.
#[derive(Debug, Clone)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    position: usize,
    next: Token<'t>,
    /// Where `next` begins.
    start: usize,
}

/// A sentence does not continue as the grammar wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unexpected {
    /// Byte at which the unexpected token begins.
    pub position: usize,
    /// What the grammar wants there.
    pub expected: &'static str,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut lexer = Lexer { text, position: 0, next: Token::End, start: 0 };
        lexer.advance();
        lexer
    }

    /// The next token, which stays.
    pub(super) fn peek(&self) -> Token<'t> {
        self.next
    }

    /// Takes the next token.
    pub(super) fn take(&mut self) -> Token<'t> {
        let token = self.next;
        self.advance();
        token
    }

    pub(super) fn unexpected<T>(&self, expected: &'static str) -> Result<T, Unexpected> {
        Err(Unexpected { position: self.start, expected })
    }

    /// Takes the next token if it is the word `word`.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.next == Token::Word(word);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the next token if it is `sign`.
    pub(super) fn take_sign(&mut self, sign: u8) -> bool {
        let found = self.next == Token::Sign(sign);
        if found {
            self.advance();
        }
        found
    }

    /// Takes these words, separated by blanks, each of them a token.
    pub(super) fn words(&mut self, words: &'static str) -> Result<(), Unexpected> {
        for word in words.split(' ') {
            if !self.take_word(word) {
                return self.unexpected(words);
            }
        }
        Ok(())
    }

    pub(super) fn sign(&mut self, sign: u8, expected: &'static str) -> Result<(), Unexpected> {
        if self.take_sign(sign) { Ok(()) } else { self.unexpected(expected) }
    }

    pub(super) fn name(&mut self) -> Result<&'t str, Unexpected> {
        match self.next {
            Token::Word(name) if name.starts_with(|first: char| first.is_ascii_uppercase()) => {
                self.advance();
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    pub(super) fn letter(&mut self) -> Result<u8, Unexpected> {
        match self.next {
            Token::Letter(letter) => {
                self.advance();
                Ok(letter)
            }
            _ => self.unexpected("a letter"),
        }
    }

    pub(super) fn number(&mut self) -> Result<i128, Unexpected> {
        match self.next {
            Token::Number(number) => {
                self.advance();
                Ok(number)
            }
            _ => self.unexpected("a number"),
        }
    }

    fn advance(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.position).is_some_and(|&byte| byte == b' ' || byte == b'\n') {
            self.position += 1;
        }
        self.start = self.position;
        let Some(&first) = bytes.get(self.position) else {
            self.next = Token::End;
            return;
        };
        self.next = match first {
            b'A'..=b'Z' | b'a'..=b'z' => self.word(first.is_ascii_uppercase()),
            b'0'..=b'9' => self.digits(),
            b'-' if bytes.get(self.position + 1).is_some_and(u8::is_ascii_digit) => self.digits(),
            b'.' | b',' | b'?' | b'=' | b'+' | b'-' | b'*' | b'(' | b')' => {
                self.position += 1;
                Token::Sign(first)
            }
            _ => Token::Junk,
        };
    }

    fn word_end(&self, start: usize) -> usize {
        let rest = &self.text.as_bytes()[start..];
        start + rest.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(rest.len())
    }

    fn word(&mut self, capital: bool) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        let mut end = self.word_end(start);
        if end == start + 1 {
            self.position = end;
            return Token::Letter(bytes[start]);
        }
        while capital
            && bytes.get(end) == Some(&b' ')
            && bytes.get(end + 1).is_some_and(u8::is_ascii_uppercase)
            && bytes.get(end + 2).is_some_and(u8::is_ascii_alphabetic)
        {
            end = self.word_end(end + 1);
        }
        self.position = end;
        Token::Word(&self.text[start..end])
    }

    fn digits(&mut self) -> Token<'t> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        let mut end = start + 1;
        while bytes.get(end).is_some_and(u8::is_ascii_digit) {
            end += 1;
        }
        self.position = end;
        self.text[start..end].parse().map_or(Token::Junk, Token::Number)
    }
}
