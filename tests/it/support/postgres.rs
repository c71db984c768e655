//! A PostgreSQL database of its own for one test, dropped at its end.

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};

pub struct TestDatabase {
    pub url: String,
    name: String,
    admin: DatabaseConnection,
}

/// `None`, said clearly, when there is no server; with `CALLVAULT_REQUIRE_SERVERS=1` that is a failure.
pub async fn database() -> Option<TestDatabase> {
    let base = std::env::var("CALLVAULT_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
    let admin = match Database::connect(&base).await {
        Ok(admin) => admin,
        Err(error) => {
            let required = std::env::var("CALLVAULT_REQUIRE_SERVERS").is_ok_and(|v| v == "1");
            assert!(
                !required,
                "no PostgreSQL at CALLVAULT_TEST_POSTGRES: {error}"
            );
            println!("SKIPPED: no PostgreSQL at CALLVAULT_TEST_POSTGRES ({error})");
            return None;
        }
    };
    let name = format!("callvault_test_{:016x}", rand::random::<u64>());
    admin
        .execute_unprepared(&format!("create database {name}"))
        .await
        .unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    Some(TestDatabase {
        url: format!("{server}/{name}"),
        name,
        admin,
    })
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (admin, name) = (self.admin.clone(), self.name.clone());
        // Connections of the house may still close: the drop is forced, and best effort.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let text = format!("drop database if exists {name} with (force)");
                let _ = admin.execute_unprepared(&text).await;
            });
        }
    }
}
