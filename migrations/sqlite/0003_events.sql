-- What happened, told in the transaction in which it happened. One writer and AUTOINCREMENT make the order of ids the
-- order of commits, and no id comes twice, even when the newest rows are removed: an id is a place to go on from.
CREATE TABLE events (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    at            TEXT NOT NULL,
    type          TEXT NOT NULL,
    -- No references: the events of what is gone stay readable.
    session_id    TEXT,
    -- The session's owner; absent = of a controller, for operators only.
    user_id       TEXT,
    controller_id TEXT,
    generation    INTEGER,
    reason        TEXT NOT NULL DEFAULT '',
    message       TEXT NOT NULL DEFAULT '',
    data          TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX idx_events_session ON events(session_id, id);
CREATE INDEX idx_events_user ON events(user_id, id);
CREATE INDEX idx_events_at ON events(at);

-- The last event that was removed: of one session, or (empty) of all. Who stopped reading before it has missed some.
CREATE TABLE swept_events (
    session_id TEXT PRIMARY KEY,
    user_id    TEXT,
    last_id    INTEGER NOT NULL
);
