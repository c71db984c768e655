//! Which older recording a recording turned out to be, from the notice that told until the two are united.

crate::dialect::step!(
    "m0018_same_as",
    "
alter table recording add column same_as {uuid};
create index recording_same_as on recording (same_as) where same_as is not null;
"
);
