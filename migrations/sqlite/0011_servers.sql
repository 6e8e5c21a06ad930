-- The processes that use this database. A row is a place that its server holds by a lease; whatever was claimed from a
-- place that is not here any more is nobody's. No end of the lease: one process has the database to itself.
CREATE TABLE servers (
    id          TEXT PRIMARY KEY,
    -- The data directory, which outlives the process.
    instance    TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    renewed_at  TEXT NOT NULL,
    lease_until TEXT
);

-- The place of the server that drives it: only that one changes anything at its backend.
ALTER TABLE controllers ADD COLUMN active_server TEXT;
