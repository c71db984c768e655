//! Calls and recordings in a `WebHouse`, made by the same steps as the pipeline's.

use std::time::Duration;

use bytes::Bytes;
use callvault::archive::contract::{Archive, Source};
use callvault::db::readings::SourceFacts;
use callvault::db::recordings::{Classes, NewObject};
use callvault::domain::call::CallFacts;
use callvault::domain::clock::{Clock, Timestamp};
use callvault::domain::digest::{Fingerprint, Sha256};
use callvault::domain::ids::new_id;
use callvault::domain::keys::{Folder, ObjectKey};
use callvault::domain::notice::{Door, Notice};
use callvault::domain::proof::ArchiveProof;
use callvault::domain::reading::{Announced, Reading};
use callvault::domain::recording::Role;
use uuid::Uuid;

use super::web::WebHouse;

const LEASE: Duration = Duration::from_secs(60);

impl WebHouse {
    /// What a provider's reading would make of a notice about this call.
    pub async fn learn(&self, call: CallFacts, recording: Option<&str>) {
        let now = self.clock.now();
        let notice = Notice {
            notice_id: new_id(now),
            source: "desk".into(),
            kind: "feiyu".into(),
            door: Door::Push,
            topic: String::new(),
            method: "POST".into(),
            query: String::new(),
            headers: Vec::new(),
            body: call.provider_call_id.clone().into_bytes(),
            arrived_at: now,
            sha256: Sha256::of(call.provider_call_id.as_bytes()),
            dedup_key: new_id(now).to_string(),
            unreadable: None,
        };
        self.db.add_notice(notice).await.unwrap();
        let names = ["desk".to_owned()];
        let claimed = self
            .db
            .claim_notices(1, "tests", &names, now, LEASE)
            .await
            .unwrap();
        let reading = Reading {
            recordings: recording
                .map(|id| Announced {
                    provider_call_id: call.provider_call_id.clone(),
                    provider_recording_id: Some(id.into()),
                    aliases: vec![id.into()],
                    ready_now: true,
                    confirmed: true,
                    ..Announced::default()
                })
                .into_iter()
                .collect(),
            calls: vec![call],
            ..Reading::default()
        };
        let facts = SourceFacts {
            kind: "feiyu".into(),
            link_renewable: true,
            provider_keeps_ms: None,
            expect_recordings: false,
            expect_within_ms: None,
        };
        self.db
            .apply_reading(&claimed[0], &facts, &reading, now)
            .await
            .unwrap();
    }

    /// Archives the one recording that is due, as the pipeline would, and gives its id.
    pub async fn archive_next(&self, original: &[u8], access: Option<&[u8]>) -> Uuid {
        self.archive_joined(original, access, false).await
    }

    /// The same; `joint`: its call has a joint access copy too, with the same bytes.
    pub async fn archive_joined(
        &self,
        original: &[u8],
        access: Option<&[u8]>,
        joint: bool,
    ) -> Uuid {
        let now = self.clock.now();
        let names = ["desk".to_owned()];
        let claimed = self
            .db
            .claim(now, "tests", LEASE, 1, &names, Classes::All)
            .await
            .unwrap();
        let lease = claimed[0].lease;
        let id = lease.recording_id;
        let folder = Folder::of_recording("desk", now, id);
        let original_object = NewObject {
            key: folder.original(&Sha256::of(original), "wav"),
            mime: "audio/wav".into(),
            ..object(original, now)
        };
        let key = original_object.key.clone();
        self.db
            .stage(&lease, &folder, original_object, now)
            .await
            .unwrap();
        let proof = self.put(&key, original).await;
        let manifest = NewObject {
            role: Role::Manifest,
            key: folder.manifest(1),
            mime: "application/json".into(),
            ..object(b"{}", now)
        };
        self.db.add_object(&lease, manifest, now).await.unwrap();
        let manifest = self.put(&folder.manifest(1), b"{}").await;
        self.db
            .publish(&lease, &proof, &manifest, &[], now)
            .await
            .unwrap();
        if let Some(access) = access {
            let peaks = br#"{"version":2,"channels":1,"sample_rate":8000,"samples_per_pixel":64,"bits":8,"length":2,"data":[-5,5,-9,100]}"#;
            let call = folder.of_call(claimed[0].loaded.row.call_id);
            let derived = [
                (Role::Access, folder.access(1), "audio/mpeg", access),
                (
                    Role::Waveform,
                    folder.waveform(1),
                    "application/json",
                    &peaks[..],
                ),
                (Role::CallAccess, call.access(1), "audio/mpeg", access),
            ];
            let made = derived.len() - usize::from(!joint);
            for (role, key, mime, bytes) in derived.into_iter().take(made) {
                let derived = NewObject {
                    role,
                    key: key.clone(),
                    mime: mime.into(),
                    made_from: Some(Sha256::of(original)),
                    tool: Some("tests".into()),
                    ..object(bytes, now)
                };
                self.db.add_object(&lease, derived, now).await.unwrap();
                let proof = self.put(&key, bytes).await;
                self.db
                    .mark_verified(&lease, &proof, None, now)
                    .await
                    .unwrap();
            }
        }
        id
    }

    async fn put(&self, key: &ObjectKey, bytes: &[u8]) -> ArchiveProof {
        let expected = Fingerprint::of(bytes);
        let source = Source::Bytes(Bytes::copy_from_slice(bytes));
        self.archive
            .put(key, source, &expected, "audio/wav")
            .await
            .unwrap();
        self.archive.read_back(key, None, &expected).await.unwrap()
    }
}

fn object(bytes: &[u8], now: Timestamp) -> NewObject {
    NewObject {
        bytes: bytes.len() as u64,
        sha256: Sha256::of(bytes),
        ..NewObject::default_at(now)
    }
}
