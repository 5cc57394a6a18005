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

#[derive(Clone, Debug)]
enum Change {
    Add(PathBuf, Node),
    Remove(PathBuf),
    /// One step: after a power cut both names are as before or both are as after.
    Rename(PathBuf, PathBuf),
}

pub type Tree = BTreeMap<PathBuf, Node>;

#[derive(Default)]
pub struct Names {
    seen: Tree,
    durable: Tree,
    /// In order; each already applied to `seen`.
    pending: Vec<Change>,
}

impl Change {
    fn touches_child_of(&self, directory: &Path) -> bool {
        self.paths().any(|path| path.parent() == Some(directory))
    }

    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, second) = match self {
            Change::Add(path, _) | Change::Remove(path) => (path, None),
            Change::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }

    /// Whether the order of the two matters.
    fn meets(&self, other: &Change) -> bool {
        self.paths().any(|mine| other.paths().any(|theirs| mine == theirs))
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Change::Add(path, node) => {
                tree.insert(path.clone(), *node);
            }
            Change::Remove(path) => {
                tree.remove(path);
            }
            Change::Rename(from, to) => {
                let moved: Vec<PathBuf> = tree
                    .range(from.clone()..)
                    .map(|(path, _)| path)
                    .take_while(|path| path.starts_with(from))
                    .cloned()
                    .collect();
                for path in moved {
                    let node = tree.remove(&path).expect("it was listed a line above");
                    let rest = path.strip_prefix(from).expect("it starts with it");
                    let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                    tree.insert(target, node);
                }
            }
        }
    }
}

impl Names {
    pub fn get(&self, path: &Path) -> Option<Node> {
        if path == Path::new("/") { Some(Node::Dir) } else { self.seen.get(path).copied() }
    }

    pub fn add(&mut self, path: &Path, node: Node) {
        self.change(Change::Add(path.to_owned(), node));
    }

    pub fn remove(&mut self, path: &Path) {
        self.change(Change::Remove(path.to_owned()));
    }

    pub fn rename(&mut self, from: &Path, to: &Path) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Everything at or below `directory`, parents first.
    pub fn below(&self, directory: &Path) -> Vec<(PathBuf, Node)> {
        let tree = self.seen.range(directory.to_owned()..);
        tree.take_while(|(path, _)| path.starts_with(directory)).map(|(path, node)| (path.clone(), *node)).collect()
    }

    pub fn children(&self, directory: &Path) -> Vec<(PathBuf, Node)> {
        let mut all = self.below(directory);
        all.retain(|(path, _)| path.parent() == Some(directory));
        all
    }

    /// Makes the names in `directory` durable, with whatever must have happened before them.
    pub fn sync(&mut self, directory: &Path) {
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

    /// Whether the name and its directories would survive a power cut.
    pub fn is_durable(&self, path: &Path) -> bool {
        path.ancestors().all(|part| part == Path::new("/") || self.durable.get(part) == self.seen.get(part))
            && self.durable.contains_key(path)
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
        for (path, node) in &self.durable {
            let parent = path.parent().expect("every path is absolute and below the root");
            if parent == Path::new("/") || reachable.get(parent) == Some(&Node::Dir) {
                reachable.insert(path.clone(), *node);
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
                names.seen().iter().skip(1).map(|(path, node)| format!("{}={node:?}", path.display())).collect();
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
