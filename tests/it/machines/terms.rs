//! Who owns which partition right now, and that nobody is taken for a later owner.

use steward::engine::ownership::Ownership;
use steward::record::Epoch;

use super::{P0, P1};

pub fn tests() -> Vec<libtest_mimic::Trial> {
    trials![
        a_term_is_current_from_its_begin_to_its_end,
        an_assignment_ends_the_term_before_it,
        a_renewal_ends_the_old_term_without_a_gap,
        a_term_that_is_over_cannot_be_renewed,
        terms_rise_over_all_partitions,
    ]
}

fn a_term_is_current_from_its_begin_to_its_end() {
    let terms = Ownership::new();
    assert_eq!(terms.current(P0), None);
    let term = terms.begin(P0);
    assert!(terms.is_current(P0, term) && !terms.is_current(P1, term));
    assert_eq!(terms.end(P0), Some(term));
    assert!(!terms.is_current(P0, term));
    assert_eq!(terms.end(P0), None, "it ends once");
}

fn an_assignment_ends_the_term_before_it() {
    let terms = Ownership::new();
    let (first, second) = (terms.begin(P0), terms.begin(P0));
    assert!(!terms.is_current(P0, first) && terms.is_current(P0, second));
}

fn a_renewal_ends_the_old_term_without_a_gap() {
    let terms = Ownership::new();
    let old = terms.begin(P0);
    let other = terms.begin(P1);
    let new = terms.renew(P0, old).expect("it is current");
    assert!(new > old && terms.is_current(P0, new) && !terms.is_current(P0, old));
    assert!(terms.is_current(P1, other), "another partition's term was touched");
}

fn a_term_that_is_over_cannot_be_renewed() {
    let terms = Ownership::new();
    assert_eq!(terms.renew(P0, Epoch(1)), None, "it never began");
    let old = terms.begin(P0);
    let new = terms.begin(P0);
    assert_eq!(terms.renew(P0, old), None);
    assert!(terms.is_current(P0, new), "a late renewal ended the present term");
    terms.end(P0);
    assert_eq!(terms.renew(P0, new), None);
    assert_eq!(terms.current(P0), None, "a late renewal brought back what was given up");
}

fn terms_rise_over_all_partitions() {
    let terms = Ownership::new();
    let mut minted = vec![terms.begin(P0), terms.begin(P1)];
    minted.extend(terms.renew(P0, minted[0]));
    terms.end(P0);
    minted.push(terms.begin(P0));
    assert!(minted.windows(2).all(|pair| pair[0] < pair[1]), "{minted:?}");
}
