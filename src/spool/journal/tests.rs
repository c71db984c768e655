//! Entries survive whatever happens between their acknowledgement and their delivery.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

async fn journal(dir: &Path) -> Journal<String> {
    Journal::open(dir).await.unwrap()
}

async fn drained(journal: &Journal<String>) -> Vec<String> {
    let mut all = Vec::new();
    journal
        .drain(|batch: Vec<String>| {
            all.extend(batch);
            std::future::ready(Ok::<_, String>(Vec::new()))
        })
        .await
        .unwrap();
    all
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn entries_come_back_in_order_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    assert_eq!(drained(&journal).await, Vec::<String>::new());
    for text in ["one", "two\nlines", "three"] {
        journal.append(text.to_owned()).await.unwrap();
    }
    assert_eq!(drained(&journal).await, ["one", "two\nlines", "three"]);
    assert_eq!(drained(&journal).await, Vec::<String>::new());
    assert_eq!(names(dir.path()), Vec::<String>::new());
    journal.append("four".to_owned()).await.unwrap();
    assert_eq!(drained(&journal).await, ["four"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appends_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(journal(dir.path()).await);
    let appends = (0..500).map(|n| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.append(n.to_string()).await })
    });
    for result in futures::future::join_all(appends).await {
        result.unwrap().unwrap();
    }
    let all: BTreeSet<_> = drained(&journal).await.into_iter().collect();
    assert_eq!(all.len(), 500);
}

#[tokio::test]
async fn what_a_dead_process_left_is_drained_and_what_a_living_one_writes_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let living = journal(dir.path()).await;
    living.append("living".to_owned()).await.unwrap();
    // As left by a killed process: a file that nobody holds.
    let left = format::line(b"\"left\"");
    fs::write(dir.path().join(name_of(77)), left).unwrap();
    let second = journal(dir.path()).await;
    assert_eq!(drained(&second).await, ["left"]);
    assert_eq!(drained(&living).await, ["living"]);
}

#[tokio::test]
async fn an_entry_that_broke_off_hides_nothing_before_it() {
    let mut whole = format::line(b"\"one\"");
    whole.extend(format::line(b"\"two\""));
    let acknowledged = whole.len();
    whole.extend(format::line(b"\"three\""));
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    for cut in acknowledged..whole.len() {
        fs::write(dir.path().join(name_of(1)), &whole[..cut]).unwrap();
        assert_eq!(drained(&journal).await, ["one", "two"], "cut at {cut}");
        assert_eq!(names(dir.path()), Vec::<String>::new());
    }
    // The file grew on the disk, its bytes did not come to it.
    let mut zeros = whole[..acknowledged].to_vec();
    zeros.extend([0; 100]);
    fs::write(dir.path().join(name_of(1)), zeros).unwrap();
    assert_eq!(drained(&journal).await, ["one", "two"]);
}

#[tokio::test]
async fn a_damaged_entry_is_set_aside_and_the_others_are_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    let mut bytes = format::line(b"\"one\"");
    let at = bytes.len();
    bytes.extend(format::line(b"\"two\""));
    bytes.extend(format::line(b"3"));
    bytes.extend(format::line(b"\"four\""));
    bytes[at + 28] ^= 1;
    fs::write(dir.path().join(name_of(1)), &bytes).unwrap();
    assert_eq!(drained(&journal).await, ["one", "four"]);
    assert_eq!(names(dir.path()), [format!("{}.damaged", name_of(1))]);
    assert_eq!(drained(&journal).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_delivery_that_fails_leaves_the_journal_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    journal.append("one".to_owned()).await.unwrap();
    let refused = journal
        .drain(async |_| Err::<Vec<String>, _>("database away"))
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "handing the journal's entries over: database away"
    );
    journal.append("two".to_owned()).await.unwrap();
    assert_eq!(drained(&journal).await, ["one", "two"]);
}

#[tokio::test]
async fn a_long_journal_is_handed_over_in_bounded_batches_from_several_files() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    let long = "x".repeat(1 << 20);
    for _ in 0..12 {
        journal.append(long.clone()).await.unwrap();
    }
    assert!(names(dir.path()).len() > 1);
    let mut batches = Vec::new();
    let taken = journal
        .drain(|batch: Vec<String>| {
            batches.push(batch.len());
            std::future::ready(Ok::<_, String>(Vec::new()))
        })
        .await
        .unwrap();
    assert_eq!((taken, batches.iter().sum::<usize>()), (12, 12));
    assert!(batches.iter().all(|count| *count <= 4), "{batches:?}");
}

#[tokio::test]
async fn a_drain_may_run_in_a_task_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(journal(dir.path()).await);
    journal.append("one".to_owned()).await.unwrap();
    let sink = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    let (task_journal, task_sink) = (journal.clone(), sink.clone());
    let drain = async move {
        let sink = &task_sink;
        task_journal
            .drain(async |batch: Vec<String>| {
                sink.lock().await.extend(batch);
                Ok::<_, String>(Vec::new())
            })
            .await
            .unwrap()
    };
    assert_eq!(tokio::spawn(drain).await.unwrap(), 1);
    assert_eq!(*sink.lock().await, ["one"]);
}

#[tokio::test]
async fn a_journal_that_cannot_write_says_so_to_everyone_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("journal");
    let journal = Journal::<String>::open(&at).await.unwrap();
    fs::remove_dir(&at).unwrap();
    let (first, second) = tokio::join!(
        journal.append("one".to_owned()),
        journal.append("two".to_owned())
    );
    assert!(first.is_err() && second.is_err());
    fs::create_dir(&at).unwrap();
    journal.append("three".to_owned()).await.unwrap();
    assert_eq!(drained(&journal).await, ["three"]);
}

#[tokio::test]
async fn what_is_refused_for_good_is_parked_under_a_name_of_its_own_until_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path()).await;
    for (text, parked) in [("one", 1), ("two", 2)] {
        journal.append(text.to_owned()).await.unwrap();
        let refused = journal
            .drain(async |batch: Vec<String>| Ok::<_, String>(batch))
            .await;
        assert_eq!(refused.unwrap(), 0);
        assert_eq!(count_parked(dir.path()).unwrap(), parked);
        assert_eq!(drained(&journal).await, Vec::<String>::new());
    }
    let next = Journal::open(dir.path()).await.unwrap();
    assert_eq!(count_parked(dir.path()).unwrap(), 0);
    assert_eq!(drained(&next).await, ["one", "two"]);
    assert_eq!(names(dir.path()), Vec::<String>::new());
}
