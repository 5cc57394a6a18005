//! From tokens to a tree, by precedence: OR, AND, `= <> IS`, `< > BETWEEN IN CONTAINS …`, `+ - NOT`, values.
//! What Java's parser refuses is refused here, and trailing tokens, which it ignores.

use super::{
    EXPRESSION_DEPTH_MAX, FilterError,
    evaluate::Value,
    lexer::{Placed, Token, tokens},
};

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Constant(Value),
    Property(String),
    Negate(Box<Node>),
    Not(Box<Node>),
    /// A property where a truth is wanted: known and never true, or unknown.
    Cast(Box<Node>),
    /// Two or more, from left to right.
    And(Vec<Node>),
    Or(Vec<Node>),
    Equal(Box<Node>, Box<Node>),
    IsNull(Box<Node>),
    Order(Ordering, Box<Node>, Box<Node>),
    /// A property among texts.
    In {
        property: String,
        texts: Vec<String>,
        not: bool,
    },
    Part {
        kind: Part,
        of: Box<Node>,
        text: String,
        not: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Contains,
    StartsWith,
    EndsWith,
}

impl Node {
    /// Whether the value is a truth by its kind.
    fn is_truth(&self) -> bool {
        match self {
            Node::Constant(value) => matches!(value, Value::Truth(_) | Value::Null),
            Node::Property(_) | Node::Negate(_) => false,
            _ => true,
        }
    }
}

pub fn parse(expression: &str) -> Result<Node, FilterError> {
    let tokens = tokens(expression)?;
    let mut parser = Parser { tokens, next: 0 };
    let (root, _) = parser.truth(Parser::or)?;
    match parser.peek() {
        Token::End => Ok(root),
        _ => Err(parser.unexpected("AND, OR or the end")),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
}

/// A node and the depth of its tree.
type Parsed = Result<(Node, usize), FilterError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    /// The token behind the next one.
    fn peek_second(&self) -> &Token {
        &self.tokens[(self.next + 1).min(self.tokens.len() - 1)].token
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn skip(&mut self) {
        // The end is never passed.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
    }

    fn take_if(&mut self, token: &Token) -> bool {
        let is_it = self.peek() == token;
        if is_it {
            self.skip();
        }
        is_it
    }

    fn want(&mut self, token: &Token, name: &str) -> Result<(), FilterError> {
        if self.take_if(token) { Ok(()) } else { Err(self.unexpected(name)) }
    }

    fn unexpected(&self, wanted: &str) -> FilterError {
        let found = &self.tokens[self.next];
        FilterError::Sql { at: found.at, reason: format!("{wanted} is expected, not {}", found.written) }
    }

    fn refuse<T>(at: usize, reason: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError::Sql { at, reason: reason.into() })
    }

    fn deeper(&self, depth: usize) -> Result<usize, FilterError> {
        if depth >= EXPRESSION_DEPTH_MAX {
            return Self::refuse(self.at(), format!("nested deeper than {EXPRESSION_DEPTH_MAX}"));
        }
        Ok(depth + 1)
    }

    /// What `parse` gives, as a truth: a property is cast, a number or text refused.
    fn truth(&mut self, parse: fn(&mut Self) -> Parsed) -> Parsed {
        let at = self.at();
        let (node, depth) = parse(self)?;
        self.as_truth(node, depth, at)
    }

    fn as_truth(&self, node: Node, depth: usize, at: usize) -> Parsed {
        match node {
            node if node.is_truth() => Ok((node, depth)),
            node @ Node::Property(_) => Ok((Node::Cast(Box::new(node)), self.deeper(depth)?)),
            _ => Self::refuse(at, "a truth is expected here, such as a comparison, not a number or a text"),
        }
    }

    fn or(&mut self) -> Parsed {
        self.chain(&Token::Or, Self::and, Node::Or)
    }

    fn and(&mut self) -> Parsed {
        self.chain(&Token::And, Self::equality, Node::And)
    }

    /// Operands of one operator; a single one stays what it is.
    fn chain(&mut self, operator: &Token, operand: fn(&mut Self) -> Parsed, join: fn(Vec<Node>) -> Node) -> Parsed {
        let at = self.at();
        let (first, depth) = operand(self)?;
        if self.peek() != operator {
            return Ok((first, depth));
        }
        let (first, mut depth) = self.as_truth(first, depth, at)?;
        let mut operands = vec![first];
        while self.take_if(operator) {
            let (node, its_depth) = self.truth(operand)?;
            depth = depth.max(its_depth);
            operands.push(node);
        }
        Ok((join(operands), self.deeper(depth)?))
    }

    fn equality(&mut self) -> Parsed {
        let start = self.at();
        let (mut left, mut depth) = self.comparison()?;
        loop {
            let not = match self.peek() {
                Token::Equal => false,
                Token::NotEqual => true,
                Token::Is => {
                    self.skip();
                    let not = self.take_if(&Token::Not);
                    self.want(&Token::Null, if not { "NULL" } else { "NULL or NOT NULL" })?;
                    depth = self.deeper(depth + usize::from(not))?;
                    left = negated(Node::IsNull(Box::new(left)), not);
                    continue;
                }
                _ => return Ok((left, depth)),
            };
            self.skip();
            let at = self.at();
            let (right, its_depth) = self.comparison()?;
            for (node, at) in [(&left, start), (&right, at)] {
                if *node == Node::Constant(Value::Null) {
                    return Self::refuse(at, "NULL equals nothing, write IS NULL or IS NOT NULL");
                }
            }
            if let (Node::Constant(Value::Truth(_)), Node::Constant(value)) = (&left, &right)
                && !matches!(value, Value::Truth(_))
            {
                return Self::refuse(at, "a truth cannot be compared with a number or a text");
            }
            depth = self.deeper(depth.max(its_depth) + usize::from(not))?;
            left = negated(Node::Equal(Box::new(left), Box::new(right)), not);
        }
    }

    fn comparison(&mut self) -> Parsed {
        let start = self.at();
        let (mut left, mut depth) = self.unary()?;
        loop {
            let not = *self.peek() == Token::Not;
            let operator = if not { self.peek_second().clone() } else { self.peek().clone() };
            let order = match operator {
                Token::Less => Some(Ordering::Less),
                Token::LessOrEqual => Some(Ordering::LessOrEqual),
                Token::Greater => Some(Ordering::Greater),
                Token::GreaterOrEqual => Some(Ordering::GreaterOrEqual),
                _ => None,
            };
            let part = match operator {
                Token::Contains => Some(Part::Contains),
                Token::StartsWith => Some(Part::StartsWith),
                Token::EndsWith => Some(Part::EndsWith),
                _ => None,
            };
            if let (Some(order), false) = (order, not) {
                self.skip();
                let at = self.at();
                let (right, its_depth) = self.unary()?;
                Self::check_ordered(&left, start)?;
                Self::check_ordered(&right, at)?;
                depth = self.deeper(depth.max(its_depth))?;
                left = Node::Order(order, Box::new(left), Box::new(right));
                continue;
            }
            if !matches!(operator, Token::Between | Token::In) && part.is_none() {
                return Ok((left, depth));
            }
            self.next += usize::from(not);
            self.skip();
            depth = self.deeper(depth)?;
            left = match part {
                Some(kind) => Node::Part { kind, of: Box::new(left), text: self.text()?, not },
                None if operator == Token::In => self.within(left, start, not)?,
                None => {
                    let (node, its_depth) = self.between(left, start, not)?;
                    depth = self.deeper(depth.max(its_depth))?;
                    node
                }
            };
        }
    }

    /// `low AND high`; becomes `left >= low AND left <= high`, or its opposite.
    fn between(&mut self, left: Node, start: usize, not: bool) -> Parsed {
        let low_at = self.at();
        let (low, low_depth) = self.unary()?;
        self.want(&Token::And, "AND")?;
        let high_at = self.at();
        let (high, high_depth) = self.unary()?;
        if let (Node::Constant(low), Node::Constant(high), false) = (&low, &high, not)
            && matches!(low.compare(high), Ok(Some(std::cmp::Ordering::Greater)))
        {
            return Self::refuse(low_at, "the lower end is above the upper end");
        }
        Self::check_ordered(&left, start)?;
        Self::check_ordered(&low, low_at)?;
        Self::check_ordered(&high, high_at)?;
        let order = |order: Ordering, bound: Node| Node::Order(order, Box::new(left.clone()), Box::new(bound));
        let node = if not {
            Node::Or(vec![order(Ordering::Less, low), order(Ordering::Greater, high)])
        } else {
            Node::And(vec![order(Ordering::GreaterOrEqual, low), order(Ordering::LessOrEqual, high)])
        };
        Ok((node, low_depth.max(high_depth)))
    }

    fn within(&mut self, left: Node, start: usize, not: bool) -> Result<Node, FilterError> {
        let mut texts = Vec::new();
        self.want(&Token::Open, "`(`")?;
        loop {
            texts.push(self.text()?);
            if !self.take_if(&Token::Comma) {
                break;
            }
        }
        self.want(&Token::Close, "`,` or `)`")?;
        match left {
            Node::Property(property) => Ok(Node::In { property, texts, not }),
            _ => Self::refuse(start, "only a property can be IN a list"),
        }
    }

    /// Only what may become a number has an order.
    fn check_ordered(node: &Node, at: usize) -> Result<(), FilterError> {
        match node {
            Node::Constant(Value::Int(_) | Value::Long(_) | Value::Double(_)) => Ok(()),
            Node::Constant(_) => Self::refuse(at, "only numbers have an order, texts and truths have none"),
            node if node.is_truth() => Self::refuse(at, "only numbers have an order, a truth has none"),
            _ => Ok(()),
        }
    }

    fn text(&mut self) -> Result<String, FilterError> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.skip();
                Ok(text)
            }
            _ => Err(self.unexpected("a text in single quotes")),
        }
    }

    /// Signs and NOTs are collected first, so that a long run of them needs no recursion.
    fn unary(&mut self) -> Parsed {
        let mut signs = Vec::new();
        while matches!(self.peek(), Token::Plus | Token::Minus | Token::Not) {
            signs.push(self.peek().clone());
            self.deeper(signs.len())?;
            self.skip();
        }
        let at = self.at();
        let (mut node, mut depth) = self.primary()?;
        for sign in signs.iter().rev() {
            (node, depth) = match sign {
                Token::Minus => (Node::Negate(Box::new(node)), self.deeper(depth)?),
                Token::Not => {
                    let (truth, depth) = self.as_truth(node, depth, at)?;
                    (negated(truth, true), self.deeper(depth)?)
                }
                _ => (node, depth),
            };
        }
        Ok((node, depth))
    }

    fn primary(&mut self) -> Parsed {
        let node = match self.peek().clone() {
            Token::Text(text) => Node::Constant(Value::Text(text)),
            Token::Int(number) => Node::Constant(Value::Int(number)),
            Token::Long(number) => Node::Constant(Value::Long(number)),
            Token::Double(number) => Node::Constant(Value::Double(number)),
            Token::True => Node::Constant(Value::Truth(true)),
            Token::False => Node::Constant(Value::Truth(false)),
            Token::Null => Node::Constant(Value::Null),
            Token::Name(name) => Node::Property(name),
            Token::Open => return self.parenthesis(),
            _ => return Err(self.unexpected("a property, a number, a text or `(`")),
        };
        self.skip();
        Ok((node, 1))
    }

    fn parenthesis(&mut self) -> Parsed {
        // The parser itself recurses only here: the number of open parentheses bounds its stack.
        let open = self.tokens[..self.next].iter().fold(0usize, |open, placed| match placed.token {
            Token::Open => open + 1,
            Token::Close => open.saturating_sub(1),
            _ => open,
        });
        self.deeper(open)?;
        self.skip();
        let (node, depth) = self.or()?;
        self.want(&Token::Close, "`)`")?;
        Ok((node, depth))
    }
}

fn negated(node: Node, not: bool) -> Node {
    if not { Node::Not(Box::new(node)) } else { node }
}
