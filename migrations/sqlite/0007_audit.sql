-- Who changed what, written in the transaction of the change. No references: what is said of the gone stays readable.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          TEXT NOT NULL,
    -- `user` = a caller of the API, `system` = a rule of the server.
    actor_kind  TEXT NOT NULL,
    -- The user's id, or the name of the rule.
    actor       TEXT NOT NULL,
    role        TEXT,
    token_id    TEXT,
    token_name  TEXT,
    -- The request that asked for it, as the server's log has it.
    request_id  TEXT,
    action      TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target      TEXT NOT NULL,
    details     TEXT NOT NULL DEFAULT '{}'
);

CREATE INDEX idx_audit_at ON audit(at);
CREATE INDEX idx_audit_actor ON audit(actor, id);
CREATE INDEX idx_audit_action ON audit(action, id);
CREATE INDEX idx_audit_target ON audit(target, id);
