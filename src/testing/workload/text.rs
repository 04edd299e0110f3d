//! Names, descriptions, tags and prices of generated services.

use std::borrow::Cow;

use crate::testing::workload::keys::Random;

/// A raw piece of JSON.
pub(super) type RawJson = Cow<'static, str>;

struct Trade {
    name: &'static str,
    offer: &'static str,
    tags: [&'static str; 4],
    price: u64,
}

const fn trade(name: &'static str, offer: &'static str, tags: [&'static str; 4], price: u64) -> Trade {
    Trade { name, offer, tags, price }
}

/// No text here needs escapes in JSON.
const TRADES: [Trade; 24] = [
    trade("Web development", "Full stack web applications", ["web", "typescript", "backend", "remote"], 120),
    trade("Mobile apps", "Apps for phones and tablets", ["ios", "android", "mobile", "remote"], 110),
    trade("Plumbing", "Leaks, blocked drains and new bathrooms", ["plumbing", "emergency", "home", "bathroom"], 75),
    trade("Electrical work", "Wiring, fuse boxes and lighting", ["electrician", "certified", "home", "lighting"], 80),
    trade("House cleaning", "Weekly or one-off cleaning", ["cleaning", "home", "weekly", "eco"], 28),
    trade("Window cleaning", "Windows and conservatories", ["cleaning", "windows", "outdoor", "insured"], 32),
    trade("Gardening", "Lawns, hedges and planting", ["garden", "outdoor", "hedges", "weekly"], 35),
    trade("Tree surgery", "Felling and crown reduction", ["garden", "trees", "outdoor", "insured"], 65),
    trade("Piano lessons", "Lessons for beginners and the advanced", ["music", "piano", "lessons", "children"], 45),
    trade("Guitar lessons", "Acoustic and electric guitar", ["music", "guitar", "lessons", "online"], 40),
    trade("Maths tutoring", "School and university mathematics", ["tutoring", "maths", "exams", "online"], 38),
    trade("Cours de français", "Conversation, grammaire et examens", ["langue", "français", "cours", "en ligne"], 36),
    trade("Dog walking", "Walks alone or in small groups", ["pets", "dogs", "outdoor", "daily"], 18),
    trade("Pet sitting", "Care at your home while you travel", ["pets", "cats", "home", "holidays"], 16),
    trade("Wedding photography", "A whole day, two photographers", ["photo", "wedding", "events", "album"], 180),
    trade("Café catering", "Coffee bar for events", ["catering", "café", "events", "vegan"], 95),
    trade("Möbelmontage", "Aufbau von Küchen und Schränken", ["möbel", "montage", "küche", "handwerk"], 48),
    trade("Removals", "Two movers and a van", ["moving", "van", "packing", "insured"], 70),
    trade("Bookkeeping", "Monthly accounts and tax returns", ["accounting", "tax", "remote", "certified"], 60),
    trade("Legal advice", "Tenancy and employment law", ["law", "tenancy", "employment", "certified"], 210),
    trade("Car repair", "Brakes, tyres and inspection", ["cars", "repair", "brakes", "mobile"], 85),
    trade("Bicycle repair", "Service while you wait", ["bicycle", "repair", "mobile", "e-bike"], 42),
    trade("日本語レッスン", "会話と文法のレッスン", ["日本語", "語学", "レッスン", "オンライン"], 40),
    trade("Painting", "Walls, ceilings and woodwork", ["painting", "indoor", "outdoor", "home"], 37),
];

const MANNERS: [&str; 8] = ["", "", "", ", express", ", premium", ", low budget", ", evenings", ", weekends"];
const PLACES: [&str; 12] = [
    "",
    "",
    " in Leeds",
    " in Lyon",
    " in Köln",
    " in Porto",
    " in Gdańsk",
    " in Austin",
    " in Osaka",
    " in Cork",
    " in Graz",
    " in Turku",
];
const CLOSINGS: [&str; 8] = [
    "Free quote within a day.",
    "References on request.",
    "Evenings and weekends too.",
    "Fixed prices, no surprises.",
    "Ten years of experience.",
    "Fully insured.",
    "First hour at half price.",
    "Cancel up to a day before.",
];

/// One trade, whose names, descriptions, tags and prices match. Each call draws a new one, as raw JSON.
#[derive(Clone, Copy)]
pub(super) struct Offer(&'static Trade);

impl Offer {
    pub(super) fn draw(random: &mut Random) -> Offer {
        Offer(&TRADES[random.index(TRADES.len())])
    }

    pub(super) fn name(self, random: &mut Random) -> RawJson {
        let (manner, place) = (random.pick(&MANNERS), random.pick(&PLACES));
        ["\"", self.0.name, place, manner, "\""].concat().into()
    }

    pub(super) fn description(self, random: &mut Random) -> RawJson {
        let closing = random.pick(&CLOSINGS);
        ["\"", self.0.offer, ". ", closing, "\""].concat().into()
    }

    pub(super) fn tags(self, random: &mut Random) -> RawJson {
        let tags = &self.0.tags;
        let first = random.index(tags.len());
        let mut out = String::with_capacity(48);
        let mut separator = "[\"";
        for nth in 0..=random.index(3) {
            out.push_str(separator);
            out.push_str(tags[(first + nth) % tags.len()]);
            separator = "\",\"";
        }
        out.push_str("\"]");
        out.into()
    }

    pub(super) fn price(self, random: &mut Random) -> RawJson {
        let price = self.0.price / 2 + random.below(self.0.price);
        let fraction = random.pick(&["", "", "", "", ".5", ".95"]);
        [price.to_string().as_str(), fraction].concat().into()
    }
}
