//! The directory tree twice: as the process sees it, and as it would be found after a power cut. What lies between is
//! a list of operations that no directory sync has covered yet.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::dice::Dice;

/// A file's identity, whatever its names.
pub type Inode = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Dir,
    File(Inode),
}

/// A path with a zero byte before each of its parts: those below a directory follow it in the order of bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    fn of(path: &Path) -> Name {
        let text = path.to_str().expect("the names of the store are text");
        Name(if text == "/" { String::new() } else { text.replace('/', "\0") })
    }

    pub fn path(&self) -> PathBuf {
        self.0.replace('\0', "/").into()
    }

    fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    fn is_child_of(&self, directory: &Name) -> bool {
        self.rest(directory).is_some_and(|rest| rest.rfind('\0') == Some(0))
    }

    fn parent(&self) -> Name {
        Name(self.0[..self.0.rfind('\0').unwrap_or(0)].to_owned())
    }

    /// What follows `directory` in a name at or below it.
    fn rest(&self, directory: &Name) -> Option<&str> {
        self.0.strip_prefix(&directory.0).filter(|rest| rest.is_empty() || rest.starts_with('\0'))
    }
}

#[derive(Clone, Debug)]
enum Change {
    Add(Name, Node),
    Remove(Name),
    /// One step: after a power cut both names are as before or both are as after.
    Rename(Name, Name),
}

pub type Tree = BTreeMap<Name, Node>;

#[derive(Default)]
pub struct Names {
    seen: Tree,
    durable: Tree,
    /// In order; each already applied to `seen`.
    pending: Vec<Change>,
}

impl Change {
    fn touches_child_of(&self, directory: &Name) -> bool {
        self.names().any(|name| name.is_child_of(directory))
    }

    fn names(&self) -> impl Iterator<Item = &Name> {
        let (first, second) = match self {
            Change::Add(name, _) | Change::Remove(name) => (name, None),
            Change::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether the order of the two matters.
    fn meets(&self, other: &Change) -> bool {
        self.names().any(|mine| other.names().any(|theirs| mine == theirs))
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Change::Add(name, node) => {
                tree.insert(name.clone(), *node);
            }
            Change::Remove(name) => {
                tree.remove(name);
            }
            Change::Rename(from, to) => {
                let moved: Vec<Name> = below(tree, from).map(|(name, _)| name.clone()).collect();
                for name in moved {
                    let node = tree.remove(&name).expect("it was listed a line above");
                    let rest = name.rest(from).expect("it is at or below it");
                    tree.insert(Name(format!("{}{rest}", to.0)), node);
                }
            }
        }
    }
}

/// Everything at or below `directory`, parents first.
fn below<'t>(tree: &'t Tree, directory: &'t Name) -> impl Iterator<Item = (&'t Name, &'t Node)> {
    tree.range(directory..).take_while(|(name, _)| name.rest(directory).is_some())
}

impl Names {
    pub fn get(&self, path: &Path) -> Option<Node> {
        let name = Name::of(path);
        if name.is_root() { Some(Node::Dir) } else { self.seen.get(&name).copied() }
    }

    pub fn add(&mut self, path: &Path, node: Node) {
        self.change(Change::Add(Name::of(path), node));
    }

    pub fn remove(&mut self, path: &Path) {
        self.change(Change::Remove(Name::of(path)));
    }

    pub fn rename(&mut self, from: &Path, to: &Path) {
        self.change(Change::Rename(Name::of(from), Name::of(to)));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Everything at or below `directory`, parents first.
    pub fn below(&self, directory: &Path) -> Vec<(PathBuf, Node)> {
        below(&self.seen, &Name::of(directory)).map(|(name, node)| (name.path(), *node)).collect()
    }

    pub fn children(&self, directory: &Path) -> Vec<(PathBuf, Node)> {
        let directory = Name::of(directory);
        let children = below(&self.seen, &directory).filter(|(name, _)| name.is_child_of(&directory));
        children.map(|(name, node)| (name.path(), *node)).collect()
    }

    /// Makes the names in `directory` durable, with whatever must have happened before them.
    pub fn sync(&mut self, directory: &Path) {
        let directory = &Name::of(directory);
        let mut needed: Vec<bool> = self.pending.iter().map(|change| change.touches_child_of(directory)).collect();
        for later in (0..self.pending.len()).rev() {
            if needed[later] {
                for (needed, earlier) in needed.iter_mut().zip(&self.pending[..later]) {
                    *needed |= earlier.meets(&self.pending[later]);
                }
            }
        }
        let mut at = 0;
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            at += 1;
            if needed[at - 1] {
                change.apply(durable);
            }
            !needed[at - 1]
        });
    }

    /// Whether the name, which is there, and its directories would survive a power cut.
    pub fn is_durable(&self, path: &Path) -> bool {
        let name = Name::of(path);
        !self.pending.iter().flat_map(Change::names).any(|changed| name.rest(changed).is_some())
    }

    /// How many changes a power cut may still take back.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// What a power cut leaves: the durable names and, of the pending changes, either the first few (a journal) or any
    /// subset that keeps the order of changes to one name. Then names whose directory is gone go too.
    pub fn power_loss(&mut self, dice: &mut Dice) {
        let pending = std::mem::take(&mut self.pending);
        let mut kept: Vec<bool> = vec![false; pending.len()];
        if dice.coin() {
            kept[..dice.below(pending.len() as u64 + 1) as usize].fill(true);
        } else {
            for at in 0..pending.len() {
                kept[at] = dice.coin() && (0..at).all(|earlier| kept[earlier] || !pending[earlier].meets(&pending[at]));
            }
        }
        for (change, kept) in pending.iter().zip(kept) {
            if kept {
                change.apply(&mut self.durable);
            }
        }
        let mut reachable = Tree::new();
        for (name, node) in &self.durable {
            let parent = name.parent();
            if parent.is_root() || reachable.get(&parent) == Some(&Node::Dir) {
                reachable.insert(name.clone(), *node);
            }
        }
        self.seen = reachable.clone();
        self.durable = reachable;
    }

    /// Every file that some tree or pending change still names.
    pub fn inodes(&self) -> impl Iterator<Item = Inode> + '_ {
        let named = self.seen.values().chain(self.durable.values()).copied();
        let pending = self.pending.iter().filter_map(|change| match change {
            Change::Add(_, node) => Some(*node),
            _ => None,
        });
        named.chain(pending).filter_map(|node| match node {
            Node::File(inode) => Some(inode),
            Node::Dir => None,
        })
    }

    pub fn seen(&self) -> &Tree {
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `steps`, cuts the power 200 times, and returns every set of names ever found.
    fn found(steps: impl Fn(&mut Names)) -> Vec<String> {
        let mut all = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut names = Names::default();
            names.add(Path::new("/d"), Node::Dir);
            names.sync(Path::new("/"));
            steps(&mut names);
            names.power_loss(&mut Dice::new(seed, "names"));
            let text: Vec<String> =
                names.seen().iter().skip(1).map(|(name, node)| format!("{}={node:?}", name.path().display())).collect();
            all.insert(text.join(" "));
        }
        all.into_iter().collect()
    }

    #[test]
    fn what_a_power_cut_may_leave() {
        let path = Path::new;
        assert_eq!(found(|names| names.add(path("/d/a"), Node::File(1))), ["", "/d/a=File(1)"]);
        assert_eq!(
            found(|names| {
                names.add(path("/d/a"), Node::File(1));
                names.sync(path("/d"));
            }),
            ["/d/a=File(1)"]
        );
        // The directory sync is of another directory.
        assert_eq!(
            found(|names| {
                names.add(path("/d/a"), Node::File(1));
                names.sync(path("/"));
            }),
            ["", "/d/a=File(1)"]
        );
        // A rename over an old file: old or new, never nothing.
        assert_eq!(
            found(|names| {
                names.add(path("/d/a"), Node::File(1));
                names.add(path("/d/t"), Node::File(2));
                names.sync(path("/d"));
                names.rename(path("/d/t"), path("/d/a"));
            }),
            ["/d/a=File(1) /d/t=File(2)", "/d/a=File(2)"]
        );
        // A file in a directory whose own name was never synced goes with it.
        assert_eq!(
            found(|names| {
                names.add(path("/d/e"), Node::Dir);
                names.add(path("/d/e/f"), Node::File(1));
                names.sync(path("/d/e"));
            }),
            ["", "/d/e=Dir /d/e/f=File(1)"]
        );
    }
}
