//! What templates consist of.

use crate::cells::Rule;

/// The way to a value of the base's row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Column of the base; `None` for the item of the list that is being gone through.
    pub(crate) column: Option<usize>,
    /// Numbers of the fields and items that lead to it; from [`FROM_END`] on, items are counted
    /// from a list's last one.
    pub(crate) steps: Vec<usize>,
}

/// Step to the last item of a list.
pub(crate) const FROM_END: usize = 1 << 30;

/// Pairs of a text of the base and what is made of it.
pub(crate) type Table = Vec<(Vec<u8>, Vec<u8>)>;

/// How a value is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// This value, or null.
    Constant(Option<Vec<u8>>),
    /// A value of the base, as it is.
    Same(Place),
    /// By the text of a value of the base, one of these values.
    Lookup(Place, Table),
    /// Parts one after the other. A single part that is null makes a null.
    Text(Vec<Part>),
    /// Fields; each with whether its values are of one length.
    Struct(Vec<(bool, Node)>),
    /// Items of their own, then one for each item of a list of the base.
    List { fixed: bool, head: Vec<Node>, each: Option<Each> },
    /// The first where a value of the base is null or empty, else the second.
    Choice(Place, Box<Node>, Box<Node>),
}

/// How each item of a list is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Each {
    pub(crate) list: Place,
    /// Items at the front and at the back of the list that are left out.
    pub(crate) skip: (usize, usize),
    pub(crate) node: Box<Node>,
}

/// Part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Literal(Vec<u8>),
    /// The text of a value.
    Value(Place, Rule),
    /// One of these texts, by the text of a value.
    Lookup(Place, Table),
    Cut(Cut),
    Join(Join),
}

/// The text of a value between two others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) place: Place,
    /// Begins behind the first occurrence of this.
    pub(crate) after: Vec<u8>,
    /// Ends before the next occurrence of this; before the last one if `last`. Nothing is the end.
    pub(crate) before: Vec<u8>,
    pub(crate) last: bool,
}

/// A text of each item of a list, with texts between that depend on the two items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) list: Place,
    /// Steps from an item to its text.
    pub(crate) value: Vec<usize>,
    /// Steps from an item to what the texts between depend on, such as its role.
    pub(crate) key: Option<Vec<usize>>,
    /// (key of the item before, key of the item after, text); `None` at the ends.
    pub(crate) between: Vec<(Key, Key, Vec<u8>)>,
}

/// What the texts between items depend on; `None` before the first item and behind the last.
pub(crate) type Key = Option<Vec<u8>>;

impl Node {
    /// Adds the base's columns that it uses, each once.
    pub(crate) fn columns(&self, out: &mut Vec<usize>) {
        self.places(&mut |place| {
            if let Some(column) = place.column.filter(|c| !out.contains(c)) {
                out.push(column);
            }
        });
    }

    /// Calls `f` with every place.
    pub(crate) fn places(&self, f: &mut impl FnMut(&Place)) {
        match self {
            Node::Constant(_) => {}
            Node::Same(place) | Node::Lookup(place, _) => f(place),
            Node::Text(parts) => parts.iter().for_each(|part| match part {
                Part::Literal(_) => {}
                Part::Value(place, _) | Part::Lookup(place, _) => f(place),
                Part::Cut(cut) => f(&cut.place),
                Part::Join(join) => f(&join.list),
            }),
            Node::Struct(fields) => fields.iter().for_each(|(_, node)| node.places(f)),
            Node::List { head, each, .. } => {
                head.iter().for_each(|node| node.places(f));
                if let Some(each) = each {
                    f(&each.list);
                    each.node.places(f);
                }
            }
            Node::Choice(place, empty, other) => {
                f(place);
                empty.places(f);
                other.places(f);
            }
        }
    }
}
