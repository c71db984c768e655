//! What a store was found to be able to do, and what follows from that.

use crate::archive::contract::Ability;

/// Name, what follows when the store has it, what follows when it has not.
const TEXTS: [(&str, &str, &str); 7] = [
    (
        "create_only",
        "objects are created once by the store itself",
        "callvault looks before it writes and the database keeps keys apart; turn on versioning so that nothing can be replaced",
    ),
    (
        "sha256_checked",
        "a body that changed on the way is refused by the store",
        "a body that changed on the way is found when it is read back",
    ),
    (
        "md5_checked",
        "a body that changed on the way is refused by the store",
        "a body that changed on the way is found when it is read back",
    ),
    (
        "versions",
        "rows name the version that was read back, and that one is read, whatever is laid over it",
        "what is replaced or deleted behind callvault's back is gone; rely on copies of the bucket",
    ),
    (
        "object_lock",
        "objects can be put under a lock: [archive] object_lock and lock_for",
        "object_lock must stay off; only rights keep objects from being deleted",
    ),
    (
        "legal_hold",
        "`callvault archive hold` keeps a recording's objects until it is lifted",
        "`callvault archive hold` is refused",
    ),
    (
        "uploads_listed",
        "an upload that broke off goes on at its parts, and what nobody ends is given up after a day",
        "an upload that broke off begins anew; set a lifecycle rule that aborts open uploads",
    ),
];

/// As the table has them, with what was found.
pub(in crate::archive) fn ability(name: &'static str, has: bool) -> Option<Ability> {
    let (name, yes, no) = TEXTS.iter().find(|(known, ..)| *known == name)?;
    Some(Ability {
        name,
        has,
        follows: if has { yes } else { no },
    })
}
