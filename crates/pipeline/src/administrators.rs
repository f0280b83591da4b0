//! Who may see what everybody did: administrators, by name from the settings or by a group of an
//! outside system that says who is in it. Everybody else sees their own. Seeing is all that the role
//! gives: an administrator may run, cancel and read no more than before.

use std::collections::HashSet;

use arc_swap::ArcSwap;
use dashmap::DashSet;
use flightpath_types::Principal;

/// Beyond so many members of groups nobody else becomes one.
const MEMBERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub struct Administrators {
    named: ArcSwap<HashSet<Principal>>,
    /// By a group, as the outside system said when it was last asked.
    members: DashSet<Principal>,
}

impl Administrators {
    pub fn new(named: HashSet<Principal>) -> Self {
        Self { named: ArcSwap::from_pointee(named), members: DashSet::new() }
    }

    /// New names, from now on.
    pub fn replace(&self, named: HashSet<Principal>) {
        self.named.store(named.into());
    }

    /// Whether this principal is in one of the groups, as it was just said.
    pub fn note_member(&self, principal: &Principal, is_member: bool) {
        if !is_member {
            self.members.remove(principal);
        } else if self.members.len() < MEMBERS_MAX {
            self.members.insert(principal.clone());
        }
    }

    pub fn includes(&self, principal: &Principal) -> bool {
        self.named.load().contains(principal) || self.members.contains(principal)
    }

    /// Whose queries this principal may see: its own name, or everybody's for `None`.
    pub fn scope<'a>(&self, principal: &'a Principal) -> Option<&'a str> {
        (!self.includes(principal)).then_some(principal.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_one_until_named_or_in_a_group() {
        let (ann, bob) = (Principal::new("ann"), Principal::new("bob"));
        let administrators = Administrators::default();
        assert_eq!(administrators.scope(&ann), Some("ann"));
        administrators.replace(HashSet::from([ann.clone()]));
        assert_eq!((administrators.scope(&ann), administrators.scope(&bob)), (None, Some("bob")));
        administrators.note_member(&bob, true);
        administrators.replace(HashSet::new());
        assert_eq!((administrators.includes(&ann), administrators.includes(&bob)), (false, true));
        administrators.note_member(&bob, false);
        assert!(!administrators.includes(&bob));
    }
}
