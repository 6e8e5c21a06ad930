-- Rights to reach one session through the gateway, as hashes only. A ticket is redeemed once, for a cookie.

CREATE TABLE access_grants (
    token_hash  TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    session_id  TEXT NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL
);

CREATE INDEX idx_access_grants_session ON access_grants(session_id);
CREATE INDEX idx_access_grants_user ON access_grants(user_id);
CREATE INDEX idx_access_grants_expiry ON access_grants(expires_at);
