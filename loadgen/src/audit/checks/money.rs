//! Every charge exactly once and with the right amount, in the log, in the ledger and at the
//! provider: a completed ride its fare, a late cancellation its fee, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    contract::v1::{self, ChargePurpose},
    id::TripId,
};

use super::count;
use crate::audit::{
    books::{Books, Ledger},
    evidence::Evidence,
    facts::TripFacts,
    log::{Log, trip_id},
    violation::{Book, BookViolation, Violation},
};

/// Minor units and ISO 4217.
type Amount = (i64, String);
/// For which trip and what.
type Owed = BTreeMap<(TripId, &'static str), Amount>;

pub(crate) const FARE: &str = "fare";
pub(crate) const CANCELLATION_FEE: &str = "cancellation_fee";

pub(super) fn check(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    let owed = owed(&evidence.log, found);
    let none = BTreeSet::new();
    let earlier = &evidence.earlier;
    let in_log = evidence.log.riders.iter().filter_map(|entry| match &entry.event.kind {
        Some(v1::rider_event::Kind::FareCharged(charged)) => Some((
            reference(trip_id(&charged.trip_id), purpose(charged.purpose())),
            amount(charged.amount.as_ref()),
        )),
        _ => None,
    });
    compare(Book::Log, &owed, &none, in_log, found);
    if let Some(Books { ledger, .. }) = &evidence.books {
        let charges = ledger.charges.iter().map(|charge| {
            let amount = (charge.amount_minor, charge.currency.clone());
            (reference(charge.trip, &charge.purpose), amount)
        });
        compare(Book::Ledger, &owed, earlier, charges, found);
        let open = ledger.charges.iter().filter(|charge| charge.settled_as.is_none());
        found.extend(open.map(|charge| Violation::ChargeUnsettled {
            trip: charge.trip,
            purpose: charge.purpose.clone(),
            state: "pending".to_owned(),
        }));
        if ledger.unbalanced() != 0 {
            found.push(Violation::LedgerUnbalanced { sum: ledger.unbalanced() });
        }
        check_postings(ledger, found);
    }
    if let Some(provider) = &evidence.provider {
        let charges = provider.iter().map(|charge| {
            (charge.reference.clone(), (charge.amount_minor, charge.currency.clone()))
        });
        compare(Book::Provider, &owed, earlier, charges, found);
    }
    count(owed.len())
}

/// What riders were shown as paid is what they owed, under the name that the provider gave it, which is
/// the same in all books.
pub(super) fn receipts(evidence: &Evidence, found: &mut Vec<Violation>) -> u64 {
    // What is owed wrongly was said before.
    let owed = owed(&evidence.log, &mut Vec::new());
    let of = |trip| owed.iter().find(|((owes, _), _)| *owes == trip).map(|(_, amount)| amount);
    for receipt in &evidence.receipts {
        let shown_amount = (receipt.amount_minor, receipt.currency.clone());
        let trip = TripId(receipt.trip);
        let owes = of(trip).cloned().unwrap_or((0, receipt.currency.clone()));
        if owes != shown_amount {
            let (shown, owed) = (shown(&shown_amount), shown(&owes));
            found.push(BookViolation::ReceiptDiffers { trip, shown, owed }.into());
        }
    }
    check_references(evidence, found);
    count(evidence.receipts.len())
}

fn check_references(evidence: &Evidence, found: &mut Vec<Violation>) {
    let Some(provider) = &evidence.provider else { return };
    let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for charge in provider {
        listed.entry(&charge.reference).or_default().push(&charge.charge_id);
    }
    let mut compare = |book, trip: TripId, purpose: &str, shown: &str| {
        // A charge that the provider does not list was said before.
        let Some(ids) = listed.get(reference(trip, purpose).as_str()) else { return };
        if !ids.contains(&shown) {
            let (purpose, shown, listed) = (purpose.to_owned(), shown.to_owned(), ids.join(", "));
            let differs = BookViolation::ReferenceDiffers { trip, purpose, book, shown, listed };
            found.push(differs.into());
        }
    };
    for entry in &evidence.log.riders {
        if let Some(v1::rider_event::Kind::FareCharged(it)) = &entry.event.kind {
            let shown = &it.provider_reference;
            compare(Book::Log, trip_id(&it.trip_id), purpose(it.purpose()), shown);
        }
    }
    for charge in evidence.books.iter().flat_map(|books| &books.ledger.charges) {
        if let Some(shown) = &charge.settled_as {
            compare(Book::Ledger, charge.trip, &charge.purpose, shown);
        }
    }
    for receipt in &evidence.receipts {
        if let Some(shown) = &receipt.provider_reference {
            compare(Book::Receipt, TripId(receipt.trip), FARE, shown);
        }
    }
}

/// Every charge is posted once as owed, and once as settled where it is; and nothing else is posted.
fn check_postings(ledger: &Ledger, found: &mut Vec<Violation>) {
    let mut debited: BTreeMap<(TripId, &str, &str), i64> = BTreeMap::new();
    for posting in ledger.postings.iter().filter(|posting| posting.amount_minor > 0) {
        let place = (posting.trip, posting.purpose.as_str(), posting.step.as_str());
        *debited.entry(place).or_default() += posting.amount_minor;
    }
    let mut wanted: BTreeMap<(TripId, &str, &str), i64> = BTreeMap::new();
    for charge in &ledger.charges {
        let steps = [Some("owed"), charge.settled_as.as_ref().map(|_| "settled")];
        for step in steps.into_iter().flatten() {
            wanted.insert((charge.trip, &charge.purpose, step), charge.amount_minor);
        }
    }
    let places: BTreeSet<_> = debited.keys().chain(wanted.keys()).copied().collect();
    for place in places {
        let (trip, purpose, step) = place;
        let amount = |of: &BTreeMap<_, i64>| of.get(&place).copied().unwrap_or(0);
        let (posted, charged) = (amount(&debited), amount(&wanted));
        if posted != charged {
            let (purpose, step) = (purpose.to_owned(), step.to_owned());
            found.push(
                BookViolation::PostingDiffers { trip, purpose, step, posted, charged }.into(),
            );
        }
    }
}

/// What trips' ends say is owed; the fare of a completed ride is the one that was quoted.
fn owed(log: &Log, found: &mut Vec<Violation>) -> Owed {
    let mut owed = Owed::new();
    for (trip, entries) in &log.trips {
        let mut facts = TripFacts::default();
        entries.iter().for_each(|entry| facts.fold(&entry.event));
        if facts.fare.is_some() && facts.fare != facts.quoted {
            let (quoted, fare) = (amount(facts.quoted.as_ref()), amount(facts.fare.as_ref()));
            let (quoted, fare) = (shown(&quoted), shown(&fare));
            found.push(Violation::FareNotAsQuoted { trip: *trip, quoted, fare });
        }
        for (purpose, money) in [(FARE, &facts.fare), (CANCELLATION_FEE, &facts.fee)] {
            if let Some(money) = money.as_ref().filter(|money| money.amount_minor > 0) {
                owed.insert((*trip, purpose), amount(Some(money)));
            }
        }
    }
    owed
}

/// What is owed must be in the book, once, and nothing else. For trips in `may_lack` it may be
/// missing.
fn compare(
    book: Book,
    owed: &Owed,
    may_lack: &BTreeSet<TripId>,
    charges: impl Iterator<Item = (String, Amount)>,
    found: &mut Vec<Violation>,
) {
    let mut charged: BTreeMap<String, Vec<Amount>> = BTreeMap::new();
    for (reference, amount) in charges {
        charged.entry(reference).or_default().push(amount);
    }
    for ((trip, purpose), amount) in owed {
        let (trip, purpose) = (*trip, (*purpose).to_owned());
        let amounts = charged.remove(&reference(trip, &purpose)).unwrap_or_default();
        if amounts.is_empty() && may_lack.contains(&trip) {
            continue;
        }
        if amounts.is_empty() {
            let amount = shown(amount);
            found.push(Violation::ChargeMissing { trip, purpose, amount, book });
            continue;
        }
        if let Some(wrong) = amounts.iter().find(|charged| *charged != amount) {
            let (owed, wrong) = (shown(amount), shown(wrong));
            let purpose = purpose.clone();
            found.push(Violation::ChargedWrongly { trip, purpose, owed, found: wrong, book });
        }
        if amounts.len() > 1 {
            let times = u64::try_from(amounts.len()).unwrap_or(u64::MAX);
            found.push(Violation::ChargedTwice { trip, purpose, times, book });
        }
    }
    for (reference, amounts) in charged {
        let shown: Vec<String> = amounts.iter().map(shown).collect();
        found.push(Violation::ChargedForNothing { reference, found: shown.join(", "), book });
    }
}

fn reference(trip: TripId, purpose: &str) -> String {
    format!("{trip}:{purpose}")
}

fn purpose(purpose: ChargePurpose) -> &'static str {
    match purpose {
        ChargePurpose::Fare => FARE,
        ChargePurpose::CancellationFee => CANCELLATION_FEE,
        ChargePurpose::Unspecified => "unspecified",
    }
}

fn amount(money: Option<&v1::Money>) -> Amount {
    money.map_or((0, String::new()), |money| (money.amount_minor, money.currency.clone()))
}

fn shown((minor, currency): &Amount) -> String {
    format!("{minor} {currency} (minor units)")
}
