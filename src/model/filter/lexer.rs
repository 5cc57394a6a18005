//! Tokens of SQL92 expressions, by the rules of Java's SelectorParser: the longest match, keywords in any case.

use super::{FilterError, number};

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    Int(i32),
    Long(i64),
    Double(f64),
    Text(String),
    Name(String),
    End,
}

/// A token, where it begins (characters from 1) and how it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    pub token: Token,
    pub at: usize,
    pub written: String,
}

pub fn tokens(expression: &str) -> Result<Vec<Placed>, FilterError> {
    let mut lexer = Lexer { rest: expression, at: 1 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks_and_comments();
        let at = lexer.at;
        if lexer.rest.is_empty() {
            tokens.push(Placed { token: Token::End, at, written: "the end".to_owned() });
            return Ok(tokens);
        }
        let (token, len) = next(lexer.rest).map_err(|reason| FilterError::Sql { at, reason })?;
        let written = lexer.take(len);
        tokens.push(Placed { token, at, written: format!("`{written}`") });
    }
}

struct Lexer<'a> {
    rest: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn take(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.at += taken.chars().count();
        self.rest = rest;
        taken
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']).len();
            let skip = if blank > 0 { Some(blank) } else { comment(self.rest) };
            let Some(len) = skip else { return };
            self.take(len);
        }
    }
}

/// The length of the comment at the start: `--` to the end of a line that has one, or `/* … */`.
fn comment(rest: &str) -> Option<usize> {
    if let Some(behind) = rest.strip_prefix("--") {
        return behind.find(['\n', '\r']).map(|end| 2 + end + 1);
    }
    let behind = rest.strip_prefix("/*")?;
    behind.find("*/").map(|end| 2 + end + 2)
}

/// The token at the start of `rest`, which is not empty, and its length in bytes.
fn next(rest: &str) -> Result<(Token, usize), String> {
    let first = rest.chars().next().expect("the caller looked");
    let second = rest.as_bytes().get(1).copied();
    let symbol = |token: Token, len: usize| Ok((token, len));
    match (first, second) {
        ('<', Some(b'>')) => symbol(Token::NotEqual, 2),
        ('<', Some(b'=')) => symbol(Token::LessOrEqual, 2),
        ('>', Some(b'=')) => symbol(Token::GreaterOrEqual, 2),
        ('<', _) => symbol(Token::Less, 1),
        ('>', _) => symbol(Token::Greater, 1),
        ('=', _) => symbol(Token::Equal, 1),
        ('(', _) => symbol(Token::Open, 1),
        (')', _) => symbol(Token::Close, 1),
        (',', _) => symbol(Token::Comma, 1),
        ('+', _) => symbol(Token::Plus, 1),
        ('-', _) => symbol(Token::Minus, 1),
        ('\'', _) => text(rest),
        ('0'..='9', _) | ('.', Some(b'0'..=b'9')) => literal(rest),
        ('a'..='z' | 'A'..='Z' | '_' | '$', _) => Ok(word(rest)),
        ('!', Some(b'=')) => Err("`!=` is written `<>`".to_owned()),
        ('"', _) => Err("texts stand in single quotes".to_owned()),
        ('/', Some(b'*')) => Err("a comment that never ends".to_owned()),
        (other, _) => Err(format!("{other:?} has no meaning here")),
    }
}

/// `'…'` with `''` for a quote inside.
fn text(rest: &str) -> Result<(Token, usize), String> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\'' {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == '\'').is_some() {
            content.push('\'');
        } else {
            return Ok((Token::Text(content), at + 1));
        }
    }
    Err("a text that never ends".to_owned())
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// The length of an exponent at the start: `e`, a sign perhaps, digits.
fn exponent(text: &str) -> usize {
    if !text.starts_with(['e', 'E']) {
        return 0;
    }
    let sign = usize::from(text[1..].starts_with(['+', '-']));
    match digits(&text[1 + sign..]) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

fn literal(rest: &str) -> Result<(Token, usize), String> {
    let whole = digits(rest);
    let floating = if rest[whole..].starts_with('.') {
        let fraction = digits(&rest[whole + 1..]);
        let len = whole + 1 + fraction;
        Some(len + exponent(&rest[len..]))
    } else {
        Some(whole + exponent(&rest[whole..])).filter(|len| *len > whole)
    };
    if let Some(len) = floating {
        let value = number::double(&rest[..len]).expect("these digits are a number");
        return match value {
            f64::INFINITY => Err(format!("{} is beyond the largest number", &rest[..len])),
            // Java's own check, which means to refuse what is too small, refuses zero, too.
            0.0 => Err(format!("{} is not allowed as a floating number, write 0", &rest[..len])),
            value => Ok((Token::Double(value), len)),
        };
    }
    // A leading zero is a number by itself.
    let (len, suffix) = match rest.as_bytes()[0] {
        b'0' => (1, 0),
        _ => (whole, usize::from(rest[whole..].starts_with(['l', 'L']))),
    };
    let Some(value) = number::long(&rest[..len]) else {
        return Err(format!("{} is beyond 64 bits", &rest[..len]));
    };
    let token = i32::try_from(value).map_or(Token::Long(value), Token::Int);
    Ok((token, len + suffix))
}

fn word(rest: &str) -> (Token, usize) {
    let len = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')).count();
    let word = &rest[..len];
    let token = match word.to_ascii_uppercase().as_str() {
        "NOT" => Token::Not,
        "AND" => Token::And,
        "OR" => Token::Or,
        "BETWEEN" => Token::Between,
        "IN" => Token::In,
        "TRUE" => Token::True,
        "FALSE" => Token::False,
        "NULL" => Token::Null,
        "IS" => Token::Is,
        "CONTAINS" => Token::Contains,
        "STARTSWITH" => Token::StartsWith,
        "ENDSWITH" => Token::EndsWith,
        _ => Token::Name(word.to_owned()),
    };
    (token, len)
}
