//! A full disk under the database: what was answered with success is there, and when there is room
//! again the same process goes on.

use std::sync::Arc;

use callvault::db::Database;
use callvault::db::settings::Settings;
use callvault::domain::clock::ManualClock;
use callvault::domain::secret::Secret;

use crate::db::{at, notice};
use crate::support::disk::SmallDisk;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_full_disk_every_success_is_on_it() {
    let Some(disk) = SmallDisk::mount("4m") else {
        return;
    };
    let settings = Settings {
        url: Secret::new("sqlite://callvault.db"),
        auto_migrate: Some(true),
    };
    let open = async || {
        let clock = Arc::new(ManualClock::default());
        Database::connect(&settings, disk.path(), clock)
            .await
            .unwrap()
    };
    let db = open().await;
    let filler = disk.path().join("filler");
    let mut taken = 0;
    for round in 0..3 {
        // Fill what is left, then let writes fail twice and more: each failure is a rollback.
        let mut filled = std::fs::File::create(&filler).unwrap();
        let full = std::io::Write::write_all(&mut filled, &vec![7; 8 << 20]);
        assert!(full.is_err());
        let mut refused = 0;
        for n in 0..200 {
            let mut one = notice("full", at(round * 1000 + n));
            one.body = vec![0; 16 << 10];
            match db.add_notice(one).await {
                Ok(_) => taken += 1,
                Err(error) => {
                    assert!(error.is_unavailable(), "{error}");
                    refused += 1;
                }
            }
            if refused > 3 {
                break;
            }
        }
        assert!(refused > 3, "the disk was never full");
        db.ping().await.unwrap();
        assert!(db.takes_writes().await.is_err(), "nothing can be written");
        drop(filled);
        std::fs::remove_file(&filler).unwrap();
        db.takes_writes().await.unwrap();
        db.add_notice(notice("full", at(round * 1000 + 900)))
            .await
            .unwrap();
        taken += 1;
    }
    // Another connection sees only what was committed.
    let neighbour = open().await;
    let waiting = neighbour
        .status_view(at(0))
        .await
        .unwrap()
        .queues
        .notices
        .waiting;
    assert_eq!(waiting, taken);
}
