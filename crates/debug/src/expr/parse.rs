//! From the text of an expression to its tree.

use super::EvalError;
use crate::types::Tag;

/// How deep parentheses and operators may nest.
const MAX_DEPTH: usize = 64;
/// Operators, members and indices of an expression: its tree is not deeper.
const MAX_NODES: usize = 256;
/// The longest expression, in bytes.
const MAX_LEN: usize = 4096;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// A number.
    Number(u64),
    /// A variable or an enumerator.
    Name(String),
    /// `a.b`, `a->b`.
    Member(Box<Expr>, String),
    /// `a[b]`.
    Index(Box<Expr>, Box<Expr>),
    /// `*a`.
    Deref(Box<Expr>),
    /// `&a`.
    AddressOf(Box<Expr>),
    /// `-a`, `~a`, `!a`.
    Unary(char, Box<Expr>),
    /// `a + b` and the like.
    Binary(&'static str, Box<Expr>, Box<Expr>),
    /// `(type)a`.
    Cast(TypeName, Box<Expr>),
    /// `sizeof(type)`.
    SizeOfType(TypeName),
    /// `sizeof a`.
    SizeOf(Box<Expr>),
}

/// The name of a type in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeName {
    /// What kind of name it is.
    pub tag: Tag,
    /// The name: `proc`, `unsigned int`, `pid_t`.
    pub name: String,
    /// How many stars follow it.
    pub pointers: usize,
    /// The dimensions that follow it.
    pub dimensions: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Number(u64),
    Name(String),
    Sign(&'static str),
}

/// Signs, the longer ones first.
const SIGNS: [&str; 27] = [
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "(", ")", "[", "]", ".", "*", "&", "-",
    "~", "!", "+", "/", "%", "<", ">", "|", "^", ",",
];
/// Words that basic types are made of.
const BASIC: [&str; 11] = [
    "void", "char", "short", "int", "long", "unsigned", "signed", "float", "double", "_Bool",
    "bool",
];
const QUALIFIERS: [&str; 3] = ["const", "volatile", "restrict"];
/// Binary operators, from the weakest to the strongest.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// Parses an expression. `is_type` says whether a name stands for a type: `(pid_t)x` is a cast,
/// `(allproc)` is not.
///
/// # Errors
/// Returns an error that says where it is not an expression.
pub fn parse(text: &str, is_type: &dyn Fn(&str) -> bool) -> Result<Expr, EvalError> {
    let tokens = tokens(text, is_type)?;
    let mut parser = Parser {
        tokens,
        at: 0,
        end: text.len(),
        is_type,
        nodes: 0,
    };
    let parsed = parser.binary(0, 0)?;
    match parser.tokens.get(parser.at) {
        None => Ok(parsed),
        Some(_) => Err(parser.wrong("the expression should end here")),
    }
}

fn tokens(text: &str, is_type: &dyn Fn(&str) -> bool) -> Result<Vec<(usize, Token)>, EvalError> {
    let wrong = |at: usize, reason: &str| EvalError::Syntax {
        at,
        reason: reason.to_owned(),
    };
    if text.len() > MAX_LEN {
        return Err(wrong(MAX_LEN, "the expression is too long"));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        let Some(first) = rest.chars().next() else {
            break;
        };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let word_len = word_len(rest);
        let word = rest.get(..word_len).unwrap_or_default();
        if first == '\'' {
            let (value, len) = character(rest).ok_or_else(|| wrong(at, "not a character"))?;
            tokens.push((at, Token::Number(value)));
            at += len;
        } else if first.is_ascii_digit() {
            let value = number(word).ok_or_else(|| wrong(at, "not a number"))?;
            tokens.push((at, Token::Number(value)));
            at += word_len;
        } else if word_len > 0 {
            let len = name_len(rest, is_type);
            tokens.push((at, Token::Name(rest.get(..len).unwrap_or(word).to_owned())));
            at += len;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((at, Token::Sign(sign)));
            at += sign.len();
        } else {
            return Err(wrong(at, "a character that no expression has"));
        }
    }
    Ok(tokens)
}

/// Bytes of the word that a text starts with.
fn word_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        .unwrap_or(text.len())
}

/// Bytes of the name that a text starts with: a word, words with `::` between them, and for types
/// what follows in `<>`.
fn name_len(text: &str, is_type: &dyn Fn(&str) -> bool) -> usize {
    let mut len = word_len(text);
    while let Some(rest) = text.get(len..).and_then(|rest| rest.strip_prefix("::"))
        && word_len(rest) > 0
    {
        len += 2 + word_len(rest);
    }
    if text.get(len..).is_some_and(|rest| rest.starts_with('<')) {
        let mut open = 0_usize;
        for (at, c) in text.char_indices().skip_while(|(at, _)| *at < len) {
            match c {
                '<' => open += 1,
                '>' => open -= 1,
                _ => {}
            }
            if open == 0 {
                let generic = text.get(..=at).filter(|name| is_type(name));
                return generic.map_or(len, str::len);
            }
        }
    }
    len
}

/// `'a'`, and the value of a character with its length in the text.
fn character(text: &str) -> Option<(u64, usize)> {
    let inner = text.strip_prefix('\'')?;
    let c = inner.chars().next()?;
    inner.get(c.len_utf8()..)?.strip_prefix('\'')?;
    Some((u64::from(u32::from(c)), c.len_utf8() + 2))
}

/// A number: decimal, hexadecimal or octal, with C's suffixes.
fn number(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(['u', 'U', 'l', 'L']);
    if let Some(digits) = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        return u64::from_str_radix(digits, 16).ok();
    }
    match digits.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => digits.parse().ok(),
    }
}

struct Parser<'a> {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// Bytes of the text.
    end: usize,
    is_type: &'a dyn Fn(&str) -> bool,
    /// Operators, members and indices so far.
    nodes: usize,
}

impl Parser<'_> {
    fn wrong(&self, reason: &str) -> EvalError {
        EvalError::Syntax {
            at: self.tokens.get(self.at).map_or(self.end, |(at, _)| *at),
            reason: reason.to_owned(),
        }
    }

    /// Counts an operator, a member or an index.
    fn count(&mut self) -> Result<(), EvalError> {
        self.nodes += 1;
        match self.nodes > MAX_NODES {
            true => Err(self.wrong("too many operators and members")),
            false => Ok(()),
        }
    }

    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token)
    }

    /// Takes a sign if it is next.
    fn take(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(0), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), EvalError> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.wrong(&format!("{sign} is missing")))
    }

    fn name(&mut self) -> Result<String, EvalError> {
        match self.peek(0) {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.wrong("a name is missing")),
        }
    }

    /// Operators that bind at least as strong as `weakest`, a position in [`LEVELS`].
    fn binary(&mut self, weakest: usize, depth: usize) -> Result<Expr, EvalError> {
        let mut left = self.unary(depth)?;
        while let Some(Token::Sign(next)) = self.peek(0)
            && let Some(level) = LEVELS.iter().position(|signs| signs.contains(next))
            && level >= weakest
        {
            let operator = *next;
            self.at += 1;
            self.count()?;
            let right = self.binary(level + 1, depth)?;
            left = Expr::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self, depth: usize) -> Result<Expr, EvalError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong("nested too deep"));
        }
        for sign in ["-", "~", "!", "*", "&"] {
            if self.take(sign) {
                let operand = Box::new(self.unary(depth + 1)?);
                return Ok(match sign {
                    "*" => Expr::Deref(operand),
                    "&" => Expr::AddressOf(operand),
                    "-" => Expr::Unary('-', operand),
                    "~" => Expr::Unary('~', operand),
                    _ => Expr::Unary('!', operand),
                });
            }
        }
        if self.take("+") {
            return self.unary(depth + 1);
        }
        if self.peek(0) == Some(&Token::Name("sizeof".to_owned())) {
            self.at += 1;
            if self.starts_cast() {
                self.expect("(")?;
                let type_ = self.type_name()?;
                self.expect(")")?;
                return Ok(Expr::SizeOfType(type_));
            }
            return Ok(Expr::SizeOf(Box::new(self.unary(depth + 1)?)));
        }
        if self.starts_cast() {
            self.expect("(")?;
            let type_ = self.type_name()?;
            self.expect(")")?;
            let operand = self.unary(depth + 1)?;
            return Ok(Expr::Cast(type_, Box::new(operand)));
        }
        self.postfix(depth)
    }

    /// Whether a parenthesis with a type comes next.
    fn starts_cast(&self) -> bool {
        let Some(Token::Sign("(")) = self.peek(0) else {
            return false;
        };
        match self.peek(1) {
            Some(Token::Name(name)) => {
                let name = name.as_str();
                matches!(name, "struct" | "union" | "enum")
                    || BASIC.contains(&name)
                    || QUALIFIERS.contains(&name)
                    || (self.is_type)(name)
            }
            _ => false,
        }
    }

    fn postfix(&mut self, depth: usize) -> Result<Expr, EvalError> {
        let mut value = self.primary(depth)?;
        loop {
            if matches!(self.peek(0), Some(Token::Sign("." | "->" | "["))) {
                self.count()?;
            }
            if self.take(".") || self.take("->") {
                value = Expr::Member(Box::new(value), self.name()?);
            } else if self.take("[") {
                let index = self.binary(0, depth + 1)?;
                self.expect("]")?;
                value = Expr::Index(Box::new(value), Box::new(index));
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self, depth: usize) -> Result<Expr, EvalError> {
        if self.take("(") {
            let inner = self.binary(0, depth + 1)?;
            self.expect(")")?;
            return Ok(inner);
        }
        match self.peek(0) {
            Some(Token::Number(value)) => {
                let value = *value;
                self.at += 1;
                Ok(Expr::Number(value))
            }
            Some(Token::Name(_)) => Ok(Expr::Name(self.name()?)),
            _ => Err(self.wrong("a value is missing")),
        }
    }

    /// `struct proc *`, `unsigned long`, `char [20]`.
    fn type_name(&mut self) -> Result<TypeName, EvalError> {
        let mut words: Vec<String> = Vec::new();
        let mut tag = Tag::Plain;
        while let Some(Token::Name(word)) = self.peek(0) {
            let word = word.clone();
            self.at += 1;
            match word.as_str() {
                "struct" => tag = Tag::Struct,
                "union" => tag = Tag::Union,
                "enum" => tag = Tag::Enum,
                qualifier if QUALIFIERS.contains(&qualifier) => {}
                _ => words.push(word),
            }
        }
        let mut pointers = 0;
        loop {
            if self.take("*") {
                pointers += 1;
            } else if matches!(self.peek(0), Some(Token::Name(word)) if QUALIFIERS.contains(&word.as_str()))
            {
                self.at += 1;
            } else {
                break;
            }
        }
        let mut dimensions = Vec::new();
        while self.take("[") {
            match self.peek(0) {
                Some(Token::Number(len)) => dimensions.push(*len),
                _ => return Err(self.wrong("the length of an array is missing")),
            }
            self.at += 1;
            self.expect("]")?;
        }
        if words.is_empty() {
            return Err(self.wrong("the name of a type is missing"));
        }
        Ok(TypeName {
            tag,
            name: basic(&words),
            pointers,
            dimensions,
        })
    }
}

/// The name that debug information gives to a type of several words: `long unsigned` is
/// `unsigned long`.
fn basic(words: &[String]) -> String {
    let has = |word: &str| words.iter().any(|known| known == word);
    if words.len() == 1 && !has("unsigned") && !has("signed")
        || words.iter().any(|word| !BASIC.contains(&word.as_str()))
    {
        return words.join(" ");
    }
    let sign = match (has("unsigned"), has("signed") && has("char")) {
        (true, _) => "unsigned ",
        (_, true) => "signed ",
        _ => "",
    };
    let longs = words.iter().filter(|word| *word == "long").count();
    let size = match longs {
        _ if has("char") => "char",
        _ if has("short") => "short",
        0 if has("double") => "double",
        1 if has("double") => "long double",
        0 => "int",
        1 => "long",
        _ => "long long",
    };
    format!("{sign}{size}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Expr {
        parse(text, &|name| name == "pid_t").unwrap()
    }

    fn name(name: &str) -> Box<Expr> {
        Box::new(Expr::Name(name.to_owned()))
    }

    #[test]
    fn operators_bind_as_in_c() {
        let product = Expr::Binary("*", name("b"), name("c"));
        assert_eq!(
            parsed("a + b * c"),
            Expr::Binary("+", name("a"), Box::new(product))
        );
        let difference = Expr::Binary("-", name("a"), name("b"));
        assert_eq!(
            parsed("a - b - c"),
            Expr::Binary("-", Box::new(difference), name("c"))
        );
        assert_eq!(
            parsed("*a.b"),
            Expr::Deref(Box::new(Expr::Member(name("a"), "b".into())))
        );
    }

    #[test]
    fn a_cast_needs_a_type() {
        let type_ = TypeName {
            tag: Tag::Struct,
            name: "proc".into(),
            pointers: 1,
            dimensions: Vec::new(),
        };
        assert_eq!(
            parsed("(struct proc *)0x10"),
            Expr::Cast(type_, Box::new(Expr::Number(16)))
        );
        assert!(matches!(parsed("(pid_t)-1"), Expr::Cast(..)));
        assert!(matches!(parsed("(allproc)-1"), Expr::Binary("-", ..)));
    }

    #[test]
    fn words_of_a_basic_type_come_in_any_order() {
        let name = |text: &str| match parsed(text) {
            Expr::SizeOfType(type_) => type_.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(name("sizeof(long unsigned int)"), "unsigned long");
        assert_eq!(name("sizeof(unsigned)"), "unsigned int");
        assert_eq!(name("sizeof(signed char)"), "signed char");
        assert_eq!(name("sizeof(unsigned long long)"), "unsigned long long");
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        let at = |text: &str| match parse(text, &|_| false) {
            Err(EvalError::Syntax { at, .. }) => at,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(at("a +"), 3);
        assert_eq!(at("a b"), 2);
        assert_eq!(at("09"), 0);
        assert_eq!(at("a[1"), 3);
        assert_eq!(at("a;b"), 1);
        at(&"(".repeat(3000));
        at(&"-".repeat(3000));
        at(&format!("a{}", ".b".repeat(1000)));
    }
}
