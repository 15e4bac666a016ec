//! Templates are found, come back from bytes, and do no harm whatever they say.

use super::eval::{Scope, Work};
use super::shape::{put, put_len};
use super::{Derived, Shape, Templates, Wanted, find};
use crate::store::{Spill, Store};
use crate::table::{Block, Kind};
use crate::wire::Input;
use proptest::prelude::*;
use sparse_core::{CancelToken, Inline, Workers};

const TEXT: Shape = Shape::Leaf(Kind::Text);

fn spill() -> Spill {
    Spill { budget: 1 << 22, folder: None }
}

/// Returns a store of these columns.
fn store(kinds: &[Kind], columns: &[Vec<Option<Vec<u8>>>]) -> Store {
    let mut block = Block::new(kinds.iter().copied());
    for (column, cells) in block.columns.iter_mut().zip(columns) {
        cells.iter().for_each(|cell| column.push(cell.as_deref()).unwrap());
    }
    block.rows = columns.first().map_or(0, Vec::len);
    let mut store = Store::new(kinds.to_vec(), spill(), true);
    let hashes = Store::hash(&block);
    store.push(block, hashes).unwrap();
    store.close().unwrap();
    store
}

/// Returns a text of words that depend on the row, and on what it is for.
fn words(row: usize, what: usize) -> String {
    let word = |i: usize| {
        const WORDS: [&str; 12] = [
            "river", "seven", "bread", "train", "answer", "window", "yellow", "garden", "number",
            "winter", "paper", "stone",
        ];
        let n = (row * 31 + what * 17 + i * i * 7 + row * i) % 4093;
        format!("{}{}", WORDS[n % WORDS.len()], n / 97)
    };
    (0..12).map(word).collect::<Vec<_>>().join(" ")
}

/// A nested value.
enum Nested {
    Text(String),
    List(Vec<Nested>),
    Struct(Vec<Nested>),
}

fn nested(value: &Nested) -> Vec<u8> {
    let mut out = Vec::new();
    let children = match value {
        Nested::Text(text) => return text.clone().into_bytes(),
        Nested::List(items) => {
            put_len(&mut out, items.len());
            items
        }
        Nested::Struct(fields) => fields,
    };
    children.iter().for_each(|child| put(&mut out, false, Some(&nested(child))));
    out
}

fn messages(pairs: &[(&str, String)]) -> Nested {
    let message = |(role, text): &(&str, String)| {
        Nested::Struct(vec![Nested::Text((*role).into()), Nested::Text(text.clone())])
    };
    Nested::List(pairs.iter().map(message).collect())
}

fn messages_shape() -> Shape {
    Shape::List(Box::new(Shape::Struct(vec![TEXT, TEXT])))
}

/// Rows of the tables; the derivative has every third row of the base, from the last one on.
const ROWS: usize = 240;

fn kept() -> impl Iterator<Item = usize> {
    (0..ROWS).rev().step_by(3)
}

/// A column: its shape, and the cell of each row.
type Cells<'a> = (Shape, &'a dyn Fn(usize) -> Option<Vec<u8>>);

/// Finds the template of one column, and returns the share of cells that it makes. The template is
/// written and read on the way.
fn share(base: &[Cells<'_>], target: Cells<'_>) -> f64 {
    let kind = |shape: &Shape| match shape {
        Shape::Leaf(kind) => *kind,
        _ => Kind::Bytes,
    };
    let kinds: Vec<Kind> = base.iter().map(|(shape, _)| kind(shape)).collect();
    let columns: Vec<_> = base.iter().map(|(_, f)| (0..ROWS).map(f).collect()).collect();
    let shapes: Vec<Shape> = base.iter().map(|(shape, _)| shape.clone()).collect();
    let base = store(&kinds, &columns);
    let cells: Vec<_> = kept().map(target.1).collect();
    let derivative = store(&[kind(&target.0)], std::slice::from_ref(&cells));
    let cancel = CancelToken::new();
    let wanted = Wanted {
        base: &base,
        derivative: &derivative,
        base_shapes: &shapes,
        shapes: &[target.0],
        columns: &[0],
        workers: Workers { cancel: &cancel, executor: &Inline },
    };
    let (templates, of) = find(&wanted).unwrap();
    if of.is_empty() {
        return 0.0;
    }
    let mut bytes = Vec::new();
    templates.put(&mut bytes);
    let mut input = Input(&bytes);
    let back = Templates::take(&mut input, kinds.len()).unwrap();
    input.end().unwrap();
    assert_eq!(back, templates);
    let mut block = Block::new(kinds.iter().copied().chain(back.kinds()));
    base.copy(0, ROWS as u64, &mut block).unwrap();
    back.extend(&mut block, kinds.len(), |_| true).unwrap();
    let made = block.columns.last().unwrap();
    let right = kept().zip(&cells).filter(|(row, cell)| made.get(*row) == cell.as_deref()).count();
    right as f64 / cells.len() as f64
}

fn text(f: impl Fn(usize) -> String) -> impl Fn(usize) -> Option<Vec<u8>> {
    move |row| Some(f(row).into_bytes())
}

#[test]
fn text_is_wrapped() {
    let (q, a) = (text(|i| words(i, 0)), text(|i| words(i, 1)));
    let base: [Cells<'_>; 2] = [(TEXT, &q), (TEXT, &a)];
    let plain = text(|i| format!("Question: {}\n\nAnswer: {}</s>", words(i, 0), words(i, 1)));
    assert_eq!(share(&base, (TEXT, &plain)), 1.0);
    let loud = text(|i| format!("{}: {}", words(i, 1).to_uppercase(), words(i, 0)));
    assert_eq!(share(&base, (TEXT, &loud)), 1.0);
    // Some cells are edited after that.
    let edited = text(|i| match i % 4 {
        0 => format!("Question: {} Edited.\n\nAnswer: {}", words(i, 7), words(i, 1)),
        _ => format!("Question: {}\n\nAnswer: {}", words(i, 0), words(i, 1)),
    });
    let found = share(&base, (TEXT, &edited));
    assert!((0.7..0.8).contains(&found), "{found}");
    // Other text has no template.
    assert_eq!(share(&base, (TEXT, &text(|i| words(i, 9)))), 0.0);
}

#[test]
fn text_is_wrapped_in_one_of_two_ways() {
    let some = |i: usize| if i.is_multiple_of(3) { String::new() } else { words(i, 2) };
    let (q, a, input) = (text(|i| words(i, 0)), text(|i| words(i, 1)), text(some));
    let base: [Cells<'_>; 3] = [(TEXT, &q), (TEXT, &input), (TEXT, &a)];
    let wrapped = text(|i| match some(i) {
        input if input.is_empty() => {
            format!("### Task:\n{}\n### Response:\n{}", words(i, 0), words(i, 1))
        }
        input => format!(
            "### Task:\n{}\n### Input:\n{input}\n### Response:\n{}",
            words(i, 0),
            words(i, 1)
        ),
    });
    assert_eq!(share(&base, (TEXT, &wrapped)), 1.0);
}

#[test]
fn text_is_unwrapped() {
    let whole = text(|i| format!("Question: {}\n\nAnswer: {}", words(i, 0), words(i, 1)));
    let base: [Cells<'_>; 1] = [(TEXT, &whole)];
    assert_eq!(share(&base, (TEXT, &text(|i| words(i, 0)))), 1.0);
    assert_eq!(share(&base, (TEXT, &text(|i| words(i, 1)))), 1.0);
}

#[test]
fn labels_and_short_texts() {
    let names = ["world", "sports", "business"];
    let label = |i: usize| Some(((i * 7 % 3) as i64).to_le_bytes().to_vec());
    let (q, name) = (text(|i| words(i, 0)), text(|i| format!("N{}", i % 11)));
    let base: [Cells<'_>; 3] =
        [(TEXT, &q), (Shape::Leaf(Kind::Int { width: 8, signed: true }), &label), (TEXT, &name)];
    let prompt = text(|i| {
        format!(
            "{} asks: {}\nTopic: {}!",
            format_args!("N{}", i % 11),
            words(i, 0),
            names[i * 7 % 3]
        )
    });
    assert_eq!(share(&base, (TEXT, &prompt)), 1.0);
}

#[test]
fn text_is_nested_and_flattened() {
    let (q, a) = (text(|i| words(i, 0)), text(|i| words(i, 1)));
    let columns: [Cells<'_>; 2] = [(TEXT, &q), (TEXT, &a)];
    let chat =
        |i: usize| Some(nested(&messages(&[("user", words(i, 0)), ("assistant", words(i, 1))])));
    assert_eq!(share(&columns, (messages_shape(), &chat)), 1.0);
    let chats: [Cells<'_>; 1] = [(messages_shape(), &chat)];
    assert_eq!(share(&chats, (TEXT, &a)), 1.0);
}

/// Returns a chat of two or four messages, with these roles.
fn chat(row: usize, roles: [&'static str; 2]) -> Vec<(&'static str, String)> {
    (0..2 + row % 2 * 2).map(|k| (roles[k % 2], words(row, k))).collect()
}

#[test]
fn chats_are_renamed_and_rendered() {
    let human = |i: usize| Some(nested(&messages(&chat(i, ["human", "gpt"]))));
    let base: [Cells<'_>; 1] = [(messages_shape(), &human)];
    let with_system = |i: usize| {
        let mut all = vec![("system", "You help.".to_owned())];
        all.extend(chat(i, ["user", "assistant"]));
        Some(nested(&messages(&all)))
    };
    assert_eq!(share(&base, (messages_shape(), &with_system)), 1.0);
    let rendered = text(|i| {
        let turn = |(role, text): (&str, String)| match role {
            "human" => format!("[INST] {text} [/INST]"),
            _ => format!(" {text} </s>"),
        };
        format!("<s>{}", chat(i, ["human", "gpt"]).into_iter().map(turn).collect::<String>())
    });
    assert_eq!(share(&base, (TEXT, &rendered)), 1.0);
}

#[test]
fn chats_lose_their_ends() {
    let whole = |i: usize| {
        let mut all = vec![("system", words(i, 11))];
        all.extend(chat(i, ["user", "assistant"]));
        all
    };
    let base = |i: usize| Some(nested(&messages(&whole(i))));
    let base: [Cells<'_>; 1] = [(messages_shape(), &base)];
    let prompt = |i: usize| Some(nested(&messages(&whole(i)[..whole(i).len() - 1])));
    assert_eq!(share(&base, (messages_shape(), &prompt)), 1.0);
    let turns = |i: usize| Some(nested(&messages(&whole(i)[1..])));
    assert_eq!(share(&base, (messages_shape(), &turns)), 1.0);
    let completion = text(|i| format!(" {}", whole(i).last().unwrap().1));
    assert_eq!(share(&base, (TEXT, &completion)), 1.0);
}

#[test]
fn what_a_template_lacks_is_null() {
    let shapes = [(0, messages_shape())];
    let mut block = Block::new([Kind::Bytes, Kind::Text]);
    block.columns[0].push(Some(&[9, 9, 9])).unwrap();
    block.rows = 1;
    let place = super::node::Place { column: Some(0), steps: vec![0, 1] };
    let node = super::Node::Same(place);
    let work = Work::new(1 << 20);
    let scope = Scope::new(&block.columns[..1], &shapes, 0, &work);
    assert_eq!(node.write(&scope, &mut Vec::new(), 100), None);
    let derived = vec![Derived { kind: Kind::Text, node }];
    let templates = Templates { derived, shapes: shapes.to_vec() };
    templates.extend(&mut block, 1, |_| true).unwrap();
    assert_eq!(block.columns[1].get(0), None);
}

/// A template of 300 KB that would do a thousand million comparisons a row.
#[test]
fn templates_do_no_more_than_they_may() {
    use super::node::{Node, Part, Place};
    let place = Place { column: Some(0), steps: Vec::new() };
    let table: Vec<_> = (0..30_000u32).map(|i| (i.to_le_bytes().to_vec(), Vec::new())).collect();
    let part = Part::Lookup(place, table);
    let node = Node::Text(vec![part; 4]);
    let templates =
        Templates { derived: vec![Derived { kind: Kind::Text, node }], shapes: Vec::new() };
    let mut block = Block::new([Kind::Text; 2]);
    for _ in 0..200_000 {
        block.columns[0].push(Some(&29_999u32.to_le_bytes())).unwrap();
    }
    block.rows = 200_000;
    let start = std::time::Instant::now();
    templates.extend(&mut block, 1, |_| true).unwrap();
    assert_eq!((block.columns[1].get(0), block.columns[1].get(199_999)), (Some(&b""[..]), None));
    assert!(start.elapsed().as_secs() < 60);
}

proptest! {
    #[test]
    fn templates_of_random_bytes(bytes in prop::collection::vec(0u8..8, 0..60), cell: Vec<u8>) {
        for head in [&[][..], &[1, 1, 0, 1, 2, 2, 0, 4, 0, 4, 4]] {
            let all = [head, &bytes].concat();
            let Ok(templates) = Templates::take(&mut Input(&all), 1) else { continue };
            let mut back = Vec::new();
            templates.put(&mut back);
            prop_assert_eq!(&Templates::take(&mut Input(&back), 1).unwrap(), &templates);
            let mut block = Block::new([Kind::Bytes].into_iter().chain(templates.kinds()));
            block.columns[0].push(Some(&cell)).unwrap();
            block.rows = 1;
            templates.extend(&mut block, 1, |_| true).unwrap();
        }
    }
}
