//! Collects every path that a file names, resolved as far as names alone allow.

use std::collections::BTreeSet;
use std::fmt;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// A resolved path: from the crate's root, or from the name of a library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    is_inside: bool,
    segments: Vec<String>,
}

impl Named {
    /// Returns the path from the crate's root, if the path is inside the crate.
    pub fn inside(&self) -> Option<&[String]> {
        self.is_inside.then_some(&self.segments)
    }

    /// Returns whether the path is this module of the crate or an item in it.
    pub fn is_below(&self, module: &str) -> bool {
        self.is_inside && super::is_below(&self.segments, module)
    }

    /// Returns whether the path is in a library and begins with `path`.
    pub fn starts_with(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        !self.is_inside && self.segments.len() >= wanted.len() && wanted.iter().eq(&self.segments[..wanted.len()])
    }

    /// Returns whether the path ends with these segments.
    pub fn ends_with(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        self.segments.len().checked_sub(wanted.len()).is_some_and(|from| wanted.iter().eq(&self.segments[from..]))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = if self.is_inside { "crate::" } else { "" };
        write!(f, "{root}{}", self.segments.join("::"))
    }
}

/// Returns all paths of a file; `module` is the module of the file.
pub fn paths_of(file: &syn::File, module: &[String]) -> BTreeSet<Named> {
    let mut finder = Finder { module: module.to_vec(), found: BTreeSet::new() };
    finder.visit_file(file);
    finder.found
}

struct Finder {
    /// The current module, from the crate's root.
    module: Vec<String>,
    found: BTreeSet<Named>,
}

impl Finder {
    fn add(&mut self, segments: &[String]) {
        let Some(first) = segments.first() else { return };
        let named = match first.as_str() {
            "crate" | "steward" => Named { is_inside: true, segments: segments[1..].to_vec() },
            "self" => Named { is_inside: true, segments: [&self.module, &segments[1..]].concat() },
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let kept = self.module.len().saturating_sub(ups);
                Named { is_inside: true, segments: [&self.module[..kept], &segments[ups..]].concat() }
            }
            _ => Named { is_inside: false, segments: segments.to_vec() },
        };
        self.found.insert(named);
    }

    /// A single name is a variable, or an item that a `use` has imported.
    fn add_joined(&mut self, segments: &[String]) {
        if segments.len() > 1 {
            self.add(segments);
        }
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }

    /// The arguments of a macro are not parsed. Names that are joined by `::` count as paths.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.add_joined(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.add_joined(&std::mem::take(&mut path));
                    colons = 0;
                }
                TokenTree::Group(group) => {
                    self.add_joined(&std::mem::take(&mut path));
                    colons = 0;
                    self.add_tokens(group.stream());
                }
            }
        }
        self.add_joined(&path);
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add_joined(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {
        // Attributes hold derive macros, lints and documentation.
    }
}
