use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GOLDEN: &str = include_str!("../../../tests/golden/filter/sql92.tsv");

/// Java stops reading where the expression could end and ignores the rest; we refuse the whole.
const TRAILING_IN_JAVA: &[&str] = &[
    "a = 5 +",
    "a = 5d",
    "a = 5f",
    "a = 0x5",
    "a = 05",
    "a = 0l",
    "a = 00",
    "x-y = 5",
    "x y = 5",
    "a = 'it's'",
    "a = 5 -- comment",
    "a = 5)",
    "a LIKE '5'",
    "a = 5 + 1",
    "a + 1 = 6",
];

fn unescaped(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r")
}

fn answer(expression: &Result<Filter, FilterError>, rows: &[BTreeMap<&str, &str>]) -> String {
    let Ok(Filter::Sql92(sql)) = expression else { return "refused".to_owned() };
    let letter = |row: &BTreeMap<&str, &str>| match sql.truth(&|name| row.get(name).copied()) {
        Ok(Some(true)) => 'T',
        Ok(Some(false)) => 'F',
        Ok(None) => 'N',
        Err(evaluate::Failed) => 'X',
    };
    rows.iter().map(letter).collect()
}

#[test]
fn sql92_answers_as_java_does() {
    let lines = || GOLDEN.lines().filter(|line| !line.starts_with("# "));
    let rows: Vec<BTreeMap<&str, &str>> = lines()
        .filter_map(|line| line.strip_prefix("properties\t"))
        .map(|row| row.split(';').filter_map(|pair| pair.split_once('=')).collect())
        .collect();
    let (mut checked, mut wrong) = (0, Vec::new());
    for line in lines().filter(|line| !line.starts_with("properties\t")) {
        let (expression, expect) = line.rsplit_once('\t').expect("expression, tab, answers");
        let filter = Filter::parse(Some("SQL92"), &unescaped(expression));
        let expect = if TRAILING_IN_JAVA.contains(&expression) { "refused" } else { expect };
        let answer = answer(&filter, &rows);
        if answer != expect {
            wrong.push(format!("{expression}\n  java {expect}\n  ours {answer} {:?}", filter.err()));
        }
        checked += rows.len();
    }
    assert!(wrong.is_empty(), "{} of {checked}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 5_000, "{checked}");
}

#[test]
fn a_bad_expression_is_told_where_and_why() {
    let check = |kind: Option<&str>, expression: &str, expect: &str| {
        let said = Filter::parse(kind, expression).map_or_else(|error| error.to_string(), |_| "fine".to_owned());
        assert_eq!(said, expect, "{expression:?}");
    };
    let sql = Some("SQL92");
    check(sql, "a > 5", "fine");
    check(sql, "", "an SQL92 expression is not empty");
    check(sql, "  ", "SQL92 expression, character 3: a property, a number, a text or `(` is expected, not the end");
    check(sql, "a >", "SQL92 expression, character 4: a property, a number, a text or `(` is expected, not the end");
    check(sql, "(a = 5", "SQL92 expression, character 7: `)` is expected, not the end");
    check(sql, "a = 5)", "SQL92 expression, character 6: AND, OR or the end is expected, not `)`");
    check(sql, "é", "SQL92 expression, character 1: 'é' has no meaning here");
    check(sql, "a = 'é' é", "SQL92 expression, character 9: 'é' has no meaning here");
    check(sql, "a = 'x", "SQL92 expression, character 5: a text that never ends");
    check(sql, "a != 5", "SQL92 expression, character 3: `!=` is written `<>`");
    check(sql, "a = \"x\"", "SQL92 expression, character 5: texts stand in single quotes");
    check(sql, "a > 'x'", "SQL92 expression, character 5: only numbers have an order, texts and truths have none");
    check(sql, "a = NULL", "SQL92 expression, character 5: NULL equals nothing, write IS NULL or IS NOT NULL");
    check(sql, "a IN (1, 5)", "SQL92 expression, character 7: a text in single quotes is expected, not `1`");
    check(sql, "5 IN ('5')", "SQL92 expression, character 1: only a property can be IN a list");
    check(sql, "a BETWEEN 5 AND 1", "SQL92 expression, character 11: the lower end is above the upper end");
    check(sql, "a > 0.0", "SQL92 expression, character 5: 0.0 is not allowed as a floating number, write 0");
    check(
        sql,
        "5",
        "SQL92 expression, character 1: a truth is expected here, such as a comparison, not a number or a text",
    );
    check(sql, "a = 99999999999999999999", "SQL92 expression, character 5: 99999999999999999999 is beyond 64 bits");
    check(sql, "/* x", "SQL92 expression, character 1: a comment that never ends");
    check(Some("GROOVY"), "x", "expression type \"GROOVY\" is neither TAG nor SQL92");
    check(None, "||", "tag expression \"||\" holds only separators");
    check(Some("TAG"), "||||", "tag expression \"||||\" holds only separators");
    check(None, &"x".repeat(8_193), "expression of 8193 characters exceeds 8192");
}

#[test]
fn depth_is_bounded_without_recursion_running_away() {
    let check = |expression: String, is_fine: bool| {
        let start = expression.chars().take(20).collect::<String>();
        match Filter::parse(Some("SQL92"), &expression) {
            Ok(filter) => {
                assert!(is_fine, "{start} is taken");
                filter.matches(b"a\x015");
            }
            Err(error) => {
                assert!(!is_fine && error.to_string().ends_with("nested deeper than 128"), "{start}: {error}");
            }
        }
    };
    check("(".repeat(100) + "a = 5" + &")".repeat(100), true);
    check("(".repeat(4_000) + "a = 5" + &")".repeat(4_000), false);
    check("NOT ".repeat(2_000) + "a", false);
    check("-".repeat(8_000) + "5 = a", false);
    check("a".to_owned() + &" = a".repeat(2_000), false);
    check("a = a".to_owned() + &" IS NULL".repeat(900), false);
    check("a = 5".to_owned() + &" OR a = 5".repeat(900), true);
    check("a = 5".to_owned() + &" AND a = 5 OR a = 6".repeat(400), true);
}

#[test]
fn tags_are_chosen_by_code_and_by_text() {
    let check = |expression: &str, tag: Option<&str>, expect_code: bool, expect: bool| {
        let filter = Filter::parse(None, expression).unwrap();
        let stored = tag.map_or_else(String::new, |tag| format!("KEYS\u{1}k\u{2}TAGS\u{1}{tag}\u{2}"));
        assert_eq!(filter.may_match_tags_code(properties::tags_code(tag)), expect_code, "{expression:?} {tag:?}");
        assert_eq!(filter.matches(stored.as_bytes()), expect, "{expression:?} {tag:?}");
    };
    check("*", Some("a"), true, true);
    check("*", None, true, true);
    check("", Some("a"), true, true);
    check("a", Some("a"), true, true);
    check("a", Some("b"), false, false);
    check("a", None, false, false);
    check("a || b", Some("b"), true, true);
    check("a||b||", Some("b"), true, true);
    check("|| a", Some("a"), true, true);
    check("a|b", Some("a|b"), true, true);
    check("a|||b", Some("|b"), true, true);
    check("  ", Some("a"), false, false);
    check("  ", None, false, false);
    check("* || a", Some("b"), false, false);
    // Two tags with one code: only the text tells them apart.
    check("Aa", Some("BB"), true, false);
    check("Aa || BB", Some("BB"), true, true);
    // Java keeps 32 bits of the code.
    assert!(Filter::parse(None, "a").unwrap().may_match_tags_code((1 << 32) + 97));
}

#[test]
fn sql_reads_the_stored_properties() {
    let filter = Filter::parse(Some("SQL92"), "price BETWEEN 5 AND 10 AND TAGS = 'x'").unwrap();
    assert!(filter.may_match_tags_code(0) && filter.reads_properties());
    assert!(filter.matches("price\u{1}3\u{2}TAGS\u{1}x\u{2}price\u{1}7".as_bytes()));
    assert!(!filter.matches("price\u{1}7\u{2}TAGS\u{1}y".as_bytes()));
    assert!(!filter.matches(b""));
    assert!(!filter.matches(b"\xff\x01\xff\x02price"));
}

/// An expression to be written down and, by simpler rules than the evaluator's, answered.
#[derive(Debug, Clone)]
enum Sketch {
    Compare(usize, &'static str, i32),
    Same(usize, String, bool),
    Among(usize, Vec<String>, bool),
    Missing(usize, bool),
    Has(usize, &'static str, String, bool),
    Within(usize, i32, i32, bool),
    Not(Box<Sketch>),
    And(Box<Sketch>, Box<Sketch>),
    Or(Box<Sketch>, Box<Sketch>),
}

const NAMES: [&str; 3] = ["a", "b_1", "$c"];

impl Sketch {
    fn write(&self) -> String {
        let not = |not: bool| if not { "NOT " } else { "" };
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match self {
            Sketch::Compare(name, operator, number) => format!("{} {operator} {number}", NAMES[*name]),
            Sketch::Same(name, text, true) => format!("{} = {}", NAMES[*name], quoted(text)),
            Sketch::Same(name, text, false) => format!("{} <> {}", NAMES[*name], quoted(text)),
            Sketch::Among(name, texts, n) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("{} {}in ({})", NAMES[*name], not(*n), texts.join(" , "))
            }
            Sketch::Missing(name, n) => format!("{} IS {}NULL", NAMES[*name], not(*n)),
            Sketch::Has(name, what, text, n) => format!("{} {}{what} {}", NAMES[*name], not(*n), quoted(text)),
            Sketch::Within(name, low, high, n) => format!("{} {}BETWEEN {low} AND {high}", NAMES[*name], not(*n)),
            Sketch::Not(of) => format!("NOT ({})", of.write()),
            Sketch::And(a, b) => format!("({}) AND ({})", a.write(), b.write()),
            Sketch::Or(a, b) => format!("({}) OR ({})", a.write(), b.write()),
        }
    }

    /// `Err` where a text would have to be a number and is none.
    fn answer(&self, row: &[Option<String>]) -> Result<Option<bool>, ()> {
        let number = |text: &String| text.parse::<i32>().map_err(|_| ());
        Ok(match self {
            Sketch::Compare(name, operator, right) => match &row[*name] {
                None => None,
                Some(text) => {
                    let left = number(text)?;
                    Some(match *operator {
                        "=" => left == *right,
                        "<>" => left != *right,
                        "<" => left < *right,
                        "<=" => left <= *right,
                        ">" => left > *right,
                        _ => left >= *right,
                    })
                }
            },
            Sketch::Same(name, text, same) => row[*name].as_ref().map(|value| (value == text) == *same),
            Sketch::Among(name, texts, not) => row[*name].as_ref().map(|value| texts.contains(value) != *not),
            Sketch::Missing(name, not) => Some(row[*name].is_none() != *not),
            Sketch::Has(name, what, text, not) => Some(match &row[*name] {
                None => false,
                Some(_) if text.is_empty() => false,
                Some(value) => {
                    let has = match *what {
                        "CONTAINS" => value.contains(text.as_str()),
                        "STARTSWITH" => value.starts_with(text.as_str()),
                        _ => value.ends_with(text.as_str()),
                    };
                    has != *not
                }
            }),
            Sketch::Within(name, low, high, not) => match &row[*name] {
                None => None,
                Some(text) => Some((*low..=*high).contains(&number(text)?) != *not),
            },
            Sketch::Not(of) => of.answer(row)?.map(|truth| !truth),
            Sketch::And(a, b) => match a.answer(row)? {
                Some(false) => Some(false),
                a => match (a, b.answer(row)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                },
            },
            Sketch::Or(a, b) => match a.answer(row)? {
                Some(true) => Some(true),
                a => match (a, b.answer(row)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            },
        })
    }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![Just("5".to_owned()), Just("-7".to_owned()), Just("it's".to_owned()), "[a-c5ż]{0,3}"]
}

fn sketches() -> impl Strategy<Value = Sketch> {
    let operators = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let parts = prop::sample::select(vec!["CONTAINS", "STARTSWITH", "ENDSWITH"]);
    let leaf = prop_oneof![
        (0..3usize, operators, 0..10i32).prop_map(|(name, operator, right)| Sketch::Compare(name, operator, right)),
        (0..3usize, texts(), any::<bool>()).prop_map(|(name, text, same)| Sketch::Same(name, text, same)),
        (0..3usize, prop::collection::vec(texts(), 1..4), any::<bool>())
            .prop_map(|(name, texts, not)| Sketch::Among(name, texts, not)),
        (0..3usize, any::<bool>()).prop_map(|(name, not)| Sketch::Missing(name, not)),
        (0..3usize, parts, texts(), any::<bool>())
            .prop_map(|(name, what, text, not)| Sketch::Has(name, what, text, not)),
        (0..3usize, 0..6i32, 0..6i32, any::<bool>()).prop_map(|(name, low, more, not)| Sketch::Within(
            name,
            low,
            low + more,
            not
        )),
    ];
    leaf.prop_recursive(6, 32, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Sketch::Not(Box::new(of))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Sketch::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Sketch::Or(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sql92_agrees_with_a_naive_evaluator(
        sketch in sketches(),
        row in prop::collection::vec(prop::option::of(texts().prop_filter("stored", |text| !text.is_empty())), 3),
    ) {
        let written = sketch.write();
        let filter = Filter::parse(Some("SQL92"), &written).unwrap_or_else(|error| panic!("{written}: {error}"));
        let Filter::Sql92(sql) = &filter else { unreachable!("it was asked for") };
        let property = |name: &str| NAMES.iter().position(|known| *known == name).and_then(|at| row[at].as_deref());
        prop_assert_eq!(sql.truth(&property).map_err(|_| ()), sketch.answer(&row), "{}", written);
    }

    #[test]
    fn any_text_is_an_answer_or_a_refusal(text in "[a-c0-9 ()'<>=.,+\\-*/eEL\n]{0,40}|.{0,40}") {
        if let Ok(filter) = Filter::parse(Some("SQL92"), &text) {
            filter.matches("a\u{1}5\u{2}b\u{1}x\u{2}c\u{1}-1e3".as_bytes());
        }
        if let Ok(filter) = Filter::parse(None, &text) {
            filter.matches("TAGS\u{1}a".as_bytes());
        }
    }
}
