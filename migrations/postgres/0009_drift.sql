-- Objects at a backend that bear the mark of their controller and belong to no session that is placed there, as the last
-- complete listing showed them.
CREATE TABLE drift (
    id            TEXT COLLATE "C" PRIMARY KEY,
    controller_id TEXT COLLATE "C" NOT NULL REFERENCES controllers(id) ON DELETE CASCADE,
    -- The session id that it bears, or else the backend's name of it: one entry for each object.
    object        TEXT COLLATE "C" NOT NULL,
    session_id    TEXT NOT NULL DEFAULT '',
    external_ref  TEXT NOT NULL DEFAULT '',
    -- Made by the controller, or by somebody else in a form that it could take over.
    ownership     TEXT NOT NULL,
    node_id       TEXT NOT NULL DEFAULT '',
    phase         TEXT NOT NULL DEFAULT '',
    wish          TEXT NOT NULL DEFAULT '',
    user_id       TEXT NOT NULL DEFAULT '',
    -- Why no session explains it …
    reason        TEXT NOT NULL,
    -- … and what is to become of it.
    state         TEXT NOT NULL,
    message       TEXT NOT NULL DEFAULT '',
    first_seen    TIMESTAMPTZ NOT NULL,
    last_seen     TIMESTAMPTZ NOT NULL,
    UNIQUE (controller_id, object)
);

CREATE INDEX idx_drift_first_seen ON drift(first_seen, id);

-- Controllers whose last listing was so strange that nothing is removed because of it.
CREATE TABLE drift_alarms (
    controller_id TEXT COLLATE "C" PRIMARY KEY REFERENCES controllers(id) ON DELETE CASCADE,
    kind          TEXT NOT NULL,
    objects       BIGINT NOT NULL,
    placed        BIGINT NOT NULL,
    since         TIMESTAMPTZ NOT NULL
);

-- When a session that is being deleted goes without the word of its controller; absent = never.
ALTER TABLE sessions ADD COLUMN forget_after TIMESTAMPTZ;
