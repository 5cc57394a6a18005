//! The value of an expression for a message's properties: three-valued, with Java's conversions between types.

use std::cmp::Ordering as Order;

use super::{
    number,
    parser::{Node, Ordering, Part},
};

/// Properties are texts; the rest comes from literals and comparisons.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Truth(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(String),
}

/// The evaluation cannot go on: a text is compared with a number and is none, or a truth with a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

/// A value that does not own its text.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen<'a> {
    Null,
    Truth(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

impl Value {
    fn seen(&self) -> Seen<'_> {
        match self {
            Value::Null => Seen::Null,
            Value::Truth(truth) => Seen::Truth(*truth),
            Value::Int(number) => Seen::Int(*number),
            Value::Long(number) => Seen::Long(*number),
            Value::Double(number) => Seen::Double(*number),
            Value::Text(text) => Seen::Text(text),
        }
    }

    /// How `self` compares with `other`; `None` where they never can.
    pub(super) fn compare(&self, other: &Value) -> Result<Option<Order>, Failed> {
        compare(self.seen(), other.seen())
    }
}

type Properties<'p, 'a> = &'p dyn Fn(&str) -> Option<&'a str>;

/// The truth of a whole expression; `None` is unknown.
pub fn truth<'a>(node: &Node, properties: Properties<'_, 'a>) -> Result<Option<bool>, Failed> {
    Ok(match evaluate(node, properties)? {
        Seen::Truth(truth) => Some(truth),
        Seen::Null => None,
        // The parser lets only truths stand where one is wanted.
        Seen::Int(_) | Seen::Long(_) | Seen::Double(_) | Seen::Text(_) => Some(false),
    })
}

fn evaluate<'v, 'a: 'v>(node: &'v Node, properties: Properties<'_, 'a>) -> Result<Seen<'v>, Failed> {
    let unknown_or = |truth: Option<bool>| truth.map_or(Seen::Null, Seen::Truth);
    Ok(match node {
        Node::Constant(value) => value.seen(),
        Node::Property(name) => properties(name).map_or(Seen::Null, Seen::Text),
        Node::Negate(of) => match evaluate(of, properties)? {
            Seen::Int(number) => Seen::Int(number.wrapping_neg()),
            Seen::Long(number) => Seen::Long(number.wrapping_neg()),
            Seen::Double(number) => Seen::Double(-number),
            // A property stays a text; its sign cannot be changed.
            Seen::Null | Seen::Truth(_) | Seen::Text(_) => Seen::Null,
        },
        Node::Not(of) => unknown_or(truth(of, properties)?.map(|truth| !truth)),
        Node::Cast(of) => match evaluate(of, properties)? {
            Seen::Null => Seen::Null,
            _ => Seen::Truth(false),
        },
        Node::And(operands) => unknown_or(all(operands, true, properties)?),
        Node::Or(operands) => unknown_or(all(operands, false, properties)?),
        Node::IsNull(of) => Seen::Truth(evaluate(of, properties)? == Seen::Null),
        Node::Equal(left, right) => unknown_or(equal(evaluate(left, properties)?, evaluate(right, properties)?)?),
        Node::Order(order, left, right) => match evaluate(left, properties)? {
            Seen::Null => Seen::Null,
            left => match evaluate(right, properties)? {
                Seen::Null => Seen::Null,
                right => Seen::Truth(ordered(*order, left, right)?),
            },
        },
        Node::In { property, texts, not } => {
            unknown_or(properties(property).map(|value| texts.iter().any(|text| text == value) != *not))
        }
        Node::Part { kind, of, text, not } => {
            let Seen::Text(value) = evaluate(of, properties)? else { return Ok(Seen::Truth(false)) };
            let is_part = match kind {
                Part::Contains => value.contains(text.as_str()),
                Part::StartsWith => value.starts_with(text.as_str()),
                Part::EndsWith => value.ends_with(text.as_str()),
            };
            // An empty text is part of nothing, and not "not part" of anything either.
            Seen::Truth(!text.is_empty() && is_part != *not)
        }
    })
}

/// AND (`neutral` true) or OR (`neutral` false) from left to right, ending early at the deciding value.
fn all<'a>(operands: &[Node], neutral: bool, properties: Properties<'_, 'a>) -> Result<Option<bool>, Failed> {
    let mut result = Some(neutral);
    for operand in operands {
        match truth(operand, properties)? {
            Some(truth) if truth != neutral => return Ok(Some(truth)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

/// Two unknowns are equal; a known left is not equal to an unknown right; an unknown left leaves it unknown.
fn equal(left: Seen<'_>, right: Seen<'_>) -> Result<Option<bool>, Failed> {
    match (left, right) {
        (Seen::Null, Seen::Null) => Ok(Some(true)),
        (Seen::Null, _) => Ok(None),
        (_, Seen::Null) => Ok(Some(false)),
        (left, right) => Ok(Some(compare(left, right)? == Some(Order::Equal))),
    }
}

fn ordered(wanted: Ordering, left: Seen<'_>, right: Seen<'_>) -> Result<bool, Failed> {
    let order = match (left, right) {
        (Seen::Text(left), Seen::Text(right)) => {
            Some(number::compare(number::double(left).ok_or(Failed)?, number::double(right).ok_or(Failed)?))
        }
        (left, right) => compare(left, right)?,
    };
    // What cannot be compared counts as less.
    let order = order.unwrap_or(Order::Less);
    Ok(match wanted {
        Ordering::Less => order.is_lt(),
        Ordering::LessOrEqual => order.is_le(),
        Ordering::Greater => order.is_gt(),
        Ordering::GreaterOrEqual => order.is_ge(),
    })
}

/// A text becomes what the other side is; of two kinds of numbers the wider is taken.
fn compare(left: Seen<'_>, right: Seen<'_>) -> Result<Option<Order>, Failed> {
    use Seen::{Double, Int, Long, Null, Text, Truth};
    let order = match (left, right) {
        (Text(a), Text(b)) => java_text_order(a, b),
        (Int(a), Int(b)) => a.cmp(&b),
        (Int(a), Text(b)) => a.cmp(&number::int(b).ok_or(Failed)?),
        (Text(a), Int(b)) => number::int(a).ok_or(Failed)?.cmp(&b),
        (Long(a), Long(b)) => a.cmp(&b),
        (Int(a), Long(b)) => i64::from(a).cmp(&b),
        (Long(a), Int(b)) => a.cmp(&i64::from(b)),
        (Long(a), Text(b)) => a.cmp(&number::long(b).ok_or(Failed)?),
        (Text(a), Long(b)) => number::long(a).ok_or(Failed)?.cmp(&b),
        (Double(a), Double(b)) => number::compare(a, b),
        (Double(a), Int(b)) => number::compare(a, b.into()),
        (Int(a), Double(b)) => number::compare(a.into(), b),
        (Double(a), Long(b)) => number::compare(a, b as f64),
        (Long(a), Double(b)) => number::compare(a as f64, b),
        (Double(a), Text(b)) => number::compare(a, number::double(b).ok_or(Failed)?),
        (Text(a), Double(b)) => number::compare(number::double(a).ok_or(Failed)?, b),
        (Truth(a), Truth(b)) => a.cmp(&b),
        (Text(a), Truth(b)) => a.eq_ignore_ascii_case("true").cmp(&b),
        // Java trips over its own cast here.
        (Truth(_), Text(_)) => return Err(Failed),
        (Truth(_), Int(_) | Long(_) | Double(_)) | (Int(_) | Long(_) | Double(_), Truth(_)) => return Ok(None),
        (Null, _) | (_, Null) => return Ok(None),
    };
    Ok(Some(order))
}

/// By UTF-16 units.
fn java_text_order(a: &str, b: &str) -> Order {
    a.encode_utf16().cmp(b.encode_utf16())
}
