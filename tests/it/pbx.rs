//! Simulated telephone systems with every mishap that they have: FreeSWITCH, Asterisk, and senders of `cdr/1`.
//!
//! Failure: a recording that was told of and was there is not archived, or twice, or with other bytes; one that never came
//! is not given up when its time is over; one that was thrown away counts as lost.

use callvault::simulator::{Options, Profile, VendorKind, Way};

use crate::journeys::{all_as_planned_and_written, options};
use crate::support::house::TestHouse;

/// Of all ways but files without a word.
const EVERY: [&str; 14] = [
    "none",
    "none",
    "late",
    "twice",
    "never",
    "out_of_order",
    "not_ready",
    "429",
    "500",
    "reset",
    "truncated",
    "html200",
    "wrong_length",
    "twice+truncated",
];

async fn played(systems: &[(VendorKind, Profile, Way, &str, &[&str])]) {
    let systems = systems.iter().map(|(kind, profile, way, source, more)| {
        let only: Vec<&str> = EVERY.iter().chain(*more).copied().collect();
        let options = Options {
            profile: *profile,
            way: *way,
            ..options(source, &only)
        };
        (*kind, options)
    });
    let directory = "[archive]\nkind = \"directory\"\npath = \"archive\"\n";
    let house = TestHouse::open_on(systems.collect(), "sqlite://callvault.db", directory).await;
    let calls = house.vendors.iter().map(|vendor| vendor.make_calls());
    futures::future::try_join_all(calls).await.unwrap();
    all_as_planned_and_written(&house).await;
    house.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telephone_systems_that_post_end_as_planned_with_every_mishap() {
    let rest = ["unannounced", "gone", "gone", "gone", "never_recorded"];
    let without = &rest[..4];
    played(&[
        (
            VendorKind::Freeswitch,
            Profile::V2,
            Way::Http,
            "fs-json",
            &rest,
        ),
        (
            VendorKind::Freeswitch,
            Profile::V3,
            Way::Http,
            "fs-xml",
            &rest,
        ),
        (
            VendorKind::Asterisk,
            Profile::V2,
            Way::Http,
            "asterisk",
            without,
        ),
        (VendorKind::Cdr, Profile::V2, Way::Http, "cdr", &rest),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_ends_as_planned_with_every_mishap() {
    let rest = [
        "unannounced",
        "gone",
        "gone",
        "gone",
        "never_recorded",
        "poison",
    ];
    played(&[(VendorKind::Cdr, Profile::V2, Way::Folder, "folder", &rest)]).await;
    // Files without a word about them.
    let only = [
        "none",
        "late",
        "twice",
        "not_ready",
        "truncated",
        "unannounced",
        "none",
    ];
    let options = Options {
        profile: Profile::V3,
        way: Way::Folder,
        ..options("files", &only)
    };
    let house = TestHouse::open(vec![(VendorKind::Cdr, options)]).await;
    house.make_calls().await;
    all_as_planned_and_written(&house).await;
    house.finish().await;
}
